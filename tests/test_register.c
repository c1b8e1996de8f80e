/* SPDX-License-Identifier: Apache-2.0 */
/* Registered memory: whose it may be, where messages may lie in it, and that nothing of it is left behind. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "message.h"

#include <cmocka.h>

enum { KIB = 1024, MIB = 1 << 20, PAGE = 4096 };

/* A mapping of a memfd of the caller's own, which begins `offset` bytes into the file. */
typedef struct own {
    int fd;
    unsigned char *start;
    size_t bytes;
} own_t;

static own_t own_map(size_t bytes, size_t offset) {
    own_t own = {.fd = memfd_create("test", MFD_CLOEXEC), .bytes = bytes};
    CHECK(own.fd >= 0 && ftruncate(own.fd, (off_t)(offset + bytes)) == 0, "memfd: %s", strerror(errno));
    own.start = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, own.fd, (off_t)offset);
    CHECK(own.start != MAP_FAILED, "mmap: %s", strerror(errno));
    return own;
}

static void own_unmap(own_t own) {
    munmap(own.start, own.bytes);
    close(own.fd);
}

/* The sum of `count` floats between two places; NULL for `send`: in place. */
static void sum(onehop_comm_t *comm, size_t count, area_t area, unsigned char *send, unsigned char *recv, rng_t *rng) {
    message_t m = {count, ONEHOP_FLOAT32, ONEHOP_SUM, DATA_EXACT, rng_next(rng)};
    all_reduce_checked(comm, &m, area, send, recv);
}

/* The communicator works as ever, with memory that is not registered. */
static void check_usable(onehop_comm_t *comm, rng_t *rng) {
    area_t area = area_new(4 * KIB);
    sum(comm, 100, area, NULL, area.start + GUARD, rng);
    area_free(area);
}

/* ---- Memory of either origin, messages anywhere in it ---- */

/* Messages of many sizes at places of each rank's own choice in two registered areas. */
static void sweep_areas(onehop_comm_t *comm, area_t send, area_t recv, rng_t *all) {
    rng_t mine = {mix64(all->state + (uint64_t)onehop_comm_rank(comm))};
    for (int i = 0; i < rounds(60, 20); i++) {
        onehop_dtype_t dtype = (onehop_dtype_t)rng_below(all, DTYPES);
        size_t room = 2 * MIB / onehop_dtype_size(dtype);
        message_t m = {rng_log_below(all, room), dtype, (onehop_op_t)rng_below(all, OPS), DATA_EXACT, rng_next(all)};
        bool in_place = rng_below(all, 2);
        unsigned char *from = in_place ? NULL : area_place(send, message_bytes(&m), &mine);
        all_reduce_checked(comm, &m, recv, from, area_place(recv, message_bytes(&m), &mine));
    }
}

static void library_memory(int rank, int nranks, void *ctx) {
    (void)ctx;
    resources_t before = resources_now();
    onehop_comm_t *comm = team_join(rank, nranks, 0, NULL);
    rng_t rng = {tests_seed()};
    void *memory[2];
    /* Of another length on every rank. */
    size_t bytes = 2 * MIB + 2 * PAGE + (size_t)rank * 5000;
    for (int i = 0; i < 2; i++) {
        CHECK_SUCCESS(onehop_alloc(comm, bytes, &memory[i]));
        CHECK((uintptr_t)memory[i] % (uintptr_t)sysconf(_SC_PAGESIZE) == 0, "%p is not aligned to a page", memory[i]);
        for (size_t b = 0; b < bytes; b++) CHECK(((unsigned char *)memory[i])[b] == 0, "byte %zu is not zero", b);
        CHECK_SUCCESS(onehop_register(comm, memory[i], bytes));
    }
    sweep_areas(comm, (area_t){memory[0], bytes}, (area_t){memory[1], bytes}, &rng);
    for (int i = 0; i < 2; i++) {
        CHECK_SUCCESS(onehop_deregister(comm, memory[i]));
        CHECK_SUCCESS(onehop_free(comm, memory[i]));
    }
    check_usable(comm, &rng);
    CHECK_SUCCESS(onehop_comm_destroy(comm));
    resources_check(before, "after registered all-reduces");
}

static void own_memory(int rank, int nranks, void *ctx) {
    (void)ctx;
    resources_t before = resources_now();
    onehop_comm_t *comm = team_join(rank, nranks, 0, NULL);
    rng_t rng = {tests_seed() + 1};
    own_t send = own_map(2 * MIB + 2 * PAGE, (size_t)rank * PAGE);
    own_t recv = own_map(2 * MIB + 8 * PAGE, 3 * PAGE);
    /* From the middle of a mapping, at no particular alignment. */
    size_t skip = 100 + (size_t)rank;
    unsigned char *into = recv.start + skip;
    size_t bytes = recv.bytes - skip - 50;
    CHECK_SUCCESS(onehop_register(comm, send.start, send.bytes));
    CHECK_SUCCESS(onehop_register(comm, into, bytes));
    sweep_areas(comm, (area_t){send.start, send.bytes}, (area_t){into, bytes}, &rng);
    CHECK_SUCCESS(onehop_deregister(comm, send.start));
    CHECK_SUCCESS(onehop_deregister(comm, into));
    own_unmap(send);
    own_unmap(recv);
    check_usable(comm, &rng);
    CHECK_SUCCESS(onehop_comm_destroy(comm));
    resources_check(before, "after all-reduces in the caller's memory");
}

static void test_library_memory(void **state) {
    (void)state;
    for (int nranks = 1; nranks <= 8; nranks += nranks < 4 ? 1 : 2) team_run(nranks, library_memory, NULL);
}

static void test_own_memory(void **state) {
    (void)state;
    for (int nranks = 1; nranks <= 4; nranks++) team_run(nranks, own_memory, NULL);
}

/* ---- Some registered, some not ---- */

/* Each rank's two buffers lie inside, half outside or wholly outside what is registered, as the dice say. */
static void mixed_places(int rank, int nranks, void *ctx) {
    (void)ctx;
    onehop_comm_t *comm = team_join(rank, nranks, 0, NULL);
    rng_t all = {tests_seed() + 2}, mine = {mix64(tests_seed() + (uint64_t)rank)};
    own_t own = own_map(4 * MIB, 0);
    area_t outside = area_new(2 * MIB);
    CHECK_SUCCESS(onehop_register(comm, own.start + MIB, 2 * MIB));
    for (int i = 0; i < rounds(60, 20); i++) {
        size_t bytes = 4 + rng_log_below(&all, MIB / 2) / 4 * 4;
        bool in_place = rng_below(&all, 2);
        unsigned char *places[] = {
            own.start + MIB + 64,            /* inside */
            own.start + MIB - 4,             /* begins before it */
            own.start + 3 * MIB - bytes + 4, /* ends behind it */
            own.start + 3 * MIB + 64,        /* in the same mapping, not registered */
            own.start + 3 * MIB - bytes,     /* its very end */
        };
        unsigned pick = (unsigned)rng_below(&mine, 6);
        bool shared = pick < 5;
        unsigned char *recv = shared ? places[pick] : outside.start + GUARD;
        unsigned char *send = in_place ? NULL : shared ? outside.start + GUARD : places[0];
        sum(comm, bytes / 4, shared ? (area_t){own.start, own.bytes} : outside, send, recv, &all);
    }
    CHECK_SUCCESS(onehop_deregister(comm, own.start + MIB));
    CHECK_SUCCESS(onehop_comm_destroy(comm));
    own_unmap(own);
    area_free(outside);
}

static void test_mixed_places(void **state) {
    (void)state;
    for (int nranks = 2; nranks <= 5; nranks++) team_run(nranks, mixed_places, NULL);
}

/* ---- Many, and over and over ---- */

static void many_buffers(int rank, int nranks, void *ctx) {
    (void)ctx;
    enum { BUFFERS = 48, BYTES = 64 * KIB };
    resources_t before = resources_now();
    onehop_comm_t *comm = team_join(rank, nranks, 0, NULL);
    rng_t rng = {tests_seed() + 3};
    void *buffers[BUFFERS];
    for (int i = 0; i < BUFFERS; i++) {
        CHECK_SUCCESS(onehop_alloc(comm, BYTES, &buffers[i]));
        doing("register buffer %d", i);
        CHECK_SUCCESS(onehop_register(comm, buffers[i], BYTES));
    }
    for (int i = 0; i < 100; i++) {
        unsigned char *from = buffers[rng_below(&rng, BUFFERS)], *to = buffers[rng_below(&rng, BUFFERS)];
        sum(comm, (size_t)(1000 + i), (area_t){to, BYTES}, from == to ? NULL : from + 4, to + GUARD, &rng);
    }
    /* Half are given back, in another order; destroy frees the rest. */
    for (int i = BUFFERS - 1; i >= 0; i -= 2) {
        CHECK_SUCCESS(onehop_deregister(comm, buffers[i]));
        CHECK_SUCCESS(onehop_free(comm, buffers[i]));
    }
    sum(comm, 1000, (area_t){buffers[0], BYTES}, NULL, buffers[0], &rng);
    CHECK_SUCCESS(onehop_comm_destroy(comm));
    resources_check(before, "after destroy with buffers registered");
}

static void over_and_over(int rank, int nranks, void *ctx) {
    (void)ctx;
    onehop_comm_t *comm = team_join(rank, nranks, 0, NULL);
    rng_t rng = {tests_seed() + 4};
    own_t own = own_map(64 * KIB, 0);
    check_usable(comm, &rng);
    resources_t before = resources_now();
    for (int i = 0; i < rounds(1200, 200); i++) {
        doing("registration %d", i);
        void *memory = own.start;
        if (i % 2) CHECK_SUCCESS(onehop_alloc(comm, own.bytes, &memory));
        CHECK_SUCCESS(onehop_register(comm, memory, own.bytes));
        if (i % 8 < 2) sum(comm, 5000, (area_t){memory, own.bytes}, NULL, (unsigned char *)memory + GUARD, &rng);
        CHECK_SUCCESS(onehop_deregister(comm, memory));
        if (i % 2) CHECK_SUCCESS(onehop_free(comm, memory));
    }
    resources_check(before, "after registering over and over");
    own_unmap(own);
    CHECK_SUCCESS(onehop_comm_destroy(comm));
}

static void test_many_buffers(void **state) {
    (void)state;
    team_run(2, many_buffers, NULL);
    team_run(4, many_buffers, NULL);
}

static void test_over_and_over(void **state) {
    (void)state;
    team_run(2, over_and_over, NULL);
    team_run(3, over_and_over, NULL);
}

/* ---- What is refused ---- */

typedef enum refusal {
    PRIVATE_MEMORY,
    PRIVATE_MAPPING,
    ANONYMOUS_SHARED,
    READ_ONLY_MAPPING,
    BEYOND_MAPPING,
    NULL_POINTER,
    NO_BYTES,
    OVERFLOW,
    REGISTERED_ALREADY,
    REFUSALS
} refusal_t;

/* One rank's buffer will not do: all ranks fail alike, and go on. */
static void refuse(int rank, int nranks, void *ctx) {
    refusal_t refusal = *(const refusal_t *)ctx;
    int odd_rank = (int)(tests_seed() % (uint64_t)nranks);
    onehop_comm_t *comm = team_join(rank, nranks, 0, NULL);
    rng_t rng = {tests_seed() + 5};
    own_t own = own_map(64 * KIB, 0), other = own_map(64 * KIB, 0);
    CHECK_SUCCESS(onehop_register(comm, other.start, other.bytes));
    unsigned char *private = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, own.fd, 0);
    unsigned char *anonymous = shared_zalloc(PAGE);
    unsigned char *read_only = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, own.fd, 0);
    void *heap = malloc(PAGE);
    CHECK(private != MAP_FAILED && read_only != MAP_FAILED && heap, "out of memory");
    struct {
        void *ptr;
        size_t bytes;
    } odd[REFUSALS] = {
        [PRIVATE_MEMORY] = {heap, PAGE},
        [PRIVATE_MAPPING] = {private, PAGE},
        [ANONYMOUS_SHARED] = {anonymous, PAGE},
        [READ_ONLY_MAPPING] = {read_only, PAGE},
        [BEYOND_MAPPING] = {own.start, own.bytes + 16 * MIB},
        [NULL_POINTER] = {NULL, PAGE},
        [NO_BYTES] = {own.start, 0},
        [OVERFLOW] = {own.start, SIZE_MAX},
        [REGISTERED_ALREADY] = {other.start, other.bytes},
    };
    resources_t before = resources_now();
    bool mine = rank == odd_rank;
    doing("register what will be refused, case %d", (int)refusal);
    onehop_result_t result =
        onehop_register(comm, mine ? odd[refusal].ptr : own.start, mine ? odd[refusal].bytes : own.bytes);
    CHECK(result == ONEHOP_INVALID_ARGUMENT || result == ONEHOP_UNSUPPORTED, "case %d: got %s: %s", (int)refusal,
          onehop_result_string(result), onehop_last_error());
    CHECK(onehop_last_error()[0], "no text");
    CHECK(mine || says_number(onehop_last_error(), "rank", (uint64_t)odd_rank), "rank %d is not in: %s", odd_rank,
          onehop_last_error());
    onehop_result_t error = ONEHOP_ABORTED;
    CHECK_SUCCESS(onehop_comm_get_async_error(comm, &error));
    CHECK(error == ONEHOP_SUCCESS, "the communicator broke: %s", onehop_last_error());
    resources_check(before, "after a refusal");
    check_usable(comm, &rng);
    sum(comm, 1000, (area_t){other.start, other.bytes}, NULL, other.start + GUARD, &rng);
    CHECK_SUCCESS(onehop_register(comm, own.start, own.bytes));
    sum(comm, 1000, (area_t){own.start, own.bytes}, other.start, own.start + GUARD, &rng);
    CHECK_SUCCESS(onehop_comm_destroy(comm));
    free(heap);
    munmap(private, PAGE);
    munmap(read_only, PAGE);
    shared_free(anonymous, PAGE);
    own_unmap(own);
    own_unmap(other);
}

static void test_refusals(void **state) {
    (void)state;
    for (refusal_t refusal = 0; refusal < REFUSALS; refusal++) {
        team_run(1, refuse, &refusal);
        team_run(2, refuse, &refusal);
        team_run(3, refuse, &refusal);
    }
}

/* Wrong calls that need no peer to be found out. */
static void wrong_calls(int rank, int nranks, void *ctx) {
    (void)ctx;
    onehop_comm_t *comm = team_join(rank, nranks, 0, NULL);
    rng_t rng = {tests_seed() + 6};
    void *memory;
    unsigned char stranger;
    CHECK_SUCCESS(onehop_alloc(comm, 3 * PAGE, &memory));
    CHECK_SUCCESS(onehop_register(comm, memory, PAGE));
    CHECK_RESULT(ONEHOP_INVALID_ARGUMENT, onehop_free(comm, memory)); /* still registered */
    CHECK_RESULT(ONEHOP_INVALID_ARGUMENT, onehop_free(comm, &stranger));
    CHECK_RESULT(ONEHOP_INVALID_ARGUMENT, onehop_free(comm, (unsigned char *)memory + PAGE));
    CHECK_SUCCESS(onehop_free(comm, NULL));
    check_usable(comm, &rng);
    CHECK_SUCCESS(onehop_deregister(comm, memory));
    CHECK_SUCCESS(onehop_free(comm, memory));
    CHECK_RESULT(ONEHOP_INVALID_ARGUMENT, onehop_free(comm, memory)); /* twice */
    CHECK_SUCCESS(onehop_comm_destroy(comm));
}

/* All ranks deregister what none has registered. */
static void deregister_strangers(int rank, int nranks, void *ctx) {
    (void)ctx;
    onehop_comm_t *comm = team_join(rank, nranks, 0, NULL);
    rng_t rng = {tests_seed() + 7};
    void *memory;
    CHECK_SUCCESS(onehop_alloc(comm, PAGE, &memory));
    CHECK_RESULT(ONEHOP_INVALID_ARGUMENT, onehop_deregister(comm, memory));
    CHECK_RESULT(ONEHOP_INVALID_ARGUMENT, onehop_deregister(comm, NULL));
    CHECK_SUCCESS(onehop_register(comm, memory, PAGE));
    CHECK_SUCCESS(onehop_deregister(comm, memory));
    CHECK_RESULT(ONEHOP_INVALID_ARGUMENT, onehop_deregister(comm, memory));
    check_usable(comm, &rng);
    CHECK_SUCCESS(onehop_comm_destroy(comm));
}

static void test_wrong_calls(void **state) {
    (void)state;
    for (int nranks = 1; nranks <= 3; nranks++) {
        team_run(nranks, wrong_calls, NULL);
        team_run(nranks, deregister_strangers, NULL);
    }
}

/* ---- One rank runs out of descriptors: all fail or none, nobody hangs ---- */

typedef struct shortage {
    int spare; /* descriptors that rank 0 may still open */
    _Atomic int failures;
} shortage_t;

static void limit_descriptors(rlim_t limit) {
    struct rlimit now;
    CHECK(getrlimit(RLIMIT_NOFILE, &now) == 0, "getrlimit: %s", strerror(errno));
    now.rlim_cur = limit < now.rlim_max ? limit : now.rlim_max;
    CHECK(setrlimit(RLIMIT_NOFILE, &now) == 0, "setrlimit: %s", strerror(errno));
}

static void run_out(int rank, int nranks, void *ctx) {
    shortage_t *shortage = ctx;
    resources_t before = resources_now();
    onehop_comm_t *comm = team_join(rank, nranks, 0, NULL);
    void *memory;
    CHECK_SUCCESS(onehop_alloc(comm, PAGE, &memory));
    int next = dup(0); /* the lowest free number */
    CHECK(next >= 0, "dup: %s", strerror(errno));
    close(next);
    if (rank == 0) limit_descriptors((rlim_t)(next + shortage->spare));
    doing("register with %d spare descriptors on rank 0", shortage->spare);
    onehop_result_t result = onehop_register(comm, memory, PAGE);
    if (rank == 0) limit_descriptors(RLIM_INFINITY);
    CHECK(result == ONEHOP_SUCCESS || onehop_last_error()[0], "no text");
    if (result != ONEHOP_SUCCESS) atomic_fetch_add(&shortage->failures, 1);
    team_barrier();
    int failures = atomic_load(&shortage->failures);
    CHECK(failures == 0 || failures == nranks, "%d of %d ranks failed", failures, nranks);
    CHECK(failures != 0 || shortage->spare > 0, "registered without a descriptor");
    CHECK(failures == 0 || shortage->spare < nranks + 4, "%d spare descriptors are too few: %s", shortage->spare,
          onehop_last_error());
    onehop_result_t error = ONEHOP_SUCCESS;
    CHECK_SUCCESS(onehop_comm_get_async_error(comm, &error));
    rng_t rng = {tests_seed()};
    if (error == ONEHOP_SUCCESS) check_usable(comm, &rng);
    team_barrier();
    CHECK_SUCCESS(onehop_comm_destroy(comm));
    resources_check(before, "after a shortage of descriptors");
}

static void test_run_out(void **state) {
    (void)state;
    shortage_t *shortage = shared_zalloc(sizeof *shortage);
    for (int nranks = 2; nranks <= 4; nranks++)
        for (shortage->spare = 0; shortage->spare <= nranks + 4; shortage->spare++) {
            atomic_store(&shortage->failures, 0);
            team_run(nranks, run_out, shortage);
        }
    shared_free(shortage, sizeof *shortage);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_library_memory), cmocka_unit_test(test_own_memory),
        cmocka_unit_test(test_mixed_places),   cmocka_unit_test(test_many_buffers),
        cmocka_unit_test(test_over_and_over),  cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_wrong_calls),    cmocka_unit_test(test_run_out),
    };
    tests_begin("register");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
