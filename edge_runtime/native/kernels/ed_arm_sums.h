/* NEON: depthwise sums of 16 channels, energies and squares, in 8 bits. */
#ifndef ED_ARM_SUMS_H
#define ED_ARM_SUMS_H

#include "ed_arm.h"

/* --- depthwise -------------------------------------------------------------------------------------------------- */

#if defined(__aarch64__)
#define DEPTH_ROLLS

/* Of three frames a, b and c at bands 0 to 2: weights of a and b one by one, at each band; of c at bands 0 and 1, the same;
 * of c at band 2. So products added in pairs are sums of a channel, and a and b are taken together once for three rows. */
typedef struct {
    int8x16_t low[4], high[4], last; /* 8 channels each; all 16 */
    int32x4_t bias[4];
} depth_weights;

typedef struct {
    int8x16_t low, high, last;
} depth_band;

static inline depth_band depth_read(const int8_t *a, const int8_t *b, const int8_t *c)
{
    const int8x16_t first = vld1q_s8(a), second = vld1q_s8(b);
    const depth_band band = {vzip1q_s8(first, second), vzip2q_s8(first, second), vld1q_s8(c)};
    return band;
}

static inline void depth_load(depth_weights *d, const int8_t *w, ptrdiff_t row, const int32_t *bias)
{
    const int8x16_t first = vld1q_s8(w + 6 * row), second = vld1q_s8(w + 7 * row);
    int i;
    _Pragma("GCC unroll 3") for (i = 0; i < 3; i++) {
        const depth_band band = depth_read(w + i * row, w + (3 + i) * row, w + 8 * row);
        d->low[i] = band.low, d->high[i] = band.high, d->last = band.last;
    }
    d->low[3] = vzip1q_s8(first, second), d->high[3] = vzip2q_s8(first, second);
    _Pragma("GCC unroll 4") for (i = 0; i < 4; i++) d->bias[i] = vld1q_s32(bias + 4 * i);
}

/* Adds pairs of products to the sums of 8 channels; weights reach 127, so two products fit 16 bits. */
static inline __attribute__((always_inline)) void depth_add(int32x4_t *s, int8x16_t x, int8x16_t w, int8x16_t x2, int8x16_t w2)
{
    s[0] = vpadalq_s16(s[0], mlal_low(mull_low(x, w), x2, w2));
    s[1] = vpadalq_s16(s[1], mlal_high(mull_high(x, w), x2, w2));
}

static inline __attribute__((always_inline)) void depth_sum(const depth_weights *d, const depth_band *x, vf *sum)
{
    const int16x8_t low = mull_low(x[2].last, d->last), high = mull_high(x[2].last, d->last);
    const int8x16_t c = vzip1q_s8(x[0].last, x[1].last), c_high = vzip2q_s8(x[0].last, x[1].last);
    int32x4_t s[4] = {vaddw_s16(d->bias[0], vget_low_s16(low)), vaddw_high_s16(d->bias[1], low),
                      vaddw_s16(d->bias[2], vget_low_s16(high)), vaddw_high_s16(d->bias[3], high)};
    int i;
    depth_add(s, x[0].low, d->low[0], x[1].low, d->low[1]), depth_add(s + 2, x[0].high, d->high[0], x[1].high, d->high[1]);
    depth_add(s, x[2].low, d->low[2], c, d->low[3]), depth_add(s + 2, x[2].high, d->high[2], c_high, d->high[3]);
    _Pragma("GCC unroll 4") for (i = 0; i < 4; i++) sum[i] = vcvtq_f32_s32(s[i]);
}
#else
typedef struct {
    int8x16_t w[9];
    int32x4_t bias[4];
} depth_weights;

static inline void depth_load(depth_weights *d, const int8_t *w, ptrdiff_t row, const int32_t *bias)
{
    int i;
    _Pragma("GCC unroll 9") for (i = 0; i < 9; i++) d->w[i] = vld1q_s8(w + i * row);
    _Pragma("GCC unroll 4") for (i = 0; i < 4; i++) d->bias[i] = vld1q_s32(bias + 4 * i);
}

/* Weights reach 127, so two products fit 16 bits. */
static inline __attribute__((always_inline)) void depth_sum(const depth_weights *d, const int8_t *a, const int8_t *b,
                                                            const int8_t *c, ptrdiff_t row, vf *sum)
{
    int8x16_t x[9];
    int32x4_t s[4];
    int i;
    _Pragma("GCC unroll 3") for (i = 0; i < 3; i++) {
        x[i] = vld1q_s8(a + i * row), x[3 + i] = vld1q_s8(b + i * row), x[6 + i] = vld1q_s8(c + i * row);
    }
    _Pragma("GCC unroll 4") for (i = 0; i < 4; i++) s[i] = d->bias[i];
    _Pragma("GCC unroll 5") for (i = 0; i < 9; i += 2) {
        int16x8_t low = mull_low(x[i], d->w[i]), high = mull_high(x[i], d->w[i]);
        if (i < 8) low = mlal_low(low, x[i + 1], d->w[i + 1]), high = mlal_high(high, x[i + 1], d->w[i + 1]);
        s[0] = add_low(s[0], low), s[1] = add_high(s[1], low);
        s[2] = add_low(s[2], high), s[3] = add_high(s[3], high);
    }
    _Pragma("GCC unroll 4") for (i = 0; i < 4; i++) sum[i] = vcvtq_f32_s32(s[i]);
}
#endif

typedef int8x16_t bytes16;

/* Sums of 16 channels. */
typedef struct {
    int32x4_t sum[4];
} products;

static inline int8x16_t bytes_n(const int8_t *p, const int width)
{
    int8x8_t high = vdup_n_s8(0);
    if (width == 16) return vld1q_s8(p);
    if (width == 4) return vcombine_s8(vreinterpret_s8_s32(vld1_lane_s32((const int32_t *)(const void *)p, vdup_n_s32(0), 0)), high);
    if (width == 12) high = vreinterpret_s8_s32(vld1_lane_s32((const int32_t *)(const void *)(p + 8), vdup_n_s32(0), 0));
    return vcombine_s8(vld1_s8(p), high);
}

static inline void products_start(products *d, const int32_t *bias)
{
    int i;
    _Pragma("GCC unroll 4") for (i = 0; i < 4; i++) d->sum[i] = vld1q_s32(bias + 4 * i);
}

static inline void products_add(products *d, int16x8_t low, int16x8_t high)
{
    d->sum[0] = add_low(d->sum[0], low), d->sum[1] = add_high(d->sum[1], low);
    d->sum[2] = add_low(d->sum[2], high), d->sum[3] = add_high(d->sum[3], high);
}

static inline void products_one(products *d, int8x16_t x, int8x16_t w)
{
    products_add(d, mull_low(x, w), mull_high(x, w));
}

static inline void products_two(products *d, int8x16_t x, int8x16_t w, int8x16_t x2, int8x16_t w2)
{
    products_add(d, mlal_low(mull_low(x, w), x2, w2), mlal_high(mull_high(x, w), x2, w2));
}

static inline void products_sum(const products *d, vf *sum)
{
    int i;
    _Pragma("GCC unroll 4") for (i = 0; i < 4; i++) sum[i] = vcvtq_f32_s32(d->sum[i]);
}

/* Sums of weighted squares of 16 numbers; what lies beyond the last one has no weight. */
typedef struct {
    int32x4_t sum[2];
} energies;

static inline void energies_start(energies *d)
{
    d->sum[0] = d->sum[1] = vdupq_n_s32(0);
}

static inline void energies_add(energies *d, int8x16_t x, int zp, const int8_t *w)
{
    int8x8_t z = vdup_n_s8((int8_t)zp);
    int16x8_t a = vsubl_s8(vget_low_s8(x), z), b = vsubl_s8(vget_high_s8(x), z);
    int16x8_t aw = vmulq_s16(a, vmovl_s8(vld1_s8(w))), bw = vmulq_s16(b, vmovl_s8(vld1_s8(w + 8)));
    d->sum[0] = vmlal_s16(d->sum[0], vget_low_s16(a), vget_low_s16(aw));
    d->sum[1] = vmlal_s16(d->sum[1], vget_high_s16(a), vget_high_s16(aw));
    d->sum[0] = vmlal_s16(d->sum[0], vget_low_s16(b), vget_low_s16(bw));
    d->sum[1] = vmlal_s16(d->sum[1], vget_high_s16(b), vget_high_s16(bw));
}

/* Of `width` bytes, without weights. */
static inline void energies_square(energies *d, int8x16_t x, int zp, const int width)
{
    int8x8_t z = vdup_n_s8((int8_t)zp);
    int16x8_t a = vsubl_s8(vget_low_s8(x), z), b = vsubl_s8(vget_high_s8(x), z);
    d->sum[0] = vmlal_s16(d->sum[0], vget_low_s16(a), vget_low_s16(a));
    if (width > 4) d->sum[1] = vmlal_s16(d->sum[1], vget_high_s16(a), vget_high_s16(a));
    if (width > 8) d->sum[0] = vmlal_s16(d->sum[0], vget_low_s16(b), vget_low_s16(b));
    if (width > 12) d->sum[1] = vmlal_s16(d->sum[1], vget_high_s16(b), vget_high_s16(b));
}

static inline int32_t energies_sum(const energies *d)
{
    int32x4_t sum = vaddq_s32(d->sum[0], d->sum[1]);
    sum = pairs(sum, sum);
    return vgetq_lane_s32(pairs(sum, sum), 0);
}

/* Sums of squares, 16 columns. */
typedef struct {
    int32x4_t sum[4];
} squares;

static inline void squares_start(squares *d)
{
    d->sum[0] = d->sum[1] = d->sum[2] = d->sum[3] = vdupq_n_s32(0);
}

static inline void squares_add(squares *d, int8x16_t x, int zp, const int width)
{
    int8x8_t z = vdup_n_s8((int8_t)zp);
    int16x8_t a = vsubl_s8(vget_low_s8(x), z), b = vsubl_s8(vget_high_s8(x), z);
    d->sum[0] = vmlal_s16(d->sum[0], vget_low_s16(a), vget_low_s16(a));
    if (width > 4) d->sum[1] = vmlal_s16(d->sum[1], vget_high_s16(a), vget_high_s16(a));
    if (width > 8) d->sum[2] = vmlal_s16(d->sum[2], vget_low_s16(b), vget_low_s16(b));
    if (width > 12) d->sum[3] = vmlal_s16(d->sum[3], vget_high_s16(b), vget_high_s16(b));
}

static inline void squares_sum(const squares *d, vf *sum)
{
    int i;
    _Pragma("GCC unroll 4") for (i = 0; i < 4; i++) sum[i] = vcvtq_f32_s32(d->sum[i]);
}

static inline void ints16(const int32_t *p, vf *v)
{
    int i;
    _Pragma("GCC unroll 4") for (i = 0; i < 4; i++) v[i] = vcvtq_f32_s32(vld1q_s32(p + 4 * i));
}

/* 16 of each, one by one. */
static inline void zip_bytes(const int8_t *x, const int8_t *x2, int8_t *y)
{
    int8x16x2_t both;
    both.val[0] = vld1q_s8(x), both.val[1] = vld1q_s8(x2);
    vst2q_s8(y, both);
}

#endif
