/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One piece of GPU memory that others can map: made, handed out, taken in. What one rank does alone; device_arena.c
 * and device_share.c do the exchanges. The device's context is current. UNSUPPORTED is what the driver says it does not
 * offer or permit. Every function leaves nothing behind when it fails.
 */
#ifndef OH_ARENA_DEVICE_MEMORY_H
#define OH_ARENA_DEVICE_MEMORY_H

#include "base/status.h"
#include "driver/cuda.h"

/* ---- VMM: memory by descriptor. `bytes` are a multiple of the granularity. ---- */

/* UNSUPPORTED if this GPU's memory cannot travel as a descriptor. */
onehop_result_t oh_device_vmm_granularity(const oh_cuda_t *cuda, CUdevice device, size_t *granularity);

/* New zeroed memory, mapped at *base, and its descriptor, which is the caller's to close. */
onehop_result_t oh_device_vmm_create(const oh_cuda_t *cuda, CUdevice device, size_t bytes, CUdeviceptr *base, int *fd);

/* Maps the memory behind a descriptor, which stays the caller's. */
onehop_result_t oh_device_vmm_map(const oh_cuda_t *cuda, CUdevice device, int fd, size_t bytes, CUdeviceptr *base);

/* The memory goes with its last mapping. */
void oh_device_vmm_unmap(const oh_cuda_t *cuda, CUdeviceptr base, size_t bytes);

/* A descriptor, the caller's to close, of the one piece of memory that is mapped at `address`. */
onehop_result_t oh_device_vmm_export(const oh_cuda_t *cuda, CUdeviceptr address, int *fd);

/* Several pieces side by side: addresses for all, each piece placed there, then access to all at once. */
onehop_result_t oh_device_vmm_reserve(const oh_cuda_t *cuda, size_t bytes, CUdeviceptr *base);
onehop_result_t oh_device_vmm_place(const oh_cuda_t *cuda, int fd, size_t bytes, CUdeviceptr base);
onehop_result_t oh_device_vmm_allow(const oh_cuda_t *cuda, CUdevice device, CUdeviceptr base, size_t bytes);

/* ---- IPC: memory of cuMemAlloc ---- */

/* New zeroed memory, for cuMemFree. */
onehop_result_t oh_device_allocate(const oh_cuda_t *cuda, size_t bytes, CUdeviceptr *base);

/* What another process needs to open it: plain data. A handle stands for the whole allocation that holds the memory. */
typedef struct oh_device_handle {
    CUipcMemHandle handle;
    unsigned long long offset; /* of the memory in its allocation */
} oh_device_handle_t;

onehop_result_t oh_device_ipc_export(const oh_cuda_t *cuda, CUdeviceptr base, oh_device_handle_t *out);

/* *opened is for cuIpcCloseMemHandle; the memory begins at *base. */
onehop_result_t oh_device_ipc_open(const oh_cuda_t *cuda, const oh_device_handle_t *handle, CUdeviceptr *opened,
                                   CUdeviceptr *base);

/* Lets the current context use addresses of `peer`, a context on another GPU. */
onehop_result_t oh_device_enable_access(const oh_cuda_t *cuda, CUcontext peer);

#endif
