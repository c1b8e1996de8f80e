/* SPDX-License-Identifier: Apache-2.0 */
/* Unit tests of the shapes that `onehop tune` measures: the library takes every one, and each comes once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "../cli/tune.h"
#include "base/status.h"
#include "select/device.h"
#include "select/select.h"

enum { PROCESSORS = 132 };

static void check_each_once(const tune_shapes_t *shapes) {
    for (int a = 0; a < shapes->count; a++) {
        for (int b = 0; b < a; b++) {
            char text[2][TUNE_SHAPE_TEXT];
            tune_shape_text(&shapes->all[a], text[0]);
            tune_shape_text(&shapes->all[b], text[1]);
            assert_string_not_equal(text[0], text[1]);
        }
    }
}

static void check_launches(const tune_shapes_t *shapes) {
    for (int i = 0; i < shapes->count; i++) {
        const tune_shape_t *shape = &shapes->all[i];
        char text[TUNE_SHAPE_TEXT];
        oh_device_forced_t forced;
        tune_shape_text(shape, text);
        if (oh_device_forced_parse(text, &forced) != ONEHOP_SUCCESS) fail_msg("%s", onehop_last_error());
        assert_string_equal(oh_device_algorithms[forced.algorithm].name, shape->algorithm);
        assert_true(forced.packets == shape->packets && forced.threads == shape->threads &&
                    forced.blocks == shape->blocks);
        assert_true(shape->packets == 1 || oh_device_algorithms[forced.algorithm].packets);
    }
}

static void test_on_gpus(void **state) {
    (void)state;
    /* Two algorithms with 1, 2 or 4 packets, three without; 64, 128, 256 or 512 threads. */
    static const struct {
        int max_blocks, most, kinds;
    } wishes[] = {{0, PROCESSORS, 3}, {1000, PROCESSORS, 3}, {100, 100, 3}, {50, 50, 2}, {33, 33, 1}, {1, 1, 1}};
    for (size_t i = 0; i < sizeof wishes / sizeof *wishes; i++) {
        tune_shapes_t shapes;
        tune_shapes_on_gpu(PROCESSORS, wishes[i].max_blocks, &shapes);
        assert_int_equal(shapes.count, wishes[i].kinds * (2 * 3 + 3) * 4);
        assert_int_equal(shapes.preferred, 0);
        assert_int_equal(shapes.all[0].blocks, wishes[i].most);
        check_each_once(&shapes);
        check_launches(&shapes);
    }
}

static void test_on_hosts(void **state) {
    (void)state;
    for (int registered = 0; registered < 2; registered++) {
        tune_shapes_t shapes;
        tune_shapes_on_host(registered, &shapes);
        assert_int_equal(shapes.count, 2 * 4 * 2 + 2 * registered);
        check_each_once(&shapes);
        for (int i = 0; i < shapes.count; i++) {
            char text[TUNE_SHAPE_TEXT];
            oh_forced_t forced;
            tune_shape_text(&shapes.all[i], text);
            if (oh_forced_parse(text, &forced) != ONEHOP_SUCCESS) fail_msg("%s", onehop_last_error());
            assert_true(forced.chunk_bytes == shapes.all[i].chunk_bytes && forced.stream == shapes.all[i].stream);
            assert_true(registered || !oh_algorithms[forced.algorithm].needs_registration);
        }
    }
}

static onehop_choice_t launch(const char *algorithm, int packets, int threads, int blocks) {
    return (onehop_choice_t){.algorithm = algorithm,
                             .chunk_bytes = 1 << 20,
                             .packets = packets,
                             .threads = threads,
                             .blocks = blocks,
                             .steps = 1};
}

static void expect_text(const tune_shapes_t *shapes, int index, const char *expected) {
    char text[TUNE_SHAPE_TEXT];
    tune_shape_text(&shapes->all[index], text);
    assert_string_equal(text, expected);
}

static void test_what_is_in_force_comes_first(void **state) {
    (void)state;
    tune_shapes_t shapes;
    tune_shapes_on_gpu(PROCESSORS, 0, &shapes);
    int count = shapes.count;
    onehop_choice_t choice = launch("two_shot_push", 2, 256, 17);
    for (int twice = 0; twice < 2; twice++) tune_shapes_prefer(&shapes, 1 << 20, &choice);
    choice = launch("one_shot_pull", 1, 64, PROCESSORS);
    tune_shapes_prefer(&shapes, 1 << 20, &choice);
    assert_int_equal(shapes.count, count);
    assert_int_equal(shapes.preferred, 2);
    expect_text(&shapes, 0, "two_shot_push:2:256:132");
    expect_text(&shapes, 1, "one_shot_pull:1:64:132");
    expect_text(&shapes, 2, "one_shot_push:1:64:132");
    choice = launch("one_shot_push", 1, 96, 3); /* which is none of ours */
    tune_shapes_prefer(&shapes, 1 << 20, &choice);
    assert_int_equal(shapes.count, count + 1);
    expect_text(&shapes, 2, "one_shot_push:1:96:132");
    expect_text(&shapes, 3, "one_shot_push:1:64:132");
    check_each_once(&shapes);
    check_launches(&shapes);
}

static void test_no_more_than_there_is_room_for(void **state) {
    (void)state;
    tune_shapes_t shapes;
    tune_shapes_on_gpu(PROCESSORS, 0, &shapes);
    for (int i = 0; i < 2 * TUNE_SHAPES; i++) {
        onehop_choice_t choice = launch("one_shot_push", 1, 1000 + i, 3);
        tune_shapes_prefer(&shapes, 1 << 20, &choice);
        assert_true(shapes.count <= TUNE_SHAPES && shapes.preferred <= shapes.count);
    }
    assert_int_equal(shapes.all[0].threads, 1000);
    check_each_once(&shapes);
}

static void test_hosts_prefer_too(void **state) {
    (void)state;
    tune_shapes_t shapes;
    onehop_choice_t whole = {.algorithm = "two_shot", .chunk_bytes = 5000};
    onehop_choice_t cut = {.algorithm = "two_shot", .chunk_bytes = 8192, .stream = 1};
    onehop_choice_t direct = {.algorithm = "direct", .chunk_bytes = 1 << 20};
    tune_shapes_on_host(true, &shapes);
    int count = shapes.count;
    tune_shapes_prefer(&shapes, 5000, &whole); /* smaller than any chunk */
    tune_shapes_prefer(&shapes, 1 << 20, &cut);
    tune_shapes_prefer(&shapes, 1 << 20, &direct);
    assert_int_equal(shapes.count, count + 1);
    expect_text(&shapes, 0, "two_shot:65536:cached");
    expect_text(&shapes, 1, "two_shot:8192:stream");
    expect_text(&shapes, 2, "direct:0:cached");
    check_each_once(&shapes);
}

static void test_sense(void **state) {
    (void)state;
    const tune_shape_t smallest = {"one_shot_push", 1, 64, PROCESSORS, 0, false};
    const tune_shape_t large = {"one_shot_push", 4, 512, PROCESSORS, 0, false},
                       one = {"one_shot_push", 4, 512, 1, 0, false};
    onehop_choice_t choice = launch("one_shot_push", 1, 64, 1);
    assert_true(tune_shape_is_sensible(&smallest, &choice));
    choice.steps = 17;
    assert_false(tune_shape_is_sensible(&smallest, &choice));
    choice = launch("one_shot_push", 4, 512, 7);
    assert_false(tune_shape_is_sensible(&large, &choice));
    choice.blocks = 8;
    assert_true(tune_shape_is_sensible(&large, &choice));
    choice.blocks = 1;
    assert_true(tune_shape_is_sensible(&one, &choice));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_on_gpus),
        cmocka_unit_test(test_on_hosts),
        cmocka_unit_test(test_what_is_in_force_comes_first),
        cmocka_unit_test(test_no_more_than_there_is_room_for),
        cmocka_unit_test(test_hosts_prefer_too),
        cmocka_unit_test(test_sense),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
