/* SPDX-License-Identifier: Apache-2.0 */
#include "backend/cuda/buffers.h"

#include <sys/uio.h>
#include <unistd.h>

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

static bool host_can_read(uintptr_t address) {
    char byte;
    const struct iovec here = {&byte, 1}, there = {(void *)address, 1};
    return process_vm_readv(getpid(), &here, 1, &there, 1, 0) == 1;
}

/* The driver knows memory that a graph allocates from the graph's first run on. Until then neither side can read it. */
static bool may_be_the_graphs(const oh_cuda_t *cuda, CUstream stream, uintptr_t address) {
    CUstreamCaptureStatus status;
    return cuda->cuStreamIsCapturing(stream, &status) == CUDA_SUCCESS && status == CU_STREAM_CAPTURE_STATUS_ACTIVE &&
           !host_can_read(address);
}

static bool reaches(oh_buffers_t *buffers, const oh_cuda_t *cuda, CUstream stream, uintptr_t address) {
    uintptr_t stretch = address / OH_BUFFER_STRETCH + 1, *known = &buffers->known[stretch % OH_BUFFERS_KNOWN];
    if (*known == stretch) return true;
    if (!ask(cuda, address)) return may_be_the_graphs(cuda, stream, address);
    *known = stretch;
    return true;
}

onehop_result_t oh_buffers_check(oh_buffers_t *buffers, const oh_cuda_t *cuda, CUstream stream, const char *name,
                                 const void *ptr, size_t bytes) {
    uintptr_t first = (uintptr_t)ptr;
    if (buffers->any || (reaches(buffers, cuda, stream, first) && reaches(buffers, cuda, stream, first + bytes - 1))) {
        return ONEHOP_SUCCESS;
    }
    return oh_fail(
        ONEHOP_INVALID_ARGUMENT,
        "%s is %p (%zu bytes): expected memory that the GPU reaches; for ordinary memory of the host, make the "
        "communicator with ONEHOP_DEVICE_HOST",
        name, ptr, bytes);
}
