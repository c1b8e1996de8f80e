/* SPDX-License-Identifier: Apache-2.0 */
/* Copies, through the cache or around it. */
#include <stdint.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "backend/host/reduce.h"

#if defined(__x86_64__)
enum { LINE = 64 };

/* Whole lines, so that each leaves the write-combining buffer at once; `to` is aligned to one. */
__attribute__((target("avx"))) static void stream_lines(unsigned char *to, const unsigned char *from, size_t bytes) {
    for (size_t at = 0; at < bytes; at += LINE) {
        const __m256i low = _mm256_loadu_si256((const __m256i *)(const void *)(from + at));
        const __m256i high = _mm256_loadu_si256((const __m256i *)(const void *)(from + at) + 1);
        _mm256_stream_si256((__m256i *)(void *)(to + at), low);
        _mm256_stream_si256((__m256i *)(void *)(to + at) + 1, high);
    }
    _mm_sfence();
}

void oh_copy(void *dst, const void *src, size_t bytes, oh_store_t store) {
    unsigned char *to = dst;
    const unsigned char *from = src;
    if (store == OH_STORE_STREAM && bytes >= 2 * LINE && __builtin_cpu_supports("avx")) {
        const size_t head = -(uintptr_t)to % LINE, lines = (bytes - head) / LINE * LINE;
        memcpy(to, from, head);
        stream_lines(to + head, from + head, lines);
        to += head + lines;
        from += head + lines;
        bytes -= head + lines;
    }
    memcpy(to, from, bytes);
}
#else
void oh_copy(void *dst, const void *src, size_t bytes, oh_store_t store) {
    (void)store;
    memcpy(dst, src, bytes);
}
#endif
