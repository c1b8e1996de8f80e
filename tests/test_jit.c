/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels compiled at run time: what comes of each job, how many are compiled at once, when the compiler is opened. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arena/device_sizes.h"
#include "backend/cuda/jit.h"
#include "backend/cuda/sources.h"
#include "backend/cuda/specialise.h"
#include "driver/nvrtc.h"

#include <cmocka.h>

enum { PATH = 64, PROCESSES = 8 };

static const char source[] = "one_shot_push.cu";

/* ---- helpers ---- */

static int set_up(void **state) {
    char *path = malloc(PATH);
    if (path == NULL) return -1;
    strcpy(path, "/tmp/onehop-test-jit-XXXXXX");
    *state = path;
    return mkdtemp(path) == NULL ? -1 : 0;
}

static int tear_down(void **state) {
    char command[PATH + 16];
    snprintf(command, sizeof command, "rm -rf '%s'", (char *)*state);
    free(*state);
    return system(command);
}

static oh_jit_job_t job_of(const char *name, const char *option) {
    oh_jit_job_t job = {.source = name, .noptions = 1};
    snprintf(job.options[0], sizeof job.options[0], "%s", option);
    return job;
}

static void free_jobs(oh_jit_job_t *jobs, int count) {
    for (int i = 0; i < count; i++) free(jobs[i].cubin);
}

static oh_jit_t *open_jit(const char *directory, const char *nvrtc, int major) {
    oh_jit_t *jit;
    assert_int_equal(oh_jit_open(directory, nvrtc, major, 0, &jit), ONEHOP_SUCCESS);
    return jit;
}

/* The fake compiler's machine code says what it was made of. */
static bool holds(const oh_jit_job_t *job, const char *line) {
    return job->cubin != NULL && memmem(job->cubin, job->bytes, line, strlen(line)) != NULL;
}

static void expect_good(const oh_jit_job_t *job, bool cached, const char *option) {
    if (job->result != ONEHOP_SUCCESS) fail_msg("%s", job->error);
    assert_string_equal(job->error, "");
    assert_true(holds(job, "kernels/one_shot_push.cu\n") && holds(job, option));
    assert_int_equal(job->cached, cached);
    assert_true(job->ms >= 0);
}

static void expect_bad(const oh_jit_job_t *job, onehop_result_t result, const char *words) {
    assert_int_equal(job->result, result);
    assert_null(job->cubin);
    assert_int_equal(job->bytes, 0);
    assert_false(job->cached);
    if (strstr(job->error, words) == NULL) fail_msg("expected \"%s\" in: %s", words, job->error);
}

/* One job by itself; whether it came from the disk. */
static bool is_cached(const char *directory, const char *nvrtc, int major, const char *option) {
    oh_jit_t *jit = open_jit(directory, nvrtc, major);
    oh_jit_job_t job = job_of(source, option);
    onehop_result_t result = oh_jit_run(jit, &job, 1);
    if (result != ONEHOP_SUCCESS) fail_msg("%s", job.error);
    assert_true(holds(&job, option));
    free(job.cubin);
    oh_jit_close(jit);
    return job.cached;
}

static void in_child(int (*act)(const char *), const char *directory) {
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) _exit(act(directory));
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

/* ---- jobs ---- */

static void test_jobs(void **state) {
    (void)state;
    oh_jit_t *jit = open_jit(NULL, FAKE_NVRTC, 9);
    oh_jit_job_t jobs[40];
    for (int round = 0; round < 2; round++) { /* without a cache, the second costs as much */
        for (int i = 0; i < 40; i++) {
            char option[32];
            snprintf(option, sizeof option, "-DOH_RANK=%d\n", i);
            jobs[i] = job_of(source, option);
            jobs[i].options[0][strlen(option) - 1] = '\0';
        }
        assert_int_equal(oh_jit_run(jit, jobs, 40), ONEHOP_SUCCESS);
        for (int i = 0; i < 40; i++) {
            char option[32];
            snprintf(option, sizeof option, "-DOH_RANK=%d\n", i);
            expect_good(&jobs[i], false, option);
            assert_true(holds(&jobs[i], "--gpu-architecture=sm_90\n") && holds(&jobs[i], "--minimal\n"));
        }
        free_jobs(jobs, 40);
    }
    assert_int_equal(oh_jit_run(jit, jobs, 0), ONEHOP_SUCCESS);
    oh_jit_close(jit);
    oh_jit_close(NULL);
}

static void test_many_at_once(void **state) {
    (void)state;
    cpu_set_t set;
    assert_int_equal(sched_getaffinity(0, sizeof set, &set), 0);
    int count = CPU_COUNT(&set) < 16 ? CPU_COUNT(&set) : 16;
    char option[32];
    snprintf(option, sizeof option, "-DTOGETHER=%d", count);
    oh_jit_t *jit = open_jit(NULL, FAKE_NVRTC, 9);
    oh_jit_job_t jobs[16];
    for (int i = 0; i < count; i++) jobs[i] = job_of(source, option);
    assert_int_equal(oh_jit_run(jit, jobs, count), ONEHOP_SUCCESS);
    for (int i = 0; i < count; i++) expect_good(&jobs[i], false, option);
    free_jobs(jobs, count);
    oh_jit_close(jit);
}

static void test_failures(void **state) {
    (void)state;
    oh_jit_t *jit = open_jit(NULL, FAKE_NVRTC, 9);
    oh_jit_job_t jobs[5] = {job_of(source, "-DFINE=1"), job_of(source, "-DFAIL"), job_of("nothing.cu", "-DFINE=2"),
                            job_of(source, "-DFINE=3"), job_of(source, "-DFINE=4")};
    jobs[4].noptions = OH_JIT_OPTIONS + 1;
    assert_int_equal(oh_jit_run(jit, jobs, 5), ONEHOP_COMPILE_ERROR);
    assert_string_equal(onehop_last_error(), jobs[1].error);
    expect_good(&jobs[0], false, "-DFINE=1");
    expect_bad(&jobs[1], ONEHOP_COMPILE_ERROR,
               "NVRTC 12.8 cannot compile one_shot_push.cu for sm_90: NVRTC_ERROR_COMPILATION: "
               "kernel.cu(7): error: FAIL is defined");
    expect_bad(&jobs[2], ONEHOP_COMPILE_ERROR, "there is no kernel source \"nothing.cu\"");
    expect_good(&jobs[3], false, "-DFINE=3");
    expect_bad(&jobs[4], ONEHOP_COMPILE_ERROR, "one_shot_push.cu has 17 options: expected at most 16");
    free_jobs(jobs, 5);
    oh_jit_close(jit);
}

static void test_unknown_gpu(void **state) {
    (void)state;
    oh_jit_t *jit = open_jit(NULL, FAKE_NVRTC, 10);
    oh_jit_job_t job = job_of(source, "-DFINE");
    assert_int_equal(oh_jit_run(jit, &job, 1), ONEHOP_UNSUPPORTED);
    expect_bad(&job, ONEHOP_UNSUPPORTED, "NVRTC 12.8 does not know sm_100, which this GPU is: it knows sm_80 to sm_90");
    oh_jit_close(jit);
}

static void test_no_compiler(void **state) {
    oh_jit_t *jit = open_jit(*state, "/nowhere/libnvrtc.so", 9);
    oh_jit_job_t jobs[2] = {job_of(source, "-DFINE=1"), job_of(source, "-DFINE=2")};
    assert_int_equal(oh_jit_run(jit, jobs, 2), ONEHOP_UNSUPPORTED);
    for (int i = 0; i < 2; i++) expect_bad(&jobs[i], ONEHOP_UNSUPPORTED, "/nowhere/libnvrtc.so");
    oh_jit_close(jit);
}

static void test_old_compiler(void **state) {
    (void)state;
    oh_jit_t *jit = open_jit(NULL, FAKE_NVRTC_OLD, 9);
    oh_jit_job_t job = job_of(source, "-DFINE");
    assert_int_equal(oh_jit_run(jit, &job, 1), ONEHOP_UNSUPPORTED);
    expect_bad(&job, ONEHOP_UNSUPPORTED, "is too old: it is NVRTC 12.3, expected 12.4 or newer");
    oh_jit_close(jit);
}

/* ---- the cache behind it ---- */

static void test_cache(void **state) {
    const char *directory = *state;
    assert_false(is_cached(directory, FAKE_NVRTC, 9, "-DOH_RANK=1"));
    assert_true(is_cached(directory, FAKE_NVRTC, 9, "-DOH_RANK=1"));
    assert_false(is_cached(directory, FAKE_NVRTC, 9, "-DOH_RANK=2"));
    assert_false(is_cached(directory, FAKE_NVRTC, 8, "-DOH_RANK=1"));
    assert_false(is_cached(directory, FAKE_NVRTC_ALIAS, 9, "-DOH_RANK=1"));
    assert_true(is_cached(directory, FAKE_NVRTC, 9, "-DOH_RANK=1"));

    oh_jit_t *jit = open_jit(directory, FAKE_NVRTC, 9);
    oh_jit_job_t jobs[3] = {job_of(source, "-DOH_RANK=1"), job_of(source, "-DOH_RANK=7"),
                            job_of("two_shot_push.cu", "-DOH_RANK=1")};
    assert_int_equal(oh_jit_run(jit, jobs, 3), ONEHOP_SUCCESS);
    expect_good(&jobs[0], true, "-DOH_RANK=1");
    expect_good(&jobs[1], false, "-DOH_RANK=7");
    assert_false(jobs[2].cached);
    free_jobs(jobs, 3);
    oh_jit_close(jit);
}

static void test_failures_are_not_kept(void **state) {
    for (int i = 0; i < 2; i++) {
        oh_jit_t *jit = open_jit(*state, FAKE_NVRTC, 9);
        oh_jit_job_t job = job_of(source, "-DFAIL");
        assert_int_equal(oh_jit_run(jit, &job, 1), ONEHOP_COMPILE_ERROR);
        expect_bad(&job, ONEHOP_COMPILE_ERROR, "FAIL is defined");
        oh_jit_close(jit);
    }
}

static void damage_all(const char *path) {
    DIR *directory = opendir(path);
    assert_non_null(directory);
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        int fd = openat(dirfd(directory), entry->d_name, O_WRONLY);
        if (fd < 0) continue;
        assert_int_equal(pwrite(fd, "?", 1, 60), 1);
        close(fd);
    }
    closedir(directory);
}

static void test_damage(void **state) {
    assert_false(is_cached(*state, FAKE_NVRTC, 9, "-DFINE"));
    damage_all(*state);
    assert_false(is_cached(*state, FAKE_NVRTC, 9, "-DFINE"));
    assert_true(is_cached(*state, FAKE_NVRTC, 9, "-DFINE"));
}

static bool is_mapped(const char *library) {
    char line[4096];
    bool found = false;
    FILE *maps = fopen("/proc/self/maps", "r");
    while (maps != NULL && fgets(line, sizeof line, maps) != NULL) found |= strstr(line, library) != NULL;
    if (maps != NULL) fclose(maps);
    return found;
}

static int start_cold(const char *directory) {
    if (is_mapped("fake_nvrtc")) return 1;
    if (is_cached(directory, FAKE_NVRTC, 9, "-DFINE")) return 2;
    return is_mapped("fake_nvrtc") ? 0 : 3;
}

static int start_warm(const char *directory) {
    if (!is_cached(directory, FAKE_NVRTC, 9, "-DFINE")) return 1;
    return is_mapped("fake_nvrtc") ? 2 : 0;
}

/* Runs first: here the compiler has never been opened. */
static void test_opened_when_needed(void **state) {
    in_child(start_cold, *state);
    in_child(start_warm, *state);
}

static void test_processes(void **state) {
    pid_t children[PROCESSES];
    for (int i = 0; i < PROCESSES; i++) {
        children[i] = fork();
        assert_true(children[i] >= 0);
        if (children[i] == 0) {
            is_cached(*state, FAKE_NVRTC, 9, "-DFINE"); /* either way it is right */
            _exit(start_warm(*state) == 1 ? 1 : 0);
        }
    }
    for (int i = 0; i < PROCESSES; i++) {
        int status;
        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        assert_int_equal(status, 0);
    }
}

/* ---- the real thing ---- */

static void test_sources(void **state) {
    (void)state;
    bool kernel = false, layout = false;
    for (int i = 0; i < oh_nsources; i++) {
        kernel |= strcmp(oh_sources[i].name, "kernels/one_shot_push.cu") == 0;
        layout |= strcmp(oh_sources[i].name, "arena/device_layout.h") == 0;
        /* Every byte, backslashes and quotes too. */
        char path[512];
        snprintf(path, sizeof path, SOURCE_DIRECTORY "/%s", oh_sources[i].name);
        FILE *file = fopen(path, "r");
        assert_non_null(file);
        size_t length = strlen(oh_sources[i].text);
        char *text = calloc(1, length + 2);
        assert_non_null(text);
        assert_int_equal(fread(text, 1, length + 1, file), length);
        assert_string_equal(text, oh_sources[i].text);
        free(text);
        fclose(file);
    }
    assert_true(kernel && layout);
}

static void test_nvrtc(void **state) {
    const char *file = getenv("ONEHOP_NVRTC");
    oh_nvrtc_t nvrtc;
    if (oh_nvrtc_open(file, &nvrtc) != ONEHOP_SUCCESS) {
        print_message("%s\n", onehop_last_error());
        skip();
    }
    oh_nvrtc_close(&nvrtc);
    oh_jit_t *jit = open_jit(*state, file, 9);
    const oh_device_sizes_t sizes = oh_device_sizes_make(32 << 20, 4, 132);
    oh_jit_job_t jobs[2];
    for (int i = 0; i < 2; i++) {
        const oh_device_kernel_t kernel = {OH_ONE_SHOT_PUSH, 1, false};
        oh_specialise(4, 1, &sizes, ONEHOP_FLOAT32, ONEHOP_SUM, kernel, true, &jobs[i]);
    }
    for (int i = 0; i < jobs[1].noptions; i++) {
        if (strstr(jobs[1].options[i], "OH_SLOT_PACKETS") != NULL) strcpy(jobs[1].options[i], "-DNOTHING");
    }
    assert_int_equal(oh_jit_run(jit, jobs, 2), ONEHOP_COMPILE_ERROR);
    if (jobs[0].result != ONEHOP_SUCCESS) fail_msg("%s", jobs[0].error);
    assert_true(jobs[0].bytes > 1000);
    assert_memory_equal(jobs[0].cubin,
                        "\x7f"
                        "ELF",
                        4);
    expect_bad(&jobs[1], ONEHOP_COMPILE_ERROR, "\"OH_SLOT_PACKETS\" is undefined");
    free_jobs(jobs, 2);
    assert_int_equal(oh_jit_run(jit, jobs, 1), ONEHOP_SUCCESS);
    assert_true(jobs[0].cached);
    free_jobs(jobs, 1);
    oh_jit_close(jit);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_opened_when_needed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_processes, set_up, tear_down),
        cmocka_unit_test(test_jobs),
        cmocka_unit_test(test_many_at_once),
        cmocka_unit_test(test_failures),
        cmocka_unit_test(test_unknown_gpu),
        cmocka_unit_test_setup_teardown(test_no_compiler, set_up, tear_down),
        cmocka_unit_test(test_old_compiler),
        cmocka_unit_test_setup_teardown(test_cache, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_failures_are_not_kept, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_damage, set_up, tear_down),
        cmocka_unit_test(test_sources),
        cmocka_unit_test_setup_teardown(test_nvrtc, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
