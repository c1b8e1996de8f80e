/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers that two declarations of the CUDA driver must agree on; cuda_abi.c is compiled once with each. */
#ifndef TESTS_CUDA_ABI_H
#define TESTS_CUDA_ABI_H

#include <stddef.h>

typedef struct abi_value {
    const char *name;
    unsigned long long value;
} abi_value_t;

/* A function of the driver: where Onehop keeps its address, what it asks the driver for, what cuda.h would. */
typedef struct abi_function {
    size_t offset;
    const char *symbol, *expected;
} abi_function_t;

extern const abi_value_t abi_ours[], abi_theirs[];
extern const int abi_ours_count, abi_theirs_count;
extern const abi_function_t abi_functions[];
extern const int abi_functions_count;
extern const size_t abi_functions_begin, abi_functions_end;

#endif
