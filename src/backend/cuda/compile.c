/* SPDX-License-Identifier: Apache-2.0 */
#include "backend/cuda/compile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/cuda/sources.h"

enum { ARCHITECTURES = 64, HEADERS = 64 };

/* --minimal leaves out declarations that the kernels do not need. */
static const char *const common[] = {
    "--std=c++17",
    "-default-device",
    "--minimal",
};
enum { COMMON = sizeof common / sizeof *common };

int oh_compile_options(const char *const **options) {
    *options = common;
    return COMMON;
}

static const oh_source_t *find(const char *source) {
    for (int i = 0; i < oh_nsources; i++) {
        const char *name = oh_sources[i].name;
        if (strncmp(name, "kernels/", 8) == 0 && strcmp(name + 8, source) == 0) return &oh_sources[i];
    }
    return NULL;
}

static onehop_result_t check(const oh_nvrtc_t *nvrtc, nvrtcResult result, const char *what) {
    if (result == NVRTC_SUCCESS) return ONEHOP_SUCCESS;
    onehop_result_t code = result == NVRTC_ERROR_OUT_OF_MEMORY ? ONEHOP_OUT_OF_MEMORY : ONEHOP_COMPILE_ERROR;
    return oh_fail(code, "NVRTC %d.%d cannot %s: %s", nvrtc->version / 1000, nvrtc->version % 1000 / 10, what,
                   nvrtc->nvrtcGetErrorString(result));
}

static onehop_result_t check_architecture(const oh_nvrtc_t *nvrtc, const oh_compilation_t *what) {
    int count = 0, known[ARCHITECTURES], wanted = 10 * what->major + what->minor;
    OH_TRY(check(nvrtc, nvrtc->nvrtcGetNumSupportedArchs(&count), "count its architectures"));
    if (count < 1 || count > ARCHITECTURES) {
        return oh_fail(ONEHOP_UNSUPPORTED, "NVRTC knows %d architectures: expected 1 to %d", count, ARCHITECTURES);
    }
    OH_TRY(check(nvrtc, nvrtc->nvrtcGetSupportedArchs(known), "name its architectures"));
    for (int i = 0; i < count; i++) {
        if (known[i] == wanted) return ONEHOP_SUCCESS;
    }
    return oh_fail(ONEHOP_UNSUPPORTED, "NVRTC %d.%d does not know sm_%d, which this GPU is: it knows sm_%d to sm_%d",
                   nvrtc->version / 1000, nvrtc->version % 1000 / 10, wanted, known[0], known[count - 1]);
}

static onehop_result_t read_log(const oh_nvrtc_t *nvrtc, nvrtcProgram program, char **log) {
    size_t bytes = 0;
    OH_TRY(check(nvrtc, nvrtc->nvrtcGetProgramLogSize(program, &bytes), "tell the size of its log"));
    char *text = calloc(1, bytes + 1);
    if (text == NULL) return oh_fail(ONEHOP_OUT_OF_MEMORY, "no memory for the compiler's log of %zu bytes", bytes);
    onehop_result_t result = ONEHOP_SUCCESS;
    if (bytes > 0) result = check(nvrtc, nvrtc->nvrtcGetProgramLog(program, text), "show its log");
    if (result != ONEHOP_SUCCESS) {
        free(text);
        return result;
    }
    *log = text;
    return ONEHOP_SUCCESS;
}

static onehop_result_t read_cubin(const oh_nvrtc_t *nvrtc, nvrtcProgram program, void **cubin, size_t *bytes) {
    OH_TRY(check(nvrtc, nvrtc->nvrtcGetCUBINSize(program, bytes), "tell the size of the machine code"));
    void *code = malloc(*bytes + 1);
    if (code == NULL) return oh_fail(ONEHOP_OUT_OF_MEMORY, "no memory for machine code of %zu bytes", *bytes);
    onehop_result_t result = check(nvrtc, nvrtc->nvrtcGetCUBIN(program, code), "give the machine code");
    if (result != ONEHOP_SUCCESS) {
        free(code);
        return result;
    }
    *cubin = code;
    return ONEHOP_SUCCESS;
}

static nvrtcResult translate(const oh_nvrtc_t *nvrtc, nvrtcProgram program, const oh_compilation_t *what) {
    const char *options[OH_COMPILE_OPTIONS];
    char architecture[48];
    int count = 0;
    snprintf(architecture, sizeof architecture, "--gpu-architecture=sm_%d%d", what->major, what->minor);
    options[count++] = architecture;
    for (int i = 0; i < what->noptions; i++) options[count++] = what->options[i];
    for (int i = 0; i < COMMON; i++) options[count++] = common[i];
    return nvrtc->nvrtcCompileProgram(program, count, options);
}

static onehop_result_t explain(const oh_nvrtc_t *nvrtc, nvrtcProgram program, const oh_compilation_t *what,
                               nvrtcResult result) {
    char *log = NULL;
    OH_TRY(read_log(nvrtc, program, &log));
    onehop_result_t code = result == NVRTC_ERROR_OUT_OF_MEMORY ? ONEHOP_OUT_OF_MEMORY : ONEHOP_COMPILE_ERROR;
    oh_fail(code, "NVRTC %d.%d cannot compile %s for sm_%d%d: %s: %.380s", nvrtc->version / 1000,
            nvrtc->version % 1000 / 10, what->source, what->major, what->minor, nvrtc->nvrtcGetErrorString(result),
            log);
    free(log);
    return code;
}

static onehop_result_t run(const oh_nvrtc_t *nvrtc, nvrtcProgram program, const oh_compilation_t *what, void **cubin,
                           size_t *bytes, char **log) {
    nvrtcResult result = translate(nvrtc, program, what);
    if (result != NVRTC_SUCCESS) return explain(nvrtc, program, what, result);
    void *code = NULL;
    OH_TRY(read_cubin(nvrtc, program, &code, bytes));
    onehop_result_t outcome = read_log(nvrtc, program, log);
    if (outcome != ONEHOP_SUCCESS) {
        free(code);
        return outcome;
    }
    *cubin = code;
    return ONEHOP_SUCCESS;
}

onehop_result_t oh_compile(const oh_nvrtc_t *nvrtc, const oh_compilation_t *what, void **cubin, size_t *bytes,
                           char **log) {
    const oh_source_t *source = find(what->source);
    if (source == NULL) return oh_fail(ONEHOP_COMPILE_ERROR, "there is no kernel source \"%s\"", what->source);
    if (what->noptions < 0 || what->noptions > OH_COMPILE_OPTIONS - COMMON - 1 || oh_nsources > HEADERS) {
        return oh_fail(ONEHOP_COMPILE_ERROR, "%s has %d options: expected at most %d", what->source, what->noptions,
                       OH_COMPILE_OPTIONS - COMMON - 1);
    }
    OH_TRY(check_architecture(nvrtc, what));
    const char *texts[HEADERS], *names[HEADERS];
    for (int i = 0; i < oh_nsources; i++) {
        texts[i] = oh_sources[i].text;
        names[i] = oh_sources[i].name;
    }
    nvrtcProgram program;
    OH_TRY(check(nvrtc, nvrtc->nvrtcCreateProgram(&program, source->text, source->name, oh_nsources, texts, names),
                 "take the kernel's source"));
    onehop_result_t result = run(nvrtc, program, what, cubin, bytes, log);
    nvrtc->nvrtcDestroyProgram(&program);
    return result;
}
