/* SPDX-License-Identifier: Apache-2.0 */
/* The reductions for AVX2 with F16C. */
#if defined(__AVX2__) && defined(__F16C__)
#define OH_VECTOR 32
#include <immintrin.h>

#include "backend/host/reduce_plain.h"

OH_INLINE void oh_stream(unsigned char *p, oh_raw_t v) { _mm256_stream_si256((__m256i *)(void *)p, (__m256i)v); }
OH_INLINE void oh_stream_fence(void) { _mm_sfence(); }

OH_INLINE void oh_unpack_half(oh_raw_t memory, oh_raw_t *low, oh_raw_t *high) {
    *low = (oh_raw_t)_mm256_cvtph_ps(_mm256_castsi256_si128((__m256i)memory));
    *high = (oh_raw_t)_mm256_cvtph_ps(_mm256_extracti128_si256((__m256i)memory, 1));
}
OH_INLINE oh_raw_t oh_pack_half(oh_raw_t low, oh_raw_t high) {
    __m128i l = _mm256_cvtps_ph((__m256)low, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m128i h = _mm256_cvtps_ph((__m256)high, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    return (oh_raw_t)_mm256_inserti128_si256(_mm256_castsi128_si256(l), h, 1);
}

#include "backend/host/reduce_all.h"

const oh_reduce_table_t oh_reduce_avx2 = {OH_REDUCE_ALL};
#endif
