/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>

#include "backend/cuda/cuda.h"
#include "backend/cuda/specialise.h"
#include "base/clock.h"
#include "base/log.h"
#include "bootstrap/agree.h"

/* One kernel to be compiled, and what it belongs to. */
typedef struct wish {
    oh_device_kernel_t kernel;
    bool whole;
    oh_gpu_kernel_t *out;
} wish_t;

enum { WISHES = 2 * (OH_DEVICE_KERNELS + 1) };

/* Both forms of a kernel, unless they are there or wished for already. */
static int wish_for(oh_gpu_backend_t *gpu, onehop_dtype_t dtype, onehop_op_t op, oh_device_kernel_t kernel,
                    wish_t *wishes, int count) {
    oh_gpu_kernel_t *form = oh_gpu_kernel_forms(gpu->kernels[dtype][op], kernel);
    for (int i = 0; i < count; i++) {
        if (wishes[i].out == form) return count;
    }
    if (form[1].function != NULL) return count; /* it is loaded after form[0] */
    wishes[count] = (wish_t){kernel, false, &form[0]};
    wishes[count + 1] = (wish_t){kernel, true, &form[1]};
    return count + 2;
}

/* Loading must not be taken for a part of somebody's capture. */
static onehop_result_t load(const oh_cuda_t *cuda, const void *cubin, oh_gpu_kernel_t *kernel) {
    CUstreamCaptureMode mode;
    OH_TRY(oh_cuda_step_out(cuda, &mode));
    onehop_result_t result =
        oh_cuda_check(cuda, cuda->cuModuleLoadData(&kernel->module, cubin), "cannot load a kernel");
    if (result == ONEHOP_SUCCESS) {
        result = oh_cuda_check(cuda, cuda->cuModuleGetFunction(&kernel->function, kernel->module, "onehop_kernel"),
                               "no kernel in what was compiled");
        if (result != ONEHOP_SUCCESS) {
            cuda->cuModuleUnload(kernel->module);
            kernel->module = NULL;
        }
    }
    oh_cuda_step_in(cuda, mode);
    return result;
}

static onehop_result_t compile_and_load(oh_gpu_backend_t *gpu, onehop_dtype_t dtype, onehop_op_t op,
                                        const wish_t *wishes, int count) {
    oh_jit_job_t *jobs = calloc((size_t)count, sizeof *jobs);
    if (jobs == NULL) return oh_fail(ONEHOP_OUT_OF_MEMORY, "out of memory");
    for (int i = 0; i < count; i++) {
        oh_specialise(gpu->nranks, gpu->rank, &gpu->sizes, dtype, op, wishes[i].kernel, wishes[i].whole, &jobs[i]);
    }
    const int64_t begin = oh_now_ns();
    onehop_result_t result = oh_jit_run(gpu->jit, jobs, count);
    const double ms = (double)(oh_now_ns() - begin) * 1e-6;
    gpu->compile_ms += ms;
    for (int i = 0; i < count; i++) {
        bool missing = wishes[i].out->function == NULL;
        if (result == ONEHOP_SUCCESS && missing) result = load(&gpu->cuda, jobs[i].cubin, wishes[i].out);
        free(jobs[i].cubin);
    }
    oh_log("rank %d: %d kernels for %s %s in %.1f ms, %s; loaded after %.1f ms", gpu->rank, count,
           onehop_dtype_string(dtype), onehop_op_string(op), ms, jobs[0].cached ? "cached" : "compiled",
           (double)(oh_now_ns() - begin) * 1e-6);
    free(jobs);
    return result;
}

/*
 * Loading may wait until the GPU is idle. A rank's kernel on the same GPU must not be waiting for us meanwhile: so
 * where ranks share one, none goes on before all have loaded.
 */
static onehop_result_t wait_for_sharers(oh_gpu_backend_t *gpu, onehop_result_t mine) {
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
    const oh_device_question_t question = oh_gpu_question(gpu, 0, dtype, op);
    for (int i = oh_device_kernels(&question, &gpu->tuning.tables[dtype], kernels); i > 0; i--) {
        count = wish_for(gpu, dtype, op, kernels[i - 1], wishes, count);
    }
    onehop_result_t result = count > 0 ? compile_and_load(gpu, dtype, op, wishes, count) : ONEHOP_SUCCESS;
    return gpu->share == 1 ? result : wait_for_sharers(gpu, result);
}

void oh_gpu_kernels_unload(oh_gpu_backend_t *gpu) {
    oh_gpu_kernel_t *kernels = &gpu->kernels[0][0][0][0][0][0];
    for (size_t i = 0; i < sizeof gpu->kernels / sizeof *kernels; i++) {
        if (kernels[i].module != NULL) gpu->cuda.cuModuleUnload(kernels[i].module);
    }
}
