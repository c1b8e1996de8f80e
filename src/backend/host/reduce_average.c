/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Averages of integers: the exact sum, divided, rounded towards zero.
 *
 * Up to 32 bits the sum is formed in double, which holds it exactly (64 values make 38 bits). So is the quotient's
 * integer part: unless the division comes out even, the quotient is at least 1/64 away from the next integer, and it
 * is rounded by less than that.
 */
#include <stdint.h>
#include <string.h>

#include "backend/host/reduce_table.h"

enum { BLOCK = 64 };

#define AVERAGE(type, wide)                                                                                            \
    static void average_##type(void *const *dst, int ndst, const void *const *src, int nsrc, size_t count,             \
                               oh_store_t store) {                                                                     \
        (void)store;                                                                                                   \
        for (size_t at = 0; at < count; at += BLOCK) {                                                                 \
            const size_t offset = at * sizeof(type##_t), n = count - at < BLOCK ? count - at : BLOCK;                  \
            type##_t value[BLOCK];                                                                                     \
            wide sum[BLOCK] = {0};                                                                                     \
            for (int s = 0; s < nsrc; s++) {                                                                           \
                memcpy(value, (const char *)src[s] + offset, n * sizeof value[0]);                                     \
                for (size_t i = 0; i < n; i++) sum[i] += (wide)value[i];                                               \
            }                                                                                                          \
            for (size_t i = 0; i < n; i++) value[i] = (type##_t)(sum[i] / (wide)nsrc);                                 \
            for (int d = 0; d < ndst; d++) memcpy((char *)dst[d] + offset, value, n * sizeof value[0]);                \
        }                                                                                                              \
    }

AVERAGE(int8, double)
AVERAGE(uint8, double)
AVERAGE(int32, double)
AVERAGE(uint32, double)
AVERAGE(int64, __int128)
AVERAGE(uint64, unsigned __int128)

const oh_reduce_fn oh_reduce_integer_average[OH_DTYPES] = {
    [ONEHOP_INT8] = average_int8,     [ONEHOP_UINT8] = average_uint8, [ONEHOP_INT32] = average_int32,
    [ONEHOP_UINT32] = average_uint32, [ONEHOP_INT64] = average_int64, [ONEHOP_UINT64] = average_uint64,
};
