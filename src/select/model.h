/* SPDX-License-Identifier: Apache-2.0 */
/* A table for GPUs that nobody has measured: what a model of the time says. */
#ifndef OH_SELECT_MODEL_H
#define OH_SELECT_MODEL_H

#include "select/table.h"

/* `blocks`: most of one launch. */
void oh_model_gpus(int nranks, int blocks, oh_links_t links, oh_device_table_t *out);

#endif
