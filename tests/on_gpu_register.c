/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Registered buffers: memory of every kind, another one on every rank, used directly by the algorithms that do so,
 * called and captured; and what is left after many rounds.
 */
#include <stdio.h>
#include <string.h>

#include "gpu_state.h"
#include "on_gpu.h"

enum { PIECES = 5, OFFSET = 4096 + 256, CALLS = 10, ROUNDS = 2000, QUICK_ROUNDS = 200, BEFORE = 50 };

/* ---- memory of every kind ---- */

typedef enum kind { KIND_OWN, KIND_PLAIN, KIND_MAPPED, KIND_POOL, KINDS } kind_t;

static const char *const kind_names[KINDS] = {"onehop_alloc", "cuMemAlloc", "mapped in pieces", "cuMemAllocAsync"};

typedef struct area {
    kind_t kind;
    void *memory;
    size_t bytes; /* of the memory */
    unsigned char *begin;
} area_t;

static CUresult call_pool(seat_t *seat, const char *name, CUdeviceptr *memory, size_t bytes) {
    void *function = driver_function(name);
    if (bytes == 0) return ((CUresult(*)(CUdeviceptr, CUstream))function)(*memory, seat->gpu->stream);
    return ((CUresult(*)(CUdeviceptr *, size_t, CUstream))function)(memory, bytes, seat->gpu->stream);
}

/* One range of addresses over several pieces of memory, as segments that expand are made. */
static void map_pieces(seat_t *seat, area_t *area) {
    const oh_cuda_t *cuda = &seat->gpu->cuda;
    CUmemAllocationProp properties = {.type = CU_MEM_ALLOCATION_TYPE_PINNED,
                                      .requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
                                      .location = {CU_MEM_LOCATION_TYPE_DEVICE, seat->gpu->device}};
    const CUmemAccessDesc access = {properties.location, CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
    size_t piece;
    CUdeviceptr base;
    CHECK_CUDA(cuda->cuMemGetAllocationGranularity(&piece, &properties, CU_MEM_ALLOC_GRANULARITY_MINIMUM));
    while (piece * PIECES < area->bytes) piece *= 2;
    area->bytes = piece * PIECES;
    CHECK_CUDA(cuda->cuMemAddressReserve(&base, area->bytes, 0, 0, 0));
    for (int i = 0; i < PIECES; i++) {
        CUmemGenericAllocationHandle handle;
        CHECK_CUDA(cuda->cuMemCreate(&handle, piece, &properties, 0));
        CHECK_CUDA(cuda->cuMemMap(base + (size_t)i * piece, piece, 0, handle, 0));
        CHECK_CUDA(cuda->cuMemRelease(handle));
    }
    CHECK_CUDA(cuda->cuMemSetAccess(base, area->bytes, &access, 1));
    area->memory = (void *)(uintptr_t)base;
}

static void unmap_pieces(seat_t *seat, const area_t *area) {
    const oh_cuda_t *cuda = &seat->gpu->cuda;
    CUdeviceptr base = (CUdeviceptr)(uintptr_t)area->memory;
    for (size_t i = 0; i < PIECES; i++) {
        CHECK_CUDA(cuda->cuMemUnmap(base + i * (area->bytes / PIECES), area->bytes / PIECES));
    }
    CHECK_CUDA(cuda->cuMemAddressFree(base, area->bytes));
}

/* Registered from `begin` on, which lies somewhere inside. */
static area_t area_new(seat_t *seat, kind_t kind, size_t bytes) {
    area_t area = {.kind = kind, .bytes = bytes + OFFSET};
    CUdeviceptr pooled = 0;
    doing("get %zu bytes: %s", bytes, kind_names[kind]);
    if (kind == KIND_OWN) CHECK_SUCCESS(onehop_alloc(seat->comm, area.bytes, &area.memory));
    if (kind == KIND_PLAIN) area.memory = gpu_alloc(seat->gpu, area.bytes);
    if (kind == KIND_MAPPED) map_pieces(seat, &area);
    if (kind == KIND_POOL) {
        CHECK_CUDA(call_pool(seat, "cuMemAllocAsync", &pooled, area.bytes));
        CHECK(gpu_synchronize(seat->gpu), "%s", gpu_error());
        area.memory = (void *)(uintptr_t)pooled;
    }
    CHECK(area.memory != NULL, "no memory: %s", gpu_error());
    area.begin = (unsigned char *)area.memory + OFFSET;
    CHECK_SUCCESS(onehop_register(seat->comm, area.begin, bytes));
    return area;
}

static void area_free(seat_t *seat, area_t *area) {
    CUdeviceptr address = (CUdeviceptr)(uintptr_t)area->memory;
    if (area->kind == KIND_OWN) CHECK_SUCCESS(onehop_free(seat->comm, area->memory));
    if (area->kind == KIND_PLAIN) gpu_free(seat->gpu, area->memory);
    if (area->kind == KIND_MAPPED) unmap_pieces(seat, area);
    if (area->kind == KIND_POOL) CHECK_CUDA(call_pool(seat, "cuMemFreeAsync", &address, 0));
}

/* ---- use ---- */

static void settle_and_check(seat_t *seat, const call_t *calls) {
    seat_settle(seat, 2 * GPU_PLENTY_MS);
    seat_check_well(seat);
    for (int i = 0; i < CALLS; i++) call_check(seat, &calls[i]);
}

/* Each call has its own part of both areas. */
static void draw_calls(rng_t *rng, const image_t *image, const area_t *send, const area_t *recv, size_t each,
                       call_t *calls) {
    for (int i = 0; i < CALLS; i++) {
        slot_t slot = {send->begin + (size_t)i * 2 * each, recv->begin + (size_t)i * 2 * each};
        calls[i] = call_draw(rng, image, 1, slot, each);
    }
}

static void run_calls(seat_t *seat, const call_t *calls) {
    for (int i = 0; i < CALLS; i++) call_prepare(seat, &calls[i]);
    for (int i = 0; i < CALLS; i++) CHECK_SUCCESS(call_launch(seat, &calls[i]));
    settle_and_check(seat, calls);
}

/* What was captured is right before and after the buffers are given up. */
static void use_kinds(seat_t *seat, const image_t *image, rng_t *rng, kind_t send_kind, kind_t recv_kind) {
    const size_t each = GPU_MIB;
    area_t send = area_new(seat, send_kind, 2 * CALLS * each), recv = area_new(seat, recv_kind, 2 * CALLS * each);
    call_t calls[CALLS];
    gpu_graph_t graph;
    doing("all-reduce from %s to %s", kind_names[send_kind], kind_names[recv_kind]);
    draw_calls(rng, image, &send, &recv, each, calls);
    run_calls(seat, calls);
    CHECK(gpu_capture_begin(seat->gpu), "%s", gpu_error());
    for (int i = 0; i < CALLS; i++) call_prepare(seat, &calls[i]);
    for (int i = 0; i < CALLS; i++) CHECK_SUCCESS(call_launch(seat, &calls[i]));
    CHECK(gpu_capture_end(seat->gpu, true, &graph), "%s", gpu_error());
    for (int round = 0; round < 3; round++) {
        if (round == 1) CHECK_SUCCESS(onehop_deregister(seat->comm, send.begin));
        if (round == 2) CHECK_SUCCESS(onehop_deregister(seat->comm, recv.begin));
        CHECK(gpu_replay(seat->gpu, &graph), "%s", gpu_error());
        settle_and_check(seat, calls);
    }
    gpu_graph_free(seat->gpu, &graph);
    area_free(seat, &send);
    area_free(seat, &recv);
}

static void kinds_rank(int rank, int nranks, void *ctx) {
    static const char *const algorithms[] = {"one_shot_pull", "two_shot_pull", "two_shot_bulk", "auto"};
    rng_t rng = {tests_seed()};
    (void)ctx;
    for (int a = 0; a < 4; a++) {
        seat_t seat = seat_take(rank, nranks);
        onehop_config_t wish = ONEHOP_CONFIG_INIT;
        wish.algorithm = algorithms[a];
        seat_join(&seat, a, &wish);
        image_t image = image_new(&seat, ONEHOP_BFLOAT16, ONEHOP_SUM, 2 * GPU_MIB);
        for (int k = 0; k < KINDS; k++) use_kinds(&seat, &image, &rng, (kind_t)k, (kind_t)k);
        for (int k = 0; k < KINDS; k++) {
            use_kinds(&seat, &image, &rng, (kind_t)((k + rank) % KINDS), (kind_t)((k + 2 * rank + 1) % KINDS));
        }
        image_free(&seat, &image);
        seat_leave(&seat);
        seat_give_back(&seat);
    }
}

/* ---- many rounds ---- */

static void rounds_rank(int rank, int nranks, void *ctx) {
    (void)ctx;
    seat_t seat = seat_take(rank, nranks);
    resources_t before = {0, 0, 0};
    seat_join(&seat, 0, NULL);
    unsigned char *memory = gpu_alloc(seat.gpu, GPU_MIB);
    area_t mapped = {.kind = KIND_MAPPED, .bytes = GPU_MIB};
    CHECK(memory != NULL, "%s", gpu_error());
    map_pieces(&seat, &mapped);
    for (int i = 0, last = rounds(ROUNDS, QUICK_ROUNDS); i < last; i++) {
        doing("register and deregister, round %d", i);
        if (i == BEFORE) before = resources_now(); /* the driver has by now what it keeps */
        CHECK_SUCCESS(onehop_register(seat.comm, memory + i % 1000, GPU_MIB / 2));
        CHECK_SUCCESS(onehop_register(seat.comm, mapped.memory, GPU_MIB));
        CHECK_SUCCESS(onehop_deregister(seat.comm, memory + i % 1000));
        CHECK_SUCCESS(onehop_deregister(seat.comm, mapped.memory));
    }
    resources_t now = resources_now();
    CHECK(now.descriptors <= before.descriptors, "%d descriptors more", now.descriptors - before.descriptors);
    CHECK(now.mappings <= before.mappings, "%d shared mappings more", now.mappings - before.mappings);
    unmap_pieces(&seat, &mapped);
    gpu_free(seat.gpu, memory);
    seat_leave(&seat);
    seat_give_back(&seat);
}

void case_register(int gpus) {
    team_run(gpus, kinds_rank, NULL);
    team_run(gpus, rounds_rank, NULL);
}
