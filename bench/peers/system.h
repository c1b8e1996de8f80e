/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the timing loop of worker.c asks of a system that is compared: one file implements it for MPI, one for Onehop.
 * Each call is collective, and ends the process with a message if the system fails.
 */
#ifndef BENCH_SYSTEM_H
#define BENCH_SYSTEM_H

#include <stdbool.h>
#include <stddef.h>

typedef enum element { FLOAT32, BFLOAT16 } element_t;

/* Joins the other ranks, as the system's own launcher has arranged. */
void system_init(int *argc, char ***argv);
int system_rank(void);
int system_nranks(void);
/* One line; static. */
const char *system_version(void);

/* Page-aligned memory for a buffer of system_sum: registered with the system, or plain. Lives until system_finalize. */
void *system_alloc(size_t bytes, bool registered);

/* recv[i] becomes the sum over all ranks of send[i]. */
void system_sum(const void *send, void *recv, size_t count, element_t element);
/* How system_sum would do it, if the system says; static. */
const char *system_algorithm(size_t count, element_t element, bool registered);

/* Not timed: values[i] becomes its maximum over all ranks. */
void system_max(double *values, int count);
void system_barrier(void);

void system_finalize(void);

/* Prints the sentence to stderr and ends the process. In worker.c. */
void fail(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

#endif
