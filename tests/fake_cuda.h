/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A CUDA driver for machines without one: GPU memory is a memfd, an address of it a mapping in this process. Strict
 * where the driver is (what is unmapped was mapped, access is given before use, a process does not open handles of its
 * own) and beyond (nor one handle twice), and able to refuse any call. Memory begins with garbage, and is zeroed only
 * once the stream is waited for.
 */
#ifndef TESTS_FAKE_CUDA_H
#define TESTS_FAKE_CUDA_H

#include <pthread.h>
#include <stdbool.h>

#include "driver/cuda.h"

enum { FAKE_GPUS = 8, FAKE_RANKS = 8, FAKE_GRANULARITY = 65536, FAKE_PIECES = 1024 };

/* What memory is that cuMemMap did not put there. */
typedef enum fake_origin { FAKE_PLAIN, FAKE_POOL, FAKE_MANAGED, FAKE_HOST } fake_origin_t;

/* A range of addresses. What is mapped lies in what is reserved. */
typedef struct fake_piece {
    unsigned char *base;
    size_t bytes;
    enum { FREE, RESERVED, MAPPED, ACCESSIBLE, ALLOCATED, OPENED } state;
    int fd;               /* of the memory, but of OPENED its owner's */
    int rank;             /* whose it is */
    int gpu;              /* of the memory */
    fake_origin_t origin; /* of ALLOCATED */
    unsigned long long id;
} fake_piece_t;

typedef struct fake_gpu {
    bool no_vmm, no_descriptors;
    int major, minor, multiprocessors;
    size_t granularity;
    bool no_access[FAKE_GPUS];  /* to that GPU's memory */
    bool no_atomics[FAKE_GPUS]; /* there */
    bool hidden[FAKE_RANKS];    /* from that rank's process */
} fake_gpu_t;

typedef struct fake_cuda {
    oh_cuda_t driver;
    fake_gpu_t gpus[FAKE_GPUS];
    bool processes; /* ranks pass for processes: they open one another's handles */

    /* The call that fails: of this rank, by its number from 1 or by its name. */
    int fail_rank, fail_number;
    const char *fail_name;
    CUresult fail_code;
    bool fail_on; /* and all calls after it */
    bool failed;

    pthread_mutex_t mutex;
    int handles, streams, contexts;     /* that live; contexts: how often they are held */
    int synchronized;                   /* how often a rank has waited for its GPU */
    unsigned long long ids;             /* of pieces, so far */
    int misuses;                        /* calls that no driver would bear */
    const char *misuse;                 /* the last of them */
    bool enabled[FAKE_GPUS][FAKE_GPUS]; /* access from one to the other */
    fake_piece_t pieces[FAKE_PIECES];
} fake_cuda_t;

/* The one fake of this process, fresh: GPUs that can everything. */
fake_cuda_t *fake_cuda_reset(void);

/* This thread is now `rank`, and the context of `gpu` is current. Calls are counted from here. */
void fake_cuda_enter(int rank, CUdevice gpu);

/* What this thread calls is the test's own, neither counted nor refused, or so no more. */
void fake_cuda_spare(bool spared);

/* Memory of this rank and its GPU, for cuMemFree. */
CUdeviceptr fake_cuda_allocate(size_t bytes, fake_origin_t origin);

/* The piece that holds `address`, mapped or not; NULL if there is none. */
fake_piece_t *fake_cuda_find(CUdeviceptr address);

/* Whatever lives in the fake: pieces, handles, streams, held contexts; and mappings of its memory that the kernel
 * knows. */
int fake_cuda_alive(void);

#endif
