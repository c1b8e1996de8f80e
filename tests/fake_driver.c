/* SPDX-License-Identifier: Apache-2.0 */
/* Passes for libcuda.so.1 and for NVRTC until it is asked to do something. What it says comes from the environment. */
#include <stdlib.h>
#include <string.h>

int cuInit(unsigned int flags);
int cuDriverGetVersion(int *version);
int cuGetErrorName(int error, const char **name);
int cuGetErrorString(int error, const char **text);
int nvrtcVersion(int *major, int *minor);

static int number(const char *variable) {
    const char *text = getenv(variable);
    return text == NULL ? 0 : atoi(text);
}

int cuInit(unsigned int flags) { return flags == 0 ? number("FAKE_INIT") : 1; }

int cuDriverGetVersion(int *version) {
    *version = number("FAKE_VERSION");
    return *version == 0 ? 3 : 0;
}

int cuGetErrorName(int error, const char **name) {
    *name = error == 2 ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR_FAKE";
    return error == 999 ? 1 : 0;
}

int cuGetErrorString(int error, const char **text) {
    *text = error == 2 ? "out of memory" : "as told";
    return error == 999 ? 1 : 0;
}

int nvrtcVersion(int *major, int *minor) {
    *major = number("FAKE_VERSION") / 1000;
    *minor = number("FAKE_VERSION") % 1000 / 10;
    return *major == 0 ? 1 : 0;
}
