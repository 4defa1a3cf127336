/* The primary context of the device, contexts made by hand, and the stack of contexts of each thread. */
#include "driver.h"

#include <stdlib.h>

enum { MOST_CONTEXTS = 64 };

static struct CUctx_st primary = {.kind = CONTEXT};
static uint64_t context_ids;
static _Thread_local CUcontext stack[MOST_CONTEXTS];
static _Thread_local int stacked;

CUcontext current_context(void) { return stacked == 0 ? NULL : stack[stacked - 1]; }

static bool is_context(CUcontext context) { return context != NULL && context->kind == CONTEXT && context->alive; }

static void open_context(CUcontext context, unsigned flags)
{
    *context = (struct CUctx_st){.kind = CONTEXT, .alive = true, .flags = flags, .id = ++context_ids};
    context->legacy = new_stream(context, CU_STREAM_DEFAULT, 0);
    context->per_thread = new_stream(context, CU_STREAM_DEFAULT, 0);
    ++counters.live_contexts;
}

static void close_context(CUcontext context)
{
    drop_streams(context);
    drop_events(context);
    free_memory_of(context);
    context->alive = false;
    context->retained = 0;
    while (stacked > 0 && stack[stacked - 1] == context) /* it does not stay current on the thread that closes it */
        --stacked;
    --counters.live_contexts;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device)
{
    ENTER_DEVICE(device);
    if (primary.retained == 0)
        open_context(&primary, primary.flags);
    ++primary.retained;
    *context = &primary;
    return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRelease(CUdevice device)
{
    ENTER(INITIALISED | RELEASES);
    if (device != 0 || primary.retained == 0)
        return device != 0 ? CUDA_ERROR_INVALID_DEVICE : CUDA_ERROR_INVALID_CONTEXT;
    if (--primary.retained == 0)
        close_context(&primary);
    return lost_device();
}

CUresult cuDevicePrimaryCtxReset(CUdevice device)
{
    ENTER(INITIALISED | RELEASES);
    if (device != 0)
        return CUDA_ERROR_INVALID_DEVICE;
    if (primary.alive)
        close_context(&primary);
    return lost_device();
}

CUresult cuDevicePrimaryCtxSetFlags(CUdevice device, unsigned flags)
{
    ENTER_DEVICE(device);
    primary.flags = flags;
    return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned *flags, int *active)
{
    ENTER_DEVICE(device);
    *flags = primary.flags;
    *active = primary.alive;
    return CUDA_SUCCESS;
}

/* Contexts move on a thread's stack without the device, on a lost one too: a clean-up needs its context current. */
static CUresult push(CUcontext context)
{
    if (stacked == MOST_CONTEXTS)
        return CUDA_ERROR_INVALID_VALUE;
    stack[stacked++] = context;
    return CUDA_SUCCESS;
}

CUresult cuCtxCreate(CUcontext *context, CUctxCreateParams *parameters, unsigned flags, CUdevice device)
{
    ENTER_DEVICE(device);
    if (parameters != NULL)
        return CUDA_ERROR_NOT_SUPPORTED;
    *context = calloc(1, sizeof(struct CUctx_st));
    open_context(*context, flags);
    return push(*context);
}

CUresult cuCtxDestroy(CUcontext context)
{
    ENTER(INITIALISED | RELEASES);
    if (!is_context(context) || context == &primary)
        return CUDA_ERROR_INVALID_CONTEXT;
    close_context(context);
    return lost_device();
}

EXPORT CUresult cuCtxDetach(CUcontext context) { return cuCtxDestroy(context); }

CUresult cuCtxPushCurrent(CUcontext context)
{
    ENTER(INITIALISED | RELEASES);
    return is_context(context) ? push(context) : CUDA_ERROR_INVALID_CONTEXT;
}

CUresult cuCtxPopCurrent(CUcontext *context)
{
    ENTER(INITIALISED | RELEASES);
    if (stacked == 0)
        return CUDA_ERROR_INVALID_CONTEXT;
    --stacked;
    if (context != NULL)
        *context = stack[stacked];
    return CUDA_SUCCESS;
}

CUresult cuCtxSetCurrent(CUcontext context)
{
    ENTER(INITIALISED | RELEASES);
    if (context != NULL && !is_context(context))
        return CUDA_ERROR_INVALID_CONTEXT;
    if (stacked > 0)
        --stacked;
    return context == NULL ? CUDA_SUCCESS : push(context);
}

CUresult cuCtxGetCurrent(CUcontext *context)
{
    ENTER(INITIALISED | RELEASES);
    *context = current_context();
    return CUDA_SUCCESS;
}

CUresult cuCtxGetDevice(CUdevice *device)
{
    ENTER(CURRENT);
    *device = 0;
    return CUDA_SUCCESS;
}

CUresult cuCtxGetFlags(unsigned *flags)
{
    ENTER(CURRENT);
    *flags = current_context()->flags;
    return CUDA_SUCCESS;
}

CUresult cuCtxGetId(CUcontext context, unsigned long long *id)
{
    ENTER(CURRENT);
    context = context == NULL ? current_context() : context;
    if (!is_context(context))
        return CUDA_ERROR_CONTEXT_IS_DESTROYED;
    *id = context->id;
    return CUDA_SUCCESS;
}

CUresult cuCtxGetApiVersion(CUcontext context, unsigned *version)
{
    ENTER(INITIALISED);
    if (context != NULL && !is_context(context))
        return CUDA_ERROR_INVALID_CONTEXT;
    *version = DRIVER_VERSION;
    return CUDA_SUCCESS;
}

CUresult cuCtxGetStreamPriorityRange(int *least, int *greatest)
{
    ENTER(CURRENT);
    if (least != NULL)
        *least = 0;
    if (greatest != NULL)
        *greatest = -5;
    return CUDA_SUCCESS;
}

CUresult cuCtxSynchronize(void)
{
    ENTER(CURRENT);
    struct capture *capture = find_capture(current_context(), false);
    if (capture != NULL) {
        invalidate(capture, "cuCtxSynchronize");
        return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
    ++counters.context_syncs;
    return drain_context(current_context());
}
