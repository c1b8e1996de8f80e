/* SPDX-License-Identifier: Apache-2.0 */
/* `onehop info --timing`: how long it takes to get to work, with kernels to be compiled and with kernels at hand. */
#ifndef CLI_INFO_TIMING_H
#define CLI_INFO_TIMING_H

#include "ranks.h"

/* Starts the ranks twice; returns the exit status. */
int info_timing(const ranks_t *ranks);

#endif
