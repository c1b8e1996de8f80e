/* SPDX-License-Identifier: Apache-2.0 */
/* Ranks as threads of one process, several communicators at once, and the wrong use of one by two threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pthread.h>

#include "message.h"

#include <cmocka.h>

enum { MIB = 1 << 20, LOCAL_MAX = 8 };

static void spawn(pthread_t *thread, void *(*start)(void *), void *arg) {
    CHECK(pthread_create(thread, NULL, start, arg) == 0, "pthread_create failed");
}

/* Checked all-reduces of many kinds, the same on all ranks. */
static void sweep(onehop_comm_t *comm, uint64_t seed, int steps, size_t max_bytes) {
    area_t send = area_new(max_bytes + 4096), recv = area_new(max_bytes + 4096);
    rng_t all = {seed}, mine = {mix64(seed + (uint64_t)onehop_comm_rank(comm))};
    for (int i = 0; i < steps; i++) {
        onehop_dtype_t dtype = (onehop_dtype_t)rng_below(&all, DTYPES);
        size_t count = rng_log_below(&all, max_bytes / onehop_dtype_size(dtype));
        message_t m = {count, dtype, (onehop_op_t)rng_below(&all, OPS), DATA_EXACT, rng_next(&all)};
        bool in_place = rng_below(&all, 2);
        unsigned char *from = in_place ? NULL : area_place(send, message_bytes(&m), &mine);
        all_reduce_checked(comm, &m, recv, from, area_place(recv, message_bytes(&m), &mine));
    }
    area_free(send);
    area_free(recv);
}

/* ---- Ranks as threads ---- */

static void *local_rank(void *arg) {
    onehop_comm_t *comm = arg;
    sweep(comm, tests_seed(), rounds(60, 15), MIB);
    void *memory;
    CHECK_SUCCESS(onehop_alloc(comm, MIB, &memory));
    CHECK_SUCCESS(onehop_register(comm, memory, MIB));
    for (size_t count = 1000; count <= 100000; count *= 10) {
        message_t m = {count, ONEHOP_FLOAT32, ONEHOP_SUM, DATA_EXACT, count};
        all_reduce_checked(comm, &m, (area_t){memory, MIB}, NULL, (unsigned char *)memory + GUARD);
    }
    CHECK_SUCCESS(onehop_deregister(comm, memory));
    return NULL;
}

static void local_ranks(int rank, int nranks, void *ctx) {
    (void)rank, (void)nranks;
    const int threads = *(const int *)ctx;
    resources_t before = resources_now();
    onehop_comm_t *comms[LOCAL_MAX];
    CHECK_SUCCESS(onehop_comm_create_local(threads, NULL, ONEHOP_DEVICE_HOST, comms));
    pthread_t ids[LOCAL_MAX];
    for (int r = 0; r < threads; r++) {
        CHECK(onehop_comm_rank(comms[r]) == r, "comms[%d] is rank %d", r, onehop_comm_rank(comms[r]));
        CHECK(onehop_comm_nranks(comms[r]) == threads, "of %d ranks", onehop_comm_nranks(comms[r]));
        spawn(&ids[r], local_rank, comms[r]);
    }
    for (int r = 0; r < threads; r++) pthread_join(ids[r], NULL);
    for (int r = 0; r < threads; r++) CHECK_SUCCESS(onehop_comm_destroy(comms[r]));
    resources_check(before, "after ranks as threads");
}

static void test_local_ranks(void **state) {
    (void)state;
    for (int threads = 1; threads <= LOCAL_MAX; threads++) team_run(1, local_ranks, &threads);
}

/* A rank that does not come to the operation, and leaves: its neighbours, threads of the same process, learn of it. */
static void *lonely_rank(void *arg) {
    float one = 1, all;
    CHECK_FAILS(ONEHOP_PEER_LOST, "rank 0", onehop_all_reduce(&one, &all, 1, ONEHOP_FLOAT32, ONEHOP_SUM, arg, NULL));
    return NULL;
}

static void local_rank_leaves(int rank, int nranks, void *ctx) {
    (void)rank, (void)nranks, (void)ctx;
    onehop_comm_t *comms[3];
    pthread_t ids[3];
    CHECK_SUCCESS(onehop_comm_create_local(3, NULL, ONEHOP_DEVICE_HOST, comms));
    for (int r = 1; r < 3; r++) spawn(&ids[r], lonely_rank, comms[r]);
    CHECK_SUCCESS(onehop_comm_destroy(comms[0]));
    for (int r = 1; r < 3; r++) pthread_join(ids[r], NULL);
    for (int r = 1; r < 3; r++) CHECK_SUCCESS(onehop_comm_destroy(comms[r]));
}

static void test_local_rank_leaves(void **state) {
    (void)state;
    for (int i = 0; i < rounds(20, 4); i++) team_run(1, local_rank_leaves, NULL);
}

static void local_arguments(int rank, int nranks, void *ctx) {
    (void)rank, (void)nranks, (void)ctx;
    onehop_comm_t *comms[ONEHOP_MAX_RANKS];
    static const int wrong[] = {0, -1, ONEHOP_MAX_RANKS + 1, 1 << 30};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        CHECK_FAILS(ONEHOP_INVALID_ARGUMENT, "nranks",
                    onehop_comm_create_local(wrong[i], NULL, ONEHOP_DEVICE_HOST, comms));
    CHECK_FAILS(ONEHOP_INVALID_ARGUMENT, "comms", onehop_comm_create_local(2, NULL, ONEHOP_DEVICE_HOST, NULL));
    CHECK_FAILS(ONEHOP_INVALID_ARGUMENT, "device", onehop_comm_create_local(2, NULL, (onehop_device_t)7, comms));
    CHECK_SUCCESS(onehop_comm_create_local(2, NULL, ONEHOP_DEVICE_HOST, comms));
    for (int r = 0; r < 2; r++) CHECK_SUCCESS(onehop_comm_destroy(comms[r]));
}

static void test_local_arguments(void **state) {
    (void)state;
    team_run(1, local_arguments, NULL);
}

/* ---- Two communicators at once, in every process ---- */

typedef struct user {
    onehop_comm_t *comm;
    uint64_t seed;
} user_t;

static void *use(void *arg) {
    user_t *user = arg;
    sweep(user->comm, user->seed, rounds(80, 15), MIB / 4);
    return NULL;
}

/* The second one numbers the ranks the other way round. */
static void two_communicators(int rank, int nranks, void *ctx) {
    (void)ctx;
    resources_t before = resources_now();
    user_t users[2];
    pthread_t ids[2];
    for (int i = 0; i < 2; i++) {
        int number = i ? nranks - 1 - rank : rank;
        users[i] = (user_t){team_join(number, nranks, i, NULL), tests_seed() + (uint64_t)i};
    }
    for (int i = 0; i < 2; i++) spawn(&ids[i], use, &users[i]);
    for (int i = 0; i < 2; i++) pthread_join(ids[i], NULL);
    /* And in turn, by one thread. */
    for (int i = 0; i < 50; i++)
        for (int u = 0; u < 2; u++) {
            int32_t one = 1, all = 0;
            CHECK_SUCCESS(onehop_all_reduce(&one, &all, 1, ONEHOP_INT32, ONEHOP_SUM, users[u].comm, NULL));
            CHECK(all == nranks, "sum is %d", all);
        }
    for (int i = 0; i < 2; i++) CHECK_SUCCESS(onehop_comm_destroy(users[i].comm));
    resources_check(before, "after two communicators");
}

static void test_two_communicators(void **state) {
    (void)state;
    team_run(1, two_communicators, NULL);
    team_run(2, two_communicators, NULL);
    team_run(4, two_communicators, NULL);
}

/* One breaks; the other goes on. */
static void one_of_two_breaks(int rank, int nranks, void *ctx) {
    (void)ctx;
    onehop_comm_t *broken = team_join(rank, nranks, 0, NULL), *whole = team_join(rank, nranks, 1, NULL);
    int32_t one = 1, all = 0;
    if (rank == 0) CHECK_SUCCESS(onehop_comm_abort(broken));
    onehop_result_t result = ONEHOP_SUCCESS;
    while (result == ONEHOP_SUCCESS) result = onehop_all_reduce(&one, &all, 1, ONEHOP_INT32, ONEHOP_SUM, broken, NULL);
    CHECK_RESULT(ONEHOP_ABORTED, result);
    CHECK_SUCCESS(onehop_comm_abort(broken)); /* which changes nothing any more */
    CHECK_RESULT(ONEHOP_ABORTED, onehop_register(broken, &all, sizeof all));
    sweep(whole, tests_seed(), 10, 4096);
    CHECK_SUCCESS(onehop_comm_destroy(broken));
    sweep(whole, tests_seed(), 10, 4096);
    CHECK_SUCCESS(onehop_comm_destroy(whole));
}

static void test_one_of_two_breaks(void **state) {
    (void)state;
    team_run(3, one_of_two_breaks, NULL);
}

/* ---- Two threads in one communicator ---- */

/* The two may meet before this one is inside. */
static void *block_inside(void *arg) {
    float one = 1, all;
    onehop_result_t result;
    do result = onehop_all_reduce(&one, &all, 1, ONEHOP_FLOAT32, ONEHOP_SUM, arg, NULL);
    while (result == ONEHOP_INVALID_ARGUMENT);
    CHECK_SUCCESS(result);
    return NULL;
}

/* Rank 0's first thread waits for rank 1, which does not come until the second has tried every call. */
static void second_thread(int rank, int nranks, void *ctx) {
    atomic_int *tried = ctx;
    onehop_comm_t *comm = team_join(rank, nranks, 0, NULL);
    float one = 1, all = 0;
    if (rank != 0) {
        CHECK(reaches(tried, 1, patience_ms(10000)), "rank 0 does not get ready");
        CHECK_SUCCESS(onehop_all_reduce(&one, &all, 1, ONEHOP_FLOAT32, ONEHOP_SUM, comm, NULL));
        team_barrier();
        CHECK_SUCCESS(onehop_comm_destroy(comm));
        return;
    }
    pthread_t thread;
    void *memory;
    spawn(&thread, block_inside, comm);
    while (onehop_graph_register(comm) == ONEHOP_SUCCESS) nap_us(10);
    CHECK_FAILS(ONEHOP_INVALID_ARGUMENT, "thread",
                onehop_all_reduce(&one, &all, 1, ONEHOP_FLOAT32, ONEHOP_SUM, comm, NULL));
    CHECK_FAILS(ONEHOP_INVALID_ARGUMENT, "thread", onehop_alloc(comm, 4096, &memory));
    CHECK_FAILS(ONEHOP_INVALID_ARGUMENT, "thread", onehop_register(comm, &all, sizeof all));
    CHECK_FAILS(ONEHOP_INVALID_ARGUMENT, "thread", onehop_deregister(comm, &all));
    CHECK_FAILS(ONEHOP_INVALID_ARGUMENT, "thread", onehop_comm_destroy(comm));
    onehop_result_t error = ONEHOP_ABORTED;
    CHECK_SUCCESS(onehop_comm_get_async_error(comm, &error));
    CHECK(error == ONEHOP_SUCCESS, "the communicator broke: %s", onehop_result_string(error));
    atomic_store(tried, 1);
    pthread_join(thread, NULL);
    team_barrier();
    CHECK_SUCCESS(onehop_comm_destroy(comm));
}

static void test_second_thread(void **state) {
    (void)state;
    atomic_int *tried = shared_zalloc(sizeof *tried);
    team_run(2, second_thread, tried);
    shared_free(tried, sizeof *tried);
}

/* The last error belongs to the thread that failed. */
static void *fail_otherwise(void *arg) {
    (void)arg;
    CHECK(onehop_last_error()[0] == 0, "a new thread has the error \"%s\"", onehop_last_error());
    CHECK_FAILS(ONEHOP_INVALID_ARGUMENT, "error", onehop_comm_get_async_error(NULL, NULL));
    return NULL;
}

static void test_last_error_per_thread(void **state) {
    (void)state;
    pthread_t thread;
    CHECK_FAILS(ONEHOP_INVALID_ARGUMENT, "comm", onehop_comm_abort(NULL));
    char mine[512];
    snprintf(mine, sizeof mine, "%s", onehop_last_error());
    spawn(&thread, fail_otherwise, NULL);
    pthread_join(thread, NULL);
    CHECK(strcmp(mine, onehop_last_error()) == 0, "another thread changed the last error");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_local_ranks),           cmocka_unit_test(test_local_rank_leaves),
        cmocka_unit_test(test_local_arguments),       cmocka_unit_test(test_two_communicators),
        cmocka_unit_test(test_one_of_two_breaks),     cmocka_unit_test(test_second_thread),
        cmocka_unit_test(test_last_error_per_thread),
    };
    tests_begin("threads");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
