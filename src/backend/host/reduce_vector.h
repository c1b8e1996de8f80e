/* SPDX-License-Identifier: Apache-2.0 */
/* Vectors of OH_VECTOR bytes, as the including reduce_<simd>.c has defined it, and what needs no instruction set. */
#ifndef OH_BACKEND_HOST_REDUCE_VECTOR_H
#define OH_BACKEND_HOST_REDUCE_VECTOR_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define OH_INLINE static inline __attribute__((always_inline))

typedef uint8_t oh_raw_t __attribute__((vector_size(OH_VECTOR))); /* of no type yet */
typedef int8_t oh_i8_t __attribute__((vector_size(OH_VECTOR)));
typedef uint8_t oh_u8_t __attribute__((vector_size(OH_VECTOR)));
typedef int16_t oh_i16_t __attribute__((vector_size(OH_VECTOR)));
typedef int32_t oh_i32_t __attribute__((vector_size(OH_VECTOR)));
typedef uint32_t oh_u32_t __attribute__((vector_size(OH_VECTOR)));
typedef int64_t oh_i64_t __attribute__((vector_size(OH_VECTOR)));
typedef uint64_t oh_u64_t __attribute__((vector_size(OH_VECTOR)));
typedef float oh_f32_t __attribute__((vector_size(OH_VECTOR)));
typedef double oh_f64_t __attribute__((vector_size(OH_VECTOR)));

/* The one NaN of our results, in every lane; converted to a 16-bit float it is that type's. */
#define OH_NAN_F32 ((oh_u32_t){0} + 0x7fc00000u)
#define OH_NAN_F64 ((oh_u64_t){0} + 0x7ff8000000000000u)

/* Bits of `yes` where mask is set. C has no ?: for vectors; compilers turn this into a blend. */
OH_INLINE oh_raw_t oh_select(oh_raw_t mask, oh_raw_t yes, oh_raw_t no) { return (mask & yes) | (~mask & no); }

/* To nearest even. The NaNs that occur, ours and those of the inputs, have zeros in their lower half, and stay NaNs. */
OH_INLINE oh_u32_t oh_round_bfloat16(oh_raw_t value) {
    const oh_u32_t bits = (oh_u32_t)value;
    return bits + ((bits >> 16 & 1) + 0x7fff);
}
OH_INLINE oh_raw_t oh_pack_bfloat16_plain(oh_raw_t even, oh_raw_t odd) {
    return (oh_raw_t)((oh_round_bfloat16(even) >> 16) | (oh_round_bfloat16(odd) & 0xffff0000u));
}

#endif
