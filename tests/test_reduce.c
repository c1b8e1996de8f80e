/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reductions and copies of every instruction set that this processor has, against the plain reference, bit by bit:
 * counts around every boundary, any alignment, in place or not, one to many outputs, both kinds of stores.
 *
 * Every buffer lies between two pages that must not be touched, and among bytes that must not change.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include "backend/host/reduce.h"
#include "base/dtype.h"
#include "reduce_reference.h"

enum { PAGE = 1 << 16 /* the largest that Linux has */, SLOTS = 2 * ONEHOP_MAX_RANKS, GUARD = 64, MARK = 0xa5 };

static uint64_t seed, random_state;

static uint64_t next_random(void) {
    uint64_t z = random_state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}
static size_t below(size_t bound) { return (size_t)(next_random() % bound); }

/* ---- Where buffers lie: each in a slot of its own, one page between two that cannot be touched ---- */

static unsigned char *slots;

static unsigned char *slot(int index) { return slots + (size_t)(2 * index + 1) * PAGE; }

static int make_slots(void **state) {
    (void)state;
    const size_t bytes = (size_t)(2 * SLOTS + 1) * PAGE;
    slots = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (slots == MAP_FAILED) return -1;
    for (int i = 0; i < SLOTS; i++) {
        if (mprotect(slot(i), PAGE, PROT_READ | PROT_WRITE) != 0) return -1;
        memset(slot(i), MARK, PAGE);
    }
    return 0;
}

static int free_slots(void **state) {
    (void)state;
    return munmap(slots, (size_t)(2 * SLOTS + 1) * PAGE);
}

typedef enum placement { AT_START, AT_END, ANYWHERE, AT_ELEMENTS, PLACEMENTS } placement_t;
static const char *const placement_name[PLACEMENTS] = {"at the page's start", "at the page's end", "anywhere",
                                                       "at a multiple of the element"};

static unsigned char *place(int index, placement_t placement, size_t bytes, size_t element) {
    switch (placement) {
    case AT_START: return slot(index);
    case AT_END: return slot(index) + PAGE - bytes;
    case ANYWHERE: return slot(index) + GUARD + below(64);
    default: return slot(index) + GUARD + below(64 / element) * element;
    }
}

/* Whether all bytes around [p, p+bytes) are as they were, within GUARD and the slot. */
static int intact(int index, const unsigned char *p, size_t bytes) {
    const unsigned char *begin = slot(index), *end = begin + PAGE;
    for (const unsigned char *q = p - begin < GUARD ? begin : p - GUARD; q < p; q++) {
        if (*q != MARK) return 0;
    }
    for (const unsigned char *q = p + bytes; q < end && q < p + bytes + GUARD; q++) {
        if (*q != MARK) return 0;
    }
    return 1;
}

/* ---- Inputs ---- */

/* What makes trouble: signed zeros, the ends of the ranges, halfway cases, infinities; NaNs are made from bits. */
static void fill_special(onehop_dtype_t dtype, void *buffer, size_t i) {
    static const double special[] = {0.0,      -0.0,      1.0,       -1.0,     0x1p-24,        -0x1p-25, 0x1p-14,
                                     0x1p-15,  65504.0,   -65520.0,  16.0,     15.9375,        2049.0,   1.00392156,
                                     0x1p-126, -0x1p-133, -0x1p-149, 0x1p-150, 0x1.fffffep127, 1e308,    -5e-324,
                                     INFINITY, -INFINITY};
    static const double integer[] = {0,      1, -1, 127, 128, 255, 0x1p31, -0x1p31, 0x1p32 - 1, 0x1.fffffffffffffp62,
                                     -0x1p63};
    const size_t size = onehop_dtype_size(dtype);
    if (dtype >= ONEHOP_INT8) {
        reference_set(dtype, buffer, i, integer[below(sizeof integer / sizeof integer[0])]);
    } else if (below(4) == 0) {
        /* NaNs of both signs, quiet and signalling, with payloads above and below. */
        static const uint64_t nan[][4] = {
            {0x7fc00000, 0xffc12345, 0x7f800001, 0xff810000},
            {0x7e00, 0xfe01, 0x7c01, 0xfdff},
            {0x7fc0, 0xffc1, 0x7f81, 0xffff},
            {0x7ff8000000000000, 0xfff8000000000001, 0x7ff0000000000001, 0xfff7000000000000}};
        memcpy((char *)buffer + i * size, &nan[dtype][below(4)], size);
    } else {
        reference_set(dtype, buffer, i, special[below(sizeof special / sizeof special[0])]);
    }
}

/* Mostly numbers of like size, so that sums round and cancel; now and then any bits, and what makes trouble. */
static void fill_random(onehop_dtype_t dtype, void *buffer, size_t count, size_t rarity) {
    const size_t size = onehop_dtype_size(dtype);
    for (size_t i = 0; i < count; i++) {
        if (below(rarity) == 0) {
            fill_special(dtype, buffer, i);
        } else if (dtype >= ONEHOP_INT8 || below(rarity) == 0) {
            const uint64_t bits = next_random();
            memcpy((char *)buffer + i * size, &bits, size);
        } else {
            const double scale = (double)(1 << below(12)) / 4096;
            reference_set(dtype, buffer, i, ((double)below(1 << 20) / (1 << 19) - 1) * scale);
        }
    }
}

/* ---- One call ---- */

typedef struct call {
    oh_simd_t simd;
    onehop_dtype_t dtype;
    onehop_op_t op;
    int nsrc, ndst;
    size_t count;
    placement_t placement;
    oh_store_t store;
    int in_place; /* the outputs are inputs, as far as there are */
} call_t;

static void fail_call(const call_t *c, const char *what, size_t element) {
    fail_msg("%s %s %s of %d into %d, %zu elements %s, %s%s: %s at element %zu (ONEHOP_TEST_SEED=0x%llx)",
             oh_simd_name(c->simd), onehop_dtype_string(c->dtype), onehop_op_string(c->op), c->nsrc, c->ndst, c->count,
             placement_name[c->placement], c->store == OH_STORE_STREAM ? "streamed" : "cached",
             c->in_place ? ", in place" : "", what, element, (unsigned long long)seed);
}

static void check_same(const call_t *c, const char *what, const void *expected, const void *actual) {
    const size_t size = onehop_dtype_size(c->dtype);
    if (memcmp(expected, actual, c->count * size) == 0) return;
    size_t i = 0;
    while (memcmp((const char *)expected + i * size, (const char *)actual + i * size, size) == 0) i++;
    fail_call(c, what, i);
}

/* Lays out copies of the inputs, reduces, and looks at every byte within reach. */
static void check_call(const call_t *c, unsigned char *const *input, const void *expected) {
    const size_t size = onehop_dtype_size(c->dtype), bytes = c->count * size;
    const void *src[ONEHOP_MAX_RANKS];
    void *dst[ONEHOP_MAX_RANKS];
    int index[ONEHOP_MAX_RANKS];
    for (int s = 0; s < c->nsrc; s++) {
        unsigned char *p = place(s, c->placement, bytes, size);
        memcpy(p, input[s], bytes);
        src[s] = p;
    }
    const int shift = (int)below((size_t)c->nsrc);
    for (int d = 0; d < c->ndst; d++) {
        const int alias = (d + shift) % c->nsrc, aliases = c->in_place && d < c->nsrc;
        index[d] = aliases ? alias : ONEHOP_MAX_RANKS + d;
        dst[d] = aliases ? (void *)(uintptr_t)src[alias] : place(index[d], c->placement, bytes, size);
    }
    oh_reduce_find(c->simd, c->dtype, c->op)(dst, c->ndst, src, c->nsrc, c->count, c->store);
    for (int d = 0; d < c->ndst; d++) {
        check_same(c, "wrong result", expected, dst[d]);
        if (!intact(index[d], dst[d], bytes)) fail_call(c, "wrote beyond its output", c->count);
        memset(dst[d], MARK, bytes);
    }
    for (int s = 0; s < c->nsrc; s++) {
        int output = 0;
        for (int d = 0; d < c->ndst; d++) output |= dst[d] == src[s];
        if (output) continue;
        check_same(c, "changed its input", input[s], src[s]);
        memset((void *)(uintptr_t)src[s], MARK, bytes);
    }
}

/* ---- Tests ---- */

enum { MOST_BYTES = 2100 };
static unsigned char *inputs[ONEHOP_MAX_RANKS], *result;

static int make_inputs(void **state) {
    for (int s = 0; s < ONEHOP_MAX_RANKS; s++) inputs[s] = malloc(PAGE * 2);
    result = malloc(PAGE * 2);
    return make_slots(state);
}

static int free_inputs(void **state) {
    for (int s = 0; s < ONEHOP_MAX_RANKS; s++) free(inputs[s]);
    free(result);
    return free_slots(state);
}

/* All ways to make one reduction of `count` elements of the inputs. */
static void check_ways(call_t call, const int *ndsts, int nndsts) {
    for (int d = 0; d < nndsts; d++) {
        for (int placement = 0; placement < PLACEMENTS; placement++) {
            for (int streamed = 0; streamed < 2; streamed++) {
                call.ndst = ndsts[d];
                call.placement = (placement_t)placement;
                call.store = streamed ? OH_STORE_STREAM : OH_STORE_CACHED;
                call.in_place = (int)below(2);
                check_call(&call, inputs, result);
            }
        }
    }
}

/* Counts on both sides of a vector of each size, of several, and of several and a bit. */
static void check_counts(onehop_dtype_t dtype, onehop_op_t op, int nsrc) {
    static const size_t edges[] = {0, 16, 32, 64, 96, 128, 192, 256, 512, 1088, 2048};
    const size_t size = onehop_dtype_size(dtype);
    const int ndsts[] = {1, 2, nsrc};
    for (int s = 0; s < nsrc; s++) fill_random(dtype, inputs[s], MOST_BYTES / size, 8 + 4 * (size_t)nsrc);
    reference_reduce(dtype, op, result, (const void *const *)inputs, nsrc, MOST_BYTES / size);
    for (oh_simd_t simd = OH_SIMD_PORTABLE; simd < OH_SIMDS; simd++) {
        if (!oh_simd_available(simd)) continue;
        for (size_t e = 0; e < sizeof edges / sizeof edges[0]; e++) {
            for (int beside = -1; beside <= 3; beside++) {
                if (edges[e] == 0 && beside < 0) continue;
                const size_t count = edges[e] / size + (size_t)beside;
                check_ways((call_t){.simd = simd, .dtype = dtype, .op = op, .nsrc = nsrc, .count = count}, ndsts,
                           nsrc > 2 ? 3 : 2);
            }
        }
    }
}

static void test_counts(void **state) {
    (void)state;
    static const int nsrcs[] = {1, 2, 3, 4, 5, 8, 64};
    for (int dtype = 0; dtype < OH_DTYPES; dtype++) {
        for (int op = 0; op < OH_OPS; op++) {
            for (size_t n = 0; n < sizeof nsrcs / sizeof nsrcs[0]; n++) {
                check_counts((onehop_dtype_t)dtype, (onehop_op_t)op, nsrcs[n]);
            }
        }
    }
}

/* `count` elements of the inputs, by every instruction set and operation. */
static void check_all_sets(onehop_dtype_t dtype, int nsrc, size_t count) {
    for (int op = 0; op < OH_OPS; op++) {
        reference_reduce(dtype, (onehop_op_t)op, result, (const void *const *)inputs, nsrc, count);
        for (oh_simd_t simd = OH_SIMD_PORTABLE; simd < OH_SIMDS; simd++) {
            if (!oh_simd_available(simd)) continue;
            const call_t call = {.simd = simd,
                                 .dtype = dtype,
                                 .op = (onehop_op_t)op,
                                 .nsrc = nsrc,
                                 .ndst = 1,
                                 .count = count,
                                 .placement = ANYWHERE};
            check_call(&call, inputs, result);
        }
    }
}

/* Every 16-bit float alone, with another and among others; in pieces that fit a slot. */
static void test_all_16_bit_floats(void **state) {
    (void)state;
    enum { PIECE = 1 << 13 };
    static const onehop_dtype_t halves[] = {ONEHOP_FLOAT16, ONEHOP_BFLOAT16};
    for (int h = 0; h < 2; h++) {
        for (size_t from = 0; from < 1 << 16; from += PIECE) {
            for (int nsrc = 1; nsrc <= 5; nsrc++) {
                for (size_t i = 0; i < PIECE; i++) {
                    const uint16_t bits = (uint16_t)(from + i);
                    memcpy(inputs[0] + 2 * i, &bits, 2);
                    for (int s = 1; s < nsrc; s++) {
                        const uint16_t other = (uint16_t)next_random();
                        memcpy(inputs[s] + 2 * i, &other, 2);
                    }
                }
                check_all_sets(halves[h], nsrc, PIECE);
            }
        }
    }
}

/* What makes trouble, with each other. */
static void test_specials(void **state) {
    (void)state;
    enum { COUNT = 2000 };
    for (int dtype = 0; dtype < OH_DTYPES; dtype++) {
        for (int nsrc = 1; nsrc <= 8; nsrc++) {
            for (int s = 0; s < nsrc; s++) {
                for (size_t i = 0; i < COUNT; i++) fill_special((onehop_dtype_t)dtype, inputs[s], i);
            }
            check_all_sets((onehop_dtype_t)dtype, nsrc, COUNT);
        }
    }
}

/* Many steps, so that a wrong stride shows. */
static void test_long(void **state) {
    (void)state;
    for (int round = 0; round < 60; round++) {
        const onehop_dtype_t dtype = (onehop_dtype_t)below(OH_DTYPES);
        const onehop_op_t op = (onehop_op_t)below(OH_OPS);
        const int nsrc = 1 + (int)below(9), ndsts[] = {1 + (int)below(3)};
        const size_t count = below((PAGE - 2 * GUARD - 64) / onehop_dtype_size(dtype));
        for (int s = 0; s < nsrc; s++) fill_random(dtype, inputs[s], count, 100);
        reference_reduce(dtype, op, result, (const void *const *)inputs, nsrc, count);
        for (oh_simd_t simd = OH_SIMD_PORTABLE; simd < OH_SIMDS; simd++) {
            if (!oh_simd_available(simd)) continue;
            check_ways((call_t){.simd = simd, .dtype = dtype, .op = op, .nsrc = nsrc, .count = count}, ndsts, 1);
        }
    }
}

static void check_copy(size_t bytes, oh_store_t store, size_t dst_offset, size_t src_offset) {
    unsigned char *dst = slot(0) + dst_offset, *src = slot(1) + src_offset;
    for (size_t i = 0; i < bytes; i++) src[i] = (unsigned char)next_random();
    oh_copy(dst, src, bytes, store);
    if (memcmp(dst, src, bytes) != 0 || !intact(0, dst, bytes)) {
        fail_msg("oh_copy of %zu bytes from +%zu to +%zu, %s (ONEHOP_TEST_SEED=0x%llx)", bytes, src_offset, dst_offset,
                 store == OH_STORE_STREAM ? "streamed" : "cached", (unsigned long long)seed);
    }
    memset(dst, MARK, bytes);
    memset(src, MARK, bytes);
}

static void test_copy(void **state) {
    (void)state;
    for (int streamed = 0; streamed < 2; streamed++) {
        const oh_store_t store = streamed ? OH_STORE_STREAM : OH_STORE_CACHED;
        for (size_t bytes = 0; bytes < 400; bytes++) {
            check_copy(bytes, store, 0, 0);
            check_copy(bytes, store, PAGE - bytes, PAGE - bytes);
            for (int i = 0; i < 16; i++) check_copy(bytes, store, below(200), below(200));
        }
        for (int i = 0; i < 300; i++) check_copy(below(PAGE - 400), store, below(200), below(200));
    }
}

static void test_choice(void **state) {
    (void)state;
    assert_true(oh_simd_available(OH_SIMD_PORTABLE));
    assert_true(oh_simd_available(oh_simd_best()));
    printf("instruction sets:");
    for (oh_simd_t simd = OH_SIMD_PORTABLE; simd < OH_SIMDS; simd++) {
        if (!oh_simd_available(simd)) continue;
        assert_true(simd <= oh_simd_best());
        printf(" %s", oh_simd_name(simd));
        for (int dtype = 0; dtype < OH_DTYPES; dtype++) {
            for (int op = 0; op < OH_OPS; op++) {
                assert_non_null(oh_reduce_find(simd, (onehop_dtype_t)dtype, (onehop_op_t)op));
            }
        }
    }
    printf("\n");
}

int main(void) {
    const char *given = getenv("ONEHOP_TEST_SEED");
    if (given != NULL) {
        seed = strtoull(given, NULL, 0);
    } else if (getrandom(&seed, sizeof seed, 0) != (ssize_t)sizeof seed) {
        return 1;
    }
    random_state = seed;
    printf("test_reduce: ONEHOP_TEST_SEED=0x%llx\n", (unsigned long long)seed);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_choice),   cmocka_unit_test(test_copy),
        cmocka_unit_test(test_specials), cmocka_unit_test(test_all_16_bit_floats),
        cmocka_unit_test(test_long),     cmocka_unit_test(test_counts),
    };
    return cmocka_run_group_tests(tests, make_inputs, free_inputs);
}
