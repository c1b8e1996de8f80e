/* SPDX-License-Identifier: Apache-2.0 */
/* A step that every rank does alone, and that all must have done: one rank's failure becomes that of all. */
#ifndef OH_BOOTSTRAP_AGREE_H
#define OH_BOOTSTRAP_AGREE_H

#include <stdint.h>

#include "bootstrap/bootstrap.h"

/*
 * Collective. `mine` is what came of this rank's step; its sentence is the last error. *verdict receives the failure of
 * the first rank that failed, in that rank's words, or SUCCESS. Returns whether the ranks could ask one another.
 */
onehop_result_t oh_agree(oh_bootstrap_t *bootstrap, const char *what, onehop_result_t mine,
                         const oh_patience_t *patience, onehop_result_t *verdict);

/*
 * Collective: what rank 0 has in `data` becomes that of all ranks. `mine` is what came of rank 0's making it; its
 * failure becomes that of all.
 */
onehop_result_t oh_agree_with_first(oh_bootstrap_t *bootstrap, const char *what, onehop_result_t mine, void *data,
                                    size_t bytes, const oh_patience_t *patience);

enum { OH_NO_REGISTRATION = -1 };

/*
 * Collective: all ranks give up the same registered buffer, by its number. INVALID_ARGUMENT on all ranks if they mean
 * different ones, or a rank's `ptr` is that of none. *broken: the ranks lost touch.
 */
onehop_result_t oh_agree_to_deregister(oh_bootstrap_t *bootstrap, const void *ptr, int64_t number,
                                       const oh_patience_t *patience, bool *broken);

#endif
