/* SPDX-License-Identifier: Apache-2.0 */
/* Unit tests of how `onehop tune` makes rows of measurements. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "../cli/tune_choose.h"

enum { SIZES = 4, SHAPES = 3 };
static const size_t sizes[SIZES] = {1024, 4096, 16384, 65536};

static size_t until[SHAPES][SIZES]; /* 0: to the next size */

static int begin(void **state) {
    (void)state;
    memset(until, 0, sizeof until);
    return 0;
}

/* What `us` says: times of SHAPES shapes at SIZES sizes; and `before`, the shape in force at each size, or -1. */
static int choose(const double us[SHAPES][SIZES], const int before[SIZES], double noise, tune_pick_t *picks) {
    tune_point_t points[SHAPES][SIZES];
    for (int s = 0; s < SHAPES; s++) {
        for (int i = 0; i < SIZES; i++) {
            size_t next = i + 1 < SIZES ? sizes[i + 1] - 1 : sizes[i];
            points[s][i] = (tune_point_t){us[s][i], noise, before[i] == s, until[s][i] > 0 ? until[s][i] : next};
        }
    }
    return tune_choose(sizes, SIZES, points[0], SHAPES, picks);
}

static void expect(const tune_pick_t *pick, int shape, int first, int last, size_t from_bytes) {
    assert_int_equal(pick->shape, shape);
    assert_int_equal(pick->first, first);
    assert_int_equal(pick->last, last);
    assert_int_equal(pick->from_bytes, from_bytes);
}

static const int nothing[SIZES] = {-1, -1, -1, -1};

static void test_the_fastest(void **state) {
    (void)state;
    const double us[SHAPES][SIZES] = {{1, 2, 9, 30}, {2, 3, 4, 16}, {3, 4, 5, 9}};
    tune_pick_t picks[SIZES];
    assert_int_equal(choose(us, nothing, 0, picks), 3);
    expect(&picks[0], 0, 0, 1, 0);
    expect(&picks[1], 1, 2, 2, 8192); /* between 4096 and 16384 */
    expect(&picks[2], 2, 3, 3, 32768);
}

/* Nor do they last into a second step. */
static void test_one_step(void **state) {
    (void)state;
    const double us[SHAPES][SIZES] = {{1, 2, 9, 30}, {2, 3, 4, 16}, {3, 4, 5, 9}};
    tune_pick_t picks[SIZES];
    until[0][1] = 5000;
    until[1][2] = 60000; /* behind the middle */
    until[2][3] = 65536;
    assert_int_equal(choose(us, nothing, 0, picks), 3);
    expect(&picks[1], 1, 2, 2, 5001);
    expect(&picks[2], 2, 3, 3, 32768);
}

/* Neither of two is best everywhere, but one is never behind by much. */
static void test_one_row_where_it_will_do(void **state) {
    (void)state;
    const double us[SHAPES][SIZES] = {{1, 2, 4, 9.2}, {1.01, 1.99, 4.2, 8.9}, {1.02, 2.01, 4, 8.9}};
    tune_pick_t picks[SIZES];
    assert_int_equal(choose(us, nothing, 0, picks), 1);
    expect(&picks[0], 2, 0, 3, 0);
}

/* The fastest among those that last as long. */
static void test_the_fastest_of_equals(void **state) {
    (void)state;
    const double us[SHAPES][SIZES] = {{1.01, 2, 4, 8}, {1, 2, 4, 8}, {1, 2, 4, 8}};
    tune_pick_t picks[SIZES];
    assert_int_equal(choose(us, nothing, 0, picks), 1);
    expect(&picks[0], 1, 0, 3, 0);
}

static void test_what_is_in_force_stays_within_the_noise(void **state) {
    (void)state;
    const double us[SHAPES][SIZES] = {{1.08, 2.16, 4.32, 8.64}, {1, 2, 4, 8}, {2, 4, 8, 16}};
    const int before[SIZES] = {0, 0, 0, 0};
    tune_pick_t picks[SIZES];
    assert_int_equal(choose(us, before, 0.1, picks), 1);
    expect(&picks[0], 0, 0, 3, 0);
    assert_int_equal(choose(us, before, 0.05, picks), 1);
    expect(&picks[0], 1, 0, 3, 0);
    assert_int_equal(choose(us, nothing, 0.1, picks), 1);
    expect(&picks[0], 1, 0, 3, 0);
}

/* It gives way where it is beaten, and only there. */
static void test_what_is_in_force_gives_way(void **state) {
    (void)state;
    const double us[SHAPES][SIZES] = {{1, 2, 8, 8}, {2, 3, 4, 9}, {4, 8, 16, 32}};
    const int before[SIZES] = {0, 0, 0, 0};
    tune_pick_t picks[SIZES];
    assert_int_equal(choose(us, before, 0, picks), 3);
    expect(&picks[0], 0, 0, 1, 0);
    expect(&picks[1], 1, 2, 2, 8192);
    expect(&picks[2], 0, 3, 3, 32768);
}

static void test_sizes_without_measurements(void **state) {
    (void)state;
    const double none[SHAPES][SIZES] = {{0}};
    const double us[SHAPES][SIZES] = {{0, 2, 0, 0}, {0, 3, 0, 8}, {0, 0, 0, 9}};
    tune_pick_t picks[SIZES];
    assert_int_equal(choose(none, nothing, 0, picks), 0);
    assert_int_equal(choose(us, nothing, 0, picks), 2);
    expect(&picks[0], 0, 1, 2, 0);
    expect(&picks[1], 1, 3, 3, 32768);
}

/* At random: rows cover the sizes in order, and at each the shape is close to the best, or in force and within the
 * noise. */
static void test_at_random(void **state) {
    (void)state;
    unsigned seed = (unsigned)time(NULL);
    print_message("seed %u\n", seed);
    srand(seed);
    for (int round = 0; round < 2000; round++) {
        double us[SHAPES][SIZES], noise = rand() % 20 / 100.0;
        int before[SIZES];
        for (int i = 0; i < SIZES; i++) {
            before[i] = rand() % (SHAPES + 1) - 1;
            for (int s = 0; s < SHAPES; s++) us[s][i] = 1 + rand() % 10 / 100.0;
        }
        tune_pick_t picks[SIZES];
        int count = choose(us, before, noise, picks), next = 0;
        for (int p = 0; p < count; p++) {
            assert_int_equal(picks[p].first, next);
            next = picks[p].last + 1;
            for (int i = picks[p].first; i <= picks[p].last; i++) {
                double best = us[0][i], mine = us[picks[p].shape][i];
                for (int s = 1; s < SHAPES; s++) best = us[s][i] < best ? us[s][i] : best;
                double bound = before[i] == picks[p].shape && noise > 0.02 ? noise : 0.02;
                assert_true(mine <= best * (1 + bound));
                if (i > picks[p].first || before[i] < 0) continue;
                bool stays = us[before[i]][i] <= best * (1 + (noise > 0.02 ? noise : 0.02));
                if (stays) assert_int_equal(picks[p].shape, before[i]);
            }
        }
        assert_int_equal(next, SIZES);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_the_fastest, begin),
        cmocka_unit_test_setup(test_one_step, begin),
        cmocka_unit_test_setup(test_one_row_where_it_will_do, begin),
        cmocka_unit_test_setup(test_the_fastest_of_equals, begin),
        cmocka_unit_test_setup(test_what_is_in_force_stays_within_the_noise, begin),
        cmocka_unit_test_setup(test_what_is_in_force_gives_way, begin),
        cmocka_unit_test_setup(test_sizes_without_measurements, begin),
        cmocka_unit_test_setup(test_at_random, begin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
