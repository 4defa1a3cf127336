/* What the real pycuda must find when it is loaded, and what the simulated device cannot do: kernels, modules, arrays,
 * textures, peers, other processes. Each says so in the log and returns CUDA_ERROR_NOT_SUPPORTED. */
#include "driver.h"

#define MISSING(X)          \
    X(cuArray3DCreate_v2) X(cuArray3DGetDescriptor_v2) X(cuArrayCreate_v2) X(cuArrayDestroy)                   \
    X(cuArrayGetDescriptor_v2) X(cuCtxAttach) X(cuCtxDisablePeerAccess) X(cuCtxEnablePeerAccess)               \
    X(cuCtxGetCacheConfig) X(cuCtxGetLimit) X(cuCtxGetSharedMemConfig) X(cuCtxSetCacheConfig)                  \
    X(cuCtxSetLimit) X(cuCtxSetSharedMemConfig) X(cuFuncGetAttribute) X(cuFuncSetAttribute)                    \
    X(cuFuncSetBlockShape) X(cuFuncSetCacheConfig) X(cuFuncSetSharedMemConfig) X(cuFuncSetSharedSize)          \
    X(cuIpcCloseMemHandle) X(cuIpcGetEventHandle) X(cuIpcGetMemHandle) X(cuIpcOpenEventHandle)                 \
    X(cuIpcOpenMemHandle_v2) X(cuLaunch) X(cuLaunchGrid) X(cuLaunchGridAsync) X(cuLaunchKernel)                \
    X(cuLinkAddData_v2) X(cuLinkAddFile_v2) X(cuLinkComplete) X(cuLinkCreate_v2) X(cuLinkDestroy)              \
    X(cuMemAllocAsync) X(cuMemAllocManaged) X(cuMemFreeAsync) X(cuMemcpy3DPeer) X(cuMemcpy3DPeerAsync)         \
    X(cuMemcpyAtoA_v2) X(cuMemcpyAtoD_v2) X(cuMemcpyAtoHAsync_v2) X(cuMemcpyAtoH_v2) X(cuMemcpyDtoA_v2)        \
    X(cuMemcpyHtoAAsync_v2) X(cuMemcpyHtoA_v2) X(cuMemcpyPeer) X(cuMemcpyPeerAsync)                            \
    X(cuMipmappedArrayCreate) X(cuModuleGetFunction) X(cuModuleGetGlobal_v2) X(cuModuleGetSurfRef)             \
    X(cuModuleGetTexRef) X(cuModuleLoad) X(cuModuleLoadData) X(cuModuleLoadDataEx) X(cuModuleUnload)           \
    X(cuParamSetSize) X(cuParamSetTexRef) X(cuParamSetf) X(cuParamSeti) X(cuParamSetv) X(cuProfilerInitialize) \
    X(cuProfilerStart) \
    X(cuProfilerStop) X(cuStreamAddCallback) X(cuStreamAttachMemAsync) X(cuSurfRefGetArray)                    \
    X(cuSurfRefSetArray) X(cuTexRefCreate) X(cuTexRefDestroy) X(cuTexRefGetAddressMode)                        \
    X(cuTexRefGetAddress_v2) X(cuTexRefGetArray) X(cuTexRefGetFilterMode) X(cuTexRefGetFlags)                  \
    X(cuTexRefGetFormat) X(cuTexRefSetAddress2D_v3) X(cuTexRefSetAddressMode) X(cuTexRefSetAddress_v2)         \
    X(cuTexRefSetArray) X(cuTexRefSetFilterMode) X(cuTexRefSetFlags) X(cuTexRefSetFormat)

static CUresult missing(struct function *function)
{
    CUresult code = enter_call(function, ANYTIME);
    if (code == CUDA_SUCCESS)
        driver_log("%s is not simulated", function->name);
    leave_call(NULL);
    return code == CUDA_SUCCESS ? CUDA_ERROR_NOT_SUPPORTED : code;
}

/* No arguments are declared: none is read, and the calling convention lets a callee ignore them. */
#define DEFINE(symbol)                                          \
    EXPORT CUresult missing_##symbol(void) __asm__(#symbol);    \
    CUresult missing_##symbol(void)                             \
    {                                                           \
        static struct function function = {.name = #symbol};    \
        return missing(&function);                              \
    }

MISSING(DEFINE)
