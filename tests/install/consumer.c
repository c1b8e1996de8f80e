/* SPDX-License-Identifier: Apache-2.0 */
/* A C program outside the tree: two ranks, as threads, add their numbers. Exits 0 if every rank got the sum. */
#include <onehop.h>
#include <pthread.h>
#include <stdio.h>

enum { RANKS = 2, COUNT = 1000 };

static void *run(void *arg) {
    onehop_comm_t *comm = (onehop_comm_t *)arg;
    float values[COUNT];
    int i;
    for (i = 0; i < COUNT; i++) values[i] = (float)(i + onehop_comm_rank(comm));
    if (onehop_all_reduce(values, values, COUNT, ONEHOP_FLOAT32, ONEHOP_SUM, comm, NULL) != ONEHOP_SUCCESS) {
        fprintf(stderr, "all_reduce: %s\n", onehop_last_error());
        return arg;
    }
    for (i = 0; i < COUNT; i++) {
        if (values[i] != (float)(2 * i + 1)) {
            fprintf(stderr, "element %d is %g, expected %d\n", i, (double)values[i], 2 * i + 1);
            return arg;
        }
    }
    return NULL;
}

int main(void) {
    onehop_comm_t *comms[RANKS];
    pthread_t threads[RANKS];
    int r, failed = 0;
    if (onehop_comm_create_local(RANKS, NULL, ONEHOP_DEVICE_HOST, comms) != ONEHOP_SUCCESS) {
        fprintf(stderr, "comm_create_local: %s\n", onehop_last_error());
        return 1;
    }
    for (r = 0; r < RANKS; r++) {
        if (pthread_create(&threads[r], NULL, run, comms[r]) != 0) return 1;
    }
    for (r = 0; r < RANKS; r++) {
        void *wrong;
        pthread_join(threads[r], &wrong);
        failed |= wrong != NULL;
    }
    for (r = 0; r < RANKS; r++) failed |= onehop_comm_destroy(comms[r]) != ONEHOP_SUCCESS;
    if (!failed) printf("C, Onehop %s: %d ranks agree\n", onehop_version(), RANKS);
    return failed;
}
