/* SPDX-License-Identifier: Apache-2.0 */
/* The ranks' GPUs: what each is, and whether all reach one another. */
#ifndef OH_TOPOLOGY_GPU_H
#define OH_TOPOLOGY_GPU_H

#include <stdint.h>

#include "bootstrap/bootstrap.h"
#include "driver/cuda.h"
#include "topology/topology.h"

enum { OH_GPU_NAME = 64, OH_PCI_ADDRESS = 16 };

/* Plain data: what a rank tells the others of its GPU. Texts are padded with zeros. */
typedef struct oh_gpu {
    unsigned char uuid[16];
    char name[OH_GPU_NAME];
    char address[OH_PCI_ADDRESS]; /* "0000:1b:00.0" on PCI */
    int32_t index;                /* among the GPUs that its process sees */
    int32_t major, minor;         /* compute capability */
    int32_t multiprocessors;
    int32_t driver; /* the newest CUDA that the driver knows: 13000 for 13.0 */
} oh_gpu_t;

onehop_result_t oh_gpu_describe(const oh_cuda_t *cuda, CUdevice device, oh_gpu_t *out);

/* Collective: gpus[r] receives rank r's. One that cannot be described is a failure of all ranks. */
onehop_result_t oh_gpu_gather(const oh_cuda_t *cuda, CUdevice device, oh_bootstrap_t *bootstrap,
                              const oh_patience_t *patience, oh_gpu_t *gpus);

/*
 * Collective, with what oh_gpu_gather gave. UNSUPPORTED on all ranks if two GPUs differ in compute capability, or if
 * one cannot read and write the memory of another. *links: NVLink, unless atomics do not reach from one GPU to another.
 * Ranks on one GPU need none, and a GPU that a process does not see is not asked about.
 */
onehop_result_t oh_gpu_check_access(const oh_cuda_t *cuda, CUdevice device, oh_bootstrap_t *bootstrap,
                                    const oh_patience_t *patience, const oh_gpu_t *gpus, oh_links_t *links);

/* The name that all of them have; NULL if they differ. */
const char *oh_gpu_name(const oh_gpu_t *gpus, int nranks);

/* The fewest multiprocessors of any: what all ranks can rely on. */
int oh_gpu_multiprocessors(const oh_gpu_t *gpus, int nranks);

#endif
