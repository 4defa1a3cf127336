/* The queues of the streams: they run only when something waits for them. */
#include "driver.h"

#include <stdlib.h>

static uint64_t numbers, stream_ids;

struct CUstream_st *new_stream(CUcontext context, unsigned flags, int priority)
{
    struct CUstream_st *stream = malloc(sizeof *stream);
    *stream = (struct CUstream_st){.kind = STREAM, .alive = true, .flags = flags, .priority = priority,
                                   .id = ++stream_ids, .context = context, .next = context->streams};
    return context->streams = stream;
}

struct CUstream_st *find_stream(CUstream handle)
{
    CUcontext context = current_context();
    if (handle == NULL || handle == CU_STREAM_LEGACY || handle == CU_STREAM_PER_THREAD) {
        if (context == NULL || !context->alive)
            return NULL;
        return handle == CU_STREAM_PER_THREAD ? context->per_thread : context->legacy;
    }
    if (handle->kind == STREAM && handle->alive)
        return handle;
    driver_log("the stream %p was destroyed", (void *)handle);
    return NULL;
}

bool pending(const struct CUstream_st *stream) { return stream->first != NULL; }

static uint64_t append(struct CUstream_st *stream, const struct operation *operation)
{
    struct operation *queued = copy_of(operation);
    queued->number = stream->last = ++numbers;
    if (stream->first == NULL)
        stream->first = queued;
    else
        stream->newest->next = queued;
    stream->newest = queued;
    stream->queries = 0;
    ++counters.queued_operations;
    if (queued->what == RECORD) {
        queued->event->stream = stream;
        queued->event->number = queued->number;
        queued->event->recorded = true;
        queued->event->capture = NULL;
        queued->event->queries = 0;
    }
    return queued->number;
}

static void append_wait(struct CUstream_st *stream, struct CUstream_st *awaited)
{
    bool waits_already = stream->newest != NULL && pending(stream) && stream->newest->what == WAIT &&
                         stream->newest->awaited == awaited && stream->newest->until == awaited->last;
    if (awaited != stream && pending(awaited) && !waits_already)
        append(stream, &(struct operation){.what = WAIT, .awaited = awaited, .until = awaited->last});
}

CUresult submit(struct CUstream_st *stream, const struct operation *operation)
{
    CUcontext context = stream->context;
    CUresult code = check_operation(operation);
    if (code != CUDA_SUCCESS)
        return code;
    if (stream->capture != NULL)
        return capture_operation(stream, operation);
    if (stream == context->legacy) { /* the legacy stream and blocking streams wait for each other */
        struct capture *capture = find_capture(context, true);
        if (capture != NULL) {
            invalidate(capture, "work on the legacy stream");
            return CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
        }
        for (struct CUstream_st *other = context->streams; other != NULL; other = other->next)
            if (!(other->flags & CU_STREAM_NON_BLOCKING))
                append_wait(stream, other);
    } else if (!(stream->flags & CU_STREAM_NON_BLOCKING)) {
        append_wait(stream, context->legacy);
    }
    append(stream, operation);
    return CUDA_SUCCESS;
}

static void forget_first(struct CUstream_st *stream)
{
    struct operation *done = stream->first;
    stream->first = done->next;
    stream->done = done->number;
    --counters.queued_operations;
    free(done->staged);
    free(done);
}

CUresult drain(struct CUstream_st *stream, uint64_t until)
{
    while (stream->first != NULL && stream->first->number <= until) {
        if (stream->busy) { /* another thread runs it: with the lock dropped only inside a host function */
            pthread_cond_wait(&driver_idle, &driver_lock);
            continue;
        }
        stream->busy = true;
        execute(stream->first); /* a fault is kept as the device's error */
        forget_first(stream);
        stream->busy = false;
        pthread_cond_broadcast(&driver_idle);
    }
    return lost_device();
}

CUresult drain_context(CUcontext context)
{
    struct CUstream_st **link = &context->streams;
    while (*link != NULL) {
        struct CUstream_st *stream = *link;
        drain(stream, stream->last);
        if (stream->alive)
            link = &stream->next;
        else
            *link = stream->next; /* it was destroyed with work in its queue */
    }
    return lost_device();
}

/* A context goes: what is still queued is never done. */
void drop_streams(CUcontext context)
{
    for (struct CUstream_st *stream = context->streams; stream != NULL; stream = stream->next) {
        if (stream->capture != NULL)
            forget_capture(stream->capture);
        while (stream->first != NULL && !stream->busy)
            forget_first(stream);
        if (stream->alive && stream != context->legacy && stream != context->per_thread)
            --counters.live_streams;
        stream->alive = false;
    }
}
