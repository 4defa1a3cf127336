/* Events: marks in the queue of a stream. */
#include "driver.h"

#include <stdlib.h>

static struct CUevent_st *find_event(CUevent event)
{
    return event != NULL && event->kind == EVENT && event->alive ? event : NULL;
}

static bool complete(const struct CUevent_st *event)
{
    return !event->recorded || event->stream->done >= event->number;
}

void drop_events(CUcontext context)
{
    for (struct CUevent_st *event = context->events; event != NULL; event = event->next) {
        counters.live_events -= event->alive;
        event->alive = false;
    }
}

CUresult cuEventCreate(CUevent *event, unsigned flags)
{
    ENTER(CURRENT);
    if (flags & ~(unsigned)(CU_EVENT_BLOCKING_SYNC | CU_EVENT_DISABLE_TIMING))
        return flags & CU_EVENT_INTERPROCESS ? CUDA_ERROR_NOT_SUPPORTED : CUDA_ERROR_INVALID_VALUE;
    *event = malloc(sizeof **event);
    CUcontext context = current_context();
    **event = (struct CUevent_st){.kind = EVENT, .alive = true, .flags = flags, .next = context->events};
    context->events = *event;
    ++counters.live_events;
    return CUDA_SUCCESS;
}

CUresult cuEventDestroy(CUevent handle)
{
    ENTER(INITIALISED | RELEASES);
    struct CUevent_st *event = find_event(handle);
    if (event == NULL)
        return CUDA_ERROR_INVALID_HANDLE;
    event->alive = false;
    --counters.live_events;
    return lost_device();
}

CUresult cuEventRecord(CUevent handle, CUstream stream_handle)
{
    ENTER(CURRENT);
    struct CUevent_st *event = find_event(handle);
    struct CUstream_st *stream = find_stream(stream_handle);
    if (event == NULL || stream == NULL)
        return CUDA_ERROR_INVALID_HANDLE;
    if (stream->capture != NULL)
        return capture_record(stream, event);
    return submit(stream, &(struct operation){.what = RECORD, .event = event});
}

CUresult cuEventRecordWithFlags(CUevent handle, CUstream stream_handle, unsigned flags)
{
    ENTER(CURRENT);
    struct CUevent_st *event = find_event(handle);
    struct CUstream_st *stream = find_stream(stream_handle);
    if (event == NULL || stream == NULL)
        return CUDA_ERROR_INVALID_HANDLE;
    if (stream->capture != NULL && flags != CU_EVENT_RECORD_EXTERNAL)
        return capture_record(stream, event);
    return submit(stream, &(struct operation){.what = RECORD, .event = event}); /* external: a node of the graph */
}

/* The event, if it may be waited for or asked by the host. */
static CUresult find_waitable(CUevent handle, struct CUevent_st **event)
{
    *event = find_event(handle);
    if (*event == NULL)
        return CUDA_ERROR_INVALID_HANDLE;
    if ((*event)->capture == NULL)
        return CUDA_SUCCESS;
    if ((*event)->capture->status == CU_STREAM_CAPTURE_STATUS_ACTIVE)
        invalidate((*event)->capture, "a captured event was waited for or queried");
    return CUDA_ERROR_CAPTURED_EVENT;
}

CUresult cuEventSynchronize(CUevent handle)
{
    struct CUevent_st *event;
    ENTER(CURRENT | UNSAFE);
    CUresult code = find_waitable(handle, &event);
    if (code != CUDA_SUCCESS)
        return code;
    ++counters.event_syncs;
    return event->recorded ? drain(event->stream, event->number) : CUDA_SUCCESS;
}

CUresult cuEventQuery(CUevent handle)
{
    struct CUevent_st *event;
    ENTER(CURRENT | UNSAFE);
    CUresult code = find_waitable(handle, &event);
    if (code != CUDA_SUCCESS || complete(event))
        return code;
    if (++event->queries < QUERIES_UNTIL_DONE)
        return CUDA_ERROR_NOT_READY;
    return drain(event->stream, event->number);
}

/* Milliseconds between the moments at which the two marks were reached: of this process, so of no meaning as speed. */
CUresult cuEventElapsedTime(float *milliseconds, CUevent start_handle, CUevent end_handle)
{
    ENTER(CURRENT);
    struct CUevent_st *start = find_event(start_handle), *end = find_event(end_handle);
    if (start == NULL || end == NULL || !start->recorded || !end->recorded ||
        (start->flags | end->flags) & CU_EVENT_DISABLE_TIMING)
        return CUDA_ERROR_INVALID_HANDLE;
    if (!complete(start) || !complete(end))
        return CUDA_ERROR_NOT_READY;
    *milliseconds = (float)(end->time_ms - start->time_ms);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuEventElapsedTime_v1(float *milliseconds, CUevent start, CUevent end) __asm__("cuEventElapsedTime");
CUresult cuEventElapsedTime_v1(float *milliseconds, CUevent start, CUevent end)
{
    return cuEventElapsedTime(milliseconds, start, end);
}

CUresult cuStreamWaitEvent(CUstream stream_handle, CUevent handle, unsigned flags)
{
    ENTER(CURRENT);
    struct CUevent_st *event = find_event(handle);
    struct CUstream_st *stream = find_stream(stream_handle);
    if (event == NULL || stream == NULL)
        return CUDA_ERROR_INVALID_HANDLE;
    if (flags > CU_EVENT_WAIT_EXTERNAL)
        return CUDA_ERROR_INVALID_VALUE;
    if (stream->capture != NULL || event->capture != NULL)
        return capture_wait(stream, event);
    if (complete(event))
        return CUDA_SUCCESS;
    return submit(stream, &(struct operation){.what = WAIT, .awaited = event->stream, .until = event->number});
}
