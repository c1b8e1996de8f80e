/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ranks are killed, stopped, delayed and aborted at random moments. Nobody hangs; the others learn which rank it was;
 * nothing leaks; and the survivors can go on together.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pthread.h>

#include "message.h"

#include <cmocka.h>

enum { MIB = 1 << 20, LARGE = 8 * MIB, MEDIUM = 128 * 1024, RECOVERY = 1000000, STOP_DEADLINE_MS = 500 };

/* What ranks are at when the fault strikes. */
typedef enum work {
    WORK_SMALL,
    WORK_MEDIUM,
    WORK_LARGE,
    WORK_MIXED,
    WORK_REGISTERED,
    WORK_REGISTER,
    WORK_POLL,
    WORKS
} work_t;

static const char *const work_names[WORKS] = {"small",      "medium",       "large",  "mixed size",
                                              "registered", "registration", "polling"};

typedef enum fault { FAULT_KILL, FAULT_STOP, FAULT_ABORT } fault_t;

typedef struct round {
    fault_t fault;
    work_t work;
    int victim;
    uint64_t seed;
    bool leave_early;       /* FAULT_STOP: the others do not wait for the late one */
    atomic_int working;     /* ranks that have begun to work */
    atomic_int failed;      /* ranks that have got their error */
    atomic_llong struck_ns; /* when the fault struck */
    atomic_int victim_pid;
    atomic_int resumed;
} round_t;

/* ---- Work that goes on until it fails ---- */

typedef struct job {
    onehop_comm_t *comm;
    int rank, nranks;
    int32_t *send, *recv;
    rng_t rng; /* the same on all ranks */
} job_t;

/* Every element that rank r sends is r + 1, so that what comes back is known without looking at all of it. */
static job_t job_begin(int rank, int nranks, const round_t *round, const onehop_config_t *wish) {
    job_t job = {.rank = rank, .nranks = nranks, .rng = {round->seed}};
    job.comm = team_join(rank, nranks, 0, wish);
    void *send, *recv;
    CHECK_SUCCESS(onehop_alloc(job.comm, LARGE, &send));
    CHECK_SUCCESS(onehop_alloc(job.comm, LARGE, &recv));
    job.send = send;
    job.recv = recv;
    for (int i = 0; i < LARGE / 4; i++) job.send[i] = rank + 1;
    if (round->work == WORK_REGISTERED) {
        doing("register before the fault");
        CHECK_SUCCESS(onehop_register(job.comm, send, LARGE));
        CHECK_SUCCESS(onehop_register(job.comm, recv, LARGE));
    }
    return job;
}

static onehop_result_t reduce_once(job_t *job, size_t bytes) {
    size_t count = bytes / 4, step = count / 61 + 1;
    int32_t sum = job->nranks * (job->nranks + 1) / 2;
    for (size_t i = 0; i < count; i += step) job->recv[i] = -1;
    onehop_result_t result = onehop_all_reduce(job->send, job->recv, count, ONEHOP_INT32, ONEHOP_SUM, job->comm, NULL);
    for (size_t i = 0; i < count && result == ONEHOP_SUCCESS; i += step)
        CHECK(job->recv[i] == sum, "element %zu of %zu is %d instead of %d", i, count, job->recv[i], sum);
    return result;
}

static onehop_result_t register_once(job_t *job) {
    onehop_result_t result = onehop_register(job->comm, job->send, LARGE);
    if (result == ONEHOP_SUCCESS) result = onehop_deregister(job->comm, job->send);
    return result;
}

/* No operation at all: the error is asked for. */
static onehop_result_t poll_once(job_t *job) {
    onehop_result_t error = ONEHOP_SUCCESS;
    CHECK_SUCCESS(onehop_comm_get_async_error(job->comm, &error));
    if (error == ONEHOP_SUCCESS) nap_us(100);
    return error;
}

static onehop_result_t work_once(job_t *job, work_t work) {
    switch (work) {
    case WORK_POLL: return poll_once(job);
    case WORK_SMALL: return reduce_once(job, 4 + 4 * rng_below(&job->rng, 64));
    case WORK_MEDIUM: return reduce_once(job, MEDIUM);
    case WORK_LARGE:
    case WORK_REGISTERED: return reduce_once(job, LARGE);
    case WORK_REGISTER: return register_once(job);
    default: return reduce_once(job, 4 + rng_log_below(&job->rng, LARGE - 4));
    }
}

static onehop_result_t work_until_failure(job_t *job, round_t *round) {
    doing("%s work until the fault", work_names[round->work]);
    onehop_result_t result = ONEHOP_SUCCESS;
    for (int i = 0; result == ONEHOP_SUCCESS; i++) {
        result = work_once(job, round->work);
        if (i == 0) atomic_fetch_add(&round->working, 1);
    }
    return result;
}

/* ---- What every rank must find after a fault ---- */

static void check_broken(job_t *job, onehop_result_t code) {
    doing("use a broken communicator");
    onehop_result_t error = ONEHOP_SUCCESS;
    CHECK_SUCCESS(onehop_comm_get_async_error(job->comm, &error));
    CHECK(error == code, "the communicator's error is %s instead of %s", onehop_result_string(error),
          onehop_result_string(code));
    CHECK(onehop_last_error()[0], "get_async_error gives no text");
    CHECK_RESULT(code, onehop_all_reduce(job->send, job->recv, 1, ONEHOP_INT32, ONEHOP_SUM, job->comm, NULL));
    CHECK_RESULT(code, onehop_all_reduce(NULL, NULL, 0, ONEHOP_INT32, ONEHOP_SUM, job->comm, NULL));
    CHECK_RESULT(code, onehop_register(job->comm, job->send, LARGE));
    CHECK_RESULT(code, onehop_graph_register(job->comm));
}

/* The first `nranks` of a new numbering go on together. */
static void recover(int rank, int nranks) {
    onehop_comm_t *comm = team_join(rank, nranks, RECOVERY, NULL);
    area_t area = area_new(MIB);
    rng_t rng = {tests_seed()};
    for (int i = 0; i < 3; i++) {
        message_t m = {rng_log_below(&rng, MIB / 4), ONEHOP_FLOAT32, ONEHOP_SUM, DATA_EXACT, rng_next(&rng)};
        all_reduce_checked(comm, &m, area, NULL, area.start + GUARD);
    }
    CHECK_SUCCESS(onehop_comm_destroy(comm));
    area_free(area);
}

static int64_t ms_since_strike(const round_t *round) { return (now_ns() - atomic_load(&round->struck_ns)) / 1000000; }

/* ---- Kill ---- */

static void check_names_victim(const round_t *round) {
    const char *text = onehop_last_error();
    CHECK(says_number(text, "rank", (uint64_t)round->victim), "rank %d is not in: %s", round->victim, text);
    CHECK(says_number(text, "", (uint64_t)round->victim_pid), "process %d is not in: %s", round->victim_pid, text);
}

static void until_killed(int rank, int nranks, void *ctx) {
    round_t *round = ctx;
    resources_t before = resources_now();
    job_t job = job_begin(rank, nranks, round, NULL);
    onehop_result_t result = work_until_failure(&job, round);
    int64_t took_ms = ms_since_strike(round);
    CHECK(result == ONEHOP_PEER_LOST, "got %s: %s", onehop_result_string(result), onehop_last_error());
    check_names_victim(round);
    CHECK(took_ms < patience_ms(1000), "learned of it after %lld ms", (long long)took_ms);
    check_broken(&job, ONEHOP_PEER_LOST);
    CHECK_SUCCESS(onehop_comm_destroy(job.comm));
    resources_check(before, "after PEER_LOST and destroy");
    if (nranks > 2) recover(rank < round->victim ? rank : rank - 1, nranks - 1);
    resources_check(before, "after recovery");
}

/* Starts the team of a round and waits until all its ranks work. */
static team_t *round_start(round_t *round, int nranks, rank_fn body) {
    team_t *team = team_start(nranks, body, round);
    atomic_store(&round->victim_pid, team_pid(team, round->victim));
    CHECK(reaches(&round->working, nranks, patience_ms(20000)), "%d of %d ranks work", atomic_load(&round->working),
          nranks);
    return team;
}

static void strike(round_t *round, team_t *team, int signal) {
    atomic_store(&round->struck_ns, now_ns());
    team_signal(team, round->victim, signal);
}

static void round_draw(round_t *round, fault_t fault, work_t work, int nranks, rng_t *rng) {
    memset(round, 0, sizeof *round);
    round->fault = fault;
    round->work = work;
    round->victim = (int)rng_below(rng, (uint64_t)nranks);
    round->seed = rng_next(rng);
    round->leave_early = rng_below(rng, 2);
}

/* Two ranks most often, and all numbers up to 8. */
static int draw_nranks(rng_t *rng) { return 2 + (int)(rng_below(rng, 2) ? 0 : rng_below(rng, 7)); }

static void test_kill(void **state) {
    (void)state;
    rng_t rng = {tests_seed()};
    round_t *round = shared_zalloc(sizeof *round);
    for (int i = 0; i < rounds(WORKS * 50, WORKS * 4); i++) {
        int nranks = draw_nranks(&rng);
        round_draw(round, FAULT_KILL, (work_t)(i % WORKS), nranks, &rng);
        team_t *team = round_start(round, nranks, until_killed);
        nap_us((int64_t)rng_below(&rng, 10000));
        strike(round, team, SIGKILL);
        team_finish(team, round->victim);
    }
    shared_free(round, sizeof *round);
}

/* ---- Kill while communicators come and go ---- */

enum { BOOTSTRAP_MS = 500 };

static void create_until_killed(int rank, int nranks, void *ctx) {
    round_t *round = ctx;
    resources_t before = resources_now();
    onehop_result_t result = ONEHOP_SUCCESS;
    for (int generation = 0; result == ONEHOP_SUCCESS; generation++) {
        char name[96];
        team_rendezvous(generation, name, sizeof name);
        onehop_config_t config = team_config(rank, nranks, name);
        config.bootstrap_timeout_ms = (int)patience_ms(BOOTSTRAP_MS);
        onehop_comm_t *comm = (onehop_comm_t *)&config; /* anything but NULL, which create is to store */
        doing("create communicator %d until a rank is killed", generation);
        result = onehop_comm_create(&config, &comm);
        if (generation == 0) atomic_fetch_add(&round->working, 1);
        if (result != ONEHOP_SUCCESS) {
            CHECK(comm == NULL, "a failed create left a pointer behind");
            break;
        }
        int32_t one = 1, sum;
        doing("first all-reduce of communicator %d", generation);
        result = onehop_all_reduce(&one, &sum, 1, ONEHOP_INT32, ONEHOP_SUM, comm, NULL);
        CHECK(result != ONEHOP_SUCCESS || sum == nranks, "sum is %d", sum);
        /* It may name another rank, one that has already given up creating. */
        CHECK(result == ONEHOP_SUCCESS || strstr(onehop_last_error(), "rank"), "no rank in: %s", onehop_last_error());
        CHECK_SUCCESS(onehop_comm_destroy(comm));
    }
    /* Who was killed before it came to the rendezvous is only missed at the deadline. */
    int64_t took_ms = ms_since_strike(round);
    CHECK(result == ONEHOP_PEER_LOST || result == ONEHOP_TIMEOUT, "got %s: %s", onehop_result_string(result),
          onehop_last_error());
    CHECK(took_ms < patience_ms(BOOTSTRAP_MS + 1000), "learned of it after %lld ms", (long long)took_ms);
    resources_check(before, "after a failed create");
    if (nranks > 2) recover(rank < round->victim ? rank : rank - 1, nranks - 1);
}

static void test_kill_in_create(void **state) {
    (void)state;
    rng_t rng = {tests_seed() + 1};
    round_t *round = shared_zalloc(sizeof *round);
    for (int i = 0; i < rounds(40, 8); i++) {
        int nranks = draw_nranks(&rng);
        round_draw(round, FAULT_KILL, WORK_SMALL, nranks, &rng);
        team_t *team = round_start(round, nranks, create_until_killed);
        nap_us((int64_t)rng_below(&rng, 20000));
        strike(round, team, SIGKILL);
        team_finish(team, round->victim);
    }
    shared_free(round, sizeof *round);
}

/* ---- Stop ---- */

static uint64_t operations(const onehop_comm_t *comm) {
    onehop_comm_info_t info = {.size = sizeof info};
    CHECK_SUCCESS(onehop_comm_get_info(comm, &info));
    return info.operations;
}

static void until_stopped(int rank, int nranks, void *ctx) {
    round_t *round = ctx;
    resources_t before = resources_now();
    onehop_config_t wish = ONEHOP_CONFIG_INIT;
    wish.timeout_ms = (int)patience_ms(STOP_DEADLINE_MS);
    job_t job = job_begin(rank, nranks, round, &wish);
    onehop_result_t result = work_until_failure(&job, round);
    int64_t took_ms = ms_since_strike(round);
    const char *text = onehop_last_error();
    if (rank != round->victim) {
        CHECK(result == ONEHOP_TIMEOUT, "got %s: %s", onehop_result_string(result), text);
        CHECK(says_number(text, "rank", (uint64_t)round->victim), "rank %d is not in: %s", round->victim, text);
        if (round->work != WORK_REGISTER)
            CHECK(says_number(text, "operation", operations(job.comm)), "operation %llu is not in: %s",
                  (unsigned long long)operations(job.comm), text);
        CHECK(took_ms < patience_ms(STOP_DEADLINE_MS + 500), "gave up after %lld ms", (long long)took_ms);
    } else {
        CHECK(result == ONEHOP_TIMEOUT || (round->leave_early && result == ONEHOP_PEER_LOST), "the late one got %s: %s",
              onehop_result_string(result), text);
    }
    atomic_fetch_add(&round->failed, 1);
    check_broken(&job, result);
    doing("wait for the late one to fail");
    if (!round->leave_early) CHECK(reaches(&round->failed, nranks, patience_ms(10000)), "a late rank did not return");
    CHECK_SUCCESS(onehop_comm_destroy(job.comm));
    resources_check(before, "after TIMEOUT and destroy");
    recover(rank, nranks);
    resources_check(before, "after recovery");
}

static void test_stop(void **state) {
    (void)state;
    rng_t rng = {tests_seed() + 2};
    round_t *round = shared_zalloc(sizeof *round);
    for (int i = 0; i < rounds(WORK_POLL * 4, WORK_POLL); i++) {
        int nranks = draw_nranks(&rng);
        /* Who only polls waits for nobody. */
        round_draw(round, FAULT_STOP, (work_t)(i % WORK_POLL), nranks, &rng);
        team_t *team = round_start(round, nranks, until_stopped);
        nap_us((int64_t)rng_below(&rng, 5000));
        strike(round, team, SIGSTOP);
        CHECK(reaches(&round->failed, nranks - 1, patience_ms(STOP_DEADLINE_MS + 2000)), "%d of %d ranks gave up",
              atomic_load(&round->failed), nranks - 1);
        team_signal(team, round->victim, SIGCONT);
        CHECK(reaches(&round->failed, nranks, patience_ms(2000)), "the late rank did not fail after SIGCONT");
        team_finish(team, -1);
    }
    shared_free(round, sizeof *round);
}

/* Late, but within the deadline: stopped and resumed, and napping between operations. */
static void short_delays(int rank, int nranks, void *ctx) {
    round_t *round = ctx;
    onehop_config_t wish = ONEHOP_CONFIG_INIT;
    wish.timeout_ms = (int)patience_ms(1500);
    onehop_comm_t *comm = team_join(rank, nranks, 0, &wish);
    area_t area = area_new(MIB);
    rng_t rng = {round->seed}, mine = {mix64(round->seed + (uint64_t)rank)};
    atomic_fetch_add(&round->working, 1);
    for (int i = 0; i < 20; i++) {
        if (rng_below(&mine, 4) == 0) nap_us((int64_t)rng_log_below(&mine, 50000));
        message_t m = {rng_log_below(&rng, MIB / 4), ONEHOP_FLOAT32, ONEHOP_SUM, DATA_EXACT, rng_next(&rng)};
        all_reduce_checked(comm, &m, area, NULL, area.start + GUARD);
    }
    CHECK_SUCCESS(onehop_comm_destroy(comm));
    area_free(area);
}

static void test_short_delays(void **state) {
    (void)state;
    rng_t rng = {tests_seed() + 3};
    round_t *round = shared_zalloc(sizeof *round);
    for (int i = 0; i < rounds(20, 4); i++) {
        int nranks = draw_nranks(&rng);
        round_draw(round, FAULT_STOP, WORK_MIXED, nranks, &rng);
        team_t *team = round_start(round, nranks, short_delays);
        for (int stops = 0; stops < 3; stops++) {
            strike(round, team, SIGSTOP);
            nap_us((int64_t)rng_below(&rng, 50000));
            team_signal(team, round->victim, SIGCONT);
            nap_us((int64_t)rng_below(&rng, 5000));
        }
        team_finish(team, -1);
    }
    shared_free(round, sizeof *round);
}

/* ---- Abort ---- */

typedef struct aborter {
    round_t *round;
    onehop_comm_t *comm;
} aborter_t;

static void *abort_later(void *ctx) {
    aborter_t *aborter = ctx;
    rng_t rng = {mix64(aborter->round->seed)};
    while (atomic_load(&aborter->round->working) == 0) nap_us(50);
    nap_us((int64_t)rng_below(&rng, 10000));
    atomic_store(&aborter->round->struck_ns, now_ns());
    CHECK_SUCCESS(onehop_comm_abort(aborter->comm));
    return NULL;
}

/* One rank's second thread aborts. In every other round, that of `victim`, which has not come to work at all, so that
 * the others are surely blocked. */
static void until_aborted(int rank, int nranks, void *ctx) {
    round_t *round = ctx;
    bool absent = round->leave_early && rank == round->victim;
    resources_t before = resources_now();
    job_t job = job_begin(rank, nranks, round, NULL);
    aborter_t aborter = {round, job.comm};
    pthread_t thread;
    bool aborts = rank == (round->leave_early ? (round->victim + 1) % nranks : round->victim);
    if (round->leave_early) atomic_fetch_add(&round->working, 1);
    if (aborts) CHECK(pthread_create(&thread, NULL, abort_later, &aborter) == 0, "pthread_create failed");
    doing("wait for the abort");
    if (absent) CHECK(reaches(&round->failed, nranks - 1, patience_ms(10000)), "the others were not freed");
    onehop_result_t result = work_until_failure(&job, round);
    int64_t took_ms = ms_since_strike(round);
    CHECK(result == ONEHOP_ABORTED, "got %s: %s", onehop_result_string(result), onehop_last_error());
    if (!absent) CHECK(took_ms < patience_ms(1000), "freed after %lld ms", (long long)took_ms);
    atomic_fetch_add(&round->failed, 1);
    if (aborts) pthread_join(thread, NULL);
    check_broken(&job, ONEHOP_ABORTED);
    CHECK(reaches(&round->failed, nranks, patience_ms(10000)), "not all ranks failed");
    CHECK_SUCCESS(onehop_comm_destroy(job.comm));
    resources_check(before, "after ABORTED and destroy");
    recover(rank, nranks);
}

static void test_abort(void **state) {
    (void)state;
    rng_t rng = {tests_seed() + 4};
    round_t *round = shared_zalloc(sizeof *round);
    for (int i = 0; i < rounds(WORKS * 10, WORKS); i++) {
        int nranks = draw_nranks(&rng);
        round_draw(round, FAULT_ABORT, (work_t)(i % WORKS), nranks, &rng);
        team_run(nranks, until_aborted, round);
    }
    shared_free(round, sizeof *round);
}

static void test_nothing_left(void **state) {
    (void)state;
    leftovers_check();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kill),         cmocka_unit_test(test_kill_in_create), cmocka_unit_test(test_stop),
        cmocka_unit_test(test_short_delays), cmocka_unit_test(test_abort),          cmocka_unit_test(test_nothing_left),
    };
    tests_begin("faults");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
