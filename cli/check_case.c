/* SPDX-License-Identifier: Apache-2.0 */
/* One case of `onehop check`. On a GPU, buffers are filled on the host, copied up, and looked at when copied down. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "check.h"
#include "data.h"
#include "device.h"
#include "say.h"

enum { DESCRIBED = 10 /* failures that are told in full */ };

static void describe(check_run_t *run, const check_case_t *c, const char *what) {
    run->failed++;
    if (atomic_fetch_add(&run->totals->described, 1) >= DESCRIBED) return;
    complain("rank %d of %d: %s %s of %zu elements, %s, %s, %s memory%s, seed %" PRIu64 ": %s", run->rank->rank,
             run->rank->nranks, onehop_dtype_string(c->dtype), onehop_op_string(c->op), c->count, run->algorithm,
             c->in_place ? "in place" : "out of place", c->registered ? "registered" : "ordinary",
             c->captured ? ", in a graph" : "", run->options->seed, what);
}

static bool untouched(const unsigned char *guard) {
    for (int i = 0; i < CHECK_GUARD; i++) {
        if (guard[i] != 0x5A) return false;
    }
    return true;
}

/* Looks at all that the all-reduce could have spoiled; a case fails once. */
static void verify(check_run_t *run, const check_case_t *c, const data_t *data, const unsigned char *send,
                   const unsigned char *recv) {
    data_error_t error;
    char text[160];
    size_t wrong = data_check(data, recv, c->count, &error);
    if (wrong > 0) {
        snprintf(text, sizeof text, "element %zu is %s, expected %s (%zu of %zu are wrong)", error.index, error.got,
                 error.expected, wrong, c->count);
        describe(run, c, text);
    } else if (!untouched(recv - CHECK_GUARD)) {
        describe(run, c, "bytes before the result were overwritten");
    } else if (!untouched(recv + c->count * onehop_dtype_size(c->dtype))) {
        describe(run, c, "bytes behind the result were overwritten");
    } else if (!c->in_place && data_check_sent(data, run->rank->rank, send, c->count, &error) > 0) {
        snprintf(text, sizeof text, "element %zu of sendbuf became %s, was %s", error.index, error.got, error.expected);
        describe(run, c, text);
    } else {
        run->passed++;
    }
}

/* Every second case is aligned to a page, plus the guard; the others to nothing, and differently on every rank. */
static size_t misalignment(const check_run_t *run, const check_case_t *c, uint64_t which) {
    uint64_t bits = data_mix(c->seed ^ data_mix((uint64_t)run->rank->rank * 2 + which));
    return CHECK_GUARD + (c->seed & 1 ? bits % CHECK_GUARD : 0);
}

/* Where a case's buffers lie in the host's memory; on CUDA, that is the copy. */
typedef struct check_place {
    unsigned char *send, *recv;
    size_t bytes;
} check_place_t;

static check_place_t place_of(const check_run_t *run, const check_case_t *c) {
    unsigned char *memory = run->memory[c->registered];
    check_place_t place = {.bytes = c->count * onehop_dtype_size(c->dtype)};
    place.recv = memory + misalignment(run, c, 0);
    place.send = c->in_place ? place.recv : memory + run->options->max_bytes + CHECK_SLACK + misalignment(run, c, 1);
    return place;
}

static data_t fill(const check_run_t *run, const check_case_t *c, const check_place_t *place, uint64_t seed) {
    data_t data = {c->dtype, c->op, run->rank->nranks, seed};
    memset(place->recv - CHECK_GUARD, 0x5A, CHECK_GUARD + place->bytes + CHECK_GUARD);
    data_fill(&data, run->rank->rank, place->send, c->count);
    return data;
}

/* ---- on a GPU ---- */

static unsigned char *on_gpu(const check_run_t *run, const check_case_t *c, const unsigned char *place) {
    return run->on_gpu[c->registered] + (place - run->memory[c->registered]);
}

static bool copy_up(check_run_t *run, const check_case_t *c, const check_place_t *at) {
    const unsigned char *recv = at->recv - CHECK_GUARD;
    size_t bytes = at->bytes + 2 * CHECK_GUARD;
    gpu_t *gpu = run->rank->gpu;
    return rank_gpu(run->rank, gpu_upload(gpu, on_gpu(run, c, recv), recv, bytes) &&
                                   gpu_upload(gpu, on_gpu(run, c, at->send), at->send, at->bytes));
}

/* What was there is made unlike anything expected first. */
static bool copy_down(check_run_t *run, const check_case_t *c, const check_place_t *at) {
    unsigned char *recv = at->recv - CHECK_GUARD;
    size_t bytes = at->bytes + 2 * CHECK_GUARD;
    gpu_t *gpu = run->rank->gpu;
    memset(at->send, 0xA5, at->bytes);
    memset(recv, 0xA5, bytes);
    return rank_gpu(run->rank, gpu_download(gpu, at->send, on_gpu(run, c, at->send), at->bytes) &&
                                   gpu_download(gpu, recv, on_gpu(run, c, recv), bytes));
}

static bool enqueue(check_run_t *run, const check_case_t *c, const check_place_t *at) {
    rank_t *rank = run->rank;
    return rank_try(rank, onehop_all_reduce(on_gpu(run, c, at->send), on_gpu(run, c, at->recv), c->count, c->dtype,
                                            c->op, rank->comm, gpu_stream(rank->gpu)));
}

/* Calls it, or replays the graph that holds the call. */
static bool run_on_gpu(check_run_t *run, const check_case_t *c, const check_place_t *at, const gpu_graph_t *graph,
                       uint64_t seed) {
    data_t data = fill(run, c, at, seed);
    if (!copy_up(run, c, at)) return false;
    bool good = graph != NULL ? rank_gpu(run->rank, gpu_replay(run->rank->gpu, graph)) : enqueue(run, c, at);
    if (!good || !rank_settle(run->rank) || !copy_down(run, c, at)) return false;
    verify(run, c, &data, at->send, at->recv);
    return true;
}

static bool run_captured(check_run_t *run, const check_case_t *c, const check_place_t *at) {
    rank_t *rank = run->rank;
    gpu_graph_t graph = {0};
    if (!rank_gpu(rank, gpu_capture_begin(rank->gpu))) return false;
    bool good = enqueue(run, c, at);
    good = rank_gpu(rank, gpu_capture_end(rank->gpu, good, &graph)) && rank_meet(rank);
    for (uint64_t replay = 0; replay < 3 && good; replay++) {
        good = run_on_gpu(run, c, at, &graph, data_mix(c->seed + replay));
    }
    gpu_graph_free(rank->gpu, &graph);
    return good;
}

/* ---- on any device ---- */

bool check_case_run(check_run_t *run, const check_case_t *c) {
    rank_t *rank = run->rank;
    check_place_t at = place_of(run, c);
    if (c->captured) return run_captured(run, c, &at);
    if (rank->gpu != NULL) return run_on_gpu(run, c, &at, NULL, c->seed);
    data_t data = fill(run, c, &at, c->seed);
    if (!rank_try(rank, onehop_all_reduce(at.send, at.recv, c->count, c->dtype, c->op, rank->comm, NULL))) return false;
    verify(run, c, &data, at.send, at.recv);
    return true;
}
