/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CUDA driver, opened at run time: a table of its functions and nothing else. A member has the name under which
 * CUDA documents the function; which version of it the driver is asked for stands in cuda.c.
 */
#ifndef OH_DRIVER_CUDA_H
#define OH_DRIVER_CUDA_H

#include <stdbool.h>
#include <stdint.h>

#include "driver/cuda_types.h"
#include "onehop.h"

enum { OH_CUDA_OLDEST = 12000 }; /* the driver's version, as cuDriverGetVersion says it: 12.0 */

typedef struct oh_cuda {
    void *library;
    int version; /* 1000 * major + 10 * minor */

    CUresult (*cuInit)(unsigned int flags);
    CUresult (*cuDriverGetVersion)(int *version);
    CUresult (*cuGetErrorName)(CUresult error, const char **name);
    CUresult (*cuGetErrorString)(CUresult error, const char **text);

    CUresult (*cuDeviceGet)(CUdevice *device, int ordinal);
    CUresult (*cuDeviceGetCount)(int *count);
    CUresult (*cuDeviceGetName)(char *name, int length, CUdevice device);
    CUresult (*cuDeviceGetAttribute)(int *value, CUdevice_attribute attribute, CUdevice device);
    CUresult (*cuDeviceGetUuid)(CUuuid *uuid, CUdevice device);
    CUresult (*cuDeviceGetPCIBusId)(char *id, int length, CUdevice device);
    CUresult (*cuDeviceTotalMem)(size_t *bytes, CUdevice device);
    CUresult (*cuDeviceCanAccessPeer)(int *can, CUdevice device, CUdevice peer);
    CUresult (*cuDeviceGetP2PAttribute)(int *value, CUdevice_P2PAttribute attribute, CUdevice source, CUdevice target);

    CUresult (*cuDevicePrimaryCtxRetain)(CUcontext *context, CUdevice device);
    CUresult (*cuDevicePrimaryCtxRelease)(CUdevice device);
    CUresult (*cuCtxGetCurrent)(CUcontext *context);
    CUresult (*cuCtxSetCurrent)(CUcontext context);
    CUresult (*cuCtxPushCurrent)(CUcontext context);
    CUresult (*cuCtxPopCurrent)(CUcontext *context);
    CUresult (*cuCtxSynchronize)(void);
    CUresult (*cuCtxEnablePeerAccess)(CUcontext peer, unsigned int flags);

    CUresult (*cuMemAlloc)(CUdeviceptr *address, size_t bytes);
    CUresult (*cuMemFree)(CUdeviceptr address);
    CUresult (*cuMemAllocHost)(void **address, size_t bytes);
    CUresult (*cuMemFreeHost)(void *address);
    CUresult (*cuMemHostRegister)(void *address, size_t bytes, unsigned int flags);
    CUresult (*cuMemHostUnregister)(void *address);
    CUresult (*cuMemHostGetDevicePointer)(CUdeviceptr *device, void *host, unsigned int flags);
    CUresult (*cuMemsetD8)(CUdeviceptr address, unsigned char value, size_t count);
    CUresult (*cuMemsetD32)(CUdeviceptr address, unsigned int value, size_t count);
    CUresult (*cuMemsetD8Async)(CUdeviceptr address, unsigned char value, size_t count, CUstream stream);
    CUresult (*cuMemcpyHtoD)(CUdeviceptr target, const void *source, size_t bytes);
    CUresult (*cuMemcpyDtoH)(void *target, CUdeviceptr source, size_t bytes);
    CUresult (*cuMemcpyHtoDAsync)(CUdeviceptr target, const void *source, size_t bytes, CUstream stream);
    CUresult (*cuMemcpyDtoHAsync)(void *target, CUdeviceptr source, size_t bytes, CUstream stream);
    CUresult (*cuMemcpyDtoDAsync)(CUdeviceptr target, CUdeviceptr source, size_t bytes, CUstream stream);
    CUresult (*cuMemGetAddressRange)(CUdeviceptr *base, size_t *bytes, CUdeviceptr address);
    CUresult (*cuPointerGetAttribute)(void *value, CUpointer_attribute attribute, CUdeviceptr address);
    CUresult (*cuPointerGetAttributes)(unsigned int count, CUpointer_attribute *attributes, void **values,
                                       CUdeviceptr address);

    CUresult (*cuIpcGetMemHandle)(CUipcMemHandle *handle, CUdeviceptr address);
    CUresult (*cuIpcOpenMemHandle)(CUdeviceptr *address, CUipcMemHandle handle, unsigned int flags);
    CUresult (*cuIpcCloseMemHandle)(CUdeviceptr address);

    CUresult (*cuMemCreate)(CUmemGenericAllocationHandle *handle, size_t bytes, const CUmemAllocationProp *properties,
                            unsigned long long flags);
    CUresult (*cuMemRelease)(CUmemGenericAllocationHandle handle);
    CUresult (*cuMemMap)(CUdeviceptr address, size_t bytes, size_t offset, CUmemGenericAllocationHandle handle,
                         unsigned long long flags);
    CUresult (*cuMemUnmap)(CUdeviceptr address, size_t bytes);
    CUresult (*cuMemSetAccess)(CUdeviceptr address, size_t bytes, const CUmemAccessDesc *access, size_t count);
    CUresult (*cuMemAddressReserve)(CUdeviceptr *address, size_t bytes, size_t alignment, CUdeviceptr wish,
                                    unsigned long long flags);
    CUresult (*cuMemAddressFree)(CUdeviceptr address, size_t bytes);
    CUresult (*cuMemExportToShareableHandle)(void *shareable, CUmemGenericAllocationHandle handle,
                                             CUmemAllocationHandleType type, unsigned long long flags);
    CUresult (*cuMemImportFromShareableHandle)(CUmemGenericAllocationHandle *handle, void *shareable,
                                               CUmemAllocationHandleType type);
    CUresult (*cuMemGetAllocationGranularity)(size_t *bytes, const CUmemAllocationProp *properties,
                                              CUmemAllocationGranularity_flags option);
    CUresult (*cuMemRetainAllocationHandle)(CUmemGenericAllocationHandle *handle, void *address);

    CUresult (*cuModuleLoadData)(CUmodule *module, const void *image);
    CUresult (*cuModuleUnload)(CUmodule module);
    CUresult (*cuModuleGetFunction)(CUfunction *function, CUmodule module, const char *name);
    CUresult (*cuFuncGetAttribute)(int *value, CUfunction_attribute attribute, CUfunction function);
    CUresult (*cuFuncSetAttribute)(CUfunction function, CUfunction_attribute attribute, int value);
    CUresult (*cuLaunchKernelEx)(const CUlaunchConfig *config, CUfunction function, void **arguments, void **extra);

    CUresult (*cuStreamCreate)(CUstream *stream, unsigned int flags);
    CUresult (*cuStreamDestroy)(CUstream stream);
    CUresult (*cuStreamSynchronize)(CUstream stream);
    CUresult (*cuStreamQuery)(CUstream stream);
    CUresult (*cuStreamWaitEvent)(CUstream stream, CUevent event, unsigned int flags);
    CUresult (*cuStreamIsCapturing)(CUstream stream, CUstreamCaptureStatus *status);
    CUresult (*cuStreamGetCaptureInfo_v2)(CUstream stream, CUstreamCaptureStatus *status, uint64_t *id, CUgraph *graph,
                                          const CUgraphNode **dependencies, size_t *count);
    CUresult (*cuStreamGetId)(CUstream stream, unsigned long long *id);
    CUresult (*cuStreamBeginCapture)(CUstream stream, CUstreamCaptureMode mode);
    CUresult (*cuStreamEndCapture)(CUstream stream, CUgraph *graph);
    CUresult (*cuThreadExchangeStreamCaptureMode)(CUstreamCaptureMode *mode);
    CUresult (*cuGraphAddEventRecordNode)(CUgraphNode *node, CUgraph graph, const CUgraphNode *dependencies,
                                          size_t count, CUevent event);
    CUresult (*cuGraphAddDependencies)(CUgraph graph, const CUgraphNode *from, const CUgraphNode *to, size_t count);
    CUresult (*cuGraphRemoveDependencies)(CUgraph graph, const CUgraphNode *from, const CUgraphNode *to, size_t count);
    CUresult (*cuGraphNodeGetType)(CUgraphNode node, CUgraphNodeType *type);
    CUresult (*cuGraphInstantiateWithFlags)(CUgraphExec *exec, CUgraph graph, unsigned long long flags);
    CUresult (*cuGraphLaunch)(CUgraphExec exec, CUstream stream);
    CUresult (*cuGraphExecDestroy)(CUgraphExec exec);
    CUresult (*cuGraphDestroy)(CUgraph graph);

    CUresult (*cuEventCreate)(CUevent *event, unsigned int flags);
    CUresult (*cuEventRecord)(CUevent event, CUstream stream);
    CUresult (*cuEventQuery)(CUevent event);
    CUresult (*cuEventSynchronize)(CUevent event);
    CUresult (*cuEventElapsedTime)(float *milliseconds, CUevent start, CUevent end);
    CUresult (*cuEventDestroy)(CUevent event);
} oh_cuda_t;

/*
 * Opens libcuda.so.1, finds every function and initialises the driver. UNSUPPORTED: there is no driver, or one older
 * than CUDA 12.0. On failure *cuda is all zeros. Any thread.
 */
onehop_result_t oh_cuda_open(oh_cuda_t *cuda);

/* Forgets the table; the driver stays. Nothing to do for a table of zeros. */
void oh_cuda_close(oh_cuda_t *cuda);

/* Whether this error leaves its context unusable: every later call of the driver says so again. */
bool oh_cuda_is_fatal(CUresult result);

/* What this thread calls from here on is no part of anybody's capture; then back to what was so before. */
onehop_result_t oh_cuda_step_out(const oh_cuda_t *cuda, CUstreamCaptureMode *before);
void oh_cuda_step_in(const oh_cuda_t *cuda, CUstreamCaptureMode before);

/*
 * SUCCESS for CUDA_SUCCESS; else fails with the sentence, then ": CUDA_ERROR_XXX (what the driver says of it)".
 * OUT_OF_MEMORY for CUDA_ERROR_OUT_OF_MEMORY, CUDA_ERROR for all others.
 */
onehop_result_t oh_cuda_check(const oh_cuda_t *cuda, CUresult result, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
