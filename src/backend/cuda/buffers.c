/* SPDX-License-Identifier: Apache-2.0 */
#include "backend/cuda/buffers.h"

#include "base/status.h"

onehop_result_t oh_buffers_open(oh_buffers_t *buffers, const oh_cuda_t *cuda, CUdevice device) {
    int any = 0;
    *buffers = (oh_buffers_t){0};
    OH_TRY(oh_cuda_check(cuda, cuda->cuDeviceGetAttribute(&any, CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS, device),
                         "cannot ask whether the GPU reaches the host's memory"));
    buffers->any = any != 0;
    return ONEHOP_SUCCESS;
}

/* The driver knows all memory that GPUs reach by its address, pinned memory of the host included. */
static bool ask(const oh_cuda_t *cuda, uintptr_t address) {
    unsigned int type;
    return cuda->cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, (CUdeviceptr)address) == CUDA_SUCCESS;
}

static bool reaches(oh_buffers_t *buffers, const oh_cuda_t *cuda, uintptr_t address) {
    uintptr_t stretch = address / OH_BUFFER_STRETCH + 1, *known = &buffers->known[stretch % OH_BUFFERS_KNOWN];
    if (*known == stretch) return true;
    if (!ask(cuda, address)) return false;
    *known = stretch;
    return true;
}

onehop_result_t oh_buffers_check(oh_buffers_t *buffers, const oh_cuda_t *cuda, const char *name, const void *ptr,
                                 size_t bytes) {
    uintptr_t first = (uintptr_t)ptr;
    if (buffers->any || (reaches(buffers, cuda, first) && reaches(buffers, cuda, first + bytes - 1))) {
        return ONEHOP_SUCCESS;
    }
    return oh_fail(
        ONEHOP_INVALID_ARGUMENT,
        "%s is %p (%zu bytes): expected memory that the GPU reaches; for ordinary memory of the host, make the "
        "communicator with ONEHOP_DEVICE_HOST",
        name, ptr, bytes);
}
