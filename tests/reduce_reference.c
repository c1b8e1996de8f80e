/* SPDX-License-Identifier: Apache-2.0 */
#include "reduce_reference.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

/* A binary floating-point format of 16 bits. */
typedef struct format {
    int exponent_bits, mantissa_bits;
} format_t;

static const format_t fp16 = {5, 10}, bf16 = {8, 7};

static int bias(format_t f) { return (1 << (f.exponent_bits - 1)) - 1; }

static float decode(format_t f, uint16_t bits) {
    int exponent = bits >> f.mantissa_bits & ((1 << f.exponent_bits) - 1);
    int mantissa = bits & ((1 << f.mantissa_bits) - 1);
    double magnitude;
    if (exponent == (1 << f.exponent_bits) - 1) {
        magnitude = mantissa != 0 ? (double)NAN : (double)INFINITY;
    } else if (exponent == 0) {
        magnitude = ldexp(mantissa, 1 - bias(f) - f.mantissa_bits);
    } else {
        magnitude = ldexp(mantissa + (1 << f.mantissa_bits), exponent - bias(f) - f.mantissa_bits);
    }
    return (float)(bits & 0x8000 ? -magnitude : magnitude);
}

/* The nearest number of the format, of two the even one: value is a multiple of the format's step, rounded. */
static uint16_t encode(format_t f, double value) {
    const int infinity = ((1 << f.exponent_bits) - 1) << f.mantissa_bits, least = 1 - bias(f);
    if (isnan(value)) return (uint16_t)(infinity | 1 << (f.mantissa_bits - 1));
    int sign = signbit(value) ? 0x8000 : 0, exponent;
    value = fabs(value);
    if (isinf(value)) return (uint16_t)(sign | infinity);
    frexp(value, &exponent);
    exponent = exponent - 1 < least || value == 0 ? least : exponent - 1;
    double steps = nearbyint(ldexp(value, f.mantissa_bits - exponent));
    if (steps == ldexp(1, f.mantissa_bits + 1)) {
        exponent++;
        steps /= 2;
    }
    if (exponent > bias(f)) return (uint16_t)(sign | infinity);
    if (steps < ldexp(1, f.mantissa_bits)) return (uint16_t)(sign | (int)steps); /* subnormal */
    return (uint16_t)(sign | (exponent + bias(f)) << f.mantissa_bits | ((int)steps - (1 << f.mantissa_bits)));
}

static float fold_float(onehop_op_t op, const float *x, int n) {
    float acc = op == ONEHOP_SUM || op == ONEHOP_AVG ? 0.0f : x[0];
    for (int s = op == ONEHOP_SUM || op == ONEHOP_AVG ? 0 : 1; s < n; s++) {
        if (op == ONEHOP_SUM || op == ONEHOP_AVG) acc = acc + x[s];
        if (op == ONEHOP_PROD) acc = acc * x[s];
        if (op == ONEHOP_MIN && (x[s] < acc || isnan(x[s]))) acc = x[s];
        if (op == ONEHOP_MAX && (x[s] > acc || isnan(x[s]))) acc = x[s];
    }
    return op == ONEHOP_AVG ? acc / (float)n : acc;
}

static double fold_double(onehop_op_t op, const double *x, int n) {
    double acc = op == ONEHOP_SUM || op == ONEHOP_AVG ? 0.0 : x[0];
    for (int s = op == ONEHOP_SUM || op == ONEHOP_AVG ? 0 : 1; s < n; s++) {
        if (op == ONEHOP_SUM || op == ONEHOP_AVG) acc = acc + x[s];
        if (op == ONEHOP_PROD) acc = acc * x[s];
        if (op == ONEHOP_MIN && (x[s] < acc || isnan(x[s]))) acc = x[s];
        if (op == ONEHOP_MAX && (x[s] > acc || isnan(x[s]))) acc = x[s];
    }
    return op == ONEHOP_AVG ? acc / (double)n : acc;
}

/* 64 values of 64 bits are summed exactly; products are right in their lower 64 bits. */
static __int128 fold_integer(onehop_op_t op, const __int128 *x, int n) {
    __int128 acc = x[0];
    for (int s = 1; s < n; s++) {
        if (op == ONEHOP_SUM || op == ONEHOP_AVG) acc += x[s];
        if (op == ONEHOP_PROD) acc = (__int128)((unsigned __int128)acc * (unsigned __int128)x[s]);
        if (op == ONEHOP_MIN && x[s] < acc) acc = x[s];
        if (op == ONEHOP_MAX && x[s] > acc) acc = x[s];
    }
    return op == ONEHOP_AVG ? acc / n : acc;
}

static __int128 get_integer(onehop_dtype_t dtype, const void *p) {
    const size_t size = onehop_dtype_size(dtype);
    uint64_t bits = 0;
    memcpy(&bits, p, size); /* little-endian, as all that is tested */
    const int unused = (int)(64 - 8 * size);
    switch (dtype) {
    case ONEHOP_INT8:
    case ONEHOP_INT32:
    case ONEHOP_INT64: return (int64_t)(bits << unused) >> unused;
    default: return bits;
    }
}

/* The one NaN of all results, which the contract leaves open. */
static const uint32_t nan_bits = 0x7fc00000;
static const uint64_t nan_bits_64 = 0x7ff8000000000000;

static void put_float(onehop_dtype_t dtype, void *p, float value) {
    uint16_t half;
    switch (dtype) {
    case ONEHOP_FLOAT16:
        half = encode(fp16, (double)value);
        memcpy(p, &half, 2);
        break;
    case ONEHOP_BFLOAT16:
        half = encode(bf16, (double)value);
        memcpy(p, &half, 2);
        break;
    default: memcpy(p, isnan(value) ? (const void *)&nan_bits : &value, 4); break;
    }
}

static float get_float(onehop_dtype_t dtype, const void *p) {
    uint16_t half;
    memcpy(&half, p, 2);
    if (dtype == ONEHOP_FLOAT16) return decode(fp16, half);
    if (dtype == ONEHOP_BFLOAT16) return decode(bf16, half);
    float value;
    memcpy(&value, p, 4);
    return value;
}

void reference_reduce(onehop_dtype_t dtype, onehop_op_t op, void *dst, const void *const *src, int nsrc, size_t count) {
    const size_t size = onehop_dtype_size(dtype);
    for (size_t at = 0; at < count * size; at += size) {
        char *out = (char *)dst + at;
        if (dtype == ONEHOP_FLOAT64) {
            double x[ONEHOP_MAX_RANKS] = {0};
            for (int s = 0; s < nsrc; s++) memcpy(&x[s], (const char *)src[s] + at, size);
            const double value = fold_double(op, x, nsrc);
            memcpy(out, isnan(value) ? (const void *)&nan_bits_64 : &value, size);
        } else if (dtype < ONEHOP_FLOAT64) {
            float x[ONEHOP_MAX_RANKS] = {0};
            for (int s = 0; s < nsrc; s++) x[s] = get_float(dtype, (const char *)src[s] + at);
            put_float(dtype, out, fold_float(op, x, nsrc));
        } else {
            __int128 x[ONEHOP_MAX_RANKS] = {0};
            for (int s = 0; s < nsrc; s++) x[s] = get_integer(dtype, (const char *)src[s] + at);
            const __int128 value = fold_integer(op, x, nsrc);
            memcpy(out, &value, size);
        }
    }
}

void reference_set(onehop_dtype_t dtype, void *buffer, size_t i, double value) {
    char *p = (char *)buffer + i * onehop_dtype_size(dtype);
    if (dtype == ONEHOP_FLOAT64) {
        memcpy(p, &value, 8);
    } else if (dtype < ONEHOP_FLOAT64) {
        put_float(dtype, p, (float)value);
    } else {
        const int64_t integer = (int64_t)value;
        memcpy(p, &integer, onehop_dtype_size(dtype));
    }
}
