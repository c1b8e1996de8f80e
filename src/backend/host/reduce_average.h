/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Averages of integers: the exact sum, divided, rounded towards zero.
 *
 * Floating point holds the sums of 64 small integers exactly: float those of 8 bits, double those of 32. It also gives
 * the right integer part of the quotient: unless the division comes out even, the quotient is at least 1/64 away from
 * the next integer, and it is rounded by less than that.
 */
#include <stdint.h>
#include <string.h>

#include "backend/host/reduce_table.h"

enum { BLOCK = 64 };

#define AVERAGE(dtype, type, wide)                                                                                     \
    static void reduce_##dtype##_AVG(void *const *dst, int ndst, const void *const *src, int nsrc, size_t count,       \
                                     oh_store_t how) {                                                                 \
        (void)how;                                                                                                     \
        for (size_t at = 0; at < count; at += BLOCK) {                                                                 \
            const size_t offset = at * sizeof(type), n = count - at < BLOCK ? count - at : BLOCK;                      \
            type value[BLOCK];                                                                                         \
            wide sum[BLOCK] = {0};                                                                                     \
            for (int s = 0; s < nsrc; s++) {                                                                           \
                memcpy(value, (const char *)src[s] + offset, n * sizeof value[0]);                                     \
                for (size_t i = 0; i < n; i++) sum[i] += (wide)value[i];                                               \
            }                                                                                                          \
            for (size_t i = 0; i < n; i++) value[i] = (type)(sum[i] / (wide)nsrc);                                     \
            for (int d = 0; d < ndst; d++) memcpy((char *)dst[d] + offset, value, n * sizeof value[0]);                \
        }                                                                                                              \
    }

AVERAGE(INT8, int8_t, float)
AVERAGE(UINT8, uint8_t, float)
AVERAGE(INT32, int32_t, double)
AVERAGE(UINT32, uint32_t, double)
AVERAGE(INT64, int64_t, __int128)
AVERAGE(UINT64, uint64_t, unsigned __int128)
