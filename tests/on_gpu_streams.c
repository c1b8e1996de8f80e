/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Several streams: operations of one communicator in all of them, called, captured and replayed; communicators whose
 * operations meet in another order on every rank; streams that go. And a context that somebody's kernel has broken.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "gpu_state.h"
#include "on_gpu.h"

enum { STREAMS = 4, CALLS = 12, REPLAYS = 3, IMAGES = 3, SECONDS = 5, QUICK_SECONDS = 2 };

struct bench;

/* Shared by the ranks. */
typedef struct plan {
    int streams;
    uint64_t seed;
    int (*round)(struct bench *bench, int streams); /* returns how much it has done */
    atomic_int on[2];
    atomic_llong done;
} plan_t;

/* What a rank has. */
typedef struct bench {
    seat_t seat;
    CUstream home, streams[STREAMS]; /* home: the seat's own */
    CUevent fork, join;
    image_t images[IMAGES];
    slot_t slots[CALLS];
    rng_t rng, mine; /* the same on all ranks; this rank's own */
} bench_t;

static bench_t bench_open(int rank, int nranks, const plan_t *plan) {
    static const onehop_dtype_t dtypes[IMAGES] = {ONEHOP_BFLOAT16, ONEHOP_FLOAT32, ONEHOP_INT32};
    bench_t bench = {.seat = seat_take(rank, nranks), .rng = {plan->seed}};
    const oh_cuda_t *cuda = &bench.seat.gpu->cuda;
    bench.mine.state = mix64(plan->seed + (uint64_t)rank);
    bench.home = bench.seat.gpu->stream;
    for (int s = 0; s < plan->streams; s++) CHECK_CUDA(cuda->cuStreamCreate(&bench.streams[s], CU_STREAM_NON_BLOCKING));
    CHECK_CUDA(cuda->cuEventCreate(&bench.fork, CU_EVENT_DISABLE_TIMING));
    CHECK_CUDA(cuda->cuEventCreate(&bench.join, CU_EVENT_DISABLE_TIMING));
    for (int i = 0; i < IMAGES; i++) {
        bench.images[i] = image_new(&bench.seat, dtypes[i], ONEHOP_SUM, GPU_MESSAGE + GPU_MIB);
    }
    for (int i = 0; i < CALLS; i++) bench.slots[i] = slot_new(&bench.seat, GPU_MESSAGE);
    CHECK(gpu_synchronize(bench.seat.gpu), "%s", gpu_error());
    return bench;
}

static void bench_close(bench_t *bench) {
    const oh_cuda_t *cuda = &bench->seat.gpu->cuda;
    for (int i = 0; i < CALLS; i++) slot_free(&bench->seat, &bench->slots[i]);
    for (int i = 0; i < IMAGES; i++) image_free(&bench->seat, &bench->images[i]);
    for (int s = 0; s < STREAMS; s++) {
        if (bench->streams[s] != NULL) CHECK_CUDA(cuda->cuStreamDestroy(bench->streams[s]));
    }
    CHECK_CUDA(cuda->cuEventDestroy(bench->fork));
    CHECK_CUDA(cuda->cuEventDestroy(bench->join));
    seat_give_back(&bench->seat);
}

/* What the seat does from now on goes into this stream. */
static void turn_to(bench_t *bench, CUstream stream) { bench->seat.gpu->stream = stream; }

static void settle_all(bench_t *bench, int streams) {
    for (int s = 0; s < streams; s++) {
        turn_to(bench, bench->streams[s]);
        seat_settle(&bench->seat, 2 * GPU_PLENTY_MS);
    }
    turn_to(bench, bench->home);
    seat_settle(&bench->seat, 2 * GPU_PLENTY_MS);
}

/* Now and then this rank alone is slow in this stream. */
static void stumble(bench_t *bench) {
    if (rng_below(&bench->mine, 4) != 0) return;
    CHECK(gpu_delay(bench->seat.gpu, (unsigned)rng_below(&bench->mine, 200)), "%s", gpu_error());
}

/* A call that is drawn, in the stream where the seat is. What it needs before it is done in `other`, if not NULL. */
static void launch_behind(bench_t *bench, CUstream other, call_t *call, slot_t slot, size_t bytes) {
    const oh_cuda_t *cuda = &bench->seat.gpu->cuda;
    const CUstream here = bench->seat.gpu->stream;
    *call = call_draw(&bench->rng, bench->images, IMAGES, slot, bytes);
    if (other != NULL) turn_to(bench, other);
    call_prepare(&bench->seat, call);
    stumble(bench);
    if (other != NULL) {
        CHECK_CUDA(cuda->cuEventRecord(bench->join, other));
        CHECK_CUDA(cuda->cuStreamWaitEvent(here, bench->join, CU_EVENT_WAIT_DEFAULT));
        turn_to(bench, here);
    }
    CHECK_SUCCESS(call_launch(&bench->seat, call));
}

static void launch_one(bench_t *bench, call_t *call, slot_t slot, size_t bytes) {
    launch_behind(bench, NULL, call, slot, bytes);
}

static CUstream draw_stream(bench_t *bench, int streams) {
    return bench->streams[rng_below(&bench->rng, (uint64_t)streams)];
}

/* Each in a stream that is drawn, every other one behind a stream that is drawn; nothing else orders them. */
static void launch_drawn(bench_t *bench, int streams, call_t calls[CALLS], size_t bytes) {
    for (int i = 0; i < CALLS; i++) {
        turn_to(bench, draw_stream(bench, streams));
        launch_behind(bench, i % 2 == 0 ? NULL : draw_stream(bench, streams), &calls[i], bench->slots[i], bytes);
        stumble(bench);
    }
    turn_to(bench, bench->home);
}

static void check_calls(bench_t *bench, const call_t calls[CALLS]) {
    seat_check_well(&bench->seat);
    for (int i = 0; i < CALLS; i++) call_check(&bench->seat, &calls[i]);
}

static void call_in_streams(bench_t *bench, int streams) {
    call_t calls[CALLS];
    doing("calls in %d streams", streams);
    launch_drawn(bench, streams, calls, GPU_MESSAGE);
    settle_all(bench, streams);
    check_calls(bench, calls);
}

/* All streams branch off from the seat's own, and come back to it. */
static void capture_in_streams(bench_t *bench, int streams) {
    const oh_cuda_t *cuda = &bench->seat.gpu->cuda;
    call_t calls[CALLS];
    gpu_graph_t graph;
    doing("a graph of %d streams", streams);
    CHECK(gpu_capture_begin(bench->seat.gpu), "%s", gpu_error());
    CHECK_CUDA(cuda->cuEventRecord(bench->fork, bench->home));
    for (int s = 0; s < streams; s++) CHECK_CUDA(cuda->cuStreamWaitEvent(bench->streams[s], bench->fork, 0));
    launch_drawn(bench, streams, calls, GPU_MIB);
    for (int s = 0; s < streams; s++) {
        CHECK_CUDA(cuda->cuEventRecord(bench->join, bench->streams[s]));
        CHECK_CUDA(cuda->cuStreamWaitEvent(bench->home, bench->join, 0));
    }
    CHECK(gpu_capture_end(bench->seat.gpu, true, &graph), "%s", gpu_error());
    for (int i = 0; i < REPLAYS; i++) {
        CHECK(gpu_replay(bench->seat.gpu, &graph), "%s", gpu_error());
        seat_settle(&bench->seat, 2 * GPU_PLENTY_MS);
        check_calls(bench, calls);
    }
    gpu_graph_free(bench->seat.gpu, &graph);
}

static int streams_round(bench_t *bench, int streams) {
    call_in_streams(bench, streams);
    capture_in_streams(bench, streams);
    return (1 + REPLAYS) * CALLS;
}

static void rounds_rank(int rank, int nranks, void *ctx) {
    plan_t *plan = ctx;
    bench_t bench = bench_open(rank, nranks, plan);
    int64_t deadline = now_ns() + (int64_t)tests_seconds(rounds(SECONDS, QUICK_SECONDS)) * 1000000000;
    seat_join(&bench.seat, 0, NULL);
    for (int round = 0; goes_on(plan->on, rank, round, deadline); round++) {
        int done = plan->round(&bench, plan->streams);
        if (rank == 0) atomic_fetch_add(&plan->done, done);
    }
    seat_leave(&bench.seat);
    bench_close(&bench);
}

void case_streams(int gpus) {
    plan_t *plan = shared_zalloc(sizeof *plan);
    plan->round = streams_round;
    for (plan->streams = 2; plan->streams <= STREAMS; plan->streams += 2) {
        plan->seed = tests_seed() + (uint64_t)plan->streams;
        atomic_store(&plan->done, 0);
        team_run(gpus, rounds_rank, plan);
        printf("%d ranks, %d streams, %lld all-reduces\n", gpus, plan->streams, (long long)atomic_load(&plan->done));
        CHECK(atomic_load(&plan->done) > 0, "nothing was done");
    }
    shared_free(plan, sizeof *plan);
}

/* ---- replays in any stream ---- */

enum { GRAPHS = 3, IN_GRAPH = 2, CALLED = CALLS - GRAPHS * IN_GRAPH, ACTIONS = 24 };

/* The calls of one graph, captured in a stream of its own; they may run again and again. */
static void capture_calls(bench_t *bench, int index, call_t calls[IN_GRAPH], gpu_graph_t *graph) {
    turn_to(bench, bench->streams[index]);
    for (int i = 0; i < IN_GRAPH; i++) {
        calls[i] = call_draw(&bench->rng, bench->images, IMAGES, bench->slots[CALLED + index * IN_GRAPH + i], GPU_MIB);
        calls[i].place = PLACE_INPUT;
        call_prepare(&bench->seat, &calls[i]);
    }
    seat_settle(&bench->seat, GPU_PLENTY_MS);
    CHECK(gpu_capture_begin(bench->seat.gpu), "%s", gpu_error());
    for (int i = 0; i < IN_GRAPH; i++) CHECK_SUCCESS(call_launch(&bench->seat, &calls[i]));
    CHECK(gpu_capture_end(bench->seat.gpu, true, graph), "%s", gpu_error());
    turn_to(bench, bench->home);
}

/* Graphs and calls, each in a stream that is drawn; nothing but the library orders them. */
static void act(bench_t *bench, int streams, const gpu_graph_t graphs[GRAPHS], call_t calls[CALLED]) {
    int called = 0;
    for (int i = 0; i < ACTIONS; i++) {
        turn_to(bench, draw_stream(bench, streams));
        if (i < GRAPHS || called == CALLED || rng_below(&bench->rng, 2) == 0) {
            stumble(bench);
            int g = i < GRAPHS ? i : (int)rng_below(&bench->rng, GRAPHS);
            CHECK(gpu_replay(bench->seat.gpu, &graphs[g]), "%s", gpu_error());
        } else {
            launch_one(bench, &calls[called], bench->slots[called], GPU_MIB);
            called++;
        }
    }
    turn_to(bench, bench->home);
    for (; called < CALLED; called++) launch_one(bench, &calls[called], bench->slots[called], GPU_MIB);
}

static int replays_round(bench_t *bench, int streams) {
    call_t calls[CALLED], captured[GRAPHS][IN_GRAPH];
    gpu_graph_t graphs[GRAPHS];
    doing("replays and calls in %d streams", streams);
    for (int g = 0; g < GRAPHS; g++) capture_calls(bench, g, captured[g], &graphs[g]);
    act(bench, streams, graphs, calls);
    settle_all(bench, streams);
    seat_check_well(&bench->seat);
    for (int i = 0; i < CALLED; i++) call_check(&bench->seat, &calls[i]);
    for (int i = 0; i < GRAPHS * IN_GRAPH; i++) call_check(&bench->seat, &captured[i / IN_GRAPH][i % IN_GRAPH]);
    for (int g = 0; g < GRAPHS; g++) gpu_graph_free(bench->seat.gpu, &graphs[g]);
    return ACTIONS;
}

void case_replays(int gpus) {
    plan_t *plan = shared_zalloc(sizeof *plan);
    plan->streams = STREAMS;
    plan->seed = tests_seed();
    plan->round = replays_round;
    team_run(gpus, rounds_rank, plan);
    printf("%d ranks, %d streams, %lld replays and calls\n", gpus, STREAMS, (long long)atomic_load(&plan->done));
    CHECK(atomic_load(&plan->done) > 0, "nothing was done");
    shared_free(plan, sizeof *plan);
}

/* ---- two communicators ---- */

enum { COMMS = 2 };

/* Even ranks begin with the one, odd ranks with the other; each has a stream. */
static void cross(bench_t *bench, seat_t seats[COMMS], const slot_t slots[COMMS], call_t calls[COMMS]) {
    for (int c = 0; c < COMMS; c++) calls[c] = call_draw(&bench->rng, bench->images, 1, slots[c], GPU_MESSAGE);
    for (int i = 0; i < COMMS; i++) {
        int c = (i + bench->seat.rank) % COMMS;
        turn_to(bench, bench->streams[c]);
        call_prepare(&seats[c], &calls[c]);
        stumble(bench);
        CHECK_SUCCESS(call_launch(&seats[c], &calls[c]));
    }
}

static void comms_rank(int rank, int nranks, void *ctx) {
    enum { ROUNDS = 300, QUICK_ROUNDS = 100 };
    plan_t *plan = ctx;
    bench_t bench = bench_open(rank, nranks, plan);
    seat_t seats[COMMS];
    onehop_config_t wish = ONEHOP_CONFIG_INIT;
    wish.max_blocks = bench.seat.gpu->processors / (2 * COMMS); /* what onehop.h promises this for */
    for (int c = 0; c < COMMS; c++) {
        seats[c] = bench.seat;
        seat_join(&seats[c], c, &wish);
        sweep(&seats[c], &bench.images[0], GPU_MESSAGE); /* the first use of a type is in the same order */
    }
    for (int round = 0, last = rounds(ROUNDS, QUICK_ROUNDS); round < last; round++) {
        call_t calls[CALLS];
        doing("two communicators, round %d", round);
        for (int i = 0; i < CALLS; i += COMMS) cross(&bench, seats, &bench.slots[i], &calls[i]);
        settle_all(&bench, COMMS);
        for (int c = 0; c < COMMS; c++) seat_check_well(&seats[c]);
        for (int i = 0; i < CALLS; i++) call_check(&bench.seat, &calls[i]);
    }
    for (int c = 0; c < COMMS; c++) seat_leave(&seats[c]);
    bench_close(&bench);
}

void case_two_comms(int gpus) {
    plan_t *plan = shared_zalloc(sizeof *plan);
    plan->streams = COMMS;
    plan->seed = tests_seed();
    team_run(gpus, comms_rank, plan);
    shared_free(plan, sizeof *plan);
}

/* ---- a context that is broken ---- */

static const char trap[] = ".version 7.0\n"
                           ".target sm_70\n"
                           ".address_size 64\n"
                           ".visible .entry trap_now()\n"
                           "{\n"
                           "  trap;\n"
                           "  ret;\n"
                           "}\n";

static void break_context(seat_t *seat) {
    const oh_cuda_t *cuda = &seat->gpu->cuda;
    CUmodule module;
    CUfunction function;
    CUlaunchConfig config = {1, 1, 1, 1, 1, 1, 0, seat->gpu->stream, NULL, 0};
    CHECK_CUDA(cuda->cuModuleLoadData(&module, trap));
    CHECK_CUDA(cuda->cuModuleGetFunction(&function, module, "trap_now"));
    CHECK_CUDA(cuda->cuLaunchKernelEx(&config, function, NULL, NULL));
    CHECK(cuda->cuStreamSynchronize(seat->gpu->stream) != CUDA_SUCCESS, "the trap was not felt");
}

/* Rank 0's program breaks its own context; all ranks learn of it at once, with the reason. */
static void broken_rank(int rank, int nranks, void *ctx) {
    (void)ctx;
    seat_t seat = seat_take(rank, nranks);
    onehop_result_t error = ONEHOP_SUCCESS;
    float *message = gpu_alloc(seat.gpu, 1024 * sizeof *message);
    seat_join(&seat, 0, NULL);
    CHECK_SUCCESS(onehop_all_reduce(message, message, 1024, ONEHOP_FLOAT32, ONEHOP_SUM, seat.comm, seat.gpu->stream));
    seat_settle(&seat, GPU_PLENTY_MS);
    team_barrier();
    int64_t begin = now_ns();
    if (rank == 0) {
        break_context(&seat);
        CHECK_FAILS(ONEHOP_CUDA_ERROR, "has broken the context of GPU 0",
                    onehop_all_reduce(message, message, 1024, ONEHOP_FLOAT32, ONEHOP_SUM, seat.comm, seat.gpu->stream));
    } else {
        CHECK_SUCCESS(
            onehop_all_reduce(message, message, 1024, ONEHOP_FLOAT32, ONEHOP_SUM, seat.comm, seat.gpu->stream));
    }
    error = seat_await_error(&seat, GPU_PLENTY_MS);
    CHECK(error == ONEHOP_CUDA_ERROR, "the error is %s: %s", onehop_result_string(error), onehop_last_error());
    CHECK(strstr(onehop_last_error(), "rank 0 (pid ") != NULL, "rank 0 is not named: %s", onehop_last_error());
    CHECK(now_ns() - begin < 5000000000, "it took %.1f s", (double)(now_ns() - begin) * 1e-9);
    if (rank != 0) seat_settle(&seat, GPU_PLENTY_MS);
    if (rank != 0) seat_check_context(&seat);
    team_barrier();
    seat_leave(&seat);
}

void case_broken_context(int gpus) { team_run(gpus, broken_rank, NULL); }

/* ---- streams that go ---- */

/* The stream of the last call is destroyed with that call under way, before any other is used. */
static void gone_rank(int rank, int nranks, void *ctx) {
    plan_t *plan = ctx;
    bench_t bench = bench_open(rank, nranks, plan);
    const oh_cuda_t *cuda = &bench.seat.gpu->cuda;
    seat_join(&bench.seat, 0, NULL);
    for (int round = 0; round < 20; round++) {
        call_t calls[2];
        for (int i = 0; i < 2; i++) {
            turn_to(&bench, bench.streams[i]);
            launch_one(&bench, &calls[i], bench.slots[i], GPU_MESSAGE);
            CHECK_CUDA(cuda->cuStreamDestroy(bench.streams[i]));
            CHECK_CUDA(cuda->cuStreamCreate(&bench.streams[i], CU_STREAM_NON_BLOCKING));
        }
        CHECK_CUDA(cuda->cuCtxSynchronize());
        turn_to(&bench, bench.home);
        seat_check_well(&bench.seat);
        for (int i = 0; i < 2; i++) call_check(&bench.seat, &calls[i]);
    }
    seat_leave(&bench.seat);
    bench_close(&bench);
}

void case_streams_that_go(int gpus) {
    plan_t *plan = shared_zalloc(sizeof *plan);
    plan->streams = 2;
    plan->seed = tests_seed();
    team_run(gpus, gone_rank, plan);
    shared_free(plan, sizeof *plan);
}
