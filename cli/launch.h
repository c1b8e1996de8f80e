/* SPDX-License-Identifier: Apache-2.0 */
/* What the two halves of `onehop launch` share: the ranks. */
#ifndef CLI_LAUNCH_H
#define CLI_LAUNCH_H

#include <onehop.h>
#include <signal.h>
#include <sys/types.h>

#include "lines.h"

typedef struct launch_stream {
    int fd; /* we read from it, without waiting; -1 once it has ended */
    lines_t lines;
} launch_stream_t;

typedef struct launch_rank {
    pid_t pid;                  /* also its process group; 0 once it has ended */
    launch_stream_t streams[2]; /* its stdout and stderr */
} launch_rank_t;

typedef struct launch_ranks {
    int n;
    launch_rank_t all[ONEHOP_MAX_RANKS];
} launch_ranks_t;

/*
 * Starts ranks->n processes of program[0], with the signals blocked that `mask` says. Returns EXIT_OK; or complains,
 * ends those that were started, and returns the exit status: 127 if there is no such program, 126 if it cannot be
 * executed.
 */
int launch_start(launch_ranks_t *ranks, char **program, const sigset_t *mask);

#endif
