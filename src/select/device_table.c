/* SPDX-License-Identifier: Apache-2.0 */
#include "select/device_table.h"

enum { KIB = 1024, MIB = 1024 * 1024 };

const oh_device_row_t oh_device_table[] = {
    /* nranks to, from bytes, algorithm, packets, threads, blocks */
    {2, 0, OH_ONE_SHOT_PUSH, 1, 64, 132},           {2, 48 * KIB, OH_ONE_SHOT_PUSH, 1, 128, 132},
    {2, 320 * KIB, OH_ONE_SHOT_PUSH, 1, 256, 132},  {2, 640 * KIB, OH_ONE_SHOT_PUSH, 1, 512, 132},
    {2, 1536 * KIB, OH_ONE_SHOT_PUSH, 2, 512, 132}, {2, 2560 * KIB, OH_ONE_SHOT_PUSH, 4, 512, 132},
    {2, 5 * MIB, OH_TWO_SHOT_PUSH, 4, 512, 132},    {2, 9 * MIB, OH_TWO_SHOT_PUSH, 2, 512, 132},

    {4, 0, OH_ONE_SHOT_PUSH, 1, 64, 132},           {4, 48 * KIB, OH_ONE_SHOT_PUSH, 1, 128, 132},
    {4, 160 * KIB, OH_ONE_SHOT_PUSH, 1, 256, 132},  {4, 288 * KIB, OH_TWO_SHOT_PUSH, 1, 256, 132},
    {4, 2560 * KIB, OH_TWO_SHOT_PUSH, 1, 512, 132}, {4, 5 * MIB, OH_TWO_SHOT_PUSH, 2, 512, 132},

    {8, 0, OH_ONE_SHOT_PUSH, 1, 64, 132},           {8, 64 * KIB, OH_ONE_SHOT_PUSH, 1, 128, 132},
    {8, 96 * KIB, OH_TWO_SHOT_PUSH, 1, 64, 132},    {8, 1 * MIB, OH_TWO_SHOT_PUSH, 1, 128, 132},
    {8, 4 * MIB, OH_TWO_SHOT_PUSH, 1, 256, 132},
};

const size_t oh_device_table_rows = sizeof oh_device_table / sizeof oh_device_table[0];
