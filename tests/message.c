/* SPDX-License-Identifier: Apache-2.0 */
/* Messages and their reduction, one element at a time; see message.h. */
#include "message.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PERIOD = 1021, ELEMENT_MAX = 8 };

/* Any element, as what its type computes in. */
typedef union value {
    float single;
    double twice;
    __int128 whole;
} value_t;

typedef enum arithmetic { IN_FLOAT, IN_DOUBLE, IN_INTEGERS } arithmetic_t;

static arithmetic_t arithmetic_of(onehop_dtype_t dtype) {
    switch (dtype) {
    case ONEHOP_FLOAT32:
    case ONEHOP_FLOAT16:
    case ONEHOP_BFLOAT16: return IN_FLOAT;
    case ONEHOP_FLOAT64: return IN_DOUBLE;
    default: return IN_INTEGERS;
    }
}

/* ---- 16-bit floats of any split between exponent and fraction ---- */

typedef struct format {
    int fraction, exponent; /* bits */
} format_t;

static format_t format_of(onehop_dtype_t dtype) {
    return dtype == ONEHOP_FLOAT16 ? (format_t){10, 5} : (format_t){7, 8};
}

static float decode16(format_t f, uint16_t bits) {
    int bias = (1 << (f.exponent - 1)) - 1;
    int exponent = (bits >> f.fraction) & ((1 << f.exponent) - 1);
    int fraction = bits & ((1 << f.fraction) - 1);
    float size;
    if (exponent == (1 << f.exponent) - 1)
        size = fraction ? NAN : INFINITY;
    else if (exponent == 0)
        size = (float)ldexp(fraction, 1 - bias - f.fraction);
    else
        size = (float)ldexp(fraction + (1 << f.fraction), exponent - bias - f.fraction);
    return bits & 0x8000 ? -size : size;
}

/* To nearest, ties to even. */
static uint16_t encode16(format_t f, float value) {
    int bias = (1 << (f.exponent - 1)) - 1;
    uint16_t sign = signbit(value) ? 0x8000 : 0;
    uint16_t infinity = (uint16_t)(((1 << f.exponent) - 1) << f.fraction);
    if (isnan(value)) return (uint16_t)(sign | infinity | 1 << (f.fraction - 1));
    if (isinf(value)) return sign | infinity;
    int exponent;
    frexp((double)value, &exponent);
    exponent -= 1;
    if (exponent < 1 - bias || value == 0) exponent = 1 - bias;
    if (exponent > bias) return sign | infinity;
    /* Counts steps of the last place; the implicit leading one carries into the exponent by itself. */
    double steps = nearbyint(ldexp(fabs((double)value), f.fraction - exponent));
    unsigned bits = ((unsigned)(exponent + bias - 1) << f.fraction) + (unsigned)steps;
    return (uint16_t)(sign | bits);
}

/* ---- Elements ---- */

static value_t decode(onehop_dtype_t dtype, const unsigned char *at) {
    value_t v = {0};
    uint64_t bits = 0;
    memcpy(&bits, at, onehop_dtype_size(dtype)); /* little-endian, as all that Onehop runs on */
    switch (dtype) {
    case ONEHOP_FLOAT32: memcpy(&v.single, at, 4); break;
    case ONEHOP_FLOAT16:
    case ONEHOP_BFLOAT16: v.single = decode16(format_of(dtype), (uint16_t)bits); break;
    case ONEHOP_FLOAT64: memcpy(&v.twice, at, 8); break;
    case ONEHOP_INT8: v.whole = (int8_t)bits; break;
    case ONEHOP_INT32: v.whole = (int32_t)bits; break;
    case ONEHOP_INT64: v.whole = (int64_t)bits; break;
    default: v.whole = bits; break;
    }
    return v;
}

static void encode(onehop_dtype_t dtype, value_t v, unsigned char *at) {
    if (dtype == ONEHOP_FLOAT16 || dtype == ONEHOP_BFLOAT16) {
        uint16_t bits = encode16(format_of(dtype), v.single);
        memcpy(at, &bits, sizeof bits);
    } else {
        memcpy(at, &v, onehop_dtype_size(dtype)); /* integers wrap */
    }
}

static value_t from_double(onehop_dtype_t dtype, double x) {
    value_t v = {0};
    if (arithmetic_of(dtype) == IN_DOUBLE)
        v.twice = x;
    else
        v.single = (float)x;
    return v;
}

/* Small integers whose reduction is exact in every float type, for up to 64 ranks. */
static double exact_float(onehop_op_t op, uint64_t random, int rank, int nranks) {
    int limit = 100;
    if (op == ONEHOP_PROD) return (random & 1 ? 1 : -1) * (rank < 7 && random & 2 ? 2 : 1);
    if (op == ONEHOP_SUM || op == ONEHOP_AVG) limit = 240 / nranks < 15 ? 240 / nranks : 15;
    return (int)(random % (unsigned)(2 * limit + 1)) - limit;
}

/* Of a magnitude that leaves rounding to do, yet seldom overflows. */
static double any_float(onehop_dtype_t dtype, onehop_op_t op, uint64_t random) {
    int reach = op == ONEHOP_PROD ? 2 : dtype == ONEHOP_FLOAT16 ? 8 : 16;
    double size = ldexp(1 + (double)(random >> 12) * 0x1p-52, (int)(mix64(random) % (unsigned)reach) - reach / 2);
    return random & 1 ? size : -size;
}

static double special_float(onehop_dtype_t dtype, onehop_op_t op, uint64_t random) {
    const double tiny = dtype == ONEHOP_FLOAT16   ? 0x1p-24
                        : dtype == ONEHOP_FLOAT32 ? 0x1p-149
                        : dtype == ONEHOP_FLOAT64 ? 0x1p-1074
                                                  : 0x1p-133;
    const double huge = dtype == ONEHOP_FLOAT16   ? 65504
                        : dtype == ONEHOP_FLOAT32 ? 0x1.fffffep127
                        : dtype == ONEHOP_FLOAT64 ? 0x1.fffffffffffffp1023
                                                  : 0x1.fep127;
    const double special[] = {0.0, -0.0, INFINITY, -INFINITY, NAN, tiny, -tiny, 3 * tiny, huge, -huge};
    const unsigned specials = sizeof special / sizeof *special;
    /* Mostly zeros and subnormals, lest every result be NaN. */
    unsigned pick = (unsigned)(mix64(random) % 32);
    if (pick < specials) return special[pick];
    if (pick < 20) return special[(pick & 1) ? 1 : 5 + pick % 3];
    return any_float(dtype, op, random);
}

/* Writes element i of what `rank` sends. */
static void element(const message_t *m, int rank, int nranks, size_t i, unsigned char *at) {
    uint64_t random = mix64(mix64(m->seed + (uint64_t)rank) + i);
    if (arithmetic_of(m->dtype) == IN_INTEGERS) {
        memcpy(at, &random, onehop_dtype_size(m->dtype));
        return;
    }
    double x = m->kind == DATA_EXACT    ? exact_float(m->op, random, rank, nranks)
               : m->kind == DATA_FLOATS ? any_float(m->dtype, m->op, random)
                                        : special_float(m->dtype, m->op, random);
    encode(m->dtype, from_double(m->dtype, x), at);
}

/* ---- The reduction ---- */

#define COMBINE(op, a, b)                                                                                              \
    ((op) == ONEHOP_MIN ? ((b) < (a) ? (b) : (a)) : (op) == ONEHOP_MAX ? ((b) > (a) ? (b) : (a)) : (a) + (b))

static value_t combine(const message_t *m, value_t a, value_t b) {
    bool extreme = m->op == ONEHOP_MIN || m->op == ONEHOP_MAX;
    value_t v = {0};
    switch (arithmetic_of(m->dtype)) {
    case IN_FLOAT:
        v.single = m->op == ONEHOP_PROD ? a.single * b.single : COMBINE(m->op, a.single, b.single);
        if (extreme && (isnan(a.single) || isnan(b.single))) v.single = NAN;
        break;
    case IN_DOUBLE:
        v.twice = m->op == ONEHOP_PROD ? a.twice * b.twice : COMBINE(m->op, a.twice, b.twice);
        if (extreme && (isnan(a.twice) || isnan(b.twice))) v.twice = NAN;
        break;
    case IN_INTEGERS:
        if (m->op == ONEHOP_PROD)
            v.whole = (__int128)((unsigned __int128)a.whole * (unsigned __int128)b.whole);
        else
            v.whole = COMBINE(m->op, a.whole, b.whole);
        break;
    }
    return v;
}

/* The sum becomes the result: a zero is +0, and the average is divided. */
static value_t complete(const message_t *m, value_t v, int nranks) {
    bool sum = m->op == ONEHOP_SUM || m->op == ONEHOP_AVG;
    bool divide = m->op == ONEHOP_AVG;
    switch (arithmetic_of(m->dtype)) {
    case IN_FLOAT:
        if (sum && v.single == 0) v.single = 0;
        if (divide) v.single /= (float)nranks;
        break;
    case IN_DOUBLE:
        if (sum && v.twice == 0) v.twice = 0;
        if (divide) v.twice /= (double)nranks;
        break;
    case IN_INTEGERS:
        if (divide) v.whole /= nranks;
        break;
    }
    return v;
}

static void expected_element(const message_t *m, int nranks, size_t i, unsigned char *at) {
    unsigned char one[ELEMENT_MAX];
    element(m, 0, nranks, i, one);
    value_t v = decode(m->dtype, one);
    for (int r = 1; r < nranks; r++) {
        element(m, r, nranks, i, one);
        v = combine(m, v, decode(m->dtype, one));
    }
    encode(m->dtype, complete(m, v, nranks), at);
}

/* ---- Messages ---- */

size_t message_bytes(const message_t *m) { return m->count * onehop_dtype_size(m->dtype); }

static size_t period_of(const message_t *m) { return m->count < PERIOD ? m->count : PERIOD; }

void message_fill(const message_t *m, int rank, void *buffer, int nranks) {
    size_t size = onehop_dtype_size(m->dtype), bytes = message_bytes(m), period = period_of(m);
    unsigned char *to = buffer;
    for (size_t i = 0; i < period; i++) element(m, rank, nranks, i, to + i * size);
    for (size_t filled = period * size; filled < bytes;) {
        size_t more = bytes - filled < filled ? bytes - filled : filled;
        memcpy(to + filled, to, more);
        filled += more;
    }
}

/* Bits that the contract leaves open: which NaN, and which zero is the smaller. */
static bool equivalent(const message_t *m, const unsigned char *a, const unsigned char *b) {
    value_t x = decode(m->dtype, a), y = decode(m->dtype, b);
    bool zeros = m->op == ONEHOP_MIN || m->op == ONEHOP_MAX;
    switch (arithmetic_of(m->dtype)) {
    case IN_FLOAT: return (isnan(x.single) && isnan(y.single)) || (zeros && x.single == 0 && y.single == 0);
    case IN_DOUBLE: return (isnan(x.twice) && isnan(y.twice)) || (zeros && x.twice == 0 && y.twice == 0);
    default: return false;
    }
}

static unsigned long long bits_at(const unsigned char *at, size_t size) {
    unsigned long long bits = 0;
    memcpy(&bits, at, size);
    return bits;
}

/* Fails where `buffer` is not `pattern` over and over. */
static void check_pattern(const message_t *m, const unsigned char *buffer, const unsigned char *pattern,
                          const char *what) {
    size_t size = onehop_dtype_size(m->dtype), period = period_of(m);
    for (size_t begin = 0; begin < m->count; begin += period) {
        size_t n = m->count - begin < period ? m->count - begin : period;
        if (memcmp(buffer + begin * size, pattern, n * size) == 0) continue;
        for (size_t i = 0; i < n; i++) {
            const unsigned char *is = buffer + (begin + i) * size, *should = pattern + i * size;
            if (memcmp(is, should, size) == 0 || equivalent(m, is, should)) continue;
            CHECK(false, "%s %s %s: element %zu of %zu is 0x%llx, expected 0x%llx", what, onehop_dtype_string(m->dtype),
                  onehop_op_string(m->op), begin + i, m->count, bits_at(is, size), bits_at(should, size));
        }
    }
}

void message_check(const message_t *m, const void *buffer, int nranks) {
    unsigned char pattern[PERIOD * ELEMENT_MAX];
    size_t size = onehop_dtype_size(m->dtype);
    for (size_t i = 0; i < period_of(m); i++) expected_element(m, nranks, i, pattern + i * size);
    check_pattern(m, buffer, pattern, "result of");
}

void message_check_sent(const message_t *m, int rank, const void *buffer, int nranks) {
    unsigned char pattern[PERIOD * ELEMENT_MAX];
    size_t size = onehop_dtype_size(m->dtype);
    for (size_t i = 0; i < period_of(m); i++) element(m, rank, nranks, i, pattern + i * size);
    check_pattern(m, buffer, pattern, "sendbuf of");
}

uint64_t message_hash(const message_t *m, const void *buffer) {
    const unsigned char *at = buffer;
    uint64_t hash = m->count;
    for (size_t i = 0, bytes = message_bytes(m); i < bytes; i += 8)
        hash = mix64(hash ^ bits_at(at + i, bytes - i < 8 ? bytes - i : 8));
    return hash;
}

/* ---- Areas ---- */

area_t area_new(size_t bytes) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t whole = (bytes + 2 * GUARD + page - 1) / page * page;
    unsigned char *start =
        mmap(NULL, whole + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(start != MAP_FAILED, "mmap of %zu bytes: %s", whole, strerror(errno));
    CHECK(mprotect(start + whole, page, PROT_NONE) == 0, "mprotect: %s", strerror(errno));
    return (area_t){start, whole};
}

void area_free(area_t area) { munmap(area.start, area.bytes + (size_t)sysconf(_SC_PAGESIZE)); }

unsigned char *area_place(area_t area, size_t bytes, rng_t *rng) {
    CHECK(bytes + 2 * GUARD <= area.bytes, "%zu bytes and guards into an area of %zu", bytes, area.bytes);
    size_t slack = area.bytes - bytes - 2 * GUARD;
    switch (rng_below(rng, 4)) {
    case 0: return area.start + area.bytes - bytes;
    case 1: return area.start + GUARD; /* aligned */
    default: return area.start + GUARD + rng_below(rng, (slack < 4096 ? slack : 4096) + 1);
    }
}

static unsigned char guard_byte(size_t i) { return (unsigned char)(0xa5 ^ i); }

/* The guards of a message, as far as they lie in the area; visits each byte. */
static void guards(area_t area, unsigned char *message, size_t bytes, bool check) {
    unsigned char *end = message + bytes, *area_end = area.start + area.bytes;
    size_t before = (size_t)(message - area.start), after = (size_t)(area_end - end);
    for (size_t i = 1; i <= GUARD; i++) {
        if (i <= before && !check) message[-(ptrdiff_t)i] = guard_byte(i);
        if (i <= after && !check) end[i - 1] = guard_byte(i);
        CHECK(!check || i > before || message[-(ptrdiff_t)i] == guard_byte(i), "byte %zu before recvbuf was written",
              i);
        CHECK(!check || i > after || end[i - 1] == guard_byte(i), "byte %zu behind recvbuf was written", i);
    }
}

void all_reduce_checked(onehop_comm_t *comm, const message_t *m, area_t area, unsigned char *send,
                        unsigned char *recv) {
    int rank = onehop_comm_rank(comm), nranks = onehop_comm_nranks(comm);
    size_t bytes = message_bytes(m);
    guards(area, recv, bytes, false);
    if (send) memset(recv, 0x5a, bytes);
    message_fill(m, rank, send ? send : recv, nranks);
    doing("all-reduce of %zu %s, %s, %s", m->count, onehop_dtype_string(m->dtype), onehop_op_string(m->op),
          send ? "out of place" : "in place");
    CHECK_SUCCESS(onehop_all_reduce(send ? send : recv, recv, m->count, m->dtype, m->op, comm, NULL));
    message_check(m, recv, nranks);
    guards(area, recv, bytes, true);
    if (send) message_check_sent(m, rank, send, nranks);
}

/* ---- Choices ---- */

/* Whether two counts are treated alike: by the same algorithm, in pieces of the same size, for the same reason. */
static bool alike(const onehop_comm_t *comm, onehop_dtype_t dtype, onehop_op_t op, int registered, size_t a, size_t b) {
    onehop_choice_t x = {.size = sizeof x}, y = {.size = sizeof y};
    CHECK_SUCCESS(onehop_comm_explain(comm, a, dtype, op, registered, &x));
    CHECK_SUCCESS(onehop_comm_explain(comm, b, dtype, op, registered, &y));
    size_t size = onehop_dtype_size(dtype);
    size_t x_piece = x.chunk_bytes == a * size ? 0 : x.chunk_bytes;
    size_t y_piece = y.chunk_bytes == b * size ? 0 : y.chunk_bytes;
    return strcmp(x.algorithm, y.algorithm) == 0 && x_piece == y_piece && strcmp(x.reason, y.reason) == 0;
}

int find_switches(const onehop_comm_t *comm, onehop_dtype_t dtype, onehop_op_t op, int registered, size_t max_bytes,
                  size_t *counts, int room) {
    int found = 0;
    size_t most = max_bytes / onehop_dtype_size(dtype);
    for (size_t low = 1; low * 2 <= most && found < room; low *= 2) {
        size_t same = low, other = low * 2;
        if (alike(comm, dtype, op, registered, same, other)) continue;
        while (other - same > 1) {
            size_t middle = same + (other - same) / 2;
            if (alike(comm, dtype, op, registered, low, middle))
                same = middle;
            else
                other = middle;
        }
        counts[found++] = other;
    }
    return found;
}
