/* SPDX-License-Identifier: Apache-2.0 */
#include "arena/arena.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "arena/memory.h"

/* Maps every peer's segment and closes the descriptors: a mapping lives on without. */
static onehop_result_t map_peers(oh_arena_t *arena, const int *fds, int rank) {
    onehop_result_t result = ONEHOP_SUCCESS;
    for (int r = 0; r < arena->nranks; r++) {
        if (r == rank) continue;
        void *base;
        if (result == ONEHOP_SUCCESS) result = oh_memory_map(fds[r], 0, arena->bytes, &base);
        if (result == ONEHOP_SUCCESS) arena->base[r] = base;
        close(fds[r]);
    }
    return result;
}

/* Ranks of one process share one mapping of each segment: the last to close it unmaps it. */
static onehop_result_t share_mappings(oh_bootstrap_t *bootstrap, const oh_patience_t *patience, oh_arena_t *arena) {
    int rank = oh_bootstrap_rank(bootstrap);
    oh_segment_t *mine = (oh_segment_t *)(void *)arena->base[rank];
    atomic_store(&mine->users, (uint32_t)arena->nranks);
    unsigned char *bases[ONEHOP_MAX_RANKS];
    onehop_result_t result =
        oh_bootstrap_allgather(bootstrap, "workspace", &arena->base[rank], bases, sizeof bases[0], patience);
    if (result != ONEHOP_SUCCESS) {
        atomic_store(&mine->users, 1);
        return result;
    }
    memcpy(arena->base, bases, (size_t)arena->nranks * sizeof bases[0]);
    return ONEHOP_SUCCESS;
}

static onehop_result_t exchange_segments(oh_bootstrap_t *bootstrap, int fd, const oh_patience_t *patience,
                                         oh_arena_t *arena) {
    if (oh_bootstrap_same_process(bootstrap)) return share_mappings(bootstrap, patience, arena);
    int fds[ONEHOP_MAX_RANKS];
    OH_TRY(oh_bootstrap_exchange_fd(bootstrap, "workspace", fd, fds, patience));
    return map_peers(arena, fds, oh_bootstrap_rank(bootstrap));
}

/* A child made by fork gets no mapping: it is no rank, and must not keep the memory alive nor change it. */
static onehop_result_t hide_from_children(const oh_arena_t *arena) {
    for (int r = 0; r < arena->nranks; r++) {
        if (madvise(arena->base[r], arena->bytes, MADV_DONTFORK) != 0) return oh_fail_errno("madvise(MADV_DONTFORK)");
    }
    return ONEHOP_SUCCESS;
}

onehop_result_t oh_arena_open(oh_bootstrap_t *bootstrap, size_t bytes, const oh_patience_t *patience,
                              oh_arena_t *arena) {
    int fd;
    void *base;
    OH_TRY(oh_memory_create(bytes, &fd, &base));
    *arena = (oh_arena_t){.nranks = oh_bootstrap_nranks(bootstrap), .bytes = bytes};
    arena->shared = oh_bootstrap_same_process(bootstrap);
    arena->base[oh_bootstrap_rank(bootstrap)] = base;
    atomic_store(&((oh_segment_t *)base)->users, 1);
    onehop_result_t result = exchange_segments(bootstrap, fd, patience, arena);
    close(fd);
    if (result == ONEHOP_SUCCESS) result = hide_from_children(arena);
    if (result != ONEHOP_SUCCESS) oh_arena_close(arena);
    return result;
}

void oh_arena_close(oh_arena_t *arena) {
    for (int r = 0; r < arena->nranks; r++) {
        if (arena->base[r] == NULL) continue;
        oh_segment_t *segment = (oh_segment_t *)(void *)arena->base[r];
        if (!arena->shared || atomic_fetch_sub(&segment->users, 1) == 1) oh_memory_unmap(arena->base[r], arena->bytes);
    }
    *arena = (oh_arena_t){0};
}
