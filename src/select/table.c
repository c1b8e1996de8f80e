/* SPDX-License-Identifier: Apache-2.0 */
#include "select/table.h"

enum { KIB = 1024, MIB = 1024 * 1024 };

/*
 * Every algorithm appears for every placement, so that it can be forced. Rows for registered buffers come after the
 * others of their placement.
 */
const oh_table_row_t oh_host_table[] = {
    /* placement, registered, from bytes, algorithm, chunk, stream */
    {OH_NEAR, false, 0, OH_ONE_SHOT, 64 * KIB, false},
    {OH_NEAR, false, 2 * KIB, OH_TWO_SHOT, 64 * KIB, false},
    {OH_NEAR, false, 512 * KIB, OH_TWO_SHOT, 128 * KIB, false},
    {OH_NEAR, false, 32 * MIB, OH_TWO_SHOT, 128 * KIB, true},
    {OH_NEAR, true, 4 * KIB, OH_DIRECT, 0, false},
    {OH_NEAR, true, 16 * MIB, OH_DIRECT, 0, true},

    {OH_FAR, false, 0, OH_ONE_SHOT, 64 * KIB, false},
    {OH_FAR, false, 1 * KIB, OH_TWO_SHOT, 64 * KIB, false},
    {OH_FAR, false, 512 * KIB, OH_TWO_SHOT, 128 * KIB, false},
    {OH_FAR, false, 32 * MIB, OH_TWO_SHOT, 128 * KIB, true},
    {OH_FAR, true, 4 * KIB, OH_DIRECT, 0, false},
    {OH_FAR, true, 16 * MIB, OH_DIRECT, 0, true},

    {OH_OVERSUBSCRIBED, false, 0, OH_ONE_SHOT, 64 * KIB, false},
    {OH_OVERSUBSCRIBED, false, 16 * KIB, OH_TWO_SHOT, 256 * KIB, false},
    {OH_OVERSUBSCRIBED, false, 32 * MIB, OH_TWO_SHOT, 256 * KIB, true},
    {OH_OVERSUBSCRIBED, true, 8 * KIB, OH_DIRECT, 0, false},
    {OH_OVERSUBSCRIBED, true, 16 * MIB, OH_DIRECT, 0, true},
};

const size_t oh_host_table_rows = sizeof oh_host_table / sizeof oh_host_table[0];
