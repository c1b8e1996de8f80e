/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unit tests of the search of `onehop tune`, without ranks and without time: what a launch takes is a formula, with
 * some noise; what the library would launch, it says itself; and every measurement moves the clock.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "../cli/say.h"
#include "../cli/tune.h"
#include "arena/device_sizes.h"
#include "base/status.h"
#include "select/built_in.h"
#include "select/device.h"

enum { PROCESSORS = 132, NRANKS = 4 };
static const int64_t second = 1000000000, shape_ns = 30000000, size_ns = 50000000;

struct tune_team {
    oh_device_table_t table; /* what is in force */
    char shape[TUNE_SHAPE_TEXT];
    double noise;
    int placements; /* in turn */
    int orders, shapes;
    int64_t now_ns;
};

static tune_team_t *here; /* whose clock it is */

int64_t now_ns(void) { return here->now_ns; }
void progress_show(const char *format, ...) { (void)format; }
void tune_key_text(const tune_key_t *key, char text[TUNE_KEY_TEXT]) {
    snprintf(text, TUNE_KEY_TEXT, "%d", key->nranks);
}
bool rank_fail(rank_t *self, const char *format, ...) {
    (void)self, (void)format;
    return false;
}

/* ---- the GPUs ---- */

static oh_device_plan_t plan_of(const char *shape, const oh_device_table_t *table, size_t bytes) {
    const oh_device_sizes_t sizes = oh_device_sizes_make((size_t)32 << 20, NRANKS, PROCESSORS);
    oh_device_question_t q = {.count = bytes / 2,
                              .dtype = ONEHOP_BFLOAT16,
                              .op = ONEHOP_SUM,
                              .nranks = NRANKS,
                              .share = 1,
                              .teams = sizes.teams,
                              .ring = sizes.ring,
                              .slot_packets = sizes.packets,
                              .page_bytes = sizes.page_bytes};
    if (oh_device_forced_parse(shape, &q.forced) != ONEHOP_SUCCESS) fail_msg("%s", onehop_last_error());
    return oh_device_select(&q, table, NULL);
}

/* Bytes over the wire, at the rate that so many packets under way allow; steps; blocks to be launched. */
static double us_of(const oh_device_plan_t *plan, size_t bytes) {
    static const double start[] = {2, 3, 3.5, 5, 6};
    const oh_device_algorithm_info_t *info = &oh_device_algorithms[plan->algorithm];
    double wire = (double)bytes * (info->parts ? 2.0 * (NRANKS - 1) / NRANKS : NRANKS - 1);
    double rate = 20e3 + 12.0 * plan->blocks * plan->threads * plan->packets / (info->parts ? 1 : 2);
    if (rate > 347e3) rate = 347e3;
    return start[plan->algorithm] + wire / rate + 0.1 * plan->steps + 0.003 * plan->blocks;
}

static double us_for(const tune_team_t *team, const char *shape, size_t bytes) {
    oh_device_plan_t plan = plan_of(shape, &team->table, bytes);
    return us_of(&plan, bytes);
}

/* ---- the team ---- */

bool tune_order_shape(tune_team_t *team, const tune_shape_t *shape) {
    tune_shape_text(shape, team->shape);
    team->now_ns += shape_ns;
    team->shapes++;
    return true;
}

bool tune_explain(tune_team_t *team, size_t bytes, onehop_choice_t *choice) {
    oh_device_plan_t plan = plan_of(team->shape, &team->table, bytes);
    *choice = (onehop_choice_t){.algorithm = oh_device_algorithms[plan.algorithm].name,
                                .chunk_bytes = bytes,
                                .blocks = plan.blocks,
                                .threads = plan.threads,
                                .packets = plan.packets,
                                .steps = (int)plan.steps};
    return true;
}

/* In another placement everything takes twice as long. */
bool tune_order_size(tune_team_t *team, size_t bytes, bool again, tune_measured_t *measured) {
    static const char *const names[] = {"here", "there", "elsewhere"};
    int place = team->orders++ % team->placements;
    double drawn = 2.0 * rand() / RAND_MAX - 1;
    (void)again;
    team->now_ns += size_ns;
    measured->us = us_for(team, team->shape, bytes) * (1 + team->noise * drawn) * (place > 0 ? 2 : 1);
    snprintf(measured->placement, TUNE_NAME, "%s", names[place]);
    return tune_explain(team, bytes, &measured->choice);
}

/* ---- what comes of it ---- */

static sizes_t list_sizes(void) {
    sizes_t sizes = {.count = 0};
    for (size_t bytes = 1024; bytes <= (size_t)64 << 20; bytes *= 2) sizes.bytes[sizes.count++] = bytes;
    return sizes;
}

static void search(tune_team_t *team, int64_t seconds, tune_table_t *table) {
    sizes_t sizes = list_sizes();
    tune_shapes_t shapes;
    *table = (tune_table_t){.key = {.nranks = NRANKS}};
    tune_shapes_on_gpu(PROCESSORS, 0, &shapes);
    here = team;
    assert_true(tune_search(NULL, team, &sizes, &shapes, team->now_ns + seconds * second, table));
}

/* Of the shapes that make sense. */
static double best_for(const tune_team_t *team, size_t bytes) {
    tune_shapes_t shapes;
    tune_shapes_on_gpu(PROCESSORS, 0, &shapes);
    double best = us_for(team, "auto", bytes);
    for (int i = 0; i < shapes.count; i++) {
        char text[TUNE_SHAPE_TEXT];
        tune_shape_text(&shapes.all[i], text);
        oh_device_plan_t plan = plan_of(text, &team->table, bytes);
        onehop_choice_t choice = {.blocks = plan.blocks, .steps = (int)plan.steps};
        double us = us_of(&plan, bytes);
        if (us < best && tune_shape_is_sensible(&shapes.all[i], &choice)) best = us;
    }
    return best;
}

/* Every size is near enough to the best there could be, and to what was in force. */
static void check_rows(const tune_team_t *team, const tune_table_t *table, double from_best, double from_before) {
    sizes_t sizes = list_sizes();
    assert_true(table->nrows > 0);
    assert_int_equal(table->rows[0].from_bytes, 0);
    assert_int_equal(table->rows[table->nrows - 1].last_bytes, sizes.bytes[sizes.count - 1]);
    for (int i = 0, row = 0; i < sizes.count; i++) {
        char text[TUNE_SHAPE_TEXT];
        size_t bytes = sizes.bytes[i];
        while (row + 1 < table->nrows && table->rows[row + 1].from_bytes <= bytes) row++;
        assert_true(bytes >= table->rows[row].first_bytes && bytes <= table->rows[row].last_bytes);
        tune_shape_text(&table->rows[row].shape, text);
        double us = us_for(team, text, bytes), best = best_for(team, bytes), before = us_for(team, "auto", bytes);
        if (us > best * from_best || us > before * from_before) {
            fail_msg("%zu bytes: %s takes %.2f us, the best %.2f, before %.2f", bytes, text, us, best, before);
        }
    }
}

/* One row that is far from the best everywhere. */
static void force_badly(tune_team_t *team) {
    team->table = (oh_device_table_t){.count = 1, .rows = {{0, OH_TWO_SHOT_PULL, 1, 96, 20}}};
}

static void force_built_in(tune_team_t *team) {
    assert_true(oh_built_in_gpus("NVIDIA H200", OH_NVLINK, NRANKS, &team->table));
}

static void test_finds_the_best(void **state) {
    (void)state;
    for (int built_in = 0; built_in < 2; built_in++) {
        tune_team_t team = {.noise = 0.005, .placements = 1};
        tune_table_t table;
        (built_in ? force_built_in : force_badly)(&team);
        search(&team, 120, &table);
        print_message("%d measurements, %d rows, %.0f s\n", team.orders, table.nrows, 1e-9 * (double)team.now_ns);
        assert_int_equal(table.skipped, 0);
        assert_int_equal(table.elsewhere, 0);
        assert_true(table.repetitions >= 3);
        assert_true(table.nrows <= 8);
        check_rows(&team, &table, 1.06, 1.03);
    }
}

/* Repeated with noise that is larger than the differences: what is in force stays, or what is as good. */
static void test_noise(void **state) {
    (void)state;
    tune_team_t team = {.noise = 0.1, .placements = 1};
    tune_table_t table;
    force_built_in(&team);
    search(&team, 600, &table);
    assert_int_equal(table.repetitions, 5);
    check_rows(&team, &table, 1.35, 1.15);
}

/* Whatever time there is, it is kept to; and what little there was gives no table that is worse than before. */
static void test_time(void **state) {
    (void)state;
    for (int64_t seconds = 0; seconds < 40; seconds += 3) {
        for (int built_in = 0; built_in < 2; built_in++) {
            tune_team_t team = {.noise = 0.005, .placements = 1};
            tune_table_t table;
            (built_in ? force_built_in : force_badly)(&team);
            search(&team, seconds, &table);
            int64_t over = team.now_ns - seconds * second;
            assert_true(over <= 20 * shape_ns + size_ns);
            if (seconds == 0) assert_int_equal(table.nrows, 0);
            if (seconds < 6) assert_true(table.skipped > 0);
            if (seconds > 0) check_rows(&team, &table, 1e9, 1.03);
        }
    }
}

/* Every other measurement is made where all takes twice as long, and then once more. */
static void test_placements(void **state) {
    (void)state;
    tune_team_t team = {.noise = 0.005, .placements = 2};
    tune_table_t table;
    force_badly(&team);
    search(&team, 600, &table);
    assert_true(table.elsewhere > team.orders / 3);
    assert_true(strcmp(table.key.placement, "here") == 0 || strcmp(table.key.placement, "there") == 0);
    check_rows(&team, &table, 1.1, 1.03);
}

int main(void) {
    unsigned seed = (unsigned)time(NULL);
    print_message("seed %u\n", seed);
    srand(seed);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_finds_the_best),
        cmocka_unit_test(test_noise),
        cmocka_unit_test(test_time),
        cmocka_unit_test(test_placements),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
