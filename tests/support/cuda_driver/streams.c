/* The calls on streams. */
#include "driver.h"

static CUresult create(CUstream *handle, unsigned flags, int priority)
{
    if (flags & ~(unsigned)CU_STREAM_NON_BLOCKING)
        return CUDA_ERROR_INVALID_VALUE;
    *handle = new_stream(current_context(), flags, priority);
    ++counters.live_streams;
    return CUDA_SUCCESS;
}

CUresult cuStreamCreate(CUstream *handle, unsigned flags)
{
    ENTER(CURRENT);
    return create(handle, flags, 0);
}

CUresult cuStreamCreateWithPriority(CUstream *handle, unsigned flags, int priority)
{
    ENTER(CURRENT);
    return create(handle, flags, priority < -5 ? -5 : priority > 0 ? 0 : priority);
}

/* Returns at once; what is queued is done when something waits for it. */
CUresult cuStreamDestroy(CUstream handle)
{
    ENTER(INITIALISED | RELEASES);
    struct CUstream_st *stream = handle == NULL ? NULL : find_stream(handle);
    if (stream == NULL || stream == stream->context->legacy || stream == stream->context->per_thread)
        return CUDA_ERROR_INVALID_HANDLE;
    if (stream->capture != NULL) {
        invalidate(stream->capture, "cuStreamDestroy");
        if (stream->branch == 0) /* nobody could end it */
            forget_capture(stream->capture);
    }
    stream->alive = false;
    --counters.live_streams;
    struct CUstream_st **link = &stream->context->streams;
    while (*link != stream)
        link = &(*link)->next;
    if (!pending(stream))
        *link = stream->next;
    return lost_device();
}

/* The stream, if it may be waited for or asked. */
static CUresult find_waitable(CUstream handle, struct CUstream_st **stream)
{
    *stream = find_stream(handle);
    if (*stream == NULL)
        return CUDA_ERROR_INVALID_HANDLE;
    struct capture *capture = (*stream)->capture;
    if (capture == NULL && *stream == (*stream)->context->legacy)
        capture = find_capture((*stream)->context, true);
    if (capture == NULL)
        return CUDA_SUCCESS;
    invalidate(capture, "a stream that is captured was waited for or queried");
    return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
}

/* Waiting for the legacy stream is waiting for the blocking streams too. */
static CUresult drain_with_blocking(struct CUstream_st *stream)
{
    if (stream == stream->context->legacy)
        for (struct CUstream_st *other = stream->context->streams; other != NULL; other = other->next)
            if (!(other->flags & CU_STREAM_NON_BLOCKING))
                drain(other, other->last);
    return drain(stream, stream->last);
}

CUresult cuStreamSynchronize(CUstream handle)
{
    struct CUstream_st *stream;
    ENTER(CURRENT | UNSAFE);
    CUresult code = find_waitable(handle, &stream);
    if (code != CUDA_SUCCESS)
        return code;
    ++counters.stream_syncs;
    return drain_with_blocking(stream);
}

CUresult cuStreamQuery(CUstream handle)
{
    struct CUstream_st *stream;
    ENTER(CURRENT | UNSAFE);
    CUresult code = find_waitable(handle, &stream);
    if (code != CUDA_SUCCESS)
        return code;
    if (pending(stream) && ++stream->queries < QUERIES_UNTIL_DONE)
        return CUDA_ERROR_NOT_READY;
    return drain_with_blocking(stream);
}

CUresult cuStreamGetFlags(CUstream handle, unsigned *flags)
{
    ENTER(CURRENT);
    struct CUstream_st *stream = find_stream(handle);
    if (stream == NULL)
        return CUDA_ERROR_INVALID_HANDLE;
    *flags = stream->flags;
    return CUDA_SUCCESS;
}

CUresult cuStreamGetPriority(CUstream handle, int *priority)
{
    ENTER(CURRENT);
    struct CUstream_st *stream = find_stream(handle);
    if (stream == NULL)
        return CUDA_ERROR_INVALID_HANDLE;
    *priority = stream->priority;
    return CUDA_SUCCESS;
}

CUresult cuStreamGetId(CUstream handle, unsigned long long *id)
{
    ENTER(CURRENT);
    struct CUstream_st *stream = find_stream(handle);
    if (stream == NULL)
        return CUDA_ERROR_INVALID_HANDLE;
    *id = stream->id;
    return CUDA_SUCCESS;
}

CUresult cuStreamGetCtx(CUstream handle, CUcontext *context)
{
    ENTER(CURRENT);
    struct CUstream_st *stream = find_stream(handle);
    if (stream == NULL)
        return CUDA_ERROR_INVALID_HANDLE;
    *context = stream->context;
    return CUDA_SUCCESS;
}

CUresult cuLaunchHostFunc(CUstream handle, CUhostFn function, void *argument)
{
    ENTER(CURRENT);
    struct CUstream_st *stream = find_stream(handle);
    if (stream == NULL || function == NULL)
        return stream == NULL ? CUDA_ERROR_INVALID_HANDLE : CUDA_ERROR_INVALID_VALUE;
    return submit(stream, &(struct operation){.what = HOST_FUNCTION, .function = function, .argument = argument});
}

/* cuLaunchHostFunc for what stands in for kernels; failures are injected under this name of its own. */
EXPORT CUresult simEnqueue(CUstream handle, CUhostFn function, void *argument)
{
    ENTER(CURRENT);
    struct CUstream_st *stream = find_stream(handle);
    if (stream == NULL || function == NULL)
        return stream == NULL ? CUDA_ERROR_INVALID_HANDLE : CUDA_ERROR_INVALID_VALUE;
    return submit(stream, &(struct operation){.what = HOST_FUNCTION, .function = function, .argument = argument});
}
