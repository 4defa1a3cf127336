/* The entry of every call: the lock, the count of calls, injected failures, the lost device, and the log. */
#include "driver.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

pthread_mutex_t driver_lock = PTHREAD_MUTEX_INITIALIZER;
pthread_cond_t driver_idle = PTHREAD_COND_INITIALIZER;
_Thread_local bool inside_host_function;
bool driver_initialised;

static struct function *functions;
static CUresult lost;

enum { MOST_FAILURES = 32, LOG_BYTES = 1 << 16 };
static struct failure {
    char name[96];
    int nth; /* calls until it strikes; 0: free */
    CUresult code;
    bool loses;
} failures[MOST_FAILURES];
static char log_text[LOG_BYTES];
static size_t log_size;

/* `cuMemAlloc` also stands for `cuMemAlloc_v2`. */
static bool same_function(const char *exported, const char *asked)
{
    size_t length = strlen(asked);
    if (strncmp(exported, asked, length) != 0)
        return false;
    const char *rest = exported + length;
    return *rest == 0 || (rest[0] == '_' && rest[1] == 'v' && rest[2] >= '1' && rest[2] <= '9' && rest[3] == 0);
}

void driver_log(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    if (log_size + 256 < LOG_BYTES) { /* the first lines matter: later ones follow from them */
        log_size += (size_t)vsnprintf(log_text + log_size, 255, format, arguments);
        log_text[log_size++] = '\n';
        log_text[log_size] = 0;
    }
    va_end(arguments);
}

void lose_device(CUresult code)
{
    if (lost == CUDA_SUCCESS)
        lost = code;
}

CUresult lost_device(void) { return lost; }

CUresult enter_call(struct function *function, unsigned rules)
{
    if (inside_host_function) { /* as documented for cuLaunchHostFunc; the lock is free, take it for leave_call */
        pthread_mutex_lock(&driver_lock);
        driver_log("%s called inside a host function", function->name);
        return CUDA_ERROR_NOT_PERMITTED;
    }
    pthread_mutex_lock(&driver_lock);
    if (!function->known) {
        function->known = true;
        function->next = functions;
        functions = function;
    }
    ++function->calls;
    CUresult injected = CUDA_SUCCESS;
    for (struct failure *failure = failures; failure < failures + MOST_FAILURES; ++failure)
        if (failure->nth > 0 && same_function(function->name, failure->name) && --failure->nth == 0) {
            if (failure->loses)
                lose_device(failure->code);
            else
                injected = failure->code;
        }
    if (injected != CUDA_SUCCESS)
        return injected;
    if (lost != CUDA_SUCCESS && !(rules & RELEASES))
        return lost;
    if ((rules & INITIALISED) && !driver_initialised)
        return CUDA_ERROR_NOT_INITIALIZED;
    if ((rules & CURRENT) == CURRENT) {
        CUcontext context = current_context();
        if (context == NULL)
            return CUDA_ERROR_INVALID_CONTEXT;
        if (!context->alive)
            return CUDA_ERROR_CONTEXT_IS_DESTROYED;
    }
    if ((rules & UNSAFE) && !may_be_unsafe()) {
        driver_log("%s called during a capture", function->name);
        return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
    return CUDA_SUCCESS;
}

void leave_call(int *unused)
{
    (void)unused;
    pthread_mutex_unlock(&driver_lock);
}

static int arm(const char *function, int nth, int code, bool loses)
{
    int armed = -1;
    pthread_mutex_lock(&driver_lock);
    for (int i = 0; i < MOST_FAILURES && armed < 0; ++i)
        if (failures[i].nth == 0 && nth > 0 && strlen(function) < sizeof failures[i].name) {
            failures[i] = (struct failure){.nth = nth, .code = (CUresult)code, .loses = loses};
            strcpy(failures[i].name, function);
            armed = 0;
        }
    pthread_mutex_unlock(&driver_lock);
    return armed;
}

/* The nth next call of the function returns the code and does nothing. 0, or -1 where it cannot be armed. */
EXPORT int simFail(const char *function, int nth, int code) { return arm(function, nth, code, false); }

/* From the nth next call of the function on, every call returns the code. */
EXPORT int simLose(const char *function, int nth, int code) { return arm(function, nth, code, true); }

/* How often a function was called since the last reset. */
EXPORT uint64_t simCalls(const char *name)
{
    uint64_t calls = 0;
    pthread_mutex_lock(&driver_lock);
    for (struct function *function = functions; function != NULL; function = function->next)
        if (same_function(function->name, name))
            calls += function->calls;
    pthread_mutex_unlock(&driver_lock);
    return calls;
}

/* Copy the log, zero-terminated; returns its full size in bytes. */
EXPORT size_t simLog(char *text, size_t bytes)
{
    pthread_mutex_lock(&driver_lock);
    size_t size = log_size;
    if (bytes > 0) {
        size_t kept = size < bytes - 1 ? size : bytes - 1;
        memcpy(text, log_text, kept);
        text[kept] = 0;
    }
    pthread_mutex_unlock(&driver_lock);
    return size;
}

/* Forget injected failures, the lost device, the log and what was counted; what is live stays. */
EXPORT void simReset(void)
{
    pthread_mutex_lock(&driver_lock);
    memset(failures, 0, sizeof failures);
    lost = CUDA_SUCCESS;
    log_size = 0;
    log_text[0] = 0;
    for (struct function *function = functions; function != NULL; function = function->next)
        function->calls = 0;
    counters = (struct counters){
        .live_device_bytes = counters.live_device_bytes,
        .peak_device_bytes = counters.live_device_bytes,
        .live_pinned_bytes = counters.live_pinned_bytes,
        .live_contexts = counters.live_contexts,
        .live_streams = counters.live_streams,
        .live_events = counters.live_events,
        .live_graphs = counters.live_graphs,
        .live_graph_execs = counters.live_graph_execs,
        .queued_operations = counters.queued_operations,
    };
    pthread_mutex_unlock(&driver_lock);
}

/* What was counted, one moment of it. */
struct counters counters;

EXPORT void simCounters(struct counters *out)
{
    pthread_mutex_lock(&driver_lock);
    *out = counters;
    pthread_mutex_unlock(&driver_lock);
}

EXPORT size_t simCountersSize(void) { return sizeof(struct counters); }
