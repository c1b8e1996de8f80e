/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "backend/cuda/cuda.h"
#include "base/clock.h"
#include "base/log.h"

static void define(oh_jit_job_t *job, const char *name, size_t value) {
    snprintf(job->options[job->noptions++], OH_JIT_OPTION_LENGTH, "-D%s=%zu", name, value);
}

/* All that a kernel is specialised by. */
static void describe_job(const oh_gpu_backend_t *gpu, onehop_dtype_t dtype, onehop_op_t op, oh_device_kernel_t kernel,
                         oh_jit_job_t *job) {
    *job = (oh_jit_job_t){.source = oh_device_algorithms[kernel.algorithm].source};
    define(job, "OH_NRANKS", (size_t)gpu->nranks);
    define(job, "OH_RANK", (size_t)gpu->rank);
    define(job, "OH_DTYPE", (size_t)dtype);
    define(job, "OH_OP", (size_t)op);
    define(job, "OH_K", (size_t)kernel.packets);
    define(job, "OH_THREADS", (size_t)oh_device_threads_max(gpu->nranks, kernel.packets));
    define(job, "OH_TEAMS", (size_t)gpu->sizes.teams);
    define(job, "OH_SLOT_PACKETS", (size_t)gpu->sizes.slot_packets);
    define(job, "OH_PAGES_AT", gpu->sizes.pages_at);
    define(job, "OH_PAGE_BYTES", gpu->sizes.page_bytes);
}

static onehop_result_t load_module(oh_gpu_backend_t *gpu, oh_gpu_kernels_t *kernels, oh_device_kernel_t kernel,
                                   const oh_jit_job_t *job) {
    const oh_cuda_t *cuda = &gpu->cuda;
    int choice = oh_packet_choice(kernel.packets);
    CUmodule *module = &kernels->module[kernel.algorithm][choice];
    CUfunction function;
    OH_TRY(
        oh_cuda_check(cuda, cuda->cuModuleLoadData(module, job->cubin), "cannot load the kernel of %s", job->source));
    OH_TRY(oh_cuda_check(cuda, cuda->cuModuleGetFunction(&function, *module, "onehop_kernel"),
                         "no kernel in what was compiled of %s", job->source));
    kernels->function[kernel.algorithm][choice] = function;
    return ONEHOP_SUCCESS;
}

/* Compiling needs no context, and loading must not be taken for a part of somebody's capture. */
static onehop_result_t load_modules(oh_gpu_backend_t *gpu, oh_gpu_kernels_t *kernels, const oh_device_kernel_t *wanted,
                                    const oh_jit_job_t *jobs, int count) {
    CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_RELAXED;
    OH_TRY(
        oh_cuda_check(&gpu->cuda, gpu->cuda.cuThreadExchangeStreamCaptureMode(&mode), "cannot step out of a capture"));
    onehop_result_t result = ONEHOP_SUCCESS;
    for (int i = 0; i < count && result == ONEHOP_SUCCESS; i++) {
        result = load_module(gpu, kernels, wanted[i], &jobs[i]);
    }
    gpu->cuda.cuThreadExchangeStreamCaptureMode(&mode);
    return result;
}

onehop_result_t oh_gpu_kernels_load(oh_gpu_backend_t *gpu, onehop_dtype_t dtype, onehop_op_t op,
                                    const oh_device_plan_t *plan) {
    oh_gpu_kernels_t *kernels = &gpu->kernels[dtype][op];
    oh_device_kernel_t all[OH_DEVICE_KERNELS + 1], wanted[OH_DEVICE_KERNELS + 1];
    int known = oh_device_kernels(gpu->nranks, &gpu->forced, all), count = 0;
    all[known++] = (oh_device_kernel_t){plan->algorithm, plan->packets}; /* it may be listed: then it is loaded once */
    oh_jit_job_t *jobs = calloc((size_t)known, sizeof *jobs);
    if (jobs == NULL) return oh_fail(ONEHOP_OUT_OF_MEMORY, "out of memory");
    for (int i = 0; i < known; i++) {
        bool here = kernels->function[all[i].algorithm][oh_packet_choice(all[i].packets)] != NULL;
        for (int j = 0; j < count; j++) {
            here |= wanted[j].algorithm == all[i].algorithm && wanted[j].packets == all[i].packets;
        }
        if (here) continue;
        describe_job(gpu, dtype, op, all[i], &jobs[count]);
        wanted[count++] = all[i];
    }
    int64_t begin = oh_now_ns();
    onehop_result_t result = oh_jit_run(gpu->jit, jobs, count);
    if (result == ONEHOP_SUCCESS) result = load_modules(gpu, kernels, wanted, jobs, count);
    double ms = (double)(oh_now_ns() - begin) * 1e-6;
    gpu->compile_ms += ms;
    oh_log("rank %d: %d kernels for %s %s in %.1f ms, %s", gpu->rank, count, onehop_dtype_string(dtype),
           onehop_op_string(op), ms, count > 0 && jobs[0].cached ? "cached" : "compiled");
    for (int i = 0; i < count; i++) free(jobs[i].cubin);
    free(jobs);
    return result;
}

void oh_gpu_kernels_unload(oh_gpu_backend_t *gpu) {
    for (int dtype = 0; dtype < OH_DTYPES; dtype++) {
        for (int op = 0; op < OH_OPS; op++) {
            CUmodule *modules = &gpu->kernels[dtype][op].module[0][0];
            for (int i = 0; i < OH_DEVICE_ALGORITHMS * OH_PACKET_CHOICES; i++) {
                if (modules[i] != NULL) gpu->cuda.cuModuleUnload(modules[i]);
            }
        }
    }
}
