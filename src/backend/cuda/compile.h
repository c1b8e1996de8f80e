/* SPDX-License-Identifier: Apache-2.0 */
/* One run of the compiler: an embedded source, options and an architecture in, machine code out. */
#ifndef OH_BACKEND_CUDA_COMPILE_H
#define OH_BACKEND_CUDA_COMPILE_H

#include "base/status.h"
#include "driver/nvrtc.h"

typedef struct oh_compilation {
    const char *source;         /* a file of src/kernels/ */
    const char *const *options; /* besides those that all kernels get */
    int noptions;
    int major, minor; /* compute capability */
} oh_compilation_t;

enum { OH_COMPILE_OPTIONS = 32 }; /* most options of one run */

/* The options that all kernels get; their number. */
int oh_compile_options(const char *const **options);

/*
 * Compiles. *cubin and *log (what the compiler said, "" for nothing) are the caller's to free(); both are stored on
 * success only. COMPILE_ERROR: the sentence ends in what the compiler says.
 * Any thread, several at once.
 */
onehop_result_t oh_compile(const oh_nvrtc_t *nvrtc, const oh_compilation_t *what, void **cubin, size_t *bytes,
                           char **log);

#endif
