/* SPDX-License-Identifier: Apache-2.0 */
/* Messages beyond 2 GiB, in memory permitting: byte offsets and counts that do not fit in 32 bits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "message.h"

#include <cmocka.h>

enum { RANKS = 2 };
static const size_t GIB = (size_t)1 << 30;

typedef struct large {
    size_t bytes;
    onehop_dtype_t dtype;
    bool registered;
} large_t;

static void reduce_large(int rank, int nranks, void *ctx) {
    const large_t *large = ctx;
    onehop_comm_t *comm = team_join(rank, nranks, 0, NULL);
    message_t m = {large->bytes / onehop_dtype_size(large->dtype), large->dtype, ONEHOP_SUM, DATA_EXACT, tests_seed()};
    area_t area = {NULL, large->bytes + 4096};
    if (large->registered) {
        void *memory;
        CHECK_SUCCESS(onehop_alloc(comm, area.bytes, &memory));
        CHECK_SUCCESS(onehop_register(comm, memory, area.bytes));
        area.start = memory;
    } else {
        area = area_new(large->bytes);
    }
    all_reduce_checked(comm, &m, area, NULL, area.start + GUARD);
    if (large->registered) {
        CHECK_SUCCESS(onehop_deregister(comm, area.start));
    } else {
        area_free(area);
    }
    CHECK_SUCCESS(onehop_comm_destroy(comm));
}

/* Skips where the machine has not twice the memory that the test touches. */
static void run_large(large_t large) {
    unsigned long long available_kib = 0;
    char line[128];
    FILE *meminfo = fopen("/proc/meminfo", "r");
    assert_non_null(meminfo);
    while (fgets(line, sizeof line, meminfo)) sscanf(line, "MemAvailable: %llu", &available_kib);
    fclose(meminfo);
    if (available_kib * 1024 < 2 * RANKS * large.bytes) {
        printf("skipped: %llu MiB available\n", available_kib / 1024);
        skip();
    }
    team_run(RANKS, reduce_large, &large);
}

static void test_offsets_beyond_31_bits(void **state) {
    (void)state;
    run_large((large_t){2 * GIB + 12 * 4096 + 4, ONEHOP_FLOAT32, false});
}

static void test_registered_offsets_beyond_31_bits(void **state) {
    (void)state;
    run_large((large_t){2 * GIB + 12 * 4096 + 2, ONEHOP_BFLOAT16, true});
}

static void test_count_beyond_32_bits(void **state) {
    (void)state;
    run_large((large_t){4 * GIB + 4099, ONEHOP_UINT8, false});
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_offsets_beyond_31_bits),
        cmocka_unit_test(test_registered_offsets_beyond_31_bits),
        cmocka_unit_test(test_count_beyond_32_bits),
    };
    tests_begin("large");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
