/* SPDX-License-Identifier: Apache-2.0 */
#include "backend/cuda/order.h"

#include "base/status.h"

static onehop_result_t new_event(const oh_cuda_t *cuda, CUevent *event) {
    return oh_cuda_check(cuda, cuda->cuEventCreate(event, CU_EVENT_DISABLE_TIMING), "cannot create an event");
}

onehop_result_t oh_order_open(oh_order_t *order, const oh_cuda_t *cuda, bool replays) {
    OH_TRY(new_event(cuda, &order->event));
    OH_TRY(new_event(cuda, &order->captured));
    order->several = replays;
    return replays ? new_event(cuda, &order->replayed) : ONEHOP_SUCCESS;
}

void oh_order_close(oh_order_t *order, const oh_cuda_t *cuda) {
    if (order->event != NULL) cuda->cuEventDestroy(order->event);
    if (order->captured != NULL) cuda->cuEventDestroy(order->captured);
    if (order->replayed != NULL) cuda->cuEventDestroy(order->replayed);
    *order = (oh_order_t){0};
}

/* The driver gives no number of a stream that is being captured. */
static onehop_result_t identify(const oh_cuda_t *cuda, CUstream stream, oh_turn_t *turn) {
    CUstreamCaptureStatus status;
    *turn = (oh_turn_t){.stream = stream};
    OH_TRY(oh_cuda_check(cuda, cuda->cuStreamGetCaptureInfo_v2(stream, &status, &turn->capture, NULL, NULL, NULL),
                         "stream is %p: cannot tell whether it is being captured", (void *)stream));
    if (status != CU_STREAM_CAPTURE_STATUS_NONE) return ONEHOP_SUCCESS;
    turn->capture = 0;
    turn->early = true;
    return oh_cuda_check(cuda, cuda->cuStreamGetId(stream, &turn->stream_id), "stream is %p: cannot tell which it is",
                         (void *)stream);
}

static onehop_result_t record(const oh_cuda_t *cuda, CUevent event, CUstream stream) {
    return oh_cuda_check(cuda, cuda->cuEventRecord(event, stream), "cannot record an event in stream %p",
                         (void *)stream);
}

static onehop_result_t wait_for(const oh_cuda_t *cuda, CUevent event, CUstream stream, unsigned flags) {
    return oh_cuda_check(cuda, cuda->cuStreamWaitEvent(stream, event, flags), "cannot make stream %p wait",
                         (void *)stream);
}

/*
 * The first change of streams. A stream that is being captured would draw whoever waits for it into the capture; one
 * that was destroyed can no longer be waited for alone.
 */
static onehop_result_t follow_late(oh_order_t *order, const oh_cuda_t *cuda, CUstream stream) {
    oh_turn_t last;
    onehop_result_t found = identify(cuda, order->stream, &last);
    if (found == ONEHOP_SUCCESS && last.capture != 0) {
        return oh_fail(ONEHOP_UNSUPPORTED,
                       "cannot put this operation behind the last one: stream %p, which ran that, is being captured by "
                       "now",
                       (void *)order->stream);
    }
    if (found != ONEHOP_SUCCESS || last.stream_id != order->stream_id) {
        return oh_cuda_check(cuda, cuda->cuCtxSynchronize(),
                             "cannot wait for the last operation, whose stream is gone");
    }
    OH_TRY(record(cuda, order->event, order->stream));
    return wait_for(cuda, order->event, stream, CU_EVENT_WAIT_DEFAULT);
}

/* The first operation of a graph waits, whenever that is replayed, for what was launched last by then. */
static onehop_result_t begin_graph(oh_order_t *order, const oh_cuda_t *cuda, CUstream stream) {
    order->recorder = NULL;
    OH_TRY(wait_for(cuda, order->event, stream, CU_EVENT_WAIT_EXTERNAL));
    return wait_for(cuda, order->replayed, stream, CU_EVENT_WAIT_EXTERNAL);
}

/* The nodes behind which the stream captures what comes next; the driver's array is gone with the next call. */
static CUresult query_ends(const oh_cuda_t *cuda, CUstream stream, CUgraph *graph, const CUgraphNode **ends,
                           size_t *count) {
    CUstreamCaptureStatus status;
    uint64_t capture;
    return cuda->cuStreamGetCaptureInfo_v2(stream, &status, &capture, graph, ends, count);
}

/* In a graph only an edge from one kernel to another says that the second may be started early. */
static bool is_behind_a_kernel(const oh_cuda_t *cuda, CUstream stream) {
    CUgraph graph;
    const CUgraphNode *ends;
    size_t count = 0;
    CUgraphNodeType type;
    return query_ends(cuda, stream, &graph, &ends, &count) == CUDA_SUCCESS && count == 1 &&
           cuda->cuGraphNodeGetType(ends[0], &type) == CUDA_SUCCESS && type == CU_GRAPH_NODE_TYPE_KERNEL;
}

static onehop_result_t begin_captured(oh_order_t *order, const oh_cuda_t *cuda, oh_turn_t *turn) {
    const bool first = order->capture != turn->capture;
    if (first && order->replayed != NULL) return begin_graph(order, cuda, turn->stream);
    if (!first && order->captured_stream != turn->stream) {
        return wait_for(cuda, order->captured, turn->stream, CU_EVENT_WAIT_DEFAULT);
    }
    turn->early = is_behind_a_kernel(cuda, turn->stream);
    return ONEHOP_SUCCESS;
}

/* A launch leaves the capture one end, its kernel. */
static onehop_result_t find_last(const oh_cuda_t *cuda, CUstream stream, CUgraph *graph, CUgraphNode *last) {
    const CUgraphNode *ends;
    size_t count = 0;
    OH_TRY(oh_cuda_check(cuda, query_ends(cuda, stream, graph, &ends, &count),
                         "stream %p: cannot tell what it has captured", (void *)stream));
    if (count != 1) {
        return oh_fail(ONEHOP_CUDA_ERROR, "stream %p: its capture ends in %zu nodes after a launch, expected 1",
                       (void *)stream, count);
    }
    *last = ends[0];
    return ONEHOP_SUCCESS;
}

/*
 * While a graph is captured no node can be taken out of it: the recorder stays, and its edge moves. The new edge comes
 * first, so that whatever fails leaves the recorder behind an operation. The former edge orders nothing that the new
 * one does not, and is removed to keep the graph small: where the driver refuses that, as in graphs that allocate
 * memory, it may stay.
 */
static onehop_result_t move_recorder(oh_order_t *order, const oh_cuda_t *cuda, CUgraph graph, CUgraphNode last) {
    OH_TRY(oh_cuda_check(cuda, cuda->cuGraphAddDependencies(graph, &last, &order->recorder, 1),
                         "cannot put the event of a graph behind its last operation"));
    cuda->cuGraphRemoveDependencies(graph, &order->last, &order->recorder, 1);
    return ONEHOP_SUCCESS;
}

/* Behind the last operation, which nothing follows; what is captured next goes by the operation, not by this. */
static onehop_result_t record_replays(oh_order_t *order, const oh_cuda_t *cuda, CUstream stream) {
    CUgraph graph;
    CUgraphNode last;
    OH_TRY(find_last(cuda, stream, &graph, &last));
    if (order->recorder != NULL) {
        OH_TRY(move_recorder(order, cuda, graph, last));
    } else {
        OH_TRY(oh_cuda_check(cuda, cuda->cuGraphAddEventRecordNode(&order->recorder, graph, &last, 1, order->replayed),
                             "cannot add an event to the graph"));
    }
    order->last = last;
    return ONEHOP_SUCCESS;
}

onehop_result_t oh_order_begin(oh_order_t *order, const oh_cuda_t *cuda, CUstream stream, oh_turn_t *turn) {
    OH_TRY(identify(cuda, stream, turn));
    if (turn->capture != 0) return begin_captured(order, cuda, turn);
    /* Most have ended. The driver sees that in a tenth of the time that asking it would cost (bench/NOTES.md). */
    if (order->replayed != NULL && order->capture != 0) {
        OH_TRY(wait_for(cuda, order->replayed, stream, CU_EVENT_WAIT_DEFAULT));
    }
    if (!order->any || order->stream_id == turn->stream_id) return ONEHOP_SUCCESS;
    if (order->several) return wait_for(cuda, order->event, stream, CU_EVENT_WAIT_DEFAULT);
    OH_TRY(follow_late(order, cuda, stream));
    order->several = true;
    return ONEHOP_SUCCESS;
}

onehop_result_t oh_order_end(oh_order_t *order, const oh_cuda_t *cuda, const oh_turn_t *turn) {
    if (turn->capture != 0) {
        order->capture = turn->capture;
        order->captured_stream = turn->stream;
        OH_TRY(record(cuda, order->captured, turn->stream));
        return order->replayed != NULL ? record_replays(order, cuda, turn->stream) : ONEHOP_SUCCESS;
    }
    order->any = true;
    order->stream = turn->stream;
    order->stream_id = turn->stream_id;
    /* The handle of a thread's default stream means another stream on another thread: it is of no use later. */
    if (turn->stream == CU_STREAM_PER_THREAD) order->several = true;
    return order->several ? record(cuda, order->event, turn->stream) : ONEHOP_SUCCESS;
}
