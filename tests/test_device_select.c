/* SPDX-License-Identifier: Apache-2.0 */
/* Unit tests of the choice on GPUs, and of how their workspace is divided. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "arena/device_sizes.h"
#include "base/config.h"
#include "base/dtype.h"
#include "base/status.h"
#include "select/built_in.h"
#include "select/device.h"
#include "select/model.h"

enum { ROUNDS = 200000, USUAL_WORKSPACE = 32 << 20, USUAL_MULTIPROCESSORS = 132 };
static const size_t LARGEST_WORKSPACE = (size_t)1 << 30, LARGEST_SWEPT = 64 << 20;

static unsigned seed;

static size_t up_to(size_t most) { return ((size_t)rand_r(&seed) << 31 | (size_t)rand_r(&seed)) % most + 1; }

/* As many small numbers as large ones. */
static size_t any_to_power(int power) { return up_to((size_t)1 << up_to((size_t)power)); }

static oh_device_forced_t forced_by(const char *text) {
    oh_device_forced_t forced;
    if (oh_device_forced_parse(text, &forced) != ONEHOP_SUCCESS) fail_msg("%s", onehop_last_error());
    return forced;
}

static oh_device_question_t question_of(size_t workspace, int nranks, int multiprocessors, const char *algorithm) {
    const oh_device_sizes_t sizes = oh_device_sizes_make(workspace, nranks, multiprocessors);
    return (oh_device_question_t){.nranks = nranks,
                                  .share = 1,
                                  .forced = forced_by(algorithm),
                                  .teams = sizes.teams,
                                  .ring = sizes.ring,
                                  .slot_packets = sizes.packets,
                                  .page_bytes = sizes.page_bytes};
}

static oh_device_question_t usual_question(int nranks, const char *algorithm) {
    return question_of(USUAL_WORKSPACE, nranks, USUAL_MULTIPROCESSORS, algorithm);
}

static void any_algorithm(char *text, size_t size) {
    static const int packets[] = {1, 2, 4};
    size_t kind = up_to(3);
    const char *name = oh_device_algorithms[up_to(OH_DEVICE_ALGORITHMS) - 1].name;
    if (kind == 1) snprintf(text, size, "auto");
    if (kind == 2) snprintf(text, size, "%s", name);
    if (kind == 3) {
        snprintf(text, size, "%s:%d:%zu:%zu", name, packets[up_to(3) - 1], 32 * up_to(16), any_to_power(9));
    }
}

static const oh_device_table_t *h200(int nranks) {
    static oh_device_table_t tables[OH_GPU_RANKS + 1];
    assert_true(oh_built_in_gpus("NVIDIA H200", OH_NVLINK, nranks, &tables[nranks]));
    return &tables[nranks];
}

/* The one that is built in, what the model says, or rows that nobody would wish for. */
static oh_device_table_t any_table(int nranks) {
    static const int packets[] = {1, 2, 4};
    oh_device_table_t table = *h200(nranks);
    size_t kind = up_to(3), from = 0;
    if (kind == 2) oh_model_gpus(nranks, (int)up_to(OH_GPU_TEAMS), (oh_links_t)(up_to(OH_LINKS) - 1), &table);
    if (kind < 3) return table;
    snprintf(table.name, sizeof table.name, "%.*s", OH_TABLE_NAME - 1,
             "the longest name that any table can ever have, to the last byte");
    table.measured = up_to(2) == 1;
    table.count = (int)up_to(OH_TABLE_ROWS);
    for (int i = 0; i < table.count; i++, from += any_to_power(24)) {
        const oh_device_algorithm_t algorithm = (oh_device_algorithm_t)(up_to(OH_DEVICE_ALGORITHMS) - 1);
        const int each = oh_device_algorithms[algorithm].packets ? packets[up_to(3) - 1] : 1;
        table.rows[i] = (oh_device_row_t){from, algorithm, each, (int)(32 * up_to(16)), (int)any_to_power(16)};
    }
    return table;
}

static oh_device_question_t any_question(void) {
    char text[64];
    any_algorithm(text, sizeof text);
    size_t workspace = OH_WORKSPACE_MIN + up_to(LARGEST_WORKSPACE - OH_WORKSPACE_MIN);
    if (up_to(2) == 1) workspace = OH_WORKSPACE_MIN + any_to_power(25);
    oh_device_question_t q = question_of(workspace, (int)up_to(OH_GPU_RANKS), (int)up_to(OH_GPU_TEAMS), text);
    q.count = up_to(10) == 1 ? 0 : any_to_power(32);
    q.dtype = (onehop_dtype_t)(up_to(OH_DTYPES) - 1);
    q.op = (onehop_op_t)(up_to(OH_OPS) - 1);
    q.share = (int)up_to((size_t)q.nranks);
    q.max_blocks = up_to(3) == 1 ? (int)any_to_power(9) : 0;
    return q;
}

/* ---- plans ---- */

/* Units of a step of the whole grid, as the kernels count them. */
static size_t grid_units(const oh_device_question_t *q, const oh_device_plan_t *plan) {
    const oh_device_algorithm_info_t *info = &oh_device_algorithms[plan->algorithm];
    size_t part = info->packets ? (size_t)plan->packets * (size_t)plan->threads
                                : oh_device_part_units(plan->algorithm, q->nranks, q->page_bytes);
    return part * (info->parts ? (size_t)q->nranks : 1) * (size_t)plan->blocks;
}

static void check_work(const oh_device_question_t *q, const oh_device_plan_t *plan) {
    const size_t bytes = q->count * onehop_dtype_size(q->dtype), units = grid_units(q, plan);
    const size_t unit = oh_device_unit_bytes(plan->algorithm, q->dtype, q->op), block = units / (size_t)plan->blocks;
    assert_true(plan->units * unit >= bytes && plan->units * unit < bytes + unit);
    assert_true(plan->steps * units >= plan->units);
    if (plan->blocks > 1) assert_true(plan->steps * (units - block) < plan->units);
    assert_true((plan->steps == 0) == (q->count == 0));
}

static void check_shape(const oh_device_question_t *q, const oh_device_plan_t *plan) {
    assert_true(plan->threads >= 32 && plan->threads % 32 == 0);
    assert_true(plan->threads <= oh_device_threads_max(q->nranks, plan->packets, oh_device_kernel_of(plan).many));
    assert_true(plan->packets == 1 || plan->packets == 2 || plan->packets == OH_DEVICE_PACKETS_MAX);
    if (oh_device_algorithms[plan->algorithm].packets) {
        assert_true(plan->packets <= q->ring / (plan->steps > 1 ? 4 : 2));
        assert_true(plan->threads <= q->slot_packets);
    } else {
        assert_int_equal(plan->packets, 1);
    }
    assert_true(plan->blocks >= 1 && plan->blocks <= q->teams);
    if (q->max_blocks > 0) assert_true(plan->blocks <= q->max_blocks);
    /* All that share a GPU are there at once, unless not even one block each would be. */
    assert_true(plan->blocks == 1 || plan->blocks * q->share <= q->teams);
}

static void test_plans_fit(void **state) {
    (void)state;
    for (int i = 0; i < ROUNDS; i++) {
        const oh_device_question_t q = any_question();
        const oh_device_table_t table = any_table(q.nranks);
        const oh_device_plan_t plan = oh_device_select(&q, &table, NULL);
        check_shape(&q, &plan);
        check_work(&q, &plan);
    }
}

/* Whoever asks, and whether he wants to know why: the answer is the same. */
static void test_plans_are_the_same_for_all(void **state) {
    (void)state;
    onehop_choice_t choice;
    for (int i = 0; i < ROUNDS; i++) {
        oh_device_question_t q = any_question(), again = q;
        const oh_device_table_t table = any_table(q.nranks);
        oh_device_plan_t plan = oh_device_select(&q, &table, NULL);
        oh_device_plan_t other = oh_device_select(&again, &table, choice.reason);
        assert_int_equal(plan.algorithm, other.algorithm);
        assert_int_equal(plan.packets, other.packets);
        assert_int_equal(plan.threads, other.threads);
        assert_int_equal(plan.blocks, other.blocks);
        assert_int_equal(plan.units, other.units);
        assert_int_equal(plan.steps, other.steps);
        assert_non_null(strstr(choice.reason, oh_device_algorithms[plan.algorithm].name));
        assert_non_null(strstr(choice.reason, table.name));
        assert_int_equal(q.forced.algorithm >= 0, strncmp(choice.reason, "forced", 6) == 0);
    }
}

/* ---- the table ---- */

static void test_rows_are_in_order(void **state) {
    (void)state;
    for (int nranks = 1; nranks <= OH_GPU_RANKS; nranks++) {
        const oh_device_table_t *table = h200(nranks);
        assert_int_equal(table->rows[0].from_bytes, 0);
        for (int i = 1; i < table->count; i++) {
            assert_true(table->rows[i].from_bytes > table->rows[i - 1].from_bytes);
        }
    }
}

static bool same(const oh_device_table_t *a, const oh_device_table_t *b) { return memcmp(a, b, sizeof *a) == 0; }

/* Every GPU that is called so, joined as it was when it was measured; other numbers of ranks take the next table. */
static void test_whose_table(void **state) {
    (void)state;
    oh_device_table_t table;
    assert_false(oh_built_in_gpus("NVIDIA H200", OH_PCIE, 2, &table));
    assert_false(oh_built_in_gpus("NVIDIA H100", OH_NVLINK, 2, &table));
    assert_false(oh_built_in_gpus("NVIDIA H20", OH_NVLINK, 2, &table));
    assert_true(oh_built_in_gpus("NVIDIA H200 SXM", OH_NVLINK, 2, &table) && same(&table, h200(2)));
    assert_string_equal(table.name, "built-in table for NVIDIA H200");
    assert_true(same(h200(1), h200(2)) && same(h200(3), h200(4)));
    for (int nranks = 5; nranks < 8; nranks++) assert_true(same(h200(nranks), h200(8)));
    assert_true(h200(2)->count == 9 && h200(4)->count == 6 && h200(8)->count == 5);
}

/* A message of exactly a row's bytes is reduced as the row says; one that is shorter, by the row before. */
static void check_row(int nranks, int index) {
    char reason[sizeof((onehop_choice_t *)0)->reason], words[64];
    const oh_device_table_t *table = h200(nranks);
    const oh_device_row_t *row = &table->rows[index];
    oh_device_question_t q = question_of(LARGEST_WORKSPACE, nranks, OH_GPU_TEAMS, "auto");
    q.dtype = ONEHOP_BFLOAT16;
    q.count = row->from_bytes > 0 ? (row->from_bytes + 1) / 2 : 1;
    oh_device_plan_t plan = oh_device_select(&q, table, reason);
    assert_int_equal(plan.algorithm, row->algorithm);
    assert_int_equal(plan.threads, row->threads);
    assert_true(plan.packets == row->packets || plan.steps > 1);
    assert_true(plan.blocks <= row->blocks);
    snprintf(words, sizeof words, " from %zu bytes;", row->from_bytes);
    if (strstr(reason, words) == NULL) fail_msg("expected \"%s\" in: %s", words, reason);
    if (index == 0) return;
    q.count--;
    oh_device_select(&q, table, reason);
    snprintf(words, sizeof words, " from %zu bytes;", row[-1].from_bytes);
    if (strstr(reason, words) == NULL) fail_msg("expected \"%s\" in: %s", words, reason);
}

static void test_rows_are_reached(void **state) {
    (void)state;
    for (int nranks = 2; nranks <= OH_GPU_RANKS; nranks *= 2) {
        for (int i = 0; i < h200(nranks)->count; i++) check_row(nranks, i);
    }
}

enum { GROWN = 264 * 1024 + 16 }; /* more than 132 blocks of 128 threads take in one step */

static oh_device_plan_t plan_of(const oh_device_table_t *table, size_t bytes, int max_blocks) {
    char reason[sizeof((onehop_choice_t *)0)->reason];
    oh_device_question_t q = usual_question(2, "auto");
    q.dtype = ONEHOP_FLOAT32;
    q.count = bytes / 4;
    q.max_blocks = max_blocks;
    oh_device_plan_t plan = oh_device_select(&q, table, reason);
    assert_int_equal(strstr(reason, "sooner") != NULL, bytes == GROWN && plan.steps == 1);
    return plan;
}

/* A row gives way where it needs a second step and the next one needs none; not where both do, nor to other kinds, nor
 * where it was measured. */
static void test_rows_give_way(void **state) {
    (void)state;
    const size_t kib = 1024, one_step = GROWN - 16;
    oh_device_table_t table = {"rows with a gap",
                               false,
                               3,
                               {{0, OH_ONE_SHOT_PUSH, 1, 128, 132},
                                {900 * kib, OH_TWO_SHOT_PUSH, 1, 512, 132},
                                {8192 * kib, OH_TWO_SHOT_BULK, 1, 512, 132}}};
    assert_int_equal(plan_of(&table, one_step, 0).algorithm, OH_ONE_SHOT_PUSH);
    assert_int_equal(plan_of(&table, GROWN, 0).algorithm, OH_TWO_SHOT_PUSH);
    assert_int_equal(plan_of(&table, GROWN, 0).steps, 1);
    assert_int_equal(plan_of(&table, GROWN, 8).algorithm, OH_ONE_SHOT_PUSH);
    assert_int_equal(plan_of(&table, 8000 * kib, 0).algorithm, OH_TWO_SHOT_PUSH);
    assert_int_equal(plan_of(&table, 8192 * kib, 0).algorithm, OH_TWO_SHOT_BULK);
    table.measured = true;
    assert_int_equal(plan_of(&table, GROWN, 0).algorithm, OH_ONE_SHOT_PUSH);
}

/* ---- kernels ---- */

static bool is_listed(const oh_device_kernel_t *kernels, int count, oh_device_kernel_t wanted) {
    for (int i = 0; i < count; i++) {
        const oh_device_kernel_t *k = &kernels[i];
        if (k->algorithm == wanted.algorithm && k->packets == wanted.packets && k->many == wanted.many) return true;
    }
    return false;
}

/* Sizes that are far enough from one another to be many, close enough to meet every row before and after its ends. */
static size_t next_size(size_t bytes) { return bytes + (bytes < 4096 ? 16 : bytes / 128); }

static void check_kernels(oh_device_question_t q, const oh_device_table_t *table) {
    oh_device_kernel_t kernels[OH_DEVICE_KERNELS];
    bool used[OH_DEVICE_KERNELS] = {false};
    int count = oh_device_kernels(&q, table, kernels);
    assert_true(count >= 1 && count < OH_DEVICE_KERNELS); /* none was left out */
    for (size_t bytes = 16; bytes <= LARGEST_SWEPT; bytes = next_size(bytes)) {
        q.count = bytes / onehop_dtype_size(q.dtype);
        oh_device_plan_t plan = oh_device_select(&q, table, NULL);
        oh_device_kernel_t wanted = oh_device_kernel_of(&plan);
        if (!is_listed(kernels, count, wanted)) {
            fail_msg("%d ranks, %zu bytes of %s: %s of %d packets%s is not listed", q.nranks, bytes,
                     onehop_dtype_string(q.dtype), oh_device_algorithms[wanted.algorithm].name, wanted.packets,
                     wanted.many ? ", several steps" : "");
        }
        for (int i = 0; i < count; i++) used[i] |= is_listed(&kernels[i], 1, wanted);
    }
    for (int i = 0; i < count; i++) {
        if (used[i] || kernels[i].many) continue;
        fail_msg("%d ranks, %s %s: %s of %d packets is compiled in vain", q.nranks, onehop_dtype_string(q.dtype),
                 onehop_op_string(q.op), oh_device_algorithms[kernels[i].algorithm].name, kernels[i].packets);
    }
}

/* Nothing is compiled later than at the first use of a type and operation. */
static void test_kernels_are_listed(void **state) {
    (void)state;
    for (int nranks = 1; nranks <= OH_GPU_RANKS; nranks++) {
        for (int dtype = 0; dtype < OH_DTYPES; dtype++) {
            for (int op = 0; op < OH_OPS; op++) {
                for (int a = -1; a < OH_DEVICE_ALGORITHMS; a++) {
                    oh_device_question_t q = usual_question(nranks, a < 0 ? "auto" : oh_device_algorithms[a].name);
                    q.dtype = (onehop_dtype_t)dtype;
                    q.op = (onehop_op_t)op;
                    check_kernels(q, h200(nranks));
                }
            }
        }
    }
}

/* Nor with other settings and tables. */
static void test_kernels_of_any_settings(void **state) {
    (void)state;
    oh_device_kernel_t kernels[OH_DEVICE_KERNELS];
    for (int i = 0; i < ROUNDS; i++) {
        oh_device_question_t q = any_question();
        const oh_device_table_t table = any_table(q.nranks);
        if (q.count == 0) continue;
        oh_device_plan_t plan = oh_device_select(&q, &table, NULL);
        q.count = 0;
        assert_true(is_listed(kernels, oh_device_kernels(&q, &table, kernels), oh_device_kernel_of(&plan)));
    }
}

/* ---- the model ---- */

static const oh_device_row_t *row_for(const oh_device_table_t *table, size_t bytes) {
    int i = table->count - 1;
    while (table->rows[i].from_bytes > bytes) i--;
    return &table->rows[i];
}

static size_t two_shot_from(const oh_device_table_t *table) {
    for (int i = 0; i < table->count; i++) {
        if (table->rows[i].algorithm == OH_TWO_SHOT_PUSH) return table->rows[i].from_bytes;
    }
    return SIZE_MAX;
}

static bool within_twice(size_t a, size_t b) { return a <= 2 * b && b <= 2 * a; }

/* Where there are measurements, the model says nearly the same. */
static void test_model_is_close(void **state) {
    (void)state;
    for (int nranks = 2; nranks <= 4; nranks += 2) {
        oh_device_table_t model;
        oh_model_gpus(nranks, USUAL_MULTIPROCESSORS, OH_NVLINK, &model);
        const size_t change = two_shot_from(h200(nranks));
        assert_true(within_twice(two_shot_from(&model), change));
        for (size_t bytes = 16; bytes <= LARGEST_SWEPT; bytes = next_size(bytes)) {
            const oh_device_row_t *measured = row_for(h200(nranks), bytes), *said = row_for(&model, bytes);
            if (measured->algorithm == OH_TWO_SHOT_BULK) continue; /* the model knows packets alone */
            if (measured->algorithm != said->algorithm) {
                assert_true(within_twice(bytes, change));
            } else if (!within_twice((size_t)(measured->threads * measured->packets),
                                     (size_t)(said->threads * said->packets))) {
                fail_msg("%d ranks, %zu bytes: %d threads of %d packets, measured %d of %d", nranks, bytes,
                         said->threads, said->packets, measured->threads, measured->packets);
            }
        }
    }
}

static void check_model(int nranks, int blocks, oh_links_t links) {
    oh_device_table_t model;
    const oh_device_question_t q = question_of(LARGEST_WORKSPACE, nranks, blocks, "auto");
    oh_model_gpus(nranks, oh_device_blocks_max(&q), links, &model);
    assert_string_equal(model.name, "model");
    assert_true(model.count >= 1 && model.count <= OH_TABLE_ROWS && model.rows[0].from_bytes == 0);
    const bool thinned = nranks == 2 && links == OH_NVLINK && blocks > 32 && blocks < 86;
    for (int i = 0; i < model.count; i++) {
        const oh_device_row_t *row = &model.rows[i];
        assert_true(row->threads <= oh_device_threads_max(nranks, row->packets, false));
        assert_int_equal(row->blocks, thinned && i + 1 == model.count ? 32 : blocks);
        assert_true(row->algorithm == (row->from_bytes >= two_shot_from(&model) ? OH_TWO_SHOT_PUSH : OH_ONE_SHOT_PUSH));
        if (i + 1 == model.count) break;
        assert_true(row[1].from_bytes > row->from_bytes);
        /* What a row with a larger one of its kind behind it takes, it takes in one step. */
        if (row[1].algorithm != row->algorithm) continue;
        const size_t parts = row->algorithm == OH_TWO_SHOT_PUSH ? (size_t)nranks : 1;
        const size_t step = (size_t)(row->threads * row->packets * blocks) * OH_PACKET * parts;
        assert_int_equal(row[1].from_bytes, step + 1);
    }
    check_kernels(question_of(USUAL_WORKSPACE, nranks, blocks, "auto"), &model);
}

/* Between two GPUs several steps of 33 to 85 blocks are slower than those of 32. */
static void test_model_of_two_gpus(void **state) {
    (void)state;
    static const struct { int bound, blocks; } expected[] = {{8, 8}, {32, 32}, {33, 32}, {64, 32}, {85, 32}, {86, 86}};
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        oh_device_table_t model;
        oh_device_question_t q = question_of(USUAL_WORKSPACE, 2, expected[i].bound, "auto");
        oh_model_gpus(2, expected[i].bound, OH_NVLINK, &model);
        q.dtype = ONEHOP_BFLOAT16;
        q.count = (size_t)expected[i].bound * 32 * 1024; /* one step of them all */
        const oh_device_plan_t once = oh_device_select(&q, &model, NULL);
        assert_true(once.algorithm == OH_TWO_SHOT_PUSH && once.steps == 1 && once.blocks == expected[i].bound);
        q.count = 64 << 20;
        const oh_device_plan_t many = oh_device_select(&q, &model, NULL);
        assert_true(many.algorithm == OH_TWO_SHOT_PUSH && many.blocks == expected[i].blocks);
    }
}

/* On every GPU, however small. */
static void test_model_of_any_gpu(void **state) {
    (void)state;
    for (int nranks = 1; nranks <= OH_GPU_RANKS; nranks++) {
        for (int blocks = 1; blocks <= OH_GPU_TEAMS; blocks += 1 + blocks / 8) {
            check_model(nranks, blocks, OH_NVLINK);
            check_model(nranks, blocks, OH_PCIE);
        }
    }
}

/* Slower wires call for two-shot earlier, as do more ranks. */
static void test_model_of_wires(void **state) {
    (void)state;
    size_t before = SIZE_MAX;
    for (int nranks = 3; nranks <= OH_GPU_RANKS; nranks++) {
        oh_device_table_t nvlink, pcie;
        oh_model_gpus(nranks, USUAL_MULTIPROCESSORS, OH_NVLINK, &nvlink);
        oh_model_gpus(nranks, USUAL_MULTIPROCESSORS, OH_PCIE, &pcie);
        assert_true(two_shot_from(&pcie) < two_shot_from(&nvlink) / 8 && two_shot_from(&nvlink) < before);
        before = two_shot_from(&nvlink);
    }
}

/* ---- what is forced ---- */

static void test_forced(void **state) {
    (void)state;
    assert_int_equal(forced_by("auto").algorithm, -1);
    for (int i = 0; i < OH_DEVICE_ALGORITHMS; i++) {
        char text[64];
        const oh_device_forced_t plain = forced_by(oh_device_algorithms[i].name);
        assert_int_equal(plain.algorithm, i);
        assert_true(plain.packets == 0 && plain.threads == 0 && plain.blocks == 0);
        snprintf(text, sizeof text, "%s:2:96:17", oh_device_algorithms[i].name);
        const oh_device_forced_t shaped = forced_by(text);
        assert_int_equal(shaped.algorithm, i);
        assert_true(shaped.packets == 2 && shaped.threads == 96 && shaped.blocks == 17);

        oh_device_question_t q = usual_question(4, text);
        q.count = 4 << 20;
        oh_device_plan_t plan = oh_device_select(&q, h200(4), NULL);
        assert_int_equal(plan.algorithm, i);
        assert_true(plan.threads == 96 && plan.blocks <= 17);
    }
}

/* However much is asked for, and room there is, a thread keeps no more packets than it has registers for. */
static void test_registers(void **state) {
    (void)state;
    for (int nranks = 1; nranks <= OH_GPU_RANKS; nranks++) {
        oh_device_question_t q =
            question_of(LARGEST_WORKSPACE, nranks, USUAL_MULTIPROCESSORS, "two_shot_push:4:128:132");
        q.count = 1 << 18;
        const oh_device_plan_t plan = oh_device_select(&q, h200(nranks), NULL);
        assert_int_equal(plan.steps, 1);
        assert_int_equal(plan.packets, nranks == 8 ? 2 : 4);
    }
}

static void expect_refused(const char *text, const char *words) {
    oh_device_forced_t forced;
    assert_int_equal(oh_device_forced_parse(text, &forced), ONEHOP_INVALID_ARGUMENT);
    if (strstr(onehop_last_error(), text) == NULL || strstr(onehop_last_error(), words) == NULL) {
        fail_msg("expected \"%s\" and \"%s\" in: %s", text, words, onehop_last_error());
    }
}

static void test_bad_names(void **state) {
    (void)state;
    static const char *const names[] = {
        "", "Auto", "auto:1:64:1", "one_shot", "one_shot_push_", " one_shot_push", "two_shot_pushy", ":1:64:1"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        expect_refused(names[i], "expected auto, one_shot_push, two_shot_push, one_shot_pull, two_shot_pull or "
                                 "two_shot_bulk on GPUs");
    }
}

static void test_bad_shapes(void **state) {
    (void)state;
    static const char *const shapes[] = {":",       ":1",       ":1:64",    ":1:64:",    ":1:64:0",  ":1:64:-1",
                                         ":0:64:1", ":3:64:1",  ":8:64:1",  ":-1:64:1",  ":1:0:1",   ":1:16:1",
                                         ":1:33:1", ":1:544:1", ":1:-64:1", ":1:64:1:1", ":1:64:1x", ":1:64:1 ",
                                         ":x:64:1", ":1:64:x",  "::64:1",   ":1::1"};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        char text[64];
        snprintf(text, sizeof text, "two_shot_push%s", shapes[i]);
        expect_refused(text, "expected NAME:PACKETS:THREADS:BLOCKS, with 1, 2 or 4 packets, 32 to 512 threads");
    }
}

/* ---- the workspace ---- */

static void check_sizes(size_t workspace, int nranks, int multiprocessors) {
    const oh_device_sizes_t s = oh_device_sizes_make(workspace, nranks, multiprocessors);
    const size_t peers = nranks > 1 ? (size_t)nranks - 1 : 1, teams = (size_t)s.teams;
    assert_true(s.teams >= 1 && s.teams <= multiprocessors && s.teams <= OH_GPU_TEAMS);
    assert_true(s.ring == 4 || s.ring == 8);
    assert_true(s.packets >= 32 && s.packets % 32 == 0);
    assert_int_equal(s.packet_bytes, OH_RINGS * (size_t)s.ring * peers * teams * (size_t)s.packets * OH_PACKET);
    assert_true(s.pages_at >= OH_PACKETS_AT + s.packet_bytes && s.pages_at % OH_PACKET == 0);
    assert_int_equal(s.page_bytes % OH_PACKET, 0);
    assert_true(s.total <= workspace && s.total >= s.pages_at + s.page_bytes * teams);
    for (int a = 0; a < OH_DEVICE_ALGORITHMS; a++) {
        size_t part = oh_device_part_units((oh_device_algorithm_t)a, nranks, s.page_bytes);
        assert_int_equal(part == 0, oh_device_algorithms[a].packets);
    }
}

/* The parts that an algorithm makes of a page lie within it. */
static void check_parts(size_t page_bytes, int nranks) {
    const size_t n = (size_t)nranks, peers = n > 1 ? n - 1 : 1, units = page_bytes / OH_PACKET;
    assert_true(2 * oh_device_part_units(OH_ONE_SHOT_PULL, nranks, page_bytes) <= units);
    assert_true((n + 1) * oh_device_part_units(OH_TWO_SHOT_PULL, nranks, page_bytes) <= units);
    assert_true(2 * peers * oh_device_part_units(OH_TWO_SHOT_BULK, nranks, page_bytes) <= units);
}

static void test_sizes_fit_the_workspace(void **state) {
    (void)state;
    for (int nranks = 1; nranks <= OH_GPU_RANKS; nranks++) {
        for (int multiprocessors = 1; multiprocessors <= OH_GPU_TEAMS; multiprocessors++) {
            for (size_t w = OH_WORKSPACE_MIN; w <= LARGEST_WORKSPACE; w += w / 16) {
                check_sizes(w, nranks, multiprocessors);
                check_sizes(w + up_to(w / 16) - 1, nranks, multiprocessors);
            }
            check_sizes(LARGEST_WORKSPACE, nranks, multiprocessors);
        }
        for (size_t page = 0; page < 65536; page += 16) check_parts(page, nranks);
    }
}

/* What the default has room for: all teams of a GPU, with as much for each as the table asks for. */
static void test_usual_sizes(void **state) {
    (void)state;
    for (int nranks = 1; nranks <= OH_GPU_RANKS; nranks++) {
        const oh_device_sizes_t s = oh_device_sizes_make(USUAL_WORKSPACE, nranks, USUAL_MULTIPROCESSORS);
        assert_true(s.total <= USUAL_WORKSPACE && s.total > USUAL_WORKSPACE / 16 * 15);
        assert_int_equal(s.teams, USUAL_MULTIPROCESSORS);
        assert_true(s.packets >= (nranks <= 4 ? 512 : 192));
    }
}

int main(void) {
    seed = (unsigned)time(NULL);
    print_message("seed %u\n", seed);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plans_fit),
        cmocka_unit_test(test_plans_are_the_same_for_all),
        cmocka_unit_test(test_rows_are_in_order),
        cmocka_unit_test(test_whose_table),
        cmocka_unit_test(test_rows_are_reached),
        cmocka_unit_test(test_rows_give_way),
        cmocka_unit_test(test_kernels_are_listed),
        cmocka_unit_test(test_kernels_of_any_settings),
        cmocka_unit_test(test_model_is_close),
        cmocka_unit_test(test_model_of_two_gpus),
        cmocka_unit_test(test_model_of_any_gpu),
        cmocka_unit_test(test_model_of_wires),
        cmocka_unit_test(test_forced),
        cmocka_unit_test(test_registers),
        cmocka_unit_test(test_bad_names),
        cmocka_unit_test(test_bad_shapes),
        cmocka_unit_test(test_sizes_fit_the_workspace),
        cmocka_unit_test(test_usual_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
