/* SPDX-License-Identifier: Apache-2.0 */
/* Communicators come and go: nothing leaks, in whatever order ranks leave, and whether or not they say goodbye. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "message.h"

#include <cmocka.h>

static onehop_result_t sum_one(onehop_comm_t *comm) {
    int32_t one = 1, all = 0;
    doing("sum of ones");
    onehop_result_t result = onehop_all_reduce(&one, &all, 1, ONEHOP_INT32, ONEHOP_SUM, comm, NULL);
    CHECK(result != ONEHOP_SUCCESS || all == onehop_comm_nranks(comm), "sum is %d", all);
    return result;
}

/* ---- Over and over ---- */

static void come_and_go(int rank, int nranks, void *ctx) {
    const int times = *(const int *)ctx;
    rng_t mine = {mix64(tests_seed() + (uint64_t)rank)};
    resources_t before = resources_now();
    for (int i = 0; i < times; i++) {
        onehop_comm_t *comm = team_join(rank, nranks, i, NULL);
        /* A third of them are never used. */
        for (int ops = i % 3 ? i % 7 : 0; ops > 0; ops--) CHECK_SUCCESS(sum_one(comm));
        /* Ranks leave in ever another order, some long before the others have created the next. */
        if (rng_below(&mine, 4) == 0) nap_us((int64_t)rng_below(&mine, 2000));
        CHECK_SUCCESS(onehop_comm_destroy(comm));
        resources_check(before, "after destroy");
    }
}

static void test_come_and_go(void **state) {
    (void)state;
    for (int nranks = 1; nranks <= 4; nranks++) {
        int times = rounds(200, 30);
        team_run(nranks, come_and_go, &times);
    }
    int times = rounds(30, 5);
    team_run(8, come_and_go, &times);
}

/* The same name serves one communicator after the other. */
static void same_name(int rank, int nranks, void *ctx) {
    (void)ctx;
    for (int i = 0; i < rounds(50, 10); i++) {
        onehop_comm_t *comm = team_join(rank, nranks, 0, NULL);
        CHECK_SUCCESS(sum_one(comm));
        CHECK_SUCCESS(onehop_comm_destroy(comm));
    }
}

static void test_same_name(void **state) {
    (void)state;
    team_run(2, same_name, NULL);
    team_run(4, same_name, NULL);
}

/* Several live at once, and are destroyed in another order than they were made. */
static void many_at_once(int rank, int nranks, void *ctx) {
    (void)ctx;
    enum { COMMS = 12 };
    resources_t before = resources_now();
    onehop_comm_t *comms[COMMS];
    for (int i = 0; i < COMMS; i++) comms[i] = team_join(rank, nranks, i, NULL);
    for (int round = 0; round < 5; round++)
        for (int i = 0; i < COMMS; i++) CHECK_SUCCESS(sum_one(comms[(i * 5 + round) % COMMS]));
    team_barrier();
    for (int i = 0; i < COMMS; i++) CHECK_SUCCESS(onehop_comm_destroy(comms[(i * 7 + rank) % COMMS]));
    resources_check(before, "after destroying many");
}

static void test_many_at_once(void **state) {
    (void)state;
    team_run(2, many_at_once, NULL);
    team_run(4, many_at_once, NULL);
}

/* ---- One goes early ---- */

/* The last operation is complete on a rank that leaves at once; the others still find its data. */
static void leave_after_last(int rank, int nranks, void *ctx) {
    (void)ctx;
    enum { BYTES = 4 << 20 };
    rng_t all = {tests_seed()}, mine = {mix64(tests_seed() + (uint64_t)rank)};
    area_t area = area_new(BYTES);
    for (int i = 0; i < rounds(60, 15); i++) {
        onehop_comm_t *comm = team_join(rank, nranks, i, NULL);
        message_t m = {rng_log_below(&all, BYTES / 4), ONEHOP_FLOAT32, ONEHOP_SUM, DATA_EXACT, rng_next(&all)};
        if (rng_below(&mine, 3) == 0) nap_us((int64_t)rng_below(&mine, 3000));
        all_reduce_checked(comm, &m, area, NULL, area.start + GUARD);
        CHECK_SUCCESS(onehop_comm_destroy(comm));
    }
    area_free(area);
}

static void test_leave_after_last(void **state) {
    (void)state;
    team_run(2, leave_after_last, NULL);
    team_run(5, leave_after_last, NULL);
}

typedef enum departure { BY_DESTROY, BY_EXIT, BY_RETURN, DEPARTURES } departure_t;

/* What is never destroyed, lest a leak checker take it for lost. */
static onehop_comm_t *kept;

/* Rank 0 goes while the others want more of it. */
static void go_early(int rank, int nranks, void *ctx) {
    const departure_t *departure = ctx;
    resources_t before = resources_now();
    onehop_comm_t *comm = team_join(rank, nranks, 0, NULL);
    for (int i = 0; i < 10; i++) CHECK_SUCCESS(sum_one(comm));
    if (rank == 0) {
        kept = *departure == BY_DESTROY ? NULL : comm;
        if (*departure == BY_EXIT) _exit(0);
        if (*departure == BY_DESTROY) CHECK_SUCCESS(onehop_comm_destroy(comm));
        if (*departure == BY_DESTROY) resources_check(before, "after an early destroy");
        return;
    }
    int64_t begin = now_ns();
    CHECK_RESULT(ONEHOP_PEER_LOST, sum_one(comm));
    CHECK(says_number(onehop_last_error(), "rank", 0), "rank 0 is not in: %s", onehop_last_error());
    CHECK(now_ns() - begin < patience_ms(1000) * 1000000, "learned of it too late");
    CHECK_RESULT(ONEHOP_PEER_LOST, sum_one(comm));
    CHECK_SUCCESS(onehop_comm_destroy(comm));
    resources_check(before, "after PEER_LOST and destroy");
}

static void test_go_early(void **state) {
    (void)state;
    for (int i = 0; i < rounds(10, 2); i++)
        for (departure_t departure = 0; departure < DEPARTURES; departure++)
            for (int nranks = 2; nranks <= 4; nranks++) team_run(nranks, go_early, &departure);
}

/* ---- Nobody else comes ---- */

static void alone(int rank, int nranks, void *ctx) {
    (void)ctx;
    resources_t before = resources_now();
    for (int number = 0; number < 3; number++) {
        char name[96];
        team_rendezvous(number, name, sizeof name);
        onehop_config_t config = team_config(number, nranks + 2, name);
        config.bootstrap_timeout_ms = 200;
        onehop_comm_t *comm = (onehop_comm_t *)&config; /* anything but NULL, which create is to store */
        int64_t begin = now_ns();
        doing("create as rank %d of 3, alone", number);
        CHECK_RESULT(ONEHOP_TIMEOUT, onehop_comm_create(&config, &comm));
        int64_t took_ms = (now_ns() - begin) / 1000000;
        CHECK(comm == NULL, "a failed create left a pointer behind");
        CHECK(strstr(onehop_last_error(), "rank"), "no rank in: %s", onehop_last_error());
        CHECK(took_ms >= 190 && took_ms < patience_ms(1200), "took %lld ms", (long long)took_ms);
        resources_check(before, "after a failed create");
    }
    (void)rank;
}

static void test_alone(void **state) {
    (void)state;
    team_run(1, alone, NULL);
}

static void test_nothing_left(void **state) {
    (void)state;
    leftovers_check();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_come_and_go),      cmocka_unit_test(test_same_name), cmocka_unit_test(test_many_at_once),
        cmocka_unit_test(test_leave_after_last), cmocka_unit_test(test_go_early),  cmocka_unit_test(test_alone),
        cmocka_unit_test(test_nothing_left),
    };
    tests_begin("lifetime");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
