/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Buffers that the ranks have registered, so that kernels read and write those of all ranks; and the memory that
 * onehop_alloc gave.
 *
 * Registration is collective, so all ranks number theirs alike: 1, 2, ... over the life of the communicator. Number n
 * has row (n-1) % OH_GPU_REGISTRATIONS of this rank's table, where this rank's kernels look it up.
 * Ranks tell one another in which registration their buffers lie, and how deep (a *place*, arena/device_layout.h): so
 * the buffers of one call may lie in different registrations on different ranks.
 *
 * A row is filled before a place in it is given to any kernel, and emptied when no kernel that was launched before is
 * under way on any rank. A graph that captured a place finds the row empty later, or with another number: then its
 * kernels know that the buffer is no longer registered, and go through the workspace.
 */
#ifndef OH_BACKEND_CUDA_REGISTRY_H
#define OH_BACKEND_CUDA_REGISTRY_H

#include "arena/device_layout.h"
#include "arena/device_share.h"

typedef struct oh_gpu_registration {
    unsigned char *ptr;
    size_t bytes;
    uint64_t number;
    oh_device_shared_t shared;
} oh_gpu_registration_t;

typedef struct oh_gpu_registry {
    oh_device_maps_t maps;
    CUdeviceptr table; /* oh_registered_t[OH_GPU_REGISTRATIONS]; made for the first registration */
    uint64_t last;     /* number */
    size_t last_hit;   /* where the last look-up succeeded: programs use few buffers in turn */
    oh_gpu_registration_t *rows[OH_GPU_REGISTRATIONS]; /* NULL: free */
    size_t used;                                       /* no row from here on is in use */
    void **allocations;
    size_t allocation_count, allocation_capacity;
} oh_gpu_registry_t;

void oh_gpu_registry_open(oh_gpu_registry_t *registry, const oh_cuda_t *cuda, CUdevice device,
                          oh_bootstrap_t *bootstrap);
void oh_gpu_registry_close(oh_gpu_registry_t *registry);

/* The context is current in all of these. */
onehop_result_t oh_gpu_registry_alloc(oh_gpu_registry_t *registry, size_t bytes, void **ptr);
onehop_result_t oh_gpu_registry_free(oh_gpu_registry_t *registry, void *ptr);

/*
 * Collective; the second waits until this rank's GPU is idle. A failure that leaves the ranks in step (a buffer that
 * will not do, on any rank) sets *broken to false; any other breaks the communicator. Memory that cannot be shared is
 * registered all the same, but has no place.
 */
onehop_result_t oh_gpu_registry_add(oh_gpu_registry_t *registry, const oh_patience_t *patience, void *ptr, size_t bytes,
                                    bool *broken);
onehop_result_t oh_gpu_registry_remove(oh_gpu_registry_t *registry, const oh_patience_t *patience, void *ptr,
                                       bool *broken);

/* The place of [ptr, ptr + bytes), if it lies in one registration; else 0. */
uint64_t oh_gpu_registry_find(oh_gpu_registry_t *registry, const void *ptr, size_t bytes);

#endif
