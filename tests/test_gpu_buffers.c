/* SPDX-License-Identifier: Apache-2.0 */
/* Which buffers the GPU reaches, with a driver that counts how often it is asked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "backend/cuda/buffers.h"

static int asked, pageable;
static CUstreamCaptureStatus capture;
static const uintptr_t begin = 0x7f0000000000, end = 0x7f0000000000 + 3 * (uintptr_t)OH_BUFFER_STRETCH;

static CUresult get_attribute(int *value, CUdevice_attribute attribute, CUdevice device) {
    (void)device;
    assert_int_equal(attribute, CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS);
    *value = pageable;
    return CUDA_SUCCESS;
}

/* The driver knows [begin, end). */
static CUresult get_pointer_attribute(void *value, CUpointer_attribute attribute, CUdeviceptr address) {
    assert_int_equal(attribute, CU_POINTER_ATTRIBUTE_MEMORY_TYPE);
    asked++;
    *(unsigned int *)value = 2;
    return address >= begin && address < end ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

static CUresult is_capturing(CUstream stream, CUstreamCaptureStatus *status) {
    assert_null(stream);
    *status = capture;
    return CUDA_SUCCESS;
}

static const oh_cuda_t cuda = {.cuDeviceGetAttribute = get_attribute,
                               .cuPointerGetAttribute = get_pointer_attribute,
                               .cuStreamIsCapturing = is_capturing};
static oh_buffers_t buffers;

static int open_buffers(void **state) {
    (void)state;
    asked = pageable = 0;
    capture = CU_STREAM_CAPTURE_STATUS_NONE;
    return oh_buffers_open(&buffers, &cuda, 0) == ONEHOP_SUCCESS ? 0 : -1;
}

static onehop_result_t check(uintptr_t address, size_t bytes) {
    return oh_buffers_check(&buffers, &cuda, NULL, "recvbuf", (const void *)address, bytes);
}

static void test_asks_once_for_a_stretch(void **state) {
    (void)state;
    for (int i = 0; i < 100; i++) assert_int_equal(check(begin + (uintptr_t)i * 1000, 5000), ONEHOP_SUCCESS);
    assert_int_equal(asked, 1);
    assert_int_equal(check(begin, 3 * (size_t)OH_BUFFER_STRETCH), ONEHOP_SUCCESS);
    assert_int_equal(asked, 2); /* the last byte's stretch is new */
}

static void test_names_what_is_out_of_reach(void **state) {
    (void)state;
    assert_int_equal(check(0x1000, 16), ONEHOP_INVALID_ARGUMENT);
    assert_non_null(strstr(onehop_last_error(), "recvbuf is 0x1000 (16 bytes)"));
    assert_int_equal(check(0x1000, 16), ONEHOP_INVALID_ARGUMENT); /* and is not taken for known */
    assert_int_equal(check(end - 8, 16), ONEHOP_INVALID_ARGUMENT);
    assert_int_equal(check(end - 8, 8), ONEHOP_SUCCESS);
}

static void test_stretches_that_share_a_place(void **state) {
    (void)state;
    const uintptr_t other = begin + (uintptr_t)OH_BUFFERS_KNOWN * OH_BUFFER_STRETCH;
    assert_int_equal(check(begin, 1), ONEHOP_SUCCESS);
    assert_int_equal(check(other, 1), ONEHOP_INVALID_ARGUMENT);
    assert_int_equal(check(begin, 1), ONEHOP_SUCCESS);
}

static void test_a_gpu_that_reaches_everything(void **state) {
    (void)state;
    pageable = 1;
    assert_int_equal(oh_buffers_open(&buffers, &cuda, 0), ONEHOP_SUCCESS);
    assert_int_equal(check(0x1000, 16), ONEHOP_SUCCESS);
    assert_int_equal(asked, 0);
}

/* A graph's memory is reserved when it is captured, and no more: the driver and the host do not know it. */
static void test_memory_of_a_graph(void **state) {
    (void)state;
    const size_t bytes = 4096;
    void *reserved = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(reserved, MAP_FAILED);
    assert_int_equal(check((uintptr_t)reserved, bytes), ONEHOP_INVALID_ARGUMENT);
    capture = CU_STREAM_CAPTURE_STATUS_ACTIVE;
    assert_int_equal(check((uintptr_t)reserved, bytes), ONEHOP_SUCCESS);
    assert_int_equal(check((uintptr_t)&buffers, sizeof buffers), ONEHOP_INVALID_ARGUMENT);
    capture = CU_STREAM_CAPTURE_STATUS_NONE; /* and is not taken for known */
    assert_int_equal(check((uintptr_t)reserved, bytes), ONEHOP_INVALID_ARGUMENT);
    assert_int_equal(munmap(reserved, bytes), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_asks_once_for_a_stretch, open_buffers),
        cmocka_unit_test_setup(test_names_what_is_out_of_reach, open_buffers),
        cmocka_unit_test_setup(test_stretches_that_share_a_place, open_buffers),
        cmocka_unit_test_setup(test_a_gpu_that_reaches_everything, open_buffers),
        cmocka_unit_test_setup(test_memory_of_a_graph, open_buffers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
