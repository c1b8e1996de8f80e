/* SPDX-License-Identifier: Apache-2.0 */
/* The time on the monotonic clock, which is the same for all processes. */
#ifndef CLI_CLOCK_H
#define CLI_CLOCK_H

#include <stdint.h>

int64_t now_ns(void);
int64_t now_ms(void);

#endif
