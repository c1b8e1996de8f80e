/* SPDX-License-Identifier: Apache-2.0 */
#include "npy.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char magic[] = "\x93NUMPY"; /* then the version's two bytes, then the length of the text */
enum { MAGIC = sizeof magic - 1, ALIGNMENT = 64, HEADER_AT_V1 = 10, HEADER_AT_V2 = 12 };

static const struct {
    const char *descr;
    onehop_dtype_t dtype;
} types[] = {
    {"<f4", ONEHOP_FLOAT32}, {"<f2", ONEHOP_FLOAT16}, {"<f8", ONEHOP_FLOAT64},
    {"|i1", ONEHOP_INT8},    {"|u1", ONEHOP_UINT8},   {"<i4", ONEHOP_INT32},
    {"<u4", ONEHOP_UINT32},  {"<i8", ONEHOP_INT64},   {"<u8", ONEHOP_UINT64},
};
enum { TYPES = sizeof types / sizeof types[0] };
#define TYPES_TEXT "<f4, <f2, <f8, |i1, |u1, <i4, <u4, <i8 or <u8"

const char *npy_descr(onehop_dtype_t dtype) {
    for (int i = 0; i < TYPES; i++) {
        if (types[i].dtype == dtype) return types[i].descr;
    }
    return NULL;
}

void npy_shape_text(const npy_t *npy, char *out) {
    size_t at = (size_t)snprintf(out, NPY_SHAPE_TEXT, "(");
    for (int i = 0; i < npy->ndim; i++) {
        at += (size_t)snprintf(out + at, NPY_SHAPE_TEXT - at, "%s%zu", i > 0 ? ", " : "", npy->shape[i]);
    }
    snprintf(out + at, NPY_SHAPE_TEXT - at, npy->ndim == 1 ? ",)" : ")");
}

__attribute__((format(printf, 2, 3))) static bool fail(char *why, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(why, NPY_TEXT, format, arguments);
    va_end(arguments);
    return false;
}

/* ---- the dictionary: the little of Python's syntax that NumPy writes ---- */

typedef struct cursor {
    const char *at, *end;
    char *why;
} cursor_t;

/* Copies what can be shown of a file's text: one line, without spaces at its end. */
static void show(const char *text, size_t length, char *out, size_t room) {
    size_t n = 0;
    while (n < length && n < room - 1 && text[n] != '\n') {
        char letter = text[n];
        if (letter < ' ' || letter > '~') letter = '?';
        out[n++] = letter;
    }
    while (n > 0 && out[n - 1] == ' ') n--;
    out[n] = '\0';
}

/* Names what stands where something else was expected. */
static bool expected(const cursor_t *c, const char *what) {
    char found[20];
    show(c->at, (size_t)(c->end - c->at), found, sizeof found);
    if (found[0] == '\0') return fail(c->why, "has a header that ends where %s was expected", what);
    return fail(c->why, "has \"%s\" in its header where %s was expected", found, what);
}

static void skip_space(cursor_t *c) {
    while (c->at < c->end && (*c->at == ' ' || *c->at == '\n' || *c->at == '\t')) c->at++;
}

/* Whether `word` comes next; steps over it. */
static bool take(cursor_t *c, const char *word) {
    skip_space(c);
    size_t length = strlen(word);
    if ((size_t)(c->end - c->at) < length || memcmp(c->at, word, length) != 0) return false;
    c->at += length;
    return true;
}

static bool take_string(cursor_t *c, char *out, size_t room, const char *what) {
    const char *quote = take(c, "'") ? "'" : take(c, "\"") ? "\"" : NULL;
    if (quote == NULL) return expected(c, what);
    const char *close = memchr(c->at, *quote, (size_t)(c->end - c->at));
    if (close == NULL || (size_t)(close - c->at) >= room) return expected(c, what);
    memcpy(out, c->at, (size_t)(close - c->at));
    out[close - c->at] = '\0';
    c->at = close + 1;
    return true;
}

static bool take_bool(cursor_t *c, bool *out) {
    *out = take(c, "True");
    return *out || take(c, "False") || expected(c, "True or False");
}

static bool take_length(cursor_t *c, size_t *out) {
    skip_space(c);
    const char *start = c->at;
    size_t value = 0;
    for (; c->at < c->end && *c->at >= '0' && *c->at <= '9'; c->at++) {
        size_t digit = (size_t)(*c->at - '0');
        if (value > (SIZE_MAX - digit) / 10) return fail(c->why, "has a dimension beyond %zu", SIZE_MAX);
        value = value * 10 + digit;
    }
    if (c->at == start) return expected(c, "a dimension");
    take(c, "L"); /* Python 2's long integers */
    *out = value;
    return true;
}

static bool take_shape(cursor_t *c, npy_t *out) {
    if (!take(c, "(")) return expected(c, "a shape");
    out->ndim = 0;
    while (!take(c, ")")) {
        if (out->ndim == NPY_DIMS) return fail(c->why, "has more than %d dimensions", NPY_DIMS);
        if (!take_length(c, &out->shape[out->ndim])) return false;
        out->ndim++;
        if (take(c, ",")) continue;
        /* One number in parentheses alone is no tuple. */
        if (out->ndim < 2 || !take(c, ")")) return expected(c, "a comma");
        break;
    }
    return true;
}

static bool take_descr(cursor_t *c, npy_t *out) {
    char descr[64];
    if (take(c, "[")) return fail(c->why, "holds structures: expected the type " TYPES_TEXT);
    if (!take_string(c, descr, sizeof descr, "a type")) return false;
    for (int i = 0; i < TYPES; i++) {
        if (strcmp(descr, types[i].descr) != 0) continue;
        out->dtype = types[i].dtype;
        return true;
    }
    show(descr, strlen(descr), descr, sizeof descr);
    if (descr[0] == '>') return fail(c->why, "has the type %s, which is big-endian: expected " TYPES_TEXT, descr);
    return fail(c->why, "has the type %s: expected " TYPES_TEXT, descr);
}

enum { DESCR = 1, ORDER = 2, SHAPE = 4, ALL_KEYS = 7 };

static bool take_entry(cursor_t *c, npy_t *out, int *seen) {
    static const char *const names[] = {"descr", "fortran_order", "shape"};
    char key[32];
    const cursor_t before = *c;
    if (!take_string(c, key, sizeof key, "a key")) return false;
    int bit = 0;
    for (int i = 0; i < 3; i++) bit |= strcmp(key, names[i]) == 0 ? 1 << i : 0;
    if (bit == 0 || (*seen & bit) != 0) return expected(&before, "descr, fortran_order or shape, each once");
    *seen |= bit;
    if (!take(c, ":")) return expected(c, "a colon");
    return bit == DESCR ? take_descr(c, out) : bit == ORDER ? take_bool(c, &out->fortran) : take_shape(c, out);
}

static bool take_dictionary(cursor_t *c, npy_t *out) {
    int seen = 0;
    if (!take(c, "{")) return expected(c, "a dictionary");
    while (!take(c, "}")) {
        if (!take_entry(c, out, &seen)) return false;
        if (take(c, ",")) continue;
        if (!take(c, "}")) return expected(c, "a comma");
        break;
    }
    skip_space(c);
    if (c->at != c->end) return expected(c, "the end");
    if (seen == ALL_KEYS) return true;
    return fail(c->why, "has no %s in its header",
                (seen & DESCR) == 0   ? "descr"
                : (seen & ORDER) == 0 ? "fortran_order"
                                      : "shape");
}

/* ---- the header ---- */

bool npy_header_bytes(const unsigned char *preamble, size_t length, size_t *bytes, char *why) {
    if (length < HEADER_AT_V1 || memcmp(preamble, magic, MAGIC) != 0) return fail(why, "is no .npy file");
    unsigned major = preamble[MAGIC], minor = preamble[MAGIC + 1];
    if ((major != 1 && major != 2) || minor != 0) {
        return fail(why, "has the .npy format %u.%u: expected 1.0 or 2.0", major, minor);
    }
    size_t at = major == 1 ? HEADER_AT_V1 : HEADER_AT_V2, text = 0;
    if (length < at) return fail(why, "ends inside its header");
    for (size_t i = at; i > MAGIC + 2; i--) text = text << 8 | preamble[i - 1];
    if (text > NPY_HEADER_MAX - at) {
        return fail(why, "has a header of %zu bytes: expected at most %zu", text, NPY_HEADER_MAX - at);
    }
    *bytes = at + text;
    return true;
}

/* Multiplies the dimensions, whose product could exceed any number. */
static bool count_elements(npy_t *npy, char *why) {
    size_t most = PTRDIFF_MAX / onehop_dtype_size(npy->dtype);
    bool empty = false;
    for (int i = 0; i < npy->ndim; i++) empty |= npy->shape[i] == 0;
    npy->count = empty ? 0 : 1;
    for (int i = 0; i < npy->ndim && !empty; i++) {
        if (npy->count > most / npy->shape[i]) return fail(why, "has more than %zu elements", most);
        npy->count *= npy->shape[i];
    }
    return true;
}

bool npy_parse(const unsigned char *header, size_t bytes, npy_t *out, char *why) {
    *out = (npy_t){.data_offset = bytes};
    size_t at = header[MAGIC] == 1 ? HEADER_AT_V1 : HEADER_AT_V2;
    cursor_t cursor = {(const char *)header + at, (const char *)header + bytes, why};
    if (!take_dictionary(&cursor, out) || !count_elements(out, why)) return false;
    if (out->ndim < 2) out->fortran = false;
    return true;
}

size_t npy_make_header(const npy_t *npy, char *out) {
    char shape[NPY_SHAPE_TEXT];
    npy_shape_text(npy, shape);
    memcpy(out, magic, MAGIC);
    int length = snprintf(out + HEADER_AT_V1, NPY_HEADER_MAX - HEADER_AT_V1,
                          "{'descr': '%s', 'fortran_order': %s, 'shape': %s, }", npy_descr(npy->dtype),
                          npy->fortran ? "True" : "False", shape);
    size_t end = HEADER_AT_V1 + (size_t)length;
    size_t total = (end + 1 + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT; /* with a line feed, the data are aligned */
    memset(out + end, ' ', total - end);
    out[total - 1] = '\n';
    size_t text = total - HEADER_AT_V1;
    out[MAGIC] = 1;
    out[MAGIC + 1] = 0;
    out[MAGIC + 2] = (char)(text & 255);
    out[MAGIC + 3] = (char)(text >> 8);
    return total;
}

/* ---- the file ---- */

/* Reads at most `bytes` from the file's beginning; returns how many there were, or -1. */
static ssize_t read_start(int fd, unsigned char *out, size_t bytes) {
    size_t done = 0;
    while (done < bytes) {
        ssize_t got = pread(fd, out + done, bytes - done, (off_t)done);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return -1;
        if (got == 0) break;
        done += (size_t)got;
    }
    return (ssize_t)done;
}

static bool read_header(int fd, npy_t *out, char *why) {
    unsigned char preamble[NPY_PREAMBLE];
    ssize_t got = read_start(fd, preamble, sizeof preamble);
    size_t bytes = 0;
    if (got < 0) return fail(why, "cannot be read: %s", strerror(errno));
    if (!npy_header_bytes(preamble, (size_t)got, &bytes, why)) return false;
    unsigned char header[NPY_HEADER_MAX] = {0};
    got = read_start(fd, header, bytes);
    return got == (ssize_t)bytes ? npy_parse(header, bytes, out, why) : fail(why, "ends inside its header");
}

static bool check_length(off_t file_bytes, const npy_t *npy, char *why) {
    size_t data = npy->count * onehop_dtype_size(npy->dtype), there = (size_t)file_bytes - npy->data_offset;
    if (there == data) return true;
    return fail(why, "has %zu bytes of data: expected %zu, %zu elements of %s", there, data, npy->count,
                npy_descr(npy->dtype));
}

int npy_open(const char *path, npy_t *out, char *why) {
    struct stat status;
    /* Not to wait for the writer of a pipe. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &status) != 0) {
        fail(why, "cannot be opened: %s", strerror(errno));
    } else if (!S_ISREG(status.st_mode)) {
        fail(why, "is no regular file");
    } else if (read_header(fd, out, why) && check_length(status.st_size, out, why)) {
        return fd;
    }
    if (fd >= 0) close(fd);
    return -1;
}
