/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kernels compiled at run time for the GPU at hand: NVRTC makes machine code of the sources embedded in the library,
 * several at once, and the disk cache keeps it.
 */
#ifndef OH_BACKEND_CUDA_JIT_H
#define OH_BACKEND_CUDA_JIT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"

enum { OH_JIT_OPTIONS = 16, OH_JIT_OPTION_LENGTH = 48 };

typedef struct oh_jit_job {
    /* what is wanted */
    const char *source;                                 /* a file of src/kernels/: "one_shot_push.cu" */
    char options[OH_JIT_OPTIONS][OH_JIT_OPTION_LENGTH]; /* "-DOH_RANK=2", ... */
    int noptions;
    /* what came of it */
    void *cubin; /* to be freed by the caller with free(); NULL if it failed */
    size_t bytes;
    bool cached; /* it came from the disk */
    double ms;   /* how long it took */
    onehop_result_t result;
    char error[OH_ERROR_TEXT]; /* "" unless it failed: the sentence, and what the compiler says */
} oh_jit_job_t;

typedef struct oh_jit oh_jit_t;

/*
 * Compiles for compute capability major.minor. Opens nothing yet: NVRTC is looked for when a job is not in the cache.
 *
 * cache_directory  made if it is not there; NULL or "": no cache
 * nvrtc            NVRTC's file; NULL or "": wherever it is found
 *
 * Errors: OUT_OF_MEMORY.
 */
onehop_result_t oh_jit_open(const char *cache_directory, const char *nvrtc, int major, int minor, oh_jit_t **out);

/*
 * Does all jobs, in parallel on the processors that this thread may run on, and returns when the last is done. Returns
 * the result of the first job that failed. May be called several times, by one thread at a time.
 * Errors: UNSUPPORTED (no NVRTC, or one too old), COMPILE_ERROR, OUT_OF_MEMORY, SYSTEM_ERROR.
 */
onehop_result_t oh_jit_run(oh_jit_t *jit, oh_jit_job_t *jobs, int count);

/* NULL is allowed. Cubins stay the caller's. */
void oh_jit_close(oh_jit_t *jit);

#endif
