/* SPDX-License-Identifier: Apache-2.0 */
/* What gpu.c and gpu_run.c share. This header alone sees the inside of the
 * library: the table of the driver's functions. */
#ifndef CLI_GPU_STATE_H
#define CLI_GPU_STATE_H

#include "base/status.h"
#include "driver/cuda.h"
#include "gpu.h"

struct gpu {
    oh_cuda_t cuda;
    CUdevice device;
    CUcontext context; /* NULL: not retained */
    CUstream stream;
    CUevent start, end;
    CUmodule module;
    CUfunction delay, stir;
    int processors;
    char name[128], driver[160];
};

/* Whether a call of the driver went well; `what` says in the error what was tried. */
bool gpu_good(gpu_t *gpu, CUresult result, const char *what);
/* Loads the kernels. */
bool gpu_load_kernels(gpu_t *gpu);

#endif
