/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Machine code kept on disk, so that a kernel is compiled once on a machine and not once a process. One file an entry,
 * named by its key. A cache never fails: what it cannot read is missing, what it cannot write is not kept, and the log
 * says why.
 */
#ifndef OH_BACKEND_CUDA_CACHE_H
#define OH_BACKEND_CUDA_CACHE_H

#include <stdbool.h>
#include <stddef.h>

typedef struct oh_cache {
    int directory; /* -1: nothing is kept */
} oh_cache_t;

typedef struct oh_cache_key {
    unsigned char bytes[16];
} oh_cache_key_t;

/*
 * Opens a directory, and makes it and its parents where they are not there. NULL or "", or a directory that others may
 * write to: nothing is kept, as whoever writes there decides what runs on the GPU.
 */
void oh_cache_open(oh_cache_t *cache, const char *directory);
void oh_cache_close(oh_cache_t *cache);

/* The key of all that decides what an entry holds; ("a", "b") differs from ("ab"). */
oh_cache_key_t oh_cache_key(const char *const *parts, size_t count);

/* True: *payload, to be freed, is what was stored under the key, and *compiler who made it. Any thread. */
bool oh_cache_load(const oh_cache_t *cache, const oh_cache_key_t *key, void **payload, size_t *bytes, int *compiler);

/*
 * Keeps a copy; whoever loads sees the whole entry or none, also while others store the same. It may be lost when the
 * machine fails: then it is compiled again. Any thread.
 */
void oh_cache_store(const oh_cache_t *cache, const oh_cache_key_t *key, const void *payload, size_t bytes,
                    int compiler);

#endif
