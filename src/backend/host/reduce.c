/* SPDX-License-Identifier: Apache-2.0 */
/* Which reductions this processor can run, and where they are. */
#include "backend/host/reduce.h"

#include <stddef.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "backend/host/reduce_table.h"

typedef struct instruction_set {
    const char *name;
    int (*present)(void); /* in this processor, with the operating system's leave to use its registers */
    const oh_reduce_table_t *table;
} instruction_set_t;

static int always(void) { return 1; }

#if defined(__x86_64__)
static int has_f16c(void) {
    /* Not a word that every compiler's __builtin_cpu_supports knows. */
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C) != 0;
}
static int has_avx2(void) { return __builtin_cpu_supports("avx2") && has_f16c(); }
static int has_avx512(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
static int has_avx512_bf16(void) { return has_avx512() && __builtin_cpu_supports("avx512bf16"); }
#endif

/* What this build lacks has no table. */
static const instruction_set_t sets[] = {
    [OH_SIMD_PORTABLE] = {"portable", always, &oh_reduce_portable},
#if defined(__aarch64__)
    [OH_SIMD_NEON] = {"neon", always, &oh_reduce_neon},
#else
    [OH_SIMD_NEON] = {"neon", NULL, NULL},
#endif
#if defined(__x86_64__)
    [OH_SIMD_AVX2] = {"avx2", has_avx2, &oh_reduce_avx2},
    [OH_SIMD_AVX512] = {"avx512", has_avx512, &oh_reduce_avx512},
    [OH_SIMD_AVX512_BF16] = {"avx512_bf16", has_avx512_bf16, &oh_reduce_avx512_bf16},
#else
    [OH_SIMD_AVX2] = {"avx2", NULL, NULL},
    [OH_SIMD_AVX512] = {"avx512", NULL, NULL},
    [OH_SIMD_AVX512_BF16] = {"avx512_bf16", NULL, NULL},
#endif
};

const char *oh_simd_name(oh_simd_t simd) { return sets[simd].name; }

int oh_simd_available(oh_simd_t simd) { return sets[simd].table != NULL && sets[simd].present(); }

oh_simd_t oh_simd_best(void) {
    oh_simd_t best = OH_SIMDS - 1;
    while (!oh_simd_available(best)) best--;
    return best;
}

/* What an instruction set has nothing of its own for is found in one below it. */
oh_reduce_fn oh_reduce_find(oh_simd_t simd, onehop_dtype_t dtype, onehop_op_t op) {
    while (sets[simd].table == NULL || (*sets[simd].table)[dtype][op] == NULL) simd--;
    return (*sets[simd].table)[dtype][op];
}
