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
#include "select/select.h"

static oh_forced_t forced_by(const char *text) {
    oh_forced_t forced;
    if (oh_forced_parse(text, &forced) != ONEHOP_SUCCESS) fail_msg("%s", onehop_last_error());
    return forced;
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
            assert_int_equal(oh_select_chunk_max(&shaped), oh_select_chunk_max(&plain));

            oh_question_t q = {.bytes = 1 << 20, .registered = true, .forced = shaped, .chunk_max = 1 << 20};
            const oh_plan_t plan = oh_select(&q, NULL);
            assert_true(plan.algorithm == (oh_algorithm_t)i && plan.chunk_bytes == 12288 && plan.stream == stream);
            q.chunk_max = 8192; /* a smaller workspace */
            assert_int_equal(oh_select(&q, NULL).chunk_bytes, 8192);
        }
    }
    const oh_forced_t large = forced_by("two_shot:67108864:cached");
    assert_int_equal(oh_select_chunk_max(&large), 64 << 20);
    const oh_forced_t whole = forced_by("direct:0:stream");
    assert_true(whole.algorithm == OH_DIRECT && whole.stream);
}

/* Where a forced algorithm cannot run, the table has its say, and what was forced leaves no trace. */
static void test_forced_in_vain(void **state) {
    (void)state;
    char forced_reason[OH_REASON_TEXT], reason[OH_REASON_TEXT];
    for (size_t bytes = 1; bytes <= 64 << 20; bytes *= 2) {
        oh_question_t q = {.bytes = bytes, .forced = forced_by("direct:0:stream"), .chunk_max = 1 << 20};
        const oh_plan_t forced = oh_select(&q, forced_reason);
        q.forced = forced_by("auto");
        const oh_plan_t plan = oh_select(&q, reason);
        assert_true(forced.algorithm == plan.algorithm && forced.stream == plan.stream);
        assert_int_equal(forced.chunk_bytes, plan.chunk_bytes);
        assert_string_equal(forced_reason, reason);
    }
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
        cmocka_unit_test(test_forced),
        cmocka_unit_test(test_forced_in_vain),
        cmocka_unit_test(test_bad_names),
        cmocka_unit_test(test_bad_shapes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
