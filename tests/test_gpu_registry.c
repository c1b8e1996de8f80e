/* SPDX-License-Identifier: Apache-2.0 */
/* Registered buffers of GPUs, over a driver that is none: their numbers, places and rows, and what goes wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/cuda/registry.h"
#include "crew.h"
#include "fake_cuda.h"

#include <cmocka.h>

enum { BYTES = 100000, BUFFERS = 5 };

typedef struct plan {
    fake_cuda_t *fake;
    onehop_result_t (*duty)(sailor_t *s, oh_gpu_registry_t *registry);
} plan_t;

#define EXPECT(s, condition)                                                                                           \
    do {                                                                                                               \
        if (!(condition)) sailor_wrong(s, "line %d: " #condition, __LINE__);                                           \
    } while (0)

static void check(CUresult code) {
    if (code != CUDA_SUCCESS) abort();
}

static const oh_registered_t *row_at(const oh_gpu_registry_t *registry, uint64_t place) {
    const oh_registered_t *table = (const oh_registered_t *)(uintptr_t)registry->table;
    return &table[OH_PLACE_ROW(place)];
}

static onehop_result_t add(sailor_t *s, oh_gpu_registry_t *registry, void *ptr, size_t bytes) {
    bool broken = true;
    onehop_result_t result = oh_gpu_registry_add(registry, &s->patience, ptr, bytes, &broken);
    EXPECT(s, !broken);
    return result;
}

static onehop_result_t take_away(sailor_t *s, oh_gpu_registry_t *registry, void *ptr) {
    bool broken = true;
    onehop_result_t result = oh_gpu_registry_remove(registry, &s->patience, ptr, &broken);
    EXPECT(s, !broken);
    return result;
}

static unsigned char *allocate(sailor_t *s, oh_gpu_registry_t *registry) {
    void *ptr = NULL;
    EXPECT(s, oh_gpu_registry_alloc(registry, BYTES, &ptr) == ONEHOP_SUCCESS);
    return ptr;
}

/* ---- duties ---- */

/* Every rank has its own offsets: the row leads to the buffers of all. */
static onehop_result_t use(sailor_t *s, oh_gpu_registry_t *registry) {
    unsigned char *memory[BUFFERS];
    uint64_t place[BUFFERS];
    for (int i = 0; i < BUFFERS; i++) {
        memory[i] = allocate(s, registry);
        for (int b = 0; b < BYTES; b++) EXPECT(s, memory[i][b] == 0);
        EXPECT(s, oh_gpu_registry_find(registry, memory[i], 1) == 0);
        OH_TRY(add(s, registry, memory[i] + s->rank, BYTES - (size_t)s->rank));
        memory[i][s->rank] = (unsigned char)(1 + i * FAKE_RANKS + s->rank);
        place[i] = oh_gpu_registry_find(registry, memory[i] + s->rank, BYTES - (size_t)s->rank);
        EXPECT(s, place[i] == OH_PLACE((uint64_t)i + 1, 0));
    }
    sailor_meet(s);
    for (int i = 0; i < BUFFERS; i++) {
        const oh_registered_t *row = row_at(registry, place[i]);
        EXPECT(s, row->place == place[i]);
        for (int r = 0; r < s->nranks; r++) {
            const unsigned char *first = (const unsigned char *)(uintptr_t)row->address[r];
            EXPECT(s, *first == (unsigned char)(1 + i * FAKE_RANKS + r));
        }
        EXPECT(s, oh_gpu_registry_find(registry, memory[i] + s->rank + 1000, 1) == place[i] + 1000);
        EXPECT(s, oh_gpu_registry_find(registry, memory[i] + s->rank + 1000, BYTES) == 0);
        EXPECT(s, s->rank == 0 || oh_gpu_registry_find(registry, memory[i], 8) == 0);
    }
    sailor_meet(s);
    for (int i = BUFFERS - 1; i >= 0; i--) {
        OH_TRY(take_away(s, registry, memory[i] + s->rank));
        EXPECT(s, row_at(registry, place[i])->place == 0);
        EXPECT(s, oh_gpu_registry_find(registry, memory[i] + s->rank, 1) == 0);
        EXPECT(s, oh_gpu_registry_free(registry, memory[i]) == ONEHOP_SUCCESS);
    }
    return ONEHOP_SUCCESS;
}

/* A number is not given again: who kept a place finds another one in the row, or none. */
static onehop_result_t number(sailor_t *s, oh_gpu_registry_t *registry) {
    const uint64_t last = oh_bootstrap_same_process(s->bootstrap) ? 10000 : 1000; /* sockets are slow */
    unsigned char *memory = allocate(s, registry);
    for (uint64_t i = 1; i <= last; i++) {
        OH_TRY(add(s, registry, memory, BYTES));
        EXPECT(s, oh_gpu_registry_find(registry, memory, BYTES) == OH_PLACE(i, 0));
        OH_TRY(take_away(s, registry, memory));
    }
    return ONEHOP_SUCCESS;
}

static onehop_result_t fill_table(sailor_t *s, oh_gpu_registry_t *registry) {
    unsigned char *memory = allocate(s, registry);
    for (int i = 0; i < OH_GPU_REGISTRATIONS; i++) OH_TRY(add(s, registry, memory + i, 64));
    EXPECT(s, add(s, registry, memory + 2000, 64) == ONEHOP_OUT_OF_MEMORY);
    EXPECT(s, strstr(onehop_last_error(), "1024 buffers are registered") != NULL);
    /* The row of number 8 is free now: the next number that has it is 8 + 1024. */
    OH_TRY(take_away(s, registry, memory + 7));
    OH_TRY(add(s, registry, memory + 2000, 64));
    uint64_t place = oh_gpu_registry_find(registry, memory + 2000, 64);
    EXPECT(s, place == OH_PLACE(8 + OH_GPU_REGISTRATIONS, 0));
    EXPECT(s, row_at(registry, place)->place == place);
    return ONEHOP_SUCCESS;
}

static bool last_error_has(const char *words) { return strstr(onehop_last_error(), words) != NULL; }

static onehop_result_t err(sailor_t *s, oh_gpu_registry_t *registry) {
    static unsigned char on_host[64];
    unsigned char *memory = allocate(s, registry), *other = allocate(s, registry);
    OH_TRY(add(s, registry, memory, BYTES));
    OH_TRY(add(s, registry, other, BYTES));
    /* One rank's mistake is the failure of all, and what was registered stays. */
    EXPECT(s, add(s, registry, s->rank == 1 ? memory : memory + 1, 64) == ONEHOP_INVALID_ARGUMENT);
    EXPECT(s, last_error_has("rank 1") && last_error_has("is registered already"));
    EXPECT(s, add(s, registry, s->rank == 1 ? on_host : memory + 1, 64) == ONEHOP_INVALID_ARGUMENT);
    EXPECT(s, last_error_has("rank 1"));
    EXPECT(s, take_away(s, registry, s->rank == 1 ? memory + 1 : memory) == ONEHOP_INVALID_ARGUMENT);
    EXPECT(s, last_error_has("rank 1: ptr is not that of a registered buffer"));
    EXPECT(s, take_away(s, registry, s->rank == 1 ? memory : other) == ONEHOP_INVALID_ARGUMENT);
    EXPECT(s, last_error_has("ranks deregister different buffers: rank 0 its registration 2, rank 1 its 1"));
    EXPECT(s,
           oh_gpu_registry_free(registry, memory) == ONEHOP_INVALID_ARGUMENT && last_error_has("deregister it first"));
    EXPECT(s, oh_gpu_registry_free(registry, memory + 1) == ONEHOP_INVALID_ARGUMENT &&
                  last_error_has("expected what onehop_alloc of this communicator gave"));
    EXPECT(s, oh_gpu_registry_find(registry, memory, BYTES) == OH_PLACE(1ull, 0));
    OH_TRY(take_away(s, registry, memory));
    return take_away(s, registry, other);
}

/* Memory that cannot travel is registered, and has no place. */
static onehop_result_t keep_apart(sailor_t *s, oh_gpu_registry_t *registry) {
    fake_cuda_spare(true);
    CUdeviceptr pool = fake_cuda_allocate(BYTES, s->rank == 1 ? FAKE_POOL : FAKE_PLAIN);
    fake_cuda_spare(false);
    void *ptr = (void *)(uintptr_t)pool;
    OH_TRY(add(s, registry, ptr, BYTES));
    EXPECT(s, oh_gpu_registry_find(registry, ptr, BYTES) == 0);
    OH_TRY(take_away(s, registry, ptr));
    fake_cuda_spare(true);
    check(registry->maps.cuda->cuMemFree(pool));
    fake_cuda_spare(false);
    return ONEHOP_SUCCESS;
}

/* Nothing is given back: closing does that. */
static onehop_result_t leave_all(sailor_t *s, oh_gpu_registry_t *registry) {
    for (int i = 0; i < BUFFERS; i++) OH_TRY(add(s, registry, allocate(s, registry), BYTES));
    return ONEHOP_SUCCESS;
}

/* ---- tests ---- */

static onehop_result_t run_duty(sailor_t *s) {
    const plan_t *plan = s->ctx;
    const oh_cuda_t *cuda = &plan->fake->driver;
    oh_gpu_registry_t *registry = calloc(1, sizeof *registry);
    fake_cuda_enter(s->rank, s->rank);
    oh_gpu_registry_open(registry, cuda, s->rank, s->bootstrap);
    onehop_result_t result = plan->duty(s, registry);
    sailor_meet(s); /* memory is its owner's, whom the others would miss */
    oh_gpu_registry_close(registry);
    free(registry);
    return result;
}

static void run(onehop_result_t (*duty)(sailor_t *s, oh_gpu_registry_t *registry)) {
    for (int processes = 0; processes < 2; processes++) {
        sailor_t sailors[FAKE_RANKS];
        plan_t plan = {fake_cuda_reset(), duty};
        int descriptors = descriptors_now();
        plan.fake->processes = processes;
        crew_run(3, processes, run_duty, &plan, sailors);
        for (int r = 0; r < 3; r++) {
            if (sailors[r].wrong[0] != '\0') fail_msg("rank %d: %s", r, sailors[r].wrong);
            if (sailors[r].result != ONEHOP_SUCCESS) fail_msg("rank %d: %s", r, sailors[r].error);
        }
        if (plan.fake->misuses > 0) fail_msg("%d misuses, the last: %s", plan.fake->misuses, plan.fake->misuse);
        assert_int_equal(fake_cuda_alive(), 0);
        assert_int_equal(descriptors_now(), descriptors);
    }
}

static void test_places(void **state) {
    (void)state;
    run(use);
}

static void test_numbers(void **state) {
    (void)state;
    run(number);
}

static void test_full_table(void **state) {
    (void)state;
    run(fill_table);
}

static void test_errors(void **state) {
    (void)state;
    run(err);
}

static void test_apart(void **state) {
    (void)state;
    run(keep_apart);
}

static void test_close(void **state) {
    (void)state;
    run(leave_all);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_places), cmocka_unit_test(test_numbers), cmocka_unit_test(test_full_table),
        cmocka_unit_test(test_errors), cmocka_unit_test(test_apart),   cmocka_unit_test(test_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
