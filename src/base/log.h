/* SPDX-License-Identifier: Apache-2.0 */
/* A log for those who look for trouble: one line per event, appended to the file that ONEHOP_LOG names; silent without
 * it. */
#ifndef OH_BASE_LOG_H
#define OH_BASE_LOG_H

#include <stdbool.h>

void oh_log(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
