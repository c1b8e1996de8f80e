/* SPDX-License-Identifier: Apache-2.0 */
/* Ranks that are threads of one process: the same exchanges and failures as between processes. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "meeting.h"

#include <cmocka.h>

enum { MANY = 4096 };

typedef struct crew crew_t;
typedef void (*duty_fn)(crew_t *crew, oh_bootstrap_t *b, int rank);

/* The threads of a test, one per rank. */
struct crew {
    meeting_t *m;
    int nranks;
    oh_local_group_t *group;
    duty_fn duty; /* which closes the bootstrap */
    pthread_barrier_t barrier;
    struct sailor {
        crew_t *crew;
        int rank;
        pthread_t thread;
    } sailors[ONEHOP_MAX_RANKS];
};

static void *sail(void *argument) {
    struct sailor *sailor = argument;
    crew_t *crew = sailor->crew;
    oh_config_t config = meeting_config(crew->m, sailor->rank, crew->nranks);
    oh_bootstrap_t *b;
    CHECK_SUCCESS(oh_bootstrap_open_local(&config, crew->group, &b));
    CHECK(oh_bootstrap_same_process(b), "we are one process");
    CHECK(oh_bootstrap_rank(b) == sailor->rank && oh_bootstrap_nranks(b) == crew->nranks, "another rank");
    for (int r = 0; r < crew->nranks; r++) {
        CHECK(oh_bootstrap_card(b, r)->rank == r && oh_bootstrap_pid(b, r) == getpid(), "rank %d is another", r);
    }
    atomic_fetch_add(&crew->m->signal[3], 1);
    crew->duty(crew, b, sailor->rank);
    return NULL;
}

/* Runs the duty on every rank; in a process of its own, where a failing check can end it. */
static void run_crew(int rank, int nranks, void *ctx) {
    crew_t *crew = ctx;
    (void)rank, (void)nranks;
    resources_t before = resources_now();
    pthread_barrier_init(&crew->barrier, NULL, (unsigned)crew->nranks);
    CHECK_SUCCESS(oh_local_group_create(crew->nranks, &crew->group));
    for (int r = 0; r < crew->nranks; r++) {
        crew->sailors[r] = (struct sailor){.crew = crew, .rank = r};
        CHECK(pthread_create(&crew->sailors[r].thread, NULL, sail, &crew->sailors[r]) == 0, "no thread");
    }
    CHECK(reaches(&crew->m->signal[3], crew->nranks, patience_ms(10000)), "they do not meet");
    oh_local_group_release(crew->group); /* the ranks keep it */
    for (int r = 0; r < crew->nranks; r++) pthread_join(crew->sailors[r].thread, NULL);
    pthread_barrier_destroy(&crew->barrier);
    resources_check(before, "a crew");
}

static meeting_t *crew_run(int nranks, duty_fn duty) {
    crew_t *crew = calloc(1, sizeof *crew);
    CHECK(crew != NULL, "out of memory");
    meeting_t *m = crew->m = meeting_new(AT_NAME);
    crew->nranks = nranks;
    crew->duty = duty;
    team_run(1, run_crew, crew);
    free(crew);
    return m;
}

static oh_patience_t patience_for(int64_t ms) { return (oh_patience_t){.timeout_ms = (int)ms}; }

/* ---- exchanges that go well ---- */

static int labelled_memory(int rank) {
    int fd = memfd_create("test", MFD_CLOEXEC);
    CHECK(fd >= 0 && write(fd, &rank, sizeof rank) == (ssize_t)sizeof rank, "memfd: %s", strerror(errno));
    return fd;
}

static void gather(oh_bootstrap_t *b, size_t bytes, unsigned salt) {
    int rank = oh_bootstrap_rank(b), nranks = oh_bootstrap_nranks(b);
    unsigned char mine[MANY], *all = malloc((size_t)nranks * bytes + 1);
    oh_patience_t patience = patience_for(patience_ms(20000));
    for (size_t i = 0; i < bytes; i++) mine[i] = (unsigned char)(i * 31 + (unsigned)rank + salt);
    all[(size_t)nranks * bytes] = 99;
    CHECK_SUCCESS(oh_bootstrap_allgather(b, "gather", mine, all, bytes, &patience));
    CHECK(all[(size_t)nranks * bytes] == 99, "wrote beyond the end");
    for (size_t i = 0; i < (size_t)nranks * bytes; i++) {
        unsigned char expected = (unsigned char)(i % bytes * 31 + (unsigned)(i / bytes) + salt);
        CHECK(all[i] == expected, "byte %zu is wrong", i);
    }
    free(all);
}

static void exchange(oh_bootstrap_t *b, unsigned givers) {
    int rank = oh_bootstrap_rank(b), nranks = oh_bootstrap_nranks(b), fds[ONEHOP_MAX_RANKS];
    int fd = givers >> rank % 8 & 1 ? labelled_memory(rank) : -1;
    oh_patience_t patience = patience_for(patience_ms(20000));
    CHECK_SUCCESS(oh_bootstrap_exchange_fd(b, "descriptors", fd, fds, &patience));
    if (fd >= 0) close(fd); /* the others have their own */
    for (int r = 0; r < nranks; r++) {
        bool expected = r != rank && (givers >> r % 8 & 1) != 0;
        CHECK((fds[r] >= 0) == expected, "descriptor %d from rank %d", fds[r], r);
        if (!expected) continue;
        int label = -1;
        CHECK(pread(fds[r], &label, sizeof label, 0) == (ssize_t)sizeof label && label == r, "label %d", label);
        close(fds[r]);
    }
}

static void talk(crew_t *crew, oh_bootstrap_t *b, int rank) {
    (void)crew, (void)rank;
    for (unsigned i = 0; i < 20; i++) {
        gather(b, i == 0 ? MANY : i * i, i);
        exchange(b, i * 0x5b);
    }
    bool gone[ONEHOP_MAX_RANKS];
    CHECK(oh_bootstrap_gone(b, gone) == 0, "someone is gone");
    oh_bootstrap_close(b);
}

static void test_talk(void **state) {
    (void)state;
    for (int nranks = 1; nranks <= 8; nranks++) meeting_free(crew_run(nranks, talk));
    meeting_free(crew_run(rounds(64, 16), talk));
}

/* ---- exchanges that go wrong ---- */

static onehop_result_t try_gather(crew_t *crew, oh_bootstrap_t *b, const char *what, const oh_patience_t *patience) {
    unsigned char mine[8] = {0}, all[8 * ONEHOP_MAX_RANKS];
    int64_t begin = now_ns();
    onehop_result_t code = oh_bootstrap_allgather(b, what, mine, all, sizeof mine, patience);
    meeting_record(crew->m, oh_bootstrap_rank(b), begin, code);
    return code;
}

static void differ(crew_t *crew, oh_bootstrap_t *b, int rank) {
    oh_patience_t patience = patience_for(patience_ms(20000));
    try_gather(crew, b, rank == 1 ? "deregister" : "register", &patience);
    oh_bootstrap_close(b);
}

static void test_mismatch(void **state) {
    (void)state;
    meeting_t *m = crew_run(3, differ);
    for (int r = 0; r < 3; r++) {
        meeting_expect(m, r, ONEHOP_MISMATCH,
                       "ranks disagree on what they exchange: rank 0 is in \"register\" (8 bytes each), rank 1 in "
                       "\"deregister\" (8 bytes each)");
    }
    meeting_free(m);
}

static void come_late(crew_t *crew, oh_bootstrap_t *b, int rank) {
    oh_patience_t patience = patience_for(rank == 0 ? 300 : patience_ms(20000));
    if (rank == 2) CHECK(reaches(&crew->m->signal[0], 2, patience_ms(10000)), "they still wait");
    try_gather(crew, b, "register", &patience);
    atomic_fetch_add(&crew->m->signal[0], 1);
    pthread_barrier_wait(&crew->barrier);
    oh_bootstrap_close(b);
}

static void test_late(void **state) {
    (void)state;
    meeting_t *m = crew_run(3, come_late);
    for (int r = 0; r < 3; r++) {
        meeting_expect(m, r, ONEHOP_TIMEOUT, "rank 2 of 3 did not come to \"register\" within 300 ms");
    }
    int64_t ms = (m->outcomes[0].end - m->outcomes[0].begin) / 1000000;
    CHECK(ms >= 300 && ms < patience_ms(600), "waited %lld ms", (long long)ms);
    meeting_free(m);
}

static void leave_early(crew_t *crew, oh_bootstrap_t *b, int rank) {
    oh_patience_t patience = patience_for(patience_ms(20000));
    if (rank != 2) try_gather(crew, b, "register", &patience);
    oh_bootstrap_close(b);
}

static void test_leave_early(void **state) {
    (void)state;
    meeting_t *m = crew_run(3, leave_early);
    for (int r = 0; r < 2; r++) {
        meeting_expect_words(m, r, ONEHOP_PEER_LOST, "rank 2 (a thread of pid ");
        meeting_expect_words(m, r, ONEHOP_PEER_LOST, ") has left; \"register\" waited for it");
    }
    meeting_free(m);
}

/* Who has had its say may leave before the others have heard it. */
static void leave_at_once(crew_t *crew, oh_bootstrap_t *b, int rank) {
    (void)crew;
    for (int i = 0; i < rank; i++) sched_yield();
    gather(b, 100, 5);
    oh_bootstrap_close(b);
}

static void test_leave_at_once(void **state) {
    (void)state;
    for (int i = 0; i < rounds(50, 10); i++) meeting_free(crew_run(5, leave_at_once));
}

static onehop_result_t call_off(void *ctx) {
    return atomic_fetch_add((_Atomic int *)ctx, 1) < 5 ? ONEHOP_SUCCESS : ONEHOP_ABORTED;
}

static void be_called_off(crew_t *crew, oh_bootstrap_t *b, int rank) {
    oh_patience_t patience = patience_for(patience_ms(20000));
    if (rank == 0) {
        patience.interrupt = call_off;
        patience.ctx = &crew->m->signal[0];
    }
    if (rank < 2) CHECK(try_gather(crew, b, "register", &patience) == ONEHOP_ABORTED, "%s", onehop_last_error());
    pthread_barrier_wait(&crew->barrier);
    oh_bootstrap_close(b);
}

static void test_interrupt(void **state) {
    (void)state;
    meeting_t *m = crew_run(3, be_called_off);
    int64_t ms = (m->outcomes[0].end - m->outcomes[0].begin) / 1000000;
    CHECK(ms < patience_ms(500), "called off after %lld ms", (long long)ms);
    meeting_free(m);
}

static void give_nonsense(crew_t *crew, oh_bootstrap_t *b, int rank) {
    int fds[ONEHOP_MAX_RANKS];
    oh_patience_t patience = patience_for(patience_ms(20000));
    int64_t begin = now_ns();
    int fd = rank == 1 ? 1000000 : labelled_memory(rank);
    meeting_record(crew->m, rank, begin, oh_bootstrap_exchange_fd(b, "workspace", fd, fds, &patience));
    for (int r = 0; r < crew->nranks; r++) CHECK(fds[r] == -1, "descriptor %d is left", fds[r]);
    if (rank != 1) close(fd);
    oh_bootstrap_close(b);
}

/* A descriptor that cannot be duplicated fails on all ranks, and leaves none open. */
static void test_bad_descriptor(void **state) {
    (void)state;
    meeting_t *m = crew_run(4, give_nonsense);
    for (int r = 0; r < 4; r++) {
        meeting_expect_words(m, r, ONEHOP_SYSTEM_ERROR,
                             "cannot duplicate the descriptor of rank 1: Bad file descriptor");
    }
    meeting_free(m);
}

/* ---- children ---- */

/* Rank 0 forks while others hold the lock or sleep; the child closes what it has a copy of, and the ranks go on. */
static void fork_and_close(crew_t *crew, oh_bootstrap_t *b, int rank) {
    (void)crew;
    for (int i = 0; i < rounds(20, 5); i++) {
        if (rank == 0) {
            pid_t child = fork();
            CHECK(child >= 0, "fork: %s", strerror(errno));
            if (child == 0) {
                oh_bootstrap_close(b);
                _exit(0);
            }
            int status;
            CHECK(waitpid(child, &status, 0) == child && status == 0, "the child ended with %d", status);
        }
        gather(b, 8, (unsigned)i);
    }
    oh_bootstrap_close(b);
}

static void test_child(void **state) {
    (void)state;
    meeting_free(crew_run(4, fork_and_close));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_talk),           cmocka_unit_test(test_mismatch),      cmocka_unit_test(test_late),
        cmocka_unit_test(test_leave_early),    cmocka_unit_test(test_leave_at_once), cmocka_unit_test(test_interrupt),
        cmocka_unit_test(test_bad_descriptor), cmocka_unit_test(test_child),
    };
    tests_begin("bootstrap_local");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
