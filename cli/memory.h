/* SPDX-License-Identifier: Apache-2.0 */
/* Memory for messages: ordinary, or the communicator's own and registered with it. */
#ifndef CLI_MEMORY_H
#define CLI_MEMORY_H

#include <stddef.h>

#include "ranks.h"

/* Whether every rank can have `bytes`; notes the rank's failure if not. To be asked first: where the kernel promises
 * more memory than it has, who takes it at its word is killed, or gets others killed. */
bool memory_suffices(rank_t *rank, size_t bytes);

/* Aligned to a page. Collective if registered. NULL, with the rank's failure noted, if there is none. */
void *memory_get(rank_t *rank, size_t bytes, bool registered);
/* Collective if registered. What is not dropped while the communicator works ends with it, or with the process. */
bool memory_drop(rank_t *rank, void *memory, bool registered);

#endif
