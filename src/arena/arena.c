/* SPDX-License-Identifier: Apache-2.0 */
#include "arena/arena.h"

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

onehop_result_t oh_arena_open(oh_bootstrap_t *bootstrap, size_t bytes, const oh_patience_t *patience,
                              oh_arena_t *arena) {
    int rank = oh_bootstrap_rank(bootstrap), fd;
    *arena = (oh_arena_t){.nranks = oh_bootstrap_nranks(bootstrap), .bytes = bytes};
    void *base;
    OH_TRY(oh_memory_create(bytes, &fd, &base));
    arena->base[rank] = base;

    int fds[ONEHOP_MAX_RANKS];
    onehop_result_t result = oh_bootstrap_exchange_fd(bootstrap, "workspace", fd, fds, patience);
    close(fd);
    if (result == ONEHOP_SUCCESS) result = map_peers(arena, fds, rank);
    if (result != ONEHOP_SUCCESS) oh_arena_close(arena);
    return result;
}

void oh_arena_close(oh_arena_t *arena) {
    for (int r = 0; r < arena->nranks; r++) {
        if (arena->base[r] != NULL) oh_memory_unmap(arena->base[r], arena->bytes);
    }
    *arena = (oh_arena_t){0};
}
