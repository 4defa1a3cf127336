/* Stream capture: work goes into a graph, and what CUDA forbids meanwhile spoils the capture. */
#include "driver.h"

#include <stdlib.h>
#include <string.h>

static struct capture *running;
static uint64_t capture_ids;
static _Thread_local CUstreamCaptureMode thread_mode = CU_STREAM_CAPTURE_MODE_GLOBAL;

void invalidate(struct capture *capture, const char *why)
{
    if (capture->status == CU_STREAM_CAPTURE_STATUS_ACTIVE)
        driver_log("capture %llu is invalid: %s", (unsigned long long)capture->id, why);
    capture->status = CU_STREAM_CAPTURE_STATUS_INVALIDATED;
}

void forget_capture(struct capture *capture)
{
    struct capture **link = &running;
    while (*link != capture)
        link = &(*link)->next;
    *link = capture->next;
    for (unsigned i = 0; i < capture->branches; ++i)
        capture->streams[i]->capture = NULL;
    capture->status = CU_STREAM_CAPTURE_STATUS_NONE; /* events still point to it */
}

bool may_be_unsafe(void)
{
    if (thread_mode == CU_STREAM_CAPTURE_MODE_RELAXED)
        return true;
    for (struct capture *capture = running; capture != NULL; capture = capture->next) {
        bool ours = pthread_equal(capture->thread, pthread_self()) && capture->mode != CU_STREAM_CAPTURE_MODE_RELAXED;
        bool global = capture->mode == CU_STREAM_CAPTURE_MODE_GLOBAL && thread_mode == CU_STREAM_CAPTURE_MODE_GLOBAL;
        if (ours || global) {
            invalidate(capture, "an unsafe call");
            return false;
        }
    }
    return true;
}

struct capture *find_capture(CUcontext context, bool blocking_only)
{
    for (struct capture *capture = running; capture != NULL; capture = capture->next)
        for (unsigned i = 0; i < capture->branches; ++i)
            if (capture->streams[i]->context == context &&
                !(blocking_only && (capture->streams[i]->flags & CU_STREAM_NON_BLOCKING)))
                return capture;
    return NULL;
}

CUresult capture_operation(struct CUstream_st *stream, const struct operation *operation)
{
    struct capture *capture = stream->capture;
    if (capture->status != CU_STREAM_CAPTURE_STATUS_ACTIVE)
        return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    CUresult code = add_node(capture->graph, operation);
    capture->seen[stream->branch][stream->branch] = capture->graph->size;
    return code;
}

CUresult capture_record(struct CUstream_st *stream, struct CUevent_st *event)
{
    struct capture *capture = stream->capture;
    if (capture->status != CU_STREAM_CAPTURE_STATUS_ACTIVE)
        return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    event->capture = capture;
    event->recorded = false;
    event->branch = stream->branch;
    if (event->seen == NULL)
        event->seen = malloc(sizeof capture->seen[0]);
    memcpy(event->seen, capture->seen[stream->branch], sizeof capture->seen[0]);
    return CUDA_SUCCESS;
}

/* A stream that waits for an event of a capture joins it. */
CUresult capture_wait(struct CUstream_st *stream, struct CUevent_st *event)
{
    struct capture *capture = event->capture;
    if (stream->capture != NULL && event->capture == NULL && !event->recorded)
        return CUDA_SUCCESS;
    if (capture == NULL || (stream->capture != NULL && stream->capture != capture)) {
        if (stream->capture != NULL)
            invalidate(stream->capture, "a wait for work outside of it");
        return capture == NULL ? CUDA_ERROR_STREAM_CAPTURE_ISOLATION : CUDA_ERROR_STREAM_CAPTURE_MERGE;
    }
    if (capture->status == CU_STREAM_CAPTURE_STATUS_NONE) /* it has ended */
        return CUDA_ERROR_CAPTURED_EVENT;
    if (capture->status == CU_STREAM_CAPTURE_STATUS_INVALIDATED)
        return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    if (stream->capture == NULL) {
        if (stream == stream->context->legacy || capture->branches == MOST_BRANCHES) {
            invalidate(capture, "the legacy stream or too many streams joined it");
            return stream == stream->context->legacy ? CUDA_ERROR_STREAM_CAPTURE_IMPLICIT : CUDA_ERROR_NOT_SUPPORTED;
        }
        stream->capture = capture;
        stream->branch = capture->branches++;
        capture->streams[stream->branch] = stream;
    }
    for (unsigned i = 0; i < MOST_BRANCHES; ++i)
        if (event->seen[i] > capture->seen[stream->branch][i])
            capture->seen[stream->branch][i] = event->seen[i];
    return CUDA_SUCCESS;
}

CUresult cuStreamBeginCapture(CUstream handle, CUstreamCaptureMode mode)
{
    ENTER(CURRENT);
    struct CUstream_st *stream = find_stream(handle);
    if (stream == NULL)
        return CUDA_ERROR_INVALID_HANDLE;
    if (mode > CU_STREAM_CAPTURE_MODE_RELAXED)
        return CUDA_ERROR_INVALID_VALUE;
    if (stream == stream->context->legacy)
        return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    if (stream->capture != NULL)
        return CUDA_ERROR_ILLEGAL_STATE;
    struct capture *capture = malloc(sizeof *capture);
    *capture = (struct capture){.graph = new_graph(), .mode = mode, .status = CU_STREAM_CAPTURE_STATUS_ACTIVE,
                                .thread = pthread_self(), .id = ++capture_ids, .branches = 1, .streams = {stream},
                                .next = running};
    running = stream->capture = capture;
    stream->branch = 0;
    return CUDA_SUCCESS;
}

CUresult cuStreamEndCapture(CUstream handle, CUgraph *graph)
{
    ENTER(CURRENT);
    struct CUstream_st *stream = find_stream(handle);
    *graph = NULL;
    if (stream == NULL)
        return CUDA_ERROR_INVALID_HANDLE;
    struct capture *capture = stream->capture;
    if (capture == NULL)
        return CUDA_ERROR_ILLEGAL_STATE;
    if (capture->streams[0] != stream)
        return CUDA_ERROR_STREAM_CAPTURE_UNMATCHED;
    if (capture->mode != CU_STREAM_CAPTURE_MODE_RELAXED && !pthread_equal(capture->thread, pthread_self()))
        return CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD;
    CUresult code = CUDA_SUCCESS;
    for (unsigned i = 0; i < capture->branches; ++i)
        if (capture->seen[0][i] < capture->seen[i][i])
            code = CUDA_ERROR_STREAM_CAPTURE_UNJOINED;
    if (capture->status == CU_STREAM_CAPTURE_STATUS_INVALIDATED)
        code = CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    forget_capture(capture);
    if (code != CUDA_SUCCESS)
        return code;
    ++counters.captures;
    ++counters.live_graphs;
    *graph = capture->graph;
    return CUDA_SUCCESS;
}

static CUresult capture_status(CUstream handle, CUstreamCaptureStatus *status, struct capture **capture)
{
    struct CUstream_st *stream = find_stream(handle);
    if (stream == NULL)
        return CUDA_ERROR_INVALID_HANDLE;
    if (stream == stream->context->legacy && find_capture(stream->context, true) != NULL)
        return CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
    *capture = stream->capture;
    *status = *capture == NULL ? CU_STREAM_CAPTURE_STATUS_NONE : (*capture)->status;
    return CUDA_SUCCESS;
}

CUresult cuStreamIsCapturing(CUstream handle, CUstreamCaptureStatus *status)
{
    struct capture *capture;
    ENTER(CURRENT);
    return capture_status(handle, status, &capture);
}

/* The newest node stands for the dependencies: the graph is replayed in the order of the calls. */
static CUresult capture_info(CUstream handle, CUstreamCaptureStatus *status, cuuint64_t *id, CUgraph *graph,
                             const CUgraphNode **dependencies, size_t *count)
{
    struct capture *capture;
    CUresult code = capture_status(handle, status, &capture);
    if (count != NULL)
        *count = 0;
    if (code != CUDA_SUCCESS || *status != CU_STREAM_CAPTURE_STATUS_ACTIVE)
        return code;
    if (id != NULL)
        *id = capture->id;
    if (graph != NULL)
        *graph = capture->graph;
    if (dependencies != NULL)
        *dependencies = &capture->graph->last;
    if (count != NULL)
        *count = capture->graph->last != NULL;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuStreamGetCaptureInfo_v2(CUstream handle, CUstreamCaptureStatus *status, cuuint64_t *id,
                                          CUgraph *graph, const CUgraphNode **dependencies, size_t *count)
{
    ENTER(CURRENT);
    return capture_info(handle, status, id, graph, dependencies, count);
}

CUresult cuStreamGetCaptureInfo(CUstream handle, CUstreamCaptureStatus *status, cuuint64_t *id, CUgraph *graph,
                                const CUgraphNode **dependencies, const CUgraphEdgeData **edges, size_t *count)
{
    static const CUgraphEdgeData ordinary; /* cuda-bindings reads one for each dependency */
    ENTER(CURRENT);
    if (edges != NULL)
        *edges = &ordinary;
    return capture_info(handle, status, id, graph, dependencies, count);
}

CUresult cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode *mode)
{
    ENTER(ANYTIME);
    CUstreamCaptureMode previous = thread_mode;
    if (*mode > CU_STREAM_CAPTURE_MODE_RELAXED)
        return CUDA_ERROR_INVALID_VALUE;
    thread_mode = *mode;
    *mode = previous;
    return CUDA_SUCCESS;
}
