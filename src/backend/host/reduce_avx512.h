/* SPDX-License-Identifier: Apache-2.0 */
/* What reduce_kernel.h asks of an instruction set, by AVX-512 (F, BW, DQ, VL): all but oh_pack_bfloat16. */
#ifndef OH_BACKEND_HOST_REDUCE_AVX512_H
#define OH_BACKEND_HOST_REDUCE_AVX512_H

#define OH_VECTOR 64
#include <immintrin.h>

#include "backend/host/reduce_vector.h"
#include "onehop.h"

OH_INLINE __mmask64 first(size_t bytes) { return ~0ull >> (OH_VECTOR - bytes); }
OH_INLINE oh_raw_t oh_load_part(const unsigned char *p, size_t bytes) {
    return (oh_raw_t)_mm512_maskz_loadu_epi8(first(bytes), p);
}
OH_INLINE void oh_store_part(unsigned char *p, oh_raw_t v, size_t bytes) {
    _mm512_mask_storeu_epi8(p, first(bytes), (__m512i)v);
}

OH_INLINE void oh_stream(unsigned char *p, oh_raw_t v) { _mm512_stream_si512((__m512i *)(void *)p, (__m512i)v); }
OH_INLINE void oh_stream_fence(void) { _mm_sfence(); }

/*
 * One instruction looks up what becomes of a number by its class, a digit each: 0 our NaN, 1 it stays, 8 +0. The first
 * two digits from the right are for NaNs, the third is for zeros.
 */
OH_INLINE oh_raw_t oh_settle(onehop_dtype_t dtype, oh_raw_t x, int sum) {
    const int fate = sum ? 0x11111800 : 0x11111100;
    if (dtype == ONEHOP_FLOAT64) {
        return (oh_raw_t)_mm512_fixupimm_pd((__m512d)OH_NAN_F64, (__m512d)x, _mm512_set1_epi64(fate), 0);
    }
    return (oh_raw_t)_mm512_fixupimm_ps((__m512)OH_NAN_F32, (__m512)x, _mm512_set1_epi32(fate), 0);
}
OH_INLINE oh_raw_t oh_settle_packed(oh_raw_t memory, int16_t infinity, int16_t nan) {
    (void)infinity, (void)nan;
    return memory;
}

OH_INLINE void oh_unpack_half(oh_raw_t memory, oh_raw_t *low, oh_raw_t *high) {
    *low = (oh_raw_t)_mm512_cvtph_ps(_mm512_castsi512_si256((__m512i)memory));
    *high = (oh_raw_t)_mm512_cvtph_ps(_mm512_extracti64x4_epi64((__m512i)memory, 1));
}
OH_INLINE oh_raw_t oh_pack_half(oh_raw_t low, oh_raw_t high) {
    const __m256i l = _mm512_cvtps_ph((__m512)low, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m256i h = _mm512_cvtps_ph((__m512)high, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    return (oh_raw_t)_mm512_inserti64x4(_mm512_castsi256_si512(l), h, 1);
}

#endif
