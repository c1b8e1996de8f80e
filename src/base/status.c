/* SPDX-License-Identifier: Apache-2.0 */
#include "base/status.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"

/* Per thread, so that a text stays put until the caller has read it. */
static _Thread_local char last_error[OH_ERROR_TEXT];

static void store(const char *format, va_list arguments) {
    /* Formatted aside first: an argument may be the last error itself. */
    char text[OH_ERROR_TEXT];
    vsnprintf(text, sizeof text, format, arguments);
    memcpy(last_error, text, sizeof text);
}

onehop_result_t oh_fail(onehop_result_t code, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    store(format, arguments);
    va_end(arguments);
    oh_log("%s: %s", onehop_result_string(code), last_error);
    return code;
}

onehop_result_t oh_fail_errno(const char *format, ...) {
    int error = errno;
    va_list arguments;
    va_start(arguments, format);
    store(format, arguments);
    va_end(arguments);
    errno = error; /* for %m */
    bool memory = error == ENOMEM || error == ENOSPC || error == EMFILE || error == ENFILE || error == EDQUOT;
    return oh_fail(memory ? ONEHOP_OUT_OF_MEMORY : ONEHOP_SYSTEM_ERROR, "%.360s: %m", last_error);
}

const char *onehop_last_error(void) { return last_error; }

const char *onehop_result_string(onehop_result_t result) {
    switch (result) {
    case ONEHOP_SUCCESS: return "success";
    case ONEHOP_INVALID_ARGUMENT: return "invalid argument";
    case ONEHOP_UNSUPPORTED: return "unsupported";
    case ONEHOP_OUT_OF_MEMORY: return "out of memory";
    case ONEHOP_SYSTEM_ERROR: return "system error";
    case ONEHOP_CUDA_ERROR: return "CUDA error";
    case ONEHOP_COMPILE_ERROR: return "kernel compilation failed";
    case ONEHOP_TIMEOUT: return "timeout";
    case ONEHOP_PEER_LOST: return "peer lost";
    case ONEHOP_MISMATCH: return "ranks disagree";
    case ONEHOP_ABORTED: return "aborted";
    }
    return "unknown result";
}
