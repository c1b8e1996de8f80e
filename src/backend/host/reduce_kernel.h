/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reduction, written once in GCC's vector extensions and compiled once per instruction set. A reduce_<simd>.c says
 * what is special to it, then includes this file. Special are
 *
 *   OH_VECTOR                      bytes of a vector
 *   oh_load_part, oh_store_part    the first `bytes` (1 ... OH_VECTOR-1) of a vector
 *   oh_stream, oh_stream_fence     a non-temporal store to an aligned address, and what orders such stores
 *   oh_unpack_half, oh_pack_half   fp16 to and from two vectors of fp32; to nearest even
 *   oh_pack_bfloat16               two vectors of fp32, for even and odd places, to bf16; to nearest even
 *   oh_settle                      makes +0 of a sum's -0, and of any NaN the one NaN of our results ...
 *   oh_settle_packed               ... unless this does, once 16-bit floats are packed
 *
 * Every element goes through the same arithmetic wherever it lies: body and tail differ only in how a vector is loaded
 * and stored. NaNs are settled since which operand's NaN an addition returns depends on the compiler.
 *
 * dtype and op are constants wherever they appear as parameters: all is inlined into one function per (dtype, op).
 */
#include <stdbool.h>

#include "backend/host/reduce_table.h"
#include "backend/host/reduce_vector.h"

/* One vector of memory made ready for arithmetic: 16-bit floats become two vectors of fp32, others stay one. */
typedef struct oh_lanes {
    oh_raw_t part[2];
} oh_lanes_t;

OH_INLINE int parts(onehop_dtype_t dtype) { return dtype == ONEHOP_FLOAT16 || dtype == ONEHOP_BFLOAT16 ? 2 : 1; }
OH_INLINE int is_integer(onehop_dtype_t dtype) { return dtype >= ONEHOP_INT8; }

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

OH_INLINE oh_raw_t pack(onehop_dtype_t dtype, oh_lanes_t x) {
    switch (dtype) {
    case ONEHOP_FLOAT16: return oh_settle_packed(oh_pack_half(x.part[0], x.part[1]), 0x7c00, 0x7e00);
    case ONEHOP_BFLOAT16: return oh_settle_packed(oh_pack_bfloat16(x.part[0], x.part[1]), 0x7f80, 0x7fc0);
    default: return x.part[0];
    }
}

/*
 * combine_<lane>: one step of an accumulation. Sums and products are formed in `wrap`, unsigned for integers. MIN and
 * MAX ask whether to keep acc: in a comparison of x with itself clang 14 sees the fp16 that it was converted from, and
 * compares those one by one.
 */
#define COMBINE(lane, wrap)                                                                                            \
    OH_INLINE oh_raw_t combine_##lane(onehop_op_t op, oh_raw_t acc_raw, oh_raw_t x_raw) {                              \
        const oh_##lane##_t acc = (oh_##lane##_t)acc_raw, x = (oh_##lane##_t)x_raw;                                    \
        switch (op) {                                                                                                  \
        case ONEHOP_PROD: return (oh_raw_t)((oh_##wrap##_t)acc_raw * (oh_##wrap##_t)x_raw);                            \
        case ONEHOP_MIN: return oh_select((oh_raw_t)((acc <= x) | (acc != acc)), acc_raw, x_raw);                      \
        case ONEHOP_MAX: return oh_select((oh_raw_t)((acc >= x) | (acc != acc)), acc_raw, x_raw);                      \
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

/* The arguments of a call, and what follows from them. */
typedef struct oh_call {
    void *const *dst;
    const void *const *src;
    int ndst, nsrc;
    uint64_t streams; /* the outputs that take non-temporal stores, one bit each */
    float inverse;    /* 1/nsrc where that is exact, that is for powers of two; else 0 */
} oh_call_t;

/* Multiplying by an exact inverse gives the bits that dividing gives, sooner. */
OH_INLINE oh_raw_t average(onehop_dtype_t dtype, oh_raw_t sum, const oh_call_t *call) {
    if (dtype == ONEHOP_FLOAT64) {
        const oh_f64_t x = (oh_f64_t)sum;
        return (oh_raw_t)(call->inverse != 0 ? x * (double)call->inverse : x / (double)call->nsrc);
    }
    const oh_f32_t x = (oh_f32_t)sum;
    return (oh_raw_t)(call->inverse != 0 ? x * call->inverse : x / (float)call->nsrc);
}

OH_INLINE oh_raw_t finish(onehop_dtype_t dtype, onehop_op_t op, oh_raw_t acc, const oh_call_t *call) {
    if (is_integer(dtype)) return acc;
    acc = oh_settle(dtype, acc, op == ONEHOP_SUM || op == ONEHOP_AVG);
    return op == ONEHOP_AVG ? average(dtype, acc, call) : acc;
}

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

/* Vectors of a step: two to four accumulators hide latencies. More run out of registers, and longer steps are slower
 * from main memory. */
enum { MOST_VECTORS = 4 };
OH_INLINE int step(onehop_dtype_t dtype) { return OH_VECTOR == 64 ? 2 : MOST_VECTORS / parts(dtype); }

/* Reduces `vectors` (a constant) vectors at offset `at`; or the first `bytes` of one, when bytes < OH_VECTOR. */
OH_INLINE void reduce_at(onehop_dtype_t dtype, onehop_op_t op, const oh_call_t *call, size_t at, int vectors,
                         size_t bytes) {
    oh_lanes_t acc[MOST_VECTORS];
    const unsigned char *in = (const unsigned char *)call->src[0] + at;
    for (int v = 0; v < vectors; v++) acc[v] = unpack(dtype, load(in + v * OH_VECTOR, bytes));
    for (int s = 1; s < call->nsrc; s++) {
        in = (const unsigned char *)call->src[s] + at;
        for (int v = 0; v < vectors; v++) {
            const oh_lanes_t x = unpack(dtype, load(in + v * OH_VECTOR, bytes));
            for (int p = 0; p < parts(dtype); p++) acc[v].part[p] = combine(dtype, op, acc[v].part[p], x.part[p]);
        }
    }
    oh_raw_t result[MOST_VECTORS];
    for (int v = 0; v < vectors; v++) {
        for (int p = 0; p < parts(dtype); p++) acc[v].part[p] = finish(dtype, op, acc[v].part[p], call);
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

/* As many whole steps as there are from `at`; returns where they end. */
OH_INLINE size_t reduce_steps(onehop_dtype_t dtype, onehop_op_t op, const oh_call_t *call, size_t at, size_t bytes) {
    const size_t stride = (size_t)step(dtype) * OH_VECTOR;
    for (; bytes - at >= stride; at += stride) reduce_at(dtype, op, call, at, step(dtype), OH_VECTOR);
    return at;
}

/* The same for two inputs and two outputs, as two ranks need it: with the numbers known a step has no loops. */
OH_INLINE size_t reduce_pair(onehop_dtype_t dtype, onehop_op_t op, const oh_call_t *call, size_t at, size_t bytes) {
    void *const dst[2] = {call->dst[0], call->dst[1]};
    const void *const src[2] = {call->src[0], call->src[1]};
    const oh_call_t pair = {dst, src, 2, 2, 0, 0.5f};
    return reduce_steps(dtype, op, &pair, at, bytes);
}

/* Bytes from p to the next place where a vector is aligned. */
OH_INLINE size_t until_aligned(const void *p) { return -(uintptr_t)p % OH_VECTOR; }

/* One bit for each output that is aligned `at` bytes from its start. */
static uint64_t aligned_outputs(void *const *dst, int ndst, size_t at) {
    uint64_t aligned = 0;
    for (int d = 0; d < ndst; d++) aligned |= (uint64_t)(until_aligned(dst[d]) == at) << d;
    return aligned;
}

OH_INLINE void reduce(onehop_dtype_t dtype, onehop_op_t op, void *const *dst, int ndst, const void *const *src,
                      int nsrc, size_t count, oh_store_t how) {
    oh_call_t call = {dst, src, ndst, nsrc, 0, (nsrc & (nsrc - 1)) == 0 ? 1.0f / (float)nsrc : 0.0f};
    size_t bytes = count << oh_dtype_shift(dtype), at = 0;
    if (how == OH_STORE_STREAM && bytes >= 2 * OH_VECTOR) {
        /* Whole elements up to where the first output is aligned. Outputs that are not aligned there are stored
         * through the cache. */
        at = until_aligned(dst[0]) >> oh_dtype_shift(dtype) << oh_dtype_shift(dtype);
        if (at > 0) reduce_at(dtype, op, &call, 0, 1, at);
        call.streams = aligned_outputs(dst, ndst, at);
    }
    const bool pair = nsrc == 2 && ndst == 2 && call.streams == 0;
    at = pair ? reduce_pair(dtype, op, &call, at, bytes) : reduce_steps(dtype, op, &call, at, bytes);
    for (; bytes - at >= OH_VECTOR; at += OH_VECTOR) reduce_at(dtype, op, &call, at, 1, OH_VECTOR);
    if (call.streams != 0) oh_stream_fence();
    call.streams = 0;
    if (bytes > at) reduce_at(dtype, op, &call, at, 1, bytes - at);
}

/* The functions of a type; OH_REDUCE_INTEGER leaves the average to reduce_average.h. */
#define OH_REDUCE(dtype, op)                                                                                           \
    static void reduce_##dtype##_##op(void *const *dst, int ndst, const void *const *src, int nsrc, size_t count,      \
                                      oh_store_t how) {                                                                \
        reduce(ONEHOP_##dtype, ONEHOP_##op, dst, ndst, src, nsrc, count, how);                                         \
    }
#define OH_REDUCE_INTEGER(dtype)                                                                                       \
    OH_REDUCE(dtype, SUM) OH_REDUCE(dtype, PROD) OH_REDUCE(dtype, MIN) OH_REDUCE(dtype, MAX)
#define OH_REDUCE_FLOAT(dtype) OH_REDUCE_INTEGER(dtype) OH_REDUCE(dtype, AVG)

/* A type's row in a table. */
#define OH_REDUCE_ROW(dtype)                                                                                           \
    [ONEHOP_##dtype] = {[ONEHOP_SUM] = reduce_##dtype##_SUM,                                                           \
                        [ONEHOP_PROD] = reduce_##dtype##_PROD,                                                         \
                        [ONEHOP_MIN] = reduce_##dtype##_MIN,                                                           \
                        [ONEHOP_MAX] = reduce_##dtype##_MAX,                                                           \
                        [ONEHOP_AVG] = reduce_##dtype##_AVG}
