/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arithmetic on one unit of a message: OH_UNIT bytes, OH_LANES elements of the type OH_DTYPE, combined by OH_OP. Both
 * are numbers of onehop.h, constant for a kernel.
 *
 * The bits of a result depend on nothing but the inputs, taken in rank order: floats start from +0 where they are
 * added, so that a sum that is zero is +0; 16-bit floats accumulate in fp32 and are rounded once.
 */
#ifndef OH_KERNELS_ELEMENT_H
#define OH_KERNELS_ELEMENT_H

#include "arena/device_layout.h"
#include "kernels/asm.h"

enum { OH_FLOAT32, OH_FLOAT16, OH_BFLOAT16, OH_FLOAT64, OH_INT8, OH_UINT8, OH_INT32, OH_UINT32, OH_INT64, OH_UINT64 };
enum { OH_SUM, OH_PROD, OH_MIN, OH_MAX, OH_AVG };

/* oh_bits_t: an element as it lies in memory. oh_wide_t: what it is accumulated in. oh_wrap_t: in what integers wrap.
 */
#if OH_DTYPE <= 2
typedef float oh_wide_t;
typedef float oh_wrap_t;
#elif OH_DTYPE == 3
typedef double oh_wide_t;
typedef double oh_wrap_t;
#elif OH_DTYPE == 4
typedef int oh_wide_t;
typedef unsigned int oh_wrap_t;
typedef signed char oh_value_t;
#elif OH_DTYPE == 5
typedef unsigned int oh_wide_t;
typedef unsigned int oh_wrap_t;
typedef unsigned char oh_value_t;
#elif OH_DTYPE == 6
typedef int oh_value_t;
#elif OH_DTYPE == 7
typedef unsigned int oh_value_t;
#elif OH_DTYPE == 8
typedef long long oh_value_t;
#elif OH_DTYPE == 9
typedef unsigned long long oh_value_t;
#endif

#if OH_DTYPE == 6 || OH_DTYPE == 7
#if OH_OP == 4
typedef long long oh_wide_t; /* holds the sum of all ranks exactly */
typedef unsigned long long oh_wrap_t;
#else
typedef oh_value_t oh_wide_t;
typedef unsigned int oh_wrap_t;
#endif
#elif OH_DTYPE == 8 || OH_DTYPE == 9
typedef oh_value_t oh_wide_t;
typedef unsigned long long oh_wrap_t;
#endif

#if OH_DTYPE == 4 || OH_DTYPE == 5
typedef unsigned char oh_bits_t;
#elif OH_DTYPE == 1 || OH_DTYPE == 2
typedef unsigned short oh_bits_t;
#elif OH_DTYPE == 0 || OH_DTYPE == 6 || OH_DTYPE == 7
typedef oh_u32 oh_bits_t;
#else
typedef oh_u64 oh_bits_t;
#endif

enum {
    OH_ELEMENT = sizeof(oh_bits_t),
    OH_LANES = OH_UNIT / OH_ELEMENT,
    OH_FLOATING = OH_DTYPE <= OH_FLOAT64,
    OH_ADDS = OH_OP == OH_SUM || OH_OP == OH_AVG,
    /* 64-bit averages: no type holds the sum, so quotients and rests by OH_NRANKS are added apart. */
    OH_SPLIT = OH_OP == OH_AVG && OH_DTYPE >= OH_INT64
};

OH_DEVICE oh_bits_t oh_lane(const oh_packet_t &unit, int lane) {
    if (OH_ELEMENT == 8) return (oh_bits_t)(unit.word[2 * lane] | (oh_u64)unit.word[2 * lane + 1] << 32);
    const int each = 4 / (OH_ELEMENT < 8 ? OH_ELEMENT : 4);
    return (oh_bits_t)(unit.word[lane / each] >> lane % each * 8 * OH_ELEMENT);
}

/* ---- the sum of all ranks so far ---- */

/*
 * Two 16-bit floats are added as they are. The sum is what fp32 would give: a sum of two that is rounded to fp32, and
 * then to p digits, is the same as rounded at once, as fp32 has more than 2p + 1 digits (S. A. Figueroa, "When is
 * Double Rounding Innocuous?", 1995).
 */
#define OH_PAIRS (OH_NRANKS == 2 && OH_OP == 0 && (OH_DTYPE == 1 || OH_DTYPE == 2))

#if OH_PAIRS
typedef oh_packet_t oh_sum_t;

OH_DEVICE oh_u32 oh_add_pair(oh_u32 x, oh_u32 y) {
#if OH_DTYPE == 1
    return oh_add_halves(x, y);
#else
    return oh_add_bfloat16s(x, y);
#endif
}

OH_DEVICE void oh_sum_add(oh_sum_t *sum, const oh_packet_t &unit) {
#pragma unroll
    for (int w = 0; w < 4; w++) sum->word[w] = oh_add_pair(sum->word[w], unit.word[w]);
}

OH_DEVICE void oh_sum_begin(oh_sum_t *sum, const oh_packet_t &unit) {
    *sum = oh_packet_t{{0, 0, 0, 0}};
    oh_sum_add(sum, unit);
}

OH_DEVICE oh_packet_t oh_sum_end(const oh_sum_t *sum) { return *sum; }

#else
/* One value an element; `rest` only where OH_SPLIT. */
typedef struct oh_sum {
    oh_wide_t value[OH_LANES];
    oh_wide_t rest[OH_SPLIT ? OH_LANES : 1];
} oh_sum_t;

OH_DEVICE oh_wide_t oh_widen(oh_bits_t bits) {
#if OH_DTYPE == 0
    return __uint_as_float(bits);
#elif OH_DTYPE == 1
    return oh_half_to_float(bits);
#elif OH_DTYPE == 2
    return __uint_as_float((oh_u32)bits << 16);
#elif OH_DTYPE == 3
    return __longlong_as_double((long long)bits);
#else
    return (oh_wide_t)(oh_value_t)bits;
#endif
}

OH_DEVICE oh_wide_t oh_combine(oh_wide_t sum, oh_wide_t x) {
    if (OH_OP == OH_PROD) return (oh_wide_t)((oh_wrap_t)sum * (oh_wrap_t)x);
    if (OH_OP == OH_MIN) return sum <= x || sum != sum ? sum : x; /* NaN stays */
    if (OH_OP == OH_MAX) return sum >= x || sum != sum ? sum : x;
    return (oh_wide_t)((oh_wrap_t)sum + (oh_wrap_t)x);
}

/* Rank 0's unit. */
OH_DEVICE void oh_sum_begin(oh_sum_t *sum, const oh_packet_t &unit) {
#pragma unroll
    for (int i = 0; i < OH_LANES; i++) {
        const oh_wide_t x = oh_widen(oh_lane(unit, i));
        sum->value[i] = OH_SPLIT ? x / (oh_wide_t)OH_NRANKS : OH_FLOATING && OH_ADDS ? (oh_wide_t)0 + x : x;
        if (OH_SPLIT) sum->rest[i] = x - x / (oh_wide_t)OH_NRANKS * (oh_wide_t)OH_NRANKS;
    }
}

/* The next rank's. */
OH_DEVICE void oh_sum_add(oh_sum_t *sum, const oh_packet_t &unit) {
#pragma unroll
    for (int i = 0; i < OH_LANES; i++) {
        const oh_wide_t x = oh_widen(oh_lane(unit, i));
        if (OH_SPLIT) {
            sum->value[i] += x / (oh_wide_t)OH_NRANKS;
            sum->rest[i] += x - x / (oh_wide_t)OH_NRANKS * (oh_wide_t)OH_NRANKS;
        } else {
            sum->value[i] = oh_combine(sum->value[i], x);
        }
    }
}

/* AVG divides, integers towards zero. */
OH_DEVICE oh_wide_t oh_lane_result(const oh_sum_t *sum, int i) {
    if (OH_OP != OH_AVG) return sum->value[i];
    if (!OH_SPLIT) return sum->value[i] / (oh_wide_t)OH_NRANKS;
    const oh_wide_t carry = sum->rest[i] / (oh_wide_t)OH_NRANKS, quotient = sum->value[i] + carry;
#if OH_DTYPE == 8
    const oh_wide_t rest = sum->rest[i] - carry * (oh_wide_t)OH_NRANKS;
    if (quotient > 0 && rest < 0) return quotient - 1;
    if (quotient < 0 && rest > 0) return quotient + 1;
#endif
    return quotient;
}

/* The word of memory that lanes i, i+1, ... become. A quotient that rounds to zero is +0, as a sum is. */
OH_DEVICE oh_u32 oh_settle(oh_u32 word, oh_u32 magnitude) {
    return OH_OP == OH_AVG && (word & magnitude) == 0 ? 0 : word;
}
OH_DEVICE oh_u32 oh_settle_pair(oh_u32 word) {
    return oh_settle(word & 0xffff, 0x7fff) | oh_settle(word & 0xffff0000u, 0x7fff0000u);
}

OH_DEVICE oh_packet_t oh_sum_end(const oh_sum_t *sum) {
    oh_packet_t unit = {{0, 0, 0, 0}};
#pragma unroll
    for (int w = 0; w < OH_UNIT / 4; w++) {
#if OH_DTYPE == 0
        unit.word[w] = oh_settle(__float_as_uint(oh_lane_result(sum, w)), 0x7fffffff);
#elif OH_DTYPE == 1
        unit.word[w] = oh_settle_pair(oh_pack_half(oh_lane_result(sum, 2 * w), oh_lane_result(sum, 2 * w + 1)));
#elif OH_DTYPE == 2
        unit.word[w] = oh_settle_pair(oh_pack_bfloat16(oh_lane_result(sum, 2 * w), oh_lane_result(sum, 2 * w + 1)));
#elif OH_DTYPE == 3
        oh_u64 bits = (oh_u64)__double_as_longlong(oh_lane_result(sum, w / 2));
        if (OH_OP == OH_AVG && bits << 1 == 0) bits = 0;
        unit.word[w] = (oh_u32)(bits >> 32 * (w % 2));
#elif OH_DTYPE == 4 || OH_DTYPE == 5
        for (int i = 0; i < 4; i++) unit.word[w] |= (oh_u32)(oh_bits_t)oh_lane_result(sum, 4 * w + i) << 8 * i;
#elif OH_DTYPE == 6 || OH_DTYPE == 7
        unit.word[w] = (oh_u32)oh_lane_result(sum, w);
#else
        unit.word[w] = (oh_u32)((oh_u64)oh_lane_result(sum, w / 2) >> 32 * (w % 2));
#endif
    }
    return unit;
}
#endif

/* ---- units in the caller's buffers ---- */

/*
 * OH_WHOLE: every unit is whole, and aligned for a few wide accesses. Otherwise units move whole where they
 * can, and else element by element, in a kernel of its own: so much code would slow down those that do not need it.
 * `bytes`: of this unit, fewer only in the last one.
 */
#if OH_WHOLE
OH_DEVICE oh_packet_t oh_load_unit(const unsigned char *from, oh_u32) {
#if OH_UNIT == 16
    return *(const oh_packet_t *)from;
#else
    oh_packet_t value = {{0, 0, 0, 0}};
#pragma unroll
    for (int w = 0; w < OH_UNIT / 4; w++) value.word[w] = ((const oh_u32 *)from)[w];
    return value;
#endif
}

OH_DEVICE void oh_store_unit(unsigned char *to, oh_u32, const oh_packet_t &value) {
#if OH_UNIT == 16
    *(oh_packet_t *)to = value;
#else
#pragma unroll
    for (int w = 0; w < OH_UNIT / 4; w++) ((oh_u32 *)to)[w] = value.word[w];
#endif
}
#else
OH_DEVICE bool oh_is_wide(const unsigned char *at, oh_u32 bytes) {
    return OH_UNIT == 16 && (((oh_u32)(oh_u64)at | bytes) & 15) == 0;
}
OH_DEVICE bool oh_is_aligned(const unsigned char *at) { return (oh_u64)at % OH_ELEMENT == 0; }

OH_FUNCTION oh_packet_t oh_load_bytes(const unsigned char *from, oh_u32 bytes) {
    oh_packet_t value = {{0, 0, 0, 0}};
#pragma unroll 1
    for (int b = (int)bytes - 1; b >= 0; b--) {
        /* The packet moves up by one byte, and this one comes in below. */
#pragma unroll
        for (int w = 3; w > 0; w--) value.word[w] = __funnelshift_l(value.word[w - 1], value.word[w], 8);
        value.word[0] = value.word[0] << 8 | from[b];
    }
    return value;
}

/*
 * All elements are under way at once; lanes behind the end hold the first once more, and nobody stores them. What is
 * not even aligned to elements moves byte by byte, slowly.
 */
OH_DEVICE oh_packet_t oh_load_unit(const unsigned char *from, oh_u32 bytes) {
    oh_packet_t value = {{0, 0, 0, 0}};
    if (oh_is_wide(from, bytes)) return *(const oh_packet_t *)from;
    if (oh_is_aligned(from)) {
#pragma unroll
        for (oh_u32 i = 0; i < OH_LANES; i++) {
            const oh_u32 at = i * OH_ELEMENT;
            const oh_bits_t bits = *(const oh_bits_t *)(from + (at < bytes ? at : 0));
            value.word[at / 4] |= (oh_u32)bits << 8 * (at % 4);
            if (OH_ELEMENT == 8) value.word[at / 4 + 1] = (oh_u32)((oh_u64)bits >> 32);
        }
        return value;
    }
    return oh_load_bytes(from, bytes);
}

/* A function of its own, as there is nothing to gain by storing several units at once. */
OH_FUNCTION void oh_store_ragged(unsigned char *to, oh_u32 bytes, oh_packet_t value) {
    if (oh_is_aligned(to)) {
#pragma unroll
        for (oh_u32 i = 0; i < OH_LANES; i++) {
            if (i * OH_ELEMENT < bytes) *(oh_bits_t *)(to + i * OH_ELEMENT) = oh_lane(value, (int)i);
        }
        return;
    }
#pragma unroll 1
    for (oh_u32 b = 0; b < bytes; b++) {
        to[b] = (unsigned char)value.word[0];
#pragma unroll
        for (int w = 0; w < 3; w++) value.word[w] = __funnelshift_r(value.word[w], value.word[w + 1], 8);
        value.word[3] >>= 8;
    }
}

OH_DEVICE void oh_store_unit(unsigned char *to, oh_u32 bytes, const oh_packet_t &value) {
    if (oh_is_wide(to, bytes)) {
        *(oh_packet_t *)to = value;
    } else {
        oh_store_ragged(to, bytes, value);
    }
}
#endif

/* A stretch of the message from a thread's first unit on; `left` units to its end, as far as one step can reach. */
typedef struct oh_stretch {
    const unsigned char *send;
    unsigned char *recv;
    oh_u32 left;
    oh_u32 last; /* bytes of the message's last unit */
} oh_stretch_t;

OH_DEVICE oh_u32 oh_last_bytes(const oh_kernel_args_t &a) {
    return (oh_u32)(a.count * OH_ELEMENT - (a.units - 1) * OH_UNIT);
}

OH_DEVICE oh_stretch_t oh_stretch(const oh_kernel_args_t &a, oh_u64 unit) {
    oh_stretch_t s = {(const unsigned char *)a.send + unit * OH_UNIT, (unsigned char *)a.recv + unit * OH_UNIT, 0, 0};
    if (unit < a.units) s.left = a.units - unit < 0xffffffffu ? (oh_u32)(a.units - unit) : 0xffffffffu;
    if (!OH_WHOLE) s.last = oh_last_bytes(a);
    return s;
}

/*
 * Before oh_wait_for_previous: has the compiler compute the address, and the GPU translate it, while there is nothing
 * else to do. It cannot know that by itself, and would do so when the data are needed.
 */
OH_DEVICE void oh_expect(const oh_stretch_t &s) {
    if (s.left > 0 && threadIdx.x % 32 == 0) oh_prefetch(s.send);
}

/* Unit `at` of the stretch, which is less than left. */
OH_DEVICE oh_packet_t oh_load(const oh_stretch_t &s, oh_u32 at) {
    return oh_load_unit(s.send + (oh_u64)at * OH_UNIT, at + 1 == s.left ? s.last : OH_UNIT);
}
OH_DEVICE void oh_store(const oh_stretch_t &s, oh_u32 at, const oh_packet_t &value) {
    oh_store_unit(s.recv + (oh_u64)at * OH_UNIT, at + 1 == s.left ? s.last : OH_UNIT, value);
}

#endif
