/* SPDX-License-Identifier: Apache-2.0 */
/* Ranks that call with different arguments all get ONEHOP_MISMATCH, which names both sides; nobody's data change. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "message.h"

#include <cmocka.h>

enum { MIB = 1 << 20, ROOM = 8 * MIB };

typedef struct call {
    size_t count;
    onehop_dtype_t dtype;
    onehop_op_t op;
} call_t;

typedef struct disagreement {
    call_t usual, odd; /* what one rank calls with */
    int odd_rank;
    int calls_before; /* that all ranks agree on */
} disagreement_t;

static void check_names(const char *text, const call_t *call, const disagreement_t *d) {
    if (d->usual.count != d->odd.count)
        CHECK(says_number(text, "", call->count), "count %zu is not in: %s", call->count, text);
    if (d->usual.dtype != d->odd.dtype)
        CHECK(says_word(text, onehop_dtype_string(call->dtype)), "%s is not in: %s", onehop_dtype_string(call->dtype),
              text);
    if (d->usual.op != d->odd.op)
        CHECK(says_word(text, onehop_op_string(call->op)), "%s is not in: %s", onehop_op_string(call->op), text);
}

static void disagree(int rank, int nranks, void *ctx) {
    const disagreement_t *d = ctx;
    onehop_comm_t *comm = team_join(rank, nranks, 0, NULL);
    area_t area = area_new(ROOM);
    message_t agreed = {100, ONEHOP_FLOAT32, ONEHOP_SUM, DATA_EXACT, tests_seed()};
    for (int i = 0; i < d->calls_before; i++) all_reduce_checked(comm, &agreed, area, NULL, area.start + GUARD);

    unsigned char *recv = malloc(ROOM), *before = malloc(ROOM);
    CHECK(recv && before, "out of memory");
    memset(before, 0x77, ROOM);
    memcpy(recv, before, ROOM);
    const call_t *call = rank == d->odd_rank ? &d->odd : &d->usual;
    doing("call with %zu %d %d where rank %d differs", call->count, (int)call->dtype, (int)call->op, d->odd_rank);
    CHECK_RESULT(ONEHOP_MISMATCH, onehop_all_reduce(area.start, recv, call->count, call->dtype, call->op, comm, NULL));
    check_names(onehop_last_error(), &d->usual, d);
    check_names(onehop_last_error(), &d->odd, d);
    CHECK(says_number(onehop_last_error(), "rank", (uint64_t)d->odd_rank), "rank %d is not in: %s", d->odd_rank,
          onehop_last_error());
    CHECK(memcmp(recv, before, ROOM) == 0, "recvbuf was written");

    onehop_result_t error = ONEHOP_SUCCESS;
    CHECK_RESULT(ONEHOP_MISMATCH, onehop_all_reduce(area.start, recv, 1, ONEHOP_INT8, ONEHOP_SUM, comm, NULL));
    CHECK_SUCCESS(onehop_comm_get_async_error(comm, &error));
    CHECK(error == ONEHOP_MISMATCH, "the communicator's error is %s", onehop_result_string(error));
    CHECK_SUCCESS(onehop_comm_destroy(comm));

    comm = team_join(rank, nranks, 1, NULL);
    all_reduce_checked(comm, &agreed, area, NULL, area.start + GUARD);
    CHECK_SUCCESS(onehop_comm_destroy(comm));
    area_free(area);
    free(recv);
    free(before);
}

static void run_disagreement(call_t usual, call_t odd) {
    static uint64_t calls;
    rng_t rng = {tests_seed() + calls++};
    for (int nranks = 2; nranks <= rounds(5, 3); nranks++) {
        disagreement_t d = {usual, odd, (int)rng_below(&rng, (uint64_t)nranks), (int)rng_below(&rng, 4)};
        team_run(nranks, disagree, &d);
    }
}

static void test_counts(void **state) {
    (void)state;
    static const size_t counts[][2] = {{0, 1},
                                       {1, 0},
                                       {100, 101},
                                       {1, MIB},
                                       {MIB, 3},
                                       {16 * 1024, 16 * 1024 + 1},
                                       {2 * MIB, 2 * MIB - 1},
                                       {2 * MIB, 1 * MIB}};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        run_disagreement((call_t){counts[i][0], ONEHOP_FLOAT32, ONEHOP_SUM},
                         (call_t){counts[i][1], ONEHOP_FLOAT32, ONEHOP_SUM});
}

static void test_types(void **state) {
    (void)state;
    /* Of the same size and of another, small and large. */
    run_disagreement((call_t){64, ONEHOP_FLOAT16, ONEHOP_SUM}, (call_t){64, ONEHOP_BFLOAT16, ONEHOP_SUM});
    run_disagreement((call_t){64, ONEHOP_FLOAT32, ONEHOP_MAX}, (call_t){64, ONEHOP_FLOAT64, ONEHOP_MAX});
    run_disagreement((call_t){MIB, ONEHOP_INT32, ONEHOP_SUM}, (call_t){MIB, ONEHOP_UINT32, ONEHOP_SUM});
    run_disagreement((call_t){MIB, ONEHOP_INT8, ONEHOP_SUM}, (call_t){MIB, ONEHOP_INT64, ONEHOP_SUM});
    /* The same bytes in all. */
    run_disagreement((call_t){2000, ONEHOP_FLOAT32, ONEHOP_SUM}, (call_t){1000, ONEHOP_FLOAT64, ONEHOP_SUM});
}

static void test_operations(void **state) {
    (void)state;
    run_disagreement((call_t){1, ONEHOP_FLOAT32, ONEHOP_SUM}, (call_t){1, ONEHOP_FLOAT32, ONEHOP_AVG});
    run_disagreement((call_t){2 * MIB, ONEHOP_FLOAT32, ONEHOP_MIN}, (call_t){2 * MIB, ONEHOP_FLOAT32, ONEHOP_MAX});
    run_disagreement((call_t){10, ONEHOP_INT64, ONEHOP_SUM}, (call_t){11, ONEHOP_UINT64, ONEHOP_PROD});
}

/* ---- Different calls: an error everywhere within the deadline, whichever of the two it is ---- */

enum { DEADLINE_MS = 300 };

typedef enum other_call { OTHER_REGISTER, OTHER_DEREGISTER, OTHER_CALLS } other_call_t;

static void different_calls(int rank, int nranks, void *ctx) {
    const other_call_t *other = ctx;
    onehop_config_t wish = ONEHOP_CONFIG_INIT;
    wish.timeout_ms = (int)patience_ms(DEADLINE_MS);
    onehop_comm_t *comm = team_join(rank, nranks, 0, &wish);
    void *memory;
    CHECK_SUCCESS(onehop_alloc(comm, 4096, &memory));
    CHECK_SUCCESS(onehop_register(comm, memory, 4096));
    void *second;
    CHECK_SUCCESS(onehop_alloc(comm, 4096, &second));
    team_barrier();

    int64_t begin = now_ns();
    onehop_result_t result;
    doing("a call that differs from the peers'");
    if (rank == nranks - 1)
        result = *other == OTHER_REGISTER ? onehop_register(comm, second, 4096) : onehop_deregister(comm, memory);
    else
        result = onehop_all_reduce(second, second, 4, ONEHOP_FLOAT32, ONEHOP_SUM, comm, NULL);
    int64_t took_ms = (now_ns() - begin) / 1000000;
    CHECK(result == ONEHOP_MISMATCH || result == ONEHOP_TIMEOUT, "got %s: %s", onehop_result_string(result),
          onehop_last_error());
    CHECK(took_ms < patience_ms(DEADLINE_MS + 700), "took %lld ms", (long long)took_ms);
    CHECK_RESULT(result, onehop_all_reduce(second, second, 4, ONEHOP_FLOAT32, ONEHOP_SUM, comm, NULL));
    CHECK_SUCCESS(onehop_comm_destroy(comm));
}

static void test_different_calls(void **state) {
    (void)state;
    for (int nranks = 2; nranks <= rounds(4, 2); nranks++)
        for (other_call_t other = OTHER_REGISTER; other < OTHER_CALLS; other++)
            team_run(nranks, different_calls, &other);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_operations),
        cmocka_unit_test(test_different_calls),
    };
    tests_begin("mismatch");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
