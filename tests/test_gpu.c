/* SPDX-License-Identifier: Apache-2.0 */
/* The ranks' GPUs: what they tell of themselves, and who does not reach whom. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "crew.h"
#include "fake_cuda.h"
#include "topology/gpu.h"

#include <cmocka.h>

enum { RANKS = 4 };

typedef struct plan {
    fake_cuda_t *fake;
    CUdevice gpu[RANKS];
    oh_gpu_t seen[RANKS][RANKS]; /* by each rank, of each rank */
    oh_links_t links[RANKS];     /* likewise by each */
} plan_t;

static plan_t plan_for(void) { return (plan_t){.fake = fake_cuda_reset(), .gpu = {0, 1, 2, 3}}; }

static onehop_result_t meet(sailor_t *s) {
    plan_t *plan = s->ctx;
    const oh_cuda_t *cuda = &plan->fake->driver;
    CUdevice gpu = plan->gpu[s->rank];
    oh_gpu_t *gpus = plan->seen[s->rank];
    fake_cuda_enter(s->rank, gpu);
    OH_TRY(oh_gpu_gather(cuda, gpu, s->bootstrap, &s->patience, gpus));
    return oh_gpu_check_access(cuda, gpu, s->bootstrap, &s->patience, gpus, &plan->links[s->rank]);
}

static void run(plan_t *plan, sailor_t *sailors) {
    crew_run(RANKS, false, meet, plan, sailors);
    for (int r = 0; r < RANKS; r++) {
        assert_string_equal(sailors[r].wrong, "");
        assert_int_equal(sailors[r].result, sailors[0].result);
        if (sailors[0].result != ONEHOP_SUCCESS) assert_string_equal(sailors[r].error, sailors[0].error);
    }
    assert_int_equal(plan->fake->misuses, 0);
}

static void run_well(plan_t *plan) {
    sailor_t sailors[RANKS];
    run(plan, sailors);
    if (sailors[0].result != ONEHOP_SUCCESS) fail_msg("%s", sailors[0].error);
}

static void run_badly(plan_t *plan, onehop_result_t code, const char *sentence) {
    sailor_t sailors[RANKS];
    run(plan, sailors);
    assert_int_equal(sailors[0].result, code);
    assert_string_equal(sailors[0].error, sentence);
}

static void test_gather(void **state) {
    (void)state;
    plan_t plan = plan_for();
    for (int g = 0; g < FAKE_GPUS; g++) plan.fake->gpus[g].multiprocessors = 132 - g % 3;
    run_well(&plan);
    for (int r = 0; r < RANKS; r++) {
        assert_memory_equal(plan.seen[r], plan.seen[0], sizeof plan.seen[0]);
        const oh_gpu_t *gpu = &plan.seen[0][r];
        char address[OH_PCI_ADDRESS];
        snprintf(address, sizeof address, "0000:%02x:00.0", 16 + r);
        assert_int_equal(gpu->index, r);
        assert_int_equal(gpu->uuid[15], r + 1);
        assert_string_equal(gpu->name, "Fake");
        assert_string_equal(gpu->address, address);
        assert_int_equal(gpu->major, 9);
        assert_int_equal(gpu->minor, 0);
        assert_int_equal(gpu->multiprocessors, 132 - r % 3);
        assert_int_equal(gpu->driver, 13000);
    }
    assert_int_equal(oh_gpu_multiprocessors(plan.seen[0], RANKS), 130);
    assert_int_equal(oh_gpu_multiprocessors(plan.seen[0], 2), 131);
    assert_int_equal(oh_gpu_multiprocessors(plan.seen[0], 1), 132);
}

static void test_no_access(void **state) {
    (void)state;
    plan_t plan = plan_for();
    plan.fake->gpus[1].no_access[3] = true;
    run_badly(&plan, ONEHOP_UNSUPPORTED,
              "rank 1: GPU 1 (Fake, 0000:11:00.0) cannot access GPU 3 (Fake, 0000:13:00.0) of rank 3: no peer access "
              "(NVLink or PCIe peer-to-peer)");
    /* Those that no rank uses do not matter; nor does a GPU that its peer's process does not see. */
    plan = plan_for();
    plan.fake->gpus[1].no_access[5] = plan.fake->gpus[5].no_access[1] = true;
    plan.fake->gpus[1].no_access[3] = true;
    plan.fake->gpus[0].hidden[1] = plan.fake->gpus[3].hidden[1] = true;
    run_well(&plan);
    plan.fake->gpus[0].hidden[2] = plan.fake->gpus[1].hidden[2] = true;
    plan.fake->gpus[2].no_access[3] = true;
    run_badly(&plan, ONEHOP_UNSUPPORTED,
              "rank 2: GPU 2 (Fake, 0000:12:00.0) cannot access GPU 3 (Fake, 0000:13:00.0) of rank 3: no peer access "
              "(NVLink or PCIe peer-to-peer)");
}

/* A GPU need not be a peer of its own. */
static void test_shared_gpu(void **state) {
    (void)state;
    plan_t plan = plan_for();
    plan.gpu[2] = plan.gpu[3] = 0;
    run_well(&plan);
}

static void expect_links(plan_t *plan, oh_links_t links) {
    run_well(plan);
    for (int r = 0; r < RANKS; r++) assert_int_equal(plan->links[r], links);
}

static void test_links(void **state) {
    (void)state;
    plan_t plan = plan_for();
    expect_links(&plan, OH_NVLINK);
    /* One way is enough, whoever may ask about it. */
    plan.fake->gpus[3].no_atomics[1] = true;
    expect_links(&plan, OH_PCIE);
    plan.fake->gpus[1].hidden[3] = true;
    expect_links(&plan, OH_NVLINK);
    plan.fake->gpus[1].no_atomics[3] = true;
    expect_links(&plan, OH_PCIE);
    /* Those that no rank uses do not matter, nor what joins a GPU with itself. */
    plan = plan_for();
    plan.fake->gpus[1].no_atomics[5] = plan.fake->gpus[5].no_atomics[1] = true;
    expect_links(&plan, OH_NVLINK);
    for (int r = 0; r < RANKS; r++) plan.gpu[r] = 1;
    plan.fake->gpus[1].no_atomics[1] = true;
    expect_links(&plan, OH_NVLINK);
}

static void test_names(void **state) {
    (void)state;
    plan_t plan = plan_for();
    run_well(&plan);
    assert_string_equal(oh_gpu_name(plan.seen[0], RANKS), "Fake");
    snprintf(plan.seen[0][3].name, sizeof plan.seen[0][3].name, "Fake 2");
    assert_null(oh_gpu_name(plan.seen[0], RANKS));
    assert_string_equal(oh_gpu_name(plan.seen[0], RANKS - 1), "Fake");
}

static void test_capabilities(void **state) {
    (void)state;
    plan_t plan = plan_for();
    plan.fake->gpus[2].major = 8;
    plan.fake->gpus[2].minor = 6;
    run_badly(&plan, ONEHOP_UNSUPPORTED,
              "GPUs differ in compute capability: GPU 0 (Fake, 0000:10:00.0) of rank 0 has 9.0, GPU 2 (Fake, "
              "0000:12:00.0) of rank 2 has 8.6");
}

/* One rank's driver fails at each call in turn: all ranks say so. */
static void test_failures(void **state) {
    (void)state;
    int number = 1;
    for (;; number++) {
        plan_t plan = plan_for();
        sailor_t sailors[RANKS];
        plan.fake->fail_rank = 2;
        plan.fake->fail_number = number;
        run(&plan, sailors);
        if (!plan.fake->failed) break;
        assert_int_equal(sailors[0].result, ONEHOP_CUDA_ERROR);
        assert_memory_equal(sailors[0].error, "rank 2: cannot ", 15);
    }
    /* Six to describe a GPU; for each peer a count, two for each GPU as far as the peer's, and two questions. */
    assert_int_equal(number - 1, 6 + (1 + 2 + 2) + (1 + 4 + 2) + (1 + 8 + 2));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gather),       cmocka_unit_test(test_no_access), cmocka_unit_test(test_shared_gpu),
        cmocka_unit_test(test_capabilities), cmocka_unit_test(test_failures),  cmocka_unit_test(test_links),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
