/* SPDX-License-Identifier: Apache-2.0 */
#include "data.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

enum { PERIOD = 2039, ELEMENT_MAX = 8 };

/* Every integer type and its sums fit. */
__extension__ typedef __int128 wide_t;
__extension__ typedef unsigned __int128 unsigned_wide_t;

uint64_t data_mix(uint64_t x) {
    x += 0x9E3779B97F4A7C15u;
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
    x = (x ^ x >> 27) * 0x94D049BB133111EBu;
    return x ^ x >> 31;
}

uint64_t data_fresh_seed(void) {
    uint64_t seed;
    if (getrandom(&seed, sizeof seed, 0) == (ssize_t)sizeof seed) return seed;
    return data_mix((uint64_t)time(NULL));
}

static uint64_t noise(const data_t *data, int rank, size_t index) {
    return data_mix(data->seed ^ data_mix((uint64_t)rank << 32 | index));
}

/* ---- floats ---- */

static bool is_float(onehop_dtype_t dtype) {
    return dtype == ONEHOP_FLOAT32 || dtype == ONEHOP_FLOAT16 || dtype == ONEHOP_BFLOAT16 || dtype == ONEHOP_FLOAT64;
}

/*
 * Sums of 64 integers of -4 ... 4 are at most 256, up to which bfloat16 has every integer. To products at most four
 * ranks give more than a sign, so that they are at most 81.
 */
static int small_integer(const data_t *data, int rank, size_t index) {
    uint64_t bits = noise(data, rank, index);
    if (data->op != ONEHOP_PROD) return (int)(bits % 9) - 4;
    int sign = bits & 1 ? -1 : 1, stride = (data->nranks + 3) / 4;
    uint64_t who = noise(data, -1, index) % (uint64_t)stride;
    return (uint64_t)rank % (uint64_t)stride == who ? sign * (int)(1 + (bits >> 1) % 3) : sign;
}

/* Rounds to nearest, ties to even; for zero and what is normal in both types. */
static uint16_t half_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
    if (magnitude == 0) return (uint16_t)sign;
    uint32_t half = (magnitude >> 13) - ((127 - 15) << 10), rest = magnitude & 0x1fff;
    return (uint16_t)(sign | (half + (rest > 0x1000 || (rest == 0x1000 && (half & 1)))));
}

static uint16_t bfloat_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static void store_float(onehop_dtype_t dtype, double value, void *out) {
    float single = (float)value;
    uint16_t bits = dtype == ONEHOP_FLOAT16 ? half_bits(single) : bfloat_bits(single);
    if (dtype == ONEHOP_FLOAT64) {
        memcpy(out, &value, sizeof value);
    } else if (dtype == ONEHOP_FLOAT32) {
        memcpy(out, &single, sizeof single);
    } else {
        memcpy(out, &bits, sizeof bits);
    }
}

static double load_float(onehop_dtype_t dtype, const void *element) {
    if (dtype == ONEHOP_FLOAT64) {
        double value;
        memcpy(&value, element, sizeof value);
        return value;
    }
    uint32_t bits = 0;
    if (dtype == ONEHOP_FLOAT32) {
        memcpy(&bits, element, 4);
    } else {
        memcpy(&bits, element, 2);
    }
    if (dtype == ONEHOP_FLOAT16) {
        double sign = bits & 0x8000 ? -1 : 1;
        int exponent = (int)(bits >> 10 & 31), fraction = (int)(bits & 1023);
        if (exponent == 31) return fraction != 0 ? (double)NAN : sign * HUGE_VAL;
        return sign * (exponent == 0 ? ldexp(fraction, -24) : ldexp(fraction + 1024, exponent - 25));
    }
    if (dtype == ONEHOP_BFLOAT16) bits <<= 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return (double)value;
}

static double combine_floats(const data_t *data, size_t index) {
    int result = small_integer(data, 0, index);
    for (int r = 1; r < data->nranks; r++) {
        int value = small_integer(data, r, index);
        switch (data->op) {
        case ONEHOP_SUM:
        case ONEHOP_AVG: result += value; break;
        case ONEHOP_PROD: result *= value; break;
        case ONEHOP_MIN: result = value < result ? value : result; break;
        case ONEHOP_MAX: result = value > result ? value : result; break;
        }
    }
    if (data->op != ONEHOP_AVG) return result;
    if (data->dtype == ONEHOP_FLOAT64) return (double)result / data->nranks;
    return (double)((float)result / (float)data->nranks);
}

/* ---- integers ---- */

static bool is_signed(onehop_dtype_t dtype) {
    return dtype == ONEHOP_INT8 || dtype == ONEHOP_INT32 || dtype == ONEHOP_INT64;
}

/* The low bits of `bits`, as the type understands them. */
static wide_t wrap(onehop_dtype_t dtype, uint64_t bits) {
    size_t unused = 64 - 8 * onehop_dtype_size(dtype);
    return is_signed(dtype) ? (wide_t)((int64_t)(bits << unused) >> unused) : (wide_t)(bits << unused >> unused);
}

/* Factors are odd: with every even one a product has fewer bits that could be wrong. */
static uint64_t integer_bits(const data_t *data, int rank, size_t index) {
    return noise(data, rank, index) | (data->op == ONEHOP_PROD);
}

static wide_t combine_integers(const data_t *data, size_t index) {
    wide_t result = wrap(data->dtype, integer_bits(data, 0, index));
    for (int r = 1; r < data->nranks; r++) {
        wide_t value = wrap(data->dtype, integer_bits(data, r, index));
        switch (data->op) {
        case ONEHOP_SUM:
        case ONEHOP_AVG: result += value; break;
        case ONEHOP_PROD: result = (wide_t)((unsigned_wide_t)result * (unsigned_wide_t)value); break;
        case ONEHOP_MIN: result = value < result ? value : result; break;
        case ONEHOP_MAX: result = value > result ? value : result; break;
        }
    }
    return data->op == ONEHOP_AVG ? result / data->nranks : result;
}

/* The first bytes of a little-endian word are the low ones. */
static void store_integer(onehop_dtype_t dtype, uint64_t bits, void *out) {
    memcpy(out, &bits, onehop_dtype_size(dtype));
}

/* ---- messages ---- */

enum { RESULT = -1 }; /* in place of a rank */

static void make_element(const data_t *data, int rank, size_t index, void *out) {
    if (is_float(data->dtype)) {
        double value = rank == RESULT ? combine_floats(data, index) : small_integer(data, rank, index);
        store_float(data->dtype, value, out);
    } else {
        uint64_t bits = rank == RESULT ? (uint64_t)combine_integers(data, index) : integer_bits(data, rank, index);
        store_integer(data->dtype, bits, out);
    }
}

/* The first period, or as much of it as `count` elements need; returns its bytes. */
static size_t make_period(const data_t *data, int rank, size_t count, unsigned char *period) {
    size_t size = onehop_dtype_size(data->dtype), elements = count < PERIOD ? count : PERIOD;
    for (size_t i = 0; i < elements; i++) make_element(data, rank, i, period + i * size);
    return elements * size;
}

void data_fill(const data_t *data, int rank, void *buffer, size_t count) {
    unsigned char period[PERIOD * ELEMENT_MAX];
    size_t bytes = count * onehop_dtype_size(data->dtype), period_bytes = make_period(data, rank, count, period);
    for (size_t at = 0; at < bytes; at += period_bytes) {
        memcpy((char *)buffer + at, period, bytes - at < period_bytes ? bytes - at : period_bytes);
    }
}

static void show(onehop_dtype_t dtype, const void *element, char *text, size_t room) {
    uint64_t bits = 0;
    memcpy(&bits, element, onehop_dtype_size(dtype));
    if (is_float(dtype)) {
        snprintf(text, room, "%.17g", load_float(dtype, element));
    } else if (is_signed(dtype)) {
        snprintf(text, room, "%lld", (long long)wrap(dtype, bits));
    } else {
        snprintf(text, room, "%llu", (unsigned long long)bits);
    }
}

static size_t check(const data_t *data, int rank, const void *buffer, size_t count, data_error_t *first) {
    unsigned char period[PERIOD * ELEMENT_MAX];
    size_t size = onehop_dtype_size(data->dtype), wrong = 0;
    make_period(data, rank, count, period);
    for (size_t start = 0; start < count; start += PERIOD) {
        size_t n = count - start < PERIOD ? count - start : PERIOD;
        const unsigned char *got = (const unsigned char *)buffer + start * size;
        if (memcmp(got, period, n * size) == 0) continue;
        for (size_t i = 0; i < n; i++) {
            if (memcmp(got + i * size, period + i * size, size) == 0) continue;
            if (wrong++ > 0 || first == NULL) continue;
            first->index = start + i;
            show(data->dtype, got + i * size, first->got, sizeof first->got);
            show(data->dtype, period + i * size, first->expected, sizeof first->expected);
        }
    }
    return wrong;
}

size_t data_check(const data_t *data, const void *buffer, size_t count, data_error_t *first) {
    return check(data, RESULT, buffer, count, first);
}

size_t data_check_sent(const data_t *data, int rank, const void *buffer, size_t count, data_error_t *first) {
    return check(data, rank, buffer, count, first);
}
