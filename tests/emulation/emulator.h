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

#include "emulated.h"

void emulator_seed(uint64_t seed);
uint64_t emulator_draw(uint64_t bound);

/* Puts a launch at the end of a stream, 0 to 15; `thread` is what each of its threads does. */
void emulator_launch(int stream, unsigned int blocks, unsigned int threads, std::function<void()> thread);

/* Until all streams are empty; false if that takes more than `steps` steps. */
bool emulator_run(uint64_t steps);

#endif
