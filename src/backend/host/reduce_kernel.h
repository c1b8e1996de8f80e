/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reduction, written once in GCC's vector extensions and compiled once per instruction set: each reduce_<simd>.c
 * says what is special to it and includes this file, which then defines the table OH_TABLE. Special are
 *
 *   OH_VECTOR                 bytes of a vector
 *   oh_load_part, oh_store_part    the first `bytes` (1 ... OH_VECTOR-1) of a vector
 *   oh_stream, oh_stream_fence     a non-temporal store to an aligned address, and what orders such stores
 *   oh_unpack_half, oh_pack_half   fp16 to fp32 and back, to nearest even; a NaN stays one
 *
 * Every element goes through the same arithmetic wherever it lies: body and tail differ only in how a vector is loaded
 * and stored. NaN results become one fixed NaN, since which operand's NaN an addition returns depends on the compiler.
 *
 * dtype and op are constants wherever they appear as parameters: all functions are inlined into one per (dtype, op).
 */
#include "backend/host/reduce_table.h"
#include "backend/host/reduce_vector.h"

/* One vector of memory made ready for arithmetic: 16-bit floats become two vectors of fp32, others stay one. */
typedef struct oh_lanes {
    oh_raw_t part[2];
} oh_lanes_t;

OH_INLINE int is_half(onehop_dtype_t dtype) { return dtype == ONEHOP_FLOAT16 || dtype == ONEHOP_BFLOAT16; }
OH_INLINE int parts(onehop_dtype_t dtype) { return is_half(dtype) ? 2 : 1; }

/* bf16 is the upper half of an fp32: elements at even and at odd places become a part each, without any shuffle. */
OH_INLINE oh_lanes_t unpack(onehop_dtype_t dtype, oh_raw_t memory) {
    oh_lanes_t x = {{memory, memory}};
    if (dtype == ONEHOP_FLOAT16) oh_unpack_half(memory, &x.part[0], &x.part[1]);
    if (dtype == ONEHOP_BFLOAT16) {
        x.part[0] = (oh_raw_t)((oh_u32_t)memory << 16);
        x.part[1] = (oh_raw_t)((oh_u32_t)memory & 0xffff0000u);
    }
    return x;
}

/* To nearest even. The NaNs that occur have zeros in the lower half, so that rounding leaves them alone. */
OH_INLINE oh_u32_t round_to_bfloat16(oh_raw_t part) {
    oh_u32_t bits = (oh_u32_t)part;
    return bits + ((bits >> 16 & 1) + 0x7fffu);
}

OH_INLINE oh_raw_t pack(onehop_dtype_t dtype, oh_lanes_t x) {
    oh_raw_t memory = x.part[0];
    switch (dtype) {
    case ONEHOP_FLOAT16:
        memory = oh_pack_half(x.part[0], x.part[1]);
        return oh_select((oh_raw_t)((oh_i16_t)(memory & OH_FILL(u16, 0x7fff)) > 0x7c00), OH_FILL(u16, 0x7e00), memory);
    case ONEHOP_BFLOAT16:
        memory = (oh_raw_t)((round_to_bfloat16(x.part[0]) >> 16) | (round_to_bfloat16(x.part[1]) & 0xffff0000u));
        return oh_select((oh_raw_t)((oh_i16_t)(memory & OH_FILL(u16, 0x7fff)) > 0x7f80), OH_FILL(u16, 0x7fc0), memory);
    case ONEHOP_FLOAT32:
        return oh_select((oh_raw_t)((oh_f32_t)memory != (oh_f32_t)memory), OH_FILL(u32, 0x7fc00000), memory);
    case ONEHOP_FLOAT64:
        return oh_select((oh_raw_t)((oh_f64_t)memory != (oh_f64_t)memory), OH_FILL(u64, 0x7ff8000000000000), memory);
    default: return memory;
    }
}

/* combine_<lane>: one step of an accumulation. Sums and products are formed in `wrap`, unsigned for integers. */
#define COMBINE(lane, wrap)                                                                                            \
    OH_INLINE oh_raw_t combine_##lane(onehop_op_t op, oh_raw_t acc_raw, oh_raw_t x_raw) {                              \
        const oh_##lane##_t acc = (oh_##lane##_t)acc_raw, x = (oh_##lane##_t)x_raw;                                    \
        switch (op) {                                                                                                  \
        case ONEHOP_PROD: return (oh_raw_t)((oh_##wrap##_t)acc_raw * (oh_##wrap##_t)x_raw);                            \
        case ONEHOP_MIN: return oh_select((oh_raw_t)((x < acc) | (x != x)), x_raw, acc_raw);                           \
        case ONEHOP_MAX: return oh_select((oh_raw_t)((x > acc) | (x != x)), x_raw, acc_raw);                           \
        default: return (oh_raw_t)((oh_##wrap##_t)acc_raw + (oh_##wrap##_t)x_raw);                                     \
        }                                                                                                              \
    }
COMBINE(f32, f32)
COMBINE(f64, f64)
COMBINE(i8, u8)
COMBINE(u8, u8)
COMBINE(i32, u32)
COMBINE(u32, u32)
COMBINE(i64, u64)
COMBINE(u64, u64)

OH_INLINE oh_raw_t combine(onehop_dtype_t dtype, onehop_op_t op, oh_raw_t acc, oh_raw_t x) {
    switch (dtype) {
    case ONEHOP_FLOAT64: return combine_f64(op, acc, x);
    case ONEHOP_INT8: return combine_i8(op, acc, x);
    case ONEHOP_UINT8: return combine_u8(op, acc, x);
    case ONEHOP_INT32: return combine_i32(op, acc, x);
    case ONEHOP_UINT32: return combine_u32(op, acc, x);
    case ONEHOP_INT64: return combine_i64(op, acc, x);
    case ONEHOP_UINT64: return combine_u64(op, acc, x);
    default: return combine_f32(op, acc, x);
    }
}

/* Sums start from +0, so that zeros of any sign sum to +0. */
OH_INLINE oh_raw_t start(onehop_dtype_t dtype, onehop_op_t op, oh_raw_t x) {
    return op == ONEHOP_SUM || op == ONEHOP_AVG ? combine(dtype, op, (oh_raw_t){0}, x) : x;
}

OH_INLINE oh_raw_t finish(onehop_dtype_t dtype, onehop_op_t op, oh_raw_t acc, int nsrc) {
    if (op != ONEHOP_AVG) return acc;
    return dtype == ONEHOP_FLOAT64 ? (oh_raw_t)((oh_f64_t)acc / (double)nsrc) : (oh_raw_t)((oh_f32_t)acc / (float)nsrc);
}

/* The arguments of a call, and which outputs take non-temporal stores, one bit each. */
typedef struct oh_call {
    void *const *dst;
    const void *const *src;
    int ndst, nsrc;
    uint64_t streams;
} oh_call_t;

OH_INLINE oh_raw_t load(const unsigned char *p, size_t bytes) {
    if (bytes < OH_VECTOR) return oh_load_part(p, bytes);
    oh_raw_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

OH_INLINE void store(unsigned char *p, oh_raw_t v, size_t bytes) {
    if (bytes < OH_VECTOR) {
        oh_store_part(p, v, bytes);
    } else {
        memcpy(p, &v, sizeof v);
    }
}

enum { UNROLL = 4 };

/* Reduces `vectors` (a constant) vectors at offset `at`; or the first `bytes` of one, when bytes < OH_VECTOR. */
OH_INLINE void reduce_at(onehop_dtype_t dtype, onehop_op_t op, const oh_call_t *call, size_t at, int vectors,
                         size_t bytes) {
    oh_lanes_t acc[UNROLL];
    const unsigned char *in = (const unsigned char *)call->src[0] + at;
    for (int v = 0; v < vectors; v++) {
        acc[v] = unpack(dtype, load(in + v * OH_VECTOR, bytes));
        for (int p = 0; p < parts(dtype); p++) acc[v].part[p] = start(dtype, op, acc[v].part[p]);
    }
    for (int s = 1; s < call->nsrc; s++) {
        in = (const unsigned char *)call->src[s] + at;
        for (int v = 0; v < vectors; v++) {
            oh_lanes_t x = unpack(dtype, load(in + v * OH_VECTOR, bytes));
            for (int p = 0; p < parts(dtype); p++) acc[v].part[p] = combine(dtype, op, acc[v].part[p], x.part[p]);
        }
    }
    oh_raw_t result[UNROLL];
    for (int v = 0; v < vectors; v++) {
        for (int p = 0; p < parts(dtype); p++) acc[v].part[p] = finish(dtype, op, acc[v].part[p], call->nsrc);
        result[v] = pack(dtype, acc[v]);
    }
    for (int d = 0; d < call->ndst; d++) {
        unsigned char *out = (unsigned char *)call->dst[d] + at;
        if (call->streams >> d & 1) {
            for (int v = 0; v < vectors; v++) oh_stream(out + v * OH_VECTOR, result[v]);
        } else {
            for (int v = 0; v < vectors; v++) store(out + v * OH_VECTOR, result[v], bytes);
        }
    }
}

/* Bytes from p to the next place where a vector is aligned. */
OH_INLINE size_t until_aligned(const void *p) { return -(uintptr_t)p % OH_VECTOR; }

OH_INLINE void reduce(onehop_dtype_t dtype, onehop_op_t op, void *const *dst, int ndst, const void *const *src,
                      int nsrc, size_t count, oh_store_t how) {
    oh_call_t call = {dst, src, ndst, nsrc, 0};
    size_t bytes = count << oh_dtype_shift(dtype), at = 0;
    if (how == OH_STORE_STREAM && bytes >= 2 * OH_VECTOR) {
        /* Whole elements up to where the first output is aligned; outputs that are not aligned there are stored
         * through the cache. */
        at = until_aligned(dst[0]) >> oh_dtype_shift(dtype) << oh_dtype_shift(dtype);
        if (at > 0) reduce_at(dtype, op, &call, 0, 1, at);
        for (int d = 0; d < ndst; d++) call.streams |= (uint64_t)(until_aligned(dst[d]) == at) << d;
    }
    for (; bytes - at >= UNROLL * OH_VECTOR; at += UNROLL * OH_VECTOR) {
        reduce_at(dtype, op, &call, at, UNROLL, OH_VECTOR);
    }
    for (; bytes - at >= OH_VECTOR; at += OH_VECTOR) reduce_at(dtype, op, &call, at, 1, OH_VECTOR);
    if (call.streams != 0) oh_stream_fence();
    call.streams = 0;
    if (bytes > at) reduce_at(dtype, op, &call, at, 1, bytes - at);
}

#define FUNCTION(dtype, op)                                                                                            \
    static void reduce_##dtype##_##op(void *const *dst, int ndst, const void *const *src, int nsrc, size_t count,      \
                                      oh_store_t how) {                                                                \
        reduce(ONEHOP_##dtype, ONEHOP_##op, dst, ndst, src, nsrc, count, how);                                         \
    }
#define INTEGER_FUNCTIONS(dtype) FUNCTION(dtype, SUM) FUNCTION(dtype, PROD) FUNCTION(dtype, MIN) FUNCTION(dtype, MAX)
#define FLOAT_FUNCTIONS(dtype)   INTEGER_FUNCTIONS(dtype) FUNCTION(dtype, AVG)

FLOAT_FUNCTIONS(FLOAT32)
FLOAT_FUNCTIONS(FLOAT16)
FLOAT_FUNCTIONS(BFLOAT16)
FLOAT_FUNCTIONS(FLOAT64)
INTEGER_FUNCTIONS(INT8)
INTEGER_FUNCTIONS(UINT8)
INTEGER_FUNCTIONS(INT32)
INTEGER_FUNCTIONS(UINT32)
INTEGER_FUNCTIONS(INT64)
INTEGER_FUNCTIONS(UINT64)

#define INTEGER_ROW(dtype)                                                                                             \
    [ONEHOP_##dtype][ONEHOP_SUM] = reduce_##dtype##_SUM, [ONEHOP_##dtype][ONEHOP_PROD] = reduce_##dtype##_PROD,        \
    [ONEHOP_##dtype][ONEHOP_MIN] = reduce_##dtype##_MIN, [ONEHOP_##dtype][ONEHOP_MAX] = reduce_##dtype##_MAX
#define FLOAT_ROW(dtype) INTEGER_ROW(dtype), [ONEHOP_##dtype][ONEHOP_AVG] = reduce_##dtype##_AVG

const oh_reduce_table_t OH_TABLE = {
    FLOAT_ROW(FLOAT32), FLOAT_ROW(FLOAT16), FLOAT_ROW(BFLOAT16), FLOAT_ROW(FLOAT64), INTEGER_ROW(INT8),
    INTEGER_ROW(UINT8), INTEGER_ROW(INT32), INTEGER_ROW(UINT32), INTEGER_ROW(INT64), INTEGER_ROW(UINT64),
};
