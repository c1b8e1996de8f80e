/* SPDX-License-Identifier: Apache-2.0 */
/* Wrong arguments: each call refuses them, names them, and leaves the communicator as it was. Strings and versions. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "message.h"

#include <cmocka.h>

/* A communicator of one rank, in this process. */
static onehop_comm_t *single(void) {
    onehop_comm_t *comm = NULL;
    CHECK_SUCCESS(onehop_comm_create_local(1, NULL, ONEHOP_DEVICE_HOST, &comm));
    return comm;
}

static void check_usable(onehop_comm_t *comm) {
    float in[3] = {1, 2, 3}, out[3] = {0};
    onehop_result_t error = ONEHOP_ABORTED;
    CHECK_SUCCESS(onehop_comm_get_async_error(comm, &error));
    CHECK(error == ONEHOP_SUCCESS, "the communicator is broken");
    CHECK_SUCCESS(onehop_all_reduce(in, out, 3, ONEHOP_FLOAT32, ONEHOP_SUM, comm, NULL));
    CHECK(memcmp(in, out, sizeof in) == 0, "the sum over one rank is not its input");
}

/* ---- onehop_all_reduce ---- */

#define WRONG(word, ...) CHECK_FAILS(ONEHOP_INVALID_ARGUMENT, word, onehop_all_reduce(__VA_ARGS__))

static void test_all_reduce_arguments(void **state) {
    (void)state;
    onehop_comm_t *comm = single();
    float in[64] = {1}, out[64];
    char *bytes = (char *)in;
    WRONG("comm", in, out, 64, ONEHOP_FLOAT32, ONEHOP_SUM, NULL, NULL);
    WRONG("sendbuf", NULL, out, 64, ONEHOP_FLOAT32, ONEHOP_SUM, comm, NULL);
    WRONG("recvbuf", in, NULL, 64, ONEHOP_FLOAT32, ONEHOP_SUM, comm, NULL);
    WRONG("dtype", in, out, 64, (onehop_dtype_t)DTYPES, ONEHOP_SUM, comm, NULL);
    WRONG("dtype", in, out, 64, (onehop_dtype_t)-1, ONEHOP_SUM, comm, NULL);
    WRONG("op", in, out, 64, ONEHOP_FLOAT32, (onehop_op_t)OPS, comm, NULL);
    WRONG("op", in, out, 64, ONEHOP_FLOAT32, (onehop_op_t)-1, comm, NULL);
    WRONG("stream", in, out, 64, ONEHOP_FLOAT32, ONEHOP_SUM, comm, in);
    WRONG("count", in, out, SIZE_MAX, ONEHOP_FLOAT32, ONEHOP_SUM, comm, NULL);
    WRONG("count", in, out, SIZE_MAX / 4 + 1, ONEHOP_FLOAT32, ONEHOP_SUM, comm, NULL);
    WRONG("count", in, in, SIZE_MAX / 8 + 1, ONEHOP_FLOAT64, ONEHOP_SUM, comm, NULL);
    /* Too many bytes for an address space, though their number fits in a size_t. */
    WRONG("count", in, in, SIZE_MAX - 4096, ONEHOP_INT8, ONEHOP_SUM, comm, NULL);
    /* Overlaps, by one element, by one byte, and all but wholly. */
    WRONG("overlap", in, in + 31, 32, ONEHOP_FLOAT32, ONEHOP_SUM, comm, NULL);
    WRONG("overlap", in + 31, in, 32, ONEHOP_FLOAT32, ONEHOP_SUM, comm, NULL);
    WRONG("overlap", bytes, bytes + 127, 128, ONEHOP_INT8, ONEHOP_SUM, comm, NULL);
    WRONG("overlap", bytes, bytes + 1, 128, ONEHOP_UINT8, ONEHOP_SUM, comm, NULL);
    /* Neighbours do not overlap. */
    CHECK_SUCCESS(onehop_all_reduce(in, in + 32, 32, ONEHOP_FLOAT32, ONEHOP_SUM, comm, NULL));
    CHECK_SUCCESS(onehop_all_reduce(in + 32, in, 32, ONEHOP_FLOAT32, ONEHOP_SUM, comm, NULL));
    /* No elements need no buffers, but a type and an operation all the same. */
    CHECK_SUCCESS(onehop_all_reduce(NULL, NULL, 0, ONEHOP_FLOAT32, ONEHOP_SUM, comm, NULL));
    WRONG("dtype", NULL, NULL, 0, (onehop_dtype_t)99, ONEHOP_SUM, comm, NULL);
    check_usable(comm);
    CHECK_SUCCESS(onehop_comm_destroy(comm));
}

/* Wrong arguments on one of several ranks: it alone is told, nothing was done, and it may call again. */
static void try_again(int rank, int nranks, void *ctx) {
    (void)ctx;
    onehop_comm_t *comm = team_join(rank, nranks, 0, NULL);
    int32_t one = 1, all = 0;
    if (rank == 1) WRONG("dtype", &one, &all, 1, (onehop_dtype_t)99, ONEHOP_SUM, comm, NULL);
    CHECK_SUCCESS(onehop_all_reduce(&one, &all, 1, ONEHOP_INT32, ONEHOP_SUM, comm, NULL));
    CHECK(all == nranks, "sum is %d", all);
    CHECK_SUCCESS(onehop_comm_destroy(comm));
}

static void test_try_again(void **state) {
    (void)state;
    team_run(3, try_again, NULL);
}

/* ---- onehop_comm_create ---- */

typedef struct bad_field {
    const char *word;
    onehop_config_t config;
} bad_field_t;

#define SIZE .size = sizeof(onehop_config_t)
#define HOST .device = ONEHOP_DEVICE_HOST
#define NAME .rendezvous = "unix:@onehop-test-api"
#define TWO  .rank = 0, .nranks = 2

static void test_config(void **state) {
    (void)state;
    static const bad_field_t bad[] = {
        {"size", {HOST, NAME, TWO, .size = 0}},
        {"size", {HOST, NAME, TWO, .size = 3}},
        {"size", {HOST, NAME, TWO, .size = 1 << 20}},
        {"rank", {SIZE, HOST, NAME, .rank = 2, .nranks = 2}},
        {"rank", {SIZE, HOST, NAME, .rank = -2, .nranks = 2}},
        {"nranks", {SIZE, HOST, NAME, .rank = 0, .nranks = 0}},
        {"nranks", {SIZE, HOST, NAME, .rank = 0, .nranks = ONEHOP_MAX_RANKS + 1}},
        {"nranks", {SIZE, HOST, NAME, .rank = 0, .nranks = -7}},
        {"device", {SIZE, NAME, TWO, .device = (onehop_device_t)9}},
        {"rendezvous", {SIZE, HOST, TWO, .rendezvous = ""}},
        {"rendezvous", {SIZE, HOST, TWO, .rendezvous = "unix:"}},
        {"rendezvous", {SIZE, HOST, TWO, .rendezvous = "nonsense"}},
        {"rendezvous", {SIZE, HOST, TWO, .rendezvous = "tcp:nowhere"}},
        {"rendezvous", {SIZE, HOST, TWO, .rendezvous = "tcp:127.0.0.1:99999"}},
        {"workspace_bytes", {SIZE, HOST, NAME, TWO, .workspace_bytes = 1}},
        {"workspace_bytes", {SIZE, HOST, NAME, TWO, .workspace_bytes = 64 * 1024 - 1}},
        {"timeout_ms", {SIZE, HOST, NAME, TWO, .timeout_ms = -1}},
        {"max_blocks", {SIZE, HOST, NAME, TWO, .max_blocks = -1}},
        {"bootstrap_timeout_ms", {SIZE, HOST, NAME, TWO, .bootstrap_timeout_ms = -1}},
        {"algorithm", {SIZE, HOST, NAME, TWO, .algorithm = "magic"}},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        onehop_comm_t *comm = (onehop_comm_t *)&comm; /* anything but NULL, which create is to store */
        CHECK_FAILS(ONEHOP_INVALID_ARGUMENT, bad[i].word, onehop_comm_create(&bad[i].config, &comm));
        CHECK(comm == NULL, "case %zu: a failed create left a pointer behind", i);
    }
    const onehop_config_t good = {SIZE, HOST, NAME, .rank = 0, .nranks = 1};
    CHECK_FAILS(ONEHOP_INVALID_ARGUMENT, "comm", onehop_comm_create(&good, NULL));
}

static void set_environment(void) {
    setenv("ONEHOP_RANK", "0", 1);
    setenv("ONEHOP_NRANKS", "1", 1);
    setenv("ONEHOP_DEVICE", "host", 1);
    setenv("ONEHOP_RENDEZVOUS", "unix:@onehop-test-api", 1);
}

/* The environment is checked like the configuration, and the variable is named. */
static void environment(int rank, int nranks, void *ctx) {
    (void)rank, (void)nranks, (void)ctx;
    static const char *const bad[][2] = {{"ONEHOP_RANK", "one"},          {"ONEHOP_RANK", "1x"},
                                         {"ONEHOP_NRANKS", "65"},         {"ONEHOP_NRANKS", ""},
                                         {"ONEHOP_TIMEOUT_MS", "-5"},     {"ONEHOP_WORKSPACE_BYTES", "12"},
                                         {"ONEHOP_DEVICE", "abacus"},     {"ONEHOP_RENDEZVOUS", "carrier-pigeon"},
                                         {"ONEHOP_TIMEOUT_MS", "1e99999"}};
    onehop_comm_t *comm;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        set_environment();
        setenv(bad[i][0], bad[i][1], 1);
        CHECK_FAILS(ONEHOP_INVALID_ARGUMENT, bad[i][0], onehop_comm_create(NULL, &comm));
        unsetenv(bad[i][0]);
    }
    set_environment();
    CHECK_SUCCESS(onehop_comm_create(NULL, &comm));
    check_usable(comm);
    CHECK_SUCCESS(onehop_comm_destroy(comm));
}

static void test_environment(void **state) {
    (void)state;
    team_run(1, environment, NULL);
}

/* ---- The other calls ---- */

static void test_null_communicator(void **state) {
    (void)state;
    onehop_result_t error;
    onehop_comm_info_t info = {.size = sizeof info};
    onehop_peer_info_t peer = {.size = sizeof peer};
    onehop_choice_t choice = {.size = sizeof choice};
    void *memory;
    char byte;
    CHECK(onehop_comm_rank(NULL) == -1 && onehop_comm_nranks(NULL) == -1, "a rank of no communicator");
    CHECK_SUCCESS(onehop_comm_destroy(NULL));
    CHECK_FAILS(ONEHOP_INVALID_ARGUMENT, "comm", onehop_comm_abort(NULL));
    CHECK_FAILS(ONEHOP_INVALID_ARGUMENT, "comm", onehop_comm_get_async_error(NULL, &error));
    CHECK_FAILS(ONEHOP_INVALID_ARGUMENT, "comm", onehop_alloc(NULL, 1, &memory));
    CHECK_FAILS(ONEHOP_INVALID_ARGUMENT, "comm", onehop_free(NULL, &byte));
    CHECK_FAILS(ONEHOP_INVALID_ARGUMENT, "comm", onehop_register(NULL, &byte, 1));
    CHECK_FAILS(ONEHOP_INVALID_ARGUMENT, "comm", onehop_deregister(NULL, &byte));
    CHECK_FAILS(ONEHOP_INVALID_ARGUMENT, "comm", onehop_graph_register(NULL));
    CHECK_FAILS(ONEHOP_INVALID_ARGUMENT, "comm", onehop_comm_get_info(NULL, &info));
    CHECK_FAILS(ONEHOP_INVALID_ARGUMENT, "comm", onehop_comm_get_peer(NULL, 0, &peer));
    CHECK_FAILS(ONEHOP_INVALID_ARGUMENT, "comm", onehop_comm_explain(NULL, 1, ONEHOP_FLOAT32, ONEHOP_SUM, 0, &choice));
}

static void test_other_arguments(void **state) {
    (void)state;
    onehop_comm_t *comm = single();
    onehop_comm_info_t info = {.size = 0};
    onehop_peer_info_t peer = {.size = sizeof peer};
    onehop_choice_t choice = {.size = sizeof choice};
    void *memory;
    CHECK_FAILS(ONEHOP_INVALID_ARGUMENT, "error", onehop_comm_get_async_error(comm, NULL));
    CHECK_FAILS(ONEHOP_INVALID_ARGUMENT, "bytes", onehop_alloc(comm, 0, &memory));
    CHECK_FAILS(ONEHOP_INVALID_ARGUMENT, "ptr", onehop_alloc(comm, 1, NULL));
    onehop_result_t too_much = onehop_alloc(comm, SIZE_MAX, &memory);
    CHECK(too_much == ONEHOP_INVALID_ARGUMENT || too_much == ONEHOP_OUT_OF_MEMORY, "an alloc of SIZE_MAX gives %s",
          onehop_result_string(too_much));
    CHECK_FAILS(ONEHOP_INVALID_ARGUMENT, "info", onehop_comm_get_info(comm, NULL));
    CHECK_FAILS(ONEHOP_INVALID_ARGUMENT, "size", onehop_comm_get_info(comm, &info));
    CHECK_FAILS(ONEHOP_INVALID_ARGUMENT, "info", onehop_comm_get_peer(comm, 0, NULL));
    CHECK_FAILS(ONEHOP_INVALID_ARGUMENT, "rank", onehop_comm_get_peer(comm, 1, &peer));
    CHECK_FAILS(ONEHOP_INVALID_ARGUMENT, "rank", onehop_comm_get_peer(comm, -1, &peer));
    CHECK_FAILS(ONEHOP_INVALID_ARGUMENT, "choice", onehop_comm_explain(comm, 1, ONEHOP_FLOAT32, ONEHOP_SUM, 0, NULL));
    CHECK_FAILS(ONEHOP_INVALID_ARGUMENT, "dtype",
                onehop_comm_explain(comm, 1, (onehop_dtype_t)99, ONEHOP_SUM, 0, &choice));
    CHECK_FAILS(ONEHOP_INVALID_ARGUMENT, "op",
                onehop_comm_explain(comm, 1, ONEHOP_FLOAT32, (onehop_op_t)99, 0, &choice));
    choice.size = 1;
    CHECK_FAILS(ONEHOP_INVALID_ARGUMENT, "size", onehop_comm_explain(comm, 1, ONEHOP_FLOAT32, ONEHOP_SUM, 0, &choice));
    CHECK_SUCCESS(onehop_graph_register(comm));
    check_usable(comm);
    CHECK_SUCCESS(onehop_comm_destroy(comm));
}

/* Memory that the machine has not is refused, and not taken from others first: the limit on the size of files would
 * stop a library that tried. */
static void too_much_memory(int rank, int nranks, void *ctx) {
    (void)rank, (void)nranks, (void)ctx;
    onehop_comm_t *comm = single();
    const struct rlimit little = {64 << 20, 64 << 20};
    signal(SIGXFSZ, SIG_IGN);
    CHECK(setrlimit(RLIMIT_FSIZE, &little) == 0, "setrlimit: %s", strerror(errno));
    resources_t before = resources_now();
    for (size_t bytes = (size_t)1 << 40; bytes <= (size_t)1 << 62; bytes <<= 1) {
        void *memory = comm; /* anything but NULL */
        CHECK_FAILS(ONEHOP_OUT_OF_MEMORY, "bytes", onehop_alloc(comm, bytes, &memory));
        CHECK(memory == NULL, "a failed alloc left a pointer behind");
    }
    resources_check(before, "after failed allocations");
    check_usable(comm);
    CHECK_SUCCESS(onehop_comm_destroy(comm));
}

static void test_too_much_memory(void **state) {
    (void)state;
    team_run(1, too_much_memory, NULL);
}

/* ---- What a communicator says of itself ---- */

static void introduce(int rank, int nranks, void *ctx) {
    _Atomic int *pids = ctx;
    atomic_store(&pids[rank], (int)getpid());
    onehop_config_t wish = ONEHOP_CONFIG_INIT;
    wish.workspace_bytes = 4 << 20;
    onehop_comm_t *comm = team_join(rank, nranks, 0, &wish);
    onehop_comm_info_t info = {.size = sizeof info};
    CHECK_SUCCESS(onehop_comm_get_info(comm, &info));
    CHECK(info.rank == rank && info.nranks == nranks, "rank %d of %d", info.rank, info.nranks);
    CHECK(onehop_comm_rank(comm) == rank && onehop_comm_nranks(comm) == nranks, "another rank than in the info");
    CHECK(info.device == ONEHOP_DEVICE_HOST && info.device_index == -1, "device %d, index %d", (int)info.device,
          info.device_index);
    CHECK(info.workspace_bytes <= 4 << 20 && info.workspace_bytes > 0, "%zu bytes of workspace", info.workspace_bytes);
    CHECK(info.control_bytes + info.staging_bytes <= info.workspace_bytes,
          "parts of the workspace are larger than the whole");
    CHECK(info.simd && info.placement && info.cpus >= 1, "simd, placement or cpus are missing");
    CHECK(info.operations == 0, "%llu operations before the first", (unsigned long long)info.operations);
    for (int r = 0; r < nranks; r++) {
        onehop_peer_info_t peer = {.size = sizeof peer};
        CHECK_SUCCESS(onehop_comm_get_peer(comm, r, &peer));
        CHECK(peer.pid == atomic_load(&pids[r]), "rank %d is said to be process %d, not %d", r, peer.pid, pids[r]);
        CHECK(peer.cpus >= 1, "rank %d has %d processors", r, peer.cpus);
    }
    int32_t one = 1, all = 0;
    CHECK_SUCCESS(onehop_all_reduce(&one, &all, 1, ONEHOP_INT32, ONEHOP_SUM, comm, NULL));
    CHECK(all == nranks, "sum is %d", all);
    CHECK_SUCCESS(onehop_comm_get_info(comm, &info));
    CHECK(info.operations == 1, "%llu operations after the first", (unsigned long long)info.operations);
    for (size_t count = 1; count <= (size_t)1 << 32; count *= 16) {
        onehop_choice_t choice = {.size = sizeof choice};
        CHECK_SUCCESS(onehop_comm_explain(comm, count, ONEHOP_FLOAT64, ONEHOP_SUM, (int)(count % 2), &choice));
        CHECK(choice.algorithm && choice.reason[0], "no algorithm or no reason for %zu", count);
        CHECK(choice.chunk_bytes >= 1 && choice.chunk_bytes <= count * 8, "chunks of %zu for %zu", choice.chunk_bytes,
              count * 8);
        CHECK(choice.blocks == 0 && choice.threads == 0, "blocks on the host");
        CHECK(choice.packets == 0 && choice.steps == 0, "packets on the host");
    }
    CHECK_SUCCESS(onehop_comm_destroy(comm));
}

static void test_introduce(void **state) {
    (void)state;
    size_t bytes = ONEHOP_MAX_RANKS * sizeof(int);
    _Atomic int *pids = shared_zalloc(bytes);
    for (int nranks = 1; nranks <= 4; nranks++) team_run(nranks, introduce, pids);
    shared_free(pids, bytes);
}

/* ---- Strings ---- */

static void test_strings(void **state) {
    (void)state;
    static const char *const dtypes[DTYPES] = {"float32", "float16", "bfloat16", "float64", "int8",
                                               "uint8",   "int32",   "uint32",   "int64",   "uint64"};
    static const size_t sizes[DTYPES] = {4, 2, 2, 8, 1, 1, 4, 4, 8, 8};
    static const char *const ops[OPS] = {"sum", "prod", "min", "max", "avg"};
    for (int i = 0; i < DTYPES; i++) {
        assert_string_equal(onehop_dtype_string((onehop_dtype_t)i), dtypes[i]);
        assert_int_equal(onehop_dtype_size((onehop_dtype_t)i), sizes[i]);
    }
    for (int i = 0; i < OPS; i++) assert_string_equal(onehop_op_string((onehop_op_t)i), ops[i]);
    assert_string_equal(onehop_device_string(ONEHOP_DEVICE_HOST), "host");
    assert_string_equal(onehop_device_string(ONEHOP_DEVICE_CUDA), "cuda");
    static const int none[] = {-2, 10, 99};
    for (int i = 0; i < 3; i++) {
        assert_null(onehop_dtype_string((onehop_dtype_t)none[i]));
        assert_null(onehop_op_string((onehop_op_t)none[i]));
        assert_null(onehop_device_string((onehop_device_t)none[i]));
        assert_int_equal(onehop_dtype_size((onehop_dtype_t)none[i]), 0);
    }
    for (int result = -1; result <= 20; result++) {
        const char *text = onehop_result_string((onehop_result_t)result);
        assert_non_null(text);
        assert_true(text[0] != 0);
        for (int other = ONEHOP_SUCCESS; other <= ONEHOP_ABORTED && result >= 0 && result <= ONEHOP_ABORTED; other++)
            assert_true(other == result || strcmp(text, onehop_result_string((onehop_result_t)other)) != 0);
    }
}

static void test_version(void **state) {
    (void)state;
    char version[32];
    snprintf(version, sizeof version, "%d.%d.%d", ONEHOP_VERSION_MAJOR, ONEHOP_VERSION_MINOR, ONEHOP_VERSION_PATCH);
    assert_string_equal(onehop_version(), version);
}

static void test_algorithms(void **state) {
    (void)state;
    int count = 0;
    for (const char *name; (name = onehop_algorithm_name(ONEHOP_DEVICE_HOST, count)); count++) {
        const char *description = onehop_algorithm_description(ONEHOP_DEVICE_HOST, count);
        assert_non_null(description);
        assert_true(name[0] && description[0]);
        for (int other = 0; other < count; other++)
            assert_string_not_equal(name, onehop_algorithm_name(ONEHOP_DEVICE_HOST, other));
    }
    assert_true(count >= 2);
    assert_null(onehop_algorithm_description(ONEHOP_DEVICE_HOST, count));
    assert_null(onehop_algorithm_name(ONEHOP_DEVICE_HOST, -1));
    assert_null(onehop_algorithm_name((onehop_device_t)99, 0));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_reduce_arguments),
        cmocka_unit_test(test_try_again),
        cmocka_unit_test(test_config),
        cmocka_unit_test(test_environment),
        cmocka_unit_test(test_null_communicator),
        cmocka_unit_test(test_other_arguments),
        cmocka_unit_test(test_too_much_memory),
        cmocka_unit_test(test_introduce),
        cmocka_unit_test(test_strings),
        cmocka_unit_test(test_version),
        cmocka_unit_test(test_algorithms),
    };
    tests_begin("api");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
