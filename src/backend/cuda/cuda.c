/* SPDX-License-Identifier: Apache-2.0 */
/* An operation on GPUs, and all else that the backend offers to the library. */
#include "backend/cuda/cuda.h"
#include "backend/cuda/specialise.h"
#include "base/status.h"

static oh_gpu_backend_t *gpu_of(oh_backend_t *backend) { return (oh_gpu_backend_t *)(void *)backend; }

onehop_result_t oh_gpu_enter(oh_gpu_backend_t *gpu, bool *pushed) {
    CUcontext now = NULL;
    *pushed = false;
    OH_TRY(oh_cuda_check(&gpu->cuda, gpu->cuda.cuCtxGetCurrent(&now), "cannot ask for the current context"));
    if (now == gpu->context) return ONEHOP_SUCCESS;
    OH_TRY(oh_cuda_check(&gpu->cuda, gpu->cuda.cuCtxPushCurrent(gpu->context), "cannot use the context of GPU %d",
                         gpu->config.device_index));
    *pushed = true;
    return ONEHOP_SUCCESS;
}

void oh_gpu_leave(oh_gpu_backend_t *gpu, bool pushed) {
    CUcontext ours;
    if (pushed) gpu->cuda.cuCtxPopCurrent(&ours);
}

/* ---- a context that is broken ---- */

/* What has broken the context, if anything has. Legal while streams are captured; the event tells what all calls would.
 */
static CUresult fatal_error(oh_gpu_backend_t *gpu) {
    CUstreamCaptureMode mode;
    bool out = oh_cuda_step_out(&gpu->cuda, &mode) == ONEHOP_SUCCESS;
    CUresult result = gpu->cuda.cuEventQuery(gpu->order.event);
    if (out) oh_cuda_step_in(&gpu->cuda, mode);
    return oh_cuda_is_fatal(result) ? result : CUDA_SUCCESS;
}

/* A rank whose context is broken will not come any more: its peers need not wait until it is late. */
static onehop_result_t look_at_context(oh_gpu_backend_t *gpu) {
    CUresult error = fatal_error(gpu);
    if (error == CUDA_SUCCESS) return ONEHOP_SUCCESS;
    oh_cuda_check(&gpu->cuda, error,
                  "rank %d (pid %d): a kernel that ran earlier has broken the context of GPU %d: one of the program's "
                  "own, or an all-reduce of memory that was freed too early",
                  gpu->rank, (int)oh_bootstrap_pid(gpu->bootstrap, gpu->rank), gpu->config.device_index);
    return oh_fault_raise(&gpu->faults, ONEHOP_CUDA_ERROR, "%s", onehop_last_error());
}

/* ---- one operation ---- */

oh_device_question_t oh_gpu_question(const oh_gpu_backend_t *gpu, size_t count, onehop_dtype_t dtype, onehop_op_t op) {
    return (oh_device_question_t){.count = count,
                                  .dtype = dtype,
                                  .op = op,
                                  .nranks = gpu->nranks,
                                  .share = gpu->share,
                                  .max_blocks = gpu->config.max_blocks,
                                  .forced = gpu->forced,
                                  .teams = gpu->sizes.teams,
                                  .ring = gpu->sizes.ring,
                                  .slot_packets = gpu->sizes.packets,
                                  .page_bytes = gpu->sizes.page_bytes};
}

static oh_device_plan_t make_plan(const oh_gpu_backend_t *gpu, const oh_request_t *request, char *reason) {
    const oh_device_question_t question = oh_gpu_question(gpu, request->count, request->dtype, request->op);
    return oh_device_select(&question, &gpu->tuning.tables[request->dtype], reason);
}

/* Whether units can be moved whole: wide accesses to both buffers, and no rest at the end. */
static bool is_whole(const oh_request_t *request, oh_device_algorithm_t algorithm) {
    size_t unit = oh_device_unit_bytes(algorithm, request->dtype, request->op), need = unit == OH_PACKET ? unit : 4;
    bool aligned = (((uintptr_t)request->sendbuf | (uintptr_t)request->recvbuf) & (need - 1)) == 0;
    return aligned && (request->count << oh_dtype_shift(request->dtype)) % unit == 0;
}

/* `early`: as in oh_turn_t. An event that the stream waits for, the driver waits for nevertheless (bench/NOTES.md). */
static onehop_result_t launch(oh_gpu_backend_t *gpu, const oh_request_t *request, const oh_device_plan_t *plan,
                              oh_device_kernel_t kernel, CUfunction function, bool early) {
    oh_kernel_args_t args = gpu->args;
    args.send = request->sendbuf;
    args.recv = request->recvbuf;
    args.count = request->count;
    args.units = plan->units;
    args.steps = plan->steps;
    args.what = OH_WHAT(request->dtype, request->op);
    if (!oh_device_algorithms[plan->algorithm].packets) {
        const size_t bytes = request->count << oh_dtype_shift(request->dtype);
        args.send_place = oh_gpu_registry_find(&gpu->registry, request->sendbuf, bytes);
        args.recv_place = oh_gpu_registry_find(&gpu->registry, request->recvbuf, bytes);
        args.registered = (const oh_registered_t *)(uintptr_t)gpu->registry.table;
    }
    CUlaunchAttribute dependent = {.id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
                                   .value.programmaticStreamSerializationAllowed = 1};
    CUlaunchConfig config = {.gridDimX = (unsigned)plan->blocks,
                             .gridDimY = 1,
                             .gridDimZ = 1,
                             .blockDimX = (unsigned)oh_block_threads(plan->threads, kernel),
                             .blockDimY = 1,
                             .blockDimZ = 1,
                             .hStream = request->stream,
                             .attrs = &dependent,
                             .numAttrs = early ? 1 : 0};
    void *parameters[] = {&args};
    return oh_cuda_check(&gpu->cuda, gpu->cuda.cuLaunchKernelEx(&config, function, parameters, NULL),
                         "cannot launch %s with %d blocks of %d threads", oh_device_algorithms[plan->algorithm].name,
                         plan->blocks, plan->threads);
}

static onehop_result_t run_here(oh_gpu_backend_t *gpu, const oh_request_t *request) {
    size_t bytes = request->count << oh_dtype_shift(request->dtype);
    OH_TRY(oh_buffers_check(&gpu->buffers, &gpu->cuda, request->stream, "sendbuf", request->sendbuf, bytes));
    OH_TRY(oh_buffers_check(&gpu->buffers, &gpu->cuda, request->stream, "recvbuf", request->recvbuf, bytes));
    oh_device_plan_t plan = make_plan(gpu, request, NULL);
    oh_device_kernel_t wanted = oh_device_kernel_of(&plan);
    bool whole = is_whole(request, plan.algorithm);
    oh_gpu_kernel_t *kernel = &oh_gpu_kernel_forms(gpu->kernels[request->dtype][request->op], wanted)[whole];
    if (kernel->function == NULL) OH_TRY(oh_gpu_kernels_load(gpu, request->dtype, request->op, wanted));
    oh_turn_t turn;
    OH_TRY(oh_order_begin(&gpu->order, &gpu->cuda, request->stream, &turn));
    atomic_fetch_add_explicit(&gpu->operations, 1, memory_order_relaxed);
    OH_TRY(launch(gpu, request, &plan, wanted, kernel->function, gpu->dependent_launch && turn.early));
    return oh_order_end(&gpu->order, &gpu->cuda, &turn);
}

static onehop_result_t run(oh_backend_t *backend, const oh_request_t *request) {
    oh_gpu_backend_t *gpu = gpu_of(backend);
    if (oh_fault_present(&gpu->faults)) return oh_fault_get(&gpu->faults);
    if (request->count == 0) return ONEHOP_SUCCESS;
    bool pushed;
    OH_TRY(oh_gpu_enter(gpu, &pushed));
    onehop_result_t result = run_here(gpu, request);
    if (result == ONEHOP_CUDA_ERROR) {
        onehop_result_t broken = look_at_context(gpu);
        if (broken != ONEHOP_SUCCESS) result = broken;
    }
    oh_gpu_leave(gpu, pushed);
    return result;
}

/* ---- memory ---- */

static onehop_result_t gpu_alloc(oh_backend_t *backend, size_t bytes, void **ptr) {
    oh_gpu_backend_t *gpu = gpu_of(backend);
    bool pushed;
    OH_TRY(oh_gpu_enter(gpu, &pushed));
    onehop_result_t result = oh_gpu_registry_alloc(&gpu->registry, bytes, ptr);
    oh_gpu_leave(gpu, pushed);
    return result;
}

static onehop_result_t gpu_free(oh_backend_t *backend, void *ptr) {
    oh_gpu_backend_t *gpu = gpu_of(backend);
    bool pushed;
    OH_TRY(oh_gpu_enter(gpu, &pushed));
    onehop_result_t result = oh_gpu_registry_free(&gpu->registry, ptr);
    oh_gpu_leave(gpu, pushed);
    return result;
}

static oh_patience_t patience_of(oh_gpu_backend_t *gpu) {
    return (oh_patience_t){.timeout_ms = gpu->config.timeout_ms, .interrupt = oh_fault_interrupt, .ctx = &gpu->faults};
}

static onehop_result_t enroll(oh_backend_t *backend, void *ptr, size_t bytes) {
    oh_gpu_backend_t *gpu = gpu_of(backend);
    const oh_patience_t patience = patience_of(gpu);
    bool pushed, broken;
    OH_TRY(oh_gpu_enter(gpu, &pushed));
    onehop_result_t result = oh_gpu_registry_add(&gpu->registry, &patience, ptr, bytes, &broken);
    oh_gpu_leave(gpu, pushed);
    return oh_fault_settle(&gpu->faults, result, broken);
}

static onehop_result_t dismiss(oh_backend_t *backend, void *ptr) {
    oh_gpu_backend_t *gpu = gpu_of(backend);
    const oh_patience_t patience = patience_of(gpu);
    bool pushed, broken;
    OH_TRY(oh_gpu_enter(gpu, &pushed));
    onehop_result_t result = oh_gpu_registry_remove(&gpu->registry, &patience, ptr, &broken);
    oh_gpu_leave(gpu, pushed);
    return oh_fault_settle(&gpu->faults, result, broken);
}

/* Captured operations say where their buffers lie when they run: there is nothing to exchange. */
static onehop_result_t graph_register(oh_backend_t *backend) {
    (void)backend;
    return ONEHOP_SUCCESS;
}

/* ---- what it is ---- */

static void explain(const oh_backend_t *backend, const oh_request_t *request, bool registered,
                    onehop_choice_t *choice) {
    const oh_gpu_backend_t *gpu = (const oh_gpu_backend_t *)(const void *)backend;
    (void)registered;
    oh_device_plan_t plan = make_plan(gpu, request, choice->reason);
    choice->algorithm = oh_device_algorithms[plan.algorithm].name;
    choice->chunk_bytes = request->count << oh_dtype_shift(request->dtype);
    choice->blocks = plan.blocks;
    choice->threads = plan.threads;
    choice->packets = plan.packets;
    choice->steps = (int)plan.steps;
}

static void describe(const oh_backend_t *backend, onehop_comm_info_t *info) {
    const oh_gpu_backend_t *gpu = (const oh_gpu_backend_t *)(const void *)backend;
    info->workspace_bytes = gpu->sizes.total;
    info->staging_bytes = gpu->sizes.packet_bytes + gpu->sizes.page_bytes * (size_t)gpu->sizes.teams;
    info->control_bytes = gpu->sizes.total - info->staging_bytes;
    info->operations = atomic_load_explicit(&gpu->operations, memory_order_relaxed);
    info->device_name = gpu->gpus[gpu->rank].name;
    info->memory = oh_share_string(gpu->workspace.share);
    info->compile_ms = gpu->compile_ms;
    info->tuning = gpu->tuning.text;
    info->links = oh_links_name(gpu->links);
}

/* ---- faults ---- */

static onehop_result_t status(oh_backend_t *backend) {
    oh_gpu_backend_t *gpu = gpu_of(backend);
    bool pushed;
    OH_TRY(oh_gpu_look(gpu, "onehop_comm_get_async_error"));
    OH_TRY(oh_gpu_enter(gpu, &pushed));
    onehop_result_t result = look_at_context(gpu);
    oh_gpu_leave(gpu, pushed);
    return result;
}

static void gpu_abort(oh_backend_t *backend) { oh_fault_abort(&gpu_of(backend)->faults); }

const oh_backend_ops_t oh_gpu_ops = {
    .run = run,
    .alloc = gpu_alloc,
    .free = gpu_free,
    .enroll = enroll,
    .dismiss = dismiss,
    .graph_register = graph_register,
    .explain = explain,
    .describe = describe,
    .status = status,
    .abort = gpu_abort,
    .close = oh_gpu_close,
};
