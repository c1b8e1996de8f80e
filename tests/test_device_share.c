/* SPDX-License-Identifier: Apache-2.0 */
/* Buffers of every kind shared by GPUs, over a driver that is none: who sees what, what stays apart, what is left. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arena/device_share.h"
#include "crew.h"
#include "fake_cuda.h"

#include <cmocka.h>

enum { BYTES = 100001, STRIDE = 61, MANY = 40 };

/* What programs bring. */
typedef enum sort {
    PLAIN,
    MAPPED_ONCE,
    MAPPED_THRICE,
    SORTS, /* that travel; those that do not: */
    MAPPED_MANY,
    CLOSED,
    CLOSED_LATER,
    POOL,
    MANAGED,
    PINNED,
    UNKNOWN,
    FREED,
    ELSEWHERE
} sort_t;

/* Memory, and the buffer in it. */
typedef struct buffer {
    sort_t sort;
    CUdeviceptr memory;
    size_t reserved, mapped; /* of what is mapped */
    CUdeviceptr begin;
    size_t bytes;
} buffer_t;

/* What the ranks of a test do, and what they see. */
typedef struct plan {
    fake_cuda_t *fake;
    int gpus; /* ranks take them in turn */
    sort_t sort[FAKE_RANKS];
    size_t offset[FAKE_RANKS], bytes[FAKE_RANKS]; /* bytes 0: to the end of the memory, */
    size_t beyond[FAKE_RANKS];                    /* and so many more */
    buffer_t buffers[FAKE_RANKS];
    oh_device_shared_t seen[FAKE_RANKS];
} plan_t;

static plan_t plan_for(int gpus, bool processes) {
    plan_t plan = {.fake = fake_cuda_reset(), .gpus = gpus};
    plan.fake->processes = processes;
    for (int r = 0; r < FAKE_RANKS; r++) {
        plan.offset[r] = 5 * (size_t)r;
        plan.bytes[r] = BYTES - 7 * (size_t)r;
    }
    return plan;
}

/* ---- memory of a rank ---- */

static bool is_mapped(sort_t sort) {
    return sort == MAPPED_ONCE || sort == MAPPED_THRICE || sort == MAPPED_MANY || sort == CLOSED ||
           sort == CLOSED_LATER;
}

static int pieces_of(sort_t sort) {
    return sort == MAPPED_ONCE ? 1 : sort == MAPPED_MANY ? MANY : sort == MAPPED_THRICE ? 3 : 2;
}

/* Two granules at least, so that a buffer of BYTES fits. */
static size_t piece_bytes(int i) { return (size_t)(2 + i % 3) * FAKE_GRANULARITY; }

static void check(CUresult code) {
    if (code != CUDA_SUCCESS) abort();
}

static void add_piece(const oh_cuda_t *cuda, CUdevice gpu, size_t bytes, bool exportable, CUdeviceptr at) {
    CUmemGenericAllocationHandle handle;
    CUmemAllocationProp properties = {.type = CU_MEM_ALLOCATION_TYPE_PINNED,
                                      .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = gpu}};
    if (exportable) properties.requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
    check(cuda->cuMemCreate(&handle, bytes, &properties, 0));
    check(cuda->cuMemMap(at, bytes, 0, handle, 0));
    check(cuda->cuMemRelease(handle));
}

/* Addresses go on where the memory ends, as in segments that expand. */
static void map_buffer(const oh_cuda_t *cuda, CUdevice gpu, buffer_t *b) {
    int count = pieces_of(b->sort);
    for (int i = 0; i < count; i++) b->mapped += piece_bytes(i);
    b->reserved = b->mapped + FAKE_GRANULARITY;
    check(cuda->cuMemAddressReserve(&b->memory, b->reserved, 0, 0, 0));
    CUdeviceptr at = b->memory;
    for (int i = 0; i < count; i++) {
        bool closed = b->sort == CLOSED || (b->sort == CLOSED_LATER && i > 0);
        add_piece(cuda, gpu, piece_bytes(i), !closed, at);
        at += piece_bytes(i);
    }
    const CUmemAccessDesc access = {.location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = gpu},
                                    .flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
    check(cuda->cuMemSetAccess(b->memory, b->mapped, &access, 1));
}

static fake_origin_t origin_of(sort_t sort) {
    return sort == POOL ? FAKE_POOL : sort == MANAGED ? FAKE_MANAGED : sort == PINNED ? FAKE_HOST : FAKE_PLAIN;
}

static buffer_t make_buffer(const plan_t *plan, int rank) {
    static unsigned char none[2 * BYTES];
    const oh_cuda_t *cuda = &plan->fake->driver;
    CUdevice gpu = rank % plan->gpus;
    buffer_t b = {.sort = plan->sort[rank]};
    size_t whole = 2 * (size_t)BYTES;
    fake_cuda_spare(true);
    if (is_mapped(b.sort)) {
        map_buffer(cuda, gpu, &b);
        whole = b.mapped;
    } else if (b.sort == UNKNOWN) {
        b.memory = (uintptr_t)none;
    } else {
        if (b.sort == ELSEWHERE) fake_cuda_enter(rank, FAKE_GPUS - 1);
        b.memory = fake_cuda_allocate(whole, origin_of(b.sort));
        if (b.sort == ELSEWHERE) fake_cuda_enter(rank, gpu);
    }
    fake_cuda_spare(false);
    b.begin = b.memory + plan->offset[rank];
    b.bytes = plan->bytes[rank] > 0 ? plan->bytes[rank] : whole - plan->offset[rank] + plan->beyond[rank];
    return b;
}

static void unmap_buffer(const oh_cuda_t *cuda, const buffer_t *b) {
    CUdeviceptr at = b->memory;
    for (int i = 0; i < pieces_of(b->sort); i++) {
        check(cuda->cuMemUnmap(at, piece_bytes(i)));
        at += piece_bytes(i);
    }
    check(cuda->cuMemAddressFree(b->memory, b->reserved));
}

static void free_buffer(const plan_t *plan, const buffer_t *b) {
    const oh_cuda_t *cuda = &plan->fake->driver;
    if (is_mapped(b->sort)) {
        unmap_buffer(cuda, b);
    } else if (b->sort != UNKNOWN && b->sort != FREED) {
        check(cuda->cuMemFree(b->memory));
    }
}

static void *begin_of(const buffer_t *b) { return (void *)(uintptr_t)b->begin; }

/* ---- data ---- */

/* Who writes a byte of a buffer, and what: every STRIDE-th is looked at, and the last. */
static unsigned char mark(int writer, int owner, size_t i, int salt) {
    return (unsigned char)(1 + writer * 50 + owner * 7 + (int)(i % 31) + salt);
}

static size_t next_byte(size_t i, size_t bytes) {
    return i == bytes - 1 ? bytes : i + STRIDE < bytes ? i + STRIDE : bytes - 1;
}

static void write_all(const sailor_t *s, const oh_device_shared_t *shared, int salt) {
    for (int r = 0; r < s->nranks; r++) {
        unsigned char *bytes = (unsigned char *)(uintptr_t)shared->base[r];
        for (size_t i = 0; i < shared->bytes[r]; i = next_byte(i, shared->bytes[r])) {
            if ((int)(i / STRIDE % (size_t)s->nranks) == s->rank) bytes[i] = mark(s->rank, r, i, salt);
        }
    }
}

static void check_bytes(sailor_t *s, CUdeviceptr base, size_t count, int owner, int salt) {
    const unsigned char *bytes = (const unsigned char *)(uintptr_t)base;
    for (size_t i = 0; i < count; i = next_byte(i, count)) {
        if (bytes[i] == mark((int)(i / STRIDE % (size_t)s->nranks), owner, i, salt)) continue;
        return sailor_wrong(s, "byte %zu of rank %d is %d", i, owner, bytes[i]);
    }
}

/* All write into all buffers; each finds in its own memory what the others wrote, and sees theirs. */
static void use_all(sailor_t *s, const buffer_t *own, const oh_device_shared_t *shared, int salt) {
    sailor_meet(s);
    write_all(s, shared, salt);
    sailor_meet(s);
    check_bytes(s, own->begin, own->bytes, s->rank, salt);
    for (int r = 0; r < s->nranks; r++) check_bytes(s, shared->base[r], shared->bytes[r], r, salt);
    sailor_meet(s);
}

/* ---- what a rank does ---- */

static void check_shared(sailor_t *s, const buffer_t *own, const oh_device_shared_t *shared) {
    const plan_t *plan = s->ctx;
    if (shared->nranks != s->nranks) sailor_wrong(s, "%d ranks", shared->nranks);
    if (shared->base[s->rank] != own->begin) sailor_wrong(s, "its own buffer lies elsewhere");
    for (int r = 0; r < s->nranks; r++) {
        const buffer_t *theirs = &plan->buffers[r];
        if (shared->bytes[r] != theirs->bytes) sailor_wrong(s, "rank %d has %zu bytes", r, shared->bytes[r]);
        if (shared->direct && (shared->base[r] - theirs->begin) % 16 != 0)
            sailor_wrong(s, "rank %d is aligned anew", r);
        if (!shared->direct && r != s->rank && shared->base[r] != 0) sailor_wrong(s, "rank %d has an address", r);
        if (!shared->direct && shared->map[r] != NULL) sailor_wrong(s, "rank %d is mapped", r);
    }
    if (shared->direct != (shared->reason[0] == '\0')) sailor_wrong(s, "reason is \"%s\"", shared->reason);
}

static void check_zeros(sailor_t *s, const oh_device_shared_t *shared) {
    const oh_device_shared_t zeros = {0};
    if (memcmp(shared, &zeros, sizeof zeros) != 0) sailor_wrong(s, "something is left in what was shared");
}

static onehop_result_t share(sailor_t *s, oh_device_maps_t *maps, const buffer_t *b, oh_device_shared_t *shared) {
    return oh_device_share(maps, begin_of(b), b->bytes, &s->patience, shared);
}

/* Shares its buffer, uses all and unshares. */
static onehop_result_t use_once(sailor_t *s, oh_device_maps_t *maps, const buffer_t *own) {
    plan_t *plan = s->ctx;
    oh_device_shared_t shared;
    onehop_result_t result = share(s, maps, own, &shared);
    plan->seen[s->rank] = shared;
    if (result == ONEHOP_SUCCESS) {
        check_shared(s, own, &shared);
        if (shared.direct) use_all(s, own, &shared, 0);
        oh_device_unshare(maps, &shared);
    }
    check_zeros(s, &shared);
    if (maps->first != NULL) sailor_wrong(s, "something stays mapped");
    return result;
}

static onehop_result_t use(sailor_t *s) {
    plan_t *plan = s->ctx;
    CUdevice gpu = s->rank % plan->gpus;
    oh_device_maps_t maps;
    fake_cuda_enter(s->rank, gpu);
    plan->buffers[s->rank] = make_buffer(plan, s->rank);
    buffer_t own = plan->buffers[s->rank];
    sailor_meet(s);
    /* Not before all have memory, which might lie there. */
    if (own.sort == FREED) check(plan->fake->driver.cuMemFree(own.memory));
    oh_device_maps_open(&plan->fake->driver, gpu, s->bootstrap, &maps);
    onehop_result_t result = use_once(s, &maps, &own);
    sailor_meet(s);
    oh_device_maps_close(&maps);
    sailor_meet(s);
    free_buffer(plan, &own);
    return result;
}

/* Runs the plan, and checks what holds however it ends. */
static void run_duty(plan_t *plan, int nranks, duty_fn duty, sailor_t *sailors) {
    int descriptors = descriptors_now();
    crew_run(nranks, plan->fake->processes, duty, plan, sailors);
    for (int r = 0; r < nranks; r++) {
        if (sailors[r].wrong[0] != '\0') fail_msg("rank %d of %d: %s", r, nranks, sailors[r].wrong);
        assert_int_equal(sailors[r].result, sailors[0].result);
        if (sailors[0].result != ONEHOP_SUCCESS) assert_string_equal(sailors[r].error, sailors[0].error);
        assert_int_equal(plan->seen[r].direct, plan->seen[0].direct);
        assert_string_equal(plan->seen[r].reason, plan->seen[0].reason);
    }
    if (plan->fake->misuses > 0) fail_msg("%d misuses, the last: %s", plan->fake->misuses, plan->fake->misuse);
    assert_int_equal(fake_cuda_alive(), 0);
    assert_int_equal(descriptors_now(), descriptors);
}

static void run(plan_t *plan, int nranks, sailor_t *sailors) { run_duty(plan, nranks, use, sailors); }

static void run_duty_well(plan_t *plan, int nranks, duty_fn duty) {
    sailor_t sailors[FAKE_RANKS];
    run_duty(plan, nranks, duty, sailors);
    if (sailors[0].result != ONEHOP_SUCCESS) fail_msg("%d ranks: %s", nranks, sailors[0].error);
}

static void run_well(plan_t *plan, int nranks) {
    run_duty_well(plan, nranks, use);
    if (!plan->seen[0].direct) fail_msg("%d ranks: not direct: %s", nranks, plan->seen[0].reason);
}

static void expect(const char *words, const char *text) {
    if (strstr(text, words) == NULL) fail_msg("expected \"%s\" in: %s", words, text);
}

static void run_apart(plan_t *plan, int nranks, const char *words) {
    run_duty_well(plan, nranks, use);
    assert_false(plan->seen[0].direct);
    expect(words, plan->seen[0].reason);
}

static void run_badly(plan_t *plan, int nranks, onehop_result_t code, const char *words) {
    sailor_t sailors[FAKE_RANKS];
    run(plan, nranks, sailors);
    assert_int_equal(sailors[0].result, code);
    expect(words, sailors[0].error);
}

/* ---- what goes well ---- */

static int power(int base, int exponent) { return exponent == 0 ? 1 : base * power(base, exponent - 1); }

/* Every sort on every rank, with every other. */
static void test_mixes(void **state) {
    (void)state;
    for (int processes = 0; processes < 2; processes++) {
        for (int nranks = 1; nranks <= 4; nranks++) {
            for (int mix = 0; mix < power(SORTS, nranks); mix++) {
                plan_t plan = plan_for(4, processes);
                for (int r = 0; r < nranks; r++) {
                    plan.sort[r] = (sort_t)(mix / power(SORTS, r) % SORTS);
                    plan.bytes[r] = 0;
                }
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
            plan_t plan = plan_for(gpus, processes);
            for (int r = 0; r < 4; r++) plan.sort[r] = (sort_t)(r % SORTS);
            plan.bytes[2] = 0;
            run_well(&plan, 4);
        }
    }
}

/* Threads on different GPUs are let in to one another's memory; it does not matter if they were before. */
static void test_peer_access(void **state) {
    (void)state;
    plan_t plan = plan_for(3, false);
    plan.sort[1] = MAPPED_ONCE;
    plan.fake->enabled[0][2] = true;
    run_well(&plan, 3);
    for (int from = 0; from < FAKE_GPUS; from++) {
        for (int to = 0; to < FAKE_GPUS; to++) {
            assert_int_equal(plan.fake->enabled[from][to], from != to && from < 3 && (to == 0 || to == 2));
        }
    }
}

/* Buffers that begin and end anywhere in their memory. */
static void test_edges(void **state) {
    (void)state;
    const size_t first = 2 * (size_t)FAKE_GRANULARITY, lengths[] = {0, 1, 15, 16, 17};
    const size_t offsets[] = {0, 1, 8, 4095, first - 1, first, first + 3};
    for (int processes = 0; processes < 2; processes++) {
        for (size_t i = 0; i < sizeof offsets / sizeof *offsets; i++) {
            for (size_t j = 0; j < sizeof lengths / sizeof *lengths; j++) {
                plan_t plan = plan_for(2, processes);
                plan.sort[0] = MAPPED_THRICE;
                plan.offset[0] = plan.offset[1] = offsets[i];
                plan.bytes[0] = plan.bytes[1] = lengths[j];
                run_well(&plan, 2);
            }
        }
    }
}

static void test_many_pieces(void **state) {
    (void)state;
    for (int processes = 0; processes < 2; processes++) {
        plan_t plan = plan_for(3, processes);
        plan.sort[0] = MAPPED_ONCE;
        plan.sort[1] = MAPPED_MANY;
        plan.bytes[1] = 0;
        run_well(&plan, 3);
    }
}

/* ---- what stays apart ---- */

static void test_apart(void **state) {
    (void)state;
    const struct {
        sort_t sort;
        const char *words;
    } cases[] = {
        {POOL, "rank 1: memory of a stream-ordered pool (cudaMallocAsync) cannot be shared"},
        {MANAGED, "rank 1: managed memory (cudaMallocManaged) cannot be shared"},
        {CLOSED, "rank 1: memory can be shared only if it was created with CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR"},
        {CLOSED_LATER, "rank 1: memory can be shared only if it was created with "},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (int processes = 0; processes < 2; processes++) {
            plan_t plan = plan_for(3, processes);
            plan.sort[1] = cases[i].sort;
            plan.bytes[1] = 0;
            plan.sort[2] = MAPPED_THRICE;
            run_apart(&plan, 3, cases[i].words);
        }
        plan_t alone = plan_for(1, false);
        alone.sort[0] = cases[i].sort;
        run_well(&alone, 1);
    }
    /* The piece that cannot travel lies behind the buffer. */
    plan_t plan = plan_for(3, true);
    plan.sort[1] = CLOSED_LATER;
    run_well(&plan, 3);
}

static void refuse(plan_t *plan, int rank, const char *call, CUresult code) {
    plan->fake->fail_rank = rank;
    plan->fake->fail_name = call;
    plan->fake->fail_code = code;
}

/* What the driver refuses to one rank on the way is why it is direct on none. */
static void test_refused(void **state) {
    (void)state;
    plan_t plan = plan_for(3, true);
    refuse(&plan, 2, "cuIpcGetMemHandle", CUDA_ERROR_NOT_SUPPORTED);
    run_apart(&plan, 3, "rank 2: cannot get an IPC handle of GPU memory: CUDA_ERROR_NOT_SUPPORTED (as the test ");
    plan = plan_for(3, true);
    refuse(&plan, 1, "cuIpcOpenMemHandle", CUDA_ERROR_INVALID_DEVICE);
    run_apart(&plan, 3, "rank 1: cannot open the IPC handle of a peer's GPU memory: ");
    plan = plan_for(3, true);
    plan.sort[0] = plan.sort[2] = MAPPED_THRICE;
    refuse(&plan, 2, "cuMemExportToShareableHandle", CUDA_ERROR_OUT_OF_MEMORY);
    run_apart(&plan, 3, "rank 2: cannot export GPU memory as a descriptor: ");
    plan = plan_for(3, false);
    plan.sort[2] = MAPPED_THRICE;
    refuse(&plan, 1, "cuMemMap", CUDA_ERROR_OUT_OF_MEMORY);
    run_apart(&plan, 3, "rank 1: cannot map GPU memory: CUDA_ERROR_OUT_OF_MEMORY");
}

static void test_out_of_reach(void **state) {
    (void)state;
    const char *words[][2] = {
        {"rank 1: cannot let a GPU access a peer's memory: ", "rank 1: cannot open the IPC "},
        {"rank 1: cannot give a GPU access to mapped memory: ", "rank 1: cannot give a GPU access to mapped memory: "}};
    for (int mapped = 0; mapped < 2; mapped++) {
        for (int processes = 0; processes < 2; processes++) {
            plan_t plan = plan_for(3, processes);
            plan.sort[2] = mapped ? MAPPED_THRICE : PLAIN;
            plan.fake->gpus[1].no_access[2] = true;
            run_apart(&plan, 3, words[mapped][processes]);
        }
    }
}

/* ---- what is no buffer ---- */

static void test_wrong_memory(void **state) {
    (void)state;
    const struct {
        sort_t sort;
        const char *words;
    } cases[] = {
        {UNKNOWN, "expected memory of GPU 1, the CUDA driver knows none there"},
        {FREED, "expected memory of GPU 1, the CUDA driver knows none there"},
        {PINNED, "expected memory of GPU 1, this is memory of the host"},
        {ELSEWHERE, "expected memory of GPU 1, this is memory of GPU 7"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (int nranks = 2; nranks <= 4; nranks++) {
            plan_t plan = plan_for(4, nranks % 2 == 0);
            plan.sort[0] = MAPPED_THRICE;
            plan.sort[1] = cases[i].sort;
            run_badly(&plan, nranks, ONEHOP_INVALID_ARGUMENT, "rank 1: ptr 0x");
            plan = plan_for(4, nranks % 2 == 0);
            plan.sort[1] = cases[i].sort;
            run_badly(&plan, nranks, ONEHOP_INVALID_ARGUMENT, cases[i].words);
        }
    }
}

static void test_too_long(void **state) {
    (void)state;
    const sort_t sorts[] = {PLAIN, MAPPED_ONCE, MAPPED_THRICE, CLOSED, CLOSED_LATER, POOL, MANAGED};
    for (size_t i = 0; i < sizeof sorts / sizeof *sorts; i++) {
        plan_t plan = plan_for(4, true);
        plan.sort[2] = sorts[i];
        plan.offset[2] = 3;
        plan.bytes[2] = 0;
        plan.beyond[2] = 1;
        sailor_t sailors[FAKE_RANKS];
        run(&plan, 3, sailors);
        assert_int_equal(sailors[0].result, ONEHOP_INVALID_ARGUMENT);
        char words[160];
        size_t bytes = plan.buffers[2].bytes;
        snprintf(words, sizeof words, "rank 2: ptr %p, bytes %zu: the memory there ends after %zu bytes",
                 begin_of(&plan.buffers[2]), bytes, bytes - 1);
        assert_string_equal(sailors[0].error, words);
    }
}

/* What comes next to a rank's first piece of memory, and the first itself, are made to pass for something else. */
typedef struct graft {
    int piece;
    bool mapped;
    fake_origin_t origin;
    CUdevice gpu;
} graft_t;

static graft_t graft;

/* The other ranks look for their own pieces meanwhile. */
static void change_piece(fake_cuda_t *fake, fake_piece_t *p, fake_piece_t now) {
    pthread_mutex_lock(&fake->mutex);
    *p = now;
    pthread_mutex_unlock(&fake->mutex);
}

static onehop_result_t use_grafted(sailor_t *s) {
    plan_t *plan = s->ctx;
    fake_cuda_enter(s->rank, s->rank % plan->gpus);
    buffer_t own = plan->buffers[s->rank] = make_buffer(plan, s->rank);
    fake_piece_t *p = fake_cuda_find(own.memory + (graft.piece > 0 ? piece_bytes(0) : 0)), was = *p, grafted = *p;
    grafted.state = graft.mapped ? ACCESSIBLE : ALLOCATED;
    grafted.origin = graft.origin;
    grafted.gpu = graft.gpu;
    if (s->rank == 1) change_piece(plan->fake, p, grafted);
    oh_device_maps_t maps;
    oh_device_maps_open(&plan->fake->driver, s->rank % plan->gpus, s->bootstrap, &maps);
    onehop_result_t result = use_once(s, &maps, &own);
    oh_device_maps_close(&maps);
    sailor_meet(s);
    change_piece(plan->fake, p, was);
    free_buffer(plan, &own);
    return result;
}

/* A buffer goes on in the next mapping, but in no other memory that happens to lie there. */
static void test_neighbours(void **state) {
    (void)state;
    const graft_t grafts[] = {
        {1, true, FAKE_PLAIN, 5}, {1, false, FAKE_PLAIN, 1}, {1, false, FAKE_POOL, 1}, {1, false, FAKE_MANAGED, 1},
        {1, false, FAKE_HOST, 1}, {0, false, FAKE_PLAIN, 1}, {0, false, FAKE_POOL, 1}, {0, false, FAKE_MANAGED, 1},
    };
    for (size_t i = 0; i < sizeof grafts / sizeof *grafts; i++) {
        plan_t plan = plan_for(2, true);
        graft = grafts[i];
        plan.sort[0] = plan.sort[1] = MAPPED_THRICE;
        plan.bytes[1] = piece_bytes(0) + 1;
        sailor_t sailors[FAKE_RANKS];
        run_duty(&plan, 2, use_grafted, sailors);
        assert_int_equal(sailors[0].result, ONEHOP_INVALID_ARGUMENT);
        char words[60];
        snprintf(words, sizeof words, "ends after %zu bytes", piece_bytes(0) - plan.offset[1]);
        expect(words, sailors[0].error);
    }
}

/* Arguments that are no buffer whatever the memory, one after the other; then all share well. */
static onehop_result_t use_badly(sailor_t *s) {
    plan_t *plan = s->ctx;
    const struct {
        bool null;
        size_t bytes;
        const char *error;
    } cases[] = {
        {true, 1, "rank 1: ptr is NULL: expected a buffer"},
        {false, 0, "rank 1: bytes is 0: expected 1 to 9223372036854775807"},
        {false, SIZE_MAX, "rank 1: bytes is 18446744073709551615: expected 1 to 9223372036854775807"},
    };
    fake_cuda_enter(s->rank, s->rank % plan->gpus);
    buffer_t own = plan->buffers[s->rank] = make_buffer(plan, s->rank);
    oh_device_maps_t maps;
    oh_device_maps_open(&plan->fake->driver, s->rank % plan->gpus, s->bootstrap, &maps);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        void *ptr = s->rank == 1 && cases[i].null ? NULL : begin_of(&own);
        size_t bytes = s->rank == 1 ? cases[i].bytes : own.bytes;
        oh_device_shared_t shared;
        onehop_result_t result = oh_device_share(&maps, ptr, bytes, &s->patience, &shared);
        if (result != ONEHOP_INVALID_ARGUMENT) sailor_wrong(s, "case %zu: %d", i, (int)result);
        if (strcmp(onehop_last_error(), cases[i].error) != 0) sailor_wrong(s, "%.100s", onehop_last_error());
        check_zeros(s, &shared);
    }
    onehop_result_t result = use_once(s, &maps, &own);
    oh_device_maps_close(&maps);
    sailor_meet(s);
    free_buffer(plan, &own);
    return result;
}

static void test_wrong_arguments(void **state) {
    (void)state;
    for (int processes = 0; processes < 2; processes++) {
        plan_t plan = plan_for(3, processes);
        plan.sort[1] = MAPPED_THRICE;
        run_duty_well(&plan, 3, use_badly);
        assert_true(plan.seen[0].direct);
    }
}

/* ---- every call fails once ---- */

typedef struct tally {
    int calls, failed, apart, direct;
} tally_t;

/* Fails each call of the rank in turn, and that alone or all after it. */
static tally_t fail_each(const sort_t *sorts, int nranks, bool processes, int rank, bool for_good) {
    tally_t tally = {0};
    char words[16];
    snprintf(words, sizeof words, "rank %d: ", rank);
    for (int number = 1;; number++) {
        plan_t plan = plan_for(2, processes);
        memcpy(plan.sort, sorts, (size_t)nranks * sizeof *sorts);
        for (int r = 0; r < nranks; r++) plan.bytes[r] = 0;
        plan.fake->fail_rank = rank;
        plan.fake->fail_number = number;
        plan.fake->fail_on = for_good;
        sailor_t sailors[FAKE_RANKS];
        run(&plan, nranks, sailors);
        if (!plan.fake->failed) return tally;
        tally.calls++;
        if (sailors[0].result != ONEHOP_SUCCESS) {
            assert_int_equal(sailors[0].result, ONEHOP_CUDA_ERROR);
            expect(words, sailors[0].error);
            tally.failed++;
        } else if (!plan.seen[0].direct) {
            expect(words, plan.seen[0].reason);
            tally.apart++;
        } else {
            tally.direct++;
        }
    }
}

/* Looking at one's own buffer is a must; all beyond is not. Without ids of pieces they are shared all the same. */
static void test_plain_failures(void **state) {
    (void)state;
    const sort_t sorts[] = {PLAIN, PLAIN, PLAIN, PLAIN};
    for (int nranks = 2; nranks <= 4; nranks++) {
        for (int rank = 0; rank < nranks; rank++) {
            tally_t tally = fail_each(sorts, nranks, true, rank, false);
            assert_int_equal(tally.failed, 2);
            assert_int_equal(tally.apart, 2 + nranks - 1);
            assert_int_equal(tally.direct, 0);
            int others = rank % 2 == 0 ? nranks / 2 : (nranks + 1) / 2;
            tally = fail_each(sorts, nranks, false, rank, false);
            assert_int_equal(tally.failed, 2);
            assert_int_equal(tally.apart, others);
            assert_int_equal(tally.direct, 0);
        }
    }
}

static void test_mapped_failures(void **state) {
    (void)state;
    const sort_t sorts[] = {MAPPED_ONCE, MAPPED_THRICE, MAPPED_THRICE, PLAIN};
    const int pieces[] = {1, 3, 3, 0};
    for (int nranks = 2; nranks <= 3; nranks++) {
        for (int rank = 0; rank < nranks; rank++) {
            int own = pieces[rank], peers = -own;
            for (int r = 0; r < nranks; r++) peers += pieces[r];
            for (int processes = 0; processes < 2; processes++) {
                tally_t tally = fail_each(sorts, nranks, processes, rank, false);
                assert_int_equal(tally.failed, 2 * own);
                assert_int_equal(tally.direct, own);
                assert_int_equal(tally.apart, 2 * own + 2 * peers + 2 * (nranks - 1));
            }
        }
    }
}

/* A driver that fails for good, whatever the ranks bring. */
static void test_dead_driver(void **state) {
    (void)state;
    const sort_t sorts[] = {MAPPED_THRICE, PLAIN, MAPPED_ONCE, PLAIN};
    for (int processes = 0; processes < 2; processes++) {
        for (int rank = 0; rank < 4; rank++) {
            tally_t tally = fail_each(sorts, 4, processes, rank, true);
            assert_int_equal(tally.direct, 0);
            assert_true(tally.failed >= 2 && tally.apart >= 4);
        }
    }
}

/* ---- one map for all buffers in it ---- */

static oh_device_map_t *new_map(oh_device_kind_t kind, int rank, size_t piece_count) {
    oh_device_map_t *map = oh_device_map_new(kind, rank, piece_count);
    if (map == NULL) abort();
    map->address = 0x1000;
    for (size_t i = 0; i < piece_count; i++) map->pieces[i] = (oh_device_piece_t){.bytes = 65536, .id = i + 1};
    return map;
}

/* Numbers of one process mean nothing in another, and all of them together tell memory from other memory. */
static void test_identity(void **state) {
    (void)state;
    oh_device_maps_t maps;
    oh_device_maps_open(NULL, 0, NULL, &maps);
    oh_device_map_t *others[] = {
        new_map(OH_DEVICE_PIECES, 1, 2), new_map(OH_DEVICE_PIECES, 0, 2), new_map(OH_DEVICE_PIECES, 1, 1),
        new_map(OH_DEVICE_PIECES, 1, 2), new_map(OH_DEVICE_PIECES, 1, 2), new_map(OH_DEVICE_PIECES, 1, 2),
        new_map(OH_DEVICE_PLAIN, 1, 0),  new_map(OH_DEVICE_PLAIN, 0, 0),  new_map(OH_DEVICE_PLAIN, 1, 0),
    };
    const size_t count = sizeof others / sizeof *others;
    others[3]->address += 65536;
    others[4]->pieces[1].bytes += 65536;
    others[5]->pieces[1].id++;
    others[8]->handle.reserved[63] = 1;
    for (size_t i = 0; i < count; i++) assert_ptr_equal(oh_device_maps_join(&maps, others[i]), others[i]);
    assert_ptr_equal(oh_device_maps_join(&maps, new_map(OH_DEVICE_PIECES, 1, 2)), others[0]);
    assert_ptr_equal(oh_device_maps_join(&maps, new_map(OH_DEVICE_PLAIN, 0, 0)), others[7]);
    for (size_t i = 0; i < count; i++) assert_int_equal(others[i]->users, i == 0 || i == 7 ? 2 : 1);
    oh_device_maps_leave(&maps, others[0]);
    oh_device_maps_leave(&maps, others[7]);
    for (size_t i = 0; i < count; i++) oh_device_maps_leave(&maps, others[i]);
    assert_null(maps.first);
}

/* What this rank has of others: handles that it opened, mappings apart from its own `own`. */
static int held(const sailor_t *s, int own) {
    fake_cuda_t *fake = ((const plan_t *)s->ctx)->fake;
    int count = -own;
    pthread_mutex_lock(&fake->mutex);
    for (int i = 0; i < FAKE_PIECES; i++) {
        const fake_piece_t *p = &fake->pieces[i];
        count += p->rank == s->rank && (p->state == OPENED || p->state == ACCESSIBLE);
    }
    pthread_mutex_unlock(&fake->mutex);
    return count;
}

/* Where rank r's buffer of `sort` lies in peers: an address needs nothing. */
static int pieces_held(const plan_t *plan, const sailor_t *s) {
    int count = 0;
    for (int r = 0; r < s->nranks; r++) {
        if (r == s->rank) continue;
        count += is_mapped(plan->sort[r]) ? pieces_of(plan->sort[r]) : plan->fake->processes;
    }
    return count;
}

typedef struct crewed {
    plan_t *plan;
    buffer_t own;
    oh_device_maps_t maps;
    int pieces; /* of its own memory */
} crewed_t;

static crewed_t board(sailor_t *s) {
    crewed_t c = {.plan = s->ctx};
    fake_cuda_enter(s->rank, s->rank % c.plan->gpus);
    c.own = c.plan->buffers[s->rank] = make_buffer(c.plan, s->rank);
    c.pieces = is_mapped(c.own.sort) ? pieces_of(c.own.sort) : 0;
    oh_device_maps_open(&c.plan->fake->driver, s->rank % c.plan->gpus, s->bootstrap, &c.maps);
    return c;
}

static onehop_result_t leave_board(sailor_t *s, crewed_t *c) {
    if (c->maps.first != NULL) sailor_wrong(s, "something stays mapped");
    oh_device_maps_close(&c->maps);
    sailor_meet(s);
    free_buffer(c->plan, &c->own);
    return ONEHOP_SUCCESS;
}

static void check_held(sailor_t *s, const crewed_t *c, int expected, const char *when) {
    int count = held(s, c->pieces);
    if (count != expected) sailor_wrong(s, "%s it holds %d pieces, not %d", when, count, expected);
}

/* The whole and, inside it, a part that lies in all its pieces; each outlives the other once. */
static onehop_result_t overlap(sailor_t *s) {
    crewed_t c = board(s);
    oh_device_shared_t whole, part;
    buffer_t inner = c.own;
    int pieces = pieces_held(c.plan, s);
    inner.begin += 17;
    inner.bytes -= 33;
    for (int round = 0; round < 2; round++) {
        OH_TRY(share(s, &c.maps, &c.own, &whole));
        check_held(s, &c, pieces, "with one buffer");
        OH_TRY(share(s, &c.maps, &inner, &part));
        check_held(s, &c, pieces, "with two buffers");
        for (int r = 0; r < s->nranks; r++) {
            if (part.base[r] != whole.base[r] + 17) sailor_wrong(s, "rank %d is mapped twice", r);
        }
        use_all(s, &c.own, &whole, 1);
        oh_device_unshare(&c.maps, round == 0 ? &whole : &part);
        check_held(s, &c, pieces, "with one buffer less");
        use_all(s, round == 0 ? &inner : &c.own, round == 0 ? &part : &whole, 2);
        oh_device_unshare(&c.maps, round == 0 ? &part : &whole);
        check_held(s, &c, 0, "with no buffer");
        sailor_meet(s);
    }
    return leave_board(s, &c);
}

static void test_overlap(void **state) {
    (void)state;
    for (int processes = 0; processes < 2; processes++) {
        for (int nranks = 2; nranks <= 4; nranks++) {
            plan_t plan = plan_for(4, processes);
            plan.sort[1] = MAPPED_ONCE;
            plan.sort[2] = MAPPED_THRICE;
            plan.bytes[1] = plan.bytes[2] = 0;
            run_duty_well(&plan, nranks, overlap);
        }
    }
}

/* A driver that does not tell what is behind a mapping: each buffer has its own. */
static onehop_result_t overlap_unknown(sailor_t *s) {
    crewed_t c = board(s);
    oh_device_shared_t first, second;
    int pieces = pieces_held(c.plan, s);
    OH_TRY(share(s, &c.maps, &c.own, &first));
    OH_TRY(share(s, &c.maps, &c.own, &second));
    if (s->rank == 0) check_held(s, &c, 2 * pieces, "with two buffers");
    use_all(s, &c.own, &first, 3);
    use_all(s, &c.own, &second, 4);
    oh_device_unshare(&c.maps, &first);
    oh_device_unshare(&c.maps, &second);
    check_held(s, &c, 0, "with no buffer");
    return leave_board(s, &c);
}

static void test_unknown_pieces(void **state) {
    (void)state;
    plan_t plan = plan_for(2, true);
    plan.sort[0] = plan.sort[1] = MAPPED_THRICE;
    plan.bytes[0] = plan.bytes[1] = 0;
    refuse(&plan, 1, "cuPointerGetAttribute", CUDA_ERROR_INVALID_VALUE);
    run_duty_well(&plan, 2, overlap_unknown);
    assert_true(plan.fake->failed);
}

/* Memory that was freed while it was shared, and is now another's, is not taken for what it was. */
static onehop_result_t free_early(sailor_t *s) {
    crewed_t c = board(s);
    oh_device_shared_t old, new, fresh;
    OH_TRY(share(s, &c.maps, &c.own, &old));
    sailor_meet(s);
    fake_piece_t *p = fake_cuda_find(c.own.memory), now = *p;
    now.id += 1000;
    if (s->rank == 1) change_piece(c.plan->fake, p, now);
    OH_TRY(share(s, &c.maps, &c.own, &new));
    c.plan->seen[s->rank] = new;
    if (!old.direct) sailor_wrong(s, "not direct at first");
    use_all(s, &c.own, &old, 5);
    oh_device_unshare(&c.maps, &new);
    oh_device_unshare(&c.maps, &old);
    OH_TRY(share(s, &c.maps, &c.own, &fresh));
    if (!fresh.direct) sailor_wrong(s, "not direct afterwards");
    use_all(s, &c.own, &fresh, 6);
    oh_device_unshare(&c.maps, &fresh);
    return leave_board(s, &c);
}

static void test_freed_early(void **state) {
    (void)state;
    plan_t plan = plan_for(3, true);
    run_duty_well(&plan, 3, free_early);
    assert_false(plan.seen[0].direct);
    expect("rank 0: rank 1 freed memory that is still registered, and registers it anew", plan.seen[0].reason);
}

/* New memory in each round, often at addresses of old; two buffers at once, unshared in turns, not all by all alike. */
static onehop_result_t go_round(sailor_t *s) {
    plan_t *plan = s->ctx;
    crewed_t c = board(s);
    oh_device_shared_t kept = {0};
    for (int round = 0; round < 1000; round++) {
        buffer_t passing = make_buffer(plan, s->rank);
        oh_device_shared_t shared, again;
        OH_TRY(share(s, &c.maps, &passing, &shared));
        OH_TRY(share(s, &c.maps, &passing, &again));
        if (!shared.direct || !again.direct) sailor_wrong(s, "round %d: not direct: %s", round, shared.reason);
        if (round % 100 == 0) use_all(s, &passing, &shared, round / 100);
        oh_device_unshare(&c.maps, round % 2 == s->rank % 2 ? &again : &shared);
        oh_device_unshare(&c.maps, round % 2 == s->rank % 2 ? &shared : &again);
        if (round % 7 == 0) oh_device_unshare(&c.maps, &kept);
        if (round % 7 == 0) OH_TRY(share(s, &c.maps, &c.own, &kept));
        int own = c.pieces;
        c.pieces = 2 * own;
        check_held(s, &c, pieces_held(plan, s), "between rounds");
        c.pieces = own;
        sailor_meet(s);
        free_buffer(plan, &passing);
    }
    oh_device_unshare(&c.maps, &kept);
    return leave_board(s, &c);
}

static void test_rounds(void **state) {
    (void)state;
    for (int processes = 0; processes < 2; processes++) {
        plan_t plan = plan_for(3, processes);
        plan.sort[1] = MAPPED_ONCE;
        plan.sort[2] = MAPPED_THRICE;
        plan.bytes[1] = plan.bytes[2] = 0;
        run_duty_well(&plan, 3, go_round);
    }
}

/* ---- leaving ---- */

/* Rank 0 closes with buffers shared, before all others, who go on without its memory. */
static onehop_result_t close_early(sailor_t *s) {
    crewed_t c = board(s);
    oh_device_shared_t first, second;
    OH_TRY(share(s, &c.maps, &c.own, &first));
    OH_TRY(share(s, &c.maps, &c.own, &second));
    if (s->rank == 0) {
        oh_device_maps_close(&c.maps);
        check_held(s, &c, 0, "after its close");
    }
    sailor_meet(s);
    for (int r = 1; r < s->nranks && s->rank > 0; r++) {
        if (((volatile unsigned char *)(uintptr_t)second.base[r])[0] != 0xa5) sailor_wrong(s, "rank %d is gone", r);
    }
    oh_device_maps_close(&c.maps);
    check_held(s, &c, 0, "after its close");
    return leave_board(s, &c);
}

static void test_close(void **state) {
    (void)state;
    for (int processes = 0; processes < 2; processes++) {
        plan_t plan = plan_for(3, processes);
        plan.sort[1] = MAPPED_THRICE;
        run_duty_well(&plan, 3, close_early);
    }
}

/* Rank 1 leaves where the others expect it; what they have by then is given back. */
static onehop_result_t lose(sailor_t *s) {
    crewed_t c = board(s);
    oh_device_shared_t shared;
    onehop_result_t result = share(s, &c.maps, &c.own, &shared);
    oh_device_unshare(&c.maps, &shared);
    if (s->rank != 1) result = share(s, &c.maps, &c.own, &shared);
    if (s->rank != 1 && result != ONEHOP_PEER_LOST) sailor_wrong(s, "a lost peer is %d", (int)result);
    if (s->rank != 1) check_zeros(s, &shared);
    check_held(s, &c, 0, "having lost a peer");
    oh_device_maps_close(&c.maps);
    free_buffer(c.plan, &c.own);
    return ONEHOP_SUCCESS;
}

static void test_lost_peer(void **state) {
    (void)state;
    for (int processes = 0; processes < 2; processes++) {
        plan_t plan = plan_for(2, processes);
        plan.sort[0] = MAPPED_THRICE;
        run_duty_well(&plan, 2, lose);
    }
}

/* Waits are broken off anywhere: some ranks may be done by then, and the others fail. */
typedef struct hurry {
    int asked, limit;
} hurry_t;

static onehop_result_t interrupt(void *ctx) {
    hurry_t *hurry = ctx;
    return ++hurry->asked > hurry->limit ? oh_fail(ONEHOP_ABORTED, "in a hurry") : ONEHOP_SUCCESS;
}

static int limit_of_hurry;
static atomic_int interrupted;
static pthread_barrier_t all_done;

static onehop_result_t hurry(sailor_t *s) {
    crewed_t c = board(s);
    hurry_t h = {.limit = limit_of_hurry};
    oh_device_shared_t shared, zeros = {0};
    sailor_meet(s);
    s->patience.interrupt = interrupt;
    s->patience.ctx = &h;
    onehop_result_t result = share(s, &c.maps, &c.own, &shared);
    if (result != ONEHOP_SUCCESS) atomic_fetch_add(&interrupted, 1);
    if (result != ONEHOP_SUCCESS && memcmp(&shared, &zeros, sizeof zeros) != 0) sailor_wrong(s, "something is left");
    oh_device_unshare(&c.maps, &shared);
    if (c.maps.first != NULL) sailor_wrong(s, "something stays mapped");
    check_held(s, &c, 0, "in a hurry");
    oh_device_maps_close(&c.maps);
    pthread_barrier_wait(&all_done);
    free_buffer(c.plan, &c.own);
    return ONEHOP_SUCCESS;
}

static void test_interrupted(void **state) {
    (void)state;
    pthread_barrier_init(&all_done, NULL, 3);
    for (int processes = 0; processes < 2; processes++) {
        for (limit_of_hurry = 0; limit_of_hurry < 40; limit_of_hurry++) {
            plan_t plan = plan_for(3, processes);
            plan.sort[1] = plan.sort[2] = MAPPED_THRICE;
            plan.bytes[1] = plan.bytes[2] = 0;
            atomic_store(&interrupted, 0);
            run_duty_well(&plan, 3, hurry);
            if (limit_of_hurry == 0) assert_int_not_equal(atomic_load(&interrupted), 0);
        }
    }
    pthread_barrier_destroy(&all_done);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mixes),          cmocka_unit_test(test_shared_gpus),
        cmocka_unit_test(test_peer_access),    cmocka_unit_test(test_edges),
        cmocka_unit_test(test_many_pieces),    cmocka_unit_test(test_apart),
        cmocka_unit_test(test_refused),        cmocka_unit_test(test_out_of_reach),
        cmocka_unit_test(test_wrong_memory),   cmocka_unit_test(test_too_long),
        cmocka_unit_test(test_neighbours),     cmocka_unit_test(test_wrong_arguments),
        cmocka_unit_test(test_plain_failures), cmocka_unit_test(test_mapped_failures),
        cmocka_unit_test(test_dead_driver),    cmocka_unit_test(test_identity),
        cmocka_unit_test(test_overlap),        cmocka_unit_test(test_unknown_pieces),
        cmocka_unit_test(test_freed_early),    cmocka_unit_test(test_rounds),
        cmocka_unit_test(test_close),          cmocka_unit_test(test_lost_peer),
        cmocka_unit_test(test_interrupted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
