/* SPDX-License-Identifier: Apache-2.0 */
/*
 * With THEIRS: what NVIDIA's cuda.h says, and whether Onehop's table of functions fits it; without: what Onehop's own
 * declarations say. cuda_values.inc and cuda_functions.inc are lists that tests/CMakeLists.txt reads from src/driver/.
 */
#include <stdint.h>

#ifdef THEIRS
#include <cuda.h>
#define OH_DRIVER_CUDA_TYPES_H
/* cuda.h means later versions by these names; ours are in every driver, and told of in its part for CUDA itself. */
#undef cuGraphAddDependencies
#undef cuGraphRemoveDependencies
CUresult cuGraphAddDependencies(CUgraph, const CUgraphNode *, const CUgraphNode *, size_t);
CUresult cuGraphRemoveDependencies(CUgraph, const CUgraphNode *, const CUgraphNode *, size_t);
CUresult cuStreamGetCaptureInfo_v2(CUstream, CUstreamCaptureStatus *, cuuint64_t *, CUgraph *, const CUgraphNode **,
                                   size_t *);
#endif
#include "driver/cuda.h"

#include "cuda_abi.h"

#define VALUE(name)                                                                                                    \
    { #name, (unsigned long long)(intptr_t)(name) }
#define SIZE(type)                                                                                                     \
    { "sizeof " #type, sizeof(type) }
#define OFFSET(type, field)                                                                                            \
    { #type "." #field, offsetof(type, field) }

#ifdef THEIRS
const abi_value_t abi_theirs[] = {
#else
const abi_value_t abi_ours[] = {
#endif
#include "cuda_values.inc"
    VALUE(CU_STREAM_LEGACY),
    VALUE(CU_STREAM_PER_THREAD),
    VALUE(CU_MEMHOSTREGISTER_PORTABLE),
    VALUE(CU_MEMHOSTREGISTER_DEVICEMAP),
    SIZE(CUresult),
    SIZE(CUdevice),
    SIZE(CUdeviceptr),
    SIZE(CUmemGenericAllocationHandle),
    SIZE(CUcontext),
    SIZE(CUuuid),
    SIZE(CUmemLocation),
    SIZE(CUmemAllocationProp),
    SIZE(CUmemAccessDesc),
    SIZE(CUipcMemHandle),
    SIZE(CUlaunchAttributeValue),
    SIZE(CUlaunchAttribute),
    SIZE(CUlaunchConfig),
    SIZE(CUdevice_attribute),
    SIZE(CUpointer_attribute),
    SIZE(CUstreamCaptureStatus),
    SIZE(CUgraphNodeType),
    OFFSET(CUmemLocation, type),
    OFFSET(CUmemLocation, id),
    OFFSET(CUmemAllocationProp, type),
    OFFSET(CUmemAllocationProp, requestedHandleTypes),
    OFFSET(CUmemAllocationProp, location),
    OFFSET(CUmemAllocationProp, win32HandleMetaData),
    OFFSET(CUmemAllocationProp, allocFlags.compressionType),
    OFFSET(CUmemAllocationProp, allocFlags.gpuDirectRDMACapable),
    OFFSET(CUmemAllocationProp, allocFlags.usage),
    OFFSET(CUmemAccessDesc, location),
    OFFSET(CUmemAccessDesc, flags),
    OFFSET(CUlaunchAttributeValue, cooperative),
    OFFSET(CUlaunchAttributeValue, programmaticStreamSerializationAllowed),
    OFFSET(CUlaunchAttribute, id),
    OFFSET(CUlaunchAttribute, value),
    OFFSET(CUlaunchConfig, gridDimX),
    OFFSET(CUlaunchConfig, gridDimY),
    OFFSET(CUlaunchConfig, gridDimZ),
    OFFSET(CUlaunchConfig, blockDimX),
    OFFSET(CUlaunchConfig, blockDimY),
    OFFSET(CUlaunchConfig, blockDimZ),
    OFFSET(CUlaunchConfig, sharedMemBytes),
    OFFSET(CUlaunchConfig, hStream),
    OFFSET(CUlaunchConfig, attrs),
    OFFSET(CUlaunchConfig, numAttrs),
};

#ifndef THEIRS
const int abi_ours_count = sizeof abi_ours / sizeof *abi_ours;
#else
const int abi_theirs_count = sizeof abi_theirs / sizeof *abi_theirs;

/* cuda.h renames functions to the versions it means, and so our members along with them. */
#define FUNCTION(member, symbol)                                                                                       \
    _Static_assert(__builtin_types_compatible_p(__typeof__(((oh_cuda_t *)0)->member), __typeof__(&member)),            \
                   "declared otherwise in cuda.h: " #symbol);
#include "cuda_functions.inc"
#undef FUNCTION

#define TEXT(name)               #name
#define FUNCTION(member, symbol) {offsetof(oh_cuda_t, member), #symbol, TEXT(member)},
const abi_function_t abi_functions[] = {
#include "cuda_functions.inc"
};
const int abi_functions_count = sizeof abi_functions / sizeof *abi_functions;
const size_t abi_functions_begin = offsetof(oh_cuda_t, cuInit), abi_functions_end = sizeof(oh_cuda_t);
#endif
