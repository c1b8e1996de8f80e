/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The GPU of one rank, as a program that uses Onehop has it: a context, a stream, memory, graphs, events, and the two
 * kernels that a benchmark needs. Whatever returns bool or a pointer has failed with false or NULL; gpu_error() then
 * says why. All of it is asynchronous on the GPU's one stream unless it says otherwise.
 */
#ifndef CLI_GPU_H
#define CLI_GPU_H

#include <stdbool.h>
#include <stddef.h>

typedef struct gpu gpu_t;

/* How many there are; 0 where there is no driver. A process that forks must not have asked. */
int gpu_count(void);

/* Retains the primary context of a GPU and makes it current on this thread. */
gpu_t *gpu_open(int index);
void gpu_close(gpu_t *gpu);
/* Makes it current on this thread, which will use it from now on. */
bool gpu_enter(gpu_t *gpu);
/* Of this thread. */
const char *gpu_error(void);

const char *gpu_name(const gpu_t *gpu);
/* "CUDA 13.0, kernel driver 580.159.04" */
const char *gpu_driver(const gpu_t *gpu);
/* How many multiprocessors it has. */
int gpu_processors(const gpu_t *gpu);
/* For onehop_all_reduce. */
void *gpu_stream(const gpu_t *gpu);
/* Waits for all that was asked of it. */
bool gpu_synchronize(gpu_t *gpu);

/* ---- memory ---- */

void *gpu_alloc(gpu_t *gpu, size_t bytes);
/* NULL is allowed. */
void gpu_free(gpu_t *gpu, void *memory);
/* Host to device and back; these wait. */
bool gpu_upload(gpu_t *gpu, void *device, const void *host, size_t bytes);
bool gpu_download(gpu_t *gpu, void *host, const void *device, size_t bytes);
/* Within the device. */
bool gpu_copy(gpu_t *gpu, void *to, const void *from, size_t bytes);
bool gpu_fill(gpu_t *gpu, void *to, unsigned char byte, size_t bytes);

/* ---- graphs ---- */

typedef struct gpu_graph {
    void *exec; /* NULL: none */
} gpu_graph_t;

bool gpu_capture_begin(gpu_t *gpu);
/* Ends the capture whether or not it was `good`; if it was, *graph can be replayed. */
bool gpu_capture_end(gpu_t *gpu, bool good, gpu_graph_t *graph);
bool gpu_replay(gpu_t *gpu, const gpu_graph_t *graph);
void gpu_graph_free(gpu_t *gpu, gpu_graph_t *graph);

/* ---- time ---- */

/* The time between these two marks on the stream. */
bool gpu_mark_start(gpu_t *gpu);
bool gpu_mark_end(gpu_t *gpu);
/* Waits for the second of them. */
bool gpu_elapsed_us(gpu_t *gpu, double *us);

/* ---- kernels ---- */

/* Keeps the stream busy for so long: what is asked for meanwhile begins at once behind it. */
bool gpu_delay(gpu_t *gpu, unsigned us);
/* Reads every 16 bytes of `memory` and writes them back changed; `bytes` is a multiple of 16. */
bool gpu_stir(gpu_t *gpu, void *memory, size_t bytes);

#endif
