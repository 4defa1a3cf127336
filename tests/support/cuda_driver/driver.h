/* What the files of the simulated CUDA driver share: the lock, the entry of a call, and the objects behind the handles.
 *
 * One lock guards everything; it is dropped only while a host function runs, because that one may need
 * Python's interpreter lock. Objects behind handles are never freed, so a stale handle is always noticed. */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The library hides what it does not export; whatever NVIDIA's header declares is exported. */
#pragma GCC visibility push(default)
#include <cuda.h>
#pragma GCC visibility pop

#define EXPORT __attribute__((visibility("default")))

/* ---- The entry of a call (calls.c) ---- */

enum rules {
    ANYTIME = 0,
    INITIALISED = 1,         /* cuInit must have been called */
    CURRENT = 2 | 1,         /* a live context must be current */
    UNSAFE = 4,              /* refused while a stream is captured, and spoils that capture */
    RELEASES = 8,            /* does its work on a lost device as well, so that leaks can be told from losses */
};

struct function {
    const char *name;
    uint64_t calls;
    struct function *next;
    bool known;
};

extern pthread_mutex_t driver_lock;
extern pthread_cond_t driver_idle;

/* Take the lock and say whether the call may go on. */
CUresult enter_call(struct function *function, unsigned rules);
/* Give the lock back. */
void leave_call(int *unused);

#define ENTER(rules)                                                                  \
    static struct function this_function = {.name = __func__};                        \
    __attribute__((cleanup(leave_call), unused)) int entered = 0;                     \
    CUresult refused = enter_call(&this_function, (rules));                           \
    if (refused != CUDA_SUCCESS)                                                      \
        return refused

/* From here on every call returns this code, as a real context does after a fault. */
void lose_device(CUresult code);
/* That code, or success. */
CUresult lost_device(void);
void driver_log(const char *format, ...) __attribute__((format(printf, 1, 2)));
extern _Thread_local bool inside_host_function;
extern bool driver_initialised;

/* ---- Counters (calls.c) ---- */

/* The order is the order of `Counters` in tests/simulated_cuda.py. The `live` ones are never reset. */
struct counters {
    uint64_t device_allocations, device_frees, live_device_bytes, peak_device_bytes;
    uint64_t pinned_allocations, pinned_frees, live_pinned_bytes;
    uint64_t live_contexts, live_streams, live_events, live_graphs, live_graph_execs;
    uint64_t htod_copies, htod_bytes, dtoh_copies, dtoh_bytes, dtod_copies, dtod_bytes, pageable_copies, memsets;
    uint64_t stream_syncs, event_syncs, context_syncs;
    uint64_t captures, graph_launches, host_functions;
    uint64_t queued_operations;
};
extern struct counters counters;

/* ---- The device and its contexts (device.c, contexts.c) ---- */

enum { DRIVER_VERSION = 13000 };

#define ENTER_DEVICE(device)                 \
    ENTER(INITIALISED);                      \
    if ((device) != 0)                       \
    return CUDA_ERROR_INVALID_DEVICE

enum kind { CONTEXT = 0x43545831, STREAM, EVENT, GRAPH, GRAPH_EXEC };

struct CUctx_st {
    enum kind kind;
    bool alive;
    unsigned flags;
    unsigned retained; /* of the primary context only */
    uint64_t id;
    struct CUstream_st *streams; /* also destroyed ones whose work is not done */
    struct CUstream_st *legacy, *per_thread;
    struct CUevent_st *events;
};

CUcontext current_context(void);

/* ---- Memory (blocks.c, memory.c) ---- */

enum place { DEVICE, PINNED, PAGEABLE };

struct block {
    char *address;
    size_t bytes, reserved;
    enum place place;
    bool registered; /* by cuMemHostRegister: the memory is not ours */
    unsigned flags;
    CUcontext context;
    struct block *next;
};

extern size_t device_bytes; /* that the device has */

bool in_device_range(const void *address);
/* The link to the live block whose address it is, or that holds the address; NULL for none. */
struct block **find_block(const void *address, bool exactly);
/* A block of poisoned memory of the current context; NULL where there is none. */
struct block *new_block(enum place place, size_t bytes);
/* Memory of the caller that counts as pinned. */
void add_registered(void *address, size_t bytes, unsigned flags);
void free_block(struct block **link);

/* Where `bytes` from `address` lie. False, with a line in the log, where they cross the end of a block or touch one
 * that was freed. */
bool find_place(const void *address, size_t bytes, enum place *place);
void free_memory_of(CUcontext context);

/* ---- Work (work.c): what waits in the queue of a stream or in a graph ---- */

struct box { /* rows and slices of bytes, in memory */
    char *address;
    size_t pitch, slice; /* bytes from row to row and from slice to slice */
};

struct operation {
    enum { COPY, FILL, HOST_FUNCTION, RECORD, WAIT } what;
    uint64_t number; /* in the order of all calls */
    struct operation *next;
    struct box to, from;
    size_t width, height, depth; /* bytes, rows, slices */
    void *staged;                /* our own copy of a pageable source */
    uint32_t value, value_bytes;
    CUhostFn function;
    void *argument;
    struct CUevent_st *event;
    struct CUstream_st *awaited;
    uint64_t until;
};

/* Whether the memory that an operation names may be used now. */
CUresult check_operation(const struct operation *operation);
/* Do it. Drops the lock around a host function. */
CUresult execute(struct operation *operation);
struct operation *copy_of(const struct operation *operation);

/* ---- Streams and events (queues.c, streams.c, events.c) ---- */

struct CUstream_st {
    enum kind kind;
    bool alive, busy;
    unsigned flags;
    int priority, queries;
    uint64_t id, last, done; /* numbers of the newest operation queued and of the newest one done */
    struct operation *first, *newest;
    CUcontext context;
    struct CUstream_st *next;
    struct capture *capture;
    unsigned branch; /* its place in the capture */
};

struct CUevent_st {
    enum kind kind;
    bool alive, recorded;
    unsigned flags;
    int queries;
    struct CUstream_st *stream;
    uint64_t number; /* of the newest record */
    double time_ms;
    struct CUevent_st *next; /* of the same context */
    struct capture *capture;
    unsigned branch;
    uint64_t *seen;
};

/* A query finds work unfinished; this many in a row finish it, so that polling ends. */
enum { QUERIES_UNTIL_DONE = 3 };

/* The stream behind a handle, NULL (legacy) included; NULL for a stale one. */
struct CUstream_st *find_stream(CUstream handle);
/* Queue a copy of the operation, or put it into the graph that the stream is captured into. */
CUresult submit(struct CUstream_st *stream, const struct operation *operation);
/* Do what is queued up to this number. */
CUresult drain(struct CUstream_st *stream, uint64_t until);
CUresult drain_context(CUcontext context);
bool pending(const struct CUstream_st *stream);
struct CUstream_st *new_stream(CUcontext context, unsigned flags, int priority);
void drop_streams(CUcontext context);
void drop_events(CUcontext context);

/* ---- Capture and graphs (capture.c, graphs.c) ---- */

enum { MOST_BRANCHES = 16 };

struct capture {
    CUgraph graph;
    CUstreamCaptureMode mode;
    CUstreamCaptureStatus status;
    pthread_t thread;
    uint64_t id;
    unsigned branches;
    struct CUstream_st *streams[MOST_BRANCHES]; /* the first one is the origin */
    uint64_t seen[MOST_BRANCHES][MOST_BRANCHES]; /* newest node of each branch that a branch depends on */
    struct capture *next;
};

struct CUgraphNode_st {
    struct operation operation;
    struct CUgraphNode_st *next;
};

struct CUgraph_st {
    enum kind kind;
    bool alive;
    size_t size;
    struct CUgraphNode_st *first, *last;
};

CUgraph new_graph(void);
CUresult add_node(CUgraph graph, const struct operation *operation);
void invalidate(struct capture *capture, const char *why);
/* End it without a graph; its streams are ordinary ones again. */
void forget_capture(struct capture *capture);
/* Whether this thread may make a call that is unsafe during a capture; spoils the capture where not. */
bool may_be_unsafe(void);
/* A running capture of any stream of the context that the legacy stream would wait for (NULL: of any stream). */
struct capture *find_capture(CUcontext context, bool blocking_only);
CUresult capture_operation(struct CUstream_st *stream, const struct operation *operation);
CUresult capture_record(struct CUstream_st *stream, struct CUevent_st *event);
CUresult capture_wait(struct CUstream_st *stream, struct CUevent_st *event);
