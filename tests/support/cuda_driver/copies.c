/* Copies and fills. The synchronous ones go through the legacy stream, as they do in CUDA.
 *
 * Pageable host memory: an asynchronous copy takes its source at the call, and one into it returns only when it is
 * done, as documented for CUDA. Pinned memory is read and written late. */
#include "driver.h"

#include <stdlib.h>
#include <string.h>

enum side { ANY, ON_HOST, ON_DEVICE };

static struct operation line(const void *to, const void *from, size_t bytes)
{
    return (struct operation){.what = COPY, .to = {(char *)to, bytes, bytes}, .from = {(char *)from, bytes, bytes},
                              .width = bytes, .height = 1, .depth = 1};
}

static bool on_side(const struct box *box, enum side side, enum place *place)
{
    if (!find_place(box->address, 1, place))
        return false;
    if (side == ANY || (side == ON_DEVICE) == (*place == DEVICE))
        return true;
    driver_log("%p is %s memory", (void *)box->address, *place == DEVICE ? "device" : "host");
    return false;
}

/* Replace a pageable source by our own copy of it. */
static void stage(struct operation *copy)
{
    size_t slice = copy->width * copy->height;
    char *staged = malloc(slice * copy->depth);
    for (size_t z = 0; z < copy->depth; ++z)
        for (size_t y = 0; y < copy->height; ++y)
            memcpy(staged + z * slice + y * copy->width,
                   copy->from.address + z * copy->from.slice + y * copy->from.pitch, copy->width);
    copy->staged = staged;
    copy->from = (struct box){staged, copy->width, slice};
}

static CUresult copy_on(struct CUstream_st *stream, struct operation copy, enum side to, enum side from, bool wait)
{
    enum place source, target;
    if (copy.width == 0 || copy.height == 0 || copy.depth == 0)
        return CUDA_SUCCESS;
    if (!on_side(&copy.to, to, &target) || !on_side(&copy.from, from, &source))
        return CUDA_ERROR_INVALID_VALUE;
    bool captured = stream->capture != NULL;
    if (source == PAGEABLE && !captured)
        stage(&copy);
    CUresult code = submit(stream, &copy);
    if (code != CUDA_SUCCESS) {
        free(copy.staged);
        return code;
    }
    if (!captured && (target == PAGEABLE || (wait && !(source == DEVICE && target == DEVICE))))
        return drain(stream, stream->last);
    return CUDA_SUCCESS; /* a copy within the device is late even where the call is named synchronous */
}

#define ENTER_NOW                 \
    ENTER(CURRENT | UNSAFE);      \
    struct CUstream_st *stream = current_context()->legacy

#define ENTER_LATER(handle)                              \
    ENTER(CURRENT);                                      \
    struct CUstream_st *stream = find_stream(handle);    \
    if (stream == NULL)                                  \
    return CUDA_ERROR_INVALID_HANDLE

CUresult cuMemcpy(CUdeviceptr to, CUdeviceptr from, size_t bytes)
{
    ENTER_NOW;
    return copy_on(stream, line((void *)to, (void *)from, bytes), ANY, ANY, true);
}

CUresult cuMemcpyHtoD(CUdeviceptr to, const void *from, size_t bytes)
{
    ENTER_NOW;
    return copy_on(stream, line((void *)to, from, bytes), ON_DEVICE, ON_HOST, true);
}

CUresult cuMemcpyDtoH(void *to, CUdeviceptr from, size_t bytes)
{
    ENTER_NOW;
    return copy_on(stream, line(to, (void *)from, bytes), ON_HOST, ON_DEVICE, true);
}

CUresult cuMemcpyDtoD(CUdeviceptr to, CUdeviceptr from, size_t bytes)
{
    ENTER_NOW;
    return copy_on(stream, line((void *)to, (void *)from, bytes), ON_DEVICE, ON_DEVICE, true);
}

CUresult cuMemcpyAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream handle)
{
    ENTER_LATER(handle);
    return copy_on(stream, line((void *)to, (void *)from, bytes), ANY, ANY, false);
}

CUresult cuMemcpyHtoDAsync(CUdeviceptr to, const void *from, size_t bytes, CUstream handle)
{
    ENTER_LATER(handle);
    return copy_on(stream, line((void *)to, from, bytes), ON_DEVICE, ON_HOST, false);
}

CUresult cuMemcpyDtoHAsync(void *to, CUdeviceptr from, size_t bytes, CUstream handle)
{
    ENTER_LATER(handle);
    return copy_on(stream, line(to, (void *)from, bytes), ON_HOST, ON_DEVICE, false);
}

CUresult cuMemcpyDtoDAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream handle)
{
    ENTER_LATER(handle);
    return copy_on(stream, line((void *)to, (void *)from, bytes), ON_DEVICE, ON_DEVICE, false);
}

/* ---- Rows and slices ---- */

static enum side side_of(CUmemorytype type)
{
    return type == CU_MEMORYTYPE_HOST ? ON_HOST : type == CU_MEMORYTYPE_DEVICE ? ON_DEVICE : ANY;
}

static CUresult copy_box(struct CUstream_st *stream, const CUDA_MEMCPY3D *box, bool wait)
{
    if (box->srcMemoryType == CU_MEMORYTYPE_ARRAY || box->dstMemoryType == CU_MEMORYTYPE_ARRAY)
        return CUDA_ERROR_NOT_SUPPORTED;
    bool rows = box->Height > 1 || box->Depth > 1;
    if (rows && (box->srcPitch < box->srcXInBytes + box->WidthInBytes ||
                 box->dstPitch < box->dstXInBytes + box->WidthInBytes))
        return CUDA_ERROR_INVALID_VALUE;
    if (box->Depth > 1 && (box->srcHeight < box->srcY + box->Height || box->dstHeight < box->dstY + box->Height))
        return CUDA_ERROR_INVALID_VALUE;
    enum side to = side_of(box->dstMemoryType), from = side_of(box->srcMemoryType);
    struct operation copy = {.what = COPY, .width = box->WidthInBytes, .height = box->Height, .depth = box->Depth};
    copy.to.address = to == ON_HOST ? box->dstHost : (char *)box->dstDevice;
    copy.to.pitch = box->dstPitch;
    copy.to.slice = box->dstPitch * box->dstHeight;
    copy.to.address += box->dstZ * copy.to.slice + box->dstY * copy.to.pitch + box->dstXInBytes;
    copy.from.address = from == ON_HOST ? (char *)box->srcHost : (char *)box->srcDevice;
    copy.from.pitch = box->srcPitch;
    copy.from.slice = box->srcPitch * box->srcHeight;
    copy.from.address += box->srcZ * copy.from.slice + box->srcY * copy.from.pitch + box->srcXInBytes;
    return copy_on(stream, copy, to, from, wait);
}

static CUDA_MEMCPY3D as_box(const CUDA_MEMCPY2D *rows)
{
    return (CUDA_MEMCPY3D){
        .srcXInBytes = rows->srcXInBytes, .srcY = rows->srcY, .srcMemoryType = rows->srcMemoryType,
        .srcHost = rows->srcHost, .srcDevice = rows->srcDevice, .srcPitch = rows->srcPitch,
        .dstXInBytes = rows->dstXInBytes, .dstY = rows->dstY, .dstMemoryType = rows->dstMemoryType,
        .dstHost = rows->dstHost, .dstDevice = rows->dstDevice, .dstPitch = rows->dstPitch,
        .WidthInBytes = rows->WidthInBytes, .Height = rows->Height, .Depth = 1,
    };
}

CUresult cuMemcpy2D(const CUDA_MEMCPY2D *rows)
{
    ENTER_NOW;
    CUDA_MEMCPY3D box = as_box(rows);
    return copy_box(stream, &box, true);
}

CUresult cuMemcpy2DUnaligned(const CUDA_MEMCPY2D *rows)
{
    ENTER_NOW;
    CUDA_MEMCPY3D box = as_box(rows);
    return copy_box(stream, &box, true);
}

CUresult cuMemcpy2DAsync(const CUDA_MEMCPY2D *rows, CUstream handle)
{
    ENTER_LATER(handle);
    CUDA_MEMCPY3D box = as_box(rows);
    return copy_box(stream, &box, false);
}

CUresult cuMemcpy3D(const CUDA_MEMCPY3D *box)
{
    ENTER_NOW;
    return copy_box(stream, box, true);
}

CUresult cuMemcpy3DAsync(const CUDA_MEMCPY3D *box, CUstream handle)
{
    ENTER_LATER(handle);
    return copy_box(stream, box, false);
}

/* ---- Fills: late in the synchronous form too, as CUDA documents for device memory ---- */

static CUresult fill(struct CUstream_st *stream, CUdeviceptr to, size_t pitch, uint32_t value, uint32_t value_bytes,
                     size_t width, size_t height)
{
    if (to % value_bytes != 0 || (height > 1 && pitch < width * value_bytes))
        return CUDA_ERROR_INVALID_VALUE;
    if (width == 0 || height == 0)
        return CUDA_SUCCESS;
    return submit(stream, &(struct operation){.what = FILL, .to = {(char *)to, pitch, 0}, .value = value,
                                              .value_bytes = value_bytes, .width = width * value_bytes,
                                              .height = height, .depth = 1});
}

#define FILLS(bits, type)                                                                                       \
    CUresult cuMemsetD##bits(CUdeviceptr to, type value, size_t count)                                          \
    {                                                                                                           \
        ENTER_NOW;                                                                                              \
        return fill(stream, to, 0, value, bits / 8, count, 1);                                                  \
    }                                                                                                           \
    CUresult cuMemsetD##bits##Async(CUdeviceptr to, type value, size_t count, CUstream handle)                  \
    {                                                                                                           \
        ENTER_LATER(handle);                                                                                    \
        return fill(stream, to, 0, value, bits / 8, count, 1);                                                  \
    }                                                                                                           \
    CUresult cuMemsetD2D##bits(CUdeviceptr to, size_t pitch, type value, size_t width, size_t height)           \
    {                                                                                                           \
        ENTER_NOW;                                                                                              \
        return fill(stream, to, pitch, value, bits / 8, width, height);                                         \
    }                                                                                                           \
    CUresult cuMemsetD2D##bits##Async(CUdeviceptr to, size_t pitch, type value, size_t width, size_t height,    \
                                      CUstream handle)                                                          \
    {                                                                                                           \
        ENTER_LATER(handle);                                                                                    \
        return fill(stream, to, pitch, value, bits / 8, width, height);                                         \
    }

FILLS(8, unsigned char)
FILLS(16, unsigned short)
FILLS(32, unsigned)
