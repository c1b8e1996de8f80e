/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What ranks send in the integration tests, what must come back, and one checked all-reduce.
 *
 * The expectation is computed here, element by element in rank order, from the contract in onehop.h alone. Data repeat
 * after a prime number of elements, so that they are cheap to make and to check, and no piece of a message whose size
 * is a power of two looks like another.
 */
#ifndef TESTS_MESSAGE_H
#define TESTS_MESSAGE_H

#include "harness.h"

enum { DTYPES = 10, OPS = 5 };

typedef enum data_kind {
    DATA_EXACT,  /* small integers: every order of summation gives the exact result; all bits for integer types */
    DATA_FLOATS, /* floats of many magnitudes: only the promised order gives the promised bits */
    DATA_SPECIAL /* among them NaN, infinities, zeros of both signs, subnormals and the largest numbers */
} data_kind_t;

typedef struct message {
    size_t count;
    onehop_dtype_t dtype;
    onehop_op_t op;
    data_kind_t kind;
    uint64_t seed;
} message_t;

size_t message_bytes(const message_t *m);
void message_fill(const message_t *m, int rank, void *buffer, int nranks);
/* Fails unless `buffer` holds the result; or, for message_check_sent, still what `rank` sent. */
void message_check(const message_t *m, const void *buffer, int nranks);
void message_check_sent(const message_t *m, int rank, const void *buffer, int nranks);
/* For comparing results between ranks and algorithms, NaNs and signs of zero included. */
uint64_t message_hash(const message_t *m, const void *buffer);

/* Memory with room for messages. */
typedef struct area {
    unsigned char *start;
    size_t bytes;
} area_t;

enum { GUARD = 64 }; /* bytes that are watched on either side of a message */

/* The page behind the area is out of bounds: a message that ends with the area faults if it is overrun. */
area_t area_new(size_t bytes);
void area_free(area_t area);
/* Where to put `bytes` in the area: anywhere with a guard on both sides, or at its very end. */
unsigned char *area_place(area_t area, size_t bytes, rng_t *rng);

/* One all-reduce from `send` (NULL: in place) to `recv`, filled, called and checked: result, guards, untouched input.
 */
void all_reduce_checked(onehop_comm_t *comm, const message_t *m, area_t area, unsigned char *send, unsigned char *recv);

/* Counts, up to max_bytes, at which onehop_comm_explain changes its mind: each is the first of its kind. */
int find_switches(const onehop_comm_t *comm, onehop_dtype_t dtype, onehop_op_t op, int registered, size_t max_bytes,
                  size_t *counts, int room);

#endif
