/* SPDX-License-Identifier: Apache-2.0 */
#include "arena/device_memory.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

__attribute__((format(printf, 3, 4))) static onehop_result_t check(const oh_cuda_t *cuda, CUresult code,
                                                                   const char *format, ...) {
    if (code == CUDA_SUCCESS) return ONEHOP_SUCCESS;
    char sentence[160];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    onehop_result_t result = oh_cuda_check(cuda, code, "%s", sentence);
    bool refused = code == CUDA_ERROR_NOT_SUPPORTED || code == CUDA_ERROR_NOT_PERMITTED;
    return refused ? oh_fail(ONEHOP_UNSUPPORTED, "%s", onehop_last_error()) : result;
}

static onehop_result_t zero_on(const oh_cuda_t *cuda, CUdeviceptr base, size_t bytes, CUstream stream) {
    OH_TRY(check(cuda, cuda->cuMemsetD8Async(base, 0, bytes, stream), "cannot zero GPU memory"));
    return check(cuda, cuda->cuStreamSynchronize(stream), "cannot zero GPU memory");
}

/* On a stream of its own: what the caller has under way on others is not waited for. */
static onehop_result_t zero(const oh_cuda_t *cuda, CUdeviceptr base, size_t bytes) {
    CUstream stream;
    OH_TRY(check(cuda, cuda->cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING), "cannot create a stream"));
    onehop_result_t result = zero_on(cuda, base, bytes, stream);
    cuda->cuStreamDestroy(stream);
    return result;
}

/* ---- VMM ---- */

static CUmemAllocationProp properties_on(CUdevice device) {
    return (CUmemAllocationProp){
        .type = CU_MEM_ALLOCATION_TYPE_PINNED,
        .requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
        .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = device},
    };
}

static onehop_result_t require(const oh_cuda_t *cuda, CUdevice device, CUdevice_attribute attribute, const char *what) {
    int offered = 0;
    OH_TRY(check(cuda, cuda->cuDeviceGetAttribute(&offered, attribute, device), "cannot ask a GPU what it offers"));
    if (offered) return ONEHOP_SUCCESS;
    return oh_fail(ONEHOP_UNSUPPORTED, "GPU %d offers no %s", device, what);
}

onehop_result_t oh_device_vmm_granularity(const oh_cuda_t *cuda, CUdevice device, size_t *granularity) {
    OH_TRY(require(cuda, device, CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED,
                   "virtual memory management (VMM)"));
    OH_TRY(require(cuda, device, CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED,
                   "descriptors of its memory"));
    CUmemAllocationProp properties = properties_on(device);
    CUresult code = cuda->cuMemGetAllocationGranularity(granularity, &properties, CU_MEM_ALLOC_GRANULARITY_MINIMUM);
    return check(cuda, code, "cannot ask for the granularity of GPU memory");
}

onehop_result_t oh_device_vmm_reserve(const oh_cuda_t *cuda, size_t bytes, CUdeviceptr *base) {
    CUresult code = cuda->cuMemAddressReserve(base, bytes, 0, 0, 0);
    return check(cuda, code, "cannot reserve addresses for GPU memory");
}

onehop_result_t oh_device_vmm_allow(const oh_cuda_t *cuda, CUdevice device, CUdeviceptr base, size_t bytes) {
    const CUmemAccessDesc access = {
        .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = device},
        .flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE,
    };
    return check(cuda, cuda->cuMemSetAccess(base, bytes, &access, 1), "cannot give a GPU access to mapped memory");
}

static onehop_result_t place(const oh_cuda_t *cuda, CUmemGenericAllocationHandle handle, size_t bytes,
                             CUdeviceptr base) {
    return check(cuda, cuda->cuMemMap(base, bytes, 0, handle, 0), "cannot map GPU memory");
}

static onehop_result_t map_at(const oh_cuda_t *cuda, CUdevice device, CUmemGenericAllocationHandle handle, size_t bytes,
                              CUdeviceptr base) {
    OH_TRY(place(cuda, handle, bytes, base));
    onehop_result_t result = oh_device_vmm_allow(cuda, device, base, bytes);
    if (result != ONEHOP_SUCCESS) cuda->cuMemUnmap(base, bytes);
    return result;
}

static onehop_result_t map_anywhere(const oh_cuda_t *cuda, CUdevice device, CUmemGenericAllocationHandle handle,
                                    size_t bytes, CUdeviceptr *out) {
    CUdeviceptr base;
    OH_TRY(oh_device_vmm_reserve(cuda, bytes, &base));
    onehop_result_t result = map_at(cuda, device, handle, bytes, base);
    if (result != ONEHOP_SUCCESS) {
        cuda->cuMemAddressFree(base, bytes);
        return result;
    }
    *out = base;
    return ONEHOP_SUCCESS;
}

static onehop_result_t export_handle(const oh_cuda_t *cuda, CUmemGenericAllocationHandle handle, int *fd) {
    CUresult code = cuda->cuMemExportToShareableHandle(fd, handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0);
    return check(cuda, code, "cannot export GPU memory as a descriptor");
}

static onehop_result_t zero_and_export(const oh_cuda_t *cuda, CUmemGenericAllocationHandle handle, CUdeviceptr base,
                                       size_t bytes, int *fd) {
    OH_TRY(zero(cuda, base, bytes));
    return export_handle(cuda, handle, fd);
}

onehop_result_t oh_device_vmm_create(const oh_cuda_t *cuda, CUdevice device, size_t bytes, CUdeviceptr *base, int *fd) {
    CUmemGenericAllocationHandle handle;
    CUmemAllocationProp properties = properties_on(device);
    OH_TRY(
        check(cuda, cuda->cuMemCreate(&handle, bytes, &properties, 0), "cannot create %zu bytes of GPU memory", bytes));
    CUdeviceptr mapped = 0;
    onehop_result_t result = map_anywhere(cuda, device, handle, bytes, &mapped);
    if (result == ONEHOP_SUCCESS) {
        result = zero_and_export(cuda, handle, mapped, bytes, fd);
        if (result != ONEHOP_SUCCESS) oh_device_vmm_unmap(cuda, mapped, bytes);
    }
    cuda->cuMemRelease(handle);
    if (result == ONEHOP_SUCCESS) *base = mapped;
    return result;
}

static onehop_result_t import_handle(const oh_cuda_t *cuda, int fd, CUmemGenericAllocationHandle *handle) {
    /* The driver takes the descriptor's number in place of a pointer. */
    void *descriptor = (void *)(intptr_t)fd;
    CUresult code = cuda->cuMemImportFromShareableHandle(handle, descriptor, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
    return check(cuda, code, "cannot import a peer's GPU memory");
}

onehop_result_t oh_device_vmm_map(const oh_cuda_t *cuda, CUdevice device, int fd, size_t bytes, CUdeviceptr *base) {
    CUmemGenericAllocationHandle handle;
    OH_TRY(import_handle(cuda, fd, &handle));
    onehop_result_t result = map_anywhere(cuda, device, handle, bytes, base);
    cuda->cuMemRelease(handle);
    return result;
}

onehop_result_t oh_device_vmm_place(const oh_cuda_t *cuda, int fd, size_t bytes, CUdeviceptr base) {
    CUmemGenericAllocationHandle handle;
    OH_TRY(import_handle(cuda, fd, &handle));
    onehop_result_t result = place(cuda, handle, bytes, base);
    cuda->cuMemRelease(handle);
    return result;
}

onehop_result_t oh_device_vmm_export(const oh_cuda_t *cuda, CUdeviceptr address, int *fd) {
    CUmemGenericAllocationHandle handle;
    CUresult code = cuda->cuMemRetainAllocationHandle(&handle, (void *)(uintptr_t)address);
    OH_TRY(check(cuda, code, "cannot find what backs GPU memory"));
    onehop_result_t result = export_handle(cuda, handle, fd);
    cuda->cuMemRelease(handle);
    return result;
}

void oh_device_vmm_unmap(const oh_cuda_t *cuda, CUdeviceptr base, size_t bytes) {
    cuda->cuMemUnmap(base, bytes);
    cuda->cuMemAddressFree(base, bytes);
}

/* ---- IPC ---- */

onehop_result_t oh_device_allocate(const oh_cuda_t *cuda, size_t bytes, CUdeviceptr *out) {
    CUdeviceptr base;
    OH_TRY(check(cuda, cuda->cuMemAlloc(&base, bytes), "cannot allocate %zu bytes of GPU memory", bytes));
    onehop_result_t result = zero(cuda, base, bytes);
    if (result != ONEHOP_SUCCESS) {
        cuda->cuMemFree(base);
        return result;
    }
    *out = base;
    return ONEHOP_SUCCESS;
}

onehop_result_t oh_device_ipc_export(const oh_cuda_t *cuda, CUdeviceptr base, oh_device_handle_t *out) {
    CUdeviceptr allocation;
    size_t bytes;
    memset(out, 0, sizeof *out);
    OH_TRY(check(cuda, cuda->cuIpcGetMemHandle(&out->handle, base), "cannot get an IPC handle of GPU memory"));
    OH_TRY(check(cuda, cuda->cuMemGetAddressRange(&allocation, &bytes, base),
                 "cannot ask for the allocation of GPU memory"));
    out->offset = base - allocation;
    return ONEHOP_SUCCESS;
}

onehop_result_t oh_device_ipc_open(const oh_cuda_t *cuda, const oh_device_handle_t *handle, CUdeviceptr *opened,
                                   CUdeviceptr *base) {
    CUdeviceptr allocation;
    CUresult code = cuda->cuIpcOpenMemHandle(&allocation, handle->handle, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS);
    OH_TRY(check(cuda, code, "cannot open the IPC handle of a peer's GPU memory"));
    *opened = allocation;
    *base = allocation + handle->offset;
    return ONEHOP_SUCCESS;
}

onehop_result_t oh_device_enable_access(const oh_cuda_t *cuda, CUcontext peer) {
    CUresult code = cuda->cuCtxEnablePeerAccess(peer, 0);
    if (code == CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED) return ONEHOP_SUCCESS;
    return check(cuda, code, "cannot let a GPU access a peer's memory");
}
