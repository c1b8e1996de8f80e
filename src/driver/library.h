/* SPDX-License-Identifier: Apache-2.0 */
/* Libraries opened at run time: a table of functions filled from a list of names. */
#ifndef OH_DRIVER_LIBRARY_H
#define OH_DRIVER_LIBRARY_H

#include <stddef.h>

/* A pointer to the function `name` belongs at `offset` in the table. */
typedef struct oh_symbol {
    size_t offset;
    const char *name;
} oh_symbol_t;

/* NULL: dlerror() says why. Stays loaded until the process ends: compilers and drivers keep threads and callbacks. */
void *oh_library_open(const char *file);

/* Fills the table. NULL, or the name of the first function that the library does not have. */
const char *oh_library_resolve(void *library, const oh_symbol_t *symbols, size_t count, void *table);

#endif
