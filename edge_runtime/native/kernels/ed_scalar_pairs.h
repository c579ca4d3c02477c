/* Two floats at a time, where 32-bit ARM loads, stores and moves as many by one instruction. */
#ifndef ED_SCALAR_PAIRS_H
#define ED_SCALAR_PAIRS_H

#include "ed_block.h"
#include "ed_scalar.h"

static INLINE int16_t short_of(float v)
{
#if defined(ARM_PAIRS) && defined(__ARM_FP)
    int32_t q;
    __asm__("vcvtr.s32.f32 %0, %0" : "+t"(v)); /* saturates */
    memcpy(&q, &v, 4);
    __asm__("ssat %0, #16, %0" : "+r"(q));
    return (int16_t)q;
#else
    v = v > ED_SHORT_LOW ? v < ED_SHORT_HIGH ? v : ED_SHORT_HIGH : ED_SHORT_LOW;
    return (int16_t)((v + 12582912.0f) - 12582912.0f);
#endif
}

#if defined(ARM_PAIRS) && defined(__thumb2__) && defined(__ARM_FP)
#define ARM_DOUBLES 1
typedef double both; /* in a register of 64 bits, which processors without doubles have, too */
typedef double __attribute__((aligned(4), may_alias)) in_memory; /* as it is loaded and stored: at words */

static INLINE both both_of(const float *p)
{
    both b;
    __asm__("vldr.64 %P0, %1" : "=w"(b) : "Uv"(*(const in_memory *)(const void *)p));
    return b;
}

static INLINE both times(const int32_t sum[2], both factor)
{
    both v;
    __asm__("vmov %P0, %1, %2\n\t"
            "vcvt.f32.s32 %0, %0\n\t"
            "vcvt.f32.s32 %p0, %p0\n\t"
            "vmul.f32 %0, %0, %3\n\t"
            "vmul.f32 %p0, %p0, %p3"
            : "=&w"(v)
            : "r"(sum[0]), "r"(sum[1]), "w"(factor));
    return v;
}

static INLINE both product_of(both v, float factor)
{
    __asm__("vmul.f32 %0, %0, %1\n\t"
            "vmul.f32 %p0, %p0, %1"
            : "+w"(v)
            : "t"(factor));
    return v;
}

static INLINE both less(both v, float mean)
{
    __asm__("vsub.f32 %0, %0, %1\n\t"
            "vsub.f32 %p0, %p0, %1"
            : "+w"(v)
            : "t"(mean));
    return v;
}

static INLINE both product(both v, both weight)
{
    __asm__("vmul.f32 %0, %0, %1\n\t"
            "vmul.f32 %p0, %p0, %p1"
            : "+w"(v)
            : "w"(weight));
    return v;
}

static INLINE both plus(both v, both bias)
{
    __asm__("vadd.f32 %0, %0, %1\n\t"
            "vadd.f32 %p0, %p0, %p1"
            : "+w"(v)
            : "w"(bias));
    return v;
}

static INLINE both leaky_of(both v, float slope)
{
    both down;
    __asm__("vmul.f32 %0, %2, %3\n\t"
            "vmul.f32 %p0, %p2, %3\n\t"
#if defined(ARM_FP5)
            "vmaxnm.f32 %1, %1, %0\n\t"
            "vmaxnm.f32 %p1, %p1, %p0"
#else
            "vcmp.f32 %0, %1\n\t"
            "vmrs APSR_nzcv, fpscr\n\t"
            "it gt\n\t"
            "vmovgt.f32 %1, %0\n\t"
            "vcmp.f32 %p0, %p1\n\t"
            "vmrs APSR_nzcv, fpscr\n\t"
            "it gt\n\t"
            "vmovgt.f32 %p1, %p0"
#endif
            : "=&w"(down), "=w"(v)
            : "1"(v), "t"(slope)
            : "cc");
    return v;
}

static INLINE void put_floats(float *y, both v)
{
    __asm__("vstr.64 %P1, %0" : "=Uv"(*(in_memory *)(void *)y) : "w"(v));
}

/* Saturated as a whole number, too. */
static INLINE void put_bytes(int8_t *y, both v, int32_t zp)
{
    int32_t low, high;
    __asm__("vcvtr.s32.f32 %2, %2\n\t"
            "vcvtr.s32.f32 %p2, %p2\n\t"
            "vmov %0, %1, %P2\n\t"
            "qadd %0, %0, %3\n\t"
            "qadd %1, %1, %3\n\t"
            "ssat %0, #8, %0\n\t"
            "ssat %1, #8, %1"
            : "=&r"(low), "=&r"(high), "+w"(v)
            : "r"(zp)
            : "cc");
    y[0] = (int8_t)low, y[1] = (int8_t)high;
}

/* At words. */
static INLINE void put_shorts(int16_t *y, both v)
{
    int32_t low, high;
    __asm__("vcvtr.s32.f32 %2, %2\n\t" /* saturates */
            "vcvtr.s32.f32 %p2, %p2\n\t"
            "vmov %0, %1, %P2\n\t"
            "ssat %0, #16, %0\n\t"
            "ssat %1, #16, %1\n\t"
            "pkhbt %0, %0, %1, lsl #16"
            : "=&r"(low), "=&r"(high), "+w"(v)
            :
            : "cc");
    memcpy(y, &low, sizeof low);
}

/* x times its gate, and x2, one after the other. */
static INLINE void put_gated(float *y, const float *x, const float *gate, const float *x2)
{
    both v;
    __asm__("vldr.32 %p0, %3\n\t"
            "vmul.f32 %0, %1, %2"
            : "=&w"(v)
            : "t"(*x), "t"(*gate), "Uv"(*x2));
    put_floats(y, v);
}
#else
typedef struct {
    float of[2];
} both;

static INLINE both both_of(const float *p)
{
    both b;
    b.of[0] = p[0], b.of[1] = p[1];
    return b;
}

static INLINE both times(const int32_t sum[2], both factor)
{
    both v;
    v.of[0] = (float)sum[0] * factor.of[0], v.of[1] = (float)sum[1] * factor.of[1];
    return v;
}

static INLINE both product_of(both v, float factor)
{
    v.of[0] *= factor, v.of[1] *= factor;
    return v;
}

static INLINE both less(both v, float mean)
{
    v.of[0] -= mean, v.of[1] -= mean;
    return v;
}

static INLINE both product(both v, both weight)
{
    v.of[0] *= weight.of[0], v.of[1] *= weight.of[1];
    return v;
}

static INLINE both plus(both v, both bias)
{
    v.of[0] += bias.of[0], v.of[1] += bias.of[1];
    return v;
}

static INLINE both leaky_of(both v, float slope)
{
    v.of[0] = greater(v.of[0] * slope, v.of[0]), v.of[1] = greater(v.of[1] * slope, v.of[1]);
    return v;
}

static INLINE void put_floats(float *y, both v)
{
    y[0] = v.of[0], y[1] = v.of[1];
}

static INLINE void put_bytes(int8_t *y, both v, int32_t zp)
{
    y[0] = (int8_t)byte_of(v.of[0], zp), y[1] = (int8_t)byte_of(v.of[1], zp);
}

static INLINE void put_shorts(int16_t *y, both v)
{
    y[0] = short_of(v.of[0]), y[1] = short_of(v.of[1]);
}

static INLINE void put_gated(float *y, const float *x, const float *gate, const float *x2)
{
    y[0] = *x * *gate, y[1] = *x2;
}
#endif

/* Of weights, at words. */
static INLINE both weights_at(const void *weights, ptrdiff_t i, const int half)
{
    both v;
#if defined(ARM_DOUBLES) && __ARM_ARCH_PROFILE == 'M'
    if (!half) return both_of((const float *)weights + i);
    __asm__("vldr.32 %0, %1\n\t"
            "vcvtt.f32.f16 %p0, %0\n\t"
            "vcvtb.f32.f16 %0, %0"
            : "=w"(v)
            : "Uv"(*(const uint32_t *)(const void *)((const uint16_t *)weights + i)));
#else
    const float pair[2] = {weight_at(weights, i, half), weight_at(weights, i + 1, half)};
    v = both_of(pair);
#endif
    return v;
}

#endif
