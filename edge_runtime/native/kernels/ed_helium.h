/* Helium, the vectors of Armv8.1-M (Cortex-M55): what its kernels share. Vectors hold 4 floats; sums of 8-bit products
 * go to a core register (VMLADAV). As on Armv7's NEON subnormal numbers are taken for zero, and nothing is fused. */
#ifndef ED_HELIUM_H
#define ED_HELIUM_H

#include <arm_mve.h>

#include "ed_bare.h"

#define IN_ORDER(a, b) __asm__ volatile("" : "+w"(a), "+w"(b) : : "memory") /* so that few registers do */

typedef float32x4_t vf;

/* Not by vector initialisation, which goes through memory. */
static INLINE int32x4_t vector_of(int32_t a, int32_t b, int32_t c, int32_t d)
{
    int32x4_t v;
    __asm__("vmov %q0[2], %q0[0], %1, %3\n\tvmov %q0[3], %q0[1], %2, %4" : "=&w"(v) : "r"(a), "r"(b), "r"(c), "r"(d));
    return v;
}

/* Bytes at the bottom of the four lanes: rounded to even, saturated. */
static INLINE int32x4_t bytes_of(vf v, int32_t zp)
{
    int32x4_t q = vqaddq_n_s32(vcvtnq_s32_f32(v), zp);
    __asm__("vqmovnb.s32 %q0, %q0\n\tvqmovnb.s16 %q0, %q0" : "+w"(q)); /* in place, as the intrinsics do not */
    return q;
}

static INLINE void store_bytes(int8_t *y, vf v, int32_t zp)
{
    vstrbq_s32(y, bytes_of(v, zp));
}

static INLINE vf load_steps(const int8_t *x, int32_t zp)
{
    return vcvtq_f32_s32(vsubq_n_s32(vldrbq_s32(x), zp));
}

/* A grid as floats see it: its ends, in steps from its zero point. */
typedef struct {
    float low, high;
} grid;

static INLINE grid grid_of(float zp)
{
    grid g;
    g.low = -128.0f - zp, g.high = 127.0f - zp;
    return g;
}

/* The lanes are registers of scalars, whose conversion keeps subnormal halves. */
static INLINE vf halves_of(uint32x4_t halves)
{
    register uint32x4_t v __asm__("q0") = halves;
    __asm__("vcvtb.f32.f16 s0, s0\n\tvcvtb.f32.f16 s1, s1\n\tvcvtb.f32.f16 s2, s2\n\tvcvtb.f32.f16 s3, s3" : "+w"(v));
    return vreinterpretq_f32_u32(v);
}

static INLINE vf load_weights(const void *weights, ptrdiff_t i, const int half)
{
    if (half) return halves_of(vldrhq_u32((const uint16_t *)weights + i));
    return vldrwq_f32((const float *)weights + i);
}

vf ed_helium_tanh(vf x);
vf ed_helium_sigmoid(vf x);

ED_DECLARE_KERNEL(CONV, ed_helium_CONV)
ED_DECLARE_KERNEL(DEPTH, ed_helium_DEPTH)
ED_DECLARE_KERNEL(CONV_I8, ed_helium_CONV_I8)
ED_DECLARE_KERNEL(CONV_I16, ed_helium_CONV_I16)
ED_DECLARE_KERNEL(QUANTIZE_I16, ed_helium_QUANTIZE_I16)
ED_DECLARE_KERNEL(DEPTH_I8, ed_helium_DEPTH_I8)
ED_DECLARE_KERNEL(GRU_CELL, ed_helium_GRU_CELL)
ED_DECLARE_KERNEL(GRU_CELL_I16, ed_helium_GRU_CELL_I16)
ED_DECLARE_KERNEL(BIGRU_I16, ed_helium_BIGRU_I16)
ED_DECLARE_KERNEL(SIGMOID, ed_helium_SIGMOID)
ED_DECLARE_KERNEL(TANH, ed_helium_TANH)
ED_DECLARE_KERNEL(ANALYSIS, ed_helium_ANALYSIS)
ED_DECLARE_KERNEL(SYNTHESIS, ed_helium_SYNTHESIS)
ED_DECLARE_KERNEL(MERGE, ed_helium_MERGE)

#endif
