/* SPDX-License-Identifier: Apache-2.0 */
/* Unit tests of arena/layout: slots fit the workspace, and the parts of a chunk fit each other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "arena/layout.h"
#include "base/config.h"

enum { ROUNDS = 3000 };

static unsigned seed;

static size_t up_to(size_t most) { return (size_t)rand_r(&seed) % most + 1; }

/* Slots are whole pages, as large as allowed, and lie behind the control page within the workspace. */
static void test_slots_fit_the_workspace(void **state) {
    (void)state;
    for (int i = 0; i < ROUNDS; i++) {
        size_t workspace = i == 0 ? OH_WORKSPACE_MIN : OH_WORKSPACE_MIN + up_to((size_t)1 << up_to(32));
        size_t chunk_max = OH_PAGE * up_to((size_t)1 << up_to(12));
        oh_layout_t layout = oh_layout_make(workspace, chunk_max);
        assert_true(layout.chunk_bytes >= OH_PAGE && layout.chunk_bytes <= chunk_max);
        assert_int_equal(layout.chunk_bytes % OH_PAGE, 0);
        assert_int_equal(layout.total, OH_PAGE + OH_SLOTS * layout.chunk_bytes);
        assert_true(layout.total <= workspace);
        assert_true(layout.chunk_bytes == chunk_max || layout.total + OH_SLOTS * OH_PAGE > workspace);
    }
}

/* The parts of a chunk cover it, in order, each beginning with a cache line; none is longer than the first. */
static void test_parts_cover_a_chunk(void **state) {
    (void)state;
    for (int i = 0; i < ROUNDS; i++) {
        int nranks = (int)up_to(ONEHOP_MAX_RANKS);
        size_t bytes = up_to((size_t)1 << up_to(20));
        assert_int_equal(oh_part_begin(bytes, 0, nranks), 0);
        assert_int_equal(oh_part_begin(bytes, nranks, nranks), bytes);
        for (int r = 0; r < nranks; r++) {
            size_t begin = oh_part_begin(bytes, r, nranks), end = oh_part_begin(bytes, r + 1, nranks);
            assert_true(begin <= end && end - begin <= oh_part_begin(bytes, 1, nranks));
            assert_true(begin % OH_PART_ALIGN == 0 || begin == bytes);
        }
    }
}

int main(void) {
    seed = (unsigned)time(NULL);
    print_message("seed %u\n", seed);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slots_fit_the_workspace),
        cmocka_unit_test(test_parts_cover_a_chunk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
