/* SPDX-License-Identifier: Apache-2.0 */
#include "nccl.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "device.h"

/* What we use of NCCL, by our own words for it; numbers are those of its header. */
typedef struct unique_id {
    char bytes[128];
} unique_id_t;

enum { GOOD = 0, WINDOW_SYMMETRIC = 1 };

typedef struct functions {
    int (*get_version)(int *version);
    int (*get_unique_id)(unique_id_t *id);
    int (*init_rank)(void **comm, int nranks, unique_id_t id, int rank);
    int (*all_reduce)(const void *send, void *recv, size_t count, int dtype, int op, void *comm, void *stream);
    int (*destroy)(void *comm);
    const char *(*error_string)(int result);
    /* NULL in versions that have no windows. */
    int (*mem_alloc)(void **memory, size_t bytes);
    int (*mem_free)(void *memory);
    int (*window_register)(void *comm, void *memory, size_t bytes, void **window, int flags);
    int (*window_deregister)(void *comm, void *window);
} functions_t;

struct nccl {
    rank_t *rank;
    functions_t call;
    void *comm, *memory, *window;
    char version[24];
};

static const struct {
    size_t offset;
    const char *name;
    bool needed;
} symbols[] = {
    {offsetof(functions_t, get_version), "ncclGetVersion", true},
    {offsetof(functions_t, get_unique_id), "ncclGetUniqueId", true},
    {offsetof(functions_t, init_rank), "ncclCommInitRank", true},
    {offsetof(functions_t, all_reduce), "ncclAllReduce", true},
    {offsetof(functions_t, destroy), "ncclCommDestroy", true},
    {offsetof(functions_t, error_string), "ncclGetErrorString", true},
    {offsetof(functions_t, mem_alloc), "ncclMemAlloc", false},
    {offsetof(functions_t, mem_free), "ncclMemFree", false},
    {offsetof(functions_t, window_register), "ncclCommWindowRegister", false},
    {offsetof(functions_t, window_deregister), "ncclCommWindowDeregister", false},
};

/* The library stays loaded: it has threads of its own. */
static bool load(nccl_t *nccl, const char *file) {
    void *library = dlopen(file != NULL ? file : "libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) return rank_fail(nccl->rank, "NCCL cannot be opened: %s", dlerror());
    for (size_t i = 0; i < sizeof symbols / sizeof symbols[0]; i++) {
        void *symbol = dlsym(library, symbols[i].name);
        if (symbol == NULL && symbols[i].needed) {
            return rank_fail(nccl->rank, "NCCL has no function %s", symbols[i].name);
        }
        memcpy((char *)&nccl->call + symbols[i].offset, &symbol, sizeof symbol);
    }
    return true;
}

static bool try(nccl_t *nccl, int result, const char *what) {
    return result == GOOD || rank_fail(nccl->rank, "NCCL: %s: %s", what, nccl->call.error_string(result));
}

static bool join(nccl_t *nccl) {
    rank_t *rank = nccl->rank;
    unique_id_t id = {{0}};
    int version;
    if (!try(nccl, nccl->call.get_version(&version), "it does not tell its version")) return false;
    snprintf(nccl->version, sizeof nccl->version, "%d.%d.%d", version / 10000, version % 10000 / 100, version % 100);
    if (rank->rank == 0 && !try(nccl, nccl->call.get_unique_id(&id), "no rendezvous")) return false;
    return rank_all_reduce_host(rank, &id, sizeof id, ONEHOP_UINT8, ONEHOP_SUM) &&
           try(nccl, nccl->call.init_rank(&nccl->comm, rank->nranks, id, rank->rank), "no communicator");
}

/* Whether all ranks say yes. */
static bool all_agree(nccl_t *nccl, bool mine, bool *all) {
    uint8_t yes = mine;
    bool good = rank_all_reduce_host(nccl->rank, &yes, 1, ONEHOP_UINT8, ONEHOP_MIN);
    *all = yes != 0;
    return good;
}

/* A window that NCCL does not give is no failure. */
static bool open_window(nccl_t *nccl, size_t bytes) {
    const functions_t *call = &nccl->call;
    bool has = call->mem_alloc != NULL && call->mem_free != NULL && call->window_register != NULL &&
               call->window_deregister != NULL;
    if (has && call->mem_alloc(&nccl->memory, bytes) != GOOD) nccl->memory = NULL;
    bool all;
    if (!all_agree(nccl, nccl->memory != NULL, &all)) return false;
    if (all && call->window_register(nccl->comm, nccl->memory, bytes, &nccl->window, WINDOW_SYMMETRIC) != GOOD) {
        nccl->window = NULL;
    }
    if (!all_agree(nccl, nccl->window != NULL, &all)) return false;
    if (!all && nccl->window != NULL) call->window_deregister(nccl->comm, nccl->window);
    if (!all) nccl->window = NULL;
    return true;
}

nccl_t *nccl_open(rank_t *rank, const char *file, size_t window_bytes) {
    nccl_t *nccl = calloc(1, sizeof *nccl);
    if (nccl == NULL) {
        rank_fail(rank, "no memory for NCCL");
        return NULL;
    }
    nccl->rank = rank;
    if (load(nccl, file) && join(nccl) && (window_bytes == 0 || open_window(nccl, window_bytes))) return nccl;
    free(nccl); /* what NCCL holds ends with the process: ranks that failed cannot end it together */
    return NULL;
}

void nccl_close(nccl_t *nccl) {
    if (nccl == NULL) return;
    if (nccl->window != NULL) nccl->call.window_deregister(nccl->comm, nccl->window);
    nccl->call.destroy(nccl->comm);
    if (nccl->memory != NULL) nccl->call.mem_free(nccl->memory);
    free(nccl);
}

const char *nccl_version(const nccl_t *nccl) { return nccl->version; }
void *nccl_window(const nccl_t *nccl) { return nccl->window != NULL ? nccl->memory : NULL; }

static int type_of(onehop_dtype_t dtype) {
    switch (dtype) {
    case ONEHOP_INT8: return 0;
    case ONEHOP_UINT8: return 1;
    case ONEHOP_INT32: return 2;
    case ONEHOP_UINT32: return 3;
    case ONEHOP_INT64: return 4;
    case ONEHOP_UINT64: return 5;
    case ONEHOP_FLOAT16: return 6;
    case ONEHOP_FLOAT32: return 7;
    case ONEHOP_FLOAT64: return 8;
    case ONEHOP_BFLOAT16: return 9;
    }
    return -1;
}

static int operation_of(onehop_op_t op) {
    switch (op) {
    case ONEHOP_SUM: return 0;
    case ONEHOP_PROD: return 1;
    case ONEHOP_MAX: return 2;
    case ONEHOP_MIN: return 3;
    case ONEHOP_AVG: return 4;
    }
    return -1;
}

bool nccl_all_reduce(nccl_t *nccl, const void *send, void *recv, size_t count, onehop_dtype_t dtype, onehop_op_t op) {
    return try(nccl,
               nccl->call.all_reduce(send, recv, count, type_of(dtype), operation_of(op), nccl->comm,
                                     gpu_stream(nccl->rank->gpu)),
               "an all-reduce failed");
}
