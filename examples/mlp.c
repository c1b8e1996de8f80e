/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The MLP block of a transformer, tensor-parallel:  Y = relu(X A) B,  with the weights divided among the ranks.
 *
 *     onehop launch -n 2 -- mlp [TOKENS [WIDTH [HIDDEN]]]
 *
 * Rank r holds some columns of A and the same rows of B. Each column of H = relu(X A) then needs one rank only, and
 * each rank has a part of the sum over the hidden columns that is Y = H B: one all-reduce adds the parts up.
 *
 * Is the result the one that a single process computes? Not nearly: exactly. X holds integers from -2 to 2, A and B -1,
 * 0 and 1. So every product and every partial sum, in whatever order, is an integer of magnitude at most
 * WIDTH * 2 * HIDDEN; while that is below 2^24 a float holds each of them without rounding.
 */
#include <inttypes.h>
#include <onehop.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ROUNDS = 20 };

typedef struct block {
    size_t tokens, width, hidden; /* of the whole block */
    size_t begin, end;            /* hidden columns that are ours */
    float *a, *b;                 /* width x (end - begin), (end - begin) x width */
} block_t;

static void die(const char *what) {
    fprintf(stderr, "mlp: %s: %s\n", what, onehop_last_error());
    exit(1);
}

static float *allocate(size_t count) {
    float *memory = calloc(count > 0 ? count : 1, sizeof *memory);
    if (memory == NULL) {
        fprintf(stderr, "mlp: no memory for %zu floats\n", count);
        exit(1);
    }
    return memory;
}

static double now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec * 1e-3;
}

/* Element (row, column) of matrix `seed`: an integer from -most to most, the same in every process. */
static float element(uint64_t seed, size_t row, size_t column, int most) {
    uint64_t x = (seed << 56) + ((uint64_t)row << 28) + column;
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return (float)((int)((x >> 33) % (uint64_t)(2 * most + 1)) - most);
}

/* The share of columns begin to end - 1 of the hidden layer. */
static block_t make_block(size_t tokens, size_t width, size_t hidden, size_t begin, size_t end) {
    block_t m = {tokens, width, hidden, begin, end, NULL, NULL};
    m.a = allocate(width * (end - begin));
    m.b = allocate(width * (end - begin));
    for (size_t i = 0; i < width; i++) {
        for (size_t k = begin; k < end; k++) {
            m.a[i * (end - begin) + (k - begin)] = element(1, i, k, 1);
            m.b[(k - begin) * width + i] = element(2, k, i, 1);
        }
    }
    return m;
}

static void free_block(block_t *m) {
    free(m->a);
    free(m->b);
}

/* out (rows x columns) = in (rows x inner) * weights (inner x columns) */
static void multiply(float *restrict out, const float *restrict in, const float *restrict weights, size_t rows,
                     size_t inner, size_t columns) {
    memset(out, 0, rows * columns * sizeof *out);
    for (size_t i = 0; i < rows; i++) {
        for (size_t k = 0; k < inner; k++) {
            for (size_t j = 0; j < columns; j++) out[i * columns + j] += in[i * inner + k] * weights[k * columns + j];
        }
    }
}

/* This share's part of Y; h has room for tokens x (end - begin). */
static void forward(const block_t *m, const float *x, float *h, float *y) {
    size_t ours = m->end - m->begin;
    multiply(h, x, m->a, m->tokens, m->width, ours);
    for (size_t i = 0; i < m->tokens * ours; i++) h[i] = h[i] > 0 ? h[i] : 0;
    multiply(y, h, m->b, m->tokens, ours, m->width);
}

typedef struct spent {
    double computing, waiting, reducing; /* microseconds */
} spent_t;

static void sum(void *memory, size_t count, onehop_comm_t *comm) {
    if (onehop_all_reduce(memory, memory, count, ONEHOP_FLOAT32, ONEHOP_SUM, comm, NULL) != ONEHOP_SUCCESS) {
        die("all_reduce");
    }
}

/* Y, on every rank: the parts computed side by side, then added up. */
static void run_block(const block_t *m, const float *x, float *h, float *y, onehop_comm_t *comm, spent_t *spent) {
    double t0 = now_us();
    forward(m, x, h, y);
    double t1 = now_us();
    sum(NULL, 0, comm); /* only meets: so that waiting for the slowest rank is not taken for the all-reduce */
    double t2 = now_us();
    sum(y, m->tokens * m->width, comm);
    spent->computing += t1 - t0;
    spent->waiting += t2 - t1;
    spent->reducing += now_us() - t2;
}

/* What one process alone computes. */
static float *reference(size_t tokens, size_t width, size_t hidden, const float *x) {
    block_t whole = make_block(tokens, width, hidden, 0, hidden);
    float *h = allocate(tokens * hidden), *y = allocate(tokens * width);
    forward(&whole, x, h, y);
    free(h);
    free_block(&whole);
    return y;
}

/* The largest difference on any rank, known to all. */
static float largest_difference(const float *y, const float *expected, size_t count, onehop_comm_t *comm) {
    float most = 0;
    for (size_t i = 0; i < count; i++) {
        float difference = y[i] > expected[i] ? y[i] - expected[i] : expected[i] - y[i];
        if (!(difference <= most)) most = difference; /* a NaN stays */
    }
    if (onehop_all_reduce(&most, &most, 1, ONEHOP_FLOAT32, ONEHOP_MAX, comm, NULL) != ONEHOP_SUCCESS) die("all_reduce");
    return most;
}

static size_t argument(int argc, char **argv, int index, const char *name, size_t otherwise) {
    if (index >= argc) return otherwise;
    char *end;
    unsigned long value = strtoul(argv[index], &end, 10);
    if (*end != '\0' || value < 1 || value > 65536) {
        fprintf(stderr, "mlp: %s is \"%s\": expected a number from 1 to 65536\n", name, argv[index]);
        exit(2);
    }
    return value;
}

int main(int argc, char **argv) {
    size_t tokens = argument(argc, argv, 1, "TOKENS", 16), width = argument(argc, argv, 2, "WIDTH", 1024),
           hidden = argument(argc, argv, 3, "HIDDEN", 4096);
    if (2 * width * hidden >= (size_t)1 << 24) {
        fprintf(stderr, "mlp: WIDTH * 2 * HIDDEN is %zu: expected less than 2^24, so that floats are exact\n",
                2 * width * hidden);
        return 2;
    }
    onehop_config_t config = ONEHOP_CONFIG_INIT;
    onehop_comm_t *comm;
    config.device = ONEHOP_DEVICE_HOST;
    if (onehop_comm_create(&config, &comm) != ONEHOP_SUCCESS) die("comm_create");
    size_t rank = (size_t)onehop_comm_rank(comm), nranks = (size_t)onehop_comm_nranks(comm);

    block_t mine = make_block(tokens, width, hidden, hidden * rank / nranks, hidden * (rank + 1) / nranks);
    float *x = allocate(tokens * width), *h = allocate(tokens * (mine.end - mine.begin)), *y = allocate(tokens * width);
    for (size_t i = 0; i < tokens * width; i++) x[i] = element(0, i / width, i % width, 2);

    spent_t spent = {0, 0, 0};
    for (int round = 0; round <= ROUNDS; round++) {
        if (round == 1) spent = (spent_t){0, 0, 0}; /* the first is to warm up */
        run_block(&mine, x, h, y, comm, &spent);
    }

    float *expected = reference(tokens, width, hidden, x);
    float difference = largest_difference(y, expected, tokens * width, comm);
    if (rank == 0) {
        printf("%zu tokens, width %zu, hidden %zu over %zu ranks: rank 0 holds %zu of the hidden columns\n", tokens,
               width, hidden, nranks, mine.end - mine.begin);
        printf("largest difference to a single process: %g (expected: exactly 0)\n", (double)difference);
        double all = spent.computing + spent.waiting + spent.reducing;
        printf(
            "a block takes rank 0 %.0f us: %.1f %% computing, %.1f %% waiting for the slowest rank, %.1f %% (%.0f us) "
            "all-reduce of %zu bytes\n",
            all / ROUNDS, 100 * spent.computing / all, 100 * spent.waiting / all, 100 * spent.reducing / all,
            spent.reducing / ROUNDS, tokens * width * sizeof *y);
    }
    free(expected);
    free(y);
    free(h);
    free(x);
    free_block(&mine);
    onehop_comm_destroy(comm);
    return difference == 0 ? 0 : 1;
}
