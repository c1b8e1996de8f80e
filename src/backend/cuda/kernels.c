/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>

#include "backend/cuda/cuda.h"
#include "base/clock.h"
#include "base/log.h"
#include "bootstrap/agree.h"

/* One kernel to be loaded, and where to. */
typedef struct wish {
    oh_device_kernel_t kernel;
    bool whole;
    oh_gpu_kernel_t *out;
} wish_t;

enum { WISHES = 2 * (OH_DEVICE_KERNELS + 1) };

static void define(oh_jit_job_t *job, const char *name, size_t value) {
    snprintf(job->options[job->noptions++], OH_JIT_OPTION_LENGTH, "-D%s=%zu", name, value);
}

/* All that a kernel is specialised by. */
static void describe_job(const oh_gpu_backend_t *gpu, onehop_dtype_t dtype, onehop_op_t op, const wish_t *wish,
                         oh_jit_job_t *job) {
    const oh_device_kernel_t *kernel = &wish->kernel;
    *job = (oh_jit_job_t){.source = oh_device_algorithms[kernel->algorithm].source};
    define(job, "OH_NRANKS", (size_t)gpu->nranks);
    define(job, "OH_RANK", (size_t)gpu->rank);
    define(job, "OH_DTYPE", (size_t)dtype);
    define(job, "OH_OP", (size_t)op);
    define(job, "OH_K", (size_t)kernel->packets);
    define(job, "OH_MANY", kernel->many);
    define(job, "OH_THREADS", (size_t)oh_gpu_threads(oh_device_threads_max(gpu->nranks, kernel->packets), *kernel));
    define(job, "OH_TEAMS", (size_t)gpu->sizes.teams);
    define(job, "OH_RING", (size_t)gpu->sizes.ring);
    define(job, "OH_SLOT_PACKETS", (size_t)gpu->sizes.packets);
    define(job, "OH_PAGES_AT", gpu->sizes.pages_at);
    define(job, "OH_PAGE_BYTES", gpu->sizes.page_bytes);
    define(job, "OH_PART", oh_device_part_units(kernel->algorithm, gpu->nranks, gpu->sizes.page_bytes));
    define(job, "OH_WHOLE", wish->whole);
}

/* Both forms of a kernel, unless they are there or wished for already. */
static int wish_for(oh_gpu_backend_t *gpu, onehop_dtype_t dtype, onehop_op_t op, oh_device_kernel_t kernel,
                    wish_t *wishes, int count) {
    oh_gpu_kernel_t *form = oh_gpu_kernel_forms(gpu->kernels[dtype][op], kernel);
    for (int i = 0; i < count; i++) {
        if (wishes[i].out == form) return count;
    }
    if (form->function != NULL) return count;
    wishes[count] = (wish_t){kernel, false, &form[0]};
    wishes[count + 1] = (wish_t){kernel, true, &form[1]};
    return count + 2;
}

static onehop_result_t load_module(const oh_cuda_t *cuda, const wish_t *wish, const oh_jit_job_t *job) {
    CUfunction function;
    OH_TRY(oh_cuda_check(cuda, cuda->cuModuleLoadData(&wish->out->module, job->cubin), "cannot load the kernel of %s",
                         job->source));
    OH_TRY(oh_cuda_check(cuda, cuda->cuModuleGetFunction(&function, wish->out->module, "onehop_kernel"),
                         "no kernel in what was compiled of %s", job->source));
    wish->out->function = function;
    return ONEHOP_SUCCESS;
}

/* Loading must not be taken for a part of somebody's capture. */
static onehop_result_t load_modules(const oh_cuda_t *cuda, const wish_t *wishes, const oh_jit_job_t *jobs, int count) {
    CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_RELAXED;
    OH_TRY(oh_cuda_check(cuda, cuda->cuThreadExchangeStreamCaptureMode(&mode), "cannot step out of a capture"));
    onehop_result_t result = ONEHOP_SUCCESS;
    for (int i = 0; i < count && result == ONEHOP_SUCCESS; i++) result = load_module(cuda, &wishes[i], &jobs[i]);
    cuda->cuThreadExchangeStreamCaptureMode(&mode);
    return result;
}

/*
 * Loading may wait until the GPU is idle. A rank's kernel on the same GPU must not be waiting for us meanwhile: so
 * where ranks share one, none goes on before all have loaded.
 */
static onehop_result_t wait_for_sharers(oh_gpu_backend_t *gpu, onehop_result_t mine) {
    if (gpu->share == 1) return mine;
    const oh_patience_t patience = {.timeout_ms = gpu->config.timeout_ms};
    onehop_result_t verdict;
    OH_TRY(oh_agree(gpu->bootstrap, "kernels", mine, &patience, &verdict));
    return verdict;
}

onehop_result_t oh_gpu_kernels_load(oh_gpu_backend_t *gpu, onehop_dtype_t dtype, onehop_op_t op,
                                    oh_device_kernel_t wanted) {
    oh_device_kernel_t kernels[OH_DEVICE_KERNELS];
    wish_t wishes[WISHES];
    int count = wish_for(gpu, dtype, op, wanted, wishes, 0);
    for (int i = oh_device_kernels(gpu->nranks, gpu->sizes.ring, &gpu->forced, kernels); i > 0; i--) {
        count = wish_for(gpu, dtype, op, kernels[i - 1], wishes, count);
    }
    oh_jit_job_t *jobs = calloc((size_t)count, sizeof *jobs);
    if (jobs == NULL) return oh_fail(ONEHOP_OUT_OF_MEMORY, "out of memory");
    for (int i = 0; i < count; i++) describe_job(gpu, dtype, op, &wishes[i], &jobs[i]);
    const int64_t begin = oh_now_ns();
    onehop_result_t result = oh_jit_run(gpu->jit, jobs, count);
    if (result == ONEHOP_SUCCESS) result = load_modules(&gpu->cuda, wishes, jobs, count);
    const double ms = (double)(oh_now_ns() - begin) * 1e-6;
    gpu->compile_ms += ms;
    oh_log("rank %d: %d kernels for %s %s in %.1f ms, %s", gpu->rank, count, onehop_dtype_string(dtype),
           onehop_op_string(op), ms, jobs[0].cached ? "cached" : "compiled");
    for (int i = 0; i < count; i++) free(jobs[i].cubin);
    free(jobs);
    return wait_for_sharers(gpu, result);
}

void oh_gpu_kernels_unload(oh_gpu_backend_t *gpu) {
    oh_gpu_kernel_t *kernels = &gpu->kernels[0][0][0][0][0][0];
    for (size_t i = 0; i < sizeof gpu->kernels / sizeof *kernels; i++) {
        if (kernels[i].module != NULL) gpu->cuda.cuModuleUnload(kernels[i].module);
    }
}
