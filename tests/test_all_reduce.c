/* SPDX-License-Identifier: Apache-2.0 */
/* onehop_all_reduce gives the right bits: every type, operation, algorithm, alignment and kind of size. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "message.h"

#include <cmocka.h>

enum { MIB = 1 << 20 };

/* What a body of a sweep starts with. */
typedef struct sweep {
    onehop_comm_t *comm;
    rng_t all, mine; /* the same on all ranks; this rank's own */
    area_t send, recv;
} sweep_t;

static sweep_t sweep_begin(int rank, int nranks, size_t max_bytes, const onehop_config_t *wish) {
    static int generation;
    sweep_t s = {.comm = team_join(rank, nranks, generation, wish)};
    s.all.state = tests_seed() + (uint64_t)(nranks * 1000 + generation++);
    s.mine.state = mix64(s.all.state + (uint64_t)rank);
    s.send = area_new(max_bytes + 4096);
    s.recv = area_new(max_bytes + 4096);
    return s;
}

static void sweep_end(sweep_t *s) {
    CHECK_SUCCESS(onehop_comm_destroy(s->comm));
    area_free(s->send);
    area_free(s->recv);
}

/* One all-reduce, at places of each rank's own choice. */
static void sweep_step(sweep_t *s, size_t count, onehop_dtype_t dtype, onehop_op_t op, data_kind_t kind) {
    message_t m = {count, dtype, op, kind, rng_next(&s->all)};
    size_t bytes = message_bytes(&m);
    unsigned char *from = rng_below(&s->mine, 2) ? area_place(s->send, bytes, &s->mine) : NULL;
    all_reduce_checked(s->comm, &m, s->recv, from, area_place(s->recv, bytes, &s->mine));
}

/* ---- Every type and operation ---- */

static void every_type_and_operation(int rank, int nranks, void *ctx) {
    const int samples = *(const int *)ctx;
    static const size_t small[] = {0, 1, 2, 3, 7, 15, 16, 17, 31, 33, 63, 64, 65, 127, 129, 255, 257, 1000, 1023, 1025};
    sweep_t s = sweep_begin(rank, nranks, 64 * 1024, NULL);
    for (int dtype = 0; dtype < DTYPES; dtype++)
        for (int op = 0; op < OPS; op++) {
            for (size_t i = 0; i < sizeof small / sizeof *small; i++)
                if (samples > 1 || rng_below(&s.all, 4) == 0)
                    sweep_step(&s, small[i], (onehop_dtype_t)dtype, (onehop_op_t)op, DATA_EXACT);
            for (int i = 0; i < samples; i++)
                sweep_step(&s, rng_log_below(&s.all, 8192), (onehop_dtype_t)dtype, (onehop_op_t)op, DATA_EXACT);
        }
    sweep_end(&s);
}

static void test_every_type_and_operation(void **state) {
    (void)state;
    int samples = rounds(5, 1);
    for (int nranks = 1; nranks <= 8; nranks++) team_run(nranks, every_type_and_operation, &samples);
}

static void test_many_ranks(void **state) {
    (void)state;
    int samples = 1;
    team_run(16, every_type_and_operation, &samples);
    if (rounds(1, 0)) team_run(ONEHOP_MAX_RANKS, every_type_and_operation, &samples);
}

static void special_values(int rank, int nranks, void *ctx) {
    (void)ctx;
    static const onehop_dtype_t floats[] = {ONEHOP_FLOAT32, ONEHOP_FLOAT16, ONEHOP_BFLOAT16, ONEHOP_FLOAT64};
    sweep_t s = sweep_begin(rank, nranks, 64 * 1024, NULL);
    for (int round = rounds(12, 3); round > 0; round--)
        for (int i = 0; i < 4; i++)
            for (int op = 0; op < OPS; op++)
                sweep_step(&s, 1 + rng_log_below(&s.all, 4096), floats[i], (onehop_op_t)op, DATA_SPECIAL);
    sweep_end(&s);
}

static void test_special_values(void **state) {
    (void)state;
    for (int nranks = 1; nranks <= 4; nranks++) team_run(nranks, special_values, NULL);
}

/* ---- Sizes around every boundary ---- */

static void around(sweep_t *s, size_t count, onehop_dtype_t dtype) {
    for (size_t delta = 0; delta <= 2; delta++)
        if (count + delta >= 1)
            sweep_step(s, count + delta - 1, dtype, (onehop_op_t)rng_below(&s->all, OPS), DATA_EXACT);
}

enum { BOUNDARIES_MAX = 64 };
static const onehop_dtype_t boundary_dtypes[] = {ONEHOP_FLOAT32, ONEHOP_BFLOAT16, ONEHOP_INT8, ONEHOP_FLOAT64};

typedef struct boundaries {
    bool registered;
    size_t max_bytes;
    int found[4];
    size_t counts[4][BOUNDARIES_MAX];
} boundaries_t;

/* Where the algorithm changes, and where the pieces of a cut message begin and end. */
static int find_boundaries(const onehop_comm_t *comm, onehop_dtype_t dtype, const boundaries_t *b, size_t *counts) {
    size_t size = onehop_dtype_size(dtype);
    int found = find_switches(comm, dtype, ONEHOP_SUM, b->registered, b->max_bytes, counts, BOUNDARIES_MAX / 2);
    for (size_t bytes = 4096; bytes <= b->max_bytes && found < BOUNDARIES_MAX; bytes *= 4) {
        onehop_choice_t choice = {.size = sizeof choice};
        CHECK_SUCCESS(onehop_comm_explain(comm, bytes / size, dtype, ONEHOP_SUM, b->registered, &choice));
        counts[found++] = bytes / choice.chunk_bytes * choice.chunk_bytes / size;
    }
    return found;
}

static area_t registered_area(onehop_comm_t *comm, size_t bytes) {
    void *memory;
    CHECK_SUCCESS(onehop_alloc(comm, bytes, &memory));
    CHECK_SUCCESS(onehop_register(comm, memory, bytes));
    return (area_t){memory, bytes};
}

static void boundaries(int rank, int nranks, void *ctx) {
    boundaries_t *b = ctx;
    sweep_t s = sweep_begin(rank, nranks, b->max_bytes + 4096, NULL);
    area_t send = s.send, recv = s.recv;
    if (b->registered) {
        s.send = registered_area(s.comm, send.bytes);
        s.recv = registered_area(s.comm, recv.bytes);
    }
    /* One rank looks, since the choice may change with time. */
    for (int d = 0; d < 4 && rank == 0; d++) b->found[d] = find_boundaries(s.comm, boundary_dtypes[d], b, b->counts[d]);
    team_barrier();
    for (int d = 0; d < 4; d++)
        for (int i = 0; i < b->found[d]; i++) around(&s, b->counts[d][i], boundary_dtypes[d]);
    s.send = send;
    s.recv = recv;
    sweep_end(&s);
}

static void run_boundaries(bool registered) {
    boundaries_t *b = shared_zalloc(sizeof *b);
    b->registered = registered;
    /* Beyond the last switch. */
    b->max_bytes = (size_t)rounds(33, 4) * MIB;
    team_run(2, boundaries, b);
    b->max_bytes = 4 * MIB;
    team_run(3, boundaries, b);
    team_run(rounds(8, 4), boundaries, b);
    shared_free(b, sizeof *b);
}

static void test_boundaries(void **state) {
    (void)state;
    run_boundaries(false);
}

static void test_registered_boundaries(void **state) {
    (void)state;
    run_boundaries(true);
}

/* ---- Workspaces ---- */

static void workspaces(int rank, int nranks, void *ctx) {
    (void)ctx;
    static const size_t sizes[] = {64 * 1024, 64 * 1024 + 1, 100000, 256 * 1024, 3 * MIB};
    for (size_t w = 0; w < sizeof sizes / sizeof *sizes; w++) {
        onehop_config_t wish = ONEHOP_CONFIG_INIT;
        wish.workspace_bytes = sizes[w];
        sweep_t s = sweep_begin(rank, nranks, 4 * MIB, &wish);
        onehop_comm_info_t info = {.size = sizeof info};
        CHECK_SUCCESS(onehop_comm_get_info(s.comm, &info));
        CHECK(info.workspace_bytes <= sizes[w], "%zu bytes of workspace where %zu are allowed", info.workspace_bytes,
              sizes[w]);
        for (size_t bytes = 16 * 1024; bytes <= 4 * MIB; bytes *= 2) {
            onehop_dtype_t dtype = (onehop_dtype_t)rng_below(&s.all, DTYPES);
            around(&s, bytes / onehop_dtype_size(dtype), dtype);
        }
        sweep_end(&s);
    }
}

static void test_workspaces(void **state) {
    (void)state;
    team_run(2, workspaces, NULL);
    team_run(5, workspaces, NULL);
    if (rounds(1, 0)) team_run(16, workspaces, NULL);
}

/* ---- The same bits from every algorithm, on every rank ---- */

enum { ALGORITHMS_MAX = 16, SHAPES = 14 };

typedef struct bits {
    uint64_t hashes[ALGORITHMS_MAX + 1][SHAPES][8];
} bits_t;

/* Shape i of those that all algorithms reduce: the same message each time, at ever new places. */
static message_t shape(int i, int nranks) {
    rng_t rng = {mix64(tests_seed() + (uint64_t)(100 * nranks + i))};
    static const onehop_dtype_t floats[] = {ONEHOP_FLOAT32, ONEHOP_FLOAT16, ONEHOP_BFLOAT16, ONEHOP_FLOAT64};
    size_t count = 1 + rng_log_below(&rng, (size_t)1 << (8 + i));
    return (message_t){count, floats[i % 4], i % 3 ? ONEHOP_SUM : (onehop_op_t)rng_below(&rng, OPS), DATA_FLOATS,
                       rng_next(&rng)};
}

static void same_bits(int rank, int nranks, void *ctx) {
    bits_t *bits = ctx;
    int algorithms = 0;
    for (const char *name = "auto"; name; name = onehop_algorithm_name(ONEHOP_DEVICE_HOST, algorithms++)) {
        CHECK(algorithms <= ALGORITHMS_MAX, "more algorithms than this test has room for");
        onehop_config_t wish = ONEHOP_CONFIG_INIT;
        wish.algorithm = name;
        sweep_t s = sweep_begin(rank, nranks, 16 * MIB, &wish);
        for (int i = 0; i < SHAPES; i++) {
            message_t m = shape(i, nranks);
            unsigned char *recv = area_place(s.recv, message_bytes(&m), &s.mine);
            unsigned char *send = rng_below(&s.all, 2) ? area_place(s.send, message_bytes(&m), &s.mine) : NULL;
            all_reduce_checked(s.comm, &m, s.recv, send, recv);
            bits->hashes[algorithms][i][rank] = message_hash(&m, recv);
        }
        sweep_end(&s);
    }
    team_barrier();
    for (int a = 0; a < algorithms; a++)
        for (int i = 0; i < SHAPES; i++)
            CHECK(bits->hashes[a][i][rank] == bits->hashes[0][i][0],
                  "shape %d on rank %d by algorithm %d is not what \"auto\" gave on rank 0", i, rank, a - 1);
}

static void test_same_bits(void **state) {
    (void)state;
    bits_t *bits = shared_zalloc(sizeof *bits);
    for (int nranks = 2; nranks <= 8; nranks += nranks < 4 ? 1 : 2) team_run(nranks, same_bits, bits);
    shared_free(bits, sizeof *bits);
}

/* Every forced algorithm serves every size, and explain says that it is the one. */
static void forced_algorithms(int rank, int nranks, void *ctx) {
    (void)ctx;
    const char *name;
    for (int a = 0; (name = onehop_algorithm_name(ONEHOP_DEVICE_HOST, a)); a++) {
        onehop_config_t wish = ONEHOP_CONFIG_INIT;
        wish.algorithm = name;
        sweep_t s = sweep_begin(rank, nranks, 8 * MIB, &wish);
        for (size_t bytes = 1; bytes <= (size_t)1 << 30; bytes *= 8) {
            onehop_choice_t choice = {.size = sizeof choice};
            CHECK_SUCCESS(onehop_comm_explain(s.comm, bytes, ONEHOP_INT8, ONEHOP_SUM, 1, &choice));
            CHECK(strcmp(choice.algorithm, name) == 0, "%s for %zu bytes where %s is forced", choice.algorithm, bytes,
                  name);
        }
        for (int i = 0; i < rounds(40, 15); i++) {
            onehop_dtype_t dtype = (onehop_dtype_t)rng_below(&s.all, DTYPES);
            size_t count = rng_log_below(&s.all, 8 * MIB / onehop_dtype_size(dtype));
            sweep_step(&s, count, dtype, (onehop_op_t)rng_below(&s.all, OPS), DATA_EXACT);
        }
        sweep_end(&s);
    }
}

static void test_forced_algorithms(void **state) {
    (void)state;
    for (int nranks = 1; nranks <= 8; nranks++) team_run(nranks, forced_algorithms, NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_type_and_operation),
        cmocka_unit_test(test_many_ranks),
        cmocka_unit_test(test_special_values),
        cmocka_unit_test(test_boundaries),
        cmocka_unit_test(test_registered_boundaries),
        cmocka_unit_test(test_workspaces),
        cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_forced_algorithms),
    };
    tests_begin("all_reduce");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
