/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs kernels of src/kernels on the host: every thread of every block of every rank is a coroutine, and which of them
 * goes on is drawn at each access to memory that others see. So a run takes one of the orders that a GPU could take,
 * sequentially consistent; and the same seed takes the same one. What needs the memory model is not tested by this.
 */
#ifndef EMULATOR_H
#define EMULATOR_H

#include <cstdint>
#include <functional>

struct emulated_index {
    unsigned int x;
};

/* Of the thread that is running. */
extern emulated_index threadIdx, blockIdx, blockDim, gridDim;

/* ---- what kernels call ---- */

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

/* ---- what the test calls ---- */

void emulator_seed(uint64_t seed);
uint64_t emulator_draw(uint64_t bound);

/* Puts a launch at the end of a stream, 0 to 15; `thread` is what each of its threads does. */
void emulator_launch(int stream, unsigned int blocks, unsigned int threads, std::function<void()> thread);

/* Until all streams are empty; false if that takes more than `steps` steps. */
bool emulator_run(uint64_t steps);

#endif
