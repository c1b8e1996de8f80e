/* SPDX-License-Identifier: Apache-2.0 */
/* What runs on a GPU's stream: graphs, events, and two small kernels that the driver compiles. */
#include <stdint.h>

#include "gpu_state.h"

/* ---- graphs ---- */

/* Threads that are other ranks may meanwhile do what a capture of theirs would forbid. */
bool gpu_capture_begin(gpu_t *gpu) {
    return gpu_good(gpu, gpu->cuda.cuStreamBeginCapture(gpu->stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL),
                    "no capture can begin");
}

bool gpu_capture_end(gpu_t *gpu, bool good, gpu_graph_t *graph) {
    CUgraph captured = NULL;
    CUgraphExec exec = NULL;
    CUresult end = gpu->cuda.cuStreamEndCapture(gpu->stream, &captured);
    good = good && gpu_good(gpu, end, "the capture failed") &&
           gpu_good(gpu, gpu->cuda.cuGraphInstantiateWithFlags(&exec, captured, 0), "the graph cannot be made");
    if (captured != NULL) gpu->cuda.cuGraphDestroy(captured);
    graph->exec = exec;
    return good;
}

bool gpu_replay(gpu_t *gpu, const gpu_graph_t *graph) {
    return gpu_good(gpu, gpu->cuda.cuGraphLaunch(graph->exec, gpu->stream), "the graph cannot be launched");
}

void gpu_graph_free(gpu_t *gpu, gpu_graph_t *graph) {
    if (graph->exec != NULL) gpu->cuda.cuGraphExecDestroy(graph->exec);
    graph->exec = NULL;
}

/* ---- time ---- */

bool gpu_mark_start(gpu_t *gpu) {
    return gpu_good(gpu, gpu->cuda.cuEventRecord(gpu->start, gpu->stream), "no event can be recorded");
}

bool gpu_mark_end(gpu_t *gpu) {
    return gpu_good(gpu, gpu->cuda.cuEventRecord(gpu->end, gpu->stream), "no event can be recorded");
}

bool gpu_elapsed_us(gpu_t *gpu, double *us) {
    float ms;
    if (!gpu_good(gpu, gpu->cuda.cuEventSynchronize(gpu->end), "the stream failed") ||
        !gpu_good(gpu, gpu->cuda.cuEventElapsedTime(&ms, gpu->start, gpu->end), "the time cannot be told"))
        return false;
    *us = 1e3 * (double)ms;
    return true;
}

/* ---- kernels ---- */

static const char kernels[] = ".version 7.0\n"
                              ".target sm_70\n"
                              ".address_size 64\n"
                              ".visible .entry delay(.param .u64 ns)\n"
                              "{\n"
                              "  .reg .u64 %ns, %begin, %now;\n"
                              "  .reg .pred %early;\n"
                              "  ld.param.u64 %ns, [ns];\n"
                              "  mov.u64 %begin, %globaltimer;\n"
                              "again:\n"
                              "  mov.u64 %now, %globaltimer;\n"
                              "  sub.u64 %now, %now, %begin;\n"
                              "  setp.lt.u64 %early, %now, %ns;\n"
                              "  @%early bra again;\n"
                              "  ret;\n"
                              "}\n"
                              ".visible .entry stir(.param .u64 memory, .param .u64 bytes)\n"
                              "{\n"
                              "  .reg .u64 %base, %bytes, %at, %stride, %place;\n"
                              "  .reg .u32 %block, %size, %thread, %grid, %a, %b, %c, %d;\n"
                              "  .reg .pred %over;\n"
                              "  ld.param.u64 %base, [memory];\n"
                              "  ld.param.u64 %bytes, [bytes];\n"
                              "  cvta.to.global.u64 %base, %base;\n"
                              "  mov.u32 %block, %ctaid.x;\n"
                              "  mov.u32 %size, %ntid.x;\n"
                              "  mov.u32 %thread, %tid.x;\n"
                              "  mov.u32 %grid, %nctaid.x;\n"
                              "  mad.lo.u32 %thread, %block, %size, %thread;\n"
                              "  mul.lo.u32 %grid, %grid, %size;\n"
                              "  mul.wide.u32 %at, %thread, 16;\n"
                              "  mul.wide.u32 %stride, %grid, 16;\n"
                              "next:\n"
                              "  setp.ge.u64 %over, %at, %bytes;\n"
                              "  @%over bra done;\n"
                              "  add.u64 %place, %base, %at;\n"
                              "  ld.global.v4.u32 {%a, %b, %c, %d}, [%place];\n"
                              "  add.u32 %a, %a, 1;\n"
                              "  st.global.v4.u32 [%place], {%a, %b, %c, %d};\n"
                              "  add.u64 %at, %at, %stride;\n"
                              "  bra next;\n"
                              "done:\n"
                              "  ret;\n"
                              "}\n";

bool gpu_load_kernels(gpu_t *gpu) {
    return gpu_good(gpu, gpu->cuda.cuModuleLoadData(&gpu->module, kernels), "the driver cannot compile PTX") &&
           gpu_good(gpu, gpu->cuda.cuModuleGetFunction(&gpu->delay, gpu->module, "delay"), "a kernel is missing") &&
           gpu_good(gpu, gpu->cuda.cuModuleGetFunction(&gpu->stir, gpu->module, "stir"), "a kernel is missing");
}

static bool launch(gpu_t *gpu, CUfunction function, unsigned blocks, unsigned threads, void **arguments) {
    CUlaunchConfig config = {.gridDimX = blocks, .gridDimY = 1, .gridDimZ = 1};
    config.blockDimX = threads;
    config.blockDimY = config.blockDimZ = 1;
    config.hStream = gpu->stream;
    return gpu_good(gpu, gpu->cuda.cuLaunchKernelEx(&config, function, arguments, NULL), "no kernel can be launched");
}

bool gpu_delay(gpu_t *gpu, unsigned us) {
    uint64_t ns = (uint64_t)us * 1000;
    return launch(gpu, gpu->delay, 1, 1, (void *[]){&ns});
}

bool gpu_stir(gpu_t *gpu, void *memory, size_t bytes) {
    enum { THREADS = 512, BLOCKS_EACH = 4 }; /* as many as fit at once, on GPUs with 2048 threads a processor */
    uint64_t address = (uint64_t)(uintptr_t)memory, length = bytes;
    return launch(gpu, gpu->stir, (unsigned)gpu->processors * BLOCKS_EACH, THREADS, (void *[]){&address, &length});
}
