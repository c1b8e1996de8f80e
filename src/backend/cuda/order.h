/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations of one communicator follow one another, whatever streams they are put into: each waits for the one before
 * it, by an event, where that went into another stream. Since all ranks call in the same order, no two of them run
 * their operations in different orders, which is how communicators deadlock.
 *
 * While all calls use one stream nothing is recorded, and nothing is slower for it. The first change of streams records
 * the event late, behind all that the first stream has been given; from then on every call records it at once.
 *
 * Within a capture the same, by an event of its own; whatever else that stream captures later is not waited for.
 *
 * REPLAYS. When graphs are replayed only the caller and the driver know. Where replays are to be in order too, a graph
 * waits, before the first operation that was captured into it, for the last call and for the last replay of any graph;
 * and it records an event behind its last operation. What the event stands for is looked up when a graph is launched,
 * or a call is made, so that replays and calls are in the order of their launches. Between the operations of a graph
 * there is nothing: the node that records is beside them, and its edge moves on with the last one. Then every call
 * records its event at once, and waits for the last replay.
 */
#ifndef OH_BACKEND_CUDA_ORDER_H
#define OH_BACKEND_CUDA_ORDER_H

#include <stdbool.h>
#include <stdint.h>

#include "driver/cuda.h"

/* Streams are told apart by the driver's numbers for them, which it never gives twice; within a capture by handles. */
typedef struct oh_order {
    /* The last call that ran. */
    bool any, several; /* there was one; the event follows it */
    CUstream stream;
    unsigned long long stream_id;
    CUevent event;
    /* The last call that was captured: into which capture. */
    uint64_t capture; /* 0: none; the driver counts from 1 */
    CUstream captured_stream;
    CUevent captured;
    /* Replays; NULL: they are the caller's. */
    CUevent replayed;     /* follows the last one */
    CUgraphNode recorder; /* records it, in that capture's graph */
    CUgraphNode last;     /* the operation that the recorder is behind */
} oh_order_t;

/* Of one call. */
typedef struct oh_turn {
    CUstream stream;
    unsigned long long stream_id; /* where it runs */
    uint64_t capture;             /* 0: it runs */
    bool early; /* its kernel may be started before the one before it in the stream, or in the graph, has ended */
} oh_turn_t;

onehop_result_t oh_order_open(oh_order_t *order, const oh_cuda_t *cuda, bool replays);
void oh_order_close(oh_order_t *order, const oh_cuda_t *cuda);

/* Before the kernel is launched into `stream`, and after. The context is current. */
onehop_result_t oh_order_begin(oh_order_t *order, const oh_cuda_t *cuda, CUstream stream, oh_turn_t *turn);
onehop_result_t oh_order_end(oh_order_t *order, const oh_cuda_t *cuda, const oh_turn_t *turn);

#endif
