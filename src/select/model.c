/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For a message of S bytes between n GPUs, each of which sends BW bytes in a microsecond, the wire alone takes
 *
 *     one-shot   1.46 us + S (n-1) / BW
 *     two-shot   2.16 us + 2 S (n-1) / n / BW
 *
 * (the constants were measured on H200: one hand-over, and two). Where both are equal the algorithm changes. A few
 * blocks send less than the wire could take. Between two GPUs both algorithms send as much, and one-shot is ahead until
 * it needs a second step, for which it must wait: two-shot has several steps under way at once.
 *
 * Small blocks start and meet sooner: so threads, and then packets a thread, are the fewest with which all blocks
 * together take the whole message in one step.
 */
#include "select/model.h"

#include <stdint.h>

#include "arena/device_layout.h"
#include "select/device.h"

static const double second_hand_over_us = 2.16 - 1.46;
static const double bytes_in_us[OH_LINKS] = {[OH_PCIE] = 25e3, [OH_NVLINK] = 347e3};
static const double block_bytes_in_us = 20e3;

/* No measured table has a step of a two-shot's block with fewer packets. */
enum { TWO_SHOT_STEP_MIN = 512 };

static const struct { int threads, packets; } shapes[] = {{64, 1}, {128, 1}, {256, 1}, {512, 1}, {512, 2}, {512, 4}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

/* How many of the shapes a kernel for so many ranks has registers for. */
static int usable_shapes(int nranks) {
    int count = 0;
    while (count < SHAPES && shapes[count].threads <= oh_device_threads_max(nranks, shapes[count].packets, false)) {
        count++;
    }
    return count;
}

/* Bytes of a message that all blocks together take in one step. */
static size_t grid_bytes(int nranks, int blocks, oh_device_algorithm_t algorithm, int shape) {
    size_t parts = oh_device_algorithms[algorithm].parts ? (size_t)nranks : 1;
    return (size_t)shapes[shape].threads * (size_t)shapes[shape].packets * OH_PACKET * parts * (size_t)blocks;
}

static size_t two_shot_from(int nranks, int blocks, oh_links_t links) {
    const double n = nranks, of_blocks = blocks * block_bytes_in_us, of_wires = bytes_in_us[links];
    if (nranks == 1) return SIZE_MAX;
    if (nranks == 2) return grid_bytes(nranks, blocks, OH_ONE_SHOT_PUSH, usable_shapes(nranks) - 1) + 1;
    return (size_t)(second_hand_over_us * (of_blocks < of_wires ? of_blocks : of_wires) / ((n - 1) * (1 - 2 / n)));
}

/* Rows for messages of `from` bytes to less than `until`. The last shape takes what fits no step, in several. */
static void add_rows(int nranks, int blocks, oh_device_algorithm_t algorithm, size_t from, size_t until,
                     oh_device_table_t *out) {
    const int last = usable_shapes(nranks) - 1;
    for (int i = 0; i <= last && from < until; i++) {
        const int threads = shapes[i].threads, packets = shapes[i].packets;
        const size_t most = grid_bytes(nranks, blocks, algorithm, i);
        if (oh_device_algorithms[algorithm].parts && threads * packets * nranks < TWO_SHOT_STEP_MIN) continue;
        if (from > most && i < last) continue;
        out->rows[out->count++] = (oh_device_row_t){from, algorithm, packets, threads, blocks};
        from = most + 1;
    }
}

/*
 * Blocks can be too many: in several steps between two GPUs 32 fill the wire, and some more take up to a quarter
 * longer. With nearly three times as many that is over; why, is not understood (bench/NOTES.md).
 */
enum { ENOUGH = 32, CROWDED_UNTIL = 86 };
static void thin_out(int nranks, int blocks, oh_links_t links, oh_device_table_t *out) {
    if (nranks != 2 || links != OH_NVLINK || blocks <= ENOUGH || blocks >= CROWDED_UNTIL) return;
    oh_device_row_t row = out->rows[out->count - 1];
    row.from_bytes = grid_bytes(nranks, blocks, row.algorithm, usable_shapes(nranks) - 1) + 1;
    row.blocks = ENOUGH;
    out->rows[out->count++] = row;
}

void oh_model_gpus(int nranks, int blocks, oh_links_t links, oh_device_table_t *out) {
    const size_t two_shot = two_shot_from(nranks, blocks, links);
    *out = (oh_device_table_t){.name = "model"};
    add_rows(nranks, blocks, OH_ONE_SHOT_PUSH, 0, two_shot, out);
    if (nranks > 1) add_rows(nranks, blocks, OH_TWO_SHOT_PUSH, two_shot, SIZE_MAX, out);
    thin_out(nranks, blocks, links, out);
}
