/* Device and pinned memory: blocks of this process in two ranges of addresses that are never used twice.
 *
 * New and freed memory holds poison (0xFF bytes: NaN in FP16 and in FP32). A page that may not be touched follows each
 * block. A freed block keeps its poison for a while and then becomes untouchable. */
#include "driver.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { POISON = 0xFF, MOST_FREED_BLOCKS = 512 };
static const size_t RANGE_BYTES = (size_t)1 << 40, MOST_POISONED = (size_t)256 << 20, MOST_FREED_BYTES = 32 << 20;
size_t device_bytes = (size_t)8 << 30;

static struct block *live, *freed, **freed_end = &freed;
static size_t freed_blocks, freed_bytes;
static struct range {
    char *start, *next;
} ranges[2]; /* by place */

static bool in_range(const struct range *range, const void *address)
{
    return range->start != NULL && (const char *)address >= range->start &&
           (const char *)address < range->start + RANGE_BYTES;
}

bool in_device_range(const void *address) { return in_range(&ranges[DEVICE], address); }

struct block **find_block(const void *address, bool exactly)
{
    for (struct block **link = &live; *link != NULL; link = &(*link)->next)
        if ((*link)->address == address ||
            (!exactly && (const char *)address >= (*link)->address &&
             (const char *)address < (*link)->address + (*link)->bytes))
            return link;
    return NULL;
}

bool find_place(const void *address, size_t bytes, enum place *place)
{
    struct block **link = find_block(address, false);
    if (link == NULL) {
        for (*place = DEVICE; *place <= PINNED; ++*place)
            if (in_range(&ranges[*place], address)) {
                driver_log("%zu bytes at %p lie in no live block of %s memory (freed?)", bytes, address,
                           *place == DEVICE ? "device" : "pinned");
                return false;
            }
        *place = PAGEABLE;
        return address != NULL;
    }
    struct block *block = *link;
    *place = block->place;
    size_t offset = (size_t)((const char *)address - block->address);
    if (bytes > block->bytes - offset) {
        driver_log("%zu bytes at offset %zu cross the end of a block of %zu bytes at %p", bytes, offset, block->bytes,
                   (void *)block->address);
        return false;
    }
    return true;
}

struct block *new_block(enum place place, size_t bytes)
{
    struct range *range = &ranges[place];
    size_t page = (size_t)sysconf(_SC_PAGESIZE), reserved = (bytes + page - 1) / page * page + page;
    if (range->start == NULL) {
        void *start = mmap(NULL, RANGE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (start == MAP_FAILED)
            return NULL;
        range->start = range->next = start;
    }
    if (reserved > RANGE_BYTES - (size_t)(range->next - range->start) ||
        mprotect(range->next, reserved - page, PROT_READ | PROT_WRITE) != 0)
        return NULL;
    struct block *block = malloc(sizeof *block);
    *block = (struct block){.address = range->next, .bytes = bytes, .reserved = reserved, .place = place,
                            .context = current_context(), .next = live};
    range->next += reserved;
    live = block;
    memset(block->address, POISON, bytes < MOST_POISONED ? bytes : MOST_POISONED);
    return block;
}

void add_registered(void *address, size_t bytes, unsigned flags)
{
    struct block *block = malloc(sizeof *block);
    *block = (struct block){.address = address, .bytes = bytes, .place = PINNED, .registered = true, .flags = flags,
                            .context = current_context(), .next = live};
    live = block;
}

/* Make the oldest freed blocks untouchable and give their pages back. */
static void forget_freed(void)
{
    while (freed_blocks > MOST_FREED_BLOCKS || freed_bytes > MOST_FREED_BYTES) {
        struct block *block = freed;
        madvise(block->address, block->reserved, MADV_DONTNEED);
        mprotect(block->address, block->reserved, PROT_NONE);
        freed = block->next;
        if (freed == NULL)
            freed_end = &freed;
        --freed_blocks;
        freed_bytes -= block->bytes;
        free(block);
    }
}

void free_block(struct block **link)
{
    struct block *block = *link;
    *link = block->next;
    if (block->registered) {
        free(block);
        return;
    }
    if (block->place == DEVICE) {
        ++counters.device_frees;
        counters.live_device_bytes -= block->bytes;
    } else {
        ++counters.pinned_frees;
        counters.live_pinned_bytes -= block->bytes;
    }
    memset(block->address, POISON, block->bytes < MOST_POISONED ? block->bytes : MOST_POISONED);
    block->next = NULL;
    *freed_end = block;
    freed_end = &block->next;
    ++freed_blocks;
    freed_bytes += block->bytes;
    forget_freed();
}

void free_memory_of(CUcontext context)
{
    for (struct block **link = &live; *link != NULL;)
        if ((*link)->context == context)
            free_block(link);
        else
            link = &(*link)->next;
}
