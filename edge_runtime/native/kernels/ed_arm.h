/* NEON, for Armv8-A and Armv7-A: what the vectorized kernels need. */
#ifndef ED_ARM_H
#define ED_ARM_H

#include <arm_neon.h>
#include <string.h>

#define VL 4
#define MOST_NB 3
#if defined(__aarch64__)
#define NB16 3
#define NB8 3
#define MOST_SUMS 12
#else
#define NB16 2
#define NB8 3
#endif
#define MOST_NB_I8 3

typedef float32x4_t vf;
#define vf_load(p) vld1q_f32(p)
#define vf_load8(p) vf_load(p)
#define vf_load4(p) vf_load(p)
#define vf_store(p, v) vst1q_f32(p, v)
#define vf_set1(x) vdupq_n_f32(x)
#define vf_min(a, b) vminq_f32(a, b)
#define vf_max(a, b) vmaxq_f32(a, b)

typedef float32x4_t v4;
#define v4_load(p) vld1q_f32(p)
#define v4_store(p, v) vst1q_f32(p, v)
#define v4_set1(x) vdupq_n_f32(x)

typedef float32x4_t x4;
#define x4_load(p) vld1q_f32(p)

#if defined(__aarch64__)
#define vf_div(a, b) vdivq_f32(a, b)
#define vf_sqrt(a) vsqrtq_f32(a)
#define vf_fma(acc, a, b) vfmaq_f32(acc, a, b)
#define vf_round(v) vrndnq_f32(v)
#define vf_below_zero(test, then, other) vbslq_f32(vcltzq_f32(test), then, other)
#define vf_load_half(p) vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)))
#define HALVES16
static inline void load_halves16(const uint16_t *p, vf *v)
{
    float16x8_t low = vreinterpretq_f16_u16(vld1q_u16(p)), high = vreinterpretq_f16_u16(vld1q_u16(p + 8));
    v[0] = vcvt_f32_f16(vget_low_f16(low)), v[1] = vcvt_high_f32_f16(low);
    v[2] = vcvt_f32_f16(vget_low_f16(high)), v[3] = vcvt_high_f32_f16(high);
}
#define X4_TIMES(w, x, j) vmulq_laneq_f32(w, x, j)
#define X4_FMA(acc, w, x, j) vfmaq_laneq_f32(acc, w, x, j)
#define LANE_TIMES(w, h, k) vmulq_laneq_f32(w, h, k)
#define LANE_FMA(acc, w, h, k) vfmaq_laneq_f32(acc, w, h, k)
#define zip_1(a, b) vzip1q_f32(a, b)
#define zip_2(a, b) vzip2q_f32(a, b)
#define even_of(a, b) vuzp1q_f32(a, b)
#define odd_of(a, b) vuzp2q_f32(a, b)
#define low_words(a, b) vuzp1q_s16(vreinterpretq_s16_s32(a), vreinterpretq_s16_s32(b))
#define low_bytes(a, b) vuzp1q_s8(vreinterpretq_s8_s16(a), vreinterpretq_s8_s16(b))
#define mull_high(a, b) vmull_high_s8(a, b)
#define mlal_high(s, a, b) vmlal_high_s8(s, a, b)
#define add_high(s, a) vaddw_high_s16(s, a)
#define pairs(a, b) vpaddq_s32(a, b)

/* Of low halves: gcc would keep a half of what stays in a register in another one. */
static inline int16x8_t mull_low(int8x16_t a, int8x16_t b)
{
    int16x8_t y;
    __asm__("smull %0.8h, %1.8b, %2.8b" : "=w"(y) : "w"(a), "w"(b));
    return y;
}

static inline int16x8_t mlal_low(int16x8_t y, int8x16_t a, int8x16_t b)
{
    __asm__("smlal %0.8h, %1.8b, %2.8b" : "+w"(y) : "w"(a), "w"(b));
    return y;
}

static inline int32x4_t add_low(int32x4_t y, int16x8_t a)
{
    __asm__("saddw %0.4s, %0.4s, %1.4h" : "+w"(y) : "w"(a));
    return y;
}
#else
#include "ed_arm32.h"
#endif

#define v4_zip_low(a, b) zip_1(a, b)
#define v4_zip_high(a, b) zip_2(a, b)
#if defined(__aarch64__)
#define v4_low_halves(a, b) vreinterpretq_f32_f64(vzip1q_f64(vreinterpretq_f64_f32(a), vreinterpretq_f64_f32(b)))
#define v4_high_halves(a, b) vreinterpretq_f32_f64(vzip2q_f64(vreinterpretq_f64_f32(a), vreinterpretq_f64_f32(b)))
#else
#define v4_low_halves(a, b) vcombine_f32(vget_low_f32(a), vget_low_f32(b))
#define v4_high_halves(a, b) vcombine_f32(vget_high_f32(a), vget_high_f32(b))
#endif
#define v4_even(a, b) even_of(a, b)
#define v4_odd(a, b) odd_of(a, b)

static inline vf vf_reverse(vf v)
{
    vf r = vrev64q_f32(v);
    return vextq_f32(r, r, 2);
}

/* Whole numbers as 16 bytes; modulo 256, so that the zero point can be added last. */
static inline int8x16_t bytes_of(const vf *v, int zp)
{
    int16x8_t a = low_words(vcvtq_s32_f32(v[0]), vcvtq_s32_f32(v[1]));
    int16x8_t b = low_words(vcvtq_s32_f32(v[2]), vcvtq_s32_f32(v[3]));
    return vaddq_s8(low_bytes(a, b), vdupq_n_s8((int8_t)zp));
}

static inline void store16_i8(int8_t *p, const vf *v, int zp)
{
    vst1q_s8(p, bytes_of(v, zp));
}

/* To the nearest steps of a grid. */
#if defined(__aarch64__)
static inline int8x16_t rounded(const vf *v, vf low, vf high, int zp)
{
    int16x8_t a = vqmovn_high_s32(vqmovn_s32(vcvtnq_s32_f32(v[0])), vcvtnq_s32_f32(v[1]));
    int16x8_t b = vqmovn_high_s32(vqmovn_s32(vcvtnq_s32_f32(v[2])), vcvtnq_s32_f32(v[3])), z = vdupq_n_s16((int16_t)zp);
    (void)low, (void)high;
    return vqmovn_high_s16(vqmovn_s16(vqaddq_s16(a, z)), vqaddq_s16(b, z));
}

static inline int8x8_t rounded8(const vf *v, int zp)
{
    const int16x8_t a = vqmovn_high_s32(vqmovn_s32(vcvtnq_s32_f32(v[0])), vcvtnq_s32_f32(v[1]));
    return vqmovn_s16(vqaddq_s16(a, vdupq_n_s16((int16_t)zp)));
}

static inline void round8_i8(int8_t *p, const vf *v, int zp)
{
    vst1_s8(p, rounded8(v, zp));
}

/* 24 results, 4 to a place; each place moves on as it is written, for which there is no intrinsic. */
static inline __attribute__((always_inline)) void put_fours(char **to, ptrdiff_t by, const vf *v, int zp)
{
    const int8x16_t most = rounded(v, v[0], v[0], zp), rest = vcombine_s8(rounded8(v + 4, zp), vdup_n_s8(0));
#define PUT(i, from, lane)                                                                                             \
    __asm__ volatile("st1 {%1.s}[" #lane "], [%0], %2" : "+r"(to[i]) : "w"(from), "r"(by) : "memory")
    PUT(0, most, 0);
    PUT(1, most, 1);
    PUT(2, most, 2);
    PUT(3, most, 3);
    PUT(4, rest, 0);
    PUT(5, rest, 1);
#undef PUT
}
#endif

static inline void round16_i8(int8_t *p, const vf *v, vf low, vf high, int zp)
{
    vst1q_s8(p, rounded(v, low, high, zp));
}

/* The same to four places, in pieces of 4, 8 or 16 bytes. */
static inline __attribute__((always_inline)) void round_at_i8(int8_t *const *to, const int piece, const vf *v, vf low,
                                                              vf high, int zp)
{
    int8x16_t bytes;
#if defined(__aarch64__)
    if (piece == 8) {
        round8_i8(to[0], v, zp), round8_i8(to[2], v + 2, zp);
        return;
    }
#endif
    bytes = rounded(v, low, high, zp);
    if (piece == 16) vst1q_s8(to[0], bytes);
    else if (piece == 8) vst1_s8(to[0], vget_low_s8(bytes)), vst1_s8(to[2], vget_high_s8(bytes));
    else {
        int32x4_t words = vreinterpretq_s32_s8(bytes);
        vst1q_lane_s32((int32_t *)(void *)to[0], words, 0), vst1q_lane_s32((int32_t *)(void *)to[1], words, 1);
        vst1q_lane_s32((int32_t *)(void *)to[2], words, 2), vst1q_lane_s32((int32_t *)(void *)to[3], words, 3);
    }
}

static inline void floats_of(int8x16_t x, int zp, vf *v)
{
    int8x8_t z = vdup_n_s8((int8_t)zp);
    int16x8_t a = vsubl_s8(vget_low_s8(x), z), b = vsubl_s8(vget_high_s8(x), z);
    v[0] = vcvtq_f32_s32(vmovl_s16(vget_low_s16(a))), v[1] = vcvtq_f32_s32(vmovl_s16(vget_high_s16(a)));
    v[2] = vcvtq_f32_s32(vmovl_s16(vget_low_s16(b))), v[3] = vcvtq_f32_s32(vmovl_s16(vget_high_s16(b)));
}

/* Steps from the zero point. */
static inline void load16_i8(const int8_t *p, int zp, vf *v)
{
    floats_of(vld1q_s8(p), zp, v);
}

static inline void zip(vf a, vf b, vf *first, vf *second)
{
    *first = zip_1(a, b), *second = zip_2(a, b);
}

static inline void unzip(vf a, vf b, vf *even, vf *odd)
{
    *even = even_of(a, b), *odd = odd_of(a, b);
}

typedef struct {
    vf low, high;
} eight;

static inline eight load_gates(const float *gates)
{
    eight g = {vf_load(gates), vf_load(gates + 4)};
    return g;
}

static inline void zip8(const float *x, eight gates, const float *x2, float *y)
{
    float32x4x2_t low, high;
    low.val[0] = vmulq_f32(vf_load(x), gates.low), low.val[1] = vf_load(x2);
    high.val[0] = vmulq_f32(vf_load(x + 4), gates.high), high.val[1] = vf_load(x2 + 4);
    vst2q_f32(y, low), vst2q_f32(y + 8, high);
}

static inline void store_features(float *y, vf m, vf r, vf i)
{
#if defined(__aarch64__)
    /* Made where it is stored from, to which gcc would copy it. */
    register vf first __asm__("v28") = m, second __asm__("v29") = r, third __asm__("v30") = i;
    register vf fourth __asm__("v31") = vdupq_n_f32(0);
    __asm__ volatile("st4 {v28.4s-v31.4s}, [%0]" : : "r"(y), "w"(first), "w"(second), "w"(third), "w"(fourth) : "memory");
#else
    float32x4x4_t rows;
    rows.val[0] = m, rows.val[1] = r, rows.val[2] = i, rows.val[3] = vdupq_n_f32(0);
    vst4q_f32(y, rows);
#endif
}

#if defined(__aarch64__)
/* Four vectors one by one. */
#define store_across(p, v) store_four(p, v)
static inline void store_four(float *p, const vf *v)
{
    const float32x4x4_t four = {{v[0], v[1], v[2], v[3]}};
    vst4q_f32(p, four);
}

static inline void load_across(const float *p, vf *v)
{
    const float32x4x4_t four = vld4q_f32(p);
    v[0] = four.val[0], v[1] = four.val[1], v[2] = four.val[2], v[3] = four.val[3];
}
#endif

static inline void transpose4(const float *x, float *y, ptrdiff_t row)
{
    vf a = vf_load(x), b = vf_load(x + row), c = vf_load(x + 2 * row), d = vf_load(x + 3 * row);
    vf ac1 = zip_1(a, c), ac2 = zip_2(a, c), bd1 = zip_1(b, d), bd2 = zip_2(b, d);
    vf_store(y, zip_1(ac1, bd1)), vf_store(y + row, zip_2(ac1, bd1));
    vf_store(y + 2 * row, zip_1(ac2, bd2)), vf_store(y + 3 * row, zip_2(ac2, bd2));
}

static inline int8x16_t four(const int8_t *x)
{
    return vreinterpretq_s8_s32(vld1q_dup_s32((const int32_t *)(const void *)x));
}

/* 4 bytes of block j, four times. */
static inline int8x16_t block(const int8_t *h, int j)
{
    return four(h + 4 * j);
}

#if defined(__aarch64__)
/* --- sums of 8-bit convolutions: n rows of `width` results each, every sum in a lane of its own ------------------ */

typedef struct {
    int32x4_t v[4];
} dots;

static inline __attribute__((always_inline)) void dots_start(dots *d, const int32_t *bias, const int n, const int width)
{
    int b, q;
    _Pragma("GCC unroll 4") for (q = 0; q < width / 4; q++) {
        const int32x4_t first = vld1q_s32(bias + 4 * q);
        _Pragma("GCC unroll 4") for (b = 0; b < n; b++) d[b].v[q] = first;
    }
}

static inline __attribute__((always_inline)) void dots_sum(const dots *d, const int32_t *bias, vf sum[][4], const int n,
                                                           const int width)
{
    int b, q;
    (void)bias;
    _Pragma("GCC unroll 4") for (b = 0; b < n; b++)
        _Pragma("GCC unroll 4") for (q = 0; q < width / 4; q++) sum[b][q] = vcvtq_f32_s32(d[b].v[q]);
}
#endif

#endif
