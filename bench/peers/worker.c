/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One rank of a compared system: the same timing loop for all of them, over the interface of system.h.
 *
 *   worker SOCKET float32|bfloat16 plain|registered MAX_BYTES SEED
 *
 * Connects to the driver's Unix socket, tells its rank, and then sleeps in read() until the driver sends a line
 * "BYTES SECONDS": so many ranks of several systems can be alive while one of them is measured. Answers with one line
 * of JSON. Ends when the driver closes the socket.
 */
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "system.h"

enum { MAX_SAMPLES = 20000, MIN_SAMPLES = 3, BLOCK = 1024 };
static const double batch_seconds = 100e-6; /* the clock's own time is nothing beside it */

typedef struct job {
    element_t element;
    bool registered;
    uint32_t seed;
    void *send, *recv;
} job_t;

/* Of one operation, on the slowest rank. */
typedef struct timing {
    double median_us, p99_us;
    int batch, batches, singles;
} timing_t;

void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("worker: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/*
 * Adds to out[i] what `rank` puts into element first+i: an integer of -3 ... 4, so that sums over 64 ranks are exact in
 * every type and every order.
 */
static void add_values(uint32_t seed, int rank, size_t first, size_t count, float *out) {
    uint32_t start = seed + 0xC2B2AE3Du * (uint32_t)rank + 0x9E3779B1u * (uint32_t)first;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t x = start + 0x9E3779B1u * i;
        x = (x ^ x >> 15) * 0x85EBCA77u;
        out[i] += (float)((int)(x >> 29) - 3);
    }
}

static size_t size_of(element_t element) { return element == FLOAT32 ? 4 : 2; }

/* The upper half of a float is the bfloat16 nearest to zero: exact for small integers. */
static void encode(const float *values, size_t count, element_t element, void *out) {
    if (element == FLOAT32) {
        memcpy(out, values, 4 * count);
        return;
    }
    uint16_t *half = out;
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &values[i], 4);
        half[i] = (uint16_t)(bits >> 16);
    }
}

/* Encodes what ranks from ... to-1 sum to in `count` <= BLOCK elements. */
static void encode_sum(const job_t *job, int from, int to, size_t first, size_t count, void *out) {
    float sum[BLOCK] = {0};
    for (int rank = from; rank < to; rank++) add_values(job->seed, rank, first, count, sum);
    encode(sum, count, job->element, out);
}

static void fill(const job_t *job, size_t count) {
    int rank = system_rank();
    for (size_t first = 0; first < count; first += BLOCK) {
        size_t n = count - first < BLOCK ? count - first : BLOCK;
        encode_sum(job, rank, rank + 1, first, n, (char *)job->send + first * size_of(job->element));
    }
}

static size_t count_wrong(const job_t *job, size_t count) {
    size_t wrong = 0, size = size_of(job->element);
    for (size_t first = 0; first < count; first += BLOCK) {
        size_t n = count - first < BLOCK ? count - first : BLOCK;
        char expected[BLOCK * sizeof(float)];
        encode_sum(job, 0, system_nranks(), first, n, expected);
        const char *got = (const char *)job->recv + first * size;
        if (memcmp(got, expected, n * size) == 0) continue;
        for (size_t i = 0; i < n; i++) wrong += memcmp(got + i * size, expected + i * size, size) != 0;
    }
    return wrong;
}

/* One operation into a buffer of NaNs; how many elements came out wrong. */
static size_t verify(const job_t *job, size_t count) {
    memset(job->recv, 0xff, count * size_of(job->element));
    system_sum(job->send, job->recv, count, job->element);
    return count_wrong(job, count);
}

static double run_batch(const job_t *job, size_t count, int operations) {
    system_barrier();
    double start = now();
    for (int i = 0; i < operations; i++) system_sum(job->send, job->recv, count, job->element);
    return now() - start;
}

/* Warms up for a fraction of `seconds`; returns the time of one operation, the same number on all ranks. */
static double estimate(const job_t *job, size_t count, double seconds) {
    for (int operations = 1;; operations *= 2) {
        double spent = run_batch(job, count, operations);
        system_max(&spent, 1);
        if (spent > seconds / 8) return spent / operations;
    }
}

static int ascending(const void *a, const void *b) {
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* The value that a share of `quantile` of the samples does not exceed. Sorts them. */
static double slowest_rank(double *samples, int count, double quantile) {
    system_max(samples, count);
    qsort(samples, (size_t)count, sizeof samples[0], ascending);
    return samples[(int)ceil(quantile * count) - 1];
}

static int clamp(double value, int low, int high) { return value < low ? low : value > high ? high : (int)value; }

/*
 * The median is that of batches, so that reading the clock costs nothing; p99 is that of single operations, one after
 * the other. Both take about half of `seconds`; ranks agree on the counts as they agree on the estimate.
 */
static timing_t measure(const job_t *job, size_t count, double seconds) {
    static double samples[MAX_SAMPLES];
    double each = estimate(job, count, seconds);
    timing_t timing;
    timing.batch = clamp(batch_seconds / each, 1, MAX_SAMPLES);
    timing.batches = clamp(seconds / 2 / each / timing.batch, MIN_SAMPLES, MAX_SAMPLES);
    timing.singles = clamp(seconds / 2 / each, MIN_SAMPLES, MAX_SAMPLES);
    for (int i = 0; i < timing.batches; i++) samples[i] = run_batch(job, count, timing.batch) / timing.batch;
    timing.median_us = 1e6 * slowest_rank(samples, timing.batches, 0.5);

    system_barrier();
    double last = now();
    for (int i = 0; i < timing.singles; i++) {
        system_sum(job->send, job->recv, count, job->element);
        double next = now();
        samples[i] = next - last;
        last = next;
    }
    timing.p99_us = 1e6 * slowest_rank(samples, timing.singles, 0.99);
    return timing;
}

static int connect_to(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) fail("the path of the socket is too long: %s", path);
    strcpy(address.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
        fail("cannot connect to %s: %s", path, strerror(errno));
    return fd;
}

/* Obeys the driver until it closes the socket. */
static void serve(const job_t *job, int fd, size_t max_bytes) {
    char line[128];
    FILE *orders = fdopen(fd, "r");
    if (orders == NULL) fail("fdopen: %s", strerror(errno));
    dprintf(fd, "{\"rank\": %d, \"nranks\": %d, \"version\": \"%s\"}\n", system_rank(), system_nranks(),
            system_version());
    while (fgets(line, sizeof line, orders) != NULL) {
        size_t bytes;
        double seconds;
        if (sscanf(line, "%zu %lf", &bytes, &seconds) != 2 || bytes > max_bytes) fail("bad order: %s", line);
        size_t count = bytes / size_of(job->element);
        size_t wrong = verify(job, count);
        timing_t timing = measure(job, count, seconds);
        wrong += verify(job, count);
        dprintf(fd,
                "{\"time_us\": %.6g, \"time_p99_us\": %.6g, \"batch\": %d, \"batches\": %d, \"singles\": %d, "
                "\"wrong\": %zu, \"algorithm\": \"%s\"}\n",
                timing.median_us, timing.p99_us, timing.batch, timing.batches, timing.singles, wrong,
                system_algorithm(count, job->element, job->registered));
    }
    fclose(orders);
}

int main(int argc, char **argv) {
    system_init(&argc, &argv);
    if (argc != 6) fail("usage: worker SOCKET float32|bfloat16 plain|registered MAX_BYTES SEED");
    job_t job = {
        .element = strcmp(argv[2], "float32") == 0 ? FLOAT32 : BFLOAT16,
        .registered = strcmp(argv[3], "registered") == 0,
        .seed = (uint32_t)strtoul(argv[5], NULL, 10),
    };
    size_t max_bytes = strtoull(argv[4], NULL, 10);
    job.send = system_alloc(max_bytes, job.registered);
    job.recv = system_alloc(max_bytes, job.registered);
    fill(&job, max_bytes / size_of(job.element));
    serve(&job, connect_to(argv[1]), max_bytes);
    system_finalize();
    return 0;
}
