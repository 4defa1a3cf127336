/* The calls that allocate, free and register memory, and that ask what an address is. */
#include "driver.h"

#include <string.h>

static CUresult allocate_device(CUdeviceptr *pointer, size_t bytes)
{
    if (bytes == 0)
        return CUDA_ERROR_INVALID_VALUE;
    if (bytes > device_bytes || counters.live_device_bytes > device_bytes - bytes)
        return CUDA_ERROR_OUT_OF_MEMORY;
    struct block *block = new_block(DEVICE, bytes);
    if (block == NULL)
        return CUDA_ERROR_OUT_OF_MEMORY;
    ++counters.device_allocations;
    counters.live_device_bytes += bytes;
    if (counters.live_device_bytes > counters.peak_device_bytes)
        counters.peak_device_bytes = counters.live_device_bytes;
    *pointer = (CUdeviceptr)block->address;
    return CUDA_SUCCESS;
}

CUresult cuMemAlloc(CUdeviceptr *pointer, size_t bytes)
{
    ENTER(CURRENT | UNSAFE);
    return allocate_device(pointer, bytes);
}

CUresult cuMemAllocPitch(CUdeviceptr *pointer, size_t *pitch, size_t width, size_t height, unsigned element_bytes)
{
    ENTER(CURRENT | UNSAFE);
    if (element_bytes != 4 && element_bytes != 8 && element_bytes != 16)
        return CUDA_ERROR_INVALID_VALUE;
    *pitch = (width + 511) / 512 * 512;
    return allocate_device(pointer, *pitch * height);
}

/* Work that is still queued and touches the block fails when it runs: a real driver may run it before or after. */
CUresult cuMemFree(CUdeviceptr pointer)
{
    ENTER(INITIALISED | UNSAFE | RELEASES);
    if (pointer == 0)
        return lost_device();
    struct block **link = find_block((void *)pointer, true);
    if (link == NULL || (*link)->place != DEVICE) {
        driver_log("cuMemFree of %p, which is no live block of device memory", (void *)pointer);
        return CUDA_ERROR_INVALID_VALUE;
    }
    free_block(link);
    return lost_device();
}

CUresult cuMemGetInfo(size_t *available, size_t *total)
{
    ENTER(CURRENT);
    *available = device_bytes - (size_t)counters.live_device_bytes;
    *total = device_bytes;
    return CUDA_SUCCESS;
}

CUresult cuMemGetAddressRange(CUdeviceptr *base, size_t *bytes, CUdeviceptr pointer)
{
    ENTER(CURRENT);
    struct block **link = find_block((void *)pointer, false);
    if (link == NULL || (*link)->place != DEVICE)
        return CUDA_ERROR_NOT_FOUND;
    if (base != NULL)
        *base = (CUdeviceptr)(*link)->address;
    if (bytes != NULL)
        *bytes = (*link)->bytes;
    return CUDA_SUCCESS;
}

static CUresult allocate_pinned(void **pointer, size_t bytes, unsigned flags)
{
    if (bytes == 0)
        return CUDA_ERROR_INVALID_VALUE;
    struct block *block = new_block(PINNED, bytes);
    if (block == NULL)
        return CUDA_ERROR_OUT_OF_MEMORY;
    block->flags = flags;
    ++counters.pinned_allocations;
    counters.live_pinned_bytes += bytes;
    *pointer = block->address;
    return CUDA_SUCCESS;
}

CUresult cuMemHostAlloc(void **pointer, size_t bytes, unsigned flags)
{
    ENTER(CURRENT | UNSAFE);
    return allocate_pinned(pointer, bytes, flags);
}

CUresult cuMemAllocHost(void **pointer, size_t bytes)
{
    ENTER(CURRENT | UNSAFE);
    return allocate_pinned(pointer, bytes, 0);
}

CUresult cuMemFreeHost(void *pointer)
{
    ENTER(INITIALISED | UNSAFE | RELEASES);
    struct block **link = find_block(pointer, true);
    if (link == NULL || (*link)->place != PINNED || (*link)->registered) {
        driver_log("cuMemFreeHost of %p, which is no live block of pinned memory", pointer);
        return CUDA_ERROR_INVALID_VALUE;
    }
    free_block(link);
    return lost_device();
}

CUresult cuMemHostRegister(void *pointer, size_t bytes, unsigned flags)
{
    ENTER(CURRENT | UNSAFE);
    if (pointer == NULL || bytes == 0 || in_device_range(pointer))
        return CUDA_ERROR_INVALID_VALUE;
    if (find_block(pointer, false) != NULL)
        return CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED;
    add_registered(pointer, bytes, flags);
    return CUDA_SUCCESS;
}

CUresult cuMemHostUnregister(void *pointer)
{
    ENTER(INITIALISED | UNSAFE | RELEASES);
    struct block **link = find_block(pointer, true);
    if (link == NULL || !(*link)->registered)
        return CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED;
    free_block(link);
    return lost_device();
}

CUresult cuMemHostGetDevicePointer(CUdeviceptr *pointer, void *host, unsigned flags)
{
    ENTER(CURRENT);
    struct block **link = find_block(host, false);
    if (flags != 0 || link == NULL || (*link)->place != PINNED)
        return CUDA_ERROR_INVALID_VALUE;
    *pointer = (CUdeviceptr)host;
    return CUDA_SUCCESS;
}

CUresult cuMemHostGetFlags(unsigned *flags, void *host)
{
    ENTER(CURRENT);
    struct block **link = find_block(host, false);
    if (link == NULL || (*link)->place != PINNED)
        return CUDA_ERROR_INVALID_VALUE;
    *flags = (*link)->flags;
    return CUDA_SUCCESS;
}

static CUresult attribute_of(void *data, CUpointer_attribute attribute, CUdeviceptr pointer)
{
    struct block **link = find_block((void *)pointer, false);
    if (link == NULL)
        return CUDA_ERROR_INVALID_VALUE;
    const struct block *block = *link;
    switch (attribute) {
    case CU_POINTER_ATTRIBUTE_CONTEXT:
        *(CUcontext *)data = block->context;
        break;
    case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
        *(CUmemorytype *)data = block->place == DEVICE ? CU_MEMORYTYPE_DEVICE : CU_MEMORYTYPE_HOST;
        break;
    case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
    case CU_POINTER_ATTRIBUTE_HOST_POINTER:
        if (attribute == CU_POINTER_ATTRIBUTE_HOST_POINTER && block->place == DEVICE)
            return CUDA_ERROR_INVALID_VALUE;
        *(CUdeviceptr *)data = pointer;
        break;
    case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
        *(int *)data = 0;
        break;
    case CU_POINTER_ATTRIBUTE_IS_MANAGED:
        *(bool *)data = false;
        break;
    case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
        *(char **)data = block->address;
        break;
    case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
        *(size_t *)data = block->bytes;
        break;
    default:
        return CUDA_ERROR_NOT_SUPPORTED;
    }
    return CUDA_SUCCESS;
}

CUresult cuPointerGetAttribute(void *data, CUpointer_attribute attribute, CUdeviceptr pointer)
{
    ENTER(CURRENT);
    return attribute_of(data, attribute, pointer);
}

/* As documented: memory the driver does not know gives a NULL context and no error. */
CUresult cuPointerGetAttributes(unsigned count, CUpointer_attribute *attributes, void **data, CUdeviceptr pointer)
{
    ENTER(CURRENT);
    for (unsigned i = 0; i < count; ++i)
        if (attribute_of(data[i], attributes[i], pointer) != CUDA_SUCCESS)
            memset(data[i], 0, attributes[i] == CU_POINTER_ATTRIBUTE_IS_MANAGED ? sizeof(bool) : sizeof(int));
    return CUDA_SUCCESS;
}

/* ---- Control ---- */

/* How much memory the device has. */
EXPORT void simTotal(size_t bytes)
{
    pthread_mutex_lock(&driver_lock);
    device_bytes = bytes;
    pthread_mutex_unlock(&driver_lock);
}

/* Whether the address lies in a live block of device memory. */
EXPORT int simIsDevice(const void *address)
{
    pthread_mutex_lock(&driver_lock);
    struct block **link = find_block(address, false);
    int is = link != NULL && (*link)->place == DEVICE;
    pthread_mutex_unlock(&driver_lock);
    return is;
}
