/* SPDX-License-Identifier: Apache-2.0 */
/* All inline assembly of the kernels. Names say what the PTX memory model calls them. */
#ifndef OH_KERNELS_ASM_H
#define OH_KERNELS_ASM_H

#define OH_DEVICE   static __device__ __forceinline__
#define OH_FUNCTION static __device__ __noinline__ /* what is rarely run, and is not to be compiled many times */

typedef unsigned int oh_u32;
typedef unsigned long long oh_u64;

/* 16 bytes as four words, the first at the lowest address. */
typedef struct __align__(16) oh_packet {
    oh_u32 word[4];
}
oh_packet_t;

/* One access of 128 bits: seen whole or not at all. */
OH_DEVICE oh_packet_t oh_ld_relaxed_sys_packet(const unsigned char *from) {
    oh_u64 low, high;
    asm volatile("{\n\t.reg .b128 v;\n\tld.relaxed.sys.global.b128 v, [%2];\n\tmov.b128 {%0, %1}, v;\n\t}"
                 : "=l"(low), "=l"(high)
                 : "l"(from));
    return oh_packet_t{{(oh_u32)low, (oh_u32)(low >> 32), (oh_u32)high, (oh_u32)(high >> 32)}};
}

OH_DEVICE oh_packet_t oh_ld_acquire_sys_packet(const unsigned char *from) {
    oh_u64 low, high;
    asm volatile("{\n\t.reg .b128 v;\n\tld.acquire.sys.global.b128 v, [%2];\n\tmov.b128 {%0, %1}, v;\n\t}"
                 : "=l"(low), "=l"(high)
                 : "l"(from)
                 : "memory");
    return oh_packet_t{{(oh_u32)low, (oh_u32)(low >> 32), (oh_u32)high, (oh_u32)(high >> 32)}};
}

OH_DEVICE void oh_st_relaxed_sys_packet(unsigned char *to, oh_packet_t packet) {
    oh_u64 low = packet.word[0] | (oh_u64)packet.word[1] << 32, high = packet.word[2] | (oh_u64)packet.word[3] << 32;
    asm volatile("{\n\t.reg .b128 v;\n\tmov.b128 v, {%1, %2};\n\tst.relaxed.sys.global.b128 [%0], v;\n\t}" ::"l"(to),
                 "l"(low), "l"(high));
}

OH_DEVICE oh_u32 oh_ld_acquire_sys(const void *from) {
    oh_u32 value;
    asm volatile("ld.acquire.sys.global.u32 %0, [%1];" : "=r"(value) : "l"(from) : "memory");
    return value;
}

OH_DEVICE oh_u32 oh_ld_relaxed_sys(const void *from) {
    oh_u32 value;
    asm volatile("ld.relaxed.sys.global.u32 %0, [%1];" : "=r"(value) : "l"(from));
    return value;
}

OH_DEVICE void oh_st_relaxed_sys(void *to, oh_u32 value) {
    asm volatile("st.relaxed.sys.global.u32 [%0], %1;" ::"l"(to), "r"(value) : "memory");
}

OH_DEVICE void oh_st_relaxed_sys_u64(void *to, oh_u64 value) {
    asm volatile("st.relaxed.sys.global.u64 [%0], %1;" ::"l"(to), "l"(value) : "memory");
}

OH_DEVICE oh_u64 oh_ld_relaxed_gpu_u64(const void *from) {
    oh_u64 value;
    asm volatile("ld.relaxed.gpu.global.u64 %0, [%1];" : "=l"(value) : "l"(from));
    return value;
}

OH_DEVICE void oh_st_relaxed_gpu_u64(void *to, oh_u64 value) {
    asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::"l"(to), "l"(value) : "memory");
}

/* What lies at an address of global memory, which the compiler then knows to be there. */
OH_DEVICE unsigned char *oh_global(oh_u64 address) { return (unsigned char *)__cvta_global_to_generic(address); }

OH_DEVICE void oh_fence_sys(void) { asm volatile("fence.acq_rel.sys;" ::: "memory"); }
OH_DEVICE void oh_fence_gpu(void) { asm volatile("fence.acq_rel.gpu;" ::: "memory"); }

/* A count in shared memory: who adds releases, who reads acquires. */
OH_DEVICE void oh_add_release_block(oh_u32 *count, oh_u32 value) {
    const oh_u32 at = (oh_u32)__cvta_generic_to_shared(count);
    asm volatile("red.release.cta.shared.add.u32 [%0], %1;" ::"r"(at), "r"(value) : "memory");
}
OH_DEVICE void oh_or_release_block(oh_u32 *count, oh_u32 value) {
    const oh_u32 at = (oh_u32)__cvta_generic_to_shared(count);
    asm volatile("red.release.cta.shared.or.b32 [%0], %1;" ::"r"(at), "r"(value) : "memory");
}
OH_DEVICE oh_u32 oh_ld_acquire_block(const oh_u32 *count) {
    oh_u32 value;
    const oh_u32 at = (oh_u32)__cvta_generic_to_shared(count);
    asm volatile("ld.acquire.cta.shared.u32 %0, [%1];" : "=r"(value) : "r"(at) : "memory");
    return value;
}

/*
 * Says that this thread has come so far, without waiting; and waits until all threads of the block have said so or wait
 * here too, which sees what those wrote before. Once in a kernel.
 */
OH_DEVICE void oh_arrive(void) { asm volatile("barrier.cta.arrive 1, %0;" ::"r"(blockDim.x) : "memory"); }
OH_DEVICE void oh_wait_for_arrivals(void) { asm volatile("barrier.cta.sync 1, %0;" ::"r"(blockDim.x) : "memory"); }

OH_DEVICE oh_u64 oh_global_ns(void) {
    oh_u64 now;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
    return now;
}

/* Programmatic dependent launch, from sm_90 on: the next kernel of the stream may be started; and the previous one has
 * ended, and what it wrote is seen. */
OH_DEVICE void oh_launch_dependents(void) {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
OH_DEVICE void oh_wait_for_previous(void) {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/* A hint that this will be read. */
OH_DEVICE void oh_prefetch(const void *from) { asm volatile("prefetch.global.L2 [%0];" ::"l"(from)); }

/* 16-bit floats: to fp32, and two fp32 to a word, to nearest even. */
OH_DEVICE float oh_half_to_float(oh_u32 bits) {
    float value;
    asm("{\n\t.reg .b16 h;\n\tcvt.u16.u32 h, %1;\n\tcvt.f32.f16 %0, h;\n\t}" : "=f"(value) : "r"(bits));
    return value;
}
OH_DEVICE oh_u32 oh_pack_half(float low, float high) {
    oh_u32 word;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
    return word;
}
OH_DEVICE oh_u32 oh_pack_bfloat16(float low, float high) {
    oh_u32 word;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
    return word;
}
/* Two sums at once, each rounded once; sm_80 has no other addition of two bf16. */
OH_DEVICE oh_u32 oh_add_halves(oh_u32 x, oh_u32 y) {
    oh_u32 sum;
    asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(sum) : "r"(x), "r"(0x3c003c00), "r"(y));
    return sum;
}
OH_DEVICE oh_u32 oh_add_bfloat16s(oh_u32 x, oh_u32 y) {
    oh_u32 sum;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(sum) : "r"(x), "r"(0x3f803f80), "r"(y));
    return sum;
}

#endif
