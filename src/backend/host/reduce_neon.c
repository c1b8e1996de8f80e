/* SPDX-License-Identifier: Apache-2.0 */
/* The reductions for NEON, which every 64-bit ARM has. */
#if defined(__aarch64__)
#define OH_VECTOR 16
#include <arm_neon.h>

#include "backend/host/reduce_plain.h"

/* C has no word for a pair of non-temporal stores here; the processors detect streams of stores by themselves. */
OH_INLINE void oh_stream(unsigned char *p, oh_raw_t v) { memcpy(p, &v, sizeof v); }
OH_INLINE void oh_stream_fence(void) {}

OH_INLINE void oh_unpack_half(oh_raw_t memory, oh_raw_t *low, oh_raw_t *high) {
    float16x8_t x = (float16x8_t)memory;
    *low = (oh_raw_t)vcvt_f32_f16(vget_low_f16(x));
    *high = (oh_raw_t)vcvt_high_f32_f16(x);
}
OH_INLINE oh_raw_t oh_pack_half(oh_raw_t low, oh_raw_t high) {
    return (oh_raw_t)vcvt_high_f16_f32(vcvt_f16_f32((float32x4_t)low), (float32x4_t)high);
}

#include "backend/host/reduce_all.h"

const oh_reduce_table_t oh_reduce_neon = {OH_REDUCE_ALL};
#endif
