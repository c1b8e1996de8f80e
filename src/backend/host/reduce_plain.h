/* SPDX-License-Identifier: Apache-2.0 */
/* What reduce_kernel.h asks of an instruction set, for those that have nothing special for it. */
#ifndef OH_BACKEND_HOST_REDUCE_PLAIN_H
#define OH_BACKEND_HOST_REDUCE_PLAIN_H

#include "backend/host/reduce_vector.h"
#include "onehop.h"

/*
 * The first n bytes (1 ... 8) of a word, from two loads that may overlap. By way of memory, the word's load would have
 * to wait until the pieces have left the store buffer.
 */
OH_INLINE uint64_t load_word(const unsigned char *p, size_t n) {
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    if (n >= 4) {
        uint32_t head, tail;
        memcpy(&head, p, 4);
        memcpy(&tail, p + n - 4, 4);
        return head | (uint64_t)tail << 8 * (n - 4);
    }
    if (n >= 2) {
        uint16_t head, tail;
        memcpy(&head, p, 2);
        memcpy(&tail, p + n - 2, 2);
        return head | (uint64_t)tail << 8 * (n - 2);
    }
    return *p;
#else
    uint64_t word = 0;
    memcpy(&word, p, n);
    return word;
#endif
}

OH_INLINE oh_raw_t oh_load_part(const unsigned char *p, size_t bytes) {
    oh_u64_t v = {0};
#pragma GCC unroll 4
    for (size_t i = 0; i < OH_VECTOR / 8; i++) {
        if (bytes > 8 * i) v[i] = load_word(p + 8 * i, bytes - 8 * i < 8 ? bytes - 8 * i : 8);
    }
    return (oh_raw_t)v;
}

OH_INLINE void oh_store_part(unsigned char *p, oh_raw_t v, size_t bytes) {
    const unsigned char *from = (const unsigned char *)&v;
    for (size_t piece = OH_VECTOR / 2; piece > 0; piece /= 2) {
        if ((bytes & piece) == 0) continue;
        memcpy(p, from, piece);
        p += piece;
        from += piece;
    }
}

OH_INLINE oh_raw_t oh_settle(onehop_dtype_t dtype, oh_raw_t value, int sum) {
    if (dtype == ONEHOP_FLOAT64) {
        const oh_f64_t x = sum ? (oh_f64_t)value + 0.0 : (oh_f64_t)value;
        return oh_select((oh_raw_t)(x != x), (oh_raw_t)OH_NAN_F64, (oh_raw_t)x);
    }
    const oh_f32_t x = sum ? (oh_f32_t)value + 0.0f : (oh_f32_t)value;
    return dtype == ONEHOP_FLOAT32 ? oh_select((oh_raw_t)(x != x), (oh_raw_t)OH_NAN_F32, (oh_raw_t)x) : (oh_raw_t)x;
}

/* One comparison for both parts. */
OH_INLINE oh_raw_t oh_settle_packed(oh_raw_t memory, int16_t infinity, int16_t nan) {
    const oh_i16_t magnitude = (oh_i16_t)memory & 0x7fff;
    return oh_select((oh_raw_t)(magnitude > infinity), (oh_raw_t)((oh_i16_t){0} + nan), memory);
}

OH_INLINE oh_raw_t oh_pack_bfloat16(oh_raw_t even, oh_raw_t odd) { return oh_pack_bfloat16_plain(even, odd); }

#endif
