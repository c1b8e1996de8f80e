/* SPDX-License-Identifier: Apache-2.0 */
/* How the workspace of a GPU is divided: what arena/device_layout.h leaves to the size of the machine. */
#ifndef OH_ARENA_DEVICE_SIZES_H
#define OH_ARENA_DEVICE_SIZES_H

#include <stddef.h>

#include "arena/device_layout.h"

/* Kernels are compiled for it. */
typedef struct oh_device_sizes {
    int teams;           /* most that a launch can have */
    int ring;            /* slots of a ring: 4 or 8 */
    int packets;         /* from one peer to one team in one slot, one a thread: a multiple of 32 */
    size_t packet_bytes; /* all slots of both rings */
    size_t pages_at;     /* where the pages begin, and the notices end */
    size_t page_bytes;   /* of one team */
    size_t total;        /* at most the workspace that was asked for */
} oh_device_sizes_t;

/* workspace_bytes is at least OH_WORKSPACE_MIN; nranks 1 to OH_GPU_RANKS. A pure function: all ranks compute the same.
 */
oh_device_sizes_t oh_device_sizes_make(size_t workspace_bytes, int nranks, int multiprocessors);

#endif
