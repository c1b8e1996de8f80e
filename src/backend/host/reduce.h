/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reductions over memory: dst[k][i] = op over s of src[s][i], combined in the order of s, for every type and operation.
 * One function per (instruction set, type, operation), found once by oh_reduce_find.
 */
#ifndef OH_BACKEND_HOST_REDUCE_H
#define OH_BACKEND_HOST_REDUCE_H

#include "onehop.h"

typedef enum oh_store {
    OH_STORE_CACHED,
    OH_STORE_STREAM /* non-temporal: for results that will not be read soon; ordered before return (sfence) */
} oh_store_t;

/*
 * src, nsrc    1 ... 64 inputs; any alignment
 * dst, ndst    1 ... 64 outputs, each receiving the same bits; any alignment; an output may equal an input
 * count        elements
 * All instruction sets give the same bits, and element i's bits depend on the inputs' element i alone.
 */
typedef void (*oh_reduce_fn)(void *const *dst, int ndst, const void *const *src, int nsrc, size_t count,
                             oh_store_t store);

typedef enum oh_simd {
    OH_SIMD_PORTABLE,
    OH_SIMD_NEON,
    OH_SIMD_AVX2,
    OH_SIMD_AVX512,
    OH_SIMD_AVX512_BF16,
    OH_SIMDS /* how many there are */
} oh_simd_t;

/* The widest that this processor has and this build contains. */
oh_simd_t oh_simd_best(void);
const char *oh_simd_name(oh_simd_t simd);
int oh_simd_available(oh_simd_t simd);

/* Never NULL for a valid dtype and op and an available simd. AVG divides by nsrc. */
oh_reduce_fn oh_reduce_find(oh_simd_t simd, onehop_dtype_t dtype, onehop_op_t op);

/* memcpy that can store around the cache; dst and src do not overlap. */
void oh_copy(void *dst, const void *src, size_t bytes, oh_store_t store);

#endif
