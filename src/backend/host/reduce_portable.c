/* SPDX-License-Identifier: Apache-2.0 */
/* The reductions for any processor, with fp16 converted by integer arithmetic. */
#define OH_VECTOR 16
#include "backend/host/reduce_plain.h"

#if defined(__SSE2__)
#include <emmintrin.h>
OH_INLINE void oh_stream(unsigned char *p, oh_raw_t v) { _mm_stream_si128((__m128i *)(void *)p, (__m128i)v); }
OH_INLINE void oh_stream_fence(void) { _mm_sfence(); }
#else
OH_INLINE void oh_stream(unsigned char *p, oh_raw_t v) { memcpy(p, &v, sizeof v); }
OH_INLINE void oh_stream_fence(void) {}
#endif

/*
 * An fp16 in the lower half of each lane, to fp32. Its exponent and mantissa, moved to where fp32 has them, are the
 * value divided by 2^112, also when it is subnormal; from 2^16 on it was infinity or NaN.
 */
OH_INLINE oh_raw_t half_to_float(oh_u32_t half) {
    oh_u32_t sign = (half & 0x8000) << 16;
    oh_f32_t scaled = (oh_f32_t)((half & 0x7fff) << 13) * 0x1p112f;
    oh_u32_t special = (oh_u32_t)(scaled >= 0x1p16f) & 0x7f800000u;
    return (oh_raw_t)(sign | (oh_u32_t)scaled | special);
}

/*
 * The reverse. Below 2^-14 results are multiples of 2^-24, which is what the last bit of a number around 0.5 stands
 * for: adding 0.5 rounds to one. Above, the mantissa is rounded in place, and may carry into the exponent.
 */
OH_INLINE oh_u32_t float_to_half(oh_raw_t value) {
    oh_u32_t bits = (oh_u32_t)value, sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
    oh_u32_t small = (oh_u32_t)((oh_f32_t)magnitude + 0.5f) - 0x3f000000u;
    oh_u32_t normal = (magnitude + ((magnitude >> 13 & 1) + 0xfffu) - (112u << 23)) >> 13;
    oh_u32_t half = (oh_u32_t)oh_select((oh_raw_t)((oh_f32_t)magnitude < 0x1p-14f), (oh_raw_t)small, (oh_raw_t)normal);
    /* From halfway between the largest fp16 and 2^16, infinity. */
    half = (oh_u32_t)oh_select((oh_raw_t)((oh_f32_t)magnitude >= 65520.0f), (oh_raw_t)((oh_u32_t){0} + 0x7c00),
                               (oh_raw_t)half);
    half = (oh_u32_t)oh_select((oh_raw_t)(magnitude > 0x7f800000u), (oh_raw_t)((oh_u32_t){0} + 0x7e00), (oh_raw_t)half);
    return half | sign;
}

OH_INLINE void oh_unpack_half(oh_raw_t memory, oh_raw_t *even, oh_raw_t *odd) {
    *even = half_to_float((oh_u32_t)memory & 0xffff);
    *odd = half_to_float((oh_u32_t)memory >> 16);
}
OH_INLINE oh_raw_t oh_pack_half(oh_raw_t even, oh_raw_t odd) {
    return (oh_raw_t)(float_to_half(even) | float_to_half(odd) << 16);
}

#include "backend/host/reduce_all.h"

const oh_reduce_table_t oh_reduce_portable = {OH_REDUCE_ALL};
