/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A long random mix of everything, verified to the bit, with ranks that run ahead of one another.
 *
 * What it is after: a piece of shared memory that is reused before its last reader has left it. So operations come in
 * bursts, back to back, each with data of its own, and are verified only after the burst; and a timer interrupts every
 * rank at moments that nobody chose, also in the middle of reading, and holds it there for a while, in which the others
 * run as far ahead as the library lets them.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

#include "message.h"

#include <cmocka.h>

enum { MIB = 1 << 20, BURST = 24, BURSTS_MIN = 10, REGION = 6 * MIB };

typedef struct mix {
    const char *algorithm;
    size_t workspace_bytes;
    int milliseconds;
} mix_t;

/* ---- Interruptions ---- */

/* Only touched by the handler of this process. */
static rng_t hold_rng;

static void hold(int signal) {
    (void)signal;
    int saved = errno;
    struct timespec pause = {0, (long)rng_log_below(&hold_rng, 400000)};
    nanosleep(&pause, NULL);
    errno = saved;
}

/* No SA_RESTART: waits inside the library must bear to be interrupted. */
static void interrupt_at_random(uint64_t seed) {
    hold_rng.state = seed;
    struct sigaction action = {.sa_handler = hold};
    CHECK(sigaction(SIGALRM, &action, NULL) == 0, "sigaction: %s", strerror(errno));
    suseconds_t period = 700 + (suseconds_t)(seed % 900);
    struct itimerval timer = {{0, period}, {0, period}};
    CHECK(setitimer(ITIMER_REAL, &timer, NULL) == 0, "setitimer: %s", strerror(errno));
}

static void interrupt_no_more(void) {
    struct itimerval never = {{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &never, NULL);
}

/* ---- Bursts ---- */

typedef struct place {
    message_t message;
    unsigned char *send, *recv; /* equal in place */
} place_t;

/* Messages of one burst lie one behind the other in two regions; mostly small ones, that many fit. */
static int draw_burst(place_t *places, area_t send, area_t recv, rng_t *all, rng_t *mine) {
    size_t largest = (size_t)1 << (4 + rng_below(all, 19)), used = 0;
    int n = 0;
    bool one_kind = rng_below(all, 2);
    message_t m = {0, (onehop_dtype_t)rng_below(all, DTYPES), (onehop_op_t)rng_below(all, OPS), DATA_EXACT, 0};
    for (int wanted = 1 + (int)rng_below(all, BURST); n < wanted; n++) {
        if (!one_kind) {
            m.dtype = (onehop_dtype_t)rng_below(all, DTYPES);
            m.op = (onehop_op_t)rng_below(all, OPS);
        }
        size_t size = onehop_dtype_size(m.dtype);
        if (!one_kind || n == 0) m.count = rng_log_below(all, largest / size + 2);
        m.seed = rng_next(all);
        bool in_place = rng_below(mine, 2);
        size_t skip = rng_below(mine, 65), bytes = m.count * size;
        if (used + bytes + 64 > REGION) break;
        places[n] = (place_t){m, (in_place ? recv : send).start + used + skip, recv.start + used + skip};
        used += bytes + 64;
    }
    return n;
}

static void run_burst(onehop_comm_t *comm, place_t *places, int n, rng_t *mine) {
    int rank = onehop_comm_rank(comm), nranks = onehop_comm_nranks(comm);
    for (int i = 0; i < n; i++) message_fill(&places[i].message, rank, places[i].send, nranks);
    for (int i = 0; i < n; i++) {
        const message_t *m = &places[i].message;
        if (rng_below(mine, 40) == 0) nap_us((int64_t)rng_log_below(mine, 1000));
        doing("operation %d of a burst: %zu %s, %s", i, m->count, onehop_dtype_string(m->dtype),
              onehop_op_string(m->op));
        CHECK_SUCCESS(onehop_all_reduce(places[i].send, places[i].recv, m->count, m->dtype, m->op, comm, NULL));
    }
    for (int i = 0; i < n; i++) {
        message_check(&places[i].message, places[i].recv, nranks);
        if (places[i].send != places[i].recv) message_check_sent(&places[i].message, rank, places[i].send, nranks);
    }
}

static area_t shared_area(onehop_comm_t *comm) {
    void *memory;
    CHECK_SUCCESS(onehop_alloc(comm, REGION + 4096, &memory));
    CHECK_SUCCESS(onehop_register(comm, memory, REGION + 4096));
    return (area_t){memory, REGION + 4096};
}

static void mix(int rank, int nranks, void *ctx) {
    mix_t *run = ctx;
    uint64_t seed = tests_seed() + (uint64_t)(nranks * 100) + run->workspace_bytes;
    rng_t all = {seed}, mine = {mix64(seed + (uint64_t)rank)};
    onehop_config_t wish = ONEHOP_CONFIG_INIT;
    wish.algorithm = run->algorithm;
    wish.workspace_bytes = run->workspace_bytes;
    interrupt_at_random(mine.state);
    onehop_comm_t *comm = team_join(rank, nranks, 0, &wish);
    area_t own[2] = {area_new(REGION + 4096), area_new(REGION + 4096)};
    area_t shared[2] = {shared_area(comm), shared_area(comm)};
    place_t places[BURST];
    int64_t end = now_ns() + run->milliseconds * (int64_t)1000000;
    int bursts = 0;
    for (int32_t stop = 0; !stop; bursts++) {
        /* Now and then not all ranks use registered memory. */
        bool registered = rng_below(&all, 2);
        if (rng_below(&all, 8) == 0) registered = rng_below(&mine, 2);
        area_t *areas = registered ? shared : own;
        int n = draw_burst(places, areas[0], areas[1], &all, &mine);
        run_burst(comm, places, n, &mine);
        /* All stop when one finds that it is time. */
        stop = bursts + 1 >= BURSTS_MIN && now_ns() > end;
        CHECK_SUCCESS(onehop_all_reduce(&stop, &stop, 1, ONEHOP_INT32, ONEHOP_MAX, comm, NULL));
    }
    CHECK_SUCCESS(onehop_comm_destroy(comm));
    interrupt_no_more();
    area_free(own[0]);
    area_free(own[1]);
}

/* One after the other: the default, every algorithm by name, and a workspace so small that all is cut. */
static void run_mix(int nranks, int milliseconds) {
    mix_t mixes[16] = {{"auto", 0, 2 * milliseconds}, {"auto", 64 * 1024, milliseconds}};
    int n = 2;
    const char *name;
    for (int a = 0; n < 16 && (name = onehop_algorithm_name(ONEHOP_DEVICE_HOST, a)); a++)
        mixes[n++] = (mix_t){name, 256 * 1024, milliseconds};
    for (int i = 0; i < n; i++) team_run(nranks, mix, &mixes[i]);
}

static void test_2_ranks(void **state) {
    (void)state;
    run_mix(2, rounds(1500, 300));
}

static void test_3_ranks(void **state) {
    (void)state;
    run_mix(3, rounds(800, 200));
}

static void test_4_ranks(void **state) {
    (void)state;
    run_mix(4, rounds(800, 200));
}

static void test_8_ranks(void **state) {
    (void)state;
    run_mix(8, rounds(800, 200));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_2_ranks),
        cmocka_unit_test(test_3_ranks),
        cmocka_unit_test(test_4_ranks),
        cmocka_unit_test(test_8_ranks),
    };
    tests_begin("stress");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
