/* SPDX-License-Identifier: Apache-2.0 */
#include "topology/gpu.h"

#include <stdio.h>
#include <string.h>

#include "base/status.h"
#include "bootstrap/agree.h"

static onehop_result_t attribute(const oh_cuda_t *cuda, CUdevice device, CUdevice_attribute which, int32_t *out) {
    int value = 0;
    OH_TRY(oh_cuda_check(cuda, cuda->cuDeviceGetAttribute(&value, which, device), "cannot ask GPU %d for attribute %d",
                         device, (int)which));
    *out = value;
    return ONEHOP_SUCCESS;
}

onehop_result_t oh_gpu_describe(const oh_cuda_t *cuda, CUdevice device, oh_gpu_t *out) {
    memset(out, 0, sizeof *out);
    out->index = device;
    out->driver = cuda->version;
    CUuuid uuid;
    OH_TRY(oh_cuda_check(cuda, cuda->cuDeviceGetUuid(&uuid, device), "cannot ask GPU %d for its UUID", device));
    memcpy(out->uuid, uuid.bytes, sizeof out->uuid);
    OH_TRY(oh_cuda_check(cuda, cuda->cuDeviceGetName(out->name, sizeof out->name, device),
                         "cannot ask GPU %d for its name", device));
    OH_TRY(oh_cuda_check(cuda, cuda->cuDeviceGetPCIBusId(out->address, sizeof out->address, device),
                         "cannot ask GPU %d for its PCI address", device));
    OH_TRY(attribute(cuda, device, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, &out->major));
    OH_TRY(attribute(cuda, device, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, &out->minor));
    return attribute(cuda, device, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, &out->multiprocessors);
}

onehop_result_t oh_gpu_gather(const oh_cuda_t *cuda, CUdevice device, oh_bootstrap_t *bootstrap,
                              const oh_patience_t *patience, oh_gpu_t *gpus) {
    oh_gpu_t mine;
    onehop_result_t verdict;
    onehop_result_t result = oh_gpu_describe(cuda, device, &mine);
    OH_TRY(oh_agree(bootstrap, "GPU asked", result, patience, &verdict));
    OH_TRY(verdict);
    return oh_bootstrap_allgather(bootstrap, "GPU", &mine, gpus, sizeof mine, patience);
}

/* "GPU 3 (NVIDIA H200, 0000:1b:00.0)" */
enum { GPU_TEXT = 128 };
static void show(const oh_gpu_t *gpu, char text[GPU_TEXT]) {
    snprintf(text, GPU_TEXT, "GPU %d (%.*s, %.*s)", (int)gpu->index, OH_GPU_NAME - 1, gpu->name, OH_PCI_ADDRESS - 1,
             gpu->address);
}

/* A pure function of what all ranks hold: they need not ask one another. */
static onehop_result_t check_capability(const oh_gpu_t *gpus, int nranks) {
    for (int r = 1; r < nranks; r++) {
        if (gpus[r].major == gpus[0].major && gpus[r].minor == gpus[0].minor) continue;
        char first[GPU_TEXT], other[GPU_TEXT];
        show(&gpus[0], first);
        show(&gpus[r], other);
        return oh_fail(ONEHOP_UNSUPPORTED,
                       "GPUs differ in compute capability: %s of rank 0 has %d.%d, %s of rank %d has %d.%d", first,
                       (int)gpus[0].major, (int)gpus[0].minor, other, r, (int)gpus[r].major, (int)gpus[r].minor);
    }
    return ONEHOP_SUCCESS;
}

/* The GPU with this UUID as this process numbers it, -1 if it does not see it. */
static onehop_result_t find_device(const oh_cuda_t *cuda, const unsigned char uuid[16], CUdevice *out) {
    int count;
    OH_TRY(oh_cuda_check(cuda, cuda->cuDeviceGetCount(&count), "cannot count GPUs"));
    for (int i = 0; i < count; i++) {
        CUuuid other;
        OH_TRY(oh_cuda_check(cuda, cuda->cuDeviceGet(out, i), "cannot open GPU %d", i));
        OH_TRY(oh_cuda_check(cuda, cuda->cuDeviceGetUuid(&other, *out), "cannot ask GPU %d for its UUID", i));
        if (memcmp(other.bytes, uuid, sizeof other.bytes) == 0) return ONEHOP_SUCCESS;
    }
    *out = -1;
    return ONEHOP_SUCCESS;
}

/* The same for the GPU of a peer; also -1 if it is this rank's own. */
static onehop_result_t find_peer(const oh_cuda_t *cuda, const oh_gpu_t *mine, const oh_gpu_t *theirs, CUdevice *out) {
    *out = -1;
    if (memcmp(mine->uuid, theirs->uuid, sizeof mine->uuid) == 0) return ONEHOP_SUCCESS;
    return find_device(cuda, theirs->uuid, out);
}

/* Atomics reach over NVLink alone. */
static onehop_result_t check_peer(const oh_cuda_t *cuda, CUdevice device, const oh_gpu_t *mine, const oh_gpu_t *theirs,
                                  int peer, bool *nvlink) {
    CUdevice other;
    OH_TRY(find_peer(cuda, mine, theirs, &other));
    if (other < 0) return ONEHOP_SUCCESS;
    int can = 0, atomics = 0;
    char from[GPU_TEXT], to[GPU_TEXT];
    show(mine, from);
    show(theirs, to);
    OH_TRY(oh_cuda_check(cuda, cuda->cuDeviceCanAccessPeer(&can, device, other),
                         "cannot ask whether %s can access %s of rank %d", from, to, peer));
    if (!can) {
        return oh_fail(ONEHOP_UNSUPPORTED,
                       "%s cannot access %s of rank %d: no peer access (NVLink or PCIe peer-to-peer)", from, to, peer);
    }
    OH_TRY(oh_cuda_check(
        cuda, cuda->cuDeviceGetP2PAttribute(&atomics, CU_DEVICE_P2P_ATTRIBUTE_NATIVE_ATOMIC_SUPPORTED, device, other),
        "cannot ask what joins %s and %s of rank %d", from, to, peer));
    *nvlink = *nvlink && atomics != 0;
    return ONEHOP_SUCCESS;
}

onehop_result_t oh_gpu_check_access(const oh_cuda_t *cuda, CUdevice device, oh_bootstrap_t *bootstrap,
                                    const oh_patience_t *patience, const oh_gpu_t *gpus, oh_links_t *links) {
    int rank = oh_bootstrap_rank(bootstrap), nranks = oh_bootstrap_nranks(bootstrap);
    bool nvlink = true, all[ONEHOP_MAX_RANKS];
    OH_TRY(check_capability(gpus, nranks));
    onehop_result_t result = ONEHOP_SUCCESS, verdict;
    for (int r = 0; r < nranks && result == ONEHOP_SUCCESS; r++) {
        result = check_peer(cuda, device, &gpus[rank], &gpus[r], r, &nvlink);
    }
    OH_TRY(oh_agree(bootstrap, "GPU access", result, patience, &verdict));
    OH_TRY(verdict);
    OH_TRY(oh_bootstrap_allgather(bootstrap, "GPU links", &nvlink, all, sizeof nvlink, patience));
    *links = OH_NVLINK;
    for (int r = 0; r < nranks; r++) {
        if (!all[r]) *links = OH_PCIE;
    }
    return ONEHOP_SUCCESS;
}

const char *oh_gpu_name(const oh_gpu_t *gpus, int nranks) {
    for (int r = 1; r < nranks; r++) {
        if (strcmp(gpus[r].name, gpus[0].name) != 0) return NULL;
    }
    return gpus[0].name;
}

int oh_gpu_multiprocessors(const oh_gpu_t *gpus, int nranks) {
    int fewest = gpus[0].multiprocessors;
    for (int r = 1; r < nranks; r++) {
        if (gpus[r].multiprocessors < fewest) fewest = gpus[r].multiprocessors;
    }
    return fewest;
}
