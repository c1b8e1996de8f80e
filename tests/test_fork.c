/* SPDX-License-Identifier: Apache-2.0 */
/* A communicator belongs to the process that made it: what fork()'s child may do, and that nobody suffers from it. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "message.h"

#include <cmocka.h>

static void sum_one(onehop_comm_t *comm) {
    int32_t one = 1, all = 0;
    doing("sum of ones");
    CHECK_SUCCESS(onehop_all_reduce(&one, &all, 1, ONEHOP_INT32, ONEHOP_SUM, comm, NULL));
    CHECK(all == onehop_comm_nranks(comm), "sum is %d", all);
}

/* Every call in the child of a fork, by a process that is not a rank any more. */
static void try_all_calls(onehop_comm_t *comm, void *memory) {
    int32_t one = 1, all = 77;
    void *more;
    onehop_result_t error;
    CHECK_FAILS(ONEHOP_INVALID_ARGUMENT, "fork",
                onehop_all_reduce(&one, &all, 1, ONEHOP_INT32, ONEHOP_SUM, comm, NULL));
    CHECK(all == 77, "recvbuf was written");
    CHECK_FAILS(ONEHOP_INVALID_ARGUMENT, "fork", onehop_alloc(comm, 4096, &more));
    CHECK_FAILS(ONEHOP_INVALID_ARGUMENT, "fork", onehop_register(comm, memory, 4096));
    CHECK_FAILS(ONEHOP_INVALID_ARGUMENT, "fork", onehop_deregister(comm, memory));
    CHECK_FAILS(ONEHOP_INVALID_ARGUMENT, "fork", onehop_free(comm, memory));
    CHECK_FAILS(ONEHOP_INVALID_ARGUMENT, "fork", onehop_graph_register(comm));
    CHECK_FAILS(ONEHOP_INVALID_ARGUMENT, "fork", onehop_comm_abort(comm));
    CHECK_FAILS(ONEHOP_INVALID_ARGUMENT, "fork", onehop_comm_get_async_error(comm, &error));
}

static void parent_goes_on(int rank, int nranks, void *ctx) {
    (void)ctx;
    resources_t before = resources_now();
    onehop_comm_t *comm = team_join(rank, nranks, 0, NULL);
    void *memory;
    CHECK_SUCCESS(onehop_alloc(comm, 4096, &memory));
    CHECK_SUCCESS(onehop_register(comm, memory, 4096));
    for (int i = 0; i < rounds(20, 5); i++) {
        bool destroys = (i + rank) % 2;
        sum_one(comm);
        pid_t child = fork();
        CHECK(child >= 0, "fork: %s", strerror(errno));
        if (child == 0) {
            try_all_calls(comm, memory);
            if (destroys) {
                CHECK_SUCCESS(onehop_comm_destroy(comm));
                resources_check(before, "after destroy in the child");
            }
            _exit(0);
        }
        sum_one(comm);
        int status;
        doing("wait for child %d", i);
        CHECK(waitpid(child, &status, 0) == child && status == 0, "the child ended with status 0x%x", status);
        sum_one(comm);
    }
    message_t m = {500, ONEHOP_FLOAT32, ONEHOP_SUM, DATA_EXACT, tests_seed()};
    all_reduce_checked(comm, &m, (area_t){memory, 4096}, NULL, (unsigned char *)memory + GUARD);
    CHECK_SUCCESS(onehop_deregister(comm, memory));
    CHECK_SUCCESS(onehop_comm_destroy(comm));
    resources_check(before, "after forks and destroy");
}

static void test_parent_goes_on(void **state) {
    (void)state;
    for (int nranks = 1; nranks <= 3; nranks++) team_run(nranks, parent_goes_on, NULL);
}

/* The child of a rank makes a communicator of its own, with the children of the others. */
static void children_meet(int rank, int nranks, void *ctx) {
    (void)ctx;
    onehop_comm_t *comm = team_join(rank, nranks, 0, NULL);
    pid_t child = fork();
    CHECK(child >= 0, "fork: %s", strerror(errno));
    if (child == 0) {
        onehop_comm_t *own = team_join(rank, nranks, 1, NULL);
        for (int i = 0; i < 100; i++) sum_one(own);
        CHECK_SUCCESS(onehop_comm_destroy(own));
        _exit(0);
    }
    for (int i = 0; i < 100; i++) sum_one(comm);
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0, "the child ended with status 0x%x", status);
    CHECK_SUCCESS(onehop_comm_destroy(comm));
}

static void test_children_meet(void **state) {
    (void)state;
    team_run(3, children_meet, NULL);
}

/* ---- A rank is killed while its child, which holds copies of all its descriptors, lives on ---- */

typedef struct orphan {
    int pipe[2]; /* nobody writes: the child lives until the last rank has ended */
    atomic_int child, working;
    atomic_llong struck_ns;
} orphan_t;

static void leave_child(orphan_t *orphan) {
    pid_t child = fork();
    CHECK(child >= 0, "fork: %s", strerror(errno));
    if (child == 0) {
        char byte;
        close(orphan->pipe[1]);
        while (read(orphan->pipe[0], &byte, 1) < 0 && errno == EINTR) continue;
        _exit(0);
    }
    atomic_store(&orphan->child, child);
}

static void lose_a_parent(int rank, int nranks, void *ctx) {
    orphan_t *orphan = ctx;
    onehop_comm_t *comm = team_join(rank, nranks, 0, NULL);
    sum_one(comm);
    if (rank == 0) leave_child(orphan);
    atomic_fetch_add(&orphan->working, 1);
    int32_t one = 1, all;
    onehop_result_t result = ONEHOP_SUCCESS;
    doing("sum until the parent is killed");
    while (result == ONEHOP_SUCCESS) result = onehop_all_reduce(&one, &all, 1, ONEHOP_INT32, ONEHOP_SUM, comm, NULL);
    int64_t took_ms = (now_ns() - atomic_load(&orphan->struck_ns)) / 1000000;
    CHECK(result == ONEHOP_PEER_LOST, "got %s: %s", onehop_result_string(result), onehop_last_error());
    CHECK(took_ms < patience_ms(1000), "learned of it after %lld ms", (long long)took_ms);
    CHECK(kill(atomic_load(&orphan->child), 0) == 0, "the child did not outlive its parent");
    CHECK_SUCCESS(onehop_comm_destroy(comm));
}

static void test_killed_parent(void **state) {
    (void)state;
    rng_t rng = {tests_seed()};
    orphan_t *orphan = shared_zalloc(sizeof *orphan);
    for (int i = 0; i < rounds(20, 4); i++) {
        memset(orphan, 0, sizeof *orphan);
        CHECK(pipe(orphan->pipe) == 0, "pipe: %s", strerror(errno));
        int nranks = 2 + i % 3;
        team_t *team = team_start(nranks, lose_a_parent, orphan);
        CHECK(reaches(&orphan->working, nranks, patience_ms(20000)), "%d ranks work", atomic_load(&orphan->working));
        close(orphan->pipe[0]);
        close(orphan->pipe[1]);
        nap_us((int64_t)rng_below(&rng, 5000));
        atomic_store(&orphan->struck_ns, now_ns());
        team_signal(team, 0, SIGKILL);
        team_finish(team, 0);
    }
    shared_free(orphan, sizeof *orphan);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parent_goes_on),
        cmocka_unit_test(test_children_meet),
        cmocka_unit_test(test_killed_parent),
    };
    tests_begin("fork");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
