/* SPDX-License-Identifier: Apache-2.0 */
/* Onehop as a compared system: one communicator, configured by what `onehop launch` puts into the environment. */
#include <onehop.h>
#include <stdlib.h>
#include <unistd.h>

#include "system.h"

static onehop_comm_t *comm;

static void check(onehop_result_t result) {
    if (result != ONEHOP_SUCCESS) fail("%s: %s", onehop_result_string(result), onehop_last_error());
}

static onehop_dtype_t dtype_of(element_t element) { return element == FLOAT32 ? ONEHOP_FLOAT32 : ONEHOP_BFLOAT16; }

void system_init(int *argc, char ***argv) {
    (void)argc, (void)argv;
    onehop_config_t config = ONEHOP_CONFIG_INIT;
    config.device = ONEHOP_DEVICE_HOST;
    check(onehop_comm_create(&config, &comm));
}

int system_rank(void) { return onehop_comm_rank(comm); }
int system_nranks(void) { return onehop_comm_nranks(comm); }

const char *system_version(void) { return onehop_version(); }

void *system_alloc(size_t bytes, bool registered) {
    void *memory;
    if (registered) {
        check(onehop_alloc(comm, bytes, &memory));
        check(onehop_register(comm, memory, bytes));
    } else if (posix_memalign(&memory, (size_t)sysconf(_SC_PAGESIZE), bytes) != 0) {
        fail("no memory for %zu bytes", bytes);
    }
    return memory; /* onehop_comm_destroy or the end of the process frees it */
}

void system_sum(const void *send, void *recv, size_t count, element_t element) {
    check(onehop_all_reduce(send, recv, count, dtype_of(element), ONEHOP_SUM, comm, NULL));
}

const char *system_algorithm(size_t count, element_t element, bool registered) {
    onehop_choice_t choice = {.size = sizeof choice};
    check(onehop_comm_explain(comm, count, dtype_of(element), ONEHOP_SUM, registered, &choice));
    return choice.algorithm;
}

void system_max(double *values, int count) {
    check(onehop_all_reduce(values, values, (size_t)count, ONEHOP_FLOAT64, ONEHOP_MAX, comm, NULL));
}

void system_barrier(void) { check(onehop_all_reduce(NULL, NULL, 0, ONEHOP_FLOAT32, ONEHOP_SUM, comm, NULL)); }

void system_finalize(void) { check(onehop_comm_destroy(comm)); }
