/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Graphs as engines use them: many small ones with calls between, captured one by one while others are replayed and
 * destroyed, sharing their buffers; and one that is huge.
 */
#include <stdio.h>
#include <stdlib.h>

#include "on_gpu.h"

/* ---- many small graphs ---- */

enum { PIECES = 24, PIECE_CALLS = 3, SLOTS = 8, ROUNDS = 60, QUICK_ROUNDS = 15, IN_A_ROW = 12 };

/* Slot i is written by call i of whatever graph or row was the last to use it. */
typedef struct piece {
    gpu_graph_t graph; /* none: this piece is not captured at present */
    int slots[PIECE_CALLS];
    call_t calls[PIECE_CALLS];
} piece_t;

typedef struct pieces {
    seat_t seat;
    image_t image;
    slot_t slots[SLOTS];
    call_t last[SLOTS]; /* whose result lies there */
    bool used[SLOTS];
    piece_t piece[PIECES];
    rng_t rng;
} pieces_t;

static call_t draw_into(pieces_t *p, int slot) { return call_draw(&p->rng, &p->image, 1, p->slots[slot], GPU_MIB); }

/* A piece prepares its inputs itself, so that it may be replayed at will. */
static void capture_piece(pieces_t *p, piece_t *piece) {
    /* Calls of one piece that share a slot would overwrite one another's results: each has its own. */
    const int first = (int)rng_below(&p->rng, SLOTS);
    CHECK(gpu_capture_begin(p->seat.gpu), "%s", gpu_error());
    for (int i = 0; i < PIECE_CALLS; i++) {
        piece->slots[i] = (first + i) % SLOTS;
        piece->calls[i] = draw_into(p, piece->slots[i]);
        call_prepare(&p->seat, &piece->calls[i]);
        CHECK_SUCCESS(call_launch(&p->seat, &piece->calls[i]));
    }
    CHECK(gpu_capture_end(p->seat.gpu, true, &piece->graph), "%s", gpu_error());
    CHECK_SUCCESS(onehop_graph_register(p->seat.comm));
}

static void leave_result(pieces_t *p, int slot, const call_t *call) {
    p->last[slot] = *call;
    p->used[slot] = true;
}

/* A graph may be destroyed while it is under way. */
static void replay_or_change(pieces_t *p, piece_t *piece) {
    if (piece->graph.exec == NULL) {
        capture_piece(p, piece);
    } else if (rng_below(&p->rng, 4) == 0) {
        gpu_graph_free(p->seat.gpu, &piece->graph);
    } else {
        CHECK(gpu_replay(p->seat.gpu, &piece->graph), "%s", gpu_error());
        for (int i = 0; i < PIECE_CALLS; i++) leave_result(p, piece->slots[i], &piece->calls[i]);
    }
}

static void call_between(pieces_t *p) {
    int slot = (int)rng_below(&p->rng, SLOTS);
    call_t call = draw_into(p, slot);
    call_prepare(&p->seat, &call);
    CHECK_SUCCESS(call_launch(&p->seat, &call));
    leave_result(p, slot, &call);
}

static void check_results(pieces_t *p) {
    seat_settle(&p->seat, 2 * GPU_PLENTY_MS);
    seat_check_well(&p->seat);
    for (int s = 0; s < SLOTS; s++) {
        if (p->used[s]) call_check(&p->seat, &p->last[s]);
    }
}

static void pieces_rank(int rank, int nranks, void *ctx) {
    (void)ctx;
    pieces_t p = {.seat = seat_take(rank, nranks), .rng = {tests_seed()}};
    seat_join(&p.seat, 0, NULL);
    p.image = image_new(&p.seat, ONEHOP_BFLOAT16, ONEHOP_SUM, 2 * GPU_MIB);
    for (int s = 0; s < SLOTS; s++) p.slots[s] = slot_new(&p.seat, GPU_MIB);
    for (int round = 0, last = rounds(ROUNDS, QUICK_ROUNDS); round < last; round++) {
        doing("small graphs, round %d", round);
        for (int i = 0; i < IN_A_ROW; i++) {
            if (rng_below(&p.rng, 3) == 0) {
                call_between(&p);
            } else {
                replay_or_change(&p, &p.piece[rng_below(&p.rng, PIECES)]);
            }
        }
        check_results(&p);
    }
    for (int i = 0; i < PIECES; i++) gpu_graph_free(p.seat.gpu, &p.piece[i].graph);
    for (int s = 0; s < SLOTS; s++) slot_free(&p.seat, &p.slots[s]);
    image_free(&p.seat, &p.image);
    seat_leave(&p.seat);
    seat_give_back(&p.seat);
}

/* ---- a huge graph ---- */

enum { OPERATIONS = 131072, EACH = 4, ELEMENTS = OPERATIONS * EACH, REGISTER_MS = 5000 };

static uint64_t number_of(int rank, int i) { return mix64((uint64_t)i * ONEHOP_MAX_RANKS + (uint64_t)rank); }

static void fill_numbers(seat_t *seat, uint64_t *message) {
    uint64_t *numbers = malloc(ELEMENTS * sizeof *numbers);
    CHECK(numbers != NULL, "out of memory");
    for (int i = 0; i < ELEMENTS; i++) numbers[i] = number_of(seat->rank, i);
    CHECK(gpu_upload(seat->gpu, message, numbers, ELEMENTS * sizeof *numbers), "%s", gpu_error());
    free(numbers);
}

static void check_numbers(seat_t *seat, const uint64_t *message) {
    uint64_t *numbers = malloc(ELEMENTS * sizeof *numbers);
    CHECK(numbers != NULL, "out of memory");
    CHECK(gpu_download(seat->gpu, numbers, message, ELEMENTS * sizeof *numbers), "%s", gpu_error());
    for (int i = 0; i < ELEMENTS; i++) {
        uint64_t sum = 0;
        for (int r = 0; r < seat->nranks; r++) sum += number_of(r, i);
        CHECK(numbers[i] == sum, "operation %d of the graph left %llx instead of %llx", i / EACH,
              (unsigned long long)numbers[i], (unsigned long long)sum);
    }
    free(numbers);
}

/* Each operation has EACH elements of the message, in place. */
static void huge_rank(int rank, int nranks, void *ctx) {
    (void)ctx;
    seat_t seat = seat_take(rank, nranks);
    gpu_graph_t graph;
    uint64_t *message = gpu_alloc(seat.gpu, ELEMENTS * sizeof *message);
    CHECK(message != NULL, "%s", gpu_error());
    seat_join(&seat, 0, NULL);
    doing("capture %d operations", OPERATIONS);
    int64_t begin = now_ns();
    CHECK(gpu_capture_begin(seat.gpu), "%s", gpu_error());
    for (int i = 0; i < ELEMENTS; i += EACH) {
        CHECK_SUCCESS(onehop_all_reduce(message + i, message + i, EACH, ONEHOP_UINT64, ONEHOP_SUM, seat.comm,
                                        gpu_stream(seat.gpu)));
    }
    CHECK(gpu_capture_end(seat.gpu, true, &graph), "%s", gpu_error());
    int64_t captured = now_ns();
    CHECK_SUCCESS(onehop_graph_register(seat.comm));
    int64_t registered = now_ns(), took = (registered - captured) / 1000000;
    CHECK(took < REGISTER_MS, "onehop_graph_register took %lld ms", (long long)took);
    fill_numbers(&seat, message);
    doing("replay %d operations", OPERATIONS);
    int64_t launched = now_ns();
    CHECK(gpu_replay(seat.gpu, &graph), "%s", gpu_error());
    seat_settle(&seat, 3 * GPU_PLENTY_MS);
    int64_t replayed = now_ns();
    check_numbers(&seat, message);
    if (rank == 0) {
        printf("%d ranks, %d operations: captured in %lld ms, registered in %lld ms, replayed in %lld ms\n", nranks,
               OPERATIONS, (long long)(captured - begin) / 1000000, (long long)took,
               (long long)(replayed - launched) / 1000000);
    }
    gpu_graph_free(seat.gpu, &graph);
    gpu_free(seat.gpu, message);
    seat_leave(&seat);
    seat_give_back(&seat);
}

void case_graphs(int gpus) {
    team_run(gpus, pieces_rank, NULL);
    team_run(gpus, huge_rank, NULL);
}
