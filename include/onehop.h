/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Onehop: all-reduce for ranks that reach one another in one hop.
 *
 * This header is the whole public contract, and the manual.
 *
 * WORDS.  A *communicator* joins `nranks` *ranks*, numbered from 0; each rank holds one onehop_comm_t, in its own
 * process or in one shared by several ranks.  A *collective* call is one that every rank of the communicator makes, in
 * the same order.  Counts are in elements, sizes in bytes.
 *
 * ERRORS.  Calls return an onehop_result_t; ONEHOP_SUCCESS is 0.  onehop_last_error() then holds a sentence that names
 * the argument or the rank, its value and what was expected.  The library never prints, exits or aborts.
 *
 *   ONEHOP_INVALID_ARGUMENT  the arguments of this call are wrong; nothing was done, and the communicator stays usable
 *   ONEHOP_UNSUPPORTED       the arguments are right, but this machine or build cannot do it
 *   ONEHOP_OUT_OF_MEMORY     memory, shared memory or descriptors ran out
 *   ONEHOP_SYSTEM_ERROR      a system call failed; the text names the call and its errno
 *   ONEHOP_CUDA_ERROR        a CUDA call failed; the text names the call and CUDA's word for it
 *   ONEHOP_COMPILE_ERROR     a GPU kernel could not be compiled
 *   ONEHOP_TIMEOUT           a rank was late; the text names it and the operation
 *   ONEHOP_PEER_LOST         a rank has died or gone; the text names it and its process
 *   ONEHOP_MISMATCH          ranks disagree; the text names both sides
 *   ONEHOP_ABORTED           onehop_comm_abort was called, here or by a peer
 *
 * The last four, and every error of a collective call beyond INVALID_ARGUMENT, *break* the communicator: all its ranks
 * get an error, every later call on it returns the same one, and all that is left to do is onehop_comm_destroy().  A
 * new communicator can then be made.  No call waits longer than the timeout of the configuration.
 *
 * THREADS.  Different communicators may be used by different threads at once.  One communicator is used by one thread
 * at a time; onehop_comm_abort and onehop_comm_get_async_error alone may be called on it by any thread at any time
 * before onehop_comm_destroy.  A second thread inside a call gets ONEHOP_INVALID_ARGUMENT.
 *
 * FORK.  A communicator belongs to the process that made it.  In a child made by fork() every call on it returns
 * ONEHOP_INVALID_ARGUMENT, but for onehop_comm_destroy, which frees the child's memory and leaves the parent's
 * communicator alone.
 *
 * BITS.  A result is the same on every rank, to the bit, whatever the algorithm, the size of the message, the
 * alignment and the registration: elements are combined in rank order, and 16-bit floats accumulate in fp32 and are
 * rounded once.  A floating-point sum that is zero is +0.  MIN and MAX give NaN if any rank gave NaN.  Integer SUM and
 * PROD wrap; AVG is the exact sum (fp32, or fp64 for FLOAT64, for floats) divided by nranks, integers rounding towards
 * zero.
 */
#ifndef ONEHOP_H
#define ONEHOP_H

#include <stddef.h>
#include <stdint.h>

#define ONEHOP_VERSION_MAJOR 0
#define ONEHOP_VERSION_MINOR 1
#define ONEHOP_VERSION_PATCH 0

/* The most ranks that one communicator can have. */
#define ONEHOP_MAX_RANKS 64

#if defined(__GNUC__)
#define ONEHOP_API __attribute__((visibility("default")))
#else
#define ONEHOP_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* A communicator, as one rank sees it. */
typedef struct onehop_comm onehop_comm_t;

/* Values are never renumbered. */
typedef enum onehop_result {
    ONEHOP_SUCCESS = 0,
    ONEHOP_INVALID_ARGUMENT = 1,
    ONEHOP_UNSUPPORTED = 2,
    ONEHOP_OUT_OF_MEMORY = 3,
    ONEHOP_SYSTEM_ERROR = 4,
    ONEHOP_CUDA_ERROR = 5,
    ONEHOP_COMPILE_ERROR = 6,
    ONEHOP_TIMEOUT = 7,
    ONEHOP_PEER_LOST = 8,
    ONEHOP_MISMATCH = 9,
    ONEHOP_ABORTED = 10
} onehop_result_t;

typedef enum onehop_dtype {
    ONEHOP_FLOAT32 = 0,
    ONEHOP_FLOAT16 = 1,
    ONEHOP_BFLOAT16 = 2,
    ONEHOP_FLOAT64 = 3,
    ONEHOP_INT8 = 4,
    ONEHOP_UINT8 = 5,
    ONEHOP_INT32 = 6,
    ONEHOP_UINT32 = 7,
    ONEHOP_INT64 = 8,
    ONEHOP_UINT64 = 9
} onehop_dtype_t;

typedef enum onehop_op { ONEHOP_SUM = 0, ONEHOP_PROD = 1, ONEHOP_MIN = 2, ONEHOP_MAX = 3, ONEHOP_AVG = 4 } onehop_op_t;

/* AUTO is CUDA where Onehop can use a GPU, else HOST. */
typedef enum onehop_device { ONEHOP_DEVICE_AUTO = -1, ONEHOP_DEVICE_HOST = 0, ONEHOP_DEVICE_CUDA = 1 } onehop_device_t;

/*
 * The caller's own exchange, instead of a rendezvous: gathers `bytes_each` bytes from every rank into `all`, which has
 * room for nranks * bytes_each, in rank order.  Returns 0 on success.  Called by onehop_comm_create alone, on its
 * thread.
 */
typedef int (*onehop_allgather_fn)(void *ctx, const void *mine, void *all, size_t bytes_each);

/*
 * How to make a communicator.  Start from ONEHOP_CONFIG_INIT and set what matters.  A field left at its default takes
 * its value from the environment variable named beside it, then the default.  What ranks must agree on is marked (*).
 */
typedef struct onehop_config {
    size_t size;                   /* sizeof(onehop_config_t); ONEHOP_CONFIG_INIT sets it */
    int rank;                      /* 0 ... nranks-1.  -1: ONEHOP_RANK, else torchrun's RANK */
    int nranks;                    /* (*) 1 ... 64.    -1: ONEHOP_NRANKS, else torchrun's WORLD_SIZE */
    onehop_device_t device;        /* (*) AUTO: ONEHOP_DEVICE ("host", "cuda"), else the best device present */
    int device_index;              /* which GPU.  -1: ONEHOP_DEVICE_INDEX, else LOCAL_RANK, else the rank */
    const char *rendezvous;        /* "unix:/path", "unix:@name" (no file) or "tcp:host:port"; NULL: ONEHOP_RENDEZVOUS,
                                      else a name made from torchrun's MASTER_ADDR and MASTER_PORT */
    onehop_allgather_fn allgather; /* when set, used instead of a rendezvous */
    void *allgather_ctx;           /* passed to allgather as it is */
    size_t workspace_bytes;   /* (*) bound on the shared workspace of one rank, at least 64 KiB; larger messages are
                                 chunked, never refused.  0: ONEHOP_WORKSPACE_BYTES, else 32 MiB.
                                 GPUs give memory in pieces of 2 MiB, and what is left of the last one lies idle */
    int timeout_ms;           /* (*) how long one operation may wait for a peer.  0: ONEHOP_TIMEOUT_MS, else 30000 */
    int max_blocks;           /* (*) bound on the blocks of one GPU kernel.  0: ONEHOP_MAX_BLOCKS, else as tuned */
    int bootstrap_timeout_ms; /* how long onehop_comm_create may wait for the others.
                                 0: ONEHOP_BOOTSTRAP_TIMEOUT_MS, else 60000 */
    const char *job;          /* (*) ranks meet only ranks of the same job.  NULL: ONEHOP_JOB, else torchrun's
                                 TORCHELASTIC_RUN_ID, else "" */
    const char *algorithm;    /* (*) force an algorithm by name (onehop_algorithm_name), "auto": choose by size; for
                                 measuring also how it runs, "NAME:PACKETS:THREADS:BLOCKS" on GPUs and
                                 "NAME:CHUNK_BYTES:stream" or "NAME:CHUNK_BYTES:cached" on hosts.
                                 NULL: ONEHOP_ALGORITHM, else "auto" */
    const char *memory;       /* (*) how GPUs share memory: "vmm" (descriptors), "ipc" (handles), "auto": VMM where all
                                 can, else IPC.  NULL: ONEHOP_MEMORY, else "auto" */
    const char *cache_dir;    /* where compiled GPU kernels are kept; "" or "none": nowhere.  NULL: ONEHOP_CACHE_DIR,
                                 else onehop/ in XDG_CACHE_HOME or in .cache/ in HOME */
    const char *tuning;       /* a tuning table made by `onehop tune`: the name of its file; rank 0's decides for all.
                                 "built-in": no file; "model": on GPUs not even the built-in table.  NULL:
                                 ONEHOP_TUNING, else onehop/tuning.json in XDG_CONFIG_HOME or in .config/ in HOME, if
                                 it is there and can be used */
    const char *replays;      /* of graphs, on GPUs: "ordered": they and the calls follow one another as they are
                                 launched, whatever streams they use, at the cost of an event or two for each graph and
                                 call; "free": the caller orders them (onehop_all_reduce), and graphs hold no events,
                                 as those of conditional nodes must not.  NULL: ONEHOP_REPLAYS, else "ordered" */
} onehop_config_t;

#define ONEHOP_CONFIG_INIT                                                                                             \
    {                                                                                                                  \
        sizeof(onehop_config_t), -1, -1, ONEHOP_DEVICE_AUTO, -1, NULL, NULL, NULL, 0, 0, 0, 0, NULL, NULL, NULL, NULL, \
            NULL, NULL                                                                                                 \
    }

/*
 * Makes a communicator: waits for all ranks, checks that they agree, shares the workspace.  Collective.
 *
 * config  NULL: all from the environment.  Copied; may be freed at once.
 * comm    receives the communicator; NULL is stored on failure.
 *
 * All ranks must run on one machine and under one user.  Ranks that disagree in anything marked (*), or in their
 * version of Onehop, all get ONEHOP_MISMATCH.  A tuning table that rank 0 was told to use and cannot, because the file
 * cannot be read or is none of this version, gives INVALID_ARGUMENT on all ranks.
 * Errors: INVALID_ARGUMENT, UNSUPPORTED, OUT_OF_MEMORY, SYSTEM_ERROR, TIMEOUT, PEER_LOST, MISMATCH.
 * Threads: any.  Two communicators that share a rendezvous must be made one after the other, in the same order on all
 * ranks.
 */
ONEHOP_API onehop_result_t onehop_comm_create(const onehop_config_t *config, onehop_comm_t **comm);

/*
 * Makes the communicators of `nranks` ranks that live in this process; comms[r] is rank r's, to be driven by a thread
 * of its own.  Settings other than the arguments come from the environment.
 *
 * device_indices  nranks GPU numbers; NULL: rank r takes GPU r.  Not used on the host.
 * comms           receives nranks communicators, each to be destroyed; all NULL on failure.
 *
 * Errors: as onehop_comm_create.
 */
ONEHOP_API onehop_result_t onehop_comm_create_local(int nranks, const int *device_indices, onehop_device_t device,
                                                    onehop_comm_t **comms);

/*
 * recvbuf[i] on every rank becomes op over all ranks r of sendbuf_r[i], for i < count.  Collective.
 *
 * sendbuf, recvbuf  `count` elements each, aligned for nothing more than bytes; equal for in place, otherwise not
 *                   overlapping.  May be NULL when count is 0.
 * count             any, 0 included (the ranks then only meet; on a GPU nothing is done).
 * stream            host: must be NULL; the call returns when recvbuf holds the result and sendbuf may be reused.
 *                   GPU: a CUstream (cudaStream_t) of the communicator's GPU, or NULL, the default stream. The call
 *                   returns once the operation is in the stream; buffers are in the GPU's memory, and belong to it
 *                   until the stream has come so far. A stream that is being captured captures it, with buffers that
 *                   the capture itself may have allocated; the graph may be replayed any number of times, in any
 *                   order, between other calls, as long as all ranks launch the same operations in the same order.
 *
 * Streams of a GPU: calls, and replays of graphs that have captured calls, may use any number of them. Each waits for
 * the one before, so that all ranks run them in the same order; so do the calls within a capture that has several
 * streams. Where the configuration's `replays` is "free", replays do not wait, and nothing waits for them: those of one
 * communicator, and its calls, must follow one another (in one stream, or in streams ordered by events).
 * From sm_90 on an operation lets the next kernel of its stream start early, if that was launched for it (programmatic
 * stream serialization). Such a kernel of the caller's must wait (griddepcontrol.wait,
 * cudaGridDependencySynchronize) before it touches the buffers, and in any case before it ends.
 * Threads: one at a time is in a call of a communicator; another one gets INVALID_ARGUMENT.
 * Several communicators on the same GPUs run side by side, in whatever order each rank launches them, if all of them
 * find room: with max_blocks of each at most the GPU's multiprocessors / (2 * communicators), and once each has used
 * the (dtype, op), since the first use may wait until the GPU is idle.
 *
 * On a GPU the first use of a (dtype, op) compiles its kernels, or takes them from the disk cache. What goes wrong on
 * the GPU after the call has returned breaks the communicator: onehop_comm_get_async_error and the next call tell. So
 * does a kernel of anybody's that has broken the context: CUDA_ERROR on all ranks, naming the rank and what CUDA says.
 * Ranks that differ in count, dtype or op all get ONEHOP_MISMATCH; on a GPU when a kernel waits in vain for a peer that
 * has called something else, or two operations later.  After an error recvbuf holds nothing of value:
 * after MISMATCH it is as it was, unless peers could write to it because it was registered.
 * Errors: all but COMPILE_ERROR and CUDA_ERROR on the host.
 */
ONEHOP_API onehop_result_t onehop_all_reduce(const void *sendbuf, void *recvbuf, size_t count, onehop_dtype_t dtype,
                                             onehop_op_t op, onehop_comm_t *comm, void *stream);

/* This rank's number and the number of ranks; -1 if comm is NULL.  Any thread. */
ONEHOP_API int onehop_comm_rank(const onehop_comm_t *comm);
ONEHOP_API int onehop_comm_nranks(const onehop_comm_t *comm);

/*
 * Breaks the communicator on all ranks: calls that are waiting, here or on a peer, soon return ONEHOP_ABORTED.
 * Any thread.  Errors: INVALID_ARGUMENT.
 */
ONEHOP_API onehop_result_t onehop_comm_abort(onehop_comm_t *comm);

/*
 * Stores in *error what has broken the communicator, or ONEHOP_SUCCESS; also notices, without waiting, that a peer has
 * died.  onehop_last_error() holds the text if it is broken.  Any thread.  Errors: INVALID_ARGUMENT.
 */
ONEHOP_API onehop_result_t onehop_comm_get_async_error(onehop_comm_t *comm, onehop_result_t *error);

/*
 * Frees the communicator, its registrations and what onehop_alloc gave.  Not collective: never waits for peers, who
 * get ONEHOP_PEER_LOST if they still need this rank; on a GPU it waits for what was launched there, which none keeps
 * waiting beyond the timeout.  NULL is allowed.  Errors: none but INVALID_ARGUMENT (another
 * thread is inside a call).
 */
ONEHOP_API onehop_result_t onehop_comm_destroy(onehop_comm_t *comm);

/*
 * Memory that can be registered, `bytes` (> 0) long and aligned to a page, zeroed.  Lives until onehop_free or
 * onehop_comm_destroy.  onehop_free takes what onehop_alloc gave, once it is deregistered; NULL is allowed.
 * Not collective.  Errors: INVALID_ARGUMENT, OUT_OF_MEMORY, SYSTEM_ERROR.
 */
ONEHOP_API onehop_result_t onehop_alloc(onehop_comm_t *comm, size_t bytes, void **ptr);
ONEHOP_API onehop_result_t onehop_free(onehop_comm_t *comm, void *ptr);

/*
 * Lets the peers read and write [ptr, ptr+bytes) directly: all-reduces whose sendbuf and recvbuf lie in registered
 * memory on every rank need no copies.  Collective; each rank gives its own buffer, of any length.
 *
 * On the host the memory must be shared: from onehop_alloc, or a mapping (MAP_SHARED, read and write) of a memfd or
 * file of which the caller keeps a descriptor open during the call.  A mapping must not be unmapped, and its file not
 * shortened, before onehop_deregister.  The whole of it becomes readable and writable by the peers.
 *
 * On a GPU any memory of its own will do: of onehop_alloc, cudaMalloc, a part of it, or ranges of mapped memory
 * (cuMemMap, PyTorch's expandable segments), each rank its own kind. It must not be freed or unmapped before
 * onehop_deregister. What the driver cannot share (memory of cudaMallocAsync, managed memory) is registered as well,
 * and its messages go through the workspace. Only the algorithms that work on plain data use registered buffers
 * (one_shot_pull, two_shot_pull, two_shot_bulk); a captured operation that does so goes through the workspace once the
 * buffer is no longer registered, and touches no memory of peers. At most 1024 buffers are registered at once.
 *
 * A rank whose buffer will not do makes the call fail on all ranks, and the communicator stays usable.
 * onehop_deregister takes the same ptr, is collective, and waits for the peers, who may still read it; on a GPU, until
 * all that was launched has ended.
 * Errors: INVALID_ARGUMENT, UNSUPPORTED, OUT_OF_MEMORY, SYSTEM_ERROR, TIMEOUT, PEER_LOST, MISMATCH, ABORTED.
 */
ONEHOP_API onehop_result_t onehop_register(onehop_comm_t *comm, void *ptr, size_t bytes);
ONEHOP_API onehop_result_t onehop_deregister(onehop_comm_t *comm, void *ptr);

/*
 * After a capture into a CUDA graph: exchanges what it used.  Collective.  There is nothing to exchange yet, for
 * captured operations tell their peers where their buffers lie when they run, and it returns at once; programs that
 * call it after each capture are ready for what may come.  Errors: INVALID_ARGUMENT, and what broke the communicator.
 */
ONEHOP_API onehop_result_t onehop_graph_register(onehop_comm_t *comm);

/* What a communicator is.  Set size to sizeof before the call; strings live as long as the communicator. */
typedef struct onehop_comm_info {
    size_t size;
    int rank, nranks;
    onehop_device_t device;
    int device_index;        /* GPU number; -1 on the host */
    size_t workspace_bytes;  /* shared memory that this rank gave, all parts together */
    size_t control_bytes;    /* of it: flags and headers */
    size_t staging_bytes;    /* of it: inputs and results on their way */
    const char *simd;        /* host: instruction set of the reductions */
    int cpus;                /* host: processors that the ranks together may run on */
    double signal_ns;        /* time of a one-way signal between ranks, as last measured; 0: not measured */
    const char *placement;   /* host: "near", "far" or "oversubscribed", from the two lines above */
    uint64_t operations;     /* all-reduces begun */
    const char *device_name; /* GPU: its name */
    const char *memory;      /* GPU: how the ranks share memory, "vmm" or "ipc" */
    double compile_ms;       /* GPU: what finding or compiling kernels has cost so far */
    const char *tuning;      /* which tuning table is in force; and why not the file in the usual place, if that is
                                refused */
    const char *links;       /* GPU: what joins the ranks' GPUs, "nvlink" or "pcie" */
} onehop_comm_info_t;
ONEHOP_API onehop_result_t onehop_comm_get_info(const onehop_comm_t *comm, onehop_comm_info_t *info);

/* What this rank knows of another. */
typedef struct onehop_peer_info {
    size_t size;
    int pid;       /* as seen from this process */
    int numa_node; /* of the processors it may run on; -1: several, or unknown */
    int cpus;      /* how many processors it may run on */
} onehop_peer_info_t;
ONEHOP_API onehop_result_t onehop_comm_get_peer(const onehop_comm_t *comm, int rank, onehop_peer_info_t *info);

/* What onehop_all_reduce would do, and why. */
typedef struct onehop_choice {
    size_t size;
    const char *algorithm; /* a static string */
    size_t chunk_bytes;    /* the message is cut into pieces of this size; the message's size if it is not cut */
    int blocks, threads;   /* of a GPU kernel; 0 on the host */
    char reason[160];
    int packets, steps; /* of a GPU kernel: packets of a thread in one step, steps of every block; 0 on the host */
    int stream;         /* host: whether results are stored around the cache */
} onehop_choice_t;
/* registered: whether sendbuf and recvbuf are registered on all ranks.  Errors: INVALID_ARGUMENT. */
ONEHOP_API onehop_result_t onehop_comm_explain(const onehop_comm_t *comm, size_t count, onehop_dtype_t dtype,
                                               onehop_op_t op, int registered, onehop_choice_t *choice);

/* Names of the algorithms of a device: index 0, 1, ... until NULL.  Static strings. */
ONEHOP_API const char *onehop_algorithm_name(onehop_device_t device, int index);
ONEHOP_API const char *onehop_algorithm_description(onehop_device_t device, int index);

/* "float32", "sum", "host", ...; NULL for a value that is none. */
ONEHOP_API const char *onehop_dtype_string(onehop_dtype_t dtype);
ONEHOP_API const char *onehop_op_string(onehop_op_t op);
ONEHOP_API const char *onehop_device_string(onehop_device_t device);
/* Bytes of one element; 0 for a value that is no type. */
ONEHOP_API size_t onehop_dtype_size(onehop_dtype_t dtype);

/* A result in a few words; never NULL. */
ONEHOP_API const char *onehop_result_string(onehop_result_t result);
/* What went wrong in the last failing call of this thread; "" if none has.  Valid until this thread's next call. */
ONEHOP_API const char *onehop_last_error(void);
/* "0.1.0". */
ONEHOP_API const char *onehop_version(void);

#ifdef __cplusplus
}
#endif

#endif /* ONEHOP_H */
