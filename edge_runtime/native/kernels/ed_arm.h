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
#endif

static inline void round16_i8(int8_t *p, const vf *v, vf low, vf high, int zp)
{
    vst1q_s8(p, rounded(v, low, high, zp));
}

/* The same to four places, in pieces of 4, 8 or 16 bytes. */
static inline __attribute__((always_inline)) void round_at_i8(int8_t *const *to, const int piece, const vf *v, vf low,
                                                              vf high, int zp)
{
    int8x16_t bytes = rounded(v, low, high, zp);
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

static inline void load_units_i8(const int8_t *ahead, const int8_t *back, int zp, vf *v)
{
    floats_of(vcombine_s8(vld1_s8(ahead), vld1_s8(back)), zp, v);
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
    float32x4x4_t rows;
    rows.val[0] = m, rows.val[1] = r, rows.val[2] = i, rows.val[3] = vdupq_n_f32(0);
    vst4q_f32(y, rows);
}

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
/* --- convolutions whose weights stay in registers ---------------------------------------------------------------- */

#define HELD_I8

/* n groups of 4 inputs by `width` columns. */
typedef struct {
    int8x16_t w[12];
    int32x4_t bias[4];
} held;

static inline __attribute__((always_inline)) void held_load(held *h, const int8_t *w, ptrdiff_t w_row,
                                                            const int32_t *bias, const int n, const int width)
{
    int g, q;
    _Pragma("GCC unroll 6") for (g = 0; g < n; g++)
        _Pragma("GCC unroll 4") for (q = 0; q < width / 4; q++) h->w[g * (width / 4) + q] = vld1q_s8(w + g * w_row + 16 * q);
    _Pragma("GCC unroll 4") for (q = 0; q < width / 4; q++) h->bias[q] = vld1q_s32(bias + 4 * q);
}

#endif

/* --- depthwise -------------------------------------------------------------------------------------------------- */

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

/* --- 16 numbers of 16 bits ----------------------------------------------------------------------------------------- */

typedef struct {
    int16x8_t v[2];
} shorts;

static inline shorts shorts_load(const int16_t *p)
{
    shorts s;
    s.v[0] = vld1q_s16(p), s.v[1] = vld1q_s16(p + 8);
    return s;
}

static inline void shorts_save(int16_t *p, shorts s)
{
    vst1q_s16(p, s.v[0]), vst1q_s16(p + 8, s.v[1]);
}

static inline shorts shorts_set1(int x)
{
    shorts s;
    s.v[0] = s.v[1] = vdupq_n_s16((int16_t)x);
    return s;
}

/* Steps from the zero point, 128fold. */
static inline shorts shorts_steps(int8x16_t x, int zp, const int width)
{
    const int8x8_t z = vdup_n_s8((int8_t)zp);
    shorts s;
    s.v[0] = vshlq_n_s16(vsubl_s8(vget_low_s8(x), z), 7);
    s.v[1] = width > 8 ? vshlq_n_s16(vsubl_s8(vget_high_s8(x), z), 7) : s.v[0];
    return s;
}

static inline shorts shorts_high(shorts a, shorts b, const int width)
{
    shorts s;
    s.v[0] = vqrdmulhq_s16(a.v[0], b.v[0]);
    s.v[1] = width > 8 ? vqrdmulhq_s16(a.v[1], b.v[1]) : s.v[0];
    return s;
}

static inline shorts shorts_add(shorts a, shorts b, const int width)
{
    shorts s;
    s.v[0] = vqaddq_s16(a.v[0], b.v[0]);
    s.v[1] = width > 8 ? vqaddq_s16(a.v[1], b.v[1]) : s.v[0];
    return s;
}

/* w x + rise max(x, 0). */
static inline shorts shorts_bent(int8x16_t x, int8x16_t w, int8x16_t rise)
{
    const int8x16_t above = vmaxq_s8(x, vdupq_n_s8(0));
    shorts s;
    s.v[0] = mlal_low(mull_low(x, w), above, rise), s.v[1] = mlal_high(mull_high(x, w), above, rise);
    return s;
}

static inline shorts shorts_scaled(int8x16_t x, int unit, shorts start)
{
    const int8x16_t u = vdupq_n_s8((int8_t)unit);
    shorts s;
    s.v[0] = mlal_low(start.v[0], x, u), s.v[1] = mlal_high(start.v[1], x, u);
    return s;
}

/* The byte of 32nds, saturated; `width` bytes. */
static inline void shorts_store(int8_t *p, shorts v, const int width)
{
    const int8x8_t low = vqshrn_n_s16(v.v[0], 5);
    if (width == 4) vst1_lane_s32((int32_t *)(void *)p, vreinterpret_s32_s8(low), 0);
    else vst1_s8(p, low);
    if (width == 12) vst1_lane_s32((int32_t *)(void *)(p + 8), vreinterpret_s32_s8(vqshrn_n_s16(v.v[1], 5)), 0);
    if (width == 16) vst1_s8(p + 8, vqshrn_n_s16(v.v[1], 5));
}

/* --- curves of a GRU -------------------------------------------------------------------------------------------- */

typedef struct {
    const int8_t *table;
    int sum_zp, new_zp, gate_zp, n_zp;
    vf sum_low, sum_high, new_low, new_high;
} curves;

static inline void curves_start(curves *c, const int8_t *table, const ed_gru_grids *g)
{
    c->table = table, c->sum_zp = (int)g->sum_zp, c->new_zp = (int)g->new_zp;
    c->gate_zp = (int)g->gate_zp, c->n_zp = (int)g->n_zp;
    c->sum_low = vf_set1(-128.0f - g->sum_zp), c->sum_high = vf_set1(127.0f - g->sum_zp);
    c->new_low = vf_set1(-128.0f - g->new_zp), c->new_high = vf_set1(127.0f - g->new_zp);
}

/* Round to bytes, add 128, and take that entry of the table. */
static inline void look_up(const int8_t *table, int8x16_t steps, int table_zp, vf *y)
{
    uint8x16_t at = veorq_u8(vreinterpretq_u8_s8(steps), vdupq_n_u8(0x80));
#if defined(__aarch64__)
    const uint8_t *t = (const uint8_t *)table;
    uint8x16_t found = vqtbl4q_u8(vld1q_u8_x4(t), at);
    found = vqtbx4q_u8(found, vld1q_u8_x4(t + 64), veorq_u8(at, vdupq_n_u8(64)));
    found = vqtbx4q_u8(found, vld1q_u8_x4(t + 128), veorq_u8(at, vdupq_n_u8(128)));
    found = vqtbx4q_u8(found, vld1q_u8_x4(t + 192), veorq_u8(at, vdupq_n_u8(192)));
    floats_of(vreinterpretq_s8_u8(found), table_zp, y);
#else
    uint8_t index[16];
    int8_t found[16];
    int i;
    vst1q_u8(index, at);
    _Pragma("GCC unroll 16") for (i = 0; i < 16; i++) found[i] = table[index[i]];
    load16_i8(found, table_zp, y);
#endif
}

static inline void curve_sigmoid(const curves *c, const vf *x, vf *y)
{
    look_up(c->table, rounded(x, c->sum_low, c->sum_high, c->sum_zp), c->gate_zp, y);
}

static inline void curve_tanh(const curves *c, const vf *x, vf *y)
{
    look_up(c->table + 256, rounded(x, c->new_low, c->new_high, c->new_zp), c->n_zp, y);
}

typedef struct {
    const int8_t *w;
    const int32_t *bias;
} gate_dots;

static inline void gate_start(gate_dots *d, const void *w, const void *bias)
{
    d->w = w, d->bias = bias;
}

#endif
