/* SPDX-License-Identifier: Apache-2.0 */
/* What a kernel is specialised by: the job that compiles it. Pure functions. */
#ifndef OH_BACKEND_CUDA_SPECIALISE_H
#define OH_BACKEND_CUDA_SPECIALISE_H

#include "arena/device_sizes.h"
#include "backend/cuda/jit.h"
#include "select/device.h"

/* whole: all units are whole and aligned (kernels/element.h). */
void oh_specialise(int nranks, int rank, const oh_device_sizes_t *sizes, onehop_dtype_t dtype, onehop_op_t op,
                   oh_device_kernel_t kernel, bool whole, oh_jit_job_t *job);

/* Threads of a block: where credits are kept (kernels/packet.h), one warp more than do the work. */
int oh_block_threads(int workers, oh_device_kernel_t kernel);

#endif
