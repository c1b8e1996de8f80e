/* SPDX-License-Identifier: Apache-2.0 */
#include "on_gpu.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "gpu_state.h"
#include "reduce_reference.h"

/* GUARD: bytes around a result that must stay as they were. */
enum { GUARD = 256, SHIFTS = 16, OUT_OF_THE_WAY = 0xEE };

#define CHECK_GPU(call) CHECK(call, "%s", gpu_error())

/* ---- a rank ---- */

seat_t seat_take(int rank, int nranks) {
    seat_t seat = {.rank = rank, .nranks = nranks, .index = rank};
    doing("open GPU %d", seat.index);
    seat.gpu = gpu_open(seat.index);
    CHECK(seat.gpu != NULL, "GPU %d: %s", seat.index, gpu_error());
    return seat;
}

void seat_join(seat_t *seat, int generation, const onehop_config_t *wish) {
    char name[96];
    team_rendezvous(generation, name, sizeof name);
    onehop_config_t config = ONEHOP_CONFIG_INIT;
    if (wish != NULL) config = *wish;
    config.rank = seat->rank;
    config.nranks = seat->nranks;
    config.device = ONEHOP_DEVICE_CUDA;
    config.device_index = seat->index;
    config.rendezvous = name;
    if (config.timeout_ms == 0) config.timeout_ms = GPU_PLENTY_MS;
    if (config.bootstrap_timeout_ms == 0) config.bootstrap_timeout_ms = GPU_PLENTY_MS;
    doing("create communicator %d as rank %d of %d", generation, seat->rank, seat->nranks);
    CHECK_SUCCESS(onehop_comm_create(&config, &seat->comm));
    CHECK(seat->comm != NULL, "onehop_comm_create stored NULL");
    seat->operations = 0;
}

void seat_leave(seat_t *seat) {
    doing("destroy the communicator");
    CHECK_SUCCESS(onehop_comm_destroy(seat->comm));
    seat->comm = NULL;
}

void seat_give_back(seat_t *seat) {
    doing("give the GPU back");
    gpu_close(seat->gpu);
    seat->gpu = NULL;
}

void seat_check_well(seat_t *seat) {
    onehop_result_t error;
    CHECK_SUCCESS(onehop_comm_get_async_error(seat->comm, &error));
    CHECK(error == ONEHOP_SUCCESS, "the communicator broke: %s", onehop_last_error());
}

void *driver_function(const char *name) {
    void *driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
    CHECK(driver != NULL, "%s", dlerror());
    void *function = dlsym(driver, name);
    CHECK(function != NULL, "the driver has no %s", name);
    dlclose(driver);
    return function;
}

size_t gpu_memory_used(void) {
    typedef CUresult (*mem_get_info_t)(size_t * free, size_t * total);
    size_t left = 0, total = 0;
    mem_get_info_t get = (mem_get_info_t)driver_function("cuMemGetInfo_v2");
    CHECK_CUDA(get(&left, &total));
    return total - left;
}

/* By turns, as others may still read what was decided last. */
bool goes_on(atomic_int on[2], int rank, int round, int64_t end_ns) {
    if (rank == 0) atomic_store(&on[round % 2], now_ns() < end_ns);
    team_barrier();
    return atomic_load(&on[round % 2]) != 0;
}

bool seat_busy(seat_t *seat) {
    CUresult result = seat->gpu->cuda.cuStreamQuery(seat->gpu->stream);
    if (result == CUDA_ERROR_NOT_READY) return true;
    CHECK_GPU(gpu_good(seat->gpu, result, "the stream failed"));
    return false;
}

void seat_settle(seat_t *seat, int64_t ms) {
    int64_t deadline = now_ns() + ms * 1000000;
    while (seat_busy(seat)) {
        CHECK(now_ns() < deadline, "a kernel is still on the GPU after %lld ms", (long long)ms);
        nap_us(50);
    }
    CHECK_GPU(gpu_synchronize(seat->gpu));
}

void seat_check_context(seat_t *seat) {
    enum { BYTES = 1 << 16 };
    unsigned char *back = calloc(1, BYTES), *memory = gpu_alloc(seat->gpu, 2 * BYTES);
    CHECK(back != NULL, "out of memory");
    CHECK_GPU(memory != NULL);
    CHECK_GPU(gpu_fill(seat->gpu, memory, 0x5A, BYTES) && gpu_copy(seat->gpu, memory + BYTES, memory, BYTES) &&
              gpu_download(seat->gpu, back, memory + BYTES, BYTES));
    for (int i = 0; i < BYTES; i++) CHECK(back[i] == 0x5A, "byte %d of a copy is %d", i, back[i]);
    free(back);
    gpu_free(seat->gpu, memory);
}

onehop_result_t seat_await_error(seat_t *seat, int64_t ms) {
    int64_t deadline = now_ns() + ms * 1000000;
    onehop_result_t error = ONEHOP_SUCCESS;
    while (error == ONEHOP_SUCCESS && now_ns() < deadline) {
        CHECK_SUCCESS(onehop_comm_get_async_error(seat->comm, &error));
        if (error == ONEHOP_SUCCESS) nap_us(100);
    }
    return error;
}

/* ---- what is reduced ---- */

/* Small integers: sums of 8 of them are exact in every type. */
static int value_of(int rank, size_t i) { return (int)(mix64(i * ONEHOP_MAX_RANKS + (uint64_t)rank) % 15) - 7; }

static int value_of_all(int nranks, size_t i, onehop_op_t op) {
    int all = value_of(0, i);
    for (int r = 1; r < nranks; r++) {
        int value = value_of(r, i);
        if (op == ONEHOP_SUM) {
            all += value;
        } else if (op == ONEHOP_MIN ? value < all : value > all) {
            all = value;
        }
    }
    return all;
}

image_t image_new(seat_t *seat, onehop_dtype_t dtype, onehop_op_t op, size_t bytes) {
    image_t image = {.dtype = dtype, .op = op, .bytes = bytes};
    doing("prepare %s %s", onehop_dtype_string(dtype), onehop_op_string(op));
    unsigned char *mine = malloc(bytes);
    image.expected = malloc(bytes);
    image.input = gpu_alloc(seat->gpu, bytes);
    CHECK(mine != NULL && image.expected != NULL, "out of memory");
    CHECK_GPU(image.input != NULL);
    for (size_t i = 0; i < bytes / onehop_dtype_size(dtype); i++) {
        reference_set(dtype, mine, i, value_of(seat->rank, i));
        reference_set(dtype, image.expected, i, value_of_all(seat->nranks, i, op));
    }
    CHECK_GPU(gpu_upload(seat->gpu, image.input, mine, bytes));
    free(mine);
    return image;
}

void image_free(seat_t *seat, image_t *image) {
    gpu_free(seat->gpu, image->input);
    free(image->expected);
    *image = (image_t){.bytes = 0};
}

/* ---- one all-reduce ---- */

slot_t slot_new(seat_t *seat, size_t bytes) {
    slot_t slot = {gpu_alloc(seat->gpu, bytes + SHIFTS), gpu_alloc(seat->gpu, bytes + SHIFTS + 2 * GUARD)};
    CHECK_GPU(slot.send != NULL && slot.recv != NULL);
    return slot;
}

void slot_free(seat_t *seat, slot_t *slot) {
    gpu_free(seat->gpu, slot->send);
    gpu_free(seat->gpu, slot->recv);
    *slot = (slot_t){NULL, NULL};
}

call_t call_draw(rng_t *rng, const image_t *images, int count, slot_t slot, size_t bytes) {
    const image_t *image = &images[rng_below(rng, (uint64_t)count)];
    const size_t size = onehop_dtype_size(image->dtype), most = bytes / size;
    call_t call = {.image = image, .slot = slot, .place = (place_t)rng_below(rng, PLACES)};
    uint64_t kind = rng_below(rng, 16);
    call.count = kind == 0 ? 0 : kind == 1 ? most : rng_log_below(rng, most + 1);
    /* Half of them are such that vectors can be used. */
    if (rng_below(rng, 2) == 0) call.count = call.count * size / 256 * 256 / size;
    call.first = rng_below(rng, image->bytes / size - call.count + 1);
    if (rng_below(rng, 2) == 0) call.first = call.first * size / 256 * 256 / size;
    if (rng_below(rng, 4) == 0) call.send_shift = (unsigned)rng_below(rng, SHIFTS);
    if (rng_below(rng, 4) == 0) call.recv_shift = (unsigned)rng_below(rng, SHIFTS);
    return call;
}

static size_t bytes_of(const call_t *call) { return call->count * onehop_dtype_size(call->image->dtype); }

static unsigned char *input_of(const call_t *call) {
    return call->image->input + call->first * onehop_dtype_size(call->image->dtype);
}

static unsigned char *recv_of(const call_t *call) { return call->slot.recv + GUARD + call->recv_shift; }

static unsigned char *send_of(const call_t *call) {
    if (call->place == PLACE_INPUT) return input_of(call);
    return call->place == PLACE_COPY ? call->slot.send + call->send_shift : recv_of(call);
}

static size_t span_of(const call_t *call) { return GUARD + call->recv_shift + bytes_of(call) + GUARD; }

void call_prepare(seat_t *seat, const call_t *call) {
    CHECK_GPU(gpu_fill(seat->gpu, call->slot.recv, OUT_OF_THE_WAY, span_of(call)));
    if (call->place != PLACE_INPUT) CHECK_GPU(gpu_copy(seat->gpu, send_of(call), input_of(call), bytes_of(call)));
}

onehop_result_t call_launch(seat_t *seat, const call_t *call) {
    return onehop_all_reduce(send_of(call), recv_of(call), call->count, call->image->dtype, call->image->op, seat->comm,
                             gpu_stream(seat->gpu));
}

static void check_guard(const call_t *call, const unsigned char *at, size_t bytes, const char *where) {
    for (size_t i = 0; i < bytes; i++) {
        CHECK(at[i] == OUT_OF_THE_WAY, "%zu bytes of %s: a byte %s the result was written", bytes_of(call),
              onehop_dtype_string(call->image->dtype), where);
    }
}

void call_check(seat_t *seat, const call_t *call) {
    const size_t span = span_of(call), bytes = bytes_of(call), before = GUARD + call->recv_shift;
    const size_t size = onehop_dtype_size(call->image->dtype);
    unsigned char *back = malloc(span);
    CHECK(back != NULL, "out of memory");
    CHECK_GPU(gpu_download(seat->gpu, back, call->slot.recv, span));
    check_guard(call, back, before, "before");
    check_guard(call, back + before + bytes, GUARD, "behind");
    const unsigned char *expected = call->image->expected + call->first * size;
    size_t wrong = 0;
    if (memcmp(back + before, expected, bytes) != 0)
        while (back[before + wrong] == expected[wrong]) wrong++;
    CHECK(memcmp(back + before, expected, bytes) == 0,
          "%s %s, %zu elements from %zu, place %d, shifts %u and %u: element %zu (byte %zu) is wrong",
          onehop_dtype_string(call->image->dtype), onehop_op_string(call->image->op), call->count, call->first,
          (int)call->place, call->send_shift, call->recv_shift, wrong / size, wrong);
    free(back);
}

void sweep(seat_t *seat, const image_t *image, size_t bytes) {
    enum { ROW = 4 };
    static const size_t sizes[] = {8,      64,     1000,    4096,    16384,       65536,
                                   100000, 262144, GPU_MIB, 3000000, 4 * GPU_MIB, 8 * GPU_MIB};
    const size_t size = onehop_dtype_size(image->dtype);
    slot_t slots[ROW];
    for (int i = 0; i < ROW; i++) slots[i] = slot_new(seat, bytes);
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes && sizes[s] <= bytes; s++) {
        doing("sweep: %zu bytes of %s", sizes[s], onehop_dtype_string(image->dtype));
        call_t calls[ROW];
        for (int i = 0; i < ROW; i++) {
            calls[i] = (call_t){.image = image, .slot = slots[i], .place = (place_t)(i % PLACES)};
            calls[i].count = sizes[s] / size - (size_t)(i == ROW - 1);
            calls[i].first = i % 2 == 0 ? 0 : (image->bytes - sizes[s]) / size / 2;
            calls[i].recv_shift = i == ROW - 1 ? (unsigned)size : 0;
            call_prepare(seat, &calls[i]);
        }
        for (int i = 0; i < ROW; i++) {
            CHECK_SUCCESS(call_launch(seat, &calls[i]));
            seat->operations += calls[i].count > 0;
        }
        seat_settle(seat, 2 * GPU_PLENTY_MS);
        seat_check_well(seat);
        for (int i = 0; i < ROW; i++) call_check(seat, &calls[i]);
    }
    for (int i = 0; i < ROW; i++) slot_free(seat, &slots[i]);
}
