/* What the kernels without vectors need of a processor: products, rounding, half precision. */
#ifndef ED_SCALAR_H
#define ED_SCALAR_H

#include "ed_bare.h"

#if defined(__GNUC__)
#define AFTER_THAT(p) __asm__ volatile("" : "+r"(p)) /* what is made of p has no register before */
#else
#define AFTER_THAT(p) ((void)0)
#endif

/* --- 8-bit products: two at a time --------------------------------------------------------------------------------- */

#if defined(__ARM_FEATURE_SIMD32) && defined(__GNUC__)
#define ARM_PAIRS 1
typedef struct {
    uint32_t even, odd; /* of four bytes, each pair as two 16-bit numbers */
} four;

static INLINE four four_of(const int8_t *p)
{
    uint32_t v;
    four f;
    memcpy(&v, p, 4);
    __asm__("sxtb16 %0, %1" : "=r"(f.even) : "r"(v));
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(f.odd) : "r"(v));
    return f;
}

static INLINE int32_t dot(int32_t sum, four x, four w)
{
    __asm__("smlad %0, %1, %2, %0" : "+r"(sum) : "r"(x.even), "r"(w.even));
    __asm__("smlad %0, %1, %2, %0" : "+r"(sum) : "r"(x.odd), "r"(w.odd));
    return sum;
}

typedef uint32_t two; /* two 16-bit numbers */

static INLINE two two_of(int32_t low, int32_t high)
{
    two t;
    __asm__("pkhbt %0, %1, %2, lsl #16" : "=r"(t) : "r"(low), "r"(high));
    return t;
}

static INLINE int32_t dot_two(int32_t sum, two x, two w)
{
    __asm__("smlad %0, %1, %2, %3" : "=r"(sum) : "r"(x), "r"(w), "r"(sum));
    return sum;
}

static INLINE int32_t add_low(int32_t sum, int32_t x, two w)
{
    __asm__("smlabb %0, %1, %2, %3" : "=r"(sum) : "r"(x), "r"(w), "r"(sum));
    return sum;
}

static INLINE int32_t add_high(int32_t sum, int32_t x, two w)
{
    __asm__("smlabt %0, %1, %2, %3" : "=r"(sum) : "r"(x), "r"(w), "r"(sum));
    return sum;
}
#else
typedef struct {
    int16_t of[4];
} four;

static INLINE four four_of(const int8_t *p)
{
    four f;
    int i;
    UNROLL for (i = 0; i < 4; i++) f.of[i] = p[i];
    return f;
}

static INLINE int32_t dot(int32_t sum, four x, four w)
{
    return sum + x.of[0] * w.of[0] + x.of[1] * w.of[1] + x.of[2] * w.of[2] + x.of[3] * w.of[3];
}

typedef struct {
    int32_t low, high;
} two;

static INLINE two two_of(int32_t low, int32_t high)
{
    two t;
    t.low = low, t.high = high;
    return t;
}

static INLINE int32_t dot_two(int32_t sum, two x, two w)
{
    return sum + x.low * w.low + x.high * w.high;
}

static INLINE int32_t add_low(int32_t sum, int32_t x, two w)
{
    return sum + x * w.low;
}

static INLINE int32_t add_high(int32_t sum, int32_t x, two w)
{
    return sum + x * w.high;
}
#endif

/* Floating point of Armv8-M, and of a Cortex-M7, rounds and compares without leaving its registers. No compiler says so:
 * only a Cortex-M7 may have doubles, which a Cortex-M4 has not; where it has none, a project may say ED_FPV5. */
#if defined(__GNUC__) && defined(__ARM_FP) &&                                                                          \
    (defined(ED_FPV5) || defined(__ARM_ARCH_8M_MAIN__) || defined(__ARM_ARCH_8_1M_MAIN__) ||                           \
     (defined(__ARM_ARCH_7EM__) && __ARM_FP & 8))
#define ARM_FP5 1
#endif

/* --- rounding ----------------------------------------------------------------------------------------------------- */

/* The byte of a grid: rounded to even, saturated. */
static INLINE int32_t byte_of(float v, int32_t zp)
{
#if defined(ARM_PAIRS) && defined(__ARM_FP)
    int32_t n, q;
    __asm__("vcvtr.s32.f32 %0, %0" : "+t"(v)); /* saturates */
    memcpy(&n, &v, 4);
    __asm__("qadd %0, %1, %2" : "=r"(q) : "r"(n), "r"(zp));
    __asm__("ssat %0, #8, %1" : "=r"(q) : "r"(q));
    return q;
#else
    float low = (float)(-128 - zp), high = (float)(127 - zp);
    v = v > low ? v < high ? v : high : low;
    return (int32_t)((v + 12582912.0f) - 12582912.0f) + zp;
#endif
}

/* A grid as floats see it: its ends, in steps from its zero point. */
typedef struct {
    float low, high;
    int32_t zp;
} grid;

static INLINE grid grid_of(int32_t zp)
{
    grid g;
    g.low = (float)(-128 - zp), g.high = (float)(127 - zp), g.zp = zp;
    return g;
}

/* The greater and the lesser of two numbers; b where a is no number. */
static INLINE float greater(float a, float b)
{
#if defined(ARM_FP5)
    __asm__("vmaxnm.f32 %0, %0, %1" : "+t"(a) : "t"(b));
    return a;
#else
    return a > b ? a : b;
#endif
}

static INLINE float lesser(float a, float b)
{
#if defined(ARM_FP5)
    __asm__("vminnm.f32 %0, %0, %1" : "+t"(a) : "t"(b));
    return a;
#else
    return a < b ? a : b;
#endif
}

static INLINE float between(float v, float low, float high)
{
    return lesser(greater(v, low), high);
}

/* Steps that stay float. */
static INLINE float on_grid(float v, const grid *g)
{
#if defined(ARM_FP5)
    __asm__("vrintn.f32 %0, %0" : "+t"(v));
    return between(v, g->low, g->high);
#else
    return (float)(byte_of(v, g->zp) - g->zp);
#endif
}

/* --- half precision ----------------------------------------------------------------------------------------------- */

/* Every floating-point unit of a Cortex-M converts it, though gcc's __ARM_FP does not say so. */
static INLINE float half_to_float(uint16_t h)
{
#if defined(__GNUC__) && defined(__ARM_FP) && (__ARM_FP & 2 || __ARM_ARCH_PROFILE == 'M')
    union { uint32_t u; float f; } v;
    v.u = h;
    __asm__("vcvtb.f32.f16 %0, %0" : "+t"(v.f));
    return v.f;
#else
    return ed_half_to_float(h);
#endif
}

static INLINE float weight_at(const void *weights, ptrdiff_t i, const int half)
{
    return half ? half_to_float(((const uint16_t *)weights)[i]) : ((const float *)weights)[i];
}

/* --- ed_scalar.c, ed_scalar_conv.c, ed_scalar_conv_i8.c, ed_scalar_conv_i16.c, ed_scalar_gru.c --- */

ED_DECLARE_KERNEL(CONV, ed_scalar_CONV)
ED_DECLARE_KERNEL(DEPTH, ed_scalar_DEPTH)
ED_DECLARE_KERNEL(CONV_I8, ed_scalar_CONV_I8)
ED_DECLARE_KERNEL(CONV_I16, ed_scalar_CONV_I16)
ED_DECLARE_KERNEL(QUANTIZE_I16, ed_scalar_QUANTIZE_I16)
ED_DECLARE_KERNEL(DEPTH_I8, ed_scalar_DEPTH_I8)
ED_DECLARE_KERNEL(GRU_CELL, ed_scalar_GRU_CELL)
ED_DECLARE_KERNEL(GRU_CELL_I16, ed_scalar_GRU_CELL_I16)
ED_DECLARE_KERNEL(BIGRU_I16, ed_scalar_BIGRU_I16)
ED_DECLARE_KERNEL(LAYER_NORM, ed_scalar_LAYER_NORM)
ED_DECLARE_KERNEL(QUANTIZE, ed_scalar_QUANTIZE)
ED_DECLARE_KERNEL(ADD, ed_scalar_ADD)
ED_DECLARE_KERNEL(GATE_SHUFFLE, ed_scalar_GATE_SHUFFLE)
ED_DECLARE_KERNEL(MEAN_SQUARE, ed_scalar_MEAN_SQUARE)
ED_DECLARE_KERNEL(MERGE, ed_scalar_MERGE)

#endif
