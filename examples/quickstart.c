/* SPDX-License-Identifier: Apache-2.0 */
/* The quick start: `onehop launch -n 4 -- quickstart` adds four vectors. */
#include <onehop.h>
#include <stdio.h>

int main(void) {
    onehop_config_t config = ONEHOP_CONFIG_INIT;
    onehop_comm_t *comm;
    float x[4] = {1, 2, 3, 4};
    config.device = ONEHOP_DEVICE_HOST; /* x is in the host's memory */
    if (onehop_comm_create(&config, &comm) != ONEHOP_SUCCESS ||
        onehop_all_reduce(x, x, 4, ONEHOP_FLOAT32, ONEHOP_SUM, comm, NULL) != ONEHOP_SUCCESS) {
        fprintf(stderr, "%s\n", onehop_last_error());
        return 1;
    }
    printf("rank %d of %d: %g %g %g %g\n", onehop_comm_rank(comm), onehop_comm_nranks(comm), x[0], x[1], x[2], x[3]);
    onehop_comm_destroy(comm);
    return 0;
}
