/* SPDX-License-Identifier: Apache-2.0 */
/* Shared memory by descriptor. memfd has no name in any file system, so nothing is left behind whatever dies. */
#ifndef OH_ARENA_MEMORY_H
#define OH_ARENA_MEMORY_H

#include "base/status.h"

/*
 * A new memfd of `bytes` zeroed bytes, mapped at *out. Its pages exist already and its size is sealed, so that no
 * access can raise SIGBUS later.
 */
onehop_result_t oh_memory_create(size_t bytes, int *fd, void **out);

/* Maps bytes [offset, offset + bytes) of a peer's descriptor; offset is a multiple of the page. */
onehop_result_t oh_memory_map(int fd, size_t offset, size_t bytes, void **out);
void oh_memory_unmap(void *ptr, size_t bytes);

/* A descriptor (the caller's, to be closed) of the shared memory [ptr, ptr + bytes), and ptr's offset in it. */
typedef struct oh_memory_origin {
    int fd;
    size_t offset;
} oh_memory_origin_t;

/* UNSUPPORTED if the range is not shared memory whose descriptor this process holds, open for reading and writing. */
onehop_result_t oh_memory_find(const void *ptr, size_t bytes, oh_memory_origin_t *out);

#endif
