/* SPDX-License-Identifier: Apache-2.0 */
/* Time, and how to pass it. */
#ifndef OH_BASE_CLOCK_H
#define OH_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

/* Monotonic nanoseconds; comparable between processes of one machine. */
static inline int64_t oh_now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Tells the processor that this is a spin loop. */
static inline void oh_cpu_relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

#endif
