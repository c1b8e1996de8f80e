/* SPDX-License-Identifier: Apache-2.0 */
/* The header of .npy files (NumPy's format 1.0 and 2.0): one array, little-endian. */
#ifndef CLI_NPY_H
#define CLI_NPY_H

#include <onehop.h>
#include <stdbool.h>
#include <stddef.h>

enum {
    NPY_DIMS = 64,
    NPY_PREAMBLE = 12,        /* bytes that tell how long the header is */
    NPY_HEADER_MAX = 1 << 16, /* the largest that is read, preamble included */
    NPY_TEXT = 256,
    NPY_SHAPE_TEXT = NPY_DIMS * 22 + 8,
};

typedef struct npy {
    onehop_dtype_t dtype;
    bool fortran; /* order of the elements; never set for less than two dimensions, where there is but one */
    int ndim;
    size_t shape[NPY_DIMS];
    size_t count;       /* elements; count * size of one is no more than PTRDIFF_MAX */
    size_t data_offset; /* where they begin in the file */
} npy_t;

/* All that fail say why in `why`, NPY_TEXT bytes, as the rest of a sentence that begins with the file's name. */

/* How many bytes the header has, preamble included, given the file's first NPY_PREAMBLE bytes (or all that it has). */
bool npy_header_bytes(const unsigned char *preamble, size_t length, size_t *bytes, char *why);
/* `header` has as many bytes as npy_header_bytes said. */
bool npy_parse(const unsigned char *header, size_t bytes, npy_t *out, char *why);
/* Opens a regular file, parses its header, sees that all data are there. Returns a descriptor, or -1. */
int npy_open(const char *path, npy_t *out, char *why);

/* The header of a file that holds what `npy` describes. Returns its bytes, at most NPY_HEADER_MAX. */
size_t npy_make_header(const npy_t *npy, char *out);

/* "<f4"; NULL for types that NumPy does not have. */
const char *npy_descr(onehop_dtype_t dtype);
/* "(3, 4)". */
void npy_shape_text(const npy_t *npy, char *out);

#endif
