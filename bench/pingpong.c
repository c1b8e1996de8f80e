/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Prints the time of a one-way signal between the first two processors that this process may run on, in nanoseconds:
 * half of a round trip of one word, store until seen. The median of several short runs, as others may disturb some.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { RUNS = 15, TRIPS = 1000 };

/* Each word has one writer and its own pair of cache lines, as processors fetch lines in pairs. */
static struct {
    _Alignas(128) atomic_uint ping;
    _Alignas(128) atomic_uint pong;
} words;

static void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void await(const atomic_uint *word, unsigned value) {
    while (atomic_load_explicit(word, memory_order_acquire) != value) relax();
}

static void *answer(void *unused) {
    for (unsigned trip = 1; trip <= RUNS * TRIPS; trip++) {
        await(&words.ping, trip);
        atomic_store_explicit(&words.pong, trip, memory_order_release);
    }
    return unused;
}

static double now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return 1e9 * (double)now.tv_sec + (double)now.tv_nsec;
}

static int ascending(const void *a, const void *b) {
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* Stores the numbers of the first two processors of `allowed`; false if there is but one. */
static int first_two(const cpu_set_t *allowed, size_t cpus[2]) {
    int found = 0;
    for (size_t cpu = 0; cpu < CPU_SETSIZE && found < 2; cpu++)
        if (CPU_ISSET(cpu, allowed)) cpus[found++] = cpu;
    return found == 2;
}

static int pin(pthread_t thread, size_t cpu) {
    cpu_set_t only;
    CPU_ZERO(&only);
    CPU_SET(cpu, &only);
    return pthread_setaffinity_np(thread, sizeof only, &only);
}

int main(void) {
    cpu_set_t allowed;
    size_t cpus[2];
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0 || !first_two(&allowed, cpus)) {
        fprintf(stderr, "pingpong: needs two processors to run on\n");
        return 1;
    }
    pthread_t partner;
    int error = pin(pthread_self(), cpus[0]);
    if (error == 0) error = pthread_create(&partner, NULL, answer, NULL);
    if (error == 0) error = pin(partner, cpus[1]);
    if (error != 0) {
        fprintf(stderr, "pingpong: cannot start a thread on each of processors %zu and %zu: %s\n", cpus[0], cpus[1],
                strerror(error));
        return 1;
    }
    double runs[RUNS];
    unsigned trip = 0;
    for (int run = 0; run < RUNS; run++) {
        double start = now_ns();
        for (int i = 0; i < TRIPS; i++) {
            atomic_store_explicit(&words.ping, ++trip, memory_order_release);
            await(&words.pong, trip);
        }
        runs[run] = (now_ns() - start) / (2.0 * TRIPS);
    }
    pthread_join(partner, NULL);
    qsort(runs, RUNS, sizeof runs[0], ascending);
    printf("%.1f\n", runs[RUNS / 2]);
    return 0;
}
