/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CUDA backend: ranks are GPUs that reach one another's memory.
 *
 *   cuda.c       an operation, and what the backend offers to the library
 *   open.c       how it begins and ends: driver, topology, workspace, mailboxes
 *   kernels.c    the kernels of a data type and operation, compiled and loaded when first used
 *   registry.c   buffers that are registered, and memory that onehop_alloc gave
 *   watch.c      a thread that tells the host of what kernels report, and the kernels of what happened to a peer
 *   buffers.c    whether the GPU reaches a buffer
 *   order.c      operations follow one another, whatever streams they are put into
 *   jit, compile, cache    from source to machine code
 *
 * The work is done by src/kernels; how ranks keep in step is told there (team.h, packet.h, page.h).
 *
 * FAULTS. Each rank shares one page of the host's memory with its peers (arena.h), as on the host, and its GPU sees
 * that page. A kernel that waits too long reports there, and ends; the watcher makes it a fault of all ranks. Whoever
 * raises a fault poisons all pages (arena/fault.h), and waiting kernels look at their page's poison.
 */
#ifndef OH_BACKEND_CUDA_CUDA_H
#define OH_BACKEND_CUDA_CUDA_H

#include <pthread.h>
#include <stdatomic.h>

#include "arena/arena.h"
#include "arena/device_arena.h"
#include "arena/device_sizes.h"
#include "backend/backend.h"
#include "backend/cuda/buffers.h"
#include "backend/cuda/jit.h"
#include "backend/cuda/order.h"
#include "backend/cuda/registry.h"
#include "base/dtype.h"
#include "select/device.h"
#include "select/tuning.h"
#include "topology/gpu.h"

enum { OH_PACKET_CHOICES = 3 }; /* 1, 2, 4 packets a thread */

/* NULL until it is compiled and loaded. */
typedef struct oh_gpu_kernel {
    CUmodule module;
    CUfunction function;
} oh_gpu_kernel_t;

/* The last two: for launches of several steps; and whether all units are whole and aligned (kernels/element.h). */
typedef oh_gpu_kernel_t oh_gpu_kernels_t[OH_DEVICE_ALGORITHMS][OH_PACKET_CHOICES][2][2];

typedef struct oh_gpu_backend {
    oh_backend_t backend;
    oh_config_t config;
    oh_bootstrap_t *bootstrap; /* not ours */
    int rank, nranks;

    oh_cuda_t cuda;
    CUdevice device;
    CUcontext context; /* the device's primary one, which frameworks use as well; NULL: not retained */
    oh_gpu_t gpus[ONEHOP_MAX_RANKS];
    int share;             /* most ranks on any one GPU */
    bool dependent_launch; /* the GPU has programmatic dependent launch, and to itself */

    oh_device_forced_t forced;
    oh_device_tuning_t tuning;
    oh_device_sizes_t sizes;
    oh_device_arena_t workspace;
    oh_arena_t control; /* a page of each rank */
    bool control_registered;
    oh_faults_t faults;
    oh_kernel_args_t args; /* what is the same in all launches */
    oh_buffers_t buffers;
    oh_order_t order;
    oh_gpu_registry_t registry;

    oh_jit_t *jit;
    oh_gpu_kernels_t kernels[OH_DTYPES][OH_OPS];
    double compile_ms; /* what the first use of types has cost so far */

    _Atomic uint64_t operations; /* launches of all-reduces, captured ones too */

    pthread_t watcher;
    pthread_mutex_t mutex; /* guards `stop` */
    pthread_cond_t wake;
    bool watching, stop;
} oh_gpu_backend_t;

/* What the choice for a message depends on. */
oh_device_question_t oh_gpu_question(const oh_gpu_backend_t *gpu, size_t count, onehop_dtype_t dtype, onehop_op_t op);

/*
 * Compiles and loads a kernel, and along with it, the first time, all that messages of (dtype, op) need. The context is
 * current. Legal during a capture. May wait until the GPU is idle. Collective where ranks share a GPU.
 */
onehop_result_t oh_gpu_kernels_load(oh_gpu_backend_t *gpu, onehop_dtype_t dtype, onehop_op_t op,
                                    oh_device_kernel_t wanted);
void oh_gpu_kernels_unload(oh_gpu_backend_t *gpu);

/* A kernel's two forms: for any unit, and for whole ones. */
static inline oh_gpu_kernel_t *oh_gpu_kernel_forms(oh_gpu_kernels_t kernels, oh_device_kernel_t kernel) {
    int choice = kernel.packets == 1 ? 0 : kernel.packets == 2 ? 1 : 2;
    return kernels[kernel.algorithm][choice][kernel.many];
}

onehop_result_t oh_gpu_watch_begin(oh_gpu_backend_t *gpu);
void oh_gpu_watch_end(oh_gpu_backend_t *gpu);

/* Looks once for reports of kernels and for dead peers; breaks the communicator if there are any. Any thread. */
onehop_result_t oh_gpu_look(oh_gpu_backend_t *gpu, const char *when);

extern const oh_backend_ops_t oh_gpu_ops;
void oh_gpu_close(oh_backend_t *backend, bool forked);

/*
 * The backend's context on this thread, for the time of a call: *pushed tells leave what to undo. Nothing to do where
 * it is current already.
 */
onehop_result_t oh_gpu_enter(oh_gpu_backend_t *gpu, bool *pushed);
void oh_gpu_leave(oh_gpu_backend_t *gpu, bool pushed);

#endif
