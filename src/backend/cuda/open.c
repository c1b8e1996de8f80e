/* SPDX-License-Identifier: Apache-2.0 */
/* How the CUDA backend begins and ends. */
#include <stdlib.h>
#include <string.h>

#include "backend/cuda/cuda.h"
#include "base/clock.h"
#include "base/log.h"
#include "bootstrap/agree.h"

_Static_assert(sizeof(oh_segment_t) <= OH_REPORT_AT, "the report lies behind what the host's page holds");
_Static_assert(offsetof(oh_segment_t, fault.poison) == 0, "kernels look for the poison at the page's beginning");

/* ---- one rank alone ---- */

static onehop_result_t open_device(oh_gpu_backend_t *gpu) {
    const oh_cuda_t *cuda = &gpu->cuda;
    int count = 0;
    OH_TRY(oh_cuda_open(&gpu->cuda));
    OH_TRY(oh_cuda_check(cuda, cuda->cuDeviceGetCount(&count), "cannot count the GPUs"));
    if (gpu->config.device_index >= count) {
        return oh_fail(ONEHOP_INVALID_ARGUMENT, "device_index is %d: expected 0 to %d, as %d GPUs are visible",
                       gpu->config.device_index, count - 1, count);
    }
    OH_TRY(oh_cuda_check(cuda, cuda->cuDeviceGet(&gpu->device, gpu->config.device_index), "cannot get GPU %d",
                         gpu->config.device_index));
    OH_TRY(oh_buffers_open(&gpu->buffers, cuda, gpu->device));
    return oh_cuda_check(cuda, cuda->cuDevicePrimaryCtxRetain(&gpu->context, gpu->device),
                         "cannot make a context on GPU %d", gpu->config.device_index);
}

/* The GPU sees the page that the ranks share. */
static onehop_result_t register_control(oh_gpu_backend_t *gpu) {
    const oh_cuda_t *cuda = &gpu->cuda;
    void *page = gpu->control.base[gpu->rank];
    CUdeviceptr address;
    OH_TRY(oh_cuda_check(
        cuda, cuda->cuMemHostRegister(page, OH_PAGE, CU_MEMHOSTREGISTER_PORTABLE | CU_MEMHOSTREGISTER_DEVICEMAP),
        "cannot show a page of the host's memory to GPU %d", gpu->config.device_index));
    gpu->control_registered = true;
    OH_TRY(oh_cuda_check(cuda, cuda->cuMemHostGetDevicePointer(&address, page, 0), "cannot address that page"));
    gpu->args.control = (unsigned char *)(uintptr_t)address;
    return ONEHOP_SUCCESS;
}

/* Packets are empty where their last word says so. The first mebibyte comes from the host, and is then doubled. */
static onehop_result_t empty_mailboxes(oh_gpu_backend_t *gpu) {
    const oh_cuda_t *cuda = &gpu->cuda;
    const CUdeviceptr begin = gpu->workspace.base[gpu->rank] + OH_PACKETS_AT;
    const size_t bytes = gpu->sizes.packet_bytes, first = bytes < 1 << 20 ? bytes : 1 << 20;
    unsigned int *pattern = malloc(first);
    if (pattern == NULL) return oh_fail(ONEHOP_OUT_OF_MEMORY, "out of memory");
    for (size_t i = 0; i < first / sizeof *pattern; i++) pattern[i] = i % 4 == 3 ? OH_EMPTY : 0;
    onehop_result_t result =
        oh_cuda_check(cuda, cuda->cuMemcpyHtoD(begin, pattern, first), "cannot prepare the workspace");
    free(pattern);
    for (size_t done = first; done < bytes && result == ONEHOP_SUCCESS; done *= 2) {
        size_t more = bytes - done < done ? bytes - done : done;
        result = oh_cuda_check(cuda, cuda->cuMemcpyDtoDAsync(begin + done, begin, more, NULL),
                               "cannot prepare the workspace");
    }
    return result;
}

static onehop_result_t prepare_workspace(oh_gpu_backend_t *gpu) {
    const oh_gpu_t *mine = &gpu->gpus[gpu->rank];
    OH_TRY(oh_jit_open(gpu->config.cache_directory, gpu->config.nvrtc, mine->major, mine->minor, &gpu->jit));
    OH_TRY(register_control(gpu));
    OH_TRY(oh_order_open(&gpu->order, &gpu->cuda, gpu->config.orders_replays));
    OH_TRY(empty_mailboxes(gpu));
    OH_TRY(oh_cuda_check(&gpu->cuda, gpu->cuda.cuCtxSynchronize(), "cannot prepare the workspace"));
    for (int r = 0; r < gpu->nranks; r++) {
        gpu->args.workspace[r] = (unsigned char *)(uintptr_t)gpu->workspace.base[r];
        gpu->faults.of[r] = &((oh_segment_t *)(void *)gpu->control.base[r])->fault;
    }
    oh_gpu_registry_open(&gpu->registry, &gpu->cuda, gpu->device, gpu->bootstrap);
    gpu->args.timeout_ns = (unsigned long long)gpu->config.timeout_ms * 1000000;
    return oh_gpu_watch_begin(gpu);
}

/* ---- together ---- */

/* Ranks on one GPU must all fit in it at once, or they wait for one another for ever. */
static int count_sharers(const oh_gpu_backend_t *gpu) {
    int most = 0;
    for (int r = 0; r < gpu->nranks; r++) {
        int here = 0;
        for (int s = 0; s < gpu->nranks; s++) {
            here += memcmp(gpu->gpus[r].uuid, gpu->gpus[s].uuid, sizeof gpu->gpus[r].uuid) == 0;
        }
        if (here > most) most = here;
    }
    return most;
}

static onehop_result_t meet_gpus(oh_gpu_backend_t *gpu, const oh_patience_t *patience) {
    OH_TRY(oh_gpu_gather(&gpu->cuda, gpu->device, gpu->bootstrap, patience, gpu->gpus));
    OH_TRY(oh_gpu_check_access(&gpu->cuda, gpu->device, gpu->bootstrap, patience, gpu->gpus, &gpu->links));
    gpu->share = count_sharers(gpu);
    gpu->dependent_launch = gpu->gpus[gpu->rank].major >= 9 && gpu->share == 1;
    gpu->sizes =
        oh_device_sizes_make(gpu->config.workspace_bytes, gpu->nranks, oh_gpu_multiprocessors(gpu->gpus, gpu->nranks));
    return ONEHOP_SUCCESS;
}

static onehop_result_t find_tables(oh_gpu_backend_t *gpu, const oh_patience_t *patience) {
    const oh_device_question_t question = oh_gpu_question(gpu, 0, ONEHOP_FLOAT32, ONEHOP_SUM);
    const int bound = gpu->config.max_blocks;
    const oh_gpu_place_t place = {.gpu = oh_gpu_name(gpu->gpus, gpu->nranks),
                                  .links = gpu->links,
                                  .nranks = gpu->nranks,
                                  .blocks = oh_device_blocks_max(&question),
                                  .max_blocks = bound < gpu->sizes.teams ? bound : 0};
    onehop_result_t mine = gpu->rank == 0 ? oh_tuning_for_gpus(&gpu->config, &place, &gpu->tuning) : ONEHOP_SUCCESS;
    return oh_agree_with_first(gpu->bootstrap, "tuning", mine, &gpu->tuning, sizeof gpu->tuning, patience);
}

/* What one rank does alone may fail; then it fails on all. */
static onehop_result_t agree(oh_gpu_backend_t *gpu, const char *what, onehop_result_t mine,
                             const oh_patience_t *patience) {
    onehop_result_t verdict;
    OH_TRY(oh_agree(gpu->bootstrap, what, mine, patience, &verdict));
    return verdict;
}

static double ms_since(int64_t begin) { return (double)(oh_now_ns() - begin) * 1e-6; }

static onehop_result_t set_up(oh_gpu_backend_t *gpu) {
    const oh_patience_t patience = {.timeout_ms = gpu->config.bootstrap_timeout_ms};
    const int64_t begin = oh_now_ns();
    bool pushed = false;
    onehop_result_t device = open_device(gpu);
    if (device == ONEHOP_SUCCESS) device = oh_gpu_enter(gpu, &pushed);
    onehop_result_t result = agree(gpu, "gpu", device, &patience);
    if (result == ONEHOP_SUCCESS) result = meet_gpus(gpu, &patience);
    if (result == ONEHOP_SUCCESS) result = find_tables(gpu, &patience);
    const double met = ms_since(begin);
    if (result == ONEHOP_SUCCESS) {
        result = oh_device_arena_open(&gpu->cuda, gpu->device, gpu->bootstrap, gpu->sizes.total, gpu->config.memory,
                                      &patience, &gpu->workspace);
    }
    if (result == ONEHOP_SUCCESS) result = oh_arena_open(gpu->bootstrap, OH_PAGE, &patience, &gpu->control);
    const double shared = ms_since(begin);
    /* Nobody may write into a mailbox before its owner has emptied it. */
    if (result == ONEHOP_SUCCESS) result = agree(gpu, "workspace ready", prepare_workspace(gpu), &patience);
    oh_log("rank %d: the GPUs have met after %.1f ms, share memory after %.1f ms, are ready after %.1f ms", gpu->rank,
           met, shared, ms_since(begin));
    if (device == ONEHOP_SUCCESS) oh_gpu_leave(gpu, pushed);
    return result;
}

onehop_result_t oh_gpu_open(const oh_config_t *config, oh_bootstrap_t *bootstrap, oh_backend_t **out) {
    oh_gpu_backend_t *gpu = calloc(1, sizeof *gpu);
    if (gpu == NULL) return oh_fail(ONEHOP_OUT_OF_MEMORY, "out of memory");
    gpu->backend.ops = &oh_gpu_ops;
    gpu->config = *config;
    gpu->bootstrap = bootstrap;
    gpu->rank = gpu->faults.rank = oh_bootstrap_rank(bootstrap);
    gpu->nranks = gpu->faults.nranks = oh_bootstrap_nranks(bootstrap);
    onehop_result_t result = oh_device_forced_parse(config->algorithm, &gpu->forced);
    if (result == ONEHOP_SUCCESS) result = set_up(gpu);
    if (result != ONEHOP_SUCCESS) {
        oh_gpu_close(&gpu->backend, false);
        return result;
    }
    *out = &gpu->backend;
    return ONEHOP_SUCCESS;
}

bool oh_gpu_present(void) {
    oh_cuda_t cuda;
    int count = 0;
    if (oh_cuda_open(&cuda) != ONEHOP_SUCCESS) return false;
    bool present = cuda.cuDeviceGetCount(&count) == CUDA_SUCCESS && count > 0;
    oh_cuda_close(&cuda);
    return present;
}

/* The watcher ends once the kernels have: one that still waits gives up at its deadline, or at a fault it is told of.
 */
static void close_device(oh_gpu_backend_t *gpu) {
    bool pushed = false, entered = gpu->context != NULL && oh_gpu_enter(gpu, &pushed) == ONEHOP_SUCCESS;
    if (entered) gpu->cuda.cuCtxSynchronize();
    oh_gpu_watch_end(gpu);
    if (entered) {
        oh_gpu_kernels_unload(gpu);
        oh_order_close(&gpu->order, &gpu->cuda);
        if (gpu->control_registered) gpu->cuda.cuMemHostUnregister(gpu->control.base[gpu->rank]);
        oh_gpu_registry_close(&gpu->registry);
        oh_device_arena_close(&gpu->cuda, &gpu->workspace);
        oh_gpu_leave(gpu, pushed);
    }
    if (gpu->context != NULL) gpu->cuda.cuDevicePrimaryCtxRelease(gpu->device);
}

/* In a child made by fork the driver must not be called. */
void oh_gpu_close(oh_backend_t *backend, bool forked) {
    oh_gpu_backend_t *gpu = (oh_gpu_backend_t *)(void *)backend;
    if (!forked) {
        if (gpu->faults.of[gpu->rank] != NULL) oh_fault_leave(&gpu->faults);
        close_device(gpu);
        oh_arena_close(&gpu->control);
        oh_cuda_close(&gpu->cuda);
    }
    oh_jit_close(gpu->jit);
    free(gpu);
}
