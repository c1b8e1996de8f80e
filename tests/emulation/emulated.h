/* SPDX-License-Identifier: Apache-2.0 */
/* What emulated kernels see of the emulator. A hundred and more of them are compiled: it includes next to nothing. */
#ifndef EMULATED_H
#define EMULATED_H

#include <cstdint>

struct emulated_index {
    unsigned int x;
};

/* Of the thread that is running. */
extern emulated_index threadIdx, blockIdx, blockDim, gridDim;

void emulator_yield();
void emulator_sync_block();
bool emulator_sync_block_and(bool vote);
void emulator_sync_warp();
void emulator_arrive(); /* once in a launch, every thread of the block this or the other */
void emulator_wait_for_arrivals();
bool emulator_sync_warp_and(bool vote);
void emulator_launch_dependents();
void emulator_wait_for_previous();
uint64_t emulator_ns(); /* a clock that goes on with every step */

#endif
