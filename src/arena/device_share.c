/* SPDX-License-Identifier: Apache-2.0 */
#include "arena/device_share.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arena/device_memory.h"
#include "base/log.h"
#include "bootstrap/agree.h"

enum { SOME = 8 }; /* pieces that are told at once */

/* What a rank says of its buffer. */
typedef struct offer {
    uint64_t address, bytes;
    uint64_t offset; /* of the buffer in what travels */
    uint64_t id, context, piece_count;
    int32_t kind, device;
    CUipcMemHandle handle;
    char reason[OH_DEVICE_REASON];
} offer_t;

typedef struct task {
    oh_device_maps_t *maps;
    oh_bootstrap_t *bootstrap;
    const oh_patience_t *patience;
    oh_device_shared_t *shared;
    int rank, nranks;
    bool by_address;           /* PLAIN memory, as all ranks are of one process */
    oh_device_buffer_t buffer; /* this rank's */
    offer_t offers[ONEHOP_MAX_RANKS];
    size_t most_pieces;                      /* of any rank */
    oh_device_map_t *made[ONEHOP_MAX_RANKS]; /* not joined yet */
} task_t;

static onehop_result_t agree(const task_t *t, const char *what, onehop_result_t mine, onehop_result_t *verdict) {
    return oh_agree(t->bootstrap, what, mine, t->patience, verdict);
}

/* ---- what each rank brings ---- */

/* What the driver does not hand out stays apart. */
static void make_handle(const task_t *t, offer_t *offer) {
    oh_device_handle_t handle;
    if (oh_device_ipc_export(t->maps->cuda, t->buffer.base, &handle) == ONEHOP_SUCCESS) {
        offer->handle = handle.handle;
        return;
    }
    offer->kind = OH_DEVICE_APART;
    snprintf(offer->reason, sizeof offer->reason, "%.199s", onehop_last_error());
}

static onehop_result_t make_offer(task_t *t, const void *ptr, size_t bytes, offer_t *offer) {
    oh_device_buffer_t *buffer = &t->buffer;
    OH_TRY(oh_device_buffer_find(t->maps->cuda, t->maps->device, ptr, bytes, buffer));
    offer->address = (uintptr_t)ptr;
    offer->bytes = bytes;
    offer->offset = offer->address - buffer->base;
    offer->id = buffer->id;
    offer->context = (uintptr_t)buffer->context;
    offer->piece_count = buffer->piece_count;
    offer->kind = (int32_t)buffer->kind;
    offer->device = t->maps->device;
    memcpy(offer->reason, buffer->reason, sizeof offer->reason);
    if (buffer->kind == OH_DEVICE_PLAIN && !t->by_address) make_handle(t, offer);
    return ONEHOP_SUCCESS;
}

static onehop_result_t exchange_offers(task_t *t, const void *ptr, size_t bytes) {
    offer_t mine = {0};
    onehop_result_t verdict;
    OH_TRY(agree(t, "device buffer looked at", make_offer(t, ptr, bytes, &mine), &verdict));
    OH_TRY(verdict);
    OH_TRY(oh_bootstrap_allgather(t->bootstrap, "device buffers", &mine, t->offers, sizeof mine, t->patience));
    for (int r = 0; r < t->nranks; r++) {
        t->shared->bytes[r] = (size_t)t->offers[r].bytes;
        if (t->offers[r].piece_count > t->most_pieces) t->most_pieces = (size_t)t->offers[r].piece_count;
    }
    t->shared->base[t->rank] = (uintptr_t)ptr;
    return ONEHOP_SUCCESS;
}

static void not_direct(const task_t *t, const char *reason) {
    snprintf(t->shared->reason, sizeof t->shared->reason, "%s", reason);
    oh_log("a registered buffer is not reached directly: %s", reason);
}

static bool all_travel(const task_t *t) {
    for (int r = 0; r < t->nranks; r++) {
        if (t->offers[r].kind != OH_DEVICE_APART) continue;
        char reason[OH_DEVICE_REASON + 32];
        snprintf(reason, sizeof reason, "rank %d: %s", r, t->offers[r].reason);
        not_direct(t, reason);
        return false;
    }
    return true;
}

/* ---- what of it is known already ---- */

static onehop_result_t make_maps(task_t *t) {
    for (int r = 0; r < t->nranks; r++) {
        const offer_t *offer = &t->offers[r];
        if (r == t->rank || (offer->kind == OH_DEVICE_PLAIN && t->by_address)) continue;
        oh_device_map_t *map = oh_device_map_new((oh_device_kind_t)offer->kind, r, (size_t)offer->piece_count);
        if (map == NULL) return oh_fail(ONEHOP_OUT_OF_MEMORY, "out of memory");
        map->id = offer->id;
        map->handle = offer->handle;
        map->address = offer->address - offer->offset;
        t->made[r] = map;
    }
    return ONEHOP_SUCCESS;
}

static void give_pieces(const task_t *t, size_t first, oh_device_piece_t *given) {
    const oh_device_buffer_t *buffer = &t->buffer;
    for (size_t i = first; i < buffer->piece_count && i < first + SOME; i++) given[i - first] = buffer->pieces[i];
}

static void take_pieces(oh_device_map_t *map, size_t first, const oh_device_piece_t *taken) {
    for (size_t i = first; map != NULL && i < map->piece_count && i < first + SOME; i++) {
        map->pieces[i] = taken[i - first];
    }
}

static onehop_result_t exchange_pieces(const task_t *t) {
    for (size_t first = 0; first < t->most_pieces; first += SOME) {
        oh_device_piece_t mine[SOME] = {{0}}, all[ONEHOP_MAX_RANKS][SOME];
        give_pieces(t, first, mine);
        OH_TRY(oh_bootstrap_allgather(t->bootstrap, "device buffer pieces", mine, all, sizeof mine, t->patience));
        for (int r = 0; r < t->nranks; r++) take_pieces(t->made[r], first, all[r]);
    }
    return ONEHOP_SUCCESS;
}

static void join_maps(task_t *t) {
    for (int r = 0; r < t->nranks; r++) {
        if (t->made[r] == NULL) continue;
        t->shared->map[r] = oh_device_maps_join(t->maps, t->made[r]);
        t->made[r] = NULL;
    }
}

/* ---- reaching the rest ---- */

static onehop_result_t reach_address(const task_t *t, const offer_t *offer) {
    if (offer->device == t->maps->device) return ONEHOP_SUCCESS;
    return oh_device_enable_access(t->maps->cuda, (CUcontext)(uintptr_t)offer->context);
}

static onehop_result_t reach_handle(const task_t *t, int r, oh_device_map_t *map) {
    if (map->id != t->offers[r].id) {
        return oh_fail(ONEHOP_UNSUPPORTED, "rank %d freed memory that is still registered, and registers it anew", r);
    }
    return oh_device_map_lacks(map) ? oh_device_maps_open_handle(t->maps, map) : ONEHOP_SUCCESS;
}

static onehop_result_t reach_plain(const task_t *t) {
    for (int r = 0; r < t->nranks; r++) {
        if (r == t->rank || t->offers[r].kind != OH_DEVICE_PLAIN) continue;
        OH_TRY(t->by_address ? reach_address(t, &t->offers[r]) : reach_handle(t, r, t->shared->map[r]));
    }
    return ONEHOP_SUCCESS;
}

/* What one round brought of peers' pieces. Who has none to give although there should be one says why itself. */
static onehop_result_t place_all(const task_t *t, onehop_result_t mine, const int *fds) {
    for (int r = 0; r < t->nranks; r++) {
        if (fds[r] < 0) continue;
        oh_device_map_t *map = t->shared->map[r];
        if (mine == ONEHOP_SUCCESS && oh_device_map_lacks(map)) mine = oh_device_maps_place(t->maps, map, fds[r]);
        close(fds[r]);
    }
    return mine;
}

/* One piece of each rank a round, so that few descriptors are open. Who failed still comes to every round. */
static onehop_result_t exchange_descriptors(const task_t *t, onehop_result_t *mine) {
    CUdeviceptr next = t->buffer.base;
    for (size_t i = 0; i < t->most_pieces; i++) {
        int fd = -1, fds[ONEHOP_MAX_RANKS];
        if (*mine == ONEHOP_SUCCESS && i < t->buffer.piece_count) {
            *mine = oh_device_vmm_export(t->maps->cuda, next, &fd);
            next += t->buffer.pieces[i].bytes;
        }
        onehop_result_t result =
            oh_bootstrap_exchange_fd(t->bootstrap, "device buffer descriptors", fd, fds, t->patience);
        if (fd >= 0) close(fd);
        OH_TRY(result);
        *mine = place_all(t, *mine, fds);
    }
    return ONEHOP_SUCCESS;
}

static void leave_maps(oh_device_maps_t *maps, oh_device_shared_t *shared) {
    for (int r = 0; r < shared->nranks; r++) {
        oh_device_maps_leave(maps, shared->map[r]);
        shared->map[r] = NULL;
    }
}

static void set_addresses(const task_t *t) {
    for (int r = 0; r < t->nranks; r++) {
        const oh_device_map_t *map = t->shared->map[r];
        t->shared->base[r] = map == NULL ? t->offers[r].address : map->base + t->offers[r].offset;
    }
    t->shared->direct = true;
}

static onehop_result_t reach(const task_t *t) {
    onehop_result_t verdict, mine = reach_plain(t);
    OH_TRY(exchange_descriptors(t, &mine));
    OH_TRY(agree(t, "device buffers reached", mine, &verdict));
    if (verdict == ONEHOP_SUCCESS) {
        set_addresses(t);
    } else {
        leave_maps(t->maps, t->shared);
        not_direct(t, onehop_last_error());
    }
    return ONEHOP_SUCCESS;
}

/* ---- the whole ---- */

static onehop_result_t share(task_t *t, const void *ptr, size_t bytes) {
    onehop_result_t verdict;
    OH_TRY(exchange_offers(t, ptr, bytes));
    if (t->nranks == 1) {
        t->shared->direct = true;
        return ONEHOP_SUCCESS;
    }
    if (!all_travel(t)) return ONEHOP_SUCCESS;
    OH_TRY(agree(t, "device buffers noted", make_maps(t), &verdict));
    OH_TRY(verdict);
    OH_TRY(exchange_pieces(t));
    join_maps(t);
    return reach(t);
}

onehop_result_t oh_device_share(oh_device_maps_t *maps, void *ptr, size_t bytes, const oh_patience_t *patience,
                                oh_device_shared_t *shared) {
    task_t task = {.maps = maps,
                   .bootstrap = maps->bootstrap,
                   .patience = patience,
                   .shared = shared,
                   .rank = oh_bootstrap_rank(maps->bootstrap),
                   .nranks = oh_bootstrap_nranks(maps->bootstrap),
                   .by_address = oh_bootstrap_same_process(maps->bootstrap)};
    *shared = (oh_device_shared_t){.nranks = task.nranks};
    onehop_result_t result = share(&task, ptr, bytes);
    for (int r = 0; r < task.nranks; r++) free(task.made[r]);
    oh_device_buffer_forget(&task.buffer);
    if (result != ONEHOP_SUCCESS) oh_device_unshare(maps, shared);
    return result;
}

void oh_device_unshare(oh_device_maps_t *maps, oh_device_shared_t *shared) {
    leave_maps(maps, shared);
    *shared = (oh_device_shared_t){0};
}
