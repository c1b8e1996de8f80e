/* SPDX-License-Identifier: Apache-2.0 */
/* Unit tests of the choice on hosts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/status.h"
#include "select/built_in.h"
#include "select/select.h"

static oh_host_tables_t built_in;

static int build_in(void **state) {
    (void)state;
    oh_built_in_hosts(&built_in);
    return 0;
}

static oh_forced_t forced_by(const char *text) {
    oh_forced_t forced;
    if (oh_forced_parse(text, &forced) != ONEHOP_SUCCESS) fail_msg("%s", onehop_last_error());
    return forced;
}

/* ---- tables ---- */

static void check_table(oh_placement_t placement, bool registered) {
    const oh_host_table_t *table = &built_in.of[placement][registered];
    char reason[OH_REASON_TEXT], words[OH_REASON_TEXT];
    for (int i = 0; i < table->count; i++) {
        const oh_host_row_t *row = &table->rows[i];
        assert_true(i == 0 ? row->from_bytes == 0 : row->from_bytes > row[-1].from_bytes);
        assert_true(registered || !oh_algorithms[row->algorithm].needs_registration);
        for (int before = 0; before <= (i > 0); before++) {
            const oh_question_t q = {.bytes = row->from_bytes - (size_t)before,
                                     .placement = placement,
                                     .registered = registered,
                                     .forced = forced_by("auto"),
                                     .chunk_max = 1 << 20};
            const oh_plan_t plan = oh_select(&q, &built_in, reason);
            assert_true(plan.algorithm == row[-before].algorithm && plan.stream == row[-before].stream);
            assert_int_equal(plan.chunk_bytes, row[-before].chunk_bytes);
            snprintf(words, sizeof words, "built-in table (%s ranks, %s buffers): %s from %zu bytes",
                     oh_placement_name(placement), registered ? "registered" : "any",
                     oh_algorithms[plan.algorithm].name, row[-before].from_bytes);
            assert_string_equal(reason, words);
        }
    }
}

/* A message of exactly a row's bytes is reduced as the row says; one that is shorter, by the row before. */
static void test_rows_are_reached(void **state) {
    (void)state;
    for (int i = 0; i < 2 * OH_PLACEMENTS; i++) check_table((oh_placement_t)(i / 2), i % 2 == 1);
}

/* ---- what is forced ---- */

static void test_forced(void **state) {
    (void)state;
    assert_int_equal(forced_by("auto").algorithm, -1);
    for (int i = 0; i < OH_ALGORITHMS; i++) {
        char text[64];
        const oh_forced_t plain = forced_by(oh_algorithms[i].name);
        assert_true(plain.algorithm == i && !plain.shaped && plain.chunk_bytes == 0);
        for (int stream = 0; stream < 2; stream++) {
            snprintf(text, sizeof text, "%s:12288:%s", oh_algorithms[i].name, stream ? "stream" : "cached");
            const oh_forced_t shaped = forced_by(text);
            assert_true(shaped.algorithm == i && shaped.shaped);
            assert_true(shaped.chunk_bytes == 12288 && shaped.stream == stream);
            assert_int_equal(oh_select_chunk_max(&shaped, &built_in), oh_select_chunk_max(&plain, &built_in));

            oh_question_t q = {.bytes = 1 << 20, .registered = true, .forced = shaped, .chunk_max = 1 << 20};
            const oh_plan_t plan = oh_select(&q, &built_in, NULL);
            assert_true(plan.algorithm == (oh_algorithm_t)i && plan.chunk_bytes == 12288 && plan.stream == stream);
            q.chunk_max = 8192; /* a smaller workspace */
            assert_int_equal(oh_select(&q, &built_in, NULL).chunk_bytes, 8192);
        }
    }
    const oh_forced_t large = forced_by("two_shot:67108864:cached");
    assert_int_equal(oh_select_chunk_max(&large, &built_in), 64 << 20);
    const oh_forced_t whole = forced_by("direct:0:stream");
    assert_true(whole.algorithm == OH_DIRECT && whole.stream);
}

/* Where a forced algorithm cannot run, the table has its say, and what was forced leaves no trace. */
static void test_forced_in_vain(void **state) {
    (void)state;
    char forced_reason[OH_REASON_TEXT], reason[OH_REASON_TEXT];
    for (size_t bytes = 1; bytes <= 64 << 20; bytes *= 2) {
        oh_question_t q = {.bytes = bytes, .forced = forced_by("direct:0:stream"), .chunk_max = 1 << 20};
        const oh_plan_t forced = oh_select(&q, &built_in, forced_reason);
        q.forced = forced_by("auto");
        const oh_plan_t plan = oh_select(&q, &built_in, reason);
        assert_true(forced.algorithm == plan.algorithm && forced.stream == plan.stream);
        assert_int_equal(forced.chunk_bytes, plan.chunk_bytes);
        assert_string_equal(forced_reason, reason);
    }
}

/* An algorithm that can do without registration runs as with ordinary buffers. */
static void test_forced_and_registered(void **state) {
    (void)state;
    for (int i = 0; i < 2 * OH_PLACEMENTS; i++) {
        for (size_t bytes = 1; bytes <= 64 << 20; bytes *= 2) {
            oh_question_t q = {.bytes = bytes, .placement = (oh_placement_t)(i / 2), .chunk_max = 1 << 20};
            q.forced = forced_by(i % 2 == 0 ? "one_shot" : "two_shot");
            const oh_plan_t ordinary = oh_select(&q, &built_in, NULL);
            q.registered = true;
            const oh_plan_t registered = oh_select(&q, &built_in, NULL);
            assert_true(registered.algorithm == ordinary.algorithm && registered.stream == ordinary.stream);
            assert_int_equal(registered.chunk_bytes, ordinary.chunk_bytes);
        }
    }
}

static void test_forced_without_a_row(void **state) {
    (void)state;
    char reason[OH_REASON_TEXT];
    oh_host_tables_t tables = {
        .of = {{{"mine", 1, {{0, OH_ONE_SHOT, 4096, false}}}, {"ours", 1, {{0, OH_ONE_SHOT, 4096, false}}}}}};
    oh_question_t q = {.bytes = 4096, .registered = true, .forced = forced_by("two_shot"), .chunk_max = 1 << 20};
    assert_int_equal(oh_select(&q, &tables, reason).algorithm, OH_TWO_SHOT);
    assert_string_equal(reason, "forced by the configuration; mine (near ranks, any buffers) has no two_shot");
    q.forced = forced_by("direct");
    assert_int_equal(oh_select(&q, &tables, reason).algorithm, OH_DIRECT);
    assert_string_equal(reason, "forced by the configuration; ours (near ranks, registered buffers) has no direct");
}

static void expect_refused(const char *text, const char *words) {
    oh_forced_t forced;
    assert_int_equal(oh_forced_parse(text, &forced), ONEHOP_INVALID_ARGUMENT);
    if (strstr(onehop_last_error(), text) == NULL || strstr(onehop_last_error(), words) == NULL) {
        fail_msg("expected \"%s\" and \"%s\" in: %s", text, words, onehop_last_error());
    }
}

static void test_bad_names(void **state) {
    (void)state;
    static const char *const names[] = {"",        "Auto",      "auto:4096:cached", "one_shot_push",
                                        "one_sho", " one_shot", ":4096:cached",     "two_shot_:4096:cached"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        expect_refused(names[i], "expected auto, one_shot, two_shot or direct");
    }
}

static void test_bad_shapes(void **state) {
    (void)state;
    static const char *const shapes[] = {":",
                                         ":4096",
                                         ":4096:",
                                         ":4096:cache",
                                         ":4096:Cached",
                                         ":4096:cached ",
                                         ":4096:cached:1",
                                         ":4097:cached",
                                         ":0:cached",
                                         ":-4096:cached",
                                         ":+4096:cached",
                                         ": 4096:cached",
                                         ":4K:cached",
                                         "::cached",
                                         ":67112960:cached",
                                         ":18446744073709551616:cached",
                                         ":1:512:1"};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        char text[64];
        snprintf(text, sizeof text, "two_shot%s", shapes[i]);
        expect_refused(text, "expected NAME:CHUNK_BYTES:stream or NAME:CHUNK_BYTES:cached, with a multiple of 4096 "
                             "bytes, at most 67108864");
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_are_reached),
        cmocka_unit_test(test_forced),
        cmocka_unit_test(test_forced_and_registered),
        cmocka_unit_test(test_forced_without_a_row),
        cmocka_unit_test(test_forced_in_vain),
        cmocka_unit_test(test_bad_names),
        cmocka_unit_test(test_bad_shapes),
    };
    return cmocka_run_group_tests(tests, build_in, NULL);
}
