/* SPDX-License-Identifier: Apache-2.0 */
/* What travels down from a public call: the request as the caller made it, and the plan that the selector made of it.
 */
#ifndef OH_PLAN_H
#define OH_PLAN_H

#include <stdbool.h>

#include "onehop.h"

typedef struct oh_request {
    const void *sendbuf;
    void *recvbuf;
    size_t count;
    onehop_dtype_t dtype;
    onehop_op_t op;
    void *stream;
} oh_request_t;

typedef enum oh_algorithm {
    OH_ONE_SHOT, /* every rank reduces everything */
    OH_TWO_SHOT, /* every rank reduces its part, then takes the others' */
    OH_DIRECT,   /* every rank reduces its part of registered buffers into all of them */
    OH_ALGORITHMS
} oh_algorithm_t;

typedef struct oh_plan {
    oh_algorithm_t algorithm;
    size_t chunk_bytes; /* the message is cut into pieces of this size */
    bool stream;        /* store results around the cache */
} oh_plan_t;

#endif
