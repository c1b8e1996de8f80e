/* SPDX-License-Identifier: Apache-2.0 */
#include "select/built_in.h"

#include <stdio.h>
#include <string.h>

enum { KIB = 1024, MIB = 1024 * 1024 };

/* ---- hosts ---- */

static const struct {
    oh_placement_t placement;
    bool registered;
    oh_host_row_t row;
} host_rows[] = {
    /* placement, registered, from bytes, algorithm, chunk, stream */
    {OH_NEAR, false, {0, OH_ONE_SHOT, 64 * KIB, false}},
    {OH_NEAR, false, {2 * KIB, OH_TWO_SHOT, 64 * KIB, false}},
    {OH_NEAR, false, {512 * KIB, OH_TWO_SHOT, 128 * KIB, false}},
    {OH_NEAR, false, {32 * MIB, OH_TWO_SHOT, 128 * KIB, true}},
    {OH_NEAR, true, {0, OH_ONE_SHOT, 64 * KIB, false}},
    {OH_NEAR, true, {2 * KIB, OH_TWO_SHOT, 64 * KIB, false}},
    {OH_NEAR, true, {4 * KIB, OH_DIRECT, 0, false}},
    {OH_NEAR, true, {16 * MIB, OH_DIRECT, 0, true}},

    {OH_FAR, false, {0, OH_ONE_SHOT, 64 * KIB, false}},
    {OH_FAR, false, {1 * KIB, OH_TWO_SHOT, 64 * KIB, false}},
    {OH_FAR, false, {512 * KIB, OH_TWO_SHOT, 128 * KIB, false}},
    {OH_FAR, false, {32 * MIB, OH_TWO_SHOT, 128 * KIB, true}},
    {OH_FAR, true, {0, OH_ONE_SHOT, 64 * KIB, false}},
    {OH_FAR, true, {1 * KIB, OH_TWO_SHOT, 64 * KIB, false}},
    {OH_FAR, true, {4 * KIB, OH_DIRECT, 0, false}},
    {OH_FAR, true, {16 * MIB, OH_DIRECT, 0, true}},

    {OH_OVERSUBSCRIBED, false, {0, OH_ONE_SHOT, 64 * KIB, false}},
    {OH_OVERSUBSCRIBED, false, {16 * KIB, OH_TWO_SHOT, 256 * KIB, false}},
    {OH_OVERSUBSCRIBED, false, {32 * MIB, OH_TWO_SHOT, 256 * KIB, true}},
    {OH_OVERSUBSCRIBED, true, {0, OH_ONE_SHOT, 64 * KIB, false}},
    {OH_OVERSUBSCRIBED, true, {8 * KIB, OH_DIRECT, 0, false}},
    {OH_OVERSUBSCRIBED, true, {16 * MIB, OH_DIRECT, 0, true}},
};

void oh_built_in_hosts(oh_host_tables_t *out) {
    memset(out, 0, sizeof *out);
    for (size_t i = 0; i < sizeof host_rows / sizeof *host_rows; i++) {
        oh_host_table_t *table = &out->of[host_rows[i].placement][host_rows[i].registered];
        snprintf(table->name, sizeof table->name, "built-in table");
        table->rows[table->count++] = host_rows[i].row;
    }
}

/* ---- GPUs ---- */

#define H200 "NVIDIA H200", OH_NVLINK

static const struct {
    const char *gpu;
    oh_links_t links;
    int nranks; /* to this many ranks; in ascending order */
    oh_device_row_t row;
} device_rows[] = {
    /* Where a row ends because 132 blocks take no more in one step, the next is from one byte more on. */
    /* GPU, nranks to, from bytes, algorithm, packets, threads, blocks */
    {H200, 2, {0, OH_ONE_SHOT_PUSH, 1, 64, 132}},
    {H200, 2, {48 * KIB, OH_ONE_SHOT_PUSH, 1, 128, 132}},
    {H200, 2, {264 * KIB + 1, OH_ONE_SHOT_PUSH, 1, 256, 132}},
    {H200, 2, {528 * KIB + 1, OH_ONE_SHOT_PUSH, 1, 512, 132}},
    {H200, 2, {1056 * KIB + 1, OH_ONE_SHOT_PUSH, 2, 512, 132}},
    {H200, 2, {2112 * KIB + 1, OH_ONE_SHOT_PUSH, 4, 448, 132}},
    {H200, 2, {3696 * KIB + 1, OH_ONE_SHOT_PUSH, 4, 512, 132}},
    {H200, 2, {4224 * KIB + 1, OH_TWO_SHOT_PUSH, 2, 512, 132}},
    {H200, 2, {40 * MIB, OH_TWO_SHOT_BULK, 1, 512, 132}},

    {H200, 4, {0, OH_ONE_SHOT_PUSH, 1, 64, 132}},
    {H200, 4, {48 * KIB, OH_ONE_SHOT_PUSH, 1, 128, 132}},
    {H200, 4, {160 * KIB, OH_ONE_SHOT_PUSH, 1, 256, 132}},
    {H200, 4, {288 * KIB, OH_TWO_SHOT_PUSH, 1, 256, 132}},
    {H200, 4, {2112 * KIB + 1, OH_TWO_SHOT_PUSH, 1, 512, 132}},
    {H200, 4, {4224 * KIB + 1, OH_TWO_SHOT_PUSH, 2, 512, 132}},

    {H200, 8, {0, OH_ONE_SHOT_PUSH, 1, 64, 132}},
    {H200, 8, {64 * KIB, OH_ONE_SHOT_PUSH, 1, 128, 132}},
    {H200, 8, {96 * KIB, OH_TWO_SHOT_PUSH, 1, 64, 132}},
    {H200, 8, {1056 * KIB + 1, OH_TWO_SHOT_PUSH, 1, 128, 132}},
    {H200, 8, {2112 * KIB + 1, OH_TWO_SHOT_PUSH, 1, 256, 132}},
};

bool oh_built_in_gpus(const char *gpu, oh_links_t links, int nranks, oh_device_table_t *out) {
    int found = 0;
    memset(out, 0, sizeof *out);
    for (size_t i = 0; i < sizeof device_rows / sizeof *device_rows; i++) {
        const char *name = device_rows[i].gpu;
        if (strncmp(gpu, name, strlen(name)) != 0 || links != device_rows[i].links) continue;
        if (device_rows[i].nranks < nranks || (found != 0 && device_rows[i].nranks != found)) continue;
        found = device_rows[i].nranks;
        snprintf(out->name, sizeof out->name, "built-in table for %s", name);
        out->rows[out->count++] = device_rows[i].row;
    }
    return found != 0;
}
