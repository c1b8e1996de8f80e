/* SPDX-License-Identifier: Apache-2.0 */
/* What harness.c asks of cmocka, for programs that run on machines without it: they end with the first failure. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* After the headers that it needs. */
#include <cmocka.h>

void print_error(const char *const format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
}

void _fail(const char *const file, const int line) {
    fprintf(stderr, "%s:%d: failed\n", file, line);
    exit(1);
}
