/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Preloaded into the command, makes all-reduces of one type go wrong on rank 1: of float16, which the command never
 * uses for its own ends, or as the variable FAULT_DTYPE says. The variable FAULT says how:
 *
 *   result    the last element of the result is not what it should be
 *   before    the byte before the result is overwritten
 *   behind    the byte behind it
 *   input     the first byte of sendbuf is overwritten
 *   kill      the rank is killed by SIGKILL inside the call
 *   forget    the rank returns at once, and so is late for the next call
 */
#include <dlfcn.h>
#include <onehop.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

typedef onehop_result_t (*all_reduce_fn)(const void *, void *, size_t, onehop_dtype_t, onehop_op_t, onehop_comm_t *,
                                         void *);

static all_reduce_fn find_real(void) {
    all_reduce_fn real;
    void *symbol = dlsym(RTLD_NEXT, "onehop_all_reduce");
    memcpy(&real, &symbol, sizeof real);
    return real;
}

static int is_meant(onehop_dtype_t dtype) {
    const char *name = getenv("FAULT_DTYPE"), *mine = onehop_dtype_string(dtype);
    return mine != NULL && strcmp(mine, name != NULL ? name : "float16") == 0;
}

onehop_result_t onehop_all_reduce(const void *sendbuf, void *recvbuf, size_t count, onehop_dtype_t dtype,
                                  onehop_op_t op, onehop_comm_t *comm, void *stream) {
    const char *fault = getenv("FAULT");
    if (fault == NULL || !is_meant(dtype) || onehop_comm_rank(comm) != 1 || count == 0) fault = "";
    if (strcmp(fault, "kill") == 0) raise(SIGKILL);
    if (strcmp(fault, "forget") == 0) return ONEHOP_SUCCESS;
    onehop_result_t result = find_real()(sendbuf, recvbuf, count, dtype, op, comm, stream);
    unsigned char *out = recvbuf;
    size_t bytes = count * onehop_dtype_size(dtype);
    if (strcmp(fault, "result") == 0) out[bytes - 1] ^= 1;
    if (strcmp(fault, "before") == 0) out[-1] ^= 1;
    if (strcmp(fault, "behind") == 0) out[bytes] ^= 1;
    if (strcmp(fault, "input") == 0 && sendbuf != recvbuf) *(unsigned char *)sendbuf ^= 1;
    return result;
}
