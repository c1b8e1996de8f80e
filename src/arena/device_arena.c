/* SPDX-License-Identifier: Apache-2.0 */
#include "arena/device_arena.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arena/device_memory.h"
#include "base/log.h"
#include "base/status.h"
#include "bootstrap/agree.h"

/* What oh_device_arena_open was given: it travels whole. */
typedef struct task {
    const oh_cuda_t *cuda;
    CUdevice device;
    oh_bootstrap_t *bootstrap;
    const oh_patience_t *patience;
    oh_device_arena_t *arena;
} task_t;

/*
 * Memory that ranks of one process use at one address. The last of them frees it, and this. It holds its context, which
 * its owner may give up before others give up the memory.
 */
struct oh_device_memory {
    atomic_int users;
    CUdevice device;
    CUcontext context; /* NULL: not held yet */
    CUdeviceptr base;
};

static onehop_result_t agree(const task_t *t, const char *what, onehop_result_t mine, onehop_result_t *verdict) {
    return oh_agree(t->bootstrap, what, mine, t->patience, verdict);
}

/* ---- leaving ---- */

static void leave_memory(const oh_cuda_t *cuda, struct oh_device_memory *memory) {
    if (atomic_fetch_sub(&memory->users, 1) != 1) return;
    CUcontext popped;
    if (memory->base != 0 && cuda->cuCtxPushCurrent(memory->context) == CUDA_SUCCESS) {
        cuda->cuMemFree(memory->base);
        cuda->cuCtxPopCurrent(&popped);
    }
    if (memory->context != NULL) cuda->cuDevicePrimaryCtxRelease(memory->device);
    free(memory);
}

static void leave(const oh_cuda_t *cuda, oh_device_arena_t *arena) {
    for (int r = 0; r < arena->nranks; r++) {
        if (arena->memory[r] != NULL) {
            leave_memory(cuda, arena->memory[r]);
        } else if (arena->opened[r] != 0) {
            cuda->cuIpcCloseMemHandle(arena->opened[r]);
        } else if (arena->base[r] != 0 && arena->share == OH_SHARE_VMM) {
            oh_device_vmm_unmap(cuda, arena->base[r], arena->mapped);
        } else if (arena->base[r] != 0) {
            cuda->cuMemFree(arena->base[r]);
        }
        arena->memory[r] = NULL;
        arena->opened[r] = arena->base[r] = 0;
    }
}

void oh_device_arena_close(const oh_cuda_t *cuda, oh_device_arena_t *arena) {
    leave(cuda, arena);
    *arena = (oh_device_arena_t){0};
}

/* ---- what all can, and want ---- */

typedef struct offer {
    uint64_t bytes;
    uint64_t granularity; /* of VMM; 0: this rank cannot, for the reason given */
    int32_t wanted;
    char reason[236];
} offer_t;

static void make_offer(const task_t *t, oh_share_t wanted, offer_t *offer) {
    *offer = (offer_t){.bytes = t->arena->bytes, .wanted = (int32_t)wanted};
    if (wanted == OH_SHARE_IPC) return;
    size_t granularity = 0;
    if (oh_device_vmm_granularity(t->cuda, t->device, &granularity) == ONEHOP_SUCCESS) {
        offer->granularity = granularity;
    } else {
        memcpy(offer->reason, onehop_last_error(), sizeof offer->reason - 1);
    }
}

static onehop_result_t compare_offers(const offer_t *offers, int nranks) {
    for (int r = 1; r < nranks; r++) {
        if (offers[r].wanted != offers[0].wanted) {
            return oh_fail(ONEHOP_MISMATCH, "ranks disagree on memory: rank 0 has \"%s\", rank %d has \"%s\"",
                           oh_share_string((oh_share_t)offers[0].wanted), r,
                           oh_share_string((oh_share_t)offers[r].wanted));
        }
        if (offers[r].bytes != offers[0].bytes) {
            return oh_fail(ONEHOP_MISMATCH,
                           "ranks disagree on the GPU memory of each: rank 0 has %" PRIu64
                           " bytes, rank %d has %" PRIu64,
                           offers[0].bytes, r, offers[r].bytes);
        }
    }
    return ONEHOP_SUCCESS;
}

/* A pure function of what all ranks said. */
static onehop_result_t choose(const offer_t *offers, oh_device_arena_t *arena) {
    OH_TRY(compare_offers(offers, arena->nranks));
    oh_share_t wanted = (oh_share_t)offers[0].wanted;
    arena->share = wanted == OH_SHARE_AUTO ? OH_SHARE_VMM : wanted;
    size_t granularity = 1;
    for (int r = 0; r < arena->nranks && arena->share == OH_SHARE_VMM; r++) {
        if (offers[r].granularity > granularity) granularity = (size_t)offers[r].granularity;
        if (offers[r].granularity > 0) continue;
        if (wanted == OH_SHARE_VMM) {
            return oh_fail(ONEHOP_UNSUPPORTED, "memory is \"vmm\", but rank %d: %.235s", r, offers[r].reason);
        }
        oh_log("GPU memory is shared by IPC, not VMM: rank %d: %.235s", r, offers[r].reason);
        arena->share = OH_SHARE_IPC;
    }
    /* Granularities are powers of two: the largest suits all. */
    arena->mapped = (arena->bytes + granularity - 1) / granularity * granularity;
    return ONEHOP_SUCCESS;
}

static onehop_result_t settle(const task_t *t, oh_share_t wanted) {
    offer_t mine, offers[ONEHOP_MAX_RANKS];
    make_offer(t, wanted, &mine);
    OH_TRY(oh_bootstrap_allgather(t->bootstrap, "device memory", &mine, offers, sizeof mine, t->patience));
    return choose(offers, t->arena);
}

/* ---- VMM ---- */

static onehop_result_t map_peers(const task_t *t, const int *fds) {
    oh_device_arena_t *arena = t->arena;
    onehop_result_t result = ONEHOP_SUCCESS;
    for (int r = 0; r < arena->nranks; r++) {
        if (r == arena->rank) continue;
        if (result == ONEHOP_SUCCESS) {
            result = oh_device_vmm_map(t->cuda, t->device, fds[r], arena->mapped, &arena->base[r]);
        }
        close(fds[r]);
    }
    return result;
}

static onehop_result_t share_descriptors(const task_t *t, onehop_result_t mine, int fd, onehop_result_t *verdict) {
    int fds[ONEHOP_MAX_RANKS];
    OH_TRY(agree(t, "device memory made", mine, verdict));
    if (*verdict != ONEHOP_SUCCESS) return ONEHOP_SUCCESS;
    OH_TRY(oh_bootstrap_exchange_fd(t->bootstrap, "device memory", fd, fds, t->patience));
    return agree(t, "device memory mapped", map_peers(t, fds), verdict);
}

static onehop_result_t open_vmm(const task_t *t, onehop_result_t *verdict) {
    oh_device_arena_t *arena = t->arena;
    int fd = -1;
    onehop_result_t mine = oh_device_vmm_create(t->cuda, t->device, arena->mapped, &arena->base[arena->rank], &fd);
    onehop_result_t result = share_descriptors(t, mine, fd, verdict);
    if (fd >= 0) close(fd);
    return result;
}

/* ---- IPC between processes ---- */

static onehop_result_t make_handle(const task_t *t, oh_device_handle_t *handle) {
    oh_device_arena_t *arena = t->arena;
    OH_TRY(oh_device_allocate(t->cuda, arena->bytes, &arena->base[arena->rank]));
    return oh_device_ipc_export(t->cuda, arena->base[arena->rank], handle);
}

static onehop_result_t open_peers(const task_t *t, const oh_device_handle_t *handles) {
    oh_device_arena_t *arena = t->arena;
    for (int r = 0; r < arena->nranks; r++) {
        if (r == arena->rank) continue;
        OH_TRY(oh_device_ipc_open(t->cuda, &handles[r], &arena->opened[r], &arena->base[r]));
    }
    return ONEHOP_SUCCESS;
}

static onehop_result_t open_ipc(const task_t *t, onehop_result_t *verdict) {
    oh_device_handle_t mine = {0}, handles[ONEHOP_MAX_RANKS];
    OH_TRY(agree(t, "device memory made", make_handle(t, &mine), verdict));
    if (*verdict != ONEHOP_SUCCESS) return ONEHOP_SUCCESS;
    OH_TRY(oh_bootstrap_allgather(t->bootstrap, "device memory handles", &mine, handles, sizeof mine, t->patience));
    return agree(t, "device memory opened", open_peers(t, handles), verdict);
}

/* ---- IPC in one process: plain addresses ---- */

static onehop_result_t make_memory(const task_t *t) {
    oh_device_arena_t *arena = t->arena;
    struct oh_device_memory *memory = calloc(1, sizeof *memory);
    if (memory == NULL) return oh_fail(ONEHOP_OUT_OF_MEMORY, "out of memory");
    atomic_init(&memory->users, 1);
    memory->device = t->device;
    arena->memory[arena->rank] = memory;
    CUcontext context;
    OH_TRY(oh_cuda_check(t->cuda, t->cuda->cuDevicePrimaryCtxRetain(&context, t->device),
                         "cannot hold the context of GPU %d", t->device));
    memory->context = context;
    OH_TRY(oh_device_allocate(t->cuda, arena->bytes, &memory->base));
    arena->base[arena->rank] = memory->base;
    return ONEHOP_SUCCESS;
}

/* From here on all ranks use the memory, and each leaves it once. */
static onehop_result_t share_memory(const task_t *t) {
    oh_device_arena_t *arena = t->arena;
    struct oh_device_memory *mine = arena->memory[arena->rank], *all[ONEHOP_MAX_RANKS];
    atomic_store(&mine->users, arena->nranks);
    onehop_result_t result =
        oh_bootstrap_allgather(t->bootstrap, "device memory addresses", &mine, all, sizeof mine, t->patience);
    if (result != ONEHOP_SUCCESS) {
        atomic_store(&mine->users, 1);
        return result;
    }
    memcpy(arena->memory, all, (size_t)arena->nranks * sizeof all[0]);
    return ONEHOP_SUCCESS;
}

static onehop_result_t reach_peers(const task_t *t) {
    oh_device_arena_t *arena = t->arena;
    for (int r = 0; r < arena->nranks; r++) {
        const struct oh_device_memory *memory = arena->memory[r];
        if (memory->device != t->device) OH_TRY(oh_device_enable_access(t->cuda, memory->context));
        arena->base[r] = memory->base;
    }
    return ONEHOP_SUCCESS;
}

static onehop_result_t open_addresses(const task_t *t, onehop_result_t *verdict) {
    OH_TRY(agree(t, "device memory made", make_memory(t), verdict));
    if (*verdict != ONEHOP_SUCCESS) return ONEHOP_SUCCESS;
    OH_TRY(share_memory(t));
    return agree(t, "device memory reached", reach_peers(t), verdict);
}

/* ---- either ---- */

/* As arena->share says. Leaves nothing behind when it fails, by the ranks' verdict or because they lost touch. */
static onehop_result_t open_as_shared(const task_t *t, onehop_result_t *verdict) {
    onehop_result_t result;
    *verdict = ONEHOP_SUCCESS;
    if (t->arena->share == OH_SHARE_VMM) {
        result = open_vmm(t, verdict);
    } else if (oh_bootstrap_same_process(t->bootstrap)) {
        result = open_addresses(t, verdict);
    } else {
        result = open_ipc(t, verdict);
    }
    if (result != ONEHOP_SUCCESS || *verdict != ONEHOP_SUCCESS) leave(t->cuda, t->arena);
    return result;
}

static onehop_result_t open_any(const task_t *t, oh_share_t wanted) {
    onehop_result_t verdict;
    OH_TRY(settle(t, wanted));
    OH_TRY(open_as_shared(t, &verdict));
    if (verdict == ONEHOP_SUCCESS || wanted != OH_SHARE_AUTO || t->arena->share == OH_SHARE_IPC) return verdict;
    oh_log("GPU memory is shared by IPC: VMM failed: %s", onehop_last_error());
    t->arena->share = OH_SHARE_IPC;
    OH_TRY(open_as_shared(t, &verdict));
    return verdict;
}

onehop_result_t oh_device_arena_open(const oh_cuda_t *cuda, CUdevice device, oh_bootstrap_t *bootstrap, size_t bytes,
                                     oh_share_t wanted, const oh_patience_t *patience, oh_device_arena_t *arena) {
    *arena = (oh_device_arena_t){
        .nranks = oh_bootstrap_nranks(bootstrap), .bytes = bytes, .rank = oh_bootstrap_rank(bootstrap)};
    const task_t task = {cuda, device, bootstrap, patience, arena};
    onehop_result_t result = open_any(&task, wanted);
    if (result != ONEHOP_SUCCESS) *arena = (oh_device_arena_t){0};
    return result;
}
