/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a .npy header: they are refused with one line, or describe an array whose own header says the same. */
#include <stdlib.h>
#include <string.h>

#include "../cli/npy.h"

static void require(int condition) {
    if (!condition) abort();
}

static void check_line(const char *why) {
    size_t length = strlen(why);
    require(length > 0 && length < NPY_TEXT);
    for (size_t i = 0; i < length; i++) require(why[i] >= ' ' && why[i] <= '~');
}

/* Whether the header has a dictionary that is accepted. */
static int parse(const unsigned char *header, size_t length, npy_t *out) {
    char why[NPY_TEXT] = "";
    size_t bytes;
    if (npy_header_bytes(header, length, &bytes, why)) {
        require(bytes <= NPY_HEADER_MAX);
        if (bytes > length) return 0;
        if (npy_parse(header, bytes, out, why)) return 1;
    }
    check_line(why);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    npy_t npy, again;
    if (!parse(data, size, &npy)) return 0;
    require(npy.ndim >= 0 && npy.ndim <= NPY_DIMS && npy.data_offset <= size);
    char header[NPY_HEADER_MAX];
    size_t bytes = npy_make_header(&npy, header);
    require(bytes % 64 == 0 && header[bytes - 1] == '\n');
    require(parse((unsigned char *)header, bytes, &again) && again.data_offset == bytes);
    require(again.dtype == npy.dtype && again.fortran == npy.fortran && again.count == npy.count);
    require(again.ndim == npy.ndim && memcmp(again.shape, npy.shape, sizeof npy.shape) == 0);
    return 0;
}
