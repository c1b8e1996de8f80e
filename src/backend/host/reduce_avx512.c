/* SPDX-License-Identifier: Apache-2.0 */
/* The reductions for AVX-512 (F, BW, DQ, VL). */
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#include "backend/host/reduce_avx512.h"

OH_INLINE oh_raw_t oh_pack_bfloat16(oh_raw_t even, oh_raw_t odd) { return oh_pack_bfloat16_plain(even, odd); }

#include "backend/host/reduce_all.h"

const oh_reduce_table_t oh_reduce_avx512 = {OH_REDUCE_ALL};
#endif
