/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What ranks send, and what must come back, to the bit.
 *
 * Floats are small integers, so that every order of combining them gives the exact result (AVG: the exact sum, divided
 * once). Integers are all bits, so that they wrap. Data repeat after a prime number of elements: they are cheap to
 * make and check, and yet no two pieces of a message that is cut at a power of two are alike.
 */
#ifndef CLI_DATA_H
#define CLI_DATA_H

#include <onehop.h>
#include <stddef.h>
#include <stdint.h>

typedef struct data {
    onehop_dtype_t dtype;
    onehop_op_t op;
    int nranks;
    uint64_t seed;
} data_t;

/* What `rank` sends. */
void data_fill(const data_t *data, int rank, void *buffer, size_t count);

/* One element that is not as it should be, as text. */
typedef struct data_error {
    size_t index;
    char got[32], expected[32];
} data_error_t;

/* How many elements differ from the result; *first (may be NULL) tells the first of them. */
size_t data_check(const data_t *data, const void *buffer, size_t count, data_error_t *first);
/* The same for what `rank` sent. */
size_t data_check_sent(const data_t *data, int rank, const void *buffer, size_t count, data_error_t *first);

/* Reproducible noise: a bijection of 64 bits that leaves no pattern. */
uint64_t data_mix(uint64_t x);
/* A new seed. */
uint64_t data_fresh_seed(void);

#endif
