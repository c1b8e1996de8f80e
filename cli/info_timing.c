/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From onehop_comm_create to the end of the first all-reduce, on the slowest rank. Ranks are started twice over a
 * folder of compiled kernels that is made for it: the first time it is empty. The compiler has a cache of its own, the
 * driver's, which is left out. The context of the GPU is there before.
 */
#include "info_timing.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "device.h"
#include "say.h"

static bool time_rank(rank_t *rank, void *ctx) {
    const char *when = ctx;
    float message[1024] = {0};
    if (!rank_all_reduce_host(rank, message, 1024, ONEHOP_FLOAT32, ONEHOP_SUM)) return false;
    double ms = 1e-6 * (double)(now_ns() - rank->begun_ns);
    onehop_comm_info_t info = {.size = sizeof info};
    if (!rank_try(rank, onehop_comm_get_info(rank->comm, &info)) ||
        !rank_all_reduce_host(rank, &ms, 1, ONEHOP_FLOAT64, ONEHOP_MAX))
        return false;
    if (rank->rank != 0) return true;
    printf("first all-reduce of %d ranks on %s, %s: %.1f ms from onehop_comm_create\n", rank->nranks,
           onehop_device_string(info.device), when, ms);
    return rank_printed(rank);
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *place) {
    (void)status, (void)type, (void)place;
    return remove(path);
}

int info_timing(const ranks_t *ranks) {
    static char cold[] = "kernels to be compiled", warm[] = "kernels at hand";
    const char *temporary = getenv("TMPDIR");
    char folder[512];
    snprintf(folder, sizeof folder, "%s/onehop-info-XXXXXX", temporary != NULL ? temporary : "/tmp");
    if (mkdtemp(folder) == NULL) {
        complain("cannot make the folder %s: %m", folder);
        return EXIT_FAILED;
    }
    setenv("ONEHOP_CACHE_DIR", folder, 1);
    setenv("CUDA_CACHE_DISABLE", "1", 1);
    ranks_t timed = *ranks;
    timed.timed = true;
    int status = ranks_run(&timed, time_rank, cold);
    if (status == EXIT_OK) status = ranks_run(&timed, time_rank, warm);
    nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    return status;
}
