/* SPDX-License-Identifier: Apache-2.0 */
/*
 * NVRTC, the compiler of CUDA C++ to machine code, opened at run time: a table of its functions and nothing else. A
 * member has the name under which NVIDIA's nvrtc.h declares the function.
 */
#ifndef OH_DRIVER_NVRTC_H
#define OH_DRIVER_NVRTC_H

#include <stddef.h>

#include "onehop.h"

typedef enum nvrtcResult { NVRTC_SUCCESS = 0, NVRTC_ERROR_OUT_OF_MEMORY = 1, NVRTC_ERROR_COMPILATION = 6 } nvrtcResult;
typedef struct _nvrtcProgram *nvrtcProgram;

enum { OH_NVRTC_OLDEST = 12040 }; /* 12.4: its assembler is the first to take .b128 accesses of .sys scope */

typedef struct oh_nvrtc {
    void *library;
    int version; /* 1000 * major + 10 * minor */

    const char *(*nvrtcGetErrorString)(nvrtcResult result);
    nvrtcResult (*nvrtcVersion)(int *major, int *minor);
    nvrtcResult (*nvrtcGetNumSupportedArchs)(int *count);
    nvrtcResult (*nvrtcGetSupportedArchs)(int *architectures);
    nvrtcResult (*nvrtcCreateProgram)(nvrtcProgram *program, const char *source, const char *name, int nheaders,
                                      const char *const *headers, const char *const *header_names);
    nvrtcResult (*nvrtcDestroyProgram)(nvrtcProgram *program);
    nvrtcResult (*nvrtcCompileProgram)(nvrtcProgram program, int noptions, const char *const *options);
    nvrtcResult (*nvrtcGetCUBINSize)(nvrtcProgram program, size_t *bytes);
    nvrtcResult (*nvrtcGetCUBIN)(nvrtcProgram program, char *cubin);
    nvrtcResult (*nvrtcGetProgramLogSize)(nvrtcProgram program, size_t *bytes);
    nvrtcResult (*nvrtcGetProgramLog)(nvrtcProgram program, char *log);
} oh_nvrtc_t;

/*
 * Opens `file`, or where it is NULL or "" the first NVRTC of 12.4 or newer that the loader or /usr/local/cuda has.
 * UNSUPPORTED: there is none. On failure *nvrtc is all zeros. Any thread.
 */
onehop_result_t oh_nvrtc_open(const char *file, oh_nvrtc_t *nvrtc);

/* Forgets the table. Nothing to do for a table of zeros. */
void oh_nvrtc_close(oh_nvrtc_t *nvrtc);

#endif
