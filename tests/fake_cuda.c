/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_cuda.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { INSIDE = 768, HANDLE_BASE = 100000 }; /* where cuMemAlloc begins in an allocation; handles are no descriptors */

struct CUctx_st {
    int gpu;
};
struct CUstream_st {
    unsigned char *base;
    size_t bytes;
    unsigned char value;
};

static fake_cuda_t fake = {.mutex = PTHREAD_MUTEX_INITIALIZER};
static struct CUctx_st contexts[FAKE_GPUS];
static _Thread_local struct {
    int rank, calls, depth;
    CUcontext stack[4];
} self;

static int here(void) { return self.stack[self.depth]->gpu; }

/* Whether this is the call that fails. */
static bool refused(const char *name) {
    int number = ++self.calls;
    if (self.rank != fake.fail_rank) return false;
    bool chosen = fake.fail_name != NULL ? strcmp(fake.fail_name, name) == 0 : number == fake.fail_number;
    if (fake.fail_on && number > fake.fail_number) chosen = true;
    if (chosen) fake.failed = true;
    return chosen;
}

#define MAY_FAIL(name)                                                                                                 \
    do {                                                                                                               \
        if (refused(name)) return fake.fail_code;                                                                      \
    } while (0)

static CUresult misuse(const char *what) {
    pthread_mutex_lock(&fake.mutex);
    fake.misuses++;
    fake.misuse = what;
    pthread_mutex_unlock(&fake.mutex);
    return CUDA_ERROR_INVALID_VALUE;
}

static void count(int *counter, int by) {
    pthread_mutex_lock(&fake.mutex);
    *counter += by;
    pthread_mutex_unlock(&fake.mutex);
}

/* ---- pieces ---- */

static void add_piece(fake_piece_t piece) {
    pthread_mutex_lock(&fake.mutex);
    int i = 0;
    while (i < FAKE_PIECES - 1 && fake.pieces[i].state != FREE) i++;
    piece.rank = self.rank;
    fake.pieces[i] = piece;
    pthread_mutex_unlock(&fake.mutex);
}

/* The piece that holds `address`; NULL if there is none. Others may change it only if they misuse the driver. */
static fake_piece_t *find_piece(CUdeviceptr address) {
    fake_piece_t *found = NULL;
    pthread_mutex_lock(&fake.mutex);
    for (int i = 0; i < FAKE_PIECES; i++) {
        fake_piece_t *p = &fake.pieces[i];
        uintptr_t base = (uintptr_t)p->base;
        if (p->state != FREE && address >= base && address < base + p->bytes) found = p;
    }
    pthread_mutex_unlock(&fake.mutex);
    return found;
}

/* The piece that begins there, as long as that and in that state. */
static fake_piece_t *exact_piece(CUdeviceptr address, size_t bytes, int state) {
    fake_piece_t *p = find_piece(address);
    bool right = p != NULL && (uintptr_t)p->base == address && p->bytes == bytes && (int)p->state == state;
    return right ? p : NULL;
}

static void set_state(fake_piece_t *p, int state) {
    pthread_mutex_lock(&fake.mutex);
    p->state = (__typeof__(p->state))state;
    pthread_mutex_unlock(&fake.mutex);
}

/* Forgotten before it is unmapped: the kernel may give its addresses to another thread at once. */
static void remove_piece(fake_piece_t *p) {
    fake_piece_t gone = *p;
    set_state(p, FREE);
    munmap(gone.base, gone.bytes);
    if (gone.state == ALLOCATED) close(gone.fd);
}

static int new_memory(size_t bytes) {
    int fd = memfd_create("fake-gpu", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, (off_t)bytes) != 0) abort();
    void *garbage = mmap(NULL, bytes, PROT_WRITE, MAP_SHARED, fd, 0);
    if (garbage == MAP_FAILED) abort();
    memset(garbage, 0xa5, bytes);
    munmap(garbage, bytes);
    return fd;
}

static unsigned char *map_memory(int fd, size_t bytes) {
    void *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED) abort();
    return base;
}

/* ---- devices ---- */

static CUresult get_error_name(CUresult error, const char **name) {
    *name = error == CUDA_ERROR_OUT_OF_MEMORY    ? "CUDA_ERROR_OUT_OF_MEMORY"
            : error == CUDA_ERROR_NOT_SUPPORTED  ? "CUDA_ERROR_NOT_SUPPORTED"
            : error == CUDA_ERROR_INVALID_DEVICE ? "CUDA_ERROR_INVALID_DEVICE"
                                                 : "CUDA_ERROR_UNKNOWN";
    return CUDA_SUCCESS;
}
static CUresult get_error_string(CUresult error, const char **text) {
    (void)error;
    *text = "as the test wants it";
    return CUDA_SUCCESS;
}

static CUresult device_get_count(int *number) {
    MAY_FAIL("cuDeviceGetCount");
    *number = 0;
    for (int g = 0; g < FAKE_GPUS; g++) *number += !fake.gpus[g].hidden[self.rank];
    return CUDA_SUCCESS;
}

static CUresult device_get(CUdevice *device, int ordinal) {
    MAY_FAIL("cuDeviceGet");
    for (int g = 0; g < FAKE_GPUS; g++) {
        if (fake.gpus[g].hidden[self.rank] || ordinal-- > 0) continue;
        *device = g;
        return CUDA_SUCCESS;
    }
    return CUDA_ERROR_INVALID_DEVICE;
}

static CUresult device_get_uuid(CUuuid *uuid, CUdevice device) {
    MAY_FAIL("cuDeviceGetUuid");
    memset(uuid, 0, sizeof *uuid);
    uuid->bytes[15] = (char)(device + 1);
    return CUDA_SUCCESS;
}

static CUresult device_get_name(char *name, int length, CUdevice device) {
    MAY_FAIL("cuDeviceGetName");
    (void)device;
    snprintf(name, (size_t)length, "Fake");
    return CUDA_SUCCESS;
}

static CUresult device_get_pci(char *id, int length, CUdevice device) {
    MAY_FAIL("cuDeviceGetPCIBusId");
    snprintf(id, (size_t)length, "0000:%02x:00.0", 16 + device);
    return CUDA_SUCCESS;
}

static CUresult device_get_attribute(int *value, CUdevice_attribute attribute, CUdevice device) {
    MAY_FAIL("cuDeviceGetAttribute");
    const fake_gpu_t *gpu = &fake.gpus[device];
    switch (attribute) {
    case CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED: *value = !gpu->no_vmm; break;
    case CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED: *value = !gpu->no_descriptors; break;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: *value = gpu->major; break;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: *value = gpu->minor; break;
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: *value = gpu->multiprocessors; break;
    default: return misuse("an attribute that the fake does not know");
    }
    return CUDA_SUCCESS;
}

static CUresult can_access_peer(int *can, CUdevice device, CUdevice peer) {
    MAY_FAIL("cuDeviceCanAccessPeer");
    if (peer < 0) return misuse("no GPU");
    *can = device != peer && !fake.gpus[device].no_access[peer];
    return CUDA_SUCCESS;
}

static CUresult retain_primary(CUcontext *context, CUdevice device) {
    MAY_FAIL("cuDevicePrimaryCtxRetain");
    count(&fake.contexts, 1);
    *context = &contexts[device];
    return CUDA_SUCCESS;
}

static CUresult release_primary(CUdevice device) {
    (void)device;
    count(&fake.contexts, -1);
    return CUDA_SUCCESS;
}

static CUresult push_current(CUcontext context) {
    self.stack[++self.depth] = context;
    return CUDA_SUCCESS;
}

static CUresult pop_current(CUcontext *context) {
    *context = self.stack[self.depth--];
    return CUDA_SUCCESS;
}

static CUresult enable_peer(CUcontext peer, unsigned int flags) {
    MAY_FAIL("cuCtxEnablePeerAccess");
    int from = here(), to = peer->gpu;
    if (from == to || flags != 0) return CUDA_ERROR_INVALID_DEVICE;
    if (fake.gpus[from].no_access[to]) return CUDA_ERROR_PEER_ACCESS_UNSUPPORTED;
    pthread_mutex_lock(&fake.mutex);
    bool already = fake.enabled[from][to];
    fake.enabled[from][to] = true;
    pthread_mutex_unlock(&fake.mutex);
    return already ? CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED : CUDA_SUCCESS;
}

/* ---- streams ---- */

static CUresult stream_create(CUstream *stream, unsigned int flags) {
    MAY_FAIL("cuStreamCreate");
    if (flags != CU_STREAM_NON_BLOCKING) return misuse("a stream that waits for others");
    *stream = calloc(1, sizeof **stream);
    count(&fake.streams, 1);
    return CUDA_SUCCESS;
}

static CUresult stream_synchronize(CUstream stream) {
    MAY_FAIL("cuStreamSynchronize");
    memset(stream->base, stream->value, stream->bytes);
    stream->bytes = 0;
    return CUDA_SUCCESS;
}

static CUresult stream_destroy(CUstream stream) {
    free(stream);
    count(&fake.streams, -1);
    return CUDA_SUCCESS;
}

static CUresult set_bytes(CUdeviceptr address, unsigned char value, size_t bytes, CUstream stream) {
    MAY_FAIL("cuMemsetD8Async");
    const fake_piece_t *p = find_piece(address);
    if (p == NULL || p->state < ACCESSIBLE) return misuse("memset where no memory is");
    if ((uintptr_t)p->base + p->bytes < address + bytes) return misuse("memset beyond the end");
    *stream = (struct CUstream_st){.base = (unsigned char *)(uintptr_t)address, .bytes = bytes, .value = value};
    return CUDA_SUCCESS;
}

/* ---- memory of cuMemAlloc ---- */

static CUresult allocate(CUdeviceptr *address, size_t bytes) {
    MAY_FAIL("cuMemAlloc");
    size_t whole = bytes + INSIDE;
    int fd = new_memory(whole);
    fake_piece_t piece = {.base = map_memory(fd, whole), .bytes = whole, .state = ALLOCATED, .fd = fd};
    add_piece(piece);
    *address = (uintptr_t)piece.base + INSIDE;
    return CUDA_SUCCESS;
}

static CUresult release_allocation(CUdeviceptr address) {
    fake_piece_t *p = find_piece(address);
    if (p == NULL || p->state != ALLOCATED || (uintptr_t)p->base + INSIDE != address) return misuse("cuMemFree");
    remove_piece(p);
    return CUDA_SUCCESS;
}

static CUresult address_range(CUdeviceptr *base, size_t *bytes, CUdeviceptr address) {
    MAY_FAIL("cuMemGetAddressRange");
    const fake_piece_t *p = find_piece(address);
    if (p == NULL) return misuse("cuMemGetAddressRange");
    *base = (uintptr_t)p->base;
    *bytes = p->bytes;
    return CUDA_SUCCESS;
}

typedef struct fake_handle {
    int fd, rank;
    size_t bytes;
} fake_handle_t;

static CUresult ipc_get(CUipcMemHandle *handle, CUdeviceptr address) {
    MAY_FAIL("cuIpcGetMemHandle");
    const fake_piece_t *p = find_piece(address);
    if (p == NULL || p->state != ALLOCATED) return misuse("cuIpcGetMemHandle");
    fake_handle_t h = {.fd = p->fd, .rank = self.rank, .bytes = p->bytes};
    memcpy(handle->reserved, &h, sizeof h);
    return CUDA_SUCCESS;
}

static CUresult ipc_open(CUdeviceptr *address, CUipcMemHandle handle, unsigned int flags) {
    MAY_FAIL("cuIpcOpenMemHandle");
    fake_handle_t h;
    memcpy(&h, handle.reserved, sizeof h);
    if (!fake.processes || h.rank == self.rank) return misuse("a process opens its own handle");
    if (flags != CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS) return misuse("flags of cuIpcOpenMemHandle");
    fake_piece_t piece = {.base = map_memory(h.fd, h.bytes), .bytes = h.bytes, .state = OPENED};
    add_piece(piece);
    *address = (uintptr_t)piece.base;
    return CUDA_SUCCESS;
}

static CUresult ipc_close(CUdeviceptr address) {
    fake_piece_t *p = find_piece(address);
    if (p == NULL || p->state != OPENED || p->rank != self.rank || (uintptr_t)p->base != address) {
        return misuse("cuIpcCloseMemHandle");
    }
    remove_piece(p);
    return CUDA_SUCCESS;
}

/* ---- virtual memory ---- */

static CUmemGenericAllocationHandle new_handle(int fd) {
    count(&fake.handles, 1);
    return (CUmemGenericAllocationHandle)fd + HANDLE_BASE;
}
static int fd_of(CUmemGenericAllocationHandle handle) { return (int)(handle - HANDLE_BASE); }

static bool right_properties(const CUmemAllocationProp *p) {
    return p->type == CU_MEM_ALLOCATION_TYPE_PINNED && p->location.type == CU_MEM_LOCATION_TYPE_DEVICE &&
           p->location.id == here() && p->requestedHandleTypes == CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
}

static CUresult granularity(size_t *bytes, const CUmemAllocationProp *p, CUmemAllocationGranularity_flags option) {
    MAY_FAIL("cuMemGetAllocationGranularity");
    (void)option;
    if (!right_properties(p)) return misuse("properties of cuMemGetAllocationGranularity");
    *bytes = fake.gpus[here()].granularity;
    return CUDA_SUCCESS;
}

static CUresult create(CUmemGenericAllocationHandle *handle, size_t bytes, const CUmemAllocationProp *p,
                       unsigned long long flags) {
    MAY_FAIL("cuMemCreate");
    if (!right_properties(p) || flags != 0) return misuse("properties of cuMemCreate");
    if (bytes == 0 || bytes % fake.gpus[here()].granularity != 0) return misuse("cuMemCreate of an odd size");
    *handle = new_handle(new_memory(bytes));
    return CUDA_SUCCESS;
}

static CUresult release_handle(CUmemGenericAllocationHandle handle) {
    if (close(fd_of(handle)) != 0) return misuse("cuMemRelease");
    count(&fake.handles, -1);
    return CUDA_SUCCESS;
}

static CUresult export_handle(void *out, CUmemGenericAllocationHandle handle, CUmemAllocationHandleType type,
                              unsigned long long flags) {
    MAY_FAIL("cuMemExportToShareableHandle");
    if (type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR || flags != 0) return misuse("cuMemExportToShareableHandle");
    int fd = fcntl(fd_of(handle), F_DUPFD_CLOEXEC, 0);
    memcpy(out, &fd, sizeof fd);
    return CUDA_SUCCESS;
}

static CUresult import_handle(CUmemGenericAllocationHandle *handle, void *in, CUmemAllocationHandleType type) {
    MAY_FAIL("cuMemImportFromShareableHandle");
    int fd = fcntl((int)(intptr_t)in, F_DUPFD_CLOEXEC, 0);
    if (fd < 0 || type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR) return misuse("cuMemImportFromShareableHandle");
    *handle = new_handle(fd);
    return CUDA_SUCCESS;
}

static CUresult reserve(CUdeviceptr *address, size_t bytes, size_t alignment, CUdeviceptr wish,
                        unsigned long long flags) {
    MAY_FAIL("cuMemAddressReserve");
    if (bytes % FAKE_GRANULARITY != 0 || alignment != 0 || wish != 0 || flags != 0) return misuse("reserve");
    void *base = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) abort();
    add_piece((fake_piece_t){.base = base, .bytes = bytes, .state = RESERVED});
    *address = (uintptr_t)base;
    return CUDA_SUCCESS;
}

static CUresult free_addresses(CUdeviceptr address, size_t bytes) {
    fake_piece_t *p = exact_piece(address, bytes, RESERVED);
    if (p == NULL) return misuse("cuMemAddressFree");
    remove_piece(p);
    return CUDA_SUCCESS;
}

static CUresult map(CUdeviceptr address, size_t bytes, size_t offset, CUmemGenericAllocationHandle handle,
                    unsigned long long flags) {
    MAY_FAIL("cuMemMap");
    fake_piece_t *p = exact_piece(address, bytes, RESERVED);
    struct stat status;
    bool whole = fstat(fd_of(handle), &status) == 0 && (size_t)status.st_size == bytes;
    if (p == NULL || !whole || offset != 0 || flags != 0) return misuse("cuMemMap");
    if (mmap(p->base, bytes, PROT_NONE, MAP_SHARED | MAP_FIXED, fd_of(handle), 0) == MAP_FAILED) abort();
    set_state(p, MAPPED);
    return CUDA_SUCCESS;
}

static CUresult unmap(CUdeviceptr address, size_t bytes) {
    fake_piece_t *p = exact_piece(address, bytes, ACCESSIBLE);
    if (p == NULL) p = exact_piece(address, bytes, MAPPED);
    if (p == NULL) return misuse("cuMemUnmap");
    if (mmap(p->base, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED) abort();
    set_state(p, RESERVED);
    return CUDA_SUCCESS;
}

static CUresult set_access(CUdeviceptr address, size_t bytes, const CUmemAccessDesc *access, size_t number) {
    MAY_FAIL("cuMemSetAccess");
    fake_piece_t *p = exact_piece(address, bytes, MAPPED);
    bool right = number == 1 && access->location.type == CU_MEM_LOCATION_TYPE_DEVICE && access->location.id == here() &&
                 access->flags == CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
    if (p == NULL || !right) return misuse("cuMemSetAccess");
    if (mprotect(p->base, bytes, PROT_READ | PROT_WRITE) != 0) abort();
    set_state(p, ACCESSIBLE);
    return CUDA_SUCCESS;
}

/* ---- the whole ---- */

static const oh_cuda_t driver = {
    .version = 13000,
    .cuGetErrorName = get_error_name,
    .cuGetErrorString = get_error_string,
    .cuDeviceGet = device_get,
    .cuDeviceGetCount = device_get_count,
    .cuDeviceGetName = device_get_name,
    .cuDeviceGetAttribute = device_get_attribute,
    .cuDeviceGetUuid = device_get_uuid,
    .cuDeviceGetPCIBusId = device_get_pci,
    .cuDeviceCanAccessPeer = can_access_peer,
    .cuDevicePrimaryCtxRetain = retain_primary,
    .cuDevicePrimaryCtxRelease = release_primary,
    .cuCtxPushCurrent = push_current,
    .cuCtxPopCurrent = pop_current,
    .cuCtxEnablePeerAccess = enable_peer,
    .cuMemAlloc = allocate,
    .cuMemFree = release_allocation,
    .cuMemsetD8Async = set_bytes,
    .cuMemGetAddressRange = address_range,
    .cuIpcGetMemHandle = ipc_get,
    .cuIpcOpenMemHandle = ipc_open,
    .cuIpcCloseMemHandle = ipc_close,
    .cuMemCreate = create,
    .cuMemRelease = release_handle,
    .cuMemMap = map,
    .cuMemUnmap = unmap,
    .cuMemSetAccess = set_access,
    .cuMemAddressReserve = reserve,
    .cuMemAddressFree = free_addresses,
    .cuMemExportToShareableHandle = export_handle,
    .cuMemImportFromShareableHandle = import_handle,
    .cuMemGetAllocationGranularity = granularity,
    .cuStreamCreate = stream_create,
    .cuStreamDestroy = stream_destroy,
    .cuStreamSynchronize = stream_synchronize,
};

fake_cuda_t *fake_cuda_reset(void) {
    fake = (fake_cuda_t){
        .driver = driver, .mutex = PTHREAD_MUTEX_INITIALIZER, .fail_rank = -1, .fail_code = CUDA_ERROR_UNKNOWN};
    for (int g = 0; g < FAKE_GPUS; g++) {
        contexts[g].gpu = g;
        fake.gpus[g] = (fake_gpu_t){.major = 9, .multiprocessors = 132, .granularity = FAKE_GRANULARITY};
    }
    return &fake;
}

void fake_cuda_enter(int rank, CUdevice gpu) {
    self.rank = rank;
    self.calls = self.depth = 0;
    self.stack[0] = &contexts[gpu];
}

int fake_cuda_alive(void) {
    int alive = fake.handles + fake.streams + fake.contexts;
    for (int i = 0; i < FAKE_PIECES; i++) alive += fake.pieces[i].state != FREE;
    FILE *maps = fopen("/proc/self/maps", "re");
    char line[512];
    while (maps != NULL && fgets(line, sizeof line, maps) != NULL) alive += strstr(line, "fake-gpu") != NULL;
    if (maps != NULL) fclose(maps);
    return alive;
}
