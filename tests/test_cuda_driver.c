/* SPDX-License-Identifier: Apache-2.0 */
/* CUDA's driver and NVRTC: our declarations against NVIDIA's, and what is said where they are missing or too old. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <dlfcn.h>
#include <stdbool.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/status.h"
#include "cuda_abi.h"
#include "driver/cuda.h"
#include "driver/nvrtc.h"

#include <cmocka.h>

/* ---- against cuda.h ---- */

static void test_values(void **state) {
    (void)state;
#ifdef HAVE_CUDA_H
    assert_int_equal(abi_ours_count, abi_theirs_count);
    assert_true(abi_ours_count > 100);
    for (int i = 0; i < abi_ours_count; i++) {
        assert_string_equal(abi_ours[i].name, abi_theirs[i].name);
        if (abi_ours[i].value != abi_theirs[i].value) {
            fail_msg("%s is %llu, in cuda.h %llu", abi_ours[i].name, abi_ours[i].value, abi_theirs[i].value);
        }
    }
#else
    skip();
#endif
}

static void test_functions(void **state) {
    (void)state;
#ifdef HAVE_CUDA_H
    size_t offset = abi_functions_begin;
    for (int i = 0; i < abi_functions_count; i++) {
        const abi_function_t *f = &abi_functions[i];
        /* Each member once, in the order of the structure. */
        if (f->offset != offset) fail_msg("%s belongs at %zu, expected %zu", f->symbol, f->offset, offset);
        offset += sizeof(void (*)(void));
        /* Newer than CUDA 12.0, for more digits. */
        if (strcmp(f->expected, "cuEventElapsedTime_v2") == 0) continue;
        assert_string_equal(f->symbol, f->expected);
    }
    assert_int_equal(offset, abi_functions_end);
#else
    skip();
#endif
}

/* ---- libcuda.so.1 ---- */

typedef struct fake {
    const char *library, *version, *init;
    onehop_result_t code;
    const char *sentence; /* how it begins */
} fake_t;

static bool is_zero(const void *bytes, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (((const unsigned char *)bytes)[i] != 0) return false;
    }
    return true;
}

/* In a process of its own, as a driver stays loaded. */
static int open_fake(const fake_t *fake) {
    oh_cuda_t cuda;
    setenv("FAKE_VERSION", fake->version, 1);
    setenv("FAKE_INIT", fake->init, 1);
    /* Found by its name from now on. */
    if (fake->library != NULL && dlopen(fake->library, RTLD_NOW) == NULL) {
        print_error("%s\n", dlerror());
        return 1;
    }
    onehop_result_t code = oh_cuda_open(&cuda);
    if (code != fake->code || strncmp(onehop_last_error(), fake->sentence, strlen(fake->sentence)) != 0) {
        print_error("expected %s: %s\n     got %s: %s\n", onehop_result_string(fake->code), fake->sentence,
                    onehop_result_string(code), onehop_last_error());
        return 1;
    }
    if (code == ONEHOP_SUCCESS) {
        if (cuda.version != atoi(fake->version) || cuda.cuMemAlloc == NULL || cuda.cuEventDestroy == NULL) return 2;
        oh_cuda_close(&cuda);
    }
    return is_zero(&cuda, sizeof cuda) ? 0 : 3;
}

static void expect_fake(fake_t fake) {
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) _exit(open_fake(&fake));
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void test_driver(void **state) {
    (void)state;
    expect_fake((fake_t){FAKE_DRIVER, "12000", "0", ONEHOP_SUCCESS, ""});
    expect_fake((fake_t){FAKE_DRIVER, "13010", "0", ONEHOP_SUCCESS, ""});
    expect_fake((fake_t){FAKE_DRIVER, "11080", "0", ONEHOP_UNSUPPORTED,
                         "the CUDA driver is too old: it is of CUDA 11.8, expected 12.0 or newer"});
    expect_fake((fake_t){FAKE_DRIVER, "0", "0", ONEHOP_UNSUPPORTED,
                         "libcuda.so.1 is no CUDA driver: it does not tell its version"});
    expect_fake((fake_t){FAKE_DRIVER, "12000", "100", ONEHOP_UNSUPPORTED, "the CUDA driver finds no GPU here"});
    expect_fake((fake_t){FAKE_DRIVER, "12000", "34", ONEHOP_CUDA_ERROR,
                         "the CUDA driver does not start: CUDA_ERROR_FAKE (as told)"});
    expect_fake((fake_t){FAKE_DRIVER_LACKING, "12040", "0", ONEHOP_UNSUPPORTED,
                         "libcuda.so.1 of CUDA 12.4 has no cuMemAlloc_v2"});
}

static void test_no_driver(void **state) {
    (void)state;
    if (dlopen("libcuda.so.1", RTLD_LAZY) != NULL) skip(); /* there is one */
    expect_fake((fake_t){NULL, "", "", ONEHOP_UNSUPPORTED, "cannot open libcuda.so.1: "});
}

static CUresult name_of(CUresult error, const char **name) {
    *name = error == CUDA_ERROR_OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR_FAKE";
    return error == CUDA_ERROR_UNKNOWN ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

static CUresult text_of(CUresult error, const char **text) {
    (void)error;
    *text = "as told";
    return CUDA_SUCCESS;
}

static void test_check(void **state) {
    (void)state;
    oh_cuda_t cuda = {.cuGetErrorName = name_of, .cuGetErrorString = text_of};
    assert_int_equal(oh_cuda_check(&cuda, CUDA_SUCCESS, "nothing"), ONEHOP_SUCCESS);
    assert_int_equal(oh_cuda_check(&cuda, CUDA_ERROR_OUT_OF_MEMORY, "%d bytes", 7), ONEHOP_OUT_OF_MEMORY);
    assert_string_equal(onehop_last_error(), "7 bytes: CUDA_ERROR_OUT_OF_MEMORY (as told)");
    assert_int_equal(oh_cuda_check(&cuda, CUDA_ERROR_NOT_FOUND, "GPU %d", 3), ONEHOP_CUDA_ERROR);
    assert_string_equal(onehop_last_error(), "GPU 3: CUDA_ERROR_FAKE (as told)");
    assert_int_equal(oh_cuda_check(&cuda, CUDA_ERROR_UNKNOWN, "GPU %d", 3), ONEHOP_CUDA_ERROR);
    assert_string_equal(onehop_last_error(), "GPU 3: error 999 of the CUDA driver");
}

/* ---- NVRTC ---- */

static void expect_nvrtc(const char *file, const char *version, onehop_result_t code, const char *sentence) {
    oh_nvrtc_t nvrtc;
    setenv("FAKE_VERSION", version, 1);
    onehop_result_t got = oh_nvrtc_open(file, &nvrtc);
    if (got != code || strstr(onehop_last_error(), sentence) == NULL) {
        fail_msg("expected %s: %s; got %s: %s", onehop_result_string(code), sentence, onehop_result_string(got),
                 onehop_last_error());
    }
    if (got == ONEHOP_SUCCESS) {
        assert_int_equal(nvrtc.version, atoi(version));
        oh_nvrtc_close(&nvrtc);
    }
    assert_true(is_zero(&nvrtc, sizeof nvrtc));
}

static void test_nvrtc(void **state) {
    (void)state;
    expect_nvrtc(FAKE_DRIVER, "12040", ONEHOP_SUCCESS, "");
    expect_nvrtc(FAKE_DRIVER, "13000", ONEHOP_SUCCESS, "");
    expect_nvrtc(FAKE_DRIVER, "12030", ONEHOP_UNSUPPORTED, "is too old: it is NVRTC 12.3, expected 12.4 or newer");
    expect_nvrtc(FAKE_DRIVER, "0", ONEHOP_UNSUPPORTED, "does not tell its version");
    expect_nvrtc("libc.so.6", "0", ONEHOP_UNSUPPORTED, "libc.so.6 is no NVRTC: it has no nvrtcGetErrorString");
    expect_nvrtc("/nowhere/libnvrtc.so", "0", ONEHOP_UNSUPPORTED, "cannot open NVRTC: /nowhere/libnvrtc.so");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),    cmocka_unit_test(test_functions), cmocka_unit_test(test_driver),
        cmocka_unit_test(test_no_driver), cmocka_unit_test(test_check),     cmocka_unit_test(test_nvrtc),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
