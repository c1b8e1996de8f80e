/* SPDX-License-Identifier: Apache-2.0 */
#include "driver/nvrtc.h"

#include <dlfcn.h>
#include <string.h>

#include "base/status.h"
#include "driver/library.h"

static const oh_symbol_t symbols[] = {
    {offsetof(oh_nvrtc_t, nvrtcGetErrorString), "nvrtcGetErrorString"},
    {offsetof(oh_nvrtc_t, nvrtcVersion), "nvrtcVersion"},
    {offsetof(oh_nvrtc_t, nvrtcGetNumSupportedArchs), "nvrtcGetNumSupportedArchs"},
    {offsetof(oh_nvrtc_t, nvrtcGetSupportedArchs), "nvrtcGetSupportedArchs"},
    {offsetof(oh_nvrtc_t, nvrtcCreateProgram), "nvrtcCreateProgram"},
    {offsetof(oh_nvrtc_t, nvrtcDestroyProgram), "nvrtcDestroyProgram"},
    {offsetof(oh_nvrtc_t, nvrtcCompileProgram), "nvrtcCompileProgram"},
    {offsetof(oh_nvrtc_t, nvrtcGetCUBINSize), "nvrtcGetCUBINSize"},
    {offsetof(oh_nvrtc_t, nvrtcGetCUBIN), "nvrtcGetCUBIN"},
    {offsetof(oh_nvrtc_t, nvrtcGetProgramLogSize), "nvrtcGetProgramLogSize"},
    {offsetof(oh_nvrtc_t, nvrtcGetProgramLog), "nvrtcGetProgramLog"},
};

/* Where NVRTC usually is. The name without a version is whatever the machine's owner chose, so it comes first. */
static const char *const places[] = {
    "libnvrtc.so",
    "libnvrtc.so.13",
    "libnvrtc.so.12",
    "/usr/local/cuda/lib64/libnvrtc.so",
    "/usr/local/cuda/lib64/libnvrtc.so.13",
    "/usr/local/cuda/lib64/libnvrtc.so.12",
};

static onehop_result_t fill(const char *file, oh_nvrtc_t *nvrtc) {
    const char *missing = oh_library_resolve(nvrtc->library, symbols, sizeof symbols / sizeof *symbols, nvrtc);
    if (missing != NULL) return oh_fail(ONEHOP_UNSUPPORTED, "%.256s is no NVRTC: it has no %s", file, missing);
    int major, minor;
    if (nvrtc->nvrtcVersion(&major, &minor) != NVRTC_SUCCESS) {
        return oh_fail(ONEHOP_UNSUPPORTED, "%.256s does not tell its version", file);
    }
    nvrtc->version = 1000 * major + 10 * minor;
    if (nvrtc->version < OH_NVRTC_OLDEST) {
        return oh_fail(ONEHOP_UNSUPPORTED, "%.256s is too old: it is NVRTC %d.%d, expected %d.%d or newer", file, major,
                       minor, OH_NVRTC_OLDEST / 1000, OH_NVRTC_OLDEST % 1000 / 10);
    }
    return ONEHOP_SUCCESS;
}

static onehop_result_t adopt(const char *file, void *library, oh_nvrtc_t *nvrtc) {
    nvrtc->library = library;
    onehop_result_t result = fill(file, nvrtc);
    if (result != ONEHOP_SUCCESS) oh_nvrtc_close(nvrtc);
    return result;
}

onehop_result_t oh_nvrtc_open(const char *file, oh_nvrtc_t *nvrtc) {
    memset(nvrtc, 0, sizeof *nvrtc);
    if (file != NULL && file[0] != '\0') {
        void *library = oh_library_open(file);
        if (library == NULL) return oh_fail(ONEHOP_UNSUPPORTED, "cannot open NVRTC: %s", dlerror());
        return adopt(file, library, nvrtc);
    }
    onehop_result_t result = ONEHOP_SUCCESS;
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        void *library = oh_library_open(places[i]);
        if (library == NULL) continue;
        result = adopt(places[i], library, nvrtc);
        if (result == ONEHOP_SUCCESS) return result;
    }
    if (result != ONEHOP_SUCCESS) return result; /* there are some, but none will do */
    return oh_fail(ONEHOP_UNSUPPORTED,
                   "cannot find NVRTC, which compiles the kernels: libnvrtc.so, .so.13 or .so.12 is neither known to "
                   "the loader nor in /usr/local/cuda/lib64; set ONEHOP_NVRTC to its file, or LD_LIBRARY_PATH to its "
                   "directory");
}

void oh_nvrtc_close(oh_nvrtc_t *nvrtc) {
    if (nvrtc->library != NULL) dlclose(nvrtc->library);
    memset(nvrtc, 0, sizeof *nvrtc);
}
