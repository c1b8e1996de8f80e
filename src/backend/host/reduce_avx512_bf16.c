/* SPDX-License-Identifier: Apache-2.0 */
/* The reductions of bfloat16 for AVX-512 with BF16. */
#if defined(__AVX512BF16__)
#include "backend/host/reduce_avx512.h"

/*
 * The instruction rounds as we do, but takes subnormal numbers for zeros; vectors that have some go the plain way. It
 * puts the results of one argument after those of the other, and they belong side by side.
 */
OH_INLINE oh_raw_t oh_pack_bfloat16(oh_raw_t even, oh_raw_t odd) {
    enum { SUBNORMAL = 0x20 };
    const __mmask16 subnormal =
        _mm512_fpclass_ps_mask((__m512)even, SUBNORMAL) | _mm512_fpclass_ps_mask((__m512)odd, SUBNORMAL);
    if (__builtin_expect(subnormal != 0, 0)) return oh_pack_bfloat16_plain(even, odd);
    const __m512i side_by_side = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7,
                                                  22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return (oh_raw_t)_mm512_permutexvar_epi16(side_by_side, (__m512i)_mm512_cvtne2ps_pbh((__m512)odd, (__m512)even));
}

#include "backend/host/reduce_kernel.h"

OH_REDUCE_FLOAT(BFLOAT16)
const oh_reduce_table_t oh_reduce_avx512_bf16 = {OH_REDUCE_ROW(BFLOAT16)};
#endif
