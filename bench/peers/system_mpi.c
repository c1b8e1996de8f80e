/* SPDX-License-Identifier: Apache-2.0 */
/* MPI as a compared system: built once with the compiler wrapper of each MPI. Errors end the job, as MPI does by
 * itself. */
#include <mpi.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "system.h"

static char version[MPI_MAX_LIBRARY_VERSION_STRING];

void system_init(int *argc, char ***argv) {
    MPI_Init(argc, argv);
    int length;
    MPI_Get_library_version(version, &length);
    version[strcspn(version, "\n")] = '\0';
    for (char *tab = strchr(version, '\t'); tab != NULL; tab = strchr(tab, '\t')) *tab = ' ';
}

int system_rank(void) {
    int rank;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    return rank;
}

int system_nranks(void) {
    int nranks;
    MPI_Comm_size(MPI_COMM_WORLD, &nranks);
    return nranks;
}

const char *system_version(void) { return version; }

void *system_alloc(size_t bytes, bool registered) {
    if (registered) fail("MPI has no registered buffers for MPI_Allreduce");
    void *memory;
    if (posix_memalign(&memory, (size_t)sysconf(_SC_PAGESIZE), bytes) != 0) fail("no memory for %zu bytes", bytes);
    return memory; /* the end of the process frees it */
}

void system_sum(const void *send, void *recv, size_t count, element_t element) {
    if (element != FLOAT32) fail("MPI has no bfloat16");
    MPI_Allreduce(send, recv, (int)count, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
}

const char *system_algorithm(size_t count, element_t element, bool registered) {
    (void)count, (void)element, (void)registered;
    return "";
}

void system_max(double *values, int count) {
    MPI_Allreduce(MPI_IN_PLACE, values, count, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
}

void system_barrier(void) { MPI_Barrier(MPI_COMM_WORLD); }

void system_finalize(void) { MPI_Finalize(); }
