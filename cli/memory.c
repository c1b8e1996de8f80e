/* SPDX-License-Identifier: Apache-2.0 */
#include "memory.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Bytes of memory that can be had without swapping; SIZE_MAX if that is not known. */
static size_t available_bytes(void) {
    FILE *file = fopen("/proc/meminfo", "r");
    char line[128];
    size_t kib = SIZE_MAX / 1024;
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, "MemAvailable: %zu kB", &kib) == 1) break;
    }
    if (file != NULL) fclose(file);
    return kib * 1024;
}

bool memory_suffices(rank_t *rank, size_t bytes) {
    size_t available = available_bytes();
    if (bytes <= available / (size_t)rank->nranks) return true;
    return rank_fail(rank, "no memory for buffers of %zu bytes on each of %d ranks: %zu bytes are available", bytes,
                     rank->nranks, available);
}

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
