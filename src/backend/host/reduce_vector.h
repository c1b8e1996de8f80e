/* SPDX-License-Identifier: Apache-2.0 */
/* Vectors of OH_VECTOR bytes, as the including reduce_<simd>.c has defined it, and what all instruction sets do with
 * them in the same way. */
#ifndef OH_BACKEND_HOST_REDUCE_VECTOR_H
#define OH_BACKEND_HOST_REDUCE_VECTOR_H

#include <stdint.h>
#include <string.h>

#define OH_INLINE static inline __attribute__((always_inline))

typedef uint8_t oh_raw_t __attribute__((vector_size(OH_VECTOR))); /* of no type yet */
typedef int8_t oh_i8_t __attribute__((vector_size(OH_VECTOR)));
typedef uint8_t oh_u8_t __attribute__((vector_size(OH_VECTOR)));
typedef int16_t oh_i16_t __attribute__((vector_size(OH_VECTOR)));
typedef uint16_t oh_u16_t __attribute__((vector_size(OH_VECTOR)));
typedef int32_t oh_i32_t __attribute__((vector_size(OH_VECTOR)));
typedef uint32_t oh_u32_t __attribute__((vector_size(OH_VECTOR)));
typedef int64_t oh_i64_t __attribute__((vector_size(OH_VECTOR)));
typedef uint64_t oh_u64_t __attribute__((vector_size(OH_VECTOR)));
typedef float oh_f32_t __attribute__((vector_size(OH_VECTOR)));
typedef double oh_f64_t __attribute__((vector_size(OH_VECTOR)));

/* The same value in every lane. */
#define OH_FILL(lane, value) ((oh_raw_t)((oh_##lane##_t){0} + (value)))

/* Bits of `yes` where mask is set. C has no ?: for vectors; compilers turn this into a blend. */
OH_INLINE oh_raw_t oh_select(oh_raw_t mask, oh_raw_t yes, oh_raw_t no) { return (mask & yes) | (~mask & no); }

#endif
