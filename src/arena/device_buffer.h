/* SPDX-License-Identifier: Apache-2.0 */
/* What a buffer that the caller brings is made of: how its memory can travel to other ranks, or why it cannot. */
#ifndef OH_ARENA_DEVICE_BUFFER_H
#define OH_ARENA_DEVICE_BUFFER_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "driver/cuda.h"

typedef enum oh_device_kind {
    OH_DEVICE_PLAIN,  /* of cuMemAlloc: travels as an IPC handle, and in one process by its address */
    OH_DEVICE_PIECES, /* VMM: mappings side by side, of which each travels as a descriptor */
    OH_DEVICE_APART   /* stays where it is */
} oh_device_kind_t;

/* One mapping of VMM memory. */
typedef struct oh_device_piece {
    uint64_t bytes;
    uint64_t id; /* of the memory behind it, in its process; 0: not known */
} oh_device_piece_t;

enum { OH_DEVICE_REASON = 200 };

typedef struct oh_device_buffer {
    oh_device_kind_t kind;
    CUdeviceptr base;              /* of the allocation or the first piece; the buffer may begin later */
    uint64_t id;                   /* PLAIN: of the allocation, never given again in this process */
    CUcontext context;             /* PLAIN: that it was allocated in */
    oh_device_piece_t *pieces;     /* PIECES: those that the buffer lies in */
    size_t piece_count;            /* PIECES */
    char reason[OH_DEVICE_REASON]; /* APART: why */
} oh_device_buffer_t;

/*
 * Looks at [ptr, ptr + bytes), which this rank's GPU holds. INVALID_ARGUMENT: it does not, or not all of it. The
 * device's context is current. *out is to be forgotten whatever comes of it.
 */
onehop_result_t oh_device_buffer_find(const oh_cuda_t *cuda, CUdevice device, const void *ptr, size_t bytes,
                                      oh_device_buffer_t *out);

/* Nothing to do for a buffer of zeros. */
void oh_device_buffer_forget(oh_device_buffer_t *buffer);

#endif
