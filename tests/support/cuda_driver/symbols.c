/* cuGetProcAddress: the exported functions by name, with the version of the interface that the caller was built for. */
#define _GNU_SOURCE
#include "driver.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

/* Functions whose versions differ in their arguments: the newest one that is not newer than the caller's version. A
 * symbol that is not exported is not found: taking another version for it would misread the arguments. */
static const struct {
    const char *name;
    int since;
    const char *symbol;
} versions[] = {
    {"cuCtxCreate", 12050, "cuCtxCreate_v4"},
    {"cuCtxCreate", 3020, "cuCtxCreate_v2"},
    {"cuStreamGetCaptureInfo", 12030, "cuStreamGetCaptureInfo_v3"},
    {"cuStreamGetCaptureInfo", 11030, "cuStreamGetCaptureInfo_v2"},
    {"cuStreamGetCtx", 12050, "cuStreamGetCtx_v2"},
    {"cuStreamGetCtx", 9020, "cuStreamGetCtx"},
    {"cuGetProcAddress", 12000, "cuGetProcAddress_v2"},
    {"cuStreamBeginCapture", 10010, "cuStreamBeginCapture_v2"},
    {"cuGraphInstantiate", 12000, "cuGraphInstantiateWithFlags"},
};

static void *exported(const char *symbol)
{
    static void *self;
    Dl_info where;
    if (self == NULL && dladdr((void *)exported, &where) != 0)
        self = dlopen(where.dli_fname, RTLD_NOW | RTLD_NOLOAD);
    return self == NULL ? NULL : dlsym(self, symbol);
}

static void *find_symbol(const char *asked, int version)
{
    char name[128], suffixed[136];
    snprintf(name, sizeof name, "%s", asked);
    char *per_thread = strstr(name, "_pt"); /* `_ptds` and `_ptsz` variants share the ordinary functions */
    if (per_thread != NULL)
        *per_thread = 0;
    bool listed = false;
    for (size_t i = 0; i < sizeof versions / sizeof *versions; ++i)
        if (strcmp(versions[i].name, name) == 0) {
            listed = true;
            if (version >= versions[i].since)
                return exported(versions[i].symbol);
        }
    if (listed)
        return NULL;
    for (char number = '4'; number >= '2'; --number) {
        snprintf(suffixed, sizeof suffixed, "%s_v%c", name, number);
        void *found = exported(suffixed);
        if (found != NULL)
            return found;
    }
    return exported(name);
}

static CUresult look_up(const char *name, void **address, int version)
{
    if (name == NULL || address == NULL)
        return CUDA_ERROR_INVALID_VALUE;
    *address = strncmp(name, "cu", 2) == 0 ? find_symbol(name, version) : NULL;
    return *address == NULL ? CUDA_ERROR_NOT_FOUND : CUDA_SUCCESS;
}

CUresult cuGetProcAddress(const char *name, void **address, int version, cuuint64_t flags,
                          CUdriverProcAddressQueryResult *status)
{
    (void)flags;
    CUresult code = look_up(name, address, version);
    if (status != NULL)
        *status = code == CUDA_SUCCESS ? CU_GET_PROC_ADDRESS_SUCCESS : CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
    return code;
}

#undef cuGetProcAddress
EXPORT CUresult cuGetProcAddress(const char *name, void **address, int version, cuuint64_t flags);
CUresult cuGetProcAddress(const char *name, void **address, int version, cuuint64_t flags)
{
    (void)flags;
    return look_up(name, address, version);
}
