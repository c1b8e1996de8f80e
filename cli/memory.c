/* SPDX-License-Identifier: Apache-2.0 */
#include "memory.h"

#include <stdlib.h>
#include <unistd.h>

void *memory_get(rank_t *rank, size_t bytes, bool registered) {
    void *memory = NULL;
    if (!registered) {
        if (posix_memalign(&memory, (size_t)sysconf(_SC_PAGESIZE), bytes) == 0) return memory;
        rank_fail(rank, "no memory for a buffer of %zu bytes", bytes);
        return NULL;
    }
    if (!rank_try(rank, onehop_alloc(rank->comm, bytes, &memory))) return NULL;
    return rank_try(rank, onehop_register(rank->comm, memory, bytes)) ? memory : NULL;
}

bool memory_drop(rank_t *rank, void *memory, bool registered) {
    if (!registered) {
        free(memory);
        return true;
    }
    return rank_try(rank, onehop_deregister(rank->comm, memory)) && rank_try(rank, onehop_free(rank->comm, memory));
}
