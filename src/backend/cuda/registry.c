/* SPDX-License-Identifier: Apache-2.0 */
#include "backend/cuda/registry.h"

#include <stdlib.h>

#include "base/status.h"
#include "bootstrap/agree.h"

void oh_gpu_registry_open(oh_gpu_registry_t *registry, const oh_cuda_t *cuda, CUdevice device,
                          oh_bootstrap_t *bootstrap) {
    *registry = (oh_gpu_registry_t){.table = 0};
    oh_device_maps_open(cuda, device, bootstrap, &registry->maps);
}

/* ---- memory of our own ---- */

static onehop_result_t allocate(const oh_cuda_t *cuda, size_t bytes, CUdeviceptr *address) {
    OH_TRY(oh_cuda_check(cuda, cuda->cuMemAlloc(address, bytes), "cannot allocate %zu bytes on the GPU", bytes));
    onehop_result_t result = oh_cuda_check(cuda, cuda->cuMemsetD8(*address, 0, bytes), "cannot clear %zu bytes", bytes);
    if (result != ONEHOP_SUCCESS) cuda->cuMemFree(*address);
    return result;
}

static onehop_result_t make_room(oh_gpu_registry_t *registry) {
    if (registry->allocation_count < registry->allocation_capacity) return ONEHOP_SUCCESS;
    size_t capacity = 2 * registry->allocation_capacity + 8;
    void **larger = realloc(registry->allocations, capacity * sizeof *larger);
    if (larger == NULL) return oh_fail(ONEHOP_OUT_OF_MEMORY, "out of memory");
    registry->allocations = larger;
    registry->allocation_capacity = capacity;
    return ONEHOP_SUCCESS;
}

onehop_result_t oh_gpu_registry_alloc(oh_gpu_registry_t *registry, size_t bytes, void **ptr) {
    CUdeviceptr address;
    OH_TRY(make_room(registry));
    OH_TRY(allocate(registry->maps.cuda, bytes, &address));
    *ptr = registry->allocations[registry->allocation_count++] = (void *)(uintptr_t)address;
    return ONEHOP_SUCCESS;
}

/* The registration that begins at ptr; NULL: there is none. */
static oh_gpu_registration_t *begins_at(const oh_gpu_registry_t *registry, const void *ptr) {
    for (size_t i = 0; i < registry->used; i++) {
        if (registry->rows[i] != NULL && registry->rows[i]->ptr == ptr) return registry->rows[i];
    }
    return NULL;
}

onehop_result_t oh_gpu_registry_free(oh_gpu_registry_t *registry, void *ptr) {
    const oh_cuda_t *cuda = registry->maps.cuda;
    size_t index = 0;
    while (index < registry->allocation_count && registry->allocations[index] != ptr) index++;
    if (index == registry->allocation_count) {
        return oh_fail(ONEHOP_INVALID_ARGUMENT, "ptr %p: expected what onehop_alloc of this communicator gave", ptr);
    }
    if (begins_at(registry, ptr) != NULL) {
        return oh_fail(ONEHOP_INVALID_ARGUMENT, "ptr %p is registered: deregister it first", ptr);
    }
    OH_TRY(oh_cuda_check(cuda, cuda->cuMemFree((CUdeviceptr)(uintptr_t)ptr), "cannot free %p", ptr));
    registry->allocations[index] = registry->allocations[--registry->allocation_count];
    return ONEHOP_SUCCESS;
}

void oh_gpu_registry_close(oh_gpu_registry_t *registry) {
    const oh_cuda_t *cuda = registry->maps.cuda;
    if (cuda == NULL) return;
    for (size_t i = 0; i < registry->used; i++) {
        if (registry->rows[i] != NULL) oh_device_unshare(&registry->maps, &registry->rows[i]->shared);
        free(registry->rows[i]);
    }
    oh_device_maps_close(&registry->maps);
    for (size_t i = 0; i < registry->allocation_count; i++) {
        cuda->cuMemFree((CUdeviceptr)(uintptr_t)registry->allocations[i]);
    }
    if (registry->table != 0) cuda->cuMemFree(registry->table);
    free(registry->allocations);
    *registry = (oh_gpu_registry_t){0};
}

/* ---- the table ---- */

static size_t row_of(uint64_t number) { return (size_t)((number - 1) % OH_GPU_REGISTRATIONS); }

static onehop_result_t make_table(oh_gpu_registry_t *registry) {
    const oh_cuda_t *cuda = registry->maps.cuda;
    CUdeviceptr table;
    CUstreamCaptureMode mode;
    if (registry->table != 0) return ONEHOP_SUCCESS;
    OH_TRY(oh_cuda_step_out(cuda, &mode));
    onehop_result_t result = allocate(cuda, OH_GPU_REGISTRATIONS * sizeof(oh_registered_t), &table);
    oh_cuda_step_in(cuda, mode);
    if (result == ONEHOP_SUCCESS) registry->table = table;
    return result;
}

/* This rank's kernels that are under way have no place in the row. */
static onehop_result_t write_row(const oh_gpu_registry_t *registry, size_t row, const oh_registered_t *content) {
    const oh_cuda_t *cuda = registry->maps.cuda;
    CUstreamCaptureMode mode;
    OH_TRY(oh_cuda_step_out(cuda, &mode));
    CUresult code = cuda->cuMemcpyHtoD(registry->table + row * sizeof *content, content, sizeof *content);
    oh_cuda_step_in(cuda, mode);
    return oh_cuda_check(cuda, code, "cannot write down a registration");
}

static onehop_result_t fill_row(const oh_gpu_registry_t *registry, const oh_gpu_registration_t *made) {
    oh_registered_t content = {.place = OH_PLACE(made->number, 0)};
    for (int r = 0; r < made->shared.nranks; r++) content.address[r] = made->shared.base[r];
    return write_row(registry, row_of(made->number), &content);
}

/* The next number whose row is free; 0: there is none. The same on all ranks. */
static uint64_t next_number(const oh_gpu_registry_t *registry) {
    for (uint64_t n = registry->last + 1; n <= registry->last + OH_GPU_REGISTRATIONS; n++) {
        if (registry->rows[row_of(n)] == NULL) return n;
    }
    return 0;
}

/* ---- registration ---- */

/* Failures that all ranks have alike, from an exchange that came to its end. */
static bool in_step(onehop_result_t result) {
    return result == ONEHOP_INVALID_ARGUMENT || result == ONEHOP_UNSUPPORTED || result == ONEHOP_OUT_OF_MEMORY ||
           result == ONEHOP_CUDA_ERROR;
}

static onehop_result_t check_own(oh_gpu_registry_t *registry, const void *ptr, const void *made) {
    if (made == NULL) return oh_fail(ONEHOP_OUT_OF_MEMORY, "out of memory");
    if (begins_at(registry, ptr) == NULL) return make_table(registry);
    return oh_fail(ONEHOP_INVALID_ARGUMENT, "ptr %p is registered already: deregister it first", ptr);
}

static onehop_result_t enter(oh_gpu_registry_t *registry, const oh_patience_t *patience, oh_gpu_registration_t *made,
                             uint64_t number, void *ptr, size_t bytes) {
    onehop_result_t verdict;
    OH_TRY(oh_agree(registry->maps.bootstrap, "register", check_own(registry, ptr, made), patience, &verdict));
    OH_TRY(verdict);
    *made = (oh_gpu_registration_t){.ptr = ptr, .bytes = bytes, .number = number};
    return oh_device_share(&registry->maps, ptr, bytes, patience, &made->shared);
}

onehop_result_t oh_gpu_registry_add(oh_gpu_registry_t *registry, const oh_patience_t *patience, void *ptr, size_t bytes,
                                    bool *broken) {
    const uint64_t number = next_number(registry);
    *broken = false;
    if (number == 0) {
        return oh_fail(ONEHOP_OUT_OF_MEMORY, "ptr is %p: %d buffers are registered, which is the most", ptr,
                       (int)OH_GPU_REGISTRATIONS);
    }
    oh_gpu_registration_t *made = calloc(1, sizeof *made);
    onehop_result_t result = enter(registry, patience, made, number, ptr, bytes);
    if (result != ONEHOP_SUCCESS) {
        *broken = !in_step(result);
    } else if (made->shared.direct) {
        result = fill_row(registry, made);
        *broken = result != ONEHOP_SUCCESS;
    }
    if (result != ONEHOP_SUCCESS) {
        if (made != NULL) oh_device_unshare(&registry->maps, &made->shared);
        free(made);
        return result;
    }
    registry->last = made->number;
    registry->rows[row_of(made->number)] = made;
    if (registry->used <= row_of(made->number)) registry->used = row_of(made->number) + 1;
    return ONEHOP_SUCCESS;
}

onehop_result_t oh_gpu_registry_remove(oh_gpu_registry_t *registry, const oh_patience_t *patience, void *ptr,
                                       bool *broken) {
    static const oh_registered_t none = {0};
    const oh_cuda_t *cuda = registry->maps.cuda;
    oh_gpu_registration_t *mine = ptr == NULL ? NULL : begins_at(registry, ptr);
    int64_t number = mine != NULL ? (int64_t)mine->number : OH_NO_REGISTRATION;
    *broken = true;
    if (mine != NULL) OH_TRY(oh_cuda_check(cuda, cuda->cuCtxSynchronize(), "cannot wait for the GPU"));
    OH_TRY(oh_agree_to_deregister(registry->maps.bootstrap, ptr, number, patience, broken));
    /* No kernel that was launched so far, on any rank, is under way any more. */
    *broken = true;
    if (mine->shared.direct) OH_TRY(write_row(registry, row_of(mine->number), &none));
    *broken = false;
    registry->rows[row_of(mine->number)] = NULL;
    oh_device_unshare(&registry->maps, &mine->shared);
    free(mine);
    return ONEHOP_SUCCESS;
}

/* ---- look-up ---- */

static bool contains(const oh_gpu_registration_t *made, const unsigned char *ptr, size_t bytes) {
    return made != NULL && made->shared.direct && ptr >= made->ptr && bytes <= made->bytes &&
           (size_t)(ptr - made->ptr) <= made->bytes - bytes;
}

uint64_t oh_gpu_registry_find(oh_gpu_registry_t *registry, const void *ptr, size_t bytes) {
    for (size_t n = 0; n < registry->used; n++) {
        size_t i = (registry->last_hit + n) % registry->used;
        const oh_gpu_registration_t *made = registry->rows[i];
        if (!contains(made, ptr, bytes)) continue;
        registry->last_hit = i;
        return OH_PLACE(made->number, (uint64_t)((const unsigned char *)ptr - made->ptr));
    }
    return 0;
}
