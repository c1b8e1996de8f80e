/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All at once, for as long as ONEHOP_TEST_SECONDS says: calls of every kind in two streams, graphs captured, replayed
 * and destroyed between them, memory that comes and goes and is registered or not. Every result is checked. At the end
 * nothing has grown; how the time of one all-reduce has drifted is told.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "gpu_state.h"
#include "on_gpu.h"
#include "samples.h"

enum {
    STREAMS = 2,
    IMAGES = 7,
    GRAPHS = 4,
    GRAPH_CALLS = 5,
    EAGER = 6,
    BLOCKS = GRAPHS + 1, /* of memory: one for each graph, and one for the calls between them */
    SPACE = 4096,        /* bytes beside a message, as calls write around it */
    IN_A_ROW = 24,
    WARM_ROUNDS = 20,
    TIMED = 1, /* the image */
    TIMED_BYTES = 64 << 10,
    TIMED_OPERATIONS = 48,
    TIMED_PAIRS = 4,
    TIMES = 1 << 18,
    SLACK = 4 * GPU_MIB,
    SECONDS = 10,
    QUICK_SECONDS = 4
};

/* Shared by the ranks. */
typedef struct plan {
    uint64_t seed;
    const char *algorithm;
    atomic_int on[2];
} plan_t;

/* Memory for the messages of some calls. */
typedef struct block {
    bool own, registered; /* own: of onehop_alloc */
    size_t each;          /* bytes of the longest message */
    int count;            /* of messages */
    void *memory;
} block_t;

typedef struct graph {
    gpu_graph_t graph; /* none: not captured at present */
    call_t calls[GRAPH_CALLS];
    int count;
    bool unchecked; /* it was replayed since the last check */
} graph_t;

/* What a rank has. */
typedef struct mix {
    seat_t seat;
    CUstream streams[STREAMS];
    int stream; /* where the last operation went */
    image_t images[IMAGES];
    block_t blocks[BLOCKS];
    graph_t graphs[GRAPHS];
    call_t calls[EAGER]; /* of this round */
    int ncalls;
    graph_t timed;
    double *us;
    int times;
    rng_t rng, mine; /* the same on all ranks; this rank's own */
    long long done, captures;
} mix_t;

/* ---- memory that comes and goes ---- */

static size_t bytes_of(const block_t *block) { return (size_t)block->count * 2 * (block->each + SPACE); }

static slot_t slot_of(const block_t *block, int i) {
    unsigned char *send = (unsigned char *)block->memory + (size_t)i * 2 * (block->each + SPACE);
    return (slot_t){send, send + block->each + SPACE};
}

static void block_make(mix_t *mix, block_t *block) {
    block->own = rng_below(&mix->rng, 2) == 0;
    if (block->own) {
        CHECK_SUCCESS(onehop_alloc(mix->seat.comm, bytes_of(block), &block->memory));
    } else {
        block->memory = gpu_alloc(mix->seat.gpu, bytes_of(block));
    }
    CHECK(block->memory != NULL, "no memory: %s", gpu_error());
}

static void block_drop(mix_t *mix, block_t *block) {
    if (block->registered) CHECK_SUCCESS(onehop_deregister(mix->seat.comm, block->memory));
    if (block->own) {
        CHECK_SUCCESS(onehop_free(mix->seat.comm, block->memory));
    } else {
        gpu_free(mix->seat.gpu, block->memory);
    }
    block->registered = false;
    block->memory = NULL;
}

static void make_blocks(mix_t *mix) {
    for (int b = 0; b < BLOCKS; b++) {
        mix->blocks[b].each = b < GRAPHS ? GPU_MIB : GPU_MESSAGE;
        mix->blocks[b].count = b < GRAPHS ? GRAPH_CALLS : EAGER;
        block_make(mix, &mix->blocks[b]);
    }
}

/* With the graphs that use them. */
static void drop_blocks(mix_t *mix) {
    for (int g = 0; g < GRAPHS; g++) gpu_graph_free(mix->seat.gpu, &mix->graphs[g].graph);
    for (int b = 0; b < BLOCKS; b++) block_drop(mix, &mix->blocks[b]);
}

/* While nothing is under way. A graph that has captured registered memory goes on without the registration. */
static void change_a_block(mix_t *mix) {
    int b = (int)rng_below(&mix->rng, BLOCKS);
    block_t *block = &mix->blocks[b];
    if (block->registered) {
        doing("deregister block %d", b);
        CHECK_SUCCESS(onehop_deregister(mix->seat.comm, block->memory));
        block->registered = false;
    } else if (rng_below(&mix->rng, 2) == 0) {
        doing("register block %d", b);
        CHECK_SUCCESS(onehop_register(mix->seat.comm, block->memory, bytes_of(block)));
        block->registered = true;
    } else {
        doing("make block %d anew", b);
        if (b < GRAPHS) gpu_graph_free(mix->seat.gpu, &mix->graphs[b].graph);
        block_drop(mix, block);
        block_make(mix, block);
    }
}

/* ---- what goes into the streams ---- */

/* What the seat does from now on goes into this stream. Nothing but the library orders what is in different ones. */
static void turn_to(mix_t *mix, int stream) {
    mix->stream = stream;
    mix->seat.gpu->stream = mix->streams[stream];
}

static int draw_stream(mix_t *mix) { return (int)rng_below(&mix->rng, STREAMS); }

/* Now and then this rank alone is slow. */
static void stumble(mix_t *mix) {
    if (rng_below(&mix->mine, 8) == 0)
        CHECK(gpu_delay(mix->seat.gpu, (unsigned)rng_below(&mix->mine, 200)), "%s", gpu_error());
    if (rng_below(&mix->mine, 16) == 0) nap_us((int64_t)rng_below(&mix->mine, 300));
}

static void call_once(mix_t *mix) {
    if (mix->ncalls == EAGER) return;
    const slot_t slot = slot_of(&mix->blocks[GRAPHS], mix->ncalls);
    call_t *call = &mix->calls[mix->ncalls++];
    *call = call_draw(&mix->rng, mix->images, IMAGES, slot, GPU_MESSAGE);
    if (call->count > 0) turn_to(mix, draw_stream(mix)); /* a call of nothing is in no stream */
    call_prepare(&mix->seat, call);
    stumble(mix);
    CHECK_SUCCESS(call_launch(&mix->seat, call));
    mix->done++;
}

/* A capture runs nothing, so the order of what runs is as it was. */
static void capture(mix_t *mix, int g) {
    graph_t *graph = &mix->graphs[g];
    gpu_t *gpu = mix->seat.gpu;
    gpu->stream = mix->streams[draw_stream(mix)];
    CHECK(gpu_capture_begin(gpu), "%s", gpu_error());
    graph->count = 1 + (int)rng_below(&mix->rng, GRAPH_CALLS);
    for (int i = 0; i < graph->count; i++) {
        graph->calls[i] = call_draw(&mix->rng, mix->images, IMAGES, slot_of(&mix->blocks[g], i), GPU_MIB);
        call_prepare(&mix->seat, &graph->calls[i]);
        CHECK_SUCCESS(call_launch(&mix->seat, &graph->calls[i]));
    }
    CHECK(gpu_capture_end(gpu, true, &graph->graph), "%s", gpu_error());
    CHECK_SUCCESS(onehop_graph_register(mix->seat.comm));
    gpu->stream = mix->streams[mix->stream];
    mix->captures++;
}

static void replay(mix_t *mix, graph_t *graph) {
    turn_to(mix, draw_stream(mix));
    stumble(mix);
    CHECK(gpu_replay(mix->seat.gpu, &graph->graph), "%s", gpu_error());
    graph->unchecked = true;
    mix->done += graph->count;
}

/* A graph may be destroyed while it is under way. */
static void act(mix_t *mix) {
    int g = (int)rng_below(&mix->rng, GRAPHS);
    graph_t *graph = &mix->graphs[g];
    if (rng_below(&mix->rng, 3) == 0) {
        call_once(mix);
    } else if (graph->graph.exec == NULL) {
        if (!graph->unchecked) capture(mix, g);
    } else if (rng_below(&mix->rng, 8) == 0) {
        gpu_graph_free(mix->seat.gpu, &graph->graph);
    } else {
        replay(mix, graph);
    }
}

static void settle(mix_t *mix) {
    for (int s = 0; s < STREAMS; s++) {
        mix->seat.gpu->stream = mix->streams[s];
        seat_settle(&mix->seat, 2 * GPU_PLENTY_MS);
    }
    mix->seat.gpu->stream = mix->streams[mix->stream];
    seat_check_well(&mix->seat);
}

static void check_graph(mix_t *mix, graph_t *graph) {
    for (int i = 0; i < graph->count && graph->unchecked; i++) call_check(&mix->seat, &graph->calls[i]);
    graph->unchecked = false;
}

static void run_round(mix_t *mix) {
    for (int i = 0; i < IN_A_ROW; i++) act(mix);
    settle(mix);
    for (int i = 0; i < mix->ncalls; i++) call_check(&mix->seat, &mix->calls[i]);
    for (int g = 0; g < GRAPHS; g++) check_graph(mix, &mix->graphs[g]);
    mix->ncalls = 0;
    change_a_block(mix);
}

/* ---- what must not drift ---- */

static void make_timed(mix_t *mix) {
    const image_t *image = &mix->images[TIMED];
    graph_t *timed = &mix->timed;
    timed->count = TIMED_PAIRS;
    for (int i = 0; i < TIMED_PAIRS; i++) {
        timed->calls[i] = (call_t){.image = image, .slot = slot_new(&mix->seat, TIMED_BYTES), .place = PLACE_COPY};
        timed->calls[i].count = TIMED_BYTES / onehop_dtype_size(image->dtype);
    }
    CHECK(gpu_capture_begin(mix->seat.gpu), "%s", gpu_error());
    for (int i = 0; i < TIMED_OPERATIONS; i++) {
        CHECK_SUCCESS(call_launch(&mix->seat, &timed->calls[i % TIMED_PAIRS]));
    }
    CHECK(gpu_capture_end(mix->seat.gpu, true, &timed->graph), "%s", gpu_error());
}

/* The ranks begin at once: behind a call, which waits while they ask for the graph. */
static void time_once(mix_t *mix) {
    enum { DELAY_US = 200 };
    gpu_t *gpu = mix->seat.gpu;
    double us;
    doing("time %d bytes", TIMED_BYTES);
    team_barrier();
    turn_to(mix, 0);
    for (int i = 0; i < TIMED_PAIRS; i++) call_prepare(&mix->seat, &mix->timed.calls[i]);
    CHECK(gpu_delay(gpu, DELAY_US), "%s", gpu_error());
    CHECK_SUCCESS(call_launch(&mix->seat, &mix->timed.calls[0]));
    CHECK(gpu_mark_start(gpu) && gpu_replay(gpu, &mix->timed.graph) && gpu_mark_end(gpu), "%s", gpu_error());
    settle(mix);
    CHECK(gpu_elapsed_us(gpu, &us), "%s", gpu_error());
    mix->timed.unchecked = true;
    check_graph(mix, &mix->timed);
    if (mix->times < TIMES) mix->us[mix->times++] = us / TIMED_OPERATIONS;
    mix->done += 1 + TIMED_OPERATIONS;
}

/* What the rank holds when it has given back what comes and goes. */
static resources_t take_stock(mix_t *mix, size_t *used) {
    drop_blocks(mix);
    team_barrier();
    *used = gpu_memory_used();
    resources_t resources = resources_now();
    team_barrier();
    make_blocks(mix);
    return resources;
}

static double median(double *values, int count) {
    samples_sort(values, count);
    return samples_median(values, count);
}

static void tell(mix_t *mix, const plan_t *plan, size_t before, size_t after) {
    const int tenth = (mix->times + 9) / 10;
    double first = median(mix->us, tenth), last = median(mix->us + mix->times - tenth, tenth);
    printf(
        "%d ranks, %s: %lld all-reduces, %lld graphs; 64 KiB took %.2f us in the first tenth of the time and %.2f in "
        "the last (of %d times); %.1f MiB of GPU memory in use at first, %.1f at last\n",
        mix->seat.nranks, plan->algorithm, mix->done, mix->captures, first, last, mix->times, (double)before / GPU_MIB,
        (double)after / GPU_MIB);
}

/* ---- all of it ---- */

static void open_mix(mix_t *mix) {
    static const struct {
        onehop_dtype_t dtype;
        onehop_op_t op;
    } kinds[IMAGES] = {{ONEHOP_FLOAT32, ONEHOP_SUM}, {ONEHOP_BFLOAT16, ONEHOP_SUM}, {ONEHOP_FLOAT16, ONEHOP_MAX},
                       {ONEHOP_INT8, ONEHOP_MIN},    {ONEHOP_INT64, ONEHOP_MAX},    {ONEHOP_UINT32, ONEHOP_SUM},
                       {ONEHOP_FLOAT64, ONEHOP_SUM}};
    const oh_cuda_t *cuda = &mix->seat.gpu->cuda;
    mix->us = calloc(TIMES, sizeof *mix->us);
    CHECK(mix->us != NULL, "out of memory");
    mix->streams[0] = mix->seat.gpu->stream;
    CHECK_CUDA(cuda->cuStreamCreate(&mix->streams[1], CU_STREAM_NON_BLOCKING));
    for (int i = 0; i < IMAGES; i++) {
        mix->images[i] = image_new(&mix->seat, kinds[i].dtype, kinds[i].op, GPU_MESSAGE + GPU_MIB);
        sweep(&mix->seat, &mix->images[i], GPU_MESSAGE); /* from here on all kernels are there */
    }
    make_blocks(mix);
    make_timed(mix);
}

static void close_mix(mix_t *mix) {
    const oh_cuda_t *cuda = &mix->seat.gpu->cuda;
    drop_blocks(mix);
    gpu_graph_free(mix->seat.gpu, &mix->timed.graph);
    for (int i = 0; i < TIMED_PAIRS; i++) slot_free(&mix->seat, &mix->timed.calls[i].slot);
    for (int i = 0; i < IMAGES; i++) image_free(&mix->seat, &mix->images[i]);
    seat_leave(&mix->seat);
    mix->seat.gpu->stream = mix->streams[0];
    CHECK_CUDA(cuda->cuStreamDestroy(mix->streams[1]));
    seat_give_back(&mix->seat);
    free(mix->us);
}

static void mixed_rank(int rank, int nranks, void *ctx) {
    plan_t *plan = ctx;
    onehop_config_t wish = ONEHOP_CONFIG_INIT;
    mix_t mix = {.seat = seat_take(rank, nranks), .rng = {plan->seed}};
    size_t before, after;
    mix.mine.state = mix64(plan->seed + (uint64_t)rank);
    wish.algorithm = plan->algorithm;
    seat_join(&mix.seat, 0, &wish);
    open_mix(&mix);
    for (int round = 0; round < WARM_ROUNDS; round++) {
        run_round(&mix);
        time_once(&mix);
    }
    mix.times = 0;
    /* The driver has by now what it keeps. */
    resources_t held = take_stock(&mix, &before);
    const int64_t end = now_ns() + (int64_t)tests_seconds(rounds(SECONDS, QUICK_SECONDS)) * 1000000000;
    for (int round = 0; goes_on(plan->on, rank, round, end); round++) {
        run_round(&mix);
        time_once(&mix);
    }
    resources_t now = take_stock(&mix, &after);
    CHECK(mix.times > 0, "nothing was done");
    if (rank == 0) tell(&mix, plan, before, after);
    CHECK(after <= before + SLACK, "%zu bytes of GPU memory in use, %zu more than at first", after, after - before);
    CHECK(now.descriptors <= held.descriptors, "%d descriptors more", now.descriptors - held.descriptors);
    CHECK(now.mappings <= held.mappings, "%d shared mappings more", now.mappings - held.mappings);
    close_mix(&mix);
}

/* As tuned; and with one of the algorithms that use registered memory directly. */
void case_mixed(int gpus) {
    static const char *const direct[] = {"one_shot_pull", "two_shot_pull", "two_shot_bulk"};
    plan_t *plan = shared_zalloc(sizeof *plan);
    plan->seed = tests_seed();
    const char *const algorithms[] = {"auto", direct[plan->seed % 3]};
    for (int a = 0; a < 2; a++) {
        plan->algorithm = algorithms[a];
        team_run(gpus, mixed_rank, plan);
    }
    shared_free(plan, sizeof *plan);
}
