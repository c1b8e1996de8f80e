/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration: where each value comes from, and what is said of one that will not do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/config.h"
#include "base/status.h"
#include "config_variables.h"

#include <cmocka.h>

static int clear_environment(void **state) {
    (void)state;
    for (size_t i = 0; i < VARIABLES; i++) unsetenv(variables[i]);
    return 0;
}

static void expect(onehop_result_t code, const char *sentence, onehop_result_t got) {
    if (got != code || strcmp(onehop_last_error(), sentence) != 0) {
        print_error("expected %s: %s\n     got %s: %s\n", onehop_result_string(code), sentence,
                    onehop_result_string(got), onehop_last_error());
        fail();
    }
}

static oh_config_t resolve(const onehop_config_t *user) {
    oh_config_t config;
    onehop_result_t result = oh_config_resolve(user, 0, &config);
    if (result != ONEHOP_SUCCESS) fail_msg("%s: %s", onehop_result_string(result), onehop_last_error());
    return config;
}

static onehop_config_t usual(void) {
    onehop_config_t config = ONEHOP_CONFIG_INIT;
    config.rank = 1;
    config.nranks = 4;
    config.rendezvous = "unix:@here";
    return config;
}

/* ---- where values come from ---- */

static void test_defaults(void **state) {
    (void)state;
    onehop_config_t user = usual();
    oh_config_t config = resolve(&user);
    assert_int_equal(config.rank, 1);
    assert_int_equal(config.nranks, 4);
    assert_int_equal(config.device, ONEHOP_DEVICE_AUTO);
    assert_int_equal(config.device_index, 1); /* the rank */
    assert_string_equal(config.rendezvous.text, "unix:@here");
    assert_int_equal(config.workspace_bytes, 32 << 20);
    assert_int_equal(config.timeout_ms, 30000);
    assert_int_equal(config.bootstrap_timeout_ms, 60000);
    assert_int_equal(config.max_blocks, 0);
    assert_string_equal(config.job, "");
    assert_string_equal(config.algorithm, "auto");
    assert_int_equal(config.memory, OH_SHARE_AUTO);
    assert_true(config.orders_replays);
    assert_string_equal(config.cache_directory, "");
    assert_string_equal(config.nvrtc, "");
    assert_int_equal(config.tuning, OH_TUNING_BUILT_IN);
    assert_null(config.allgather);
}

static int gather_nothing(void *ctx, const void *mine, void *all, size_t bytes_each) {
    (void)ctx, (void)mine, (void)all, (void)bytes_each;
    return 1;
}

static void test_given(void **state) {
    (void)state;
    /* The caller's word goes before the environment's, right or wrong. */
    for (size_t i = 0; i < VARIABLES; i++) setenv(variables[i], "nonsense", 1);
    int anything;
    onehop_config_t user = {.size = sizeof user,
                            .rank = 2,
                            .nranks = 3,
                            .device = ONEHOP_DEVICE_HOST,
                            .device_index = 5,
                            .rendezvous = "tcp:localhost:1234",
                            .allgather = gather_nothing,
                            .allgather_ctx = &anything,
                            .workspace_bytes = 65536,
                            .timeout_ms = 1,
                            .max_blocks = 7,
                            .bootstrap_timeout_ms = 2,
                            .job = "",
                            .algorithm = "one_shot",
                            .memory = "ipc",
                            .cache_dir = "here/there",
                            .tuning = "my.json",
                            .replays = "free"};
    oh_config_t config = resolve(&user);
    assert_int_equal(config.rank, 2);
    assert_int_equal(config.nranks, 3);
    assert_int_equal(config.device, ONEHOP_DEVICE_HOST);
    assert_int_equal(config.device_index, 5);
    assert_string_equal(config.rendezvous.text, ""); /* the all-gather goes before it */
    assert_true(config.allgather == gather_nothing);
    assert_ptr_equal(config.allgather_ctx, &anything);
    assert_int_equal(config.workspace_bytes, 65536);
    assert_int_equal(config.timeout_ms, 1);
    assert_int_equal(config.max_blocks, 7);
    assert_int_equal(config.bootstrap_timeout_ms, 2);
    assert_string_equal(config.job, "");
    assert_string_equal(config.algorithm, "one_shot");
    assert_int_equal(config.memory, OH_SHARE_IPC);
    assert_false(config.orders_replays);
    assert_string_equal(config.cache_directory, "here/there");
    assert_int_equal(config.tuning, OH_TUNING_NAMED);
    assert_string_equal(config.tuning_file, "my.json");
}

static void test_environment(void **state) {
    (void)state;
    static const char *const values[][2] = {
        {"ONEHOP_RANK", "3"},
        {"ONEHOP_NRANKS", "8"},
        {"ONEHOP_DEVICE", "cuda"},
        {"ONEHOP_DEVICE_INDEX", "6"},
        {"ONEHOP_RENDEZVOUS", "unix:/tmp/there"},
        {"ONEHOP_WORKSPACE_BYTES", "1048576"},
        {"ONEHOP_TIMEOUT_MS", "11"},
        {"ONEHOP_MAX_BLOCKS", "12"},
        {"ONEHOP_BOOTSTRAP_TIMEOUT_MS", "13"},
        {"ONEHOP_JOB", "mine"},
        {"ONEHOP_ALGORITHM", "two_shot"},
        {"ONEHOP_MEMORY", "vmm"},
        {"ONEHOP_REPLAYS", "free"},
        {"ONEHOP_CACHE_DIR", "/var/kernels"},
        {"ONEHOP_NVRTC", "/opt/libnvrtc.so"},
        {"ONEHOP_TUNING", "/etc/table"},
        {"XDG_CONFIG_HOME", "/nowhere"},
        {"XDG_CACHE_HOME", "/nowhere"},
        /* torchrun's come after Onehop's */
        {"RANK", "nonsense"},
        {"WORLD_SIZE", "nonsense"},
        {"LOCAL_RANK", "nonsense"},
        {"MASTER_ADDR", "nonsense"},
        {"TORCHELASTIC_RUN_ID", "nonsense"},
    };
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) setenv(values[i][0], values[i][1], 1);
    oh_config_t config = resolve(NULL);
    assert_int_equal(config.rank, 3);
    assert_int_equal(config.nranks, 8);
    assert_int_equal(config.device, ONEHOP_DEVICE_CUDA);
    assert_int_equal(config.device_index, 6);
    assert_string_equal(config.rendezvous.path, "/tmp/there");
    assert_int_equal(config.workspace_bytes, 1 << 20);
    assert_int_equal(config.timeout_ms, 11);
    assert_int_equal(config.max_blocks, 12);
    assert_int_equal(config.bootstrap_timeout_ms, 13);
    assert_string_equal(config.job, "mine");
    assert_string_equal(config.algorithm, "two_shot");
    assert_int_equal(config.memory, OH_SHARE_VMM);
    assert_false(config.orders_replays);
    assert_string_equal(config.cache_directory, "/var/kernels");
    assert_string_equal(config.nvrtc, "/opt/libnvrtc.so");
    assert_int_equal(config.tuning, OH_TUNING_NAMED);
    assert_string_equal(config.tuning_file, "/etc/table");
}

static void test_cache_directory(void **state) {
    (void)state;
    static const char *const cases[][5] = {
        /* given, ONEHOP_CACHE_DIR, XDG_CACHE_HOME, HOME: the directory */
        {NULL, NULL, NULL, "/home/me", "/home/me/.cache/onehop"},
        {NULL, NULL, "/var/cache", "/home/me", "/var/cache/onehop"},
        {NULL, NULL, "relative", "/home/me", "/home/me/.cache/onehop"},
        {NULL, NULL, "relative", "relative", ""},
        {NULL, "mine", "/var/cache", "/home/me", "mine"},
        {NULL, "none", "/var/cache", "/home/me", ""},
        {"", "mine", "/var/cache", "/home/me", ""},
        {"none", "mine", "/var/cache", "/home/me", ""},
        {"ours", "mine", "/var/cache", "/home/me", "ours"},
    };
    static const char *const names[] = {"ONEHOP_CACHE_DIR", "XDG_CACHE_HOME", "HOME"};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        clear_environment(NULL);
        for (size_t k = 0; k < 3; k++) {
            if (cases[i][k + 1] != NULL) setenv(names[k], cases[i][k + 1], 1);
        }
        onehop_config_t user = usual();
        user.cache_dir = cases[i][0];
        assert_string_equal(resolve(&user).cache_directory, cases[i][4]);
    }
    /* A home that is too far away is no reason to fail; a directory that somebody asked for is. */
    static char far[OH_PATH_MAX + 1];
    memset(far, 'h', sizeof far - 1);
    far[0] = '/';
    clear_environment(NULL);
    setenv("HOME", far, 1);
    onehop_config_t user = usual();
    assert_string_equal(resolve(&user).cache_directory, "");
    setenv("ONEHOP_CACHE_DIR", far, 1);
    oh_config_t config;
    expect(ONEHOP_INVALID_ARGUMENT, "ONEHOP_CACHE_DIR is 1024 bytes long: expected at most 1023",
           oh_config_resolve(&user, 0, &config));
    user.cache_dir = far;
    expect(ONEHOP_INVALID_ARGUMENT, "cache_dir is 1024 bytes long: expected at most 1023",
           oh_config_resolve(&user, 0, &config));
    user.cache_dir = "near";
    resolve(&user);
}

static void test_tuning(void **state) {
    (void)state;
    static const struct {
        const char *given, *values[3]; /* ONEHOP_TUNING, XDG_CONFIG_HOME, HOME */
        oh_tuning_source_t source;
        const char *file;
    } cases[] = {
        {NULL, {NULL, NULL, "/home/me"}, OH_TUNING_USUAL, "/home/me/.config/onehop/tuning.json"},
        {NULL, {NULL, "/etc/xdg", "/home/me"}, OH_TUNING_USUAL, "/etc/xdg/onehop/tuning.json"},
        {NULL, {NULL, "relative", "/home/me"}, OH_TUNING_USUAL, "/home/me/.config/onehop/tuning.json"},
        {NULL, {"", "relative", "relative"}, OH_TUNING_BUILT_IN, ""},
        {NULL, {NULL, NULL, NULL}, OH_TUNING_BUILT_IN, ""},
        {NULL, {"mine.json", "/etc/xdg", "/home/me"}, OH_TUNING_NAMED, "mine.json"},
        {NULL, {"built-in", "/etc/xdg", "/home/me"}, OH_TUNING_BUILT_IN, "built-in"},
        {NULL, {"model", "/etc/xdg", "/home/me"}, OH_TUNING_MODEL, "model"},
        {"ours.json", {"mine.json", "/etc/xdg", "/home/me"}, OH_TUNING_NAMED, "ours.json"},
        {"built-in", {"mine.json", "/etc/xdg", "/home/me"}, OH_TUNING_BUILT_IN, "built-in"},
        {"model", {"built-in", NULL, NULL}, OH_TUNING_MODEL, "model"},
        {"./model", {"built-in", NULL, NULL}, OH_TUNING_NAMED, "./model"},
    };
    static const char *const names[] = {"ONEHOP_TUNING", "XDG_CONFIG_HOME", "HOME"};
    onehop_config_t user = usual();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        clear_environment(NULL);
        for (size_t k = 0; k < 3; k++) {
            if (cases[i].values[k] != NULL) setenv(names[k], cases[i].values[k], 1);
        }
        user.tuning = cases[i].given;
        const oh_config_t config = resolve(&user);
        assert_int_equal(config.tuning, cases[i].source);
        assert_string_equal(config.tuning_file, cases[i].file);
    }
    static char far[OH_PATH_MAX + 1];
    oh_config_t config;
    memset(far, 'h', sizeof far - 1);
    far[0] = '/';
    clear_environment(NULL);
    setenv("HOME", far, 1);
    user.tuning = NULL;
    assert_int_equal(resolve(&user).tuning, OH_TUNING_BUILT_IN);
    user.tuning = far;
    expect(ONEHOP_INVALID_ARGUMENT, "tuning is 1024 bytes long: expected at most 1023",
           oh_config_resolve(&user, 0, &config));
}

static void set_torchrun(void) {
    setenv("RANK", "1", 1);
    setenv("WORLD_SIZE", "2", 1);
    setenv("LOCAL_RANK", "0", 1);
    setenv("LOCAL_WORLD_SIZE", "2", 1);
    setenv("MASTER_ADDR", "node-7.example", 1);
    setenv("MASTER_PORT", "29500", 1);
    setenv("TORCHELASTIC_RUN_ID", "elastic", 1);
}

static void test_torchrun(void **state) {
    (void)state;
    set_torchrun();
    oh_config_t config = resolve(NULL);
    assert_int_equal(config.rank, 1);
    assert_int_equal(config.nranks, 2);
    assert_int_equal(config.device_index, 0);
    assert_string_equal(config.job, "elastic");
    assert_string_equal(config.rendezvous.path, "@onehop-node-7.example-29500");

    setenv("LOCAL_WORLD_SIZE", "1", 1);
    expect(ONEHOP_UNSUPPORTED,
           "WORLD_SIZE=2 but LOCAL_WORLD_SIZE=1: Onehop joins ranks of one machine; give the rank, nranks and "
           "rendezvous of this machine's group in the configuration",
           oh_config_resolve(NULL, 0, &config));
}

/* However long a host's name, the name made from it can be bound. */
static void test_torchrun_long_name(void **state) {
    (void)state;
    set_torchrun();
    char host[254];
    memset(host, 'h', sizeof host - 1);
    host[sizeof host - 1] = '\0';
    setenv("MASTER_ADDR", host, 1);
    setenv("MASTER_PORT", "65535", 1);
    oh_config_t config = resolve(NULL);
    assert_true(strlen(config.rendezvous.path) <= OH_UNIX_NAME_MAX);
    assert_non_null(strstr(config.rendezvous.path, "-65535"));
}

/* A rank alone meets nobody, and ranks of one process have met. */
static void test_no_rendezvous(void **state) {
    (void)state;
    onehop_config_t user = ONEHOP_CONFIG_INIT;
    oh_config_t config;
    user.rank = 0;
    user.nranks = 1;
    assert_string_equal(resolve(&user).rendezvous.text, "");
    user.nranks = 2;
    assert_int_equal(oh_config_resolve(&user, 1, &config), ONEHOP_SUCCESS);
    assert_string_equal(config.rendezvous.text, "");
    expect(
        ONEHOP_INVALID_ARGUMENT,
        "rendezvous is not set: expected \"unix:/path\", \"unix:@name\" or \"tcp:host:port\" in the configuration or "
        "ONEHOP_RENDEZVOUS, or MASTER_ADDR and MASTER_PORT as torchrun sets them",
        oh_config_resolve(&user, 0, &config));
}

/* ---- what will not do ---- */

typedef struct bad_field {
    onehop_config_t config;
    const char *sentence;
} bad_field_t;

#define SIZE   .size = sizeof(onehop_config_t)
#define NAME   .rendezvous = "unix:@here"
#define DEVICE .device = ONEHOP_DEVICE_AUTO, .device_index = -1
#define TWO    .rank = 0, .nranks = 2
#define GOOD   SIZE, NAME, DEVICE, TWO

static void test_bad_fields(void **state) {
    (void)state;
    static const char long_job[] = "0123456789012345678901234567890123456789012345678901234567890123456789"
                                   "0123456789012345678901234567890123456789012345678901234567";
    static const bad_field_t bad[] = {
        {{SIZE, NAME, DEVICE, .rank = -1, .nranks = 2},
         "rank is not set: give it in the configuration or in the environment as ONEHOP_RANK or RANK"},
        {{SIZE, NAME, DEVICE, .rank = 0, .nranks = -1},
         "nranks is not set: give it in the configuration or in the environment as ONEHOP_NRANKS or WORLD_SIZE"},
        {{SIZE, NAME, DEVICE, .rank = -2, .nranks = 2}, "rank is -2: expected 0 to 63"},
        {{SIZE, NAME, DEVICE, .rank = 64, .nranks = 2}, "rank is 64: expected 0 to 63"},
        {{SIZE, NAME, DEVICE, .rank = 2, .nranks = 2}, "rank is 2: expected 0 to 1, as nranks is 2"},
        {{SIZE, NAME, DEVICE, .rank = 0, .nranks = 0}, "nranks is 0: expected 1 to 64"},
        {{SIZE, NAME, DEVICE, .rank = 0, .nranks = 65}, "nranks is 65: expected 1 to 64"},
        {{SIZE, NAME, TWO, .device = (onehop_device_t)9}, "device is 9: expected ONEHOP_DEVICE_AUTO, _HOST or _CUDA"},
        {{SIZE, NAME, TWO, .device_index = -2}, "device_index is -2: expected 0 to 1023"},
        {{GOOD, .workspace_bytes = 65535}, "workspace_bytes is 65535: expected 65536 to 1099511627776"},
        {{GOOD, .workspace_bytes = SIZE_MAX},
         "workspace_bytes is 18446744073709551615: expected 65536 to 1099511627776"},
        {{GOOD, .timeout_ms = -1}, "timeout_ms is -1: expected 1 to 2147483647"},
        {{GOOD, .max_blocks = 65536}, "max_blocks is 65536: expected 0 to 65535"},
        {{GOOD, .bootstrap_timeout_ms = -5}, "bootstrap_timeout_ms is -5: expected 1 to 2147483647"},
        {{GOOD, .job = long_job}, "job is 128 bytes long: expected at most 127"},
        {{GOOD, .algorithm = "one_shot_and_many_more_characters"}, "algorithm is 33 bytes long: expected at most 31"},
        {{GOOD, .memory = "VMM"}, "memory is \"VMM\": expected \"auto\", \"vmm\" or \"ipc\""},
        {{GOOD, .replays = "ORDERED"}, "replays is \"ORDERED\": expected \"ordered\" or \"free\""},
        {{GOOD, .memory = ""}, "memory is \"\": expected \"auto\", \"vmm\" or \"ipc\""},
        {{GOOD, .tuning = ""}, "tuning is \"\": expected the name of a file, \"built-in\" or \"model\""},
        {{NAME, DEVICE, TWO, .size = 0}, "config.size is 0: expected 120; start from ONEHOP_CONFIG_INIT"},
        {{NAME, DEVICE, TWO, .size = 4097}, "config.size is 4097: expected 120; start from ONEHOP_CONFIG_INIT"},
    };
    assert_int_equal(sizeof(onehop_config_t), 120);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        oh_config_t config;
        expect(ONEHOP_INVALID_ARGUMENT, bad[i].sentence, oh_config_resolve(&bad[i].config, 0, &config));
    }
}

static void test_bad_variables(void **state) {
    (void)state;
    static const char *const bad[][3] = {
        {"ONEHOP_RANK", "one", "environment variable ONEHOP_RANK=\"one\": expected a number from 0 to 63"},
        {"ONEHOP_RANK", "1x", "environment variable ONEHOP_RANK=\"1x\": expected a number from 0 to 63"},
        {"ONEHOP_RANK", "-1", "ONEHOP_RANK is -1: expected 0 to 63"},
        {"ONEHOP_NRANKS", "65", "ONEHOP_NRANKS is 65: expected 1 to 64"},
        {"ONEHOP_NRANKS", "99999999999999999999",
         "environment variable ONEHOP_NRANKS=\"99999999999999999999\": expected a number from 1 to 64"},
        {"ONEHOP_DEVICE", "abacus",
         "environment variable ONEHOP_DEVICE=\"abacus\": expected \"auto\", \"host\" or \"cuda\""},
        {"ONEHOP_DEVICE_INDEX", "1024", "ONEHOP_DEVICE_INDEX is 1024: expected 0 to 1023"},
        {"ONEHOP_WORKSPACE_BYTES", "32M",
         "environment variable ONEHOP_WORKSPACE_BYTES=\"32M\": expected a number from 65536 to 1099511627776"},
        {"ONEHOP_WORKSPACE_BYTES", "12", "ONEHOP_WORKSPACE_BYTES is 12: expected 65536 to 1099511627776"},
        {"ONEHOP_TIMEOUT_MS", "0", "ONEHOP_TIMEOUT_MS is 0: expected 1 to 2147483647"},
        {"ONEHOP_BOOTSTRAP_TIMEOUT_MS", "0", "ONEHOP_BOOTSTRAP_TIMEOUT_MS is 0: expected 1 to 2147483647"},
        {"ONEHOP_MAX_BLOCKS", "-1", "ONEHOP_MAX_BLOCKS is -1: expected 0 to 65535"},
        {"ONEHOP_ALGORITHM", "one_shot_and_many_more_characters",
         "ONEHOP_ALGORITHM is 33 bytes long: expected at most 31"},
        {"ONEHOP_MEMORY", "shared",
         "environment variable ONEHOP_MEMORY is \"shared\": expected \"auto\", \"vmm\" or \"ipc\""},
        {"ONEHOP_RENDEZVOUS", "carrier-pigeon",
         "environment variable ONEHOP_RENDEZVOUS is \"carrier-pigeon\": expected \"unix:/path\", \"unix:@name\" or "
         "\"tcp:host:port\""},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        clear_environment(NULL);
        set_torchrun();
        oh_config_t config = resolve(NULL);
        setenv(bad[i][0], bad[i][1], 1);
        expect(ONEHOP_INVALID_ARGUMENT, bad[i][2], oh_config_resolve(NULL, 0, &config));
        /* An empty variable is one that is not set. */
        setenv(bad[i][0], "", 1);
        resolve(NULL);
    }
    static const char *const torchrun[][3] = {
        {"RANK", "two", "environment variable RANK=\"two\": expected a number from 0 to 63"},
        {"WORLD_SIZE", "1000", "WORLD_SIZE is 1000: expected 1 to 64"},
        {"LOCAL_RANK", "-7", "LOCAL_RANK is -7: expected 0 to 1023"},
    };
    for (size_t i = 0; i < sizeof torchrun / sizeof *torchrun; i++) {
        oh_config_t config;
        clear_environment(NULL);
        set_torchrun();
        setenv(torchrun[i][0], torchrun[i][1], 1);
        expect(ONEHOP_INVALID_ARGUMENT, torchrun[i][2], oh_config_resolve(NULL, 0, &config));
    }
}

/* A program built against another Onehop. */
static void test_other_sizes(void **state) {
    (void)state;
    struct {
        onehop_config_t known;
        long newer[2];
    } user = {.known = usual()};
    user.known.size = sizeof user;
    assert_int_equal(resolve(&user.known).nranks, 4);
    user.known.memory = "unknown to an older one";
    user.known.size = offsetof(onehop_config_t, memory);
    assert_int_equal(resolve(&user.known).memory, OH_SHARE_AUTO);
    user.known = usual();
    user.known.cache_dir = "unknown to an older one";
    user.known.size = offsetof(onehop_config_t, cache_dir);
    assert_string_equal(resolve(&user.known).cache_directory, "");
    user.known = usual();
    user.known.tuning = "unknown to an older one";
    user.known.size = offsetof(onehop_config_t, tuning);
    assert_int_equal(resolve(&user.known).tuning, OH_TUNING_BUILT_IN);
    user.known = usual();
    user.known.size = sizeof user;
    user.newer[1] = 1;
    oh_config_t config;
    char sentence[128];
    snprintf(sentence, sizeof sentence,
             "config uses a field of a newer Onehop than this one, %s (config.size %zu, here %zu)", onehop_version(),
             sizeof user, sizeof user.known);
    expect(ONEHOP_UNSUPPORTED, sentence, oh_config_resolve(&user.known, 0, &config));
}

/* ---- addresses ---- */

static void test_addresses(void **state) {
    (void)state;
    oh_address_t address;
    assert_int_equal(oh_address_parse("rendezvous", "unix:/tmp/a b", &address), ONEHOP_SUCCESS);
    assert_true(oh_address_is_unix(&address) && oh_address_is_file(&address));
    assert_string_equal(address.path, "/tmp/a b");
    assert_int_equal(oh_address_parse("rendezvous", "unix:@a:b", &address), ONEHOP_SUCCESS);
    assert_true(oh_address_is_unix(&address) && !oh_address_is_file(&address));
    assert_string_equal(address.path, "@a:b");
    assert_int_equal(oh_address_parse("rendezvous", "tcp:localhost:65535", &address), ONEHOP_SUCCESS);
    assert_false(oh_address_is_unix(&address));
    assert_string_equal(address.host, "localhost");
    assert_string_equal(address.port, "65535");
    assert_int_equal(oh_address_parse("rendezvous", "tcp:[::1]:1", &address), ONEHOP_SUCCESS);
    assert_string_equal(address.host, "::1");
    assert_string_equal(address.port, "1");
}

static void test_bad_addresses(void **state) {
    (void)state;
    static const char kinds[] = "\"unix:/path\", \"unix:@name\" or \"tcp:host:port\"";
    static const char of_unix[] = "\"unix:/path\" with an absolute path, or \"unix:@name\"";
    static const char tcp[] = "\"tcp:host:port\" with a port from 1 to 65535";
    static const char *const bad[][2] = {
        {"", kinds},          {"/tmp/x", kinds},       {"UNIX:/tmp/x", kinds},     {"unix:", of_unix},
        {"unix:/", of_unix},  {"unix:@", of_unix},     {"unix:relative", of_unix}, {"tcp:", tcp},
        {"tcp:host", tcp},    {"tcp::80", tcp},        {"tcp:[]:80", tcp},         {"tcp:host:", tcp},
        {"tcp:host:0", tcp},  {"tcp:host:65536", tcp}, {"tcp:host:123456", tcp},   {"tcp:host:-1", tcp},
        {"tcp:host:8O", tcp},
    };
    oh_address_t address;
    char sentence[OH_ERROR_TEXT];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(sentence, sizeof sentence, "rendezvous is \"%s\": expected %s", bad[i][0], bad[i][1]);
        expect(ONEHOP_INVALID_ARGUMENT, sentence, oh_address_parse("rendezvous", bad[i][0], &address));
    }
    char name[300];
    memset(name, 'x', sizeof name);
    memcpy(name, "unix:/", 6);
    name[5 + 107] = '\0';
    assert_int_equal(oh_address_parse("rendezvous", name, &address), ONEHOP_SUCCESS);
    name[5 + 107] = 'x';
    name[5 + 108] = '\0';
    snprintf(sentence, sizeof sentence,
             "rendezvous is \"%s\": expected at most 107 bytes after \"unix:\", as many as a Unix socket's address can "
             "hold, not 108",
             name);
    expect(ONEHOP_INVALID_ARGUMENT, sentence, oh_address_parse("rendezvous", name, &address));
    name[5 + 108] = 'x';
    name[sizeof name - 1] = '\0';
    expect(ONEHOP_INVALID_ARGUMENT, "rendezvous is 299 bytes long: expected at most 255",
           oh_address_parse("rendezvous", name, &address));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_defaults, clear_environment),
        cmocka_unit_test_setup(test_given, clear_environment),
        cmocka_unit_test_setup(test_environment, clear_environment),
        cmocka_unit_test_setup(test_cache_directory, clear_environment),
        cmocka_unit_test_setup(test_tuning, clear_environment),
        cmocka_unit_test_setup(test_torchrun, clear_environment),
        cmocka_unit_test_setup(test_torchrun_long_name, clear_environment),
        cmocka_unit_test_setup(test_no_rendezvous, clear_environment),
        cmocka_unit_test_setup(test_bad_fields, clear_environment),
        cmocka_unit_test_setup(test_bad_variables, clear_environment),
        cmocka_unit_test_setup(test_other_sizes, clear_environment),
        cmocka_unit_test_setup(test_addresses, clear_environment),
        cmocka_unit_test_setup(test_bad_addresses, clear_environment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
