/* The operations that queues and graphs hold: copies, fills, host functions, records and waits. */
#include "driver.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static bool box_place(const struct operation *operation, const struct box *box, enum place *place)
{
    size_t bytes = (operation->depth - 1) * box->slice + (operation->height - 1) * box->pitch + operation->width;
    return find_place(box->address, bytes, place);
}

CUresult check_operation(const struct operation *operation)
{
    enum place place;
    bool empty = operation->width == 0 || operation->height == 0 || operation->depth == 0;
    if ((operation->what != COPY && operation->what != FILL) || empty)
        return CUDA_SUCCESS;
    if (!box_place(operation, &operation->to, &place))
        return CUDA_ERROR_INVALID_VALUE;
    if (operation->what == FILL && place == PAGEABLE) {
        driver_log("a fill of %p, which is no device memory", (void *)operation->to.address);
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (operation->what == COPY && operation->staged == NULL && !box_place(operation, &operation->from, &place))
        return CUDA_ERROR_INVALID_VALUE;
    return CUDA_SUCCESS;
}

static void copy(const struct operation *operation)
{
    for (size_t z = 0; z < operation->depth; ++z)
        for (size_t y = 0; y < operation->height; ++y)
            memmove(operation->to.address + z * operation->to.slice + y * operation->to.pitch,
                    operation->from.address + z * operation->from.slice + y * operation->from.pitch,
                    operation->width);
    enum place to, from = PAGEABLE;
    size_t bytes = operation->width * operation->height * operation->depth;
    find_place(operation->to.address, 1, &to);
    if (operation->staged == NULL)
        find_place(operation->from.address, 1, &from);
    counters.pageable_copies += to == PAGEABLE || from == PAGEABLE;
    if (to == DEVICE && from == DEVICE) {
        ++counters.dtod_copies;
        counters.dtod_bytes += bytes;
    } else if (to == DEVICE) {
        ++counters.htod_copies;
        counters.htod_bytes += bytes;
    } else if (from == DEVICE) {
        ++counters.dtoh_copies;
        counters.dtoh_bytes += bytes;
    }
}

static void fill(const struct operation *operation)
{
    for (size_t y = 0; y < operation->height; ++y)
        for (size_t x = 0; x < operation->width; x += operation->value_bytes) /* the low bytes come first */
            memcpy(operation->to.address + y * operation->to.pitch + x, &operation->value, operation->value_bytes);
    ++counters.memsets;
}

CUresult execute(struct operation *operation)
{
    if (lost_device() != CUDA_SUCCESS)
        return lost_device();
    if (check_operation(operation) != CUDA_SUCCESS) {
        lose_device(CUDA_ERROR_ILLEGAL_ADDRESS);
        return CUDA_ERROR_ILLEGAL_ADDRESS;
    }
    switch (operation->what) {
    case COPY:
        if (operation->width > 0 && operation->height > 0 && operation->depth > 0)
            copy(operation);
        break;
    case FILL:
        fill(operation);
        break;
    case HOST_FUNCTION:
        ++counters.host_functions;
        pthread_mutex_unlock(&driver_lock);
        inside_host_function = true;
        operation->function(operation->argument);
        inside_host_function = false;
        pthread_mutex_lock(&driver_lock);
        break;
    case RECORD:
        if (operation->event->number == operation->number)
            operation->event->time_ms = now_ms();
        break;
    case WAIT:
        return drain(operation->awaited, operation->until);
    }
    return CUDA_SUCCESS;
}

struct operation *copy_of(const struct operation *operation)
{
    struct operation *twin = malloc(sizeof *twin);
    *twin = *operation;
    twin->next = NULL;
    return twin;
}
