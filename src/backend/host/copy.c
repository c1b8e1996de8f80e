/* SPDX-License-Identifier: Apache-2.0 */
/* Copies, through the cache or around it. */
#include <stdint.h>
#include <string.h>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "backend/host/reduce.h"

#if defined(__SSE2__)
enum { LINE = 64 };

/* Whole lines at a time, so that each leaves the write-combining buffer at once. */
static void stream_lines(unsigned char *to, const unsigned char *from, size_t bytes) {
    for (size_t at = 0; at < bytes; at += LINE) {
        __m128i part[LINE / sizeof(__m128i)];
        memcpy(part, from + at, LINE);
        for (size_t i = 0; i < LINE / sizeof(__m128i); i++) _mm_stream_si128((__m128i *)(void *)(to + at) + i, part[i]);
    }
    _mm_sfence();
}

void oh_copy(void *dst, const void *src, size_t bytes, oh_store_t store) {
    unsigned char *to = dst;
    const unsigned char *from = src;
    if (store == OH_STORE_STREAM && bytes >= 2 * LINE) {
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
