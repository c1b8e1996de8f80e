/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The order of operations in several streams, over a driver that keeps book: it knows which work each stream, event and
 * capture has behind it, and so whether an operation waits for the one before.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "backend/cuda/order.h"
#include "base/status.h"

enum { STREAMS = 5, EVENTS = 8, OPERATIONS = 64 };

/* What has been put into a stream, or recorded in an event: a bit for each operation. */
typedef struct fake_stream {
    uint64_t work, capture; /* capture: which, or 0 */
    unsigned long long id;
} fake_stream_t;

typedef struct fake_event {
    uint64_t work, capture;
    bool alive;
} fake_event_t;

static fake_stream_t streams[STREAMS]; /* stream 0 is NULL */
static fake_event_t events[EVENTS];
static uint64_t gone; /* work of streams that were destroyed */
static int records, waits, refused;

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
    assert_int_equal(flags, 0);
    waits++;
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
    assert_true(graph == NULL && dependencies == NULL && count == NULL);
    *status = s->capture != 0 ? CU_STREAM_CAPTURE_STATUS_ACTIVE : CU_STREAM_CAPTURE_STATUS_NONE;
    *id = s->capture != 0 ? s->capture : 0xdead; /* not set where there is none */
    return CUDA_SUCCESS;
}

static CUresult stream_id(CUstream stream, unsigned long long *id) {
    const fake_stream_t *s = &streams[stream_of(stream)];
    *id = s->id;
    return s->capture == 0 ? CUDA_SUCCESS : CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
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
                               .cuGetErrorName = error_text,
                               .cuGetErrorString = error_text};
static oh_order_t order;
static int done;

static int begin(void **state) {
    (void)state;
    memset(events, 0, sizeof events);
    for (int s = 0; s < STREAMS; s++) streams[s] = (fake_stream_t){.id = 100 + (unsigned)s};
    records = waits = refused = done = 0;
    gone = 0;
    order = (oh_order_t){0};
    return oh_order_open(&order, &cuda) == ONEHOP_SUCCESS ? 0 : -1;
}

static int end(void **state) {
    (void)state;
    oh_order_close(&order, &cuda);
    for (int i = 0; i < EVENTS; i++) assert_false(events[i].alive);
    return refused;
}

/* An operation; `last` is the number of the one that it must follow, or -1. Returns its own. */
static int operate(int stream, int last) {
    oh_turn_t turn;
    fake_stream_t *s = &streams[stream];
    assert_int_equal(oh_order_begin(&order, &cuda, handle(stream), &turn), ONEHOP_SUCCESS);
    assert_in_range(done, 0, OPERATIONS - 1);
    if (last >= 0 && (s->work >> last & 1) == 0) fail_msg("operation %d does not wait for %d", done, last);
    s->work |= (uint64_t)1 << done;
    assert_int_equal(oh_order_end(&order, &cuda, &turn), ONEHOP_SUCCESS);
    return done++;
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
