/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An NVRTC that compiles nothing, of version 12.FAKE_MINOR: the machine code of a program is its name and its options,
 * a line each. -DFAIL         does not compile -DTOGETHER=N   compiles once N are being compiled at the same time;
 * gives up after ten seconds
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "driver/nvrtc.h"

struct _nvrtcProgram {
    char code[2048], log[128];
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t arrival = PTHREAD_COND_INITIALIZER;
static int inside, most;

const char *nvrtcGetErrorString(nvrtcResult result);
nvrtcResult nvrtcVersion(int *major, int *minor);
nvrtcResult nvrtcGetNumSupportedArchs(int *count);
nvrtcResult nvrtcGetSupportedArchs(int *architectures);
nvrtcResult nvrtcCreateProgram(nvrtcProgram *program, const char *source, const char *name, int nheaders,
                               const char *const *headers, const char *const *header_names);
nvrtcResult nvrtcDestroyProgram(nvrtcProgram *program);
nvrtcResult nvrtcCompileProgram(nvrtcProgram program, int noptions, const char *const *options);
nvrtcResult nvrtcGetCUBINSize(nvrtcProgram program, size_t *bytes);
nvrtcResult nvrtcGetCUBIN(nvrtcProgram program, char *cubin);
nvrtcResult nvrtcGetProgramLogSize(nvrtcProgram program, size_t *bytes);
nvrtcResult nvrtcGetProgramLog(nvrtcProgram program, char *log);

const char *nvrtcGetErrorString(nvrtcResult result) {
    return result == NVRTC_ERROR_COMPILATION ? "NVRTC_ERROR_COMPILATION" : "NVRTC_ERROR_FAKE";
}

nvrtcResult nvrtcVersion(int *major, int *minor) {
    *major = 12, *minor = FAKE_MINOR;
    return NVRTC_SUCCESS;
}

nvrtcResult nvrtcGetNumSupportedArchs(int *count) {
    *count = 2;
    return NVRTC_SUCCESS;
}

nvrtcResult nvrtcGetSupportedArchs(int *architectures) {
    architectures[0] = 80, architectures[1] = 90;
    return NVRTC_SUCCESS;
}

nvrtcResult nvrtcCreateProgram(nvrtcProgram *program, const char *source, const char *name, int nheaders,
                               const char *const *headers, const char *const *header_names) {
    if (source[0] == '\0' || nheaders < 1 || headers[0][0] == '\0' || header_names[0][0] == '\0') return 3;
    *program = calloc(1, sizeof **program);
    if (*program == NULL) return NVRTC_ERROR_OUT_OF_MEMORY;
    snprintf((*program)->code, sizeof(*program)->code, "%s\n", name);
    return NVRTC_SUCCESS;
}

nvrtcResult nvrtcDestroyProgram(nvrtcProgram *program) {
    free(*program);
    *program = NULL;
    return NVRTC_SUCCESS;
}

static bool meet(int count) {
    struct timespec deadline;
    clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += 10;
    pthread_mutex_lock(&mutex);
    if (++inside > most) most = inside;
    pthread_cond_broadcast(&arrival);
    while (most < count && pthread_cond_timedwait(&arrival, &mutex, &deadline) != ETIMEDOUT) continue;
    bool met = most >= count;
    inside--;
    pthread_mutex_unlock(&mutex);
    return met;
}

/* The caller's handlers are for the caller's threads. */
static bool takes_signals(void) {
    sigset_t blocked;
    return pthread_sigmask(SIG_SETMASK, NULL, &blocked) != 0 || sigismember(&blocked, SIGUSR1) != 1;
}

nvrtcResult nvrtcCompileProgram(nvrtcProgram program, int noptions, const char *const *options) {
    bool good = !takes_signals();
    if (!good) strcpy(program->log, "error: this thread takes signals\n");
    for (int i = 0; i < noptions; i++) {
        size_t length = strlen(program->code);
        snprintf(program->code + length, sizeof program->code - length, "%s\n", options[i]);
        if (strcmp(options[i], "-DFAIL") == 0) {
            strcpy(program->log, "kernel.cu(7): error: FAIL is defined\n");
            good = false;
        } else if (strncmp(options[i], "-DTOGETHER=", 11) == 0 && !meet(atoi(options[i] + 11))) {
            strcpy(program->log, "error: alone\n");
            good = false;
        }
    }
    return good ? NVRTC_SUCCESS : NVRTC_ERROR_COMPILATION;
}

nvrtcResult nvrtcGetCUBINSize(nvrtcProgram program, size_t *bytes) {
    *bytes = strlen(program->code);
    return NVRTC_SUCCESS;
}

nvrtcResult nvrtcGetCUBIN(nvrtcProgram program, char *cubin) {
    memcpy(cubin, program->code, strlen(program->code));
    return NVRTC_SUCCESS;
}

nvrtcResult nvrtcGetProgramLogSize(nvrtcProgram program, size_t *bytes) {
    *bytes = strlen(program->log) + 1;
    return NVRTC_SUCCESS;
}

nvrtcResult nvrtcGetProgramLog(nvrtcProgram program, char *log) {
    strcpy(log, program->log);
    return NVRTC_SUCCESS;
}
