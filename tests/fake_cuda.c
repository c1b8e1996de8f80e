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
    bool spared;
    CUcontext stack[4];
} self;

static int here(void) { return self.stack[self.depth]->gpu; }

/* Whether this is the call that fails. */
static bool refused(const char *name) {
    if (self.spared) return false;
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
    while (i < FAKE_PIECES && fake.pieces[i].state != FREE) i++;
    if (i == FAKE_PIECES) abort();
    piece.rank = self.rank;
    piece.id = ++fake.ids;
    fake.pieces[i] = piece;
    pthread_mutex_unlock(&fake.mutex);
}

/* Others may change it only if they misuse the driver. */
fake_piece_t *fake_cuda_find(CUdeviceptr address) {
    fake_piece_t *found = NULL;
    pthread_mutex_lock(&fake.mutex);
    for (int i = 0; i < FAKE_PIECES; i++) {
        fake_piece_t *p = &fake.pieces[i];
        uintptr_t base = (uintptr_t)p->base;
        if (p->state == FREE || address < base || address >= base + p->bytes) continue;
        if (found == NULL || found->state == RESERVED) found = p;
    }
    pthread_mutex_unlock(&fake.mutex);
    return found;
}

/* The same, if there is memory. */
static fake_piece_t *find_memory(CUdeviceptr address) {
    fake_piece_t *p = fake_cuda_find(address);
    return p == NULL || p->state == RESERVED ? NULL : p;
}

static bool is_mapped(const fake_piece_t *p) { return p != NULL && (p->state == MAPPED || p->state == ACCESSIBLE); }

/* What cuMemMap put exactly there. */
static fake_piece_t *exact_mapping(CUdeviceptr address, size_t bytes) {
    fake_piece_t *p = find_memory(address);
    return is_mapped(p) && (uintptr_t)p->base == address && p->bytes == bytes ? p : NULL;
}

/* This rank's reservation around those addresses, and whether anything in them is mapped. */
static fake_piece_t *find_reservation(CUdeviceptr address, size_t bytes, bool *used) {
    fake_piece_t *found = NULL;
    *used = false;
    pthread_mutex_lock(&fake.mutex);
    for (int i = 0; i < FAKE_PIECES; i++) {
        fake_piece_t *p = &fake.pieces[i];
        uintptr_t base = (uintptr_t)p->base;
        bool around = base <= address && address + bytes <= base + p->bytes;
        if (p->state == RESERVED && p->rank == self.rank && around) found = p;
        if (is_mapped(p) && base < address + bytes && address < base + p->bytes) *used = true;
    }
    pthread_mutex_unlock(&fake.mutex);
    return found;
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

/* What memory is travels with its descriptors, as the mode of the file. */
static int new_memory(size_t bytes, bool exportable) {
    int fd = memfd_create("fake-gpu", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, (off_t)bytes) != 0) abort();
    if (fchmod(fd, (mode_t)(2 * here() + exportable)) != 0) abort();
    void *garbage = mmap(NULL, bytes, PROT_WRITE, MAP_SHARED, fd, 0);
    if (garbage == MAP_FAILED) abort();
    memset(garbage, 0xa5, bytes);
    munmap(garbage, bytes);
    return fd;
}

static struct stat status_of(int fd) {
    struct stat status;
    if (fstat(fd, &status) != 0) abort();
    return status;
}
static int gpu_of(int fd) { return (int)(status_of(fd).st_mode & 0777) / 2; }
static bool is_exportable(int fd) { return (status_of(fd).st_mode & 1) != 0; }

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

static CUresult peer_attribute(int *value, CUdevice_P2PAttribute attribute, CUdevice source, CUdevice target) {
    MAY_FAIL("cuDeviceGetP2PAttribute");
    if (attribute != CU_DEVICE_P2P_ATTRIBUTE_NATIVE_ATOMIC_SUPPORTED) return misuse("cuDeviceGetP2PAttribute");
    if (target < 0 || source == target) return CUDA_ERROR_INVALID_DEVICE;
    *value = !fake.gpus[source].no_atomics[target];
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

/* Memory of the GPU at an address, for so many bytes; NULL if it is not all there. */
static unsigned char *reach(CUdeviceptr address, size_t bytes) {
    const fake_piece_t *p = find_memory(address);
    if (p == NULL || p->state < ACCESSIBLE || (uintptr_t)p->base + p->bytes < address + bytes) return NULL;
    return (unsigned char *)(uintptr_t)address;
}

static CUresult set_bytes(CUdeviceptr address, unsigned char value, size_t bytes, CUstream stream) {
    MAY_FAIL("cuMemsetD8Async");
    unsigned char *memory = reach(address, bytes);
    if (memory == NULL) return misuse("memset where no memory is");
    *stream = (struct CUstream_st){.base = memory, .bytes = bytes, .value = value};
    return CUDA_SUCCESS;
}

/* ---- copies, and what waits ---- */

static CUresult set_bytes_now(CUdeviceptr address, unsigned char value, size_t bytes) {
    MAY_FAIL("cuMemsetD8");
    unsigned char *memory = reach(address, bytes);
    if (memory == NULL) return misuse("memset where no memory is");
    memset(memory, value, bytes);
    return CUDA_SUCCESS;
}

static CUresult copy_up(CUdeviceptr target, const void *source, size_t bytes) {
    MAY_FAIL("cuMemcpyHtoD");
    unsigned char *memory = reach(target, bytes);
    if (memory == NULL) return misuse("a copy to where no memory is");
    memcpy(memory, source, bytes);
    return CUDA_SUCCESS;
}

static CUresult synchronize(void) {
    MAY_FAIL("cuCtxSynchronize");
    count(&fake.synchronized, 1);
    return CUDA_SUCCESS;
}

static CUresult exchange_mode(CUstreamCaptureMode *mode) {
    static _Thread_local CUstreamCaptureMode now = CU_STREAM_CAPTURE_MODE_GLOBAL;
    CUstreamCaptureMode before = now;
    MAY_FAIL("cuThreadExchangeStreamCaptureMode");
    now = *mode;
    *mode = before;
    return CUDA_SUCCESS;
}

/* ---- memory of cuMemAlloc ---- */

CUdeviceptr fake_cuda_allocate(size_t bytes, fake_origin_t origin) {
    size_t whole = bytes + INSIDE;
    int fd = new_memory(whole, false);
    fake_piece_t piece = {.base = map_memory(fd, whole), .bytes = whole, .state = ALLOCATED, .fd = fd};
    piece.gpu = here();
    piece.origin = origin;
    add_piece(piece);
    return (uintptr_t)piece.base + INSIDE;
}

static CUresult allocate(CUdeviceptr *address, size_t bytes) {
    MAY_FAIL("cuMemAlloc");
    *address = fake_cuda_allocate(bytes, FAKE_PLAIN);
    return CUDA_SUCCESS;
}

static CUresult release_allocation(CUdeviceptr address) {
    fake_piece_t *p = find_memory(address);
    if (p == NULL || p->state != ALLOCATED || (uintptr_t)p->base + INSIDE != address) return misuse("cuMemFree");
    remove_piece(p);
    return CUDA_SUCCESS;
}

static CUresult address_range(CUdeviceptr *base, size_t *bytes, CUdeviceptr address) {
    MAY_FAIL("cuMemGetAddressRange");
    const fake_piece_t *p = find_memory(address);
    if (p == NULL) return misuse("cuMemGetAddressRange");
    *base = (uintptr_t)p->base;
    *bytes = p->bytes;
    return CUDA_SUCCESS;
}

/* As many bytes as the driver writes of each. */
static CUresult write_attribute(void *value, CUpointer_attribute attribute, const fake_piece_t *p) {
    bool allocated = p != NULL && p->state == ALLOCATED;
    int type = p == NULL ? 0 : p->origin == FAKE_HOST ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE;
    int gpu = p == NULL ? -2 : p->gpu, handle_types = is_mapped(p) && is_exportable(p->fd);
    bool managed = allocated && p->origin == FAKE_MANAGED, ipc = allocated && p->origin == FAKE_PLAIN;
    const void *pool = allocated && p->origin == FAKE_POOL ? &fake : NULL;
    const void *context = allocated && p->origin != FAKE_POOL ? &contexts[p->gpu] : NULL;
    unsigned long long id = p == NULL ? 0 : p->id;
    switch (attribute) {
    case CU_POINTER_ATTRIBUTE_MEMORY_TYPE: memcpy(value, &type, sizeof type); break;
    case CU_POINTER_ATTRIBUTE_IS_MANAGED: memcpy(value, &managed, sizeof managed); break;
    case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL: memcpy(value, &gpu, sizeof gpu); break;
    case CU_POINTER_ATTRIBUTE_CONTEXT: memcpy(value, &context, sizeof context); break;
    case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE: memcpy(value, &ipc, sizeof ipc); break;
    case CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES: memcpy(value, &handle_types, sizeof handle_types); break;
    case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE: memcpy(value, &pool, sizeof pool); break;
    case CU_POINTER_ATTRIBUTE_BUFFER_ID: memcpy(value, &id, sizeof id); break;
    default: return misuse("an attribute of pointers that the fake does not know");
    }
    return CUDA_SUCCESS;
}

static CUresult pointer_attributes(unsigned int number, CUpointer_attribute *attributes, void **values,
                                   CUdeviceptr address) {
    MAY_FAIL("cuPointerGetAttributes");
    const fake_piece_t *p = find_memory(address);
    for (unsigned int i = 0; i < number; i++) {
        CUresult code = write_attribute(values[i], attributes[i], p);
        if (code != CUDA_SUCCESS) return code;
    }
    return CUDA_SUCCESS;
}

static CUresult pointer_attribute(void *value, CUpointer_attribute attribute, CUdeviceptr address) {
    MAY_FAIL("cuPointerGetAttribute");
    const fake_piece_t *p = find_memory(address);
    if (attribute != CU_POINTER_ATTRIBUTE_MEMORY_BLOCK_ID || !is_mapped(p)) return misuse("cuPointerGetAttribute");
    unsigned long long id = status_of(p->fd).st_ino;
    memcpy(value, &id, sizeof id);
    return CUDA_SUCCESS;
}

typedef struct fake_handle {
    int fd, rank, gpu;
    size_t bytes;
} fake_handle_t;

static CUresult ipc_get(CUipcMemHandle *handle, CUdeviceptr address) {
    MAY_FAIL("cuIpcGetMemHandle");
    const fake_piece_t *p = find_memory(address);
    if (p == NULL || p->state != ALLOCATED || p->origin != FAKE_PLAIN) return misuse("cuIpcGetMemHandle");
    fake_handle_t h = {.fd = p->fd, .rank = self.rank, .gpu = p->gpu, .bytes = p->bytes};
    memset(handle, 0, sizeof *handle);
    memcpy(handle->reserved, &h, sizeof h);
    return CUDA_SUCCESS;
}

static bool is_open(int fd) {
    bool open = false;
    pthread_mutex_lock(&fake.mutex);
    for (int i = 0; i < FAKE_PIECES; i++) {
        const fake_piece_t *p = &fake.pieces[i];
        open |= p->state == OPENED && p->rank == self.rank && p->fd == fd;
    }
    pthread_mutex_unlock(&fake.mutex);
    return open;
}

static CUresult ipc_open(CUdeviceptr *address, CUipcMemHandle handle, unsigned int flags) {
    MAY_FAIL("cuIpcOpenMemHandle");
    fake_handle_t h;
    memcpy(&h, handle.reserved, sizeof h);
    if (!fake.processes || h.rank == self.rank) return misuse("a process opens its own handle");
    if (flags != CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS) return misuse("flags of cuIpcOpenMemHandle");
    if (is_open(h.fd)) return misuse("a process opens a handle twice");
    if (fake.gpus[here()].no_access[h.gpu]) return CUDA_ERROR_PEER_ACCESS_UNSUPPORTED;
    fake_piece_t piece = {.base = map_memory(h.fd, h.bytes), .bytes = h.bytes, .state = OPENED, .fd = h.fd};
    piece.gpu = h.gpu;
    add_piece(piece);
    *address = (uintptr_t)piece.base;
    return CUDA_SUCCESS;
}

static CUresult ipc_close(CUdeviceptr address) {
    fake_piece_t *p = find_memory(address);
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

static bool exportable(const CUmemAllocationProp *p) {
    return p->requestedHandleTypes == CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
}

static bool right_properties(const CUmemAllocationProp *p) {
    if (!exportable(p) && p->requestedHandleTypes != CU_MEM_HANDLE_TYPE_NONE) return false;
    return p->type == CU_MEM_ALLOCATION_TYPE_PINNED && p->location.type == CU_MEM_LOCATION_TYPE_DEVICE &&
           p->location.id == here();
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
    *handle = new_handle(new_memory(bytes, exportable(p)));
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
    if (!is_exportable(fd_of(handle))) return misuse("what was not created to be exported is");
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

static CUresult retain_handle(CUmemGenericAllocationHandle *handle, void *address) {
    MAY_FAIL("cuMemRetainAllocationHandle");
    const fake_piece_t *p = find_memory((uintptr_t)address);
    if (!is_mapped(p)) return misuse("cuMemRetainAllocationHandle");
    *handle = new_handle(fcntl(p->fd, F_DUPFD_CLOEXEC, 0));
    return CUDA_SUCCESS;
}

static CUresult free_addresses(CUdeviceptr address, size_t bytes) {
    bool used;
    fake_piece_t *p = find_reservation(address, bytes, &used);
    if (p == NULL || (uintptr_t)p->base != address || p->bytes != bytes || used) return misuse("cuMemAddressFree");
    remove_piece(p);
    return CUDA_SUCCESS;
}

static CUresult map(CUdeviceptr address, size_t bytes, size_t offset, CUmemGenericAllocationHandle handle,
                    unsigned long long flags) {
    MAY_FAIL("cuMemMap");
    bool used, whole = (size_t)status_of(fd_of(handle)).st_size == bytes;
    const fake_piece_t *p = find_reservation(address, bytes, &used);
    if (p == NULL || used || !whole || offset != 0 || flags != 0) return misuse("cuMemMap");
    void *base = mmap((void *)(uintptr_t)address, bytes, PROT_NONE, MAP_SHARED | MAP_FIXED, fd_of(handle), 0);
    if (base == MAP_FAILED) abort();
    fake_piece_t piece = {
        .base = base, .bytes = bytes, .state = MAPPED, .fd = fcntl(fd_of(handle), F_DUPFD_CLOEXEC, 0)};
    piece.gpu = gpu_of(piece.fd);
    add_piece(piece);
    return CUDA_SUCCESS;
}

static CUresult unmap(CUdeviceptr address, size_t bytes) {
    fake_piece_t *p = exact_mapping(address, bytes);
    if (p == NULL || p->rank != self.rank) return misuse("cuMemUnmap");
    if (mmap(p->base, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED) abort();
    close(p->fd);
    set_state(p, FREE);
    return CUDA_SUCCESS;
}

/* All that is mapped there, side by side. */
static CUresult set_access(CUdeviceptr address, size_t bytes, const CUmemAccessDesc *access, size_t number) {
    MAY_FAIL("cuMemSetAccess");
    bool right = number == 1 && access->location.type == CU_MEM_LOCATION_TYPE_DEVICE && access->location.id == here() &&
                 access->flags == CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
    if (!right) return misuse("cuMemSetAccess");
    for (CUdeviceptr at = address; at < address + bytes;) {
        fake_piece_t *p = find_memory(at);
        if (!is_mapped(p) || (uintptr_t)p->base != at || at + p->bytes > address + bytes)
            return misuse("cuMemSetAccess");
        if (fake.gpus[here()].no_access[p->gpu]) return CUDA_ERROR_PEER_ACCESS_UNSUPPORTED;
        if (mprotect(p->base, p->bytes, PROT_READ | PROT_WRITE) != 0) abort();
        set_state(p, ACCESSIBLE);
        at += p->bytes;
    }
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
    .cuDeviceGetP2PAttribute = peer_attribute,
    .cuDevicePrimaryCtxRetain = retain_primary,
    .cuDevicePrimaryCtxRelease = release_primary,
    .cuCtxPushCurrent = push_current,
    .cuCtxPopCurrent = pop_current,
    .cuCtxEnablePeerAccess = enable_peer,
    .cuMemAlloc = allocate,
    .cuMemFree = release_allocation,
    .cuMemsetD8 = set_bytes_now,
    .cuMemsetD8Async = set_bytes,
    .cuMemcpyHtoD = copy_up,
    .cuCtxSynchronize = synchronize,
    .cuThreadExchangeStreamCaptureMode = exchange_mode,
    .cuMemGetAddressRange = address_range,
    .cuPointerGetAttribute = pointer_attribute,
    .cuPointerGetAttributes = pointer_attributes,
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
    .cuMemRetainAllocationHandle = retain_handle,
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

void fake_cuda_spare(bool spared) { self.spared = spared; }

int fake_cuda_alive(void) {
    int alive = fake.handles + fake.streams + fake.contexts;
    for (int i = 0; i < FAKE_PIECES; i++) alive += fake.pieces[i].state != FREE;
    FILE *maps = fopen("/proc/self/maps", "re");
    char line[512];
    while (maps != NULL && fgets(line, sizeof line, maps) != NULL) alive += strstr(line, "fake-gpu") != NULL;
    if (maps != NULL) fclose(maps);
    return alive;
}
