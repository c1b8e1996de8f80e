/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A rank is late, killed, stopped, or aborts. The others learn which one in time, their kernels end, their GPUs stay
 * usable, and who is left makes a new communicator.
 */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "on_gpu.h"

enum {
    LATE_MS = 500,
    STOPPED_MS = 1000,
    KILLED_MS = 10000, /* so long that only the death itself can have been noticed */
    MARGIN_MS = 500,
    NOTICE_MS = 1000, /* of a death, or of an abort */
    KILLS = 130,
    GRAPH_KILLS = 50,
    QUICK_KILLS = 6,
    STOPS = 10
};

/* Shared by the ranks and the supervisor. */
typedef struct round {
    onehop_result_t code; /* what the others get */
    int victim, timeout_ms, limit_ms;
    bool graphs;
    uint64_t seed;
    atomic_int pids[ONEHOP_MAX_RANKS];
    atomic_int prepared, working, recovered;
    atomic_llong struck_ns, worst_ms;
} round_t;

static int64_t ms_since(int64_t then_ns) { return (now_ns() - then_ns) / 1000000; }

static void tell_worst(round_t *round, int64_t ms) {
    long long worst = atomic_load(&round->worst_ms);
    while (ms > worst && !atomic_compare_exchange_weak(&round->worst_ms, &worst, ms)) continue;
}

/* The sentence says of the victim, with its process, that it `is` so. */
static void check_names(const round_t *round, const char *text, const char *is) {
    char wanted[96];
    snprintf(wanted, sizeof wanted, "rank %d (pid %d) %s", round->victim, atomic_load(&round->pids[round->victim]), is);
    CHECK(strstr(text, wanted) != NULL, "\"%s\" is not in: %s", wanted, text);
}

/* ---- work ---- */

/* GRAPHS of HALF calls each, or the calls one by one. */
enum { CALLS = 6, GRAPHS = 2, HALF = CALLS / GRAPHS };

typedef struct work {
    image_t image;
    call_t calls[CALLS];
    gpu_graph_t graphs[GRAPHS];
    bool with_graphs;
} work_t;

static void work_prepare(seat_t *seat, work_t *work, bool with_graphs) {
    static const size_t counts[CALLS] = {2, 1024, GPU_MIB, 65536, 30001, 2 * GPU_MIB};
    *work = (work_t){.with_graphs = with_graphs};
    work->image = image_new(seat, ONEHOP_FLOAT32, ONEHOP_SUM, GPU_MESSAGE);
    for (int i = 0; i < CALLS; i++) {
        work->calls[i] = (call_t){.image = &work->image, .count = counts[i], .place = PLACE_INPUT};
        work->calls[i].slot = slot_new(seat, counts[i] * sizeof(float));
        call_prepare(seat, &work->calls[i]);
    }
    for (int g = 0; g < GRAPHS; g++) {
        doing("capture"); /* this loads the kernels, so that none is late for that */
        CHECK(gpu_capture_begin(seat->gpu), "%s", gpu_error());
        for (int i = 0; i < HALF; i++) CHECK_SUCCESS(call_launch(seat, &work->calls[g * HALF + i]));
        CHECK(gpu_capture_end(seat->gpu, true, &work->graphs[g]), "%s", gpu_error());
    }
}

static onehop_result_t work_step(seat_t *seat, work_t *work, int i) {
    if (!work->with_graphs) return call_launch(seat, &work->calls[i % CALLS]);
    CHECK(gpu_replay(seat->gpu, &work->graphs[i % GRAPHS]), "%s", gpu_error());
    return ONEHOP_SUCCESS;
}

/* Each call has run once, with the right result, and all kernels are loaded. */
static void work_warm(seat_t *seat, work_t *work) {
    doing("work without a fault");
    for (int i = 0; i < (work->with_graphs ? GRAPHS : CALLS); i++) CHECK_SUCCESS(work_step(seat, work, i));
    seat->operations += CALLS;
    seat_settle(seat, 2 * GPU_PLENTY_MS);
    for (int i = 0; i < CALLS; i++) call_check(seat, &work->calls[i]);
}

static void work_free(seat_t *seat, work_t *work) {
    for (int g = 0; g < GRAPHS; g++) gpu_graph_free(seat->gpu, &work->graphs[g]);
    for (int i = 0; i < CALLS; i++) slot_free(seat, &work->calls[i].slot);
    image_free(seat, &work->image);
}

static onehop_result_t work_until_failure(seat_t *seat, work_t *work, round_t *round) {
    enum { AHEAD = 8 }; /* steps that are launched before any is waited for */
    doing("work until the fault");
    for (int i = 0;; i++) {
        onehop_result_t result = work_step(seat, work, i);
        if (result == ONEHOP_SUCCESS) CHECK_SUCCESS(onehop_comm_get_async_error(seat->comm, &result));
        while (result == ONEHOP_SUCCESS && i % AHEAD == AHEAD - 1 && seat_busy(seat)) {
            CHECK_SUCCESS(onehop_comm_get_async_error(seat->comm, &result));
            if (result == ONEHOP_SUCCESS) nap_us(20);
        }
        if (result != ONEHOP_SUCCESS) return result;
        if (i == 2 * AHEAD) atomic_fetch_add(&round->working, 1);
    }
}

/* ---- after a fault ---- */

static void check_broken(seat_t *seat, work_t *work, onehop_result_t code) {
    onehop_result_t error;
    doing("wait for the kernels to end");
    seat_settle(seat, NOTICE_MS);
    seat_check_context(seat);
    doing("use a broken communicator");
    CHECK_SUCCESS(onehop_comm_get_async_error(seat->comm, &error));
    CHECK(error == code, "the error is %s instead of %s", onehop_result_string(error), onehop_result_string(code));
    CHECK_RESULT(code, call_launch(seat, &work->calls[0]));
}

static void recover(seat_t *seat, int generation) {
    seat_join(seat, generation, NULL);
    image_t image = image_new(seat, ONEHOP_FLOAT32, ONEHOP_SUM, GPU_MESSAGE);
    sweep(seat, &image, GPU_MESSAGE);
    image_free(seat, &image);
    seat_leave(seat);
}

/* So that the disk cache has the kernels: a rank that compiles is late, too. */
static void warm_rank(int rank, int nranks, void *ctx) {
    (void)ctx;
    seat_t seat = seat_take(rank, nranks);
    recover(&seat, 0);
    seat_give_back(&seat);
}

/* ---- one rank does not come ---- */

typedef struct aborter {
    round_t *round;
    onehop_comm_t *comm;
    int waiting; /* ranks that wait when it may begin */
} aborter_t;

static void *abort_later(void *ctx) {
    aborter_t *aborter = ctx;
    rng_t rng = {mix64(aborter->round->seed + (uint64_t)aborter->waiting)};
    CHECK(reaches(&aborter->round->working, aborter->waiting, GPU_PLENTY_MS), "the others did not begin to wait");
    nap_us((int64_t)rng_below(&rng, 10000));
    atomic_store(&aborter->round->struck_ns, now_ns());
    CHECK_SUCCESS(onehop_comm_abort(aborter->comm));
    return NULL;
}

static void launch_and_wait(seat_t *seat, work_t *work, round_t *round, int turn) {
    int64_t launched = now_ns();
    CHECK_SUCCESS(work_step(seat, work, turn));
    CHECK(seat_busy(seat), "the kernel did not wait for the late rank");
    atomic_fetch_add(&round->working, 1);
    onehop_result_t error = seat_await_error(seat, round->timeout_ms + GPU_PLENTY_MS);
    const char *text = onehop_last_error();
    CHECK(error == round->code, "got %s: %s", onehop_result_string(error), text);
    if (error == ONEHOP_ABORTED) launched = atomic_load(&round->struck_ns);
    int64_t took = ms_since(launched);
    tell_worst(round, took);
    CHECK(took < round->limit_ms, "noticed after %lld ms: %s", (long long)took, text);
    if (error == ONEHOP_ABORTED) return;
    check_names(round, text, "is late");
    CHECK(says_number(text, "operation", seat->operations + 1), "operation %llu is not in: %s",
          (unsigned long long)seat->operations + 1, text);
}

/* One communicator: all ranks but the victim launch number `turn` of the work. */
static void absent_turn(seat_t *seat, round_t *round, int turn, bool with_graphs) {
    onehop_config_t wish = ONEHOP_CONFIG_INIT;
    wish.timeout_ms = round->timeout_ms;
    work_t work;
    seat_join(seat, 2 * turn + with_graphs, &wish);
    work_prepare(seat, &work, with_graphs);
    team_barrier();
    work_warm(seat, &work);
    team_barrier(); /* who launches much earlier than another would be the first to give up */
    int waiting = (2 * turn + with_graphs + 1) * (seat->nranks - 1);
    aborter_t aborter = {round, seat->comm, waiting};
    pthread_t thread;
    bool aborts = round->code == ONEHOP_ABORTED && seat->rank == (round->victim + turn) % seat->nranks;
    if (aborts) CHECK(pthread_create(&thread, NULL, abort_later, &aborter) == 0, "pthread_create failed");
    doing("turn %d, graphs %d: wait for the fault", turn, with_graphs);
    if (seat->rank != round->victim) {
        launch_and_wait(seat, &work, round, turn);
    } else {
        onehop_result_t error = seat_await_error(seat, round->timeout_ms + GPU_PLENTY_MS);
        CHECK(error == round->code, "the late rank got %s: %s", onehop_result_string(error), onehop_last_error());
    }
    if (aborts) pthread_join(thread, NULL);
    check_broken(seat, &work, round->code);
    team_barrier(); /* nobody is to find that another has left */
    work_free(seat, &work);
    seat_leave(seat);
}

static void absent_rank(int rank, int nranks, void *ctx) {
    enum { TURNS = 3 };
    round_t *round = ctx;
    seat_t seat = seat_take(rank, nranks);
    atomic_store(&round->pids[rank], (int)getpid());
    for (int turn = 0; turn < TURNS; turn++) {
        absent_turn(&seat, round, turn, false);
        absent_turn(&seat, round, turn, true);
    }
    recover(&seat, 2 * TURNS);
    seat_give_back(&seat);
}

static void run_absent(int nranks, onehop_result_t code, int timeout_ms, int limit_ms) {
    round_t *round = shared_zalloc(sizeof *round);
    round->code = code;
    round->timeout_ms = timeout_ms;
    round->limit_ms = limit_ms;
    round->seed = tests_seed();
    round->victim = (int)(tests_seed() % (uint64_t)nranks);
    team_run(nranks, warm_rank, NULL);
    team_run(nranks, absent_rank, round);
    printf("%d ranks, rank %d absent: noticed after %lld ms at most\n", nranks, round->victim,
           (long long)atomic_load(&round->worst_ms));
    shared_free(round, sizeof *round);
}

void case_late(int gpus) { run_absent(gpus, ONEHOP_TIMEOUT, LATE_MS, LATE_MS + MARGIN_MS); }
void case_abort(int gpus) { run_absent(gpus, ONEHOP_ABORTED, GPU_PLENTY_MS, NOTICE_MS); }

/* ---- ranks are killed or stopped, one after the other until one is left ---- */

/* Each is a round; its victim and pids are by the ranks of its own communicator. */
static void lose_one(seat_t *seat, round_t *round, int generation) {
    onehop_config_t wish = ONEHOP_CONFIG_INIT;
    work_t work;
    wish.timeout_ms = round->timeout_ms;
    atomic_store(&round->pids[seat->rank], (int)getpid());
    seat_join(seat, generation, &wish);
    work_prepare(seat, &work, round->graphs);
    atomic_fetch_add(&round->prepared, 1);
    CHECK(reaches(&round->prepared, seat->nranks, GPU_PLENTY_MS), "not all ranks are prepared");
    work_warm(seat, &work);
    onehop_result_t result = work_until_failure(seat, &work, round);
    int64_t took = ms_since(atomic_load(&round->struck_ns));
    const char *text = onehop_last_error();
    CHECK(result == round->code, "got %s: %s", onehop_result_string(result), text);
    check_names(round, text, result == ONEHOP_PEER_LOST ? "is lost" : "is late");
    tell_worst(round, took);
    CHECK(took < round->limit_ms, "noticed after %lld ms: %s", (long long)took, text);
    check_broken(seat, &work, result);
    work_free(seat, &work);
    seat_leave(seat);
    seat->rank -= seat->rank > round->victim;
    seat->nranks--;
    atomic_fetch_add(&round->recovered, 1);
}

static void struck_rank(int rank, int nranks, void *ctx) {
    round_t *each = ctx;
    seat_t seat = seat_take(rank, nranks);
    for (int i = 0; i < nranks - 1; i++) lose_one(&seat, &each[i], i);
    recover(&seat, nranks);
    seat_give_back(&seat);
}

/* Rank `victim` of those that are left is rank `index` of the team. */
static void strike(team_t *team, round_t *round, int index, int left, int signal, rng_t *rng) {
    CHECK(reaches(&round->working, left, 2 * GPU_PLENTY_MS), "%d of %d ranks work", atomic_load(&round->working), left);
    nap_us((int64_t)rng_below(rng, 20000));
    atomic_store(&round->struck_ns, now_ns());
    team_signal(team, index, signal);
    CHECK(reaches(&round->recovered, left - 1, 2 * GPU_PLENTY_MS), "%d of %d ranks go on without the lost one",
          atomic_load(&round->recovered), left - 1);
    if (signal != SIGKILL) team_signal(team, index, SIGKILL);
}

static void prepare_rounds(round_t *each, int nranks, int signal, bool graphs, rng_t *rng) {
    bool killed = signal == SIGKILL;
    for (int i = 0; i < nranks - 1; i++) {
        round_t *round = &each[i];
        round->code = killed ? ONEHOP_PEER_LOST : ONEHOP_TIMEOUT;
        round->timeout_ms = killed ? KILLED_MS : STOPPED_MS;
        round->limit_ms = killed ? NOTICE_MS : STOPPED_MS + MARGIN_MS;
        round->graphs = graphs;
        round->victim = (int)rng_below(rng, (uint64_t)(nranks - i));
    }
}

/* Of the ranks 0 ... nranks-1 one is left. Returns how long it took until a loss was noticed, at most. */
static long long run_struck(int nranks, int signal, bool graphs, rng_t *rng) {
    const size_t bytes = (size_t)nranks * sizeof(round_t);
    round_t *each = shared_zalloc(bytes);
    int left[ONEHOP_MAX_RANKS];
    long long worst = 0;
    for (int r = 0; r < nranks; r++) left[r] = r;
    prepare_rounds(each, nranks, signal, graphs, rng);
    team_t *team = team_start(nranks, struck_rank, each);
    for (int i = 0; i < nranks - 1; i++) {
        round_t *round = &each[i];
        strike(team, round, left[round->victim], nranks - i, signal, rng);
        for (int r = round->victim; r < nranks - i - 1; r++) left[r] = left[r + 1];
        if (atomic_load(&round->worst_ms) > worst) worst = atomic_load(&round->worst_ms);
    }
    team_finish(team, -1);
    shared_free(each, bytes);
    return worst;
}

static void run_all_struck(int gpus, int signal, bool graphs, int wanted) {
    rng_t rng = {tests_seed() + (uint64_t)signal + graphs};
    const char *what = signal == SIGKILL ? "killed" : "stopped", *where = graphs ? "graphs" : "calls";
    long long worst = 0;
    int lost = 0;
    for (int nranks = 2; nranks <= gpus; nranks++) team_run(nranks, warm_rank, NULL);
    for (; lost < wanted; lost += gpus - 1) {
        long long took = run_struck(gpus, signal, graphs, &rng);
        if (took > worst) worst = took;
    }
    printf("%d ranks, %d of them %s in %s: noticed after %lld ms at most\n", gpus, lost, what, where, worst);
}

void case_killed_in_calls(int gpus) { run_all_struck(gpus, SIGKILL, false, rounds(KILLS, QUICK_KILLS)); }
void case_killed_in_graphs(int gpus) { run_all_struck(gpus, SIGKILL, true, rounds(GRAPH_KILLS, QUICK_KILLS)); }

void case_stopped(int gpus) {
    run_all_struck(gpus, SIGSTOP, false, rounds(STOPS, 1));
    run_all_struck(gpus, SIGSTOP, true, rounds(STOPS, 1));
}
