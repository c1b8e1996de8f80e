/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The order of operations in several streams, over a driver that keeps book: it knows which work each stream, event and
 * capture has behind it, and so whether an operation waits for the one before. A graph's operations are bits, too.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "backend/cuda/order.h"
#include "base/status.h"

enum { STREAMS = 5, EVENTS = 8, CAPTURES = 10, NODES = 32, OPERATIONS = 60 };

/* What has been put into a stream, or recorded in an event: a bit for each operation. */
typedef struct fake_stream {
    uint64_t work, capture; /* capture: which, or 0 */
    CUgraphNode last;       /* that it has captured */
    unsigned long long id;
} fake_stream_t;

typedef struct fake_event {
    uint64_t work, capture;
    bool alive;
} fake_event_t;

/* What a capture's graph does when it is replayed: wait for events, operate, and record events beside that. */
typedef struct fake_node {
    fake_event_t *event; /* to record; NULL: an operation */
    uint64_t work;       /* an operation's, and all before it */
    uint64_t edges;      /* a recorder's: a bit for each node that it is behind */
    bool copies;         /* the caller's, and no kernel */
} fake_node_t;

typedef struct fake_graph {
    fake_event_t *waits[EVENTS];
    int nwaits, nnodes;
    bool allocates; /* memory */
    uint64_t work;
    fake_node_t nodes[NODES];
} fake_graph_t;

static fake_stream_t streams[STREAMS]; /* stream 0 is NULL */
static fake_event_t events[EVENTS];
static fake_graph_t graphs[CAPTURES];
static uint64_t gone; /* work of streams that were destroyed */
static int records, waits, refused;
static int early;          /* operations whose kernels may be started early */
static size_t ends;        /* nodes that a capture ends in, */
static size_t joined;      /* and until the next operation those of another stream, which the caller has joined */
static const char *broken; /* the driver's function that fails */

static int stream_of(CUstream stream) {
    int index = (int)(intptr_t)stream;
    assert_in_range(index, 0, STREAMS - 1);
    return index;
}
static CUstream handle(int stream) { return (CUstream)(intptr_t)stream; }

static fake_event_t *event_of(CUevent event) {
    fake_event_t *found = (fake_event_t *)(void *)event;
    assert_true(found->alive);
    return found;
}

static CUresult create_event(CUevent *event, unsigned int flags) {
    assert_int_equal(flags, CU_EVENT_DISABLE_TIMING);
    for (int i = 0; i < EVENTS; i++) {
        if (events[i].alive) continue;
        events[i] = (fake_event_t){.alive = true};
        *event = (CUevent)(void *)&events[i];
        return CUDA_SUCCESS;
    }
    return CUDA_ERROR_OUT_OF_MEMORY;
}

static CUresult destroy_event(CUevent event) {
    event_of(event)->alive = false;
    return CUDA_SUCCESS;
}

static CUresult record_event(CUevent event, CUstream stream) {
    const fake_stream_t *s = &streams[stream_of(stream)];
    records++;
    *event_of(event) = (fake_event_t){s->work, s->capture, true};
    return CUDA_SUCCESS;
}

/* As the driver, which knows no waiting across the border of a capture. */
static CUresult wait_event(CUstream stream, CUevent event, unsigned int flags) {
    fake_stream_t *s = &streams[stream_of(stream)];
    waits++;
    if (flags == CU_EVENT_WAIT_EXTERNAL) {
        assert_in_range(s->capture, 1, CAPTURES - 1);
        fake_graph_t *graph = &graphs[s->capture];
        assert_in_range(graph->nwaits, 0, EVENTS - 1);
        graph->waits[graph->nwaits++] = event_of(event);
        return CUDA_SUCCESS;
    }
    assert_int_equal(flags, CU_EVENT_WAIT_DEFAULT);
    if (event_of(event)->capture != s->capture) {
        refused++;
        return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    }
    s->work |= event_of(event)->work;
    return CUDA_SUCCESS;
}

static CUresult capture_info(CUstream stream, CUstreamCaptureStatus *status, uint64_t *id, CUgraph *graph,
                             const CUgraphNode **dependencies, size_t *count) {
    const fake_stream_t *s = &streams[stream_of(stream)];
    if (graph != NULL) {
        assert_in_range(s->capture, 1, CAPTURES - 1);
        *graph = (CUgraph)(void *)&graphs[s->capture];
        *dependencies = &s->last;
        *count = s->last != NULL ? ends + joined : 0;
    }
    *status = s->capture != 0 ? CU_STREAM_CAPTURE_STATUS_ACTIVE : CU_STREAM_CAPTURE_STATUS_NONE;
    *id = s->capture != 0 ? s->capture : 0xdead; /* not set where there is none */
    return CUDA_SUCCESS;
}

static CUresult stream_id(CUstream stream, unsigned long long *id) {
    const fake_stream_t *s = &streams[stream_of(stream)];
    *id = s->id;
    return s->capture == 0 ? CUDA_SUCCESS : CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
}

static CUresult node_type(CUgraphNode node, CUgraphNodeType *type) {
    const fake_node_t *n = (const fake_node_t *)(void *)node;
    if (n->event != NULL) return CUDA_ERROR_UNKNOWN; /* no kernel, and none of those that we know */
    *type = n->copies ? CU_GRAPH_NODE_TYPE_MEMCPY : CU_GRAPH_NODE_TYPE_KERNEL;
    return CUDA_SUCCESS;
}

static bool breaks(const char *function) { return broken != NULL && strcmp(broken, function) == 0; }

static fake_node_t *add_node(fake_graph_t *graph, fake_node_t node) {
    assert_in_range(graph->nnodes, 0, NODES - 1);
    fake_node_t *added = &graph->nodes[graph->nnodes++];
    *added = node;
    return added;
}

/* The bit of a node of this graph. */
static uint64_t edge_from(const fake_graph_t *graph, CUgraphNode node) {
    ptrdiff_t index = (const fake_node_t *)(void *)node - graph->nodes;
    assert_in_range(index, 0, graph->nnodes - 1);
    return (uint64_t)1 << index;
}

static CUresult add_record_node(CUgraphNode *node, CUgraph graph, const CUgraphNode *dependencies, size_t count,
                                CUevent event) {
    fake_graph_t *g = (fake_graph_t *)(void *)graph;
    assert_int_equal(count, 1);
    if (breaks("cuGraphAddEventRecordNode")) return CUDA_ERROR_OUT_OF_MEMORY;
    uint64_t edge = edge_from(g, *dependencies);
    *node = (CUgraphNode)(void *)add_node(g, (fake_node_t){.event = event_of(event), .edges = edge});
    return CUDA_SUCCESS;
}

static CUresult add_edge(CUgraph graph, const CUgraphNode *from, const CUgraphNode *to, size_t count) {
    uint64_t *edges = &((fake_node_t *)(void *)*to)->edges;
    uint64_t edge = edge_from((const fake_graph_t *)(void *)graph, *from);
    assert_int_equal(count, 1);
    if (breaks("cuGraphAddDependencies")) return CUDA_ERROR_OUT_OF_MEMORY;
    if ((*edges & edge) != 0) {
        refused++;
        return CUDA_ERROR_INVALID_VALUE;
    }
    *edges |= edge;
    return CUDA_SUCCESS;
}

/* As the driver, which removes no edges where a graph allocates memory. */
static CUresult remove_edge(CUgraph graph, const CUgraphNode *from, const CUgraphNode *to, size_t count) {
    const fake_graph_t *g = (const fake_graph_t *)(void *)graph;
    uint64_t *edges = &((fake_node_t *)(void *)*to)->edges;
    uint64_t edge = edge_from(g, *from);
    assert_int_equal(count, 1);
    if (g->allocates) return CUDA_ERROR_NOT_SUPPORTED;
    if ((*edges & edge) == 0) {
        refused++;
        return CUDA_ERROR_INVALID_VALUE;
    }
    *edges &= ~edge;
    assert_int_not_equal(*edges, 0); /* at no time is the recorder behind nothing */
    return CUDA_SUCCESS;
}

static CUresult error_text(CUresult error, const char **text) {
    (void)error;
    *text = "as told";
    return CUDA_SUCCESS;
}

/* Whatever has been put into any stream is done. */
static CUresult synchronize(void) {
    for (int s = 0; s < STREAMS; s++) {
        for (int other = 0; other < STREAMS; other++) streams[s].work |= streams[other].work;
        streams[s].work |= gone;
    }
    return CUDA_SUCCESS;
}

static const oh_cuda_t cuda = {.cuCtxSynchronize = synchronize,
                               .cuEventCreate = create_event,
                               .cuEventDestroy = destroy_event,
                               .cuEventRecord = record_event,
                               .cuStreamWaitEvent = wait_event,
                               .cuStreamGetCaptureInfo_v2 = capture_info,
                               .cuStreamGetId = stream_id,
                               .cuGraphAddEventRecordNode = add_record_node,
                               .cuGraphAddDependencies = add_edge,
                               .cuGraphRemoveDependencies = remove_edge,
                               .cuGraphNodeGetType = node_type,
                               .cuGetErrorName = error_text,
                               .cuGetErrorString = error_text};
static oh_order_t order;
static int done;

static int begin_with(bool replays) {
    memset(events, 0, sizeof events);
    memset(graphs, 0, sizeof graphs);
    for (int s = 0; s < STREAMS; s++) streams[s] = (fake_stream_t){.id = 100 + (unsigned)s};
    records = waits = refused = early = done = 0;
    gone = 0;
    ends = 1;
    joined = 0;
    broken = NULL;
    order = (oh_order_t){0};
    return oh_order_open(&order, &cuda, replays) == ONEHOP_SUCCESS ? 0 : -1;
}

static int begin(void **state) {
    (void)state;
    return begin_with(false);
}

static int begin_ordered(void **state) {
    (void)state;
    return begin_with(true);
}

static int end(void **state) {
    (void)state;
    oh_order_close(&order, &cuda);
    for (int i = 0; i < EVENTS; i++) assert_false(events[i].alive);
    return refused;
}

/* The one node that records an event. */
static const fake_node_t *recorder_of(const fake_graph_t *graph) {
    const fake_node_t *found = NULL;
    for (int i = 0; i < graph->nnodes; i++) {
        if (graph->nodes[i].event == NULL) continue;
        assert_null(found);
        found = &graph->nodes[i];
    }
    assert_non_null(found);
    return found;
}

/* Its only edge is that from the last operation; where edges cannot be removed, that is one of them. */
static void check_recorder(const fake_graph_t *graph, CUgraphNode last) {
    uint64_t edges = recorder_of(graph)->edges, edge = edge_from(graph, last);
    assert_int_equal(graph->allocates ? edges & edge : edges, edge);
}

/* An operation; `last` is the number of the one that it must follow, or -1. */
static onehop_result_t attempt(int stream, int last) {
    oh_turn_t turn;
    fake_stream_t *s = &streams[stream];
    assert_int_equal(oh_order_begin(&order, &cuda, handle(stream), &turn), ONEHOP_SUCCESS);
    early += turn.early;
    joined = 0;
    assert_in_range(done, 0, OPERATIONS - 1);
    if (last >= 0 && (s->work >> last & 1) == 0) fail_msg("operation %d does not wait for %d", done, last);
    s->work |= (uint64_t)1 << done++;
    if (s->capture != 0) {
        s->last = (CUgraphNode)(void *)add_node(&graphs[s->capture], (fake_node_t){.work = s->work});
    }
    return oh_order_end(&order, &cuda, &turn);
}

/* One that succeeds. Returns its number. */
static int operate(int stream, int last) {
    const fake_stream_t *s = &streams[stream];
    assert_int_equal(attempt(stream, last), ONEHOP_SUCCESS);
    if (s->capture != 0 && order.replayed != NULL) check_recorder(&graphs[s->capture], s->last);
    return done - 1;
}

static void test_one_stream_costs_nothing(void **state) {
    (void)state;
    for (int i = 0, last = -1; i < 20; i++) last = operate(1, last);
    assert_int_equal(records, 0);
    assert_int_equal(waits, 0);
}

static void test_streams_by_turns(void **state) {
    (void)state;
    static const int turns[] = {1, 1, 2, 2, 1, 3, 0, 4, 4, 0, 2, 1};
    int last = -1;
    for (size_t i = 0; i < sizeof turns / sizeof turns[0]; i++) last = operate(turns[i], last);
    assert_int_equal(waits, 8); /* changes of stream */
    assert_int_equal(early, done);
}

/* The event of a call follows that call, not what its stream is given later. */
static void test_waits_for_no_more(void **state) {
    (void)state;
    int last = operate(2, operate(1, -1));
    streams[2].work |= (uint64_t)1 << 60;
    operate(3, last);
    assert_int_equal(streams[3].work >> 60, 0);
}

/* A stream made where another was destroyed has its handle, and nothing of its order. */
static void test_handle_used_again(void **state) {
    (void)state;
    int last = operate(2, operate(1, -1));
    streams[2] = (fake_stream_t){.id = 777};
    operate(2, last);
}

/* Its only stream is destroyed with work in it; the next call has another, or one at the same address. */
static void test_only_stream_is_gone(void **state) {
    (void)state;
    for (int next = 1; next <= 2; next++) {
        end(NULL);
        begin(NULL);
        int last = operate(1, -1);
        gone = streams[1].work;
        streams[1] = (fake_stream_t){.id = 999};
        last = operate(next, last);
        operate(3, last);
    }
}

static void test_default_streams_of_threads(void **state) {
    (void)state;
    assert_int_equal((intptr_t)CU_STREAM_PER_THREAD, 2);
    int last = operate(2, -1);
    streams[2] = (fake_stream_t){.id = 888}; /* that of another thread */
    operate(2, last);
}

static void test_capture(void **state) {
    (void)state;
    int eager = operate(1, -1);
    streams[1].capture = streams[2].capture = 7;
    streams[1].work = streams[2].work = 0;
    int last = operate(1, -1); /* waits for nothing outside */
    last = operate(1, last);
    assert_int_equal(waits, 0);
    last = operate(2, last);
    operate(1, last);
    streams[1].capture = 8; /* the next capture has nothing to do with this one */
    operate(1, -1);
    streams[1].capture = streams[2].capture = 0;
    streams[1].work = (uint64_t)1 << eager; /* what was captured has not run */
    operate(3, eager);
}

static void test_last_stream_is_captured(void **state) {
    (void)state;
    oh_turn_t turn;
    operate(1, -1);
    streams[1].capture = 5;
    assert_int_equal(oh_order_begin(&order, &cuda, handle(3), &turn), ONEHOP_UNSUPPORTED);
    assert_non_null(strstr(onehop_last_error(), "stream 0x1, which ran that, is being captured"));
    streams[1].capture = 0;
    operate(3, 0);
}

/* Once there have been several streams, it does not matter. */
static void test_last_of_several_is_captured(void **state) {
    (void)state;
    int last = operate(1, operate(2, -1));
    streams[1].capture = 5;
    operate(3, last);
}

/* ---- replays ---- */

/* Operations in these streams, until 0, as capture number `capture`. */
static void capture(uint64_t number, const int *in) {
    uint64_t before[STREAMS];
    int last = -1;
    for (int s = 0; s < STREAMS; s++) {
        before[s] = streams[s].work;
        streams[s].work = 0;
        streams[s].last = NULL;
        streams[s].capture = number;
    }
    for (; *in != 0; in++) last = operate(*in, last);
    for (int s = 0; s < STREAMS; s++) {
        graphs[number].work |= streams[s].work;
        streams[s].work = before[s];
        streams[s].capture = 0;
    }
}

/* It must follow operation or replay number `last`. Returns its own number. */
static int replay(uint64_t number, int stream, int last) {
    fake_stream_t *s = &streams[stream];
    const fake_graph_t *graph = &graphs[number];
    const fake_node_t *recorder = recorder_of(graph);
    uint64_t behind = 0;
    for (int i = 0; i < graph->nwaits; i++) s->work |= graph->waits[i]->work;
    if (last >= 0 && (s->work >> last & 1) == 0) fail_msg("replay %d does not wait for %d", done, last);
    assert_in_range(done, 0, OPERATIONS - 1);
    s->work |= graph->work | (uint64_t)1 << done;
    for (int i = 0; i < graph->nnodes; i++) {
        if ((recorder->edges >> i & 1) != 0) behind |= graph->nodes[i].work;
    }
    assert_int_equal(behind, graph->work); /* all that was captured */
    recorder->event->work = s->work;
    return done++;
}

static void test_replays(void **state) {
    (void)state;
    int last = operate(1, -1);
    capture(4, (int[]){1, 1, 2, 1, 0});
    capture(5, (int[]){3, 0});
    last = replay(4, 2, last); /* behind the call */
    last = replay(4, 3, last); /* behind itself */
    last = replay(5, 4, last); /* behind another */
    last = operate(1, last);   /* a call behind a replay, */
    last = operate(1, last);   /* and behind a call in its own stream */
    last = operate(2, last);
    last = replay(5, 3, last);
    last = replay(4, 3, last);
    capture(6, (int[]){1, 0});
    last = operate(4, last); /* what was captured has not run */
    replay(6, 1, last);
}

/* Where nothing was captured, nothing can be replayed. */
static void test_calls_wait_after_captures(void **state) {
    (void)state;
    int last = operate(1, operate(1, -1));
    assert_int_equal(waits, 0);
    capture(1, (int[]){1, 0});
    waits = 0;
    operate(1, last);
    assert_int_equal(waits, 1);
}

/* Nothing is between the operations of a graph: it waits before the first, and once. */
static void test_graphs_wait_once(void **state) {
    (void)state;
    capture(1, (int[]){1, 1, 1, 1, 0});
    assert_int_equal(graphs[1].nwaits, 2);
    assert_int_equal(waits, 2);
    capture(2, (int[]){1, 2, 0});
    assert_int_equal(graphs[2].nwaits, 2);
}

/* In a graph, who is behind one kernel and nothing else. */
static void test_early_starts(void **state) {
    (void)state;
    streams[1].capture = streams[2].capture = 4;
    int last = operate(1, -1); /* behind two events */
    assert_int_equal(early, 0);
    last = operate(1, last);
    assert_int_equal(early, 1);
    last = operate(2, last); /* behind an operation, and whatever stream 2 has */
    assert_int_equal(early, 1);
    last = operate(2, last);
    assert_int_equal(early, 2);
    joined = 1;
    last = operate(2, last);
    assert_int_equal(early, 2);
    streams[2].last = (CUgraphNode)(void *)add_node(&graphs[4], (fake_node_t){.work = streams[2].work, .copies = true});
    last = operate(2, last);
    assert_int_equal(early, 2);
    operate(2, last);
    assert_int_equal(early, 3);
}

/* Where replays are the caller's, graphs hold operations and no more. */
static void test_free_replays(void **state) {
    (void)state;
    capture(1, (int[]){1, 1, 2, 0});
    assert_int_equal(graphs[1].nwaits, 0);
    assert_int_equal(graphs[1].nnodes, 3);
    assert_int_equal(early, 1); /* the second: the first is behind nothing */
}

/* However many operations there are, one node records, behind the last of them. */
static void test_one_recorder(void **state) {
    (void)state;
    capture(1, (int[]){1, 1, 1, 2, 3, 3, 2, 1, 4, 4, 4, 1, 2, 0});
    assert_int_equal(graphs[1].nnodes, 13 + 1);
    capture(2, (int[]){4, 0});
    capture(3, (int[]){4, 4, 1, 0});
    replay(2, 4, replay(3, 2, replay(1, 3, -1)));
}

/* Edges stay in a graph that allocates memory; replays are in order nevertheless. */
static void test_edges_stay(void **state) {
    (void)state;
    int last = operate(1, -1);
    graphs[1].allocates = true;
    capture(1, (int[]){1, 1, 2, 1, 0});
    capture(2, (int[]){1, 1, 0});
    operate(3, replay(2, 4, replay(1, 2, last)));
}

/* Whoever captures is told; what is captured next is recorded as if nothing had been. */
static void test_broken_recorder(void **state) {
    (void)state;
    streams[1].capture = streams[2].capture = 6;
    broken = "cuGraphAddEventRecordNode";
    assert_int_equal(attempt(1, -1), ONEHOP_OUT_OF_MEMORY);
    assert_non_null(strstr(onehop_last_error(), "cannot add an event to the graph: as told"));
    broken = NULL;
    int last = operate(2, 0);
    CUgraphNode recorded = streams[2].last;
    broken = "cuGraphAddDependencies";
    assert_int_equal(attempt(1, last), ONEHOP_OUT_OF_MEMORY);
    assert_non_null(strstr(onehop_last_error(), "cannot put the event of a graph behind its last operation: as told"));
    check_recorder(&graphs[6], recorded);
    broken = NULL;
    operate(2, operate(1, done - 1));
}

static void test_capture_of_several_ends(void **state) {
    (void)state;
    streams[1].capture = 3;
    ends = 2;
    assert_int_equal(attempt(1, -1), ONEHOP_CUDA_ERROR);
    assert_non_null(strstr(onehop_last_error(), "stream 0x1: its capture ends in 2 nodes after a launch, expected 1"));
    ends = 1;
    operate(1, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_one_stream_costs_nothing, begin, end),
        cmocka_unit_test_setup_teardown(test_streams_by_turns, begin, end),
        cmocka_unit_test_setup_teardown(test_waits_for_no_more, begin, end),
        cmocka_unit_test_setup_teardown(test_handle_used_again, begin, end),
        cmocka_unit_test_setup_teardown(test_only_stream_is_gone, begin, end),
        cmocka_unit_test_setup_teardown(test_default_streams_of_threads, begin, end),
        cmocka_unit_test_setup_teardown(test_capture, begin, end),
        cmocka_unit_test_setup_teardown(test_last_stream_is_captured, begin, end),
        cmocka_unit_test_setup_teardown(test_last_of_several_is_captured, begin, end),
        cmocka_unit_test_setup_teardown(test_replays, begin_ordered, end),
        cmocka_unit_test_setup_teardown(test_calls_wait_after_captures, begin_ordered, end),
        cmocka_unit_test_setup_teardown(test_graphs_wait_once, begin_ordered, end),
        cmocka_unit_test_setup_teardown(test_early_starts, begin_ordered, end),
        cmocka_unit_test_setup_teardown(test_free_replays, begin, end),
        cmocka_unit_test_setup_teardown(test_one_recorder, begin_ordered, end),
        cmocka_unit_test_setup_teardown(test_edges_stay, begin_ordered, end),
        cmocka_unit_test_setup_teardown(test_broken_recorder, begin_ordered, end),
        cmocka_unit_test_setup_teardown(test_capture_of_several_ends, begin_ordered, end),
        cmocka_unit_test_setup_teardown(test_streams_by_turns, begin_ordered, end),
        cmocka_unit_test_setup_teardown(test_handle_used_again, begin_ordered, end),
        cmocka_unit_test_setup_teardown(test_default_streams_of_threads, begin_ordered, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
