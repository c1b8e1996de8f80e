/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What src/kernels/asm.h and the compiler offer to kernels, for the emulator: found in its place. Every access to what
 * other threads see is a point at which another may go on.
 */
#ifndef OH_KERNELS_ASM_H
#define OH_KERNELS_ASM_H

#include <cstring>

#include "emulated.h"

#define __device__
#define __global__
#define __forceinline__ inline
#define __noinline__
#define __grid_constant__
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#define __shared__   static __attribute__((section("oh_shared"), used))
#define OH_DEVICE    static inline
#define OH_FUNCTION  static inline

typedef unsigned int oh_u32;
typedef unsigned long long oh_u64;

typedef struct alignas(16) oh_packet {
    oh_u32 word[4];
} oh_packet_t;

template <typename T> static inline T oh_emulated_load(const void *from) {
    T value;
    emulator_yield();
    memcpy(&value, from, sizeof value);
    return value;
}

template <typename T> static inline void oh_emulated_store(void *to, const T &value) {
    emulator_yield();
    memcpy(to, &value, sizeof value);
}

OH_DEVICE oh_packet_t oh_ld_relaxed_sys_packet(const unsigned char *from) {
    return oh_emulated_load<oh_packet_t>(from);
}
OH_DEVICE oh_packet_t oh_ld_acquire_sys_packet(const unsigned char *from) {
    return oh_emulated_load<oh_packet_t>(from);
}
OH_DEVICE void oh_st_relaxed_sys_packet(unsigned char *to, oh_packet_t packet) { oh_emulated_store(to, packet); }
OH_DEVICE oh_u32 oh_ld_acquire_sys(const void *from) { return oh_emulated_load<oh_u32>(from); }
OH_DEVICE oh_u32 oh_ld_relaxed_sys(const void *from) { return oh_emulated_load<oh_u32>(from); }
OH_DEVICE void oh_st_relaxed_sys(void *to, oh_u32 value) { oh_emulated_store(to, value); }
OH_DEVICE void oh_st_relaxed_sys_u64(void *to, oh_u64 value) { oh_emulated_store(to, value); }
OH_DEVICE oh_u64 oh_ld_relaxed_gpu_u64(const void *from) { return oh_emulated_load<oh_u64>(from); }
OH_DEVICE void oh_st_relaxed_gpu_u64(void *to, oh_u64 value) { oh_emulated_store(to, value); }

/* Addresses of shared memory hold only while this block's copy is in place: no yield between. */
OH_DEVICE void oh_add_release_block(oh_u32 *count, oh_u32 value) {
    emulator_yield();
    *count += value;
}
OH_DEVICE void oh_or_release_block(oh_u32 *count, oh_u32 value) {
    emulator_yield();
    *count |= value;
}
OH_DEVICE oh_u32 oh_ld_acquire_block(const oh_u32 *count) {
    emulator_yield();
    return *count;
}

OH_DEVICE unsigned char *oh_global(oh_u64 address) { return (unsigned char *)address; }

OH_DEVICE void oh_fence_sys(void) { emulator_yield(); }
OH_DEVICE void oh_fence_gpu(void) { emulator_yield(); }
OH_DEVICE void oh_prefetch(const void *) {}
OH_DEVICE oh_u64 oh_global_ns(void) { return emulator_ns(); }
OH_DEVICE void oh_launch_dependents(void) { emulator_launch_dependents(); }
OH_DEVICE void oh_wait_for_previous(void) { emulator_wait_for_previous(); }

OH_DEVICE void oh_arrive(void) { emulator_arrive(); }
OH_DEVICE void oh_wait_for_arrivals(void) { emulator_wait_for_arrivals(); }
OH_DEVICE void __syncthreads(void) { emulator_sync_block(); }
OH_DEVICE bool __syncthreads_and(bool vote) { return emulator_sync_block_and(vote); }
OH_DEVICE void __syncwarp(void) { emulator_sync_warp(); }
OH_DEVICE bool __all_sync(oh_u32, bool vote) { return emulator_sync_warp_and(vote); }
OH_DEVICE void __nanosleep(oh_u32) { emulator_yield(); }
OH_DEVICE oh_u32 atomicCAS(oh_u32 *at, oh_u32 expected, oh_u32 value) {
    emulator_yield();
    const oh_u32 old = *at;
    if (old == expected) *at = value;
    return old;
}

template <typename To, typename From> static inline To oh_emulated_cast(From from) {
    To to;
    static_assert(sizeof to == sizeof from, "bits are kept");
    memcpy(&to, &from, sizeof to);
    return to;
}
OH_DEVICE float __uint_as_float(oh_u32 bits) { return oh_emulated_cast<float>(bits); }
OH_DEVICE oh_u32 __float_as_uint(float value) { return oh_emulated_cast<oh_u32>(value); }
OH_DEVICE double __longlong_as_double(long long bits) { return oh_emulated_cast<double>(bits); }
OH_DEVICE long long __double_as_longlong(double value) { return oh_emulated_cast<long long>(value); }
OH_DEVICE oh_u32 __funnelshift_l(oh_u32 low, oh_u32 high, oh_u32 by) { return high << by | low >> (32 - by); }
OH_DEVICE oh_u32 __funnelshift_r(oh_u32 low, oh_u32 high, oh_u32 by) { return low >> by | high << (32 - by); }

/* To nearest even; the tests have no NaN. */
OH_DEVICE oh_u32 oh_emulated_bfloat16(float value) {
    const oh_u32 bits = __float_as_uint(value);
    return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}
OH_DEVICE oh_u32 oh_pack_bfloat16(float low, float high) {
    return oh_emulated_bfloat16(low) | oh_emulated_bfloat16(high) << 16;
}
OH_DEVICE oh_u32 oh_add_bfloat16s(oh_u32 x, oh_u32 y) {
    return oh_pack_bfloat16(__uint_as_float(x << 16) + __uint_as_float(y << 16),
                            __uint_as_float(x & 0xffff0000u) + __uint_as_float(y & 0xffff0000u));
}
#endif
