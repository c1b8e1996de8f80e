/* SPDX-License-Identifier: Apache-2.0 */
#include "arena/device_buffer.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

/* What is asked, in the order of the attributes in ask(). The driver writes 1 to 8 bytes of each: zeros make up the
 * rest. */
typedef struct facts {
    uint64_t type, managed, device, context, ipc, handle_types, pool, id;
} facts_t;

/* Of an address that it does not know, the driver says that its type is 0. */
static onehop_result_t ask(const oh_cuda_t *cuda, CUdeviceptr address, facts_t *facts) {
    CUpointer_attribute attributes[] = {
        CU_POINTER_ATTRIBUTE_MEMORY_TYPE,
        CU_POINTER_ATTRIBUTE_IS_MANAGED,
        CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL,
        CU_POINTER_ATTRIBUTE_CONTEXT,
        CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE,
        CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES,
        CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE,
        CU_POINTER_ATTRIBUTE_BUFFER_ID,
    };
    void *values[] = {&facts->type, &facts->managed,      &facts->device, &facts->context,
                      &facts->ipc,  &facts->handle_types, &facts->pool,   &facts->id};
    *facts = (facts_t){0};
    CUresult code = cuda->cuPointerGetAttributes(sizeof attributes / sizeof *attributes, attributes, values, address);
    return oh_cuda_check(cuda, code, "cannot ask what the memory at %p is", (void *)(uintptr_t)address);
}

static onehop_result_t check_place(CUdevice device, CUdeviceptr address, const facts_t *facts) {
    const void *at = (const void *)(uintptr_t)address;
    if (facts->type == 0) {
        return oh_fail(ONEHOP_INVALID_ARGUMENT, "ptr %p: expected memory of GPU %d, the CUDA driver knows none there",
                       at, device);
    }
    if (facts->type != CU_MEMORYTYPE_DEVICE && !facts->managed) {
        return oh_fail(ONEHOP_INVALID_ARGUMENT, "ptr %p: expected memory of GPU %d, this is memory of the host", at,
                       device);
    }
    if ((CUdevice)facts->device != device) {
        return oh_fail(ONEHOP_INVALID_ARGUMENT, "ptr %p: expected memory of GPU %d, this is memory of GPU %d", at,
                       device, (CUdevice)facts->device);
    }
    return ONEHOP_SUCCESS;
}

/* Whether cuMemMap put it there: such memory may go on in the next mapping. */
static bool is_mapping(CUdevice device, const facts_t *facts) {
    return facts->type == CU_MEMORYTYPE_DEVICE && (CUdevice)facts->device == device && !facts->managed &&
           facts->pool == 0 && !facts->ipc;
}

/* What keeps memory where it is; NULL if nothing does. */
static const char *find_obstacle(const facts_t *facts) {
    if (facts->managed) return "managed memory (cudaMallocManaged) cannot be shared";
    if (facts->pool != 0) return "memory of a stream-ordered pool (cudaMallocAsync) cannot be shared";
    if (facts->ipc || facts->handle_types & CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR) return NULL;
    return "memory can be shared only if it was created with CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR";
}

static onehop_result_t add_piece(const oh_cuda_t *cuda, CUdeviceptr base, size_t bytes, oh_device_buffer_t *buffer) {
    size_t count = buffer->piece_count;
    if ((count & (count - 1)) == 0) { /* full at every power of two */
        oh_device_piece_t *grown = realloc(buffer->pieces, (count == 0 ? 1 : 2 * count) * sizeof *grown);
        if (grown == NULL) return oh_fail(ONEHOP_OUT_OF_MEMORY, "out of memory");
        buffer->pieces = grown;
    }
    unsigned long long id = 0;
    CUresult code = cuda->cuPointerGetAttribute(&id, CU_POINTER_ATTRIBUTE_MEMORY_BLOCK_ID, base);
    buffer->pieces[buffer->piece_count++] = (oh_device_piece_t){.bytes = bytes, .id = code == CUDA_SUCCESS ? id : 0};
    return ONEHOP_SUCCESS;
}

/* One allocation or mapping that the buffer lies in. */
static onehop_result_t add_stretch(const oh_cuda_t *cuda, CUdeviceptr base, size_t bytes, const facts_t *facts,
                                   oh_device_buffer_t *buffer) {
    const char *obstacle = find_obstacle(facts);
    if (obstacle != NULL) {
        buffer->kind = OH_DEVICE_APART;
        snprintf(buffer->reason, sizeof buffer->reason, "%s", obstacle);
    }
    return buffer->kind == OH_DEVICE_PIECES ? add_piece(cuda, base, bytes, buffer) : ONEHOP_SUCCESS;
}

static onehop_result_t find(const oh_cuda_t *cuda, CUdevice device, CUdeviceptr start, size_t bytes,
                            oh_device_buffer_t *buffer) {
    facts_t facts;
    OH_TRY(ask(cuda, start, &facts));
    OH_TRY(check_place(device, start, &facts));
    buffer->kind = facts.ipc ? OH_DEVICE_PLAIN : OH_DEVICE_PIECES;
    buffer->id = facts.id;
    buffer->context = (CUcontext)(uintptr_t)facts.context;
    for (CUdeviceptr at = start;;) {
        CUdeviceptr base;
        size_t length;
        CUresult code = cuda->cuMemGetAddressRange(&base, &length, at);
        OH_TRY(oh_cuda_check(cuda, code, "cannot ask for the allocation of GPU memory"));
        if (at == start) buffer->base = base;
        OH_TRY(add_stretch(cuda, base, length, &facts, buffer));
        at = base + length;
        if (at - start >= bytes) return ONEHOP_SUCCESS;
        bool mapping = is_mapping(device, &facts);
        if (mapping) OH_TRY(ask(cuda, at, &facts));
        if (!mapping || !is_mapping(device, &facts)) {
            return oh_fail(ONEHOP_INVALID_ARGUMENT, "ptr %p, bytes %zu: the memory there ends after %llu bytes",
                           (void *)(uintptr_t)start, bytes, at - start);
        }
    }
}

onehop_result_t oh_device_buffer_find(const oh_cuda_t *cuda, CUdevice device, const void *ptr, size_t bytes,
                                      oh_device_buffer_t *out) {
    *out = (oh_device_buffer_t){0};
    if (ptr == NULL) return oh_fail(ONEHOP_INVALID_ARGUMENT, "ptr is NULL: expected a buffer");
    if (bytes == 0 || bytes > PTRDIFF_MAX) {
        return oh_fail(ONEHOP_INVALID_ARGUMENT, "bytes is %zu: expected 1 to %td", bytes, PTRDIFF_MAX);
    }
    return find(cuda, device, (uintptr_t)ptr, bytes, out);
}

void oh_device_buffer_forget(oh_device_buffer_t *buffer) {
    free(buffer->pieces);
    *buffer = (oh_device_buffer_t){0};
}
