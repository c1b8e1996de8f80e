/* SPDX-License-Identifier: Apache-2.0 */
#include "driver/cuda.h"

#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/status.h"
#include "driver/library.h"

/* The versions of the functions that cuda.h of CUDA 12.0 means by these names; every newer driver has them too. */
static const oh_symbol_t symbols[] = {
    {offsetof(oh_cuda_t, cuInit), "cuInit"},
    {offsetof(oh_cuda_t, cuDriverGetVersion), "cuDriverGetVersion"},
    {offsetof(oh_cuda_t, cuGetErrorName), "cuGetErrorName"},
    {offsetof(oh_cuda_t, cuGetErrorString), "cuGetErrorString"},
    {offsetof(oh_cuda_t, cuDeviceGet), "cuDeviceGet"},
    {offsetof(oh_cuda_t, cuDeviceGetCount), "cuDeviceGetCount"},
    {offsetof(oh_cuda_t, cuDeviceGetName), "cuDeviceGetName"},
    {offsetof(oh_cuda_t, cuDeviceGetAttribute), "cuDeviceGetAttribute"},
    {offsetof(oh_cuda_t, cuDeviceGetUuid), "cuDeviceGetUuid_v2"},
    {offsetof(oh_cuda_t, cuDeviceGetPCIBusId), "cuDeviceGetPCIBusId"},
    {offsetof(oh_cuda_t, cuDeviceTotalMem), "cuDeviceTotalMem_v2"},
    {offsetof(oh_cuda_t, cuDeviceCanAccessPeer), "cuDeviceCanAccessPeer"},
    {offsetof(oh_cuda_t, cuDeviceGetP2PAttribute), "cuDeviceGetP2PAttribute"},
    {offsetof(oh_cuda_t, cuDevicePrimaryCtxRetain), "cuDevicePrimaryCtxRetain"},
    {offsetof(oh_cuda_t, cuDevicePrimaryCtxRelease), "cuDevicePrimaryCtxRelease_v2"},
    {offsetof(oh_cuda_t, cuCtxGetCurrent), "cuCtxGetCurrent"},
    {offsetof(oh_cuda_t, cuCtxSetCurrent), "cuCtxSetCurrent"},
    {offsetof(oh_cuda_t, cuCtxPushCurrent), "cuCtxPushCurrent_v2"},
    {offsetof(oh_cuda_t, cuCtxPopCurrent), "cuCtxPopCurrent_v2"},
    {offsetof(oh_cuda_t, cuCtxSynchronize), "cuCtxSynchronize"},
    {offsetof(oh_cuda_t, cuCtxEnablePeerAccess), "cuCtxEnablePeerAccess"},
    {offsetof(oh_cuda_t, cuMemAlloc), "cuMemAlloc_v2"},
    {offsetof(oh_cuda_t, cuMemFree), "cuMemFree_v2"},
    {offsetof(oh_cuda_t, cuMemAllocHost), "cuMemAllocHost_v2"},
    {offsetof(oh_cuda_t, cuMemFreeHost), "cuMemFreeHost"},
    {offsetof(oh_cuda_t, cuMemHostRegister), "cuMemHostRegister_v2"},
    {offsetof(oh_cuda_t, cuMemHostUnregister), "cuMemHostUnregister"},
    {offsetof(oh_cuda_t, cuMemHostGetDevicePointer), "cuMemHostGetDevicePointer_v2"},
    {offsetof(oh_cuda_t, cuMemsetD8), "cuMemsetD8_v2"},
    {offsetof(oh_cuda_t, cuMemsetD32), "cuMemsetD32_v2"},
    {offsetof(oh_cuda_t, cuMemsetD8Async), "cuMemsetD8Async"},
    {offsetof(oh_cuda_t, cuMemcpyHtoD), "cuMemcpyHtoD_v2"},
    {offsetof(oh_cuda_t, cuMemcpyDtoH), "cuMemcpyDtoH_v2"},
    {offsetof(oh_cuda_t, cuMemcpyHtoDAsync), "cuMemcpyHtoDAsync_v2"},
    {offsetof(oh_cuda_t, cuMemcpyDtoHAsync), "cuMemcpyDtoHAsync_v2"},
    {offsetof(oh_cuda_t, cuMemcpyDtoDAsync), "cuMemcpyDtoDAsync_v2"},
    {offsetof(oh_cuda_t, cuMemGetAddressRange), "cuMemGetAddressRange_v2"},
    {offsetof(oh_cuda_t, cuPointerGetAttribute), "cuPointerGetAttribute"},
    {offsetof(oh_cuda_t, cuPointerGetAttributes), "cuPointerGetAttributes"},
    {offsetof(oh_cuda_t, cuIpcGetMemHandle), "cuIpcGetMemHandle"},
    {offsetof(oh_cuda_t, cuIpcOpenMemHandle), "cuIpcOpenMemHandle_v2"},
    {offsetof(oh_cuda_t, cuIpcCloseMemHandle), "cuIpcCloseMemHandle"},
    {offsetof(oh_cuda_t, cuMemCreate), "cuMemCreate"},
    {offsetof(oh_cuda_t, cuMemRelease), "cuMemRelease"},
    {offsetof(oh_cuda_t, cuMemMap), "cuMemMap"},
    {offsetof(oh_cuda_t, cuMemUnmap), "cuMemUnmap"},
    {offsetof(oh_cuda_t, cuMemSetAccess), "cuMemSetAccess"},
    {offsetof(oh_cuda_t, cuMemAddressReserve), "cuMemAddressReserve"},
    {offsetof(oh_cuda_t, cuMemAddressFree), "cuMemAddressFree"},
    {offsetof(oh_cuda_t, cuMemExportToShareableHandle), "cuMemExportToShareableHandle"},
    {offsetof(oh_cuda_t, cuMemImportFromShareableHandle), "cuMemImportFromShareableHandle"},
    {offsetof(oh_cuda_t, cuMemGetAllocationGranularity), "cuMemGetAllocationGranularity"},
    {offsetof(oh_cuda_t, cuMemRetainAllocationHandle), "cuMemRetainAllocationHandle"},
    {offsetof(oh_cuda_t, cuModuleLoadData), "cuModuleLoadData"},
    {offsetof(oh_cuda_t, cuModuleUnload), "cuModuleUnload"},
    {offsetof(oh_cuda_t, cuModuleGetFunction), "cuModuleGetFunction"},
    {offsetof(oh_cuda_t, cuFuncGetAttribute), "cuFuncGetAttribute"},
    {offsetof(oh_cuda_t, cuFuncSetAttribute), "cuFuncSetAttribute"},
    {offsetof(oh_cuda_t, cuLaunchKernelEx), "cuLaunchKernelEx"},
    {offsetof(oh_cuda_t, cuStreamCreate), "cuStreamCreate"},
    {offsetof(oh_cuda_t, cuStreamDestroy), "cuStreamDestroy_v2"},
    {offsetof(oh_cuda_t, cuStreamSynchronize), "cuStreamSynchronize"},
    {offsetof(oh_cuda_t, cuStreamQuery), "cuStreamQuery"},
    {offsetof(oh_cuda_t, cuStreamWaitEvent), "cuStreamWaitEvent"},
    {offsetof(oh_cuda_t, cuStreamIsCapturing), "cuStreamIsCapturing"},
    {offsetof(oh_cuda_t, cuStreamGetCaptureInfo_v2), "cuStreamGetCaptureInfo_v2"},
    {offsetof(oh_cuda_t, cuStreamGetId), "cuStreamGetId"},
    {offsetof(oh_cuda_t, cuStreamBeginCapture), "cuStreamBeginCapture_v2"},
    {offsetof(oh_cuda_t, cuStreamEndCapture), "cuStreamEndCapture"},
    {offsetof(oh_cuda_t, cuThreadExchangeStreamCaptureMode), "cuThreadExchangeStreamCaptureMode"},
    {offsetof(oh_cuda_t, cuGraphAddEventRecordNode), "cuGraphAddEventRecordNode"},
    {offsetof(oh_cuda_t, cuGraphAddDependencies), "cuGraphAddDependencies"},
    {offsetof(oh_cuda_t, cuGraphRemoveDependencies), "cuGraphRemoveDependencies"},
    {offsetof(oh_cuda_t, cuGraphNodeGetType), "cuGraphNodeGetType"},
    {offsetof(oh_cuda_t, cuGraphInstantiateWithFlags), "cuGraphInstantiateWithFlags"},
    {offsetof(oh_cuda_t, cuGraphLaunch), "cuGraphLaunch"},
    {offsetof(oh_cuda_t, cuGraphExecDestroy), "cuGraphExecDestroy"},
    {offsetof(oh_cuda_t, cuGraphDestroy), "cuGraphDestroy"},
    {offsetof(oh_cuda_t, cuEventCreate), "cuEventCreate"},
    {offsetof(oh_cuda_t, cuEventRecord), "cuEventRecord"},
    {offsetof(oh_cuda_t, cuEventQuery), "cuEventQuery"},
    {offsetof(oh_cuda_t, cuEventSynchronize), "cuEventSynchronize"},
    {offsetof(oh_cuda_t, cuEventElapsedTime), "cuEventElapsedTime"},
    {offsetof(oh_cuda_t, cuEventDestroy), "cuEventDestroy_v2"},
};

static onehop_result_t find_version(oh_cuda_t *cuda) {
    static const oh_symbol_t version = {offsetof(oh_cuda_t, cuDriverGetVersion), "cuDriverGetVersion"};
    const char *missing = oh_library_resolve(cuda->library, &version, 1, cuda);
    if (missing != NULL || cuda->cuDriverGetVersion(&cuda->version) != CUDA_SUCCESS) {
        return oh_fail(ONEHOP_UNSUPPORTED, "libcuda.so.1 is no CUDA driver: it does not tell its version");
    }
    if (cuda->version < OH_CUDA_OLDEST) {
        return oh_fail(ONEHOP_UNSUPPORTED, "the CUDA driver is too old: it is of CUDA %d.%d, expected %d.%d or newer",
                       cuda->version / 1000, cuda->version % 1000 / 10, OH_CUDA_OLDEST / 1000,
                       OH_CUDA_OLDEST % 1000 / 10);
    }
    return ONEHOP_SUCCESS;
}

static onehop_result_t load(oh_cuda_t *cuda) {
    cuda->library = oh_library_open("libcuda.so.1");
    if (cuda->library == NULL) return oh_fail(ONEHOP_UNSUPPORTED, "cannot open libcuda.so.1: %s", dlerror());
    OH_TRY(find_version(cuda));
    const char *missing = oh_library_resolve(cuda->library, symbols, sizeof symbols / sizeof *symbols, cuda);
    if (missing != NULL) {
        return oh_fail(ONEHOP_UNSUPPORTED, "libcuda.so.1 of CUDA %d.%d has no %s", cuda->version / 1000,
                       cuda->version % 1000 / 10, missing);
    }
    CUresult result = cuda->cuInit(0);
    if (result == CUDA_ERROR_NO_DEVICE) {
        return oh_fail(ONEHOP_UNSUPPORTED, "the CUDA driver finds no GPU here (see CUDA_VISIBLE_DEVICES)");
    }
    return oh_cuda_check(cuda, result, "the CUDA driver does not start");
}

onehop_result_t oh_cuda_open(oh_cuda_t *cuda) {
    memset(cuda, 0, sizeof *cuda);
    onehop_result_t result = load(cuda);
    if (result != ONEHOP_SUCCESS) oh_cuda_close(cuda);
    return result;
}

void oh_cuda_close(oh_cuda_t *cuda) {
    if (cuda->library != NULL) dlclose(cuda->library);
    memset(cuda, 0, sizeof *cuda);
}

bool oh_cuda_is_fatal(CUresult result) {
    switch (result) {
    case CUDA_ERROR_ECC_UNCORRECTABLE:
    case CUDA_ERROR_NVLINK_UNCORRECTABLE:
    case CUDA_ERROR_ILLEGAL_ADDRESS:
    case CUDA_ERROR_LAUNCH_TIMEOUT:
    case CUDA_ERROR_ASSERT:
    case CUDA_ERROR_HARDWARE_STACK_ERROR:
    case CUDA_ERROR_ILLEGAL_INSTRUCTION:
    case CUDA_ERROR_MISALIGNED_ADDRESS:
    case CUDA_ERROR_INVALID_ADDRESS_SPACE:
    case CUDA_ERROR_INVALID_PC:
    case CUDA_ERROR_LAUNCH_FAILED: return true;
    default: return false;
    }
}

onehop_result_t oh_cuda_check(const oh_cuda_t *cuda, CUresult result, const char *format, ...) {
    if (result == CUDA_SUCCESS) return ONEHOP_SUCCESS;
    char sentence[OH_ERROR_TEXT];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    const char *name = NULL, *text = NULL;
    onehop_result_t code = result == CUDA_ERROR_OUT_OF_MEMORY ? ONEHOP_OUT_OF_MEMORY : ONEHOP_CUDA_ERROR;
    if (cuda->cuGetErrorName(result, &name) != CUDA_SUCCESS || cuda->cuGetErrorString(result, &text) != CUDA_SUCCESS) {
        return oh_fail(code, "%.400s: error %d of the CUDA driver", sentence, (int)result);
    }
    return oh_fail(code, "%.360s: %s (%s)", sentence, name, text);
}

onehop_result_t oh_cuda_step_out(const oh_cuda_t *cuda, CUstreamCaptureMode *before) {
    *before = CU_STREAM_CAPTURE_MODE_RELAXED;
    return oh_cuda_check(cuda, cuda->cuThreadExchangeStreamCaptureMode(before), "cannot step out of a capture");
}

void oh_cuda_step_in(const oh_cuda_t *cuda, CUstreamCaptureMode before) {
    cuda->cuThreadExchangeStreamCaptureMode(&before);
}
