/* What the kernels without vectors need of a processor: products, rounding, half precision. */
#ifndef ED_SCALAR_H
#define ED_SCALAR_H

#include "ed_program.h"

#if defined(__GNUC__)
#define INLINE inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")
#else
#define INLINE inline
#define UNROLL
#endif

/* --- 8-bit products: four at a time ------------------------------------------------------------------------------- */

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
#else
typedef const int8_t *four;

static INLINE four four_of(const int8_t *p)
{
    return p;
}

static INLINE int32_t dot(int32_t sum, four x, four w)
{
    return sum + x[0] * w[0] + x[1] * w[1] + x[2] * w[2] + x[3] * w[3];
}
#endif

/* --- rounding ----------------------------------------------------------------------------------------------------- */

/* Steps from a grid's zero point, rounded to even and saturated. */
static INLINE int32_t steps_of(float v, int32_t zp)
{
#if defined(ARM_PAIRS) && defined(__ARM_FP)
    int32_t n, q;
    __asm__("vcvtr.s32.f32 %0, %0" : "+t"(v)); /* saturates */
    memcpy(&n, &v, 4);
    __asm__("qadd %0, %1, %2" : "=r"(q) : "r"(n), "r"(zp));
    __asm__("ssat %0, #8, %1" : "=r"(q) : "r"(q));
    return q - zp;
#else
    float low = (float)(-128 - zp), high = (float)(127 - zp);
    v = v > low ? v < high ? v : high : low;
    return (int32_t)((v + 12582912.0f) - 12582912.0f);
#endif
}

/* --- half precision ----------------------------------------------------------------------------------------------- */

static INLINE float half_to_float(uint16_t h)
{
#if defined(__GNUC__) && defined(__ARM_FP) && __ARM_FP & 2
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

/* --- ed_scalar_conv.c --------------------------------------------------------------------------------------------- */

void ed_scalar_CONV(const ed_args *a);
void ed_scalar_CONV_I8(const ed_args *a);
void ed_scalar_DEPTH(const ed_args *a);
void ed_scalar_DEPTH_I8(const ed_args *a);

#endif
