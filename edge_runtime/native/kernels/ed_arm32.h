/* NEON of Armv7-A, where it is not Armv8-A's: sixteen registers, no division, square root, rounding or conversion of
 * halves; products are not fused, denormals are taken for zero. A part of ed_arm.h. */
#ifndef ED_ARM32_H
#define ED_ARM32_H

#define FEW_REGISTERS

static inline vf vf_div(vf a, vf b)
{
    float x[4], y[4];
    vst1q_f32(x, a), vst1q_f32(y, b);
    x[0] /= y[0], x[1] /= y[1], x[2] /= y[2], x[3] /= y[3];
    return vld1q_f32(x);
}

static inline vf vf_sqrt(vf a)
{
    float x[4];
    vst1q_f32(x, a);
    x[0] = __builtin_sqrtf(x[0]), x[1] = __builtin_sqrtf(x[1]);
    x[2] = __builtin_sqrtf(x[2]), x[3] = __builtin_sqrtf(x[3]);
    return vld1q_f32(x);
}

/* 1.5 * 2^23, where the last place of a float is 1. */
#define ROUNDS 12582912.0f

static inline vf vf_round(vf v)
{
    const vf shift = vdupq_n_f32(ROUNDS);
    return vsubq_f32(vaddq_f32(v, shift), shift);
}

/* The exponent moved by 112; below the least normal half it is an integer of steps, for denormals are taken for
 * zero. */
static inline vf vf_load_half(const uint16_t *p)
{
    const uint16x4_t h = vld1_u16(p);
    const uint32x4_t size = vmovl_u16(vand_u16(h, vdup_n_u16(0x7fff)));
    const uint32x4_t normal = vaddq_u32(vshlq_n_u32(size, 13), vdupq_n_u32(112 << 23));
    const uint32x4_t small = vreinterpretq_u32_f32(vcvtq_n_f32_u32(size, 24));
    const uint32x4_t v = vbslq_u32(vcltq_u32(size, vdupq_n_u32(0x0400)), small, normal);
    return vreinterpretq_f32_u32(vbslq_u32(vdupq_n_u32(0x80000000), vshll_n_u16(h, 16), v));
}

#define vf_fma(acc, a, b) vaddq_f32(acc, vmulq_f32(a, b))
#define vf_below_zero(test, then, other) vbslq_f32(vcltq_f32(test, vdupq_n_f32(0)), then, other)
#define X4_TIMES(w, x, j) vmulq_lane_f32(w, (j) < 2 ? vget_low_f32(x) : vget_high_f32(x), (j) & 1)
#define X4_FMA(acc, w, x, j) vmlaq_lane_f32(acc, w, (j) < 2 ? vget_low_f32(x) : vget_high_f32(x), (j) & 1)
#define LANE_TIMES(w, h, k) X4_TIMES(w, h, k)
#define LANE_FMA(acc, w, h, k) X4_FMA(acc, w, h, k)
#define zip_1(a, b) vzipq_f32(a, b).val[0]
#define zip_2(a, b) vzipq_f32(a, b).val[1]
#define even_of(a, b) vuzpq_f32(a, b).val[0]
#define odd_of(a, b) vuzpq_f32(a, b).val[1]
#define low_words(a, b) vcombine_s16(vmovn_s32(a), vmovn_s32(b))
#define low_bytes(a, b) vcombine_s8(vmovn_s16(a), vmovn_s16(b))
#define mull_low(a, b) vmull_s8(vget_low_s8(a), vget_low_s8(b))
#define mull_high(a, b) vmull_s8(vget_high_s8(a), vget_high_s8(b))
#define mlal_low(s, a, b) vmlal_s8(s, vget_low_s8(a), vget_low_s8(b))
#define mlal_high(s, a, b) vmlal_s8(s, vget_high_s8(a), vget_high_s8(b))
#define add_low(s, a) vaddw_s16(s, vget_low_s16(a))
#define add_high(s, a) vaddw_s16(s, vget_high_s16(a))
#define pairs(a, b)                                                                                                    \
    vcombine_s32(vpadd_s32(vget_low_s32(a), vget_high_s32(a)), vpadd_s32(vget_low_s32(b), vget_high_s32(b)))

/* To the nearest steps of a grid: the last bits of a sum that rounds are the whole number, modulo 256. */
static inline int8x16_t rounded(const vf *v, vf low, vf high, int zp)
{
    const vf shift = vdupq_n_f32(ROUNDS);
    int32x4_t bits[4];
    int i;
    _Pragma("GCC unroll 4") for (i = 0; i < 4; i++)
        bits[i] = vreinterpretq_s32_f32(vaddq_f32(vminq_f32(vmaxq_f32(v[i], low), high), shift));
    return vaddq_s8(low_bytes(low_words(bits[0], bits[1]), low_words(bits[2], bits[3])), vdupq_n_s8((int8_t)zp));
}

/* --- convolutions whose weights lie in the order in which they are used ----------------------------------------- */

#define HELD_I8
#define HELD_MOST 16
#define HELD_SUMS

/* n groups of 4 inputs of four columns, then of the next four. */
typedef struct {
    int8_t w[192] __attribute__((aligned(16)));
    const int32_t *bias;
} held;

static inline __attribute__((always_inline)) void held_load(held *h, const int8_t *w, ptrdiff_t w_row,
                                                            const int32_t *bias, const int n, const int width)
{
    int g, q;
    for (q = 0; q < width / 4; q++)
        for (g = 0; g < n; g++) vst1q_s8(h->w + 16 * (q * n + g), vld1q_s8(w + g * w_row + 16 * q));
    h->bias = bias;
    __asm__ volatile("" : : "r"(h->w) : "memory"); /* they stay there: registers are for sums */
}

/* A row of inputs, each group of 4 twice. */
typedef struct {
    int8x8_t fours[4];
} held_x;

static inline __attribute__((always_inline)) void held_read(held_x *row, const int8_t *x, const int n_fours)
{
    int g;
    _Pragma("GCC unroll 2") for (g = 0; g < n_fours; g += 2) {
        const int32x2_t two = vld1_s32((const int32_t *)(const void *)(x + 4 * g));
        row->fours[g] = vreinterpret_s8_s32(vdup_lane_s32(two, 0));
        row->fours[g + 1] = vreinterpret_s8_s32(vdup_lane_s32(two, 1));
    }
}

/* Of n rows, which share the weights. */
static inline __attribute__((always_inline)) void held_sums(const held *h, const int8_t *x, ptrdiff_t x_row, const int n,
                                                            const int n_taps, const int n_fours, const int width, vf *sum)
{
    const int n_groups = n_taps * n_fours, n_q = width / 4;
    const int8_t *w = h->w;
    held_x rows[4];
    int b, g, q;
    _Pragma("GCC unroll 4") for (b = 0; b < n + n_taps - 1; b++) held_read(rows + b, x + b * x_row, n_fours);
#define FOUR(g) rows[b + (g) / n_fours].fours[(g) % n_fours]
    _Pragma("GCC unroll 4") for (q = 0; q < n_q; q++) {
        const int32x4_t bias = vld1q_s32(h->bias + 4 * q);
        int32x4_t low[2], high[2];
        _Pragma("GCC unroll 3") for (g = 0; g < n_groups; g += 2, w += 32) {
            const int8x16_t w0 = vld1q_s8(w), w1 = vld1q_s8(w + 16);
            _Pragma("GCC unroll 2") for (b = 0; b < n; b++) {
                const int8x8_t x0 = FOUR(g), x1 = FOUR(g + 1);
                const int16x8_t l = vmlal_s8(vmull_s8(vget_low_s8(w0), x0), vget_low_s8(w1), x1);
                const int16x8_t u = vmlal_s8(vmull_s8(vget_high_s8(w0), x0), vget_high_s8(w1), x1);
                low[b] = g ? vpadalq_s16(low[b], l) : vpaddlq_s16(l);
                high[b] = g ? vpadalq_s16(high[b], u) : vpaddlq_s16(u);
            }
        }
        _Pragma("GCC unroll 2") for (b = 0; b < n; b++)
            sum[b * n_q + q] = vcvtq_f32_s32(vaddq_s32(pairs(low[b], high[b]), bias));
    }
#undef FOUR
}

#endif
