/* SPDX-License-Identifier: Apache-2.0 */
/* A GPU's context, stream and memory. */
#include "gpu.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gpu_state.h"

static _Thread_local char error_text[OH_ERROR_TEXT];

const char *gpu_error(void) { return error_text; }

/* Where the driver's table of functions, which the command shares with the library, leaves its errors: the library
 * keeps its own to itself. */
onehop_result_t oh_fail(onehop_result_t code, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error_text, sizeof error_text, format, arguments);
    va_end(arguments);
    return code;
}

bool gpu_good(gpu_t *gpu, CUresult result, const char *what) {
    return oh_cuda_check(&gpu->cuda, result, "%s", what) == ONEHOP_SUCCESS;
}

int gpu_count(void) {
    oh_cuda_t cuda;
    int count = 0;
    if (oh_cuda_open(&cuda) != ONEHOP_SUCCESS) return 0;
    if (cuda.cuDeviceGetCount(&count) != CUDA_SUCCESS) count = 0;
    oh_cuda_close(&cuda);
    return count;
}

/* ---- a GPU ---- */

/* The first number with a dot in the file where NVIDIA's kernel module says who it is. */
static void kernel_driver(char *out, size_t room) {
    char line[256] = "";
    FILE *file = fopen("/proc/driver/nvidia/version", "r");
    if (file != NULL && fgets(line, sizeof line, file) == NULL) line[0] = '\0';
    if (file != NULL) fclose(file);
    snprintf(out, room, "unknown");
    for (char *rest, *word = strtok_r(line, " \t\n", &rest); word != NULL; word = strtok_r(NULL, " \t\n", &rest)) {
        if (word[strspn(word, "0123456789.")] != '\0' || strchr(word, '.') == NULL) continue;
        snprintf(out, room, "%s", word);
        return;
    }
}

static void describe(gpu_t *gpu) {
    char kernel[64];
    int version = 0;
    kernel_driver(kernel, sizeof kernel);
    gpu->cuda.cuDriverGetVersion(&version);
    snprintf(gpu->driver, sizeof gpu->driver, "CUDA %d.%d, kernel driver %s", version / 1000, version % 1000 / 10,
             kernel);
}

static bool set_up(gpu_t *gpu, int index) {
    const oh_cuda_t *cuda = &gpu->cuda;
    if (!gpu_good(gpu, cuda->cuDeviceGet(&gpu->device, index), "the GPU cannot be found") ||
        !gpu_good(gpu, cuda->cuDeviceGetName(gpu->name, sizeof gpu->name, gpu->device), "the GPU has no name") ||
        !gpu_good(gpu,
                  cuda->cuDeviceGetAttribute(&gpu->processors, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, gpu->device),
                  "the GPU's processors cannot be counted") ||
        !gpu_good(gpu, cuda->cuDevicePrimaryCtxRetain(&gpu->context, gpu->device), "the GPU gives no context"))
        return false;
    return gpu_enter(gpu) &&
           gpu_good(gpu, cuda->cuStreamCreate(&gpu->stream, CU_STREAM_NON_BLOCKING), "no stream can be made") &&
           gpu_good(gpu, cuda->cuEventCreate(&gpu->start, CU_EVENT_DEFAULT), "no event can be made") &&
           gpu_good(gpu, cuda->cuEventCreate(&gpu->end, CU_EVENT_DEFAULT), "no event can be made") &&
           gpu_load_kernels(gpu);
}

gpu_t *gpu_open(int index) {
    gpu_t *gpu = calloc(1, sizeof *gpu);
    if (gpu == NULL) {
        oh_fail(ONEHOP_OUT_OF_MEMORY, "no memory");
        return NULL;
    }
    if (oh_cuda_open(&gpu->cuda) != ONEHOP_SUCCESS) {
        free(gpu);
        return NULL;
    }
    describe(gpu);
    if (set_up(gpu, index)) return gpu;
    gpu_close(gpu);
    return NULL;
}

void gpu_close(gpu_t *gpu) {
    if (gpu == NULL) return;
    if (gpu->module != NULL) gpu->cuda.cuModuleUnload(gpu->module);
    if (gpu->start != NULL) gpu->cuda.cuEventDestroy(gpu->start);
    if (gpu->end != NULL) gpu->cuda.cuEventDestroy(gpu->end);
    if (gpu->stream != NULL) gpu->cuda.cuStreamDestroy(gpu->stream);
    if (gpu->context != NULL) gpu->cuda.cuDevicePrimaryCtxRelease(gpu->device);
    oh_cuda_close(&gpu->cuda);
    free(gpu);
}

bool gpu_enter(gpu_t *gpu) {
    return gpu_good(gpu, gpu->cuda.cuCtxSetCurrent(gpu->context), "the context cannot be made current");
}

const char *gpu_name(const gpu_t *gpu) { return gpu->name; }
const char *gpu_driver(const gpu_t *gpu) { return gpu->driver; }
int gpu_processors(const gpu_t *gpu) { return gpu->processors; }
void *gpu_stream(const gpu_t *gpu) { return gpu->stream; }

bool gpu_synchronize(gpu_t *gpu) {
    return gpu_good(gpu, gpu->cuda.cuStreamSynchronize(gpu->stream), "the stream failed");
}

/* ---- memory ---- */

static CUdeviceptr address(const void *memory) { return (CUdeviceptr)(uintptr_t)memory; }

void *gpu_alloc(gpu_t *gpu, size_t bytes) {
    CUdeviceptr memory;
    char what[80];
    snprintf(what, sizeof what, "no %zu bytes of memory on the GPU", bytes);
    return gpu_good(gpu, gpu->cuda.cuMemAlloc(&memory, bytes), what) ? (void *)(uintptr_t)memory : NULL;
}

void gpu_free(gpu_t *gpu, void *memory) {
    if (memory != NULL) gpu->cuda.cuMemFree(address(memory));
}

/* On the stream, since a stream that blocks nobody is not waited for by copies of the default one. */
bool gpu_upload(gpu_t *gpu, void *device, const void *host, size_t bytes) {
    if (bytes == 0) return true;
    CUresult result = gpu->cuda.cuMemcpyHtoDAsync(address(device), host, bytes, gpu->stream);
    return gpu_good(gpu, result, "data cannot be copied to the GPU") && gpu_synchronize(gpu);
}

bool gpu_download(gpu_t *gpu, void *host, const void *device, size_t bytes) {
    if (bytes == 0) return true;
    CUresult result = gpu->cuda.cuMemcpyDtoHAsync(host, address(device), bytes, gpu->stream);
    return gpu_good(gpu, result, "data cannot be copied from the GPU") && gpu_synchronize(gpu);
}

bool gpu_copy(gpu_t *gpu, void *to, const void *from, size_t bytes) {
    if (bytes == 0) return true;
    return gpu_good(gpu, gpu->cuda.cuMemcpyDtoDAsync(address(to), address(from), bytes, gpu->stream),
                    "data cannot be copied on the GPU");
}

bool gpu_fill(gpu_t *gpu, void *to, unsigned char byte, size_t bytes) {
    if (bytes == 0) return true;
    return gpu_good(gpu, gpu->cuda.cuMemsetD8Async(address(to), byte, bytes, gpu->stream),
                    "memory of the GPU cannot be filled");
}
