/* SPDX-License-Identifier: Apache-2.0 */
#include "backend/cuda/specialise.h"

#include <stdio.h>

static void define(oh_jit_job_t *job, const char *name, size_t value) {
    snprintf(job->options[job->noptions++], OH_JIT_OPTION_LENGTH, "-D%s=%zu", name, value);
}

void oh_specialise(int nranks, int rank, const oh_device_sizes_t *sizes, onehop_dtype_t dtype, onehop_op_t op,
                   oh_device_kernel_t kernel, bool whole, oh_jit_job_t *job) {
    *job = (oh_jit_job_t){.source = oh_device_algorithms[kernel.algorithm].source};
    define(job, "OH_NRANKS", (size_t)nranks);
    define(job, "OH_RANK", (size_t)rank);
    define(job, "OH_DTYPE", (size_t)dtype);
    define(job, "OH_OP", (size_t)op);
    define(job, "OH_WHOLE", whole);
    define(job, "OH_MANY", kernel.many);
    define(job, "OH_K", (size_t)kernel.packets);
    define(job, "OH_THREADS",
           (size_t)oh_block_threads(oh_device_threads_max(nranks, kernel.packets, kernel.many), kernel));
    define(job, "OH_TEAMS", (size_t)sizes->teams);
    define(job, "OH_RING", (size_t)sizes->ring);
    define(job, "OH_SLOT_PACKETS", (size_t)sizes->packets);
    define(job, "OH_PAGES_AT", sizes->pages_at);
    define(job, "OH_PAGE_BYTES", sizes->page_bytes);
    define(job, "OH_PART", oh_device_part_units(kernel.algorithm, nranks, sizes->page_bytes));
}

int oh_block_threads(int workers, oh_device_kernel_t kernel) {
    return oh_device_algorithms[kernel.algorithm].packets ? workers + OH_KEEPER : workers;
}
