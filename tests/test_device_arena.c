/* SPDX-License-Identifier: Apache-2.0 */
/* Symmetric memory on GPUs, over a driver that is none: who sees what, what is chosen, and what a failure leaves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arena/device_arena.h"
#include "crew.h"
#include "fake_cuda.h"

#include <cmocka.h>

enum { BYTES = 100000 }; /* no multiple of the granularity */

/* What the ranks of a test do. */
typedef struct plan {
    fake_cuda_t *fake;
    oh_share_t wanted[FAKE_RANKS];
    size_t bytes[FAKE_RANKS];
    int gpus;         /* ranks take them in turn */
    oh_share_t share; /* that they must arrive at */
} plan_t;

static plan_t plan_for(oh_share_t wanted, int gpus, bool processes) {
    plan_t plan = {.fake = fake_cuda_reset(), .gpus = gpus, .share = wanted == OH_SHARE_AUTO ? OH_SHARE_VMM : wanted};
    plan.fake->processes = processes;
    for (int r = 0; r < FAKE_RANKS; r++) {
        plan.wanted[r] = wanted;
        plan.bytes[r] = BYTES;
    }
    return plan;
}

static unsigned char *bytes_of(const oh_device_arena_t *arena, int rank) {
    return (unsigned char *)(uintptr_t)arena->base[rank];
}

/* Every byte of a piece tells who wrote it: rank `writer` those at writer, writer + nranks, ... */
static unsigned char mark(int writer, int owner, size_t i) {
    return (unsigned char)(1 + writer * 50 + owner * 7 + (int)(i % 31));
}

static void check_zero(sailor_t *s, const oh_device_arena_t *arena) {
    for (int r = 0; r < s->nranks; r++) {
        for (size_t i = 0; i < BYTES; i++) {
            if (bytes_of(arena, r)[i] != 0) return sailor_wrong(s, "byte %zu of rank %d is not zero", i, r);
        }
    }
}

static void write_all(const sailor_t *s, const oh_device_arena_t *arena) {
    for (int r = 0; r < s->nranks; r++) {
        for (size_t i = (size_t)s->rank; i < BYTES; i += (size_t)s->nranks) bytes_of(arena, r)[i] = mark(s->rank, r, i);
    }
}

static void check_all(sailor_t *s, const oh_device_arena_t *arena, int from) {
    for (int r = from; r < s->nranks; r++) {
        for (size_t i = 0; i < BYTES; i++) {
            if (bytes_of(arena, r)[i] == mark((int)(i % (size_t)s->nranks), r, i)) continue;
            return sailor_wrong(s, "byte %zu of rank %d is %d", i, r, bytes_of(arena, r)[i]);
        }
    }
}

static void check_addresses(sailor_t *s, const oh_device_arena_t *arena) {
    for (int a = 0; a < s->nranks; a++) {
        for (int b = 0; b < a; b++) {
            if (arena->base[a] == arena->base[b]) sailor_wrong(s, "ranks %d and %d have one address", a, b);
        }
    }
}

/* Opens, uses and closes; rank 0 closes first, and its memory lives on where it must. */
static onehop_result_t use(sailor_t *s) {
    const plan_t *plan = s->ctx;
    const oh_cuda_t *cuda = &plan->fake->driver;
    CUdevice gpu = s->rank % plan->gpus;
    oh_device_arena_t arena;
    fake_cuda_enter(s->rank, gpu);
    onehop_result_t result = oh_device_arena_open(cuda, gpu, s->bootstrap, plan->bytes[s->rank], plan->wanted[s->rank],
                                                  &s->patience, &arena);
    if (result != ONEHOP_SUCCESS) {
        const oh_device_arena_t nothing = {0};
        if (memcmp(&arena, &nothing, sizeof arena) != 0) sailor_wrong(s, "a failure leaves something");
        return result;
    }
    if (arena.share != plan->share) sailor_wrong(s, "share is %s", oh_share_string(arena.share));
    if (arena.nranks != s->nranks || arena.bytes != BYTES) sailor_wrong(s, "another size");
    check_addresses(s, &arena);
    check_zero(s, &arena);
    sailor_meet(s);
    write_all(s, &arena);
    sailor_meet(s);
    check_all(s, &arena, 0);
    sailor_meet(s);
    if (s->rank == 0) oh_device_arena_close(cuda, &arena);
    sailor_meet(s);
    bool owner_keeps = plan->share == OH_SHARE_IPC && !oh_bootstrap_same_process(s->bootstrap);
    if (s->rank != 0) {
        check_all(s, &arena, owner_keeps ? 1 : 0);
        oh_device_arena_close(cuda, &arena);
    }
    return ONEHOP_SUCCESS;
}

/* Runs the plan, and checks what holds however it ends. */
static void run(plan_t *plan, int nranks, sailor_t *sailors) {
    int descriptors = descriptors_now();
    crew_run(nranks, plan->fake->processes, use, plan, sailors);
    for (int r = 0; r < nranks; r++) {
        if (sailors[r].wrong[0] != '\0') fail_msg("rank %d of %d: %s", r, nranks, sailors[r].wrong);
        assert_int_equal(sailors[r].result, sailors[0].result);
        if (sailors[0].result != ONEHOP_SUCCESS) assert_string_equal(sailors[r].error, sailors[0].error);
    }
    if (plan->fake->misuses > 0) fail_msg("%d misuses, the last: %s", plan->fake->misuses, plan->fake->misuse);
    assert_int_equal(fake_cuda_alive(), 0);
    assert_int_equal(descriptors_now(), descriptors);
}

static void run_well(plan_t *plan, int nranks) {
    sailor_t sailors[FAKE_RANKS];
    run(plan, nranks, sailors);
    if (sailors[0].result != ONEHOP_SUCCESS) fail_msg("%d ranks: %s", nranks, sailors[0].error);
}

static void run_badly(plan_t *plan, int nranks, onehop_result_t code, const char *words) {
    sailor_t sailors[FAKE_RANKS];
    run(plan, nranks, sailors);
    assert_int_equal(sailors[0].result, code);
    if (strstr(sailors[0].error, words) == NULL) fail_msg("expected \"%s\" in: %s", words, sailors[0].error);
}

/* ---- what goes well ---- */

static void test_shares(void **state) {
    (void)state;
    for (int processes = 0; processes < 2; processes++) {
        for (int nranks = 1; nranks <= 4; nranks++) {
            for (int share = 0; share < OH_SHARES; share++) {
                plan_t plan = plan_for((oh_share_t)share, 4, processes);
                run_well(&plan, nranks);
            }
        }
    }
}

/* Several ranks on one GPU, or on fewer GPUs than ranks. */
static void test_shared_gpus(void **state) {
    (void)state;
    for (int processes = 0; processes < 2; processes++) {
        for (int gpus = 1; gpus <= 3; gpus++) {
            for (int share = 0; share < OH_SHARES; share++) {
                plan_t plan = plan_for((oh_share_t)share, gpus, processes);
                run_well(&plan, gpus + 2);
            }
        }
    }
}

/* Threads on different GPUs are let in to one another's memory; it does not matter if they were before. */
static void test_peer_access(void **state) {
    (void)state;
    plan_t plan = plan_for(OH_SHARE_IPC, 3, false);
    plan.fake->enabled[0][1] = true;
    run_well(&plan, 4);
    for (int from = 0; from < FAKE_GPUS; from++) {
        for (int to = 0; to < FAKE_GPUS; to++) {
            assert_int_equal(plan.fake->enabled[from][to], from != to && from < 3 && to < 3);
        }
    }
}

/* GPUs whose granularities differ agree on the largest. */
static void test_granularity(void **state) {
    (void)state;
    plan_t plan = plan_for(OH_SHARE_VMM, 4, true);
    plan.fake->gpus[2].granularity = 4 * (size_t)FAKE_GRANULARITY;
    run_well(&plan, 4);
}

/* ---- what is chosen, and refused ---- */

static void test_without_vmm(void **state) {
    (void)state;
    for (int processes = 0; processes < 2; processes++) {
        plan_t plan = plan_for(OH_SHARE_AUTO, 4, processes);
        plan.share = OH_SHARE_IPC;
        plan.fake->gpus[2].no_vmm = true;
        run_well(&plan, 4);
        plan = plan_for(OH_SHARE_AUTO, 4, processes);
        plan.share = OH_SHARE_IPC;
        plan.fake->gpus[0].no_descriptors = true;
        run_well(&plan, 4);

        plan = plan_for(OH_SHARE_VMM, 4, processes);
        plan.fake->gpus[2].no_vmm = true;
        run_badly(&plan, 4, ONEHOP_UNSUPPORTED,
                  "memory is \"vmm\", but rank 2: GPU 2 offers no virtual memory management (VMM)");
        plan = plan_for(OH_SHARE_VMM, 4, processes);
        plan.fake->gpus[0].no_descriptors = true;
        run_badly(&plan, 4, ONEHOP_UNSUPPORTED,
                  "memory is \"vmm\", but rank 0: GPU 0 offers no descriptors of its memory");
    }
}

static void test_disagree(void **state) {
    (void)state;
    plan_t plan = plan_for(OH_SHARE_AUTO, 4, false);
    plan.wanted[2] = OH_SHARE_IPC;
    run_badly(&plan, 4, ONEHOP_MISMATCH, "ranks disagree on memory: rank 0 has \"auto\", rank 2 has \"ipc\"");
    plan = plan_for(OH_SHARE_VMM, 4, true);
    plan.bytes[3] = 5;
    run_badly(&plan, 4, ONEHOP_MISMATCH,
              "ranks disagree on the GPU memory of each: rank 0 has 100000 bytes, rank 3 has 5");
}

static void refuse(plan_t *plan, int rank, const char *call, CUresult code) {
    plan->fake->fail_rank = rank;
    plan->fake->fail_name = call;
    plan->fake->fail_code = code;
}

/* What the driver says of one rank is what all ranks say. */
static void test_refused(void **state) {
    (void)state;
    plan_t plan = plan_for(OH_SHARE_VMM, 4, true);
    refuse(&plan, 1, "cuMemExportToShareableHandle", CUDA_ERROR_NOT_SUPPORTED);
    run_badly(&plan, 3, ONEHOP_UNSUPPORTED,
              "rank 1: cannot export GPU memory as a descriptor: CUDA_ERROR_NOT_SUPPORTED (as the test wants it)");
    plan = plan_for(OH_SHARE_VMM, 4, false);
    refuse(&plan, 0, "cuMemCreate", CUDA_ERROR_OUT_OF_MEMORY);
    run_badly(&plan, 2, ONEHOP_OUT_OF_MEMORY, "rank 0: cannot create 131072 bytes of GPU memory: ");
    plan = plan_for(OH_SHARE_IPC, 4, true);
    refuse(&plan, 2, "cuIpcOpenMemHandle", CUDA_ERROR_INVALID_DEVICE);
    run_badly(&plan, 3, ONEHOP_CUDA_ERROR, "rank 2: cannot open the IPC handle of a peer's GPU memory: ");
    plan = plan_for(OH_SHARE_IPC, 4, true);
    refuse(&plan, 0, "cuIpcGetMemHandle", CUDA_ERROR_NOT_SUPPORTED);
    run_badly(&plan, 3, ONEHOP_UNSUPPORTED, "rank 0: cannot get an IPC handle of GPU memory: ");
    plan = plan_for(OH_SHARE_IPC, 4, false);
    plan.fake->gpus[1].no_access[2] = true;
    run_badly(&plan, 3, ONEHOP_CUDA_ERROR, "rank 1: cannot let a GPU access a peer's memory: ");
}

/* Both ways fail: what is said is what the second one says. */
static void test_nothing_works(void **state) {
    (void)state;
    plan_t plan = plan_for(OH_SHARE_AUTO, 4, false);
    refuse(&plan, 1, "cuMemsetD8Async", CUDA_ERROR_UNKNOWN);
    run_badly(&plan, 2, ONEHOP_CUDA_ERROR, "rank 1: cannot zero GPU memory: CUDA_ERROR_UNKNOWN");
}

/* ---- every call fails once ---- */

static void fail_call(plan_t *plan, int rank, int number) {
    plan->fake->fail_rank = rank;
    plan->fake->fail_number = number;
}

/* Fails each call of the rank in turn; returns how many there are. */
static int fail_each(oh_share_t wanted, int nranks, bool processes, int rank) {
    for (int number = 1;; number++) {
        plan_t plan = plan_for(wanted, 2, processes);
        sailor_t sailors[FAKE_RANKS];
        fail_call(&plan, rank, number);
        run(&plan, nranks, sailors);
        if (!plan.fake->failed) return number - 1;
        char words[16];
        snprintf(words, sizeof words, "rank %d: ", rank);
        assert_int_not_equal(sailors[0].result, ONEHOP_SUCCESS);
        if (strstr(sailors[0].error, words) == NULL) fail_msg("call %d: %s", number, sailors[0].error);
    }
}

/* Three questions, eight calls for one's own memory, four for each peer's. */
static int vmm_calls(int nranks) { return 3 + 8 + 4 * (nranks - 1); }

static void test_vmm_failures(void **state) {
    (void)state;
    for (int nranks = 1; nranks <= 4; nranks++) {
        for (int rank = 0; rank < nranks; rank++) {
            assert_int_equal(fail_each(OH_SHARE_VMM, nranks, false, rank), vmm_calls(nranks));
        }
    }
    assert_int_equal(fail_each(OH_SHARE_VMM, 3, true, 1), vmm_calls(3));
}

static void test_ipc_failures(void **state) {
    (void)state;
    for (int nranks = 2; nranks <= 4; nranks++) {
        for (int rank = 0; rank < nranks; rank++) {
            assert_int_equal(fail_each(OH_SHARE_IPC, nranks, true, rank), 6 + nranks - 1);
        }
    }
}

/* In one process only peers on the other GPU need a call. */
static void test_address_failures(void **state) {
    (void)state;
    for (int nranks = 1; nranks <= 4; nranks++) {
        for (int rank = 0; rank < nranks; rank++) {
            int others = rank % 2 == 0 ? nranks / 2 : (nranks + 1) / 2;
            assert_int_equal(fail_each(OH_SHARE_IPC, nranks, false, rank), 5 + others);
        }
    }
}

/* Whatever fails on the way to VMM, and whoever it fails: all take IPC. */
static void test_fall_back(void **state) {
    (void)state;
    for (int nranks = 2; nranks <= 3; nranks++) {
        for (int number = 1; number <= vmm_calls(nranks); number++) {
            for (int processes = 0; processes < 2; processes++) {
                plan_t plan = plan_for(OH_SHARE_AUTO, 2, processes);
                plan.share = OH_SHARE_IPC;
                fail_call(&plan, number % nranks, number);
                run_well(&plan, nranks);
                assert_true(plan.fake->failed);
            }
        }
    }
}

/* A driver that fails for good: what was had by VMM is not taken for what was not had by IPC. */
static void test_dead_driver(void **state) {
    (void)state;
    for (int processes = 0; processes < 2; processes++) {
        for (int number = 4; number <= vmm_calls(3); number++) {
            plan_t plan = plan_for(OH_SHARE_AUTO, 2, processes);
            fail_call(&plan, 1, number);
            plan.fake->fail_on = true;
            run_badly(&plan, 3, ONEHOP_CUDA_ERROR, "rank 1: cannot ");
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shares),           cmocka_unit_test(test_shared_gpus),
        cmocka_unit_test(test_peer_access),      cmocka_unit_test(test_granularity),
        cmocka_unit_test(test_without_vmm),      cmocka_unit_test(test_disagree),
        cmocka_unit_test(test_refused),          cmocka_unit_test(test_nothing_works),
        cmocka_unit_test(test_vmm_failures),     cmocka_unit_test(test_ipc_failures),
        cmocka_unit_test(test_address_failures), cmocka_unit_test(test_fall_back),
        cmocka_unit_test(test_dead_driver),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
