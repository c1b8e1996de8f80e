/* SPDX-License-Identifier: Apache-2.0 */
/* The tables that are part of the library. Measured: on hosts by bench/host.py, on H200 by bench/gpu.py. */
#ifndef OH_SELECT_BUILT_IN_H
#define OH_SELECT_BUILT_IN_H

#include "select/table.h"

extern const oh_host_tables_t oh_built_in_host;

/* That of the GPUs whose names begin as this one, for as many ranks or the next larger number; NULL: there is none. */
const oh_device_table_t *oh_built_in_device(const char *gpu, oh_links_t links, int nranks);

#endif
