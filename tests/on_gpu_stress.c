/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All-reduces of any kind on one stream, one after the other without synchronisation, between replays of graphs in
 * random order. All ranks draw the same sequence from one seed, and come to it at different times.
 */
#include <stdatomic.h>
#include <stdio.h>

#include "on_gpu.h"

enum {
    IMAGES = 6,
    GRAPHS = 4,
    GRAPH_CALLS = 5,
    IN_A_ROW = 32,
    EAGER = 16,
    BATCHES = 4,
    SECONDS = 12,
    QUICK_SECONDS = 4
};

/* Shared by the ranks. */
typedef struct stress {
    uint64_t seed;
    atomic_int on[2];
    atomic_llong done;
} stress_t;

typedef struct graph {
    gpu_graph_t graph;
    call_t calls[GRAPH_CALLS];
    int count;
    bool replayed; /* since the last check */
} graph_t;

/* What a rank has. */
typedef struct bench {
    seat_t seat;
    image_t images[IMAGES];
    slot_t slots[EAGER];
    graph_t graphs[GRAPHS];
    rng_t rng, mine; /* the same on all ranks; this rank's own */
} bench_t;

static void make_images(bench_t *bench) {
    static const struct {
        onehop_dtype_t dtype;
        onehop_op_t op;
    } kinds[IMAGES] = {{ONEHOP_FLOAT32, ONEHOP_SUM}, {ONEHOP_BFLOAT16, ONEHOP_SUM}, {ONEHOP_FLOAT16, ONEHOP_MAX},
                       {ONEHOP_INT8, ONEHOP_SUM},    {ONEHOP_INT64, ONEHOP_MAX},    {ONEHOP_FLOAT64, ONEHOP_SUM}};
    for (int i = 0; i < IMAGES; i++)
        bench->images[i] = image_new(&bench->seat, kinds[i].dtype, kinds[i].op, GPU_MESSAGE + GPU_MIB);
}

/* The last call that any graph has may be the first that needs a kernel: it is loaded during the capture. */
static void make_graph(bench_t *bench, graph_t *graph) {
    doing("capture a graph");
    graph->count = 2 + (int)rng_below(&bench->rng, GRAPH_CALLS - 1);
    for (int i = 0; i < graph->count; i++) {
        slot_t slot = slot_new(&bench->seat, GPU_MIB);
        graph->calls[i] = call_draw(&bench->rng, bench->images, IMAGES, slot, GPU_MIB);
    }
    CHECK(gpu_capture_begin(bench->seat.gpu), "%s", gpu_error());
    for (int i = 0; i < graph->count; i++) call_prepare(&bench->seat, &graph->calls[i]);
    for (int i = 0; i < graph->count; i++) CHECK_SUCCESS(call_launch(&bench->seat, &graph->calls[i]));
    CHECK(gpu_capture_end(bench->seat.gpu, true, &graph->graph), "%s", gpu_error());
    CHECK_SUCCESS(onehop_graph_register(bench->seat.comm));
}

static void free_graph(bench_t *bench, graph_t *graph) {
    gpu_graph_free(bench->seat.gpu, &graph->graph);
    for (int i = 0; i < graph->count; i++) slot_free(&bench->seat, &graph->calls[i].slot);
}

/* Calls and graphs in random order. All is prepared before, so that kernels follow one another closely. */
static int run_batch(bench_t *bench) {
    call_t calls[EAGER];
    int order[IN_A_ROW], items = 1 + (int)rng_below(&bench->rng, IN_A_ROW), eager = 0, done = 0;
    for (int i = 0; i < items; i++) {
        order[i] = (int)rng_below(&bench->rng, 2 * GRAPHS); /* half of these are no graph, but a call */
        if (order[i] < GRAPHS || eager == EAGER) continue;
        calls[eager] = call_draw(&bench->rng, bench->images, IMAGES, bench->slots[eager], GPU_MESSAGE);
        call_prepare(&bench->seat, &calls[eager++]);
    }
    for (int i = 0, next = 0; i < items; i++) {
        if (rng_below(&bench->mine, 16) == 0) nap_us((int64_t)rng_below(&bench->mine, 300));
        if (order[i] < GRAPHS) {
            graph_t *graph = &bench->graphs[order[i]];
            CHECK(gpu_replay(bench->seat.gpu, &graph->graph), "%s", gpu_error());
            graph->replayed = true;
            done += graph->count;
        } else if (next < eager) {
            CHECK_SUCCESS(call_launch(&bench->seat, &calls[next++]));
            done++;
        }
    }
    seat_settle(&bench->seat, 2 * GPU_PLENTY_MS);
    seat_check_well(&bench->seat);
    for (int i = 0; i < eager; i++) call_check(&bench->seat, &calls[i]);
    for (int g = 0; g < GRAPHS; g++) {
        graph_t *graph = &bench->graphs[g];
        for (int i = 0; i < graph->count && graph->replayed; i++) call_check(&bench->seat, &graph->calls[i]);
        graph->replayed = false;
    }
    return done;
}

static void until_time_is_up(bench_t *bench, stress_t *stress) {
    const int64_t end = now_ns() + (int64_t)rounds(SECONDS, QUICK_SECONDS) * 1000000000;
    for (int round = 0; goes_on(stress->on, bench->seat.rank, round, end); round++) {
        for (int b = 0; b < BATCHES; b++) {
            doing("round %d, batch %d", round, b);
            int done = run_batch(bench);
            if (bench->seat.rank == 0) atomic_fetch_add(&stress->done, done);
        }
    }
}

static void stress_rank(int rank, int nranks, void *ctx) {
    stress_t *stress = ctx;
    bench_t bench = {.seat = seat_take(rank, nranks), .rng = {stress->seed}};
    bench.mine.state = mix64(stress->seed + (uint64_t)rank);
    seat_join(&bench.seat, 0, NULL);
    make_images(&bench);
    for (int i = 0; i < EAGER; i++) bench.slots[i] = slot_new(&bench.seat, GPU_MESSAGE);
    for (int g = 0; g < GRAPHS; g++) make_graph(&bench, &bench.graphs[g]);
    until_time_is_up(&bench, stress);
    for (int g = 0; g < GRAPHS; g++) free_graph(&bench, &bench.graphs[g]);
    for (int i = 0; i < EAGER; i++) slot_free(&bench.seat, &bench.slots[i]);
    for (int i = 0; i < IMAGES; i++) image_free(&bench.seat, &bench.images[i]);
    seat_leave(&bench.seat);
    seat_give_back(&bench.seat);
}

/* So that the disk cache has the kernels, and the time is not spent on compiling. */
static void warm_rank(int rank, int nranks, void *ctx) {
    (void)ctx;
    bench_t bench = {.seat = seat_take(rank, nranks)};
    seat_join(&bench.seat, 0, NULL);
    make_images(&bench);
    for (int i = 0; i < IMAGES; i++) sweep(&bench.seat, &bench.images[i], GPU_MESSAGE);
    for (int i = 0; i < IMAGES; i++) image_free(&bench.seat, &bench.images[i]);
    seat_leave(&bench.seat);
    seat_give_back(&bench.seat);
}

void case_stress(int gpus) {
    stress_t *stress = shared_zalloc(sizeof *stress);
    stress->seed = tests_seed();
    team_run(gpus, warm_rank, NULL);
    team_run(gpus, stress_rank, stress);
    printf("%d ranks, %lld all-reduces\n", gpus, (long long)atomic_load(&stress->done));
    CHECK(atomic_load(&stress->done) > 0, "nothing was done");
    shared_free(stress, sizeof *stress);
}
