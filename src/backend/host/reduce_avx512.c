/* SPDX-License-Identifier: Apache-2.0 */
/* The reductions for AVX-512 (F, BW, DQ, VL). */
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#define OH_VECTOR 64
#define OH_TABLE  oh_reduce_avx512
#include <immintrin.h>

#include "backend/host/reduce_vector.h"

OH_INLINE __mmask64 first(size_t bytes) { return ~0ull >> (OH_VECTOR - bytes); }
OH_INLINE oh_raw_t oh_load_part(const unsigned char *p, size_t bytes) {
    return (oh_raw_t)_mm512_maskz_loadu_epi8(first(bytes), p);
}
OH_INLINE void oh_store_part(unsigned char *p, oh_raw_t v, size_t bytes) {
    _mm512_mask_storeu_epi8(p, first(bytes), (__m512i)v);
}

OH_INLINE void oh_stream(unsigned char *p, oh_raw_t v) { _mm512_stream_si512((__m512i *)(void *)p, (__m512i)v); }
OH_INLINE void oh_stream_fence(void) { _mm_sfence(); }

OH_INLINE void oh_unpack_half(oh_raw_t memory, oh_raw_t *low, oh_raw_t *high) {
    *low = (oh_raw_t)_mm512_cvtph_ps(_mm512_castsi512_si256((__m512i)memory));
    *high = (oh_raw_t)_mm512_cvtph_ps(_mm512_extracti64x4_epi64((__m512i)memory, 1));
}
OH_INLINE oh_raw_t oh_pack_half(oh_raw_t low, oh_raw_t high) {
    __m256i l = _mm512_cvtps_ph((__m512)low, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m256i h = _mm512_cvtps_ph((__m512)high, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    return (oh_raw_t)_mm512_inserti64x4(_mm512_castsi256_si512(l), h, 1);
}

#include "backend/host/reduce_kernel.h"
#endif
