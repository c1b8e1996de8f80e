/* SPDX-License-Identifier: Apache-2.0 */
/* A step that every rank does alone, and that all must have done: one rank's failure becomes that of all. */
#ifndef OH_BOOTSTRAP_AGREE_H
#define OH_BOOTSTRAP_AGREE_H

#include "bootstrap/bootstrap.h"

/*
 * Collective. `mine` is what came of this rank's step; its sentence is the last error. *verdict receives the failure of
 * the first rank that failed, in that rank's words, or SUCCESS. Returns whether the ranks could ask one another.
 */
onehop_result_t oh_agree(oh_bootstrap_t *bootstrap, const char *what, onehop_result_t mine,
                         const oh_patience_t *patience, onehop_result_t *verdict);

#endif
