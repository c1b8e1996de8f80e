/* SPDX-License-Identifier: Apache-2.0 */
#include "select/device.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/dtype.h"
#include "base/status.h"

const oh_device_algorithm_info_t oh_device_algorithms[OH_DEVICE_ALGORITHMS] = {
    [OH_ONE_SHOT_PUSH] = {"one_shot_push", "every rank sends its input to all, and reduces everything; no barrier",
                          "one_shot_push.cu", true, false},
    [OH_TWO_SHOT_PUSH] = {"two_shot_push", "every rank reduces its part and sends the result to all; no barrier",
                          "two_shot_push.cu", true, true},
    [OH_ONE_SHOT_PULL] = {"one_shot_pull", "every rank reads all inputs and reduces everything; one barrier",
                          "one_shot_pull.cu", false, false},
    [OH_TWO_SHOT_PULL] = {"two_shot_pull", "every rank reduces its part and reads the others' results; two barriers",
                          "two_shot_pull.cu", false, true},
    [OH_TWO_SHOT_BULK] = {"two_shot_bulk", "two_shot_push of plain data; two barriers", "two_shot_bulk.cu", false,
                          true},
};

/* ---- what is forced ---- */

static onehop_result_t parse_shape(const char *text, const char *shape, oh_device_forced_t *forced) {
    int end = 0;
    int numbers = sscanf(shape, ":%d:%d:%d%n", &forced->packets, &forced->threads, &forced->blocks, &end);
    bool packets = forced->packets == 1 || forced->packets == 2 || forced->packets == OH_DEVICE_PACKETS_MAX;
    bool threads = forced->threads >= OH_THREADS_STEP && forced->threads <= OH_THREADS_MAX &&
                   forced->threads % OH_THREADS_STEP == 0;
    if (numbers == 3 && shape[end] == '\0' && packets && threads && forced->blocks >= 1) return ONEHOP_SUCCESS;
    return oh_fail(ONEHOP_INVALID_ARGUMENT,
                   "algorithm is \"%s\": expected NAME:PACKETS:THREADS:BLOCKS, with 1, 2 or 4 packets, 32 to 512 "
                   "threads (a multiple of 32), and at least 1 block",
                   text);
}

onehop_result_t oh_device_forced_parse(const char *text, oh_device_forced_t *forced) {
    *forced = (oh_device_forced_t){.algorithm = -1};
    if (strcmp(text, "auto") == 0) return ONEHOP_SUCCESS;
    size_t length = strcspn(text, ":");
    for (int i = 0; i < OH_DEVICE_ALGORITHMS; i++) {
        const char *name = oh_device_algorithms[i].name;
        if (strlen(name) != length || strncmp(name, text, length) != 0) continue;
        forced->algorithm = i;
        return text[length] == '\0' ? ONEHOP_SUCCESS : parse_shape(text, text + length, forced);
    }
    return oh_fail(ONEHOP_INVALID_ARGUMENT, "algorithm is \"%s\": expected auto, %s, %s, %s, %s or %s on GPUs", text,
                   oh_device_algorithms[0].name, oh_device_algorithms[1].name, oh_device_algorithms[2].name,
                   oh_device_algorithms[3].name, oh_device_algorithms[4].name);
}

/* ---- which row ---- */

/* Rows for what is forced and stands in no table. */
static const oh_device_row_t forced_rows[OH_DEVICE_ALGORITHMS] = {
    [OH_ONE_SHOT_PUSH] = {0, OH_ONE_SHOT_PUSH, 1, 256, OH_GPU_TEAMS},
    [OH_TWO_SHOT_PUSH] = {0, OH_TWO_SHOT_PUSH, 1, 256, OH_GPU_TEAMS},
    [OH_ONE_SHOT_PULL] = {0, OH_ONE_SHOT_PULL, 1, 512, OH_GPU_TEAMS},
    [OH_TWO_SHOT_PULL] = {0, OH_TWO_SHOT_PULL, 1, 512, OH_GPU_TEAMS},
    [OH_TWO_SHOT_BULK] = {0, OH_TWO_SHOT_BULK, 1, 512, OH_GPU_TEAMS},
};

/* The last row of the table that fits, and of what is forced at least the first; NULL if there is none. */
static const oh_device_row_t *find_row(const oh_device_table_t *table, size_t bytes, int forced) {
    const oh_device_row_t *best = NULL;
    for (int i = 0; i < table->count; i++) {
        const oh_device_row_t *row = &table->rows[i];
        if (forced >= 0 && (int)row->algorithm != forced) continue;
        if (best == NULL || row->from_bytes <= bytes) best = row;
    }
    return best;
}

static oh_device_row_t shaped(oh_device_row_t row, const oh_device_forced_t *forced) {
    if (forced->threads > 0) {
        row.threads = forced->threads;
        row.blocks = forced->blocks;
        if (oh_device_algorithms[row.algorithm].packets) row.packets = forced->packets;
    }
    return row;
}

size_t oh_device_unit_bytes(oh_device_algorithm_t algorithm, onehop_dtype_t dtype, onehop_op_t op) {
    bool floating = dtype <= ONEHOP_FLOAT64, adds = op == ONEHOP_SUM || op == ONEHOP_AVG;
    if (!oh_device_algorithms[algorithm].packets || (floating && adds)) return OH_PACKET;
    return onehop_dtype_size(dtype) == 8 ? 8 : 12; /* the rest of a packet says that it is one: kernels/packet.h */
}

/* ---- how many blocks ---- */

static size_t divide_up(size_t a, size_t b) { return (a + b - 1) / b; }

size_t oh_device_part_units(oh_device_algorithm_t algorithm, int nranks, size_t page_bytes) {
    size_t units = page_bytes / OH_PACKET, n = (size_t)nranks, peers = n > 1 ? n - 1 : 1;
    switch (algorithm) {
    case OH_ONE_SHOT_PULL: return units / 2;
    case OH_TWO_SHOT_PULL: return units / (n + 1);
    case OH_TWO_SHOT_BULK: return units / (2 * peers);
    default: return 0;
    }
}

/* Units that one block moves in a step. */
static size_t step_units(const oh_device_question_t *q, const oh_device_row_t *row) {
    const oh_device_algorithm_info_t *info = &oh_device_algorithms[row->algorithm];
    size_t each = info->packets ? (size_t)row->packets * (size_t)row->threads
                                : oh_device_part_units(row->algorithm, q->nranks, q->page_bytes);
    return info->parts ? each * (size_t)q->nranks : each;
}

static int at_most(int value, int bound) { return value < bound ? value : bound; }

/* Of the blocks that a row asks for, what a launch can have. */
static int most_blocks(const oh_device_question_t *q, int blocks) {
    int most = at_most(blocks, q->teams);
    if (q->max_blocks > 0) most = at_most(most, q->max_blocks);
    if (q->share > 1) most = most > q->share ? most / q->share : 1;
    return most;
}

int oh_device_blocks_max(const oh_device_question_t *q) { return most_blocks(q, q->teams); }

/* As few steps as the bound on blocks allows, and then as few blocks as these steps need: all have as much to do. */
static void divide_work(const oh_device_question_t *q, const oh_device_row_t *row, oh_device_plan_t *plan) {
    size_t most = (size_t)most_blocks(q, row->blocks);
    size_t shares = divide_up(plan->units, step_units(q, row)), steps = divide_up(shares, most);
    plan->steps = (unsigned)steps;
    plan->blocks = steps == 0 ? 1 : (int)divide_up(shares, steps);
}

/* Packets a thread in launches of several steps: kernels/packet.h says why a quarter of the ring, and half of it. */
static int packets_of_many(int packets, int ring) { return at_most(packets, ring / 4); }
static int packets_of_one(int packets, int ring) { return at_most(packets, ring / 2); }

/* A thread keeps as many packets in registers as there are ranks and packets; more than these would be spilled. */
enum { KEPT_MAX = 28 };
static int packets_of_ranks(int packets, int nranks) {
    while (packets * nranks > KEPT_MAX) packets /= 2;
    return packets;
}

/* `row` is NULL where the table has none for what is forced; `sooner`: the row before has given way to it. */
static void explain(const oh_device_table_t *table, const oh_device_row_t *row, bool sooner,
                    const oh_device_plan_t *plan, bool forced, char *reason) {
    const char *name = oh_device_algorithms[plan->algorithm].name, *why = forced ? "forced by the configuration; " : "";
    const size_t room = sizeof((onehop_choice_t *)0)->reason;
    int length = row != NULL ? snprintf(reason, room, "%s%s: %s from %zu bytes%s", why, table->name, name,
                                        row->from_bytes, sooner ? ", sooner for one step" : "")
                             : snprintf(reason, room, "%s%s has no %s", why, table->name, name);
    snprintf(reason + length, room - (size_t)length, "; %d packet%s a thread, %u step%s", plan->packets,
             plan->packets == 1 ? "" : "s", plan->steps, plan->steps == 1 ? "" : "s");
}

static oh_device_plan_t plan_row(const oh_device_question_t *q, oh_device_row_t row) {
    const oh_device_algorithm_info_t *info = &oh_device_algorithms[row.algorithm];
    row.packets = packets_of_ranks(row.packets, q->nranks);
    row.threads = at_most(row.threads, oh_device_threads_max(q->nranks, row.packets, false));
    if (info->packets) {
        /* A workspace smaller than usual, or more ranks, leave less room. */
        row.threads = at_most(row.threads, q->slot_packets);
        row.packets = packets_of_one(row.packets, q->ring);
    }
    oh_device_plan_t plan = {.algorithm = row.algorithm};
    plan.units = divide_up(q->count << oh_dtype_shift(q->dtype), oh_device_unit_bytes(row.algorithm, q->dtype, q->op));
    divide_work(q, &row, &plan);
    if (info->packets && plan.steps > 1) {
        row.packets = packets_of_many(row.packets, q->ring);
        row.threads = at_most(row.threads, oh_device_threads_max(q->nranks, row.packets, true));
        divide_work(q, &row, &plan);
    }
    plan.packets = row.packets;
    plan.threads = row.threads;
    return plan;
}

/*
 * The row that a row gives way to where a message has grown into its second step, and is one step of the next: the
 * table's rows end where sums of floats do that, and other data have less room in a packet. What was measured stands.
 */
static const oh_device_row_t *row_after(const oh_device_table_t *table, const oh_device_row_t *row, int forced) {
    if (table->measured || row == NULL || row == &table->rows[table->count - 1]) return NULL;
    const oh_device_row_t *next = row + 1;
    if (forced >= 0 && (int)next->algorithm != forced) return NULL;
    return oh_device_algorithms[row->algorithm].packets && oh_device_algorithms[next->algorithm].packets ? next : NULL;
}

oh_device_plan_t oh_device_select(const oh_device_question_t *q, const oh_device_table_t *table, char *reason) {
    const oh_device_forced_t *forced = &q->forced;
    const oh_device_row_t *row = find_row(table, q->count << oh_dtype_shift(q->dtype), forced->algorithm);
    const oh_device_row_t *next = row_after(table, row, forced->algorithm);
    oh_device_plan_t plan = plan_row(q, shaped(row != NULL ? *row : forced_rows[forced->algorithm], forced));
    bool sooner = false;
    if (plan.steps > 1 && next != NULL) {
        oh_device_plan_t other = plan_row(q, shaped(*next, forced));
        sooner = other.steps == 1;
        if (sooner) plan = other;
    }
    if (reason != NULL) explain(table, sooner ? next : row, sooner, &plan, forced->algorithm >= 0, reason);
    return plan;
}

/* ---- kernels ---- */

oh_device_kernel_t oh_device_kernel_of(const oh_device_plan_t *plan) {
    bool many = oh_device_algorithms[plan->algorithm].packets && plan->steps > 1;
    return (oh_device_kernel_t){plan->algorithm, plan->packets, many};
}

static const size_t ENDLESS = (size_t)1 << 30; /* takes several steps of any kernel that has packets */

static int add_kernel(oh_device_kernel_t *kernels, int count, oh_device_kernel_t kernel) {
    for (int i = 0; i < count; i++) {
        const oh_device_kernel_t *k = &kernels[i];
        if (k->algorithm == kernel.algorithm && k->packets == kernel.packets && k->many == kernel.many) return count;
    }
    if (count < OH_DEVICE_KERNELS) kernels[count++] = kernel;
    return count;
}

/* What a message of so many elements needs, but at least of one. */
static int add_count(oh_device_kernel_t *kernels, int known, oh_device_question_t question,
                     const oh_device_table_t *table, size_t count) {
    question.count = count > 0 ? count : 1;
    oh_device_plan_t plan = oh_device_select(&question, table, NULL);
    return add_kernel(kernels, known, oh_device_kernel_of(&plan));
}

/* The smallest message that is too large for one step of the row; SIZE_MAX: it goes round in another way. */
static size_t second_step_from(oh_device_question_t question, const oh_device_row_t *row) {
    if (!oh_device_algorithms[row->algorithm].packets) return SIZE_MAX;
    question.count = 1;
    const oh_device_plan_t plan = plan_row(&question, shaped(*row, &question.forced));
    const oh_device_row_t one = {.algorithm = row->algorithm, .packets = plan.packets, .threads = plan.threads};
    const size_t units = step_units(&question, &one) * (size_t)most_blocks(&question, row->blocks);
    return units * oh_device_unit_bytes(row->algorithm, question.dtype, question.op) + 1;
}

/*
 * Within a row, a larger message never takes fewer steps of it, nor of the row after it: so both its ends, and where it
 * needs a second step, tell all.
 */
int oh_device_kernels(const oh_device_question_t *question, const oh_device_table_t *table,
                      oh_device_kernel_t kernels[OH_DEVICE_KERNELS]) {
    const size_t size = onehop_dtype_size(question->dtype);
    int known = 0;
    for (int i = 0; i < table->count; i++) {
        const bool last = i + 1 == table->count;
        const size_t from = table->rows[i].from_bytes, until = last ? ENDLESS : table->rows[i + 1].from_bytes;
        const size_t second = second_step_from(*question, &table->rows[i]);
        known = add_count(kernels, known, *question, table, divide_up(from, size));
        if (second < ENDLESS) known = add_count(kernels, known, *question, table, divide_up(second, size));
        known = add_count(kernels, known, *question, table, divide_up(until, size) - 1);
    }
    return known;
}

/* The packets that a thread keeps leave registers for so many; in several steps it keeps more than one step's. */
int oh_device_threads_max(int nranks, int packets, bool many) {
    const int kept = nranks * packets;
    if (many) return kept <= 4 ? 512 : kept <= 8 ? 256 : 128;
    return kept <= 8 ? 512 : kept <= 20 ? 256 : 128;
}
