/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How fast one core reduces memory: GB/s moved (inputs read and output written) per instruction set, type, operation
 * and number of inputs, with everything in the L2 cache and, with non-temporal stores, from main memory.
 *
 *     reduce_bench [DTYPE [OP]]      e.g. reduce_bench bfloat16 sum; "all" is every one
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/host/reduce.h"
#include "base/clock.h"
#include "base/dtype.h"

enum { CACHED_BYTES = 512 << 10, MEMORY_BYTES = 256 << 20, ROUNDS = 7 };

typedef struct job {
    oh_reduce_fn reduce;
    unsigned char *memory;
    int nsrc;
    size_t stride, count; /* buffer k begins at k * stride; the output follows the inputs */
    oh_store_t store;
} job_t;

static void run(const job_t *job) {
    const void *src[ONEHOP_MAX_RANKS];
    for (int s = 0; s < job->nsrc; s++) src[s] = job->memory + (size_t)s * job->stride;
    void *dst = job->memory + (size_t)job->nsrc * job->stride;
    job->reduce(&dst, 1, src, job->nsrc, job->count, job->store);
}

/* Nanoseconds of one call: the fastest of several rounds, each long enough for the clock. */
static double time_ns(const job_t *job) {
    double best = 1e30;
    int calls = 1;
    for (int round = 0; round < ROUNDS;) {
        int64_t begin = oh_now_ns();
        for (int i = 0; i < calls; i++) run(job);
        int64_t elapsed = oh_now_ns() - begin;
        if (elapsed < 3000000) {
            calls *= 2;
            continue;
        }
        double each = (double)elapsed / calls;
        if (each < best) best = each;
        round++;
    }
    return best;
}

/* Splits `total` bytes among inputs and output; buffers start at different places of a page, as they do in life. */
static double gigabytes_per_second(oh_reduce_fn reduce, unsigned char *memory, size_t total, int nsrc,
                                   onehop_dtype_t dtype, oh_store_t store) {
    size_t stride = (total / (size_t)(nsrc + 1) - 320) / 64 * 64;
    size_t bytes = stride - 192;
    job_t job = {reduce, memory, nsrc, stride, bytes / onehop_dtype_size(dtype), store};
    return (double)bytes * (nsrc + 1) / time_ns(&job);
}

static void bench(oh_simd_t simd, onehop_dtype_t dtype, onehop_op_t op, unsigned char *memory) {
    static const int nsrcs[] = {2, 4, 8, 64};
    oh_reduce_fn reduce = oh_reduce_find(simd, dtype, op);
    for (size_t i = 0; i < sizeof nsrcs / sizeof nsrcs[0]; i++) {
        job_t small = {reduce, memory, nsrcs[i], 4096, 2, OH_STORE_CACHED};
        printf("%-11s %-9s %-5s %5d %9.1f %9.1f %9.1f\n", oh_simd_name(simd), onehop_dtype_string(dtype),
               onehop_op_string(op), nsrcs[i], time_ns(&small),
               gigabytes_per_second(reduce, memory, CACHED_BYTES, nsrcs[i], dtype, OH_STORE_CACHED),
               gigabytes_per_second(reduce, memory, MEMORY_BYTES, nsrcs[i], dtype, OH_STORE_STREAM));
        fflush(stdout);
    }
}

static int wanted(const char *given, const char *name) { return strcmp(given, "all") == 0 || strcmp(given, name) == 0; }

int main(int argc, char **argv) {
    const char *dtype_name = argc > 1 ? argv[1] : "all", *op_name = argc > 2 ? argv[2] : "sum";
    unsigned char *memory = aligned_alloc(4096, MEMORY_BYTES);
    if (memory == NULL) return 1;
    memset(memory, 0, MEMORY_BYTES);
    int lines = 0;
    printf("%-11s %-9s %-5s %5s %9s %9s %9s\n", "simd", "dtype", "op", "nsrc", "ns (n=2)", "L2 GB/s", "mem GB/s");
    for (oh_simd_t simd = OH_SIMD_PORTABLE; simd < OH_SIMDS; simd++) {
        for (int d = 0; d < OH_DTYPES; d++) {
            for (int o = 0; o < OH_OPS; o++) {
                if (!oh_simd_available(simd) || !wanted(dtype_name, onehop_dtype_string((onehop_dtype_t)d)) ||
                    !wanted(op_name, onehop_op_string((onehop_op_t)o))) {
                    continue;
                }
                bench(simd, (onehop_dtype_t)d, (onehop_op_t)o, memory);
                lines++;
            }
        }
    }
    free(memory);
    if (lines == 0) fprintf(stderr, "usage: reduce_bench [DTYPE|all [OP|all]], e.g. reduce_bench bfloat16 sum\n");
    return lines == 0 ? 2 : 0;
}
