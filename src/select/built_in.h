/* SPDX-License-Identifier: Apache-2.0 */
/* The tables that are part of the library. Measured: on hosts by bench/host.py, on H200 by bench/gpu.py. */
#ifndef OH_SELECT_BUILT_IN_H
#define OH_SELECT_BUILT_IN_H

#include "select/table.h"

void oh_built_in_hosts(oh_host_tables_t *out);

/* That of GPUs whose name begins with this one's, for as many ranks or the next larger number; false: there is none. */
bool oh_built_in_gpus(const char *gpu, oh_links_t links, int nranks, oh_device_table_t *out);

#endif
