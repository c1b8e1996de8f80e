/* SPDX-License-Identifier: Apache-2.0 */
#include "select/device_table.h"

enum { KIB = 1024, MIB = 1024 * 1024 };

const oh_device_row_t oh_device_table[] = {
    /* nranks to, from bytes, algorithm, packets, threads, blocks */
    {2, 0, OH_ONE_SHOT_PUSH, 1, 64, 64},           {2, 128 * KIB, OH_ONE_SHOT_PUSH, 1, 128, 132},
    {2, 512 * KIB, OH_ONE_SHOT_PUSH, 1, 256, 132}, {2, 1 * MIB, OH_ONE_SHOT_PUSH, 2, 512, 132},

    {4, 0, OH_ONE_SHOT_PUSH, 1, 64, 64},           {4, 96 * KIB, OH_ONE_SHOT_PUSH, 1, 128, 132},
    {4, 224 * KIB, OH_TWO_SHOT_PUSH, 1, 128, 132}, {4, 2 * MIB, OH_TWO_SHOT_PUSH, 1, 256, 132},
    {4, 4 * MIB, OH_TWO_SHOT_PUSH, 1, 512, 132},

    {8, 0, OH_ONE_SHOT_PUSH, 1, 64, 64},           {8, 96 * KIB, OH_TWO_SHOT_PUSH, 1, 64, 132},
    {8, 1 * MIB, OH_TWO_SHOT_PUSH, 1, 128, 132},   {8, 4 * MIB, OH_TWO_SHOT_PUSH, 1, 256, 132},
};

const size_t oh_device_table_rows = sizeof oh_device_table / sizeof oh_device_table[0];
