/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether the GPU can reach a caller's buffer: a kernel that is given anything else leaves the context unusable. The
 * driver is asked once for each stretch of OH_BUFFER_STRETCH bytes, since asking costs: GPUs and hosts do not share
 * such stretches of address space.
 */
#ifndef OH_BACKEND_CUDA_BUFFERS_H
#define OH_BACKEND_CUDA_BUFFERS_H

#include <stdbool.h>
#include <stdint.h>

#include "driver/cuda.h"

enum { OH_BUFFER_STRETCH = 2 << 20, OH_BUFFERS_KNOWN = 64 };

typedef struct oh_buffers {
    bool any;                          /* the GPU reaches all memory of the host */
    uintptr_t known[OH_BUFFERS_KNOWN]; /* numbers of stretches that it reaches, plus 1 */
} oh_buffers_t;

onehop_result_t oh_buffers_open(oh_buffers_t *buffers, const oh_cuda_t *cuda, CUdevice device);

/*
 * INVALID_ARGUMENT, naming the argument, unless the GPU reaches its first and its last byte; bytes > 0. If `stream` is
 * being captured, they may also lie in memory that the graph will allocate, which cannot be told from no memory at all.
 */
onehop_result_t oh_buffers_check(oh_buffers_t *buffers, const oh_cuda_t *cuda, CUstream stream, const char *name,
                                 const void *ptr, size_t bytes);

#endif
