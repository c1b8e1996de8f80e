/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Symmetric memory on GPUs: every rank gives one piece of the same size, every rank's GPU sees all of them. Which GPUs
 * reach one another is topology/gpu.h's business, and is asked first.
 *
 *   VMM   physical memory, made by its owner, travels as a descriptor, and is mapped by every rank for its own GPU. It
 *         lives until the last rank has unmapped it.
 *   IPC   memory of cuMemAlloc travels as a handle. Ranks of one process, which cannot open handles of their own, use
 *         one another's addresses, and the last of them frees. Between processes the owner's memory goes when the owner
 *         closes, so no kernel of a peer may use it then.
 *
 * Ranks of one process that share by VMM each have mappings of their own, even on one GPU; by IPC all have one.
 */
#ifndef OH_ARENA_DEVICE_ARENA_H
#define OH_ARENA_DEVICE_ARENA_H

#include "bootstrap/bootstrap.h"
#include "driver/cuda.h"

typedef struct oh_device_arena {
    int nranks;
    size_t bytes;                       /* of each piece, as asked for */
    oh_share_t share;                   /* how it is shared: VMM or IPC */
    CUdeviceptr base[ONEHOP_MAX_RANKS]; /* rank r's piece, as this rank's GPU sees it */

    /* What close needs to know. */
    int rank;
    size_t mapped;                                     /* VMM: bytes of each mapping */
    CUdeviceptr opened[ONEHOP_MAX_RANKS];              /* IPC: what the handle of rank r stands for */
    struct oh_device_memory *memory[ONEHOP_MAX_RANKS]; /* IPC in one process: rank r's memory and its users */
} oh_device_arena_t;

/*
 * Collective: fails on all ranks or on none, but for a rank that the others cannot hear. Zeroed memory of `bytes` on
 * this rank's GPU, seen by all ranks' GPUs. The primary context of `device` is current. All ranks pass the same bytes
 * and `wanted`. AUTO is VMM where every rank's GPU and driver can, else IPC; what is forced and not possible is
 * UNSUPPORTED.
 */
onehop_result_t oh_device_arena_open(const oh_cuda_t *cuda, CUdevice device, oh_bootstrap_t *bootstrap, size_t bytes,
                                     oh_share_t wanted, const oh_patience_t *patience, oh_device_arena_t *arena);

/* The same context is current, and no kernel of this rank uses the memory any more. Never waits for peers. */
void oh_device_arena_close(const oh_cuda_t *cuda, oh_device_arena_t *arena);

#endif
