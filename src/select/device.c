/* SPDX-License-Identifier: Apache-2.0 */
#include "select/device.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/dtype.h"
#include "base/status.h"
#include "select/device_table.h"

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
    bool threads = forced->threads >= 32 && forced->threads <= 512 && forced->threads % 32 == 0;
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

/* The rows for this many ranks: the first table that reaches so far. */
static int table_for(int nranks) {
    for (size_t i = 0; i < oh_device_table_rows; i++) {
        if (oh_device_table[i].nranks >= nranks) return oh_device_table[i].nranks;
    }
    return oh_device_table[oh_device_table_rows - 1].nranks;
}

/* Rows without a table of their own, for what is never best here but may be forced. */
static const oh_device_row_t forced_rows[OH_DEVICE_ALGORITHMS] = {
    [OH_ONE_SHOT_PUSH] = {0, 0, OH_ONE_SHOT_PUSH, 1, 256, OH_GPU_TEAMS},
    [OH_TWO_SHOT_PUSH] = {0, 0, OH_TWO_SHOT_PUSH, 1, 256, OH_GPU_TEAMS},
    [OH_ONE_SHOT_PULL] = {0, 0, OH_ONE_SHOT_PULL, 1, 512, OH_GPU_TEAMS},
    [OH_TWO_SHOT_PULL] = {0, 0, OH_TWO_SHOT_PULL, 1, 512, OH_GPU_TEAMS},
    [OH_TWO_SHOT_BULK] = {0, 0, OH_TWO_SHOT_BULK, 1, 512, OH_GPU_TEAMS},
};

static oh_device_row_t find_row(const oh_device_question_t *q, size_t bytes) {
    const oh_device_forced_t *forced = &q->forced;
    const oh_device_row_t *best = NULL;
    int nranks = table_for(q->nranks);
    for (size_t i = 0; i < oh_device_table_rows; i++) {
        const oh_device_row_t *row = &oh_device_table[i];
        if (row->nranks != nranks || (forced->algorithm >= 0 && (int)row->algorithm != forced->algorithm)) continue;
        if (best == NULL || row->from_bytes <= bytes) best = row;
    }
    oh_device_row_t row = best != NULL ? *best : forced_rows[forced->algorithm];
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

/* As few steps as the bound on blocks allows, and then as few blocks as these steps need: all have as much to do. */
static void divide_work(const oh_device_question_t *q, const oh_device_row_t *row, oh_device_plan_t *plan) {
    size_t most = (size_t)(row->blocks < q->teams ? row->blocks : q->teams);
    if (q->max_blocks > 0 && (size_t)q->max_blocks < most) most = (size_t)q->max_blocks;
    if (q->share > 1) most = most > (size_t)q->share ? most / (size_t)q->share : 1;
    size_t shares = divide_up(plan->units, step_units(q, row)), steps = divide_up(shares, most);
    plan->steps = (unsigned)steps;
    plan->blocks = steps == 0 ? 1 : (int)divide_up(shares, steps);
}

static int at_most(int value, int bound) { return value < bound ? value : bound; }

/* Packets a thread in launches of several steps: kernels/packet.h says why a quarter of the ring, and half of it. */
static int packets_of_many(int packets, int ring) { return at_most(packets, ring / 4); }
static int packets_of_one(int packets, int ring) { return at_most(packets, ring / 2); }

static void explain(const oh_device_question_t *q, const oh_device_row_t *row, const oh_device_plan_t *plan,
                    char *reason) {
    const char *name = oh_device_algorithms[plan->algorithm].name;
    char source[96];
    if (row->nranks > 0) {
        snprintf(source, sizeof source, "table for %d ranks: %s from %zu bytes", row->nranks, name, row->from_bytes);
    } else {
        snprintf(source, sizeof source, "%s stands in no table", name);
    }
    snprintf(reason, sizeof((onehop_choice_t *)0)->reason, "%s%s; %d packet%s a thread, %u step%s",
             q->forced.algorithm >= 0 ? "forced by the configuration; " : "", source, plan->packets,
             plan->packets == 1 ? "" : "s", plan->steps, plan->steps == 1 ? "" : "s");
}

oh_device_plan_t oh_device_select(const oh_device_question_t *q, char *reason) {
    size_t bytes = q->count << oh_dtype_shift(q->dtype);
    oh_device_row_t row = find_row(q, bytes);
    const oh_device_algorithm_info_t *info = &oh_device_algorithms[row.algorithm];
    row.threads = at_most(row.threads, oh_device_threads_max(q->nranks, row.packets, false));
    if (info->packets) {
        /* A workspace smaller than usual, or more ranks, leave less room. */
        row.threads = at_most(row.threads, q->slot_packets);
        row.packets = packets_of_one(row.packets, q->ring);
    }
    oh_device_plan_t plan = {.algorithm = row.algorithm};
    plan.units = divide_up(bytes, oh_device_unit_bytes(row.algorithm, q->dtype, q->op));
    divide_work(q, &row, &plan);
    if (info->packets && plan.steps > 1) {
        row.packets = packets_of_many(row.packets, q->ring);
        row.threads = at_most(row.threads, oh_device_threads_max(q->nranks, row.packets, true));
        divide_work(q, &row, &plan);
    }
    plan.packets = row.packets;
    plan.threads = row.threads;
    if (reason != NULL) explain(q, &row, &plan, reason);
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

/* What a message of at most so many bytes needs, but at least of one element. */
static int add_size(oh_device_kernel_t *kernels, int count, oh_device_question_t question, size_t bytes) {
    question.count = bytes >> oh_dtype_shift(question.dtype);
    if (question.count == 0) question.count = 1;
    oh_device_plan_t plan = oh_device_select(&question, NULL);
    return add_kernel(kernels, count, oh_device_kernel_of(&plan));
}

/* Within a row, a larger message never takes fewer steps: so both ends of each row tell all. */
int oh_device_kernels(const oh_device_question_t *question, oh_device_kernel_t kernels[OH_DEVICE_KERNELS]) {
    int count = add_size(kernels, 0, *question, 0);
    for (size_t i = 0; i < oh_device_table_rows; i++) {
        const size_t from = oh_device_table[i].from_bytes;
        if (oh_device_table[i].nranks != table_for(question->nranks) || from == 0) continue;
        count = add_size(kernels, count, *question, from - 1);
        count = add_size(kernels, count, *question, from);
    }
    return add_size(kernels, count, *question, ENDLESS);
}

/* A thread keeps as many packets in registers as there are ranks and packets; in several steps, more than one step's.
 */
int oh_device_threads_max(int nranks, int packets, bool many) {
    const int kept = nranks * packets;
    if (many) return kept <= 4 ? 512 : kept <= 8 ? 256 : 128;
    return kept <= 8 ? 512 : 256;
}
