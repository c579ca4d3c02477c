/* NEON: what convolutions of 16 bits need. */
#ifndef ED_ARM_I16_H
#define ED_ARM_I16_H

#include "ed_arm.h"
#include "ed_block.h"

#define MOST_NB_I16 5
#if defined(__aarch64__)
#define TOTALS_WALK
#define NB16_I16 5
#define NB8_I16 5
#define NB4_I16 5
#define LONG_LOW(acc, w, x, lane) vmlal_laneq_s16(acc, vget_low_s16(w), x, lane)
#define LONG_HIGH(acc, w, x, lane) vmlal_high_laneq_s16(acc, w, x, lane)
#else
#define NB16_I16 2
#define NB8_I16 4
#define NB4_I16 4
#define LONG_OF(acc, w, x, lane) vmlal_lane_s16(acc, w, (lane) < 4 ? vget_low_s16(x) : vget_high_s16(x), (lane) & 3)
#define LONG_LOW(acc, w, x, lane) LONG_OF(acc, vget_low_s16(w), x, lane)
#define LONG_HIGH(acc, w, x, lane) LONG_OF(acc, vget_high_s16(w), x, lane)
#endif

/* Sums of up to 16 results of a row. */
typedef struct {
    int32x4_t v[4];
} totals;

static inline totals totals_none(void)
{
    totals s;
    s.v[0] = s.v[1] = s.v[2] = s.v[3] = vdupq_n_s32(0);
    return s;
}

/* Nothing is loaded before what stands above it, or all weights are loaded first, and sums leave their registers; and a
 * compiler does not know p as an offset, so that loads move it on. */
#define IN_TURN(p) __asm__ volatile("" : "+r"(p) : : "memory")

/* Inputs 2 pair and 2 pair + 1 of `n` rows, of 8 there are in xs. Where their weights end. */
static inline __attribute__((always_inline)) const int16_t *totals_pair(totals *d, const int16_t *w, const int16x8_t *xs,
                                                                        const int pair, const int n, const int width)
{
    int b, q;
    _Pragma("GCC unroll 2") for (q = 0; q < (width + 7) / 8; q++) {
        int16x8x2_t ws;
        if (width < 8) {
            const int16x4x2_t half = vld2_s16(w);
            ws.val[0] = vcombine_s16(half.val[0], half.val[0]), ws.val[1] = vcombine_s16(half.val[1], half.val[1]);
        } else ws = vld2q_s16(w);
        w += width < 8 ? 8 : 16;
#define ONE(at, lane)                                                                                                  \
    _Pragma("GCC unroll 5") for (b = 0; b < n; b++) {                                                                  \
        d[b].v[2 * q] = LONG_LOW(d[b].v[2 * q], ws.val[at], xs[b], lane);                                              \
        if (width >= 8) d[b].v[2 * q + 1] = LONG_HIGH(d[b].v[2 * q + 1], ws.val[at], xs[b], lane);                     \
    }
#define BOTH(lane)                                                                                                     \
    ONE(0, lane)                                                                                                       \
    ONE(1, lane + 1)
        if (pair == 0) { BOTH(0) } else if (pair == 1) { BOTH(2) } else if (pair == 2) { BOTH(4) } else { BOTH(6) }
#undef BOTH
#undef ONE
        IN_TURN(w);
    }
    return w;
}

#if defined(TOTALS_WALK)
/* Inputs 4 half to 4 half + 3 by 4 results: a load that takes pairs apart has the weights of two pairs. */
static inline __attribute__((always_inline)) void totals_half(totals *d, const int16_t *w, const int16x8_t *xs, const int half,
                                                              const int n)
{
    const int16x8x2_t ws = vld2q_s16(w);
    int b;
#define FOUR(b, lane)                                                                                                  \
    d[b].v[0] = vmlal_laneq_s16(d[b].v[0], vget_low_s16(ws.val[0]), xs[b], lane);                                      \
    d[b].v[0] = vmlal_laneq_s16(d[b].v[0], vget_low_s16(ws.val[1]), xs[b], lane + 1);                                  \
    d[b].v[0] = vmlal_high_laneq_s16(d[b].v[0], ws.val[0], xs[b], lane + 2);                                           \
    d[b].v[0] = vmlal_high_laneq_s16(d[b].v[0], ws.val[1], xs[b], lane + 3);
    _Pragma("GCC unroll 5") for (b = 0; b < n; b++) {
        if (half) { FOUR(b, 4) } else { FOUR(b, 0) }
    }
#undef FOUR
}

/* Inputs 8 by 8, x_eight bytes apart, of n rows, `step` bytes apart; the weights of each pair follow those of the one before.
 * `spare`: those of the very last pair are zeros. */
static inline __attribute__((always_inline)) void totals_walk(totals *d, const char *w, const char *x, ptrdiff_t step,
                                                              ptrdiff_t x_eight, int n_eights, const int n, const int width,
                                                              const int spare)
{
    const int16_t *weights = (const int16_t *)(const void *)w;
    for (; n_eights > 0; n_eights--, x += x_eight) {
        int16x8_t xs[MOST_NB_I16];
        int b;
        _Pragma("GCC unroll 5") for (b = 0; b < n; b++) xs[b] = vld1q_s16((const int16_t *)(const void *)(x + b * step));
        if (width == 4) {
            totals_half(d, weights, xs, 0, n), weights += 16;
            IN_TURN(weights);
            totals_half(d, weights, xs, 1, n), weights += 16;
            IN_TURN(weights);
        } else {
            _Pragma("GCC unroll 4") for (b = 0; b < 4; b++) {
                if (spare && b == 3 && n_eights == 1) return;
                weights = totals_pair(d, weights, xs, b, n, width);
            }
        }
    }
}

/* Whether the weights of the last pair of inputs are zeros, as where taps are no multiple of 8. */
static inline int has_spare(const char *w, int n_eights, const int width)
{
    const int16_t *last = (const int16_t *)(const void *)w + (8 * n_eights - 2) * width;
    int16x8_t any = vld1q_s16(last);
    int i;
    _Pragma("GCC unroll 4") for (i = 8; i < 2 * width; i += 8) any = vorrq_s16(any, vld1q_s16(last + i));
    return vmaxvq_u16(vreinterpretq_u16_s16(any)) == 0;
}
#endif

/* `n_pairs` pairs of inputs of n rows, `step` bytes apart; `w_row` bytes lie between the weights of two pairs. */
static inline __attribute__((always_inline)) void totals_add(totals *d, const char *w, ptrdiff_t w_row, const char *x,
                                                             ptrdiff_t step, int n_pairs, const int n, const int width)
{
    int16x8_t xs[MOST_NB_I16];
    int b;
#define PAIR(pair) totals_pair(d, (const int16_t *)(const void *)(w + (pair) * w_row), xs, pair, n, width);
    for (; n_pairs >= 4; n_pairs -= 4, x += 16, w += 4 * w_row) {
        _Pragma("GCC unroll 5") for (b = 0; b < n; b++)
            xs[b] = vld1q_s16((const int16_t *)(const void *)(x + b * step));
        PAIR(0) PAIR(1) PAIR(2) PAIR(3)
    }
    if (n_pairs > 0) {
        _Pragma("GCC unroll 5") for (b = 0; b < n; b++)
            xs[b] = vcombine_s16(vld1_s16((const int16_t *)(const void *)(x + b * step)), vdup_n_s16(0));
        PAIR(0) PAIR(1)
    }
#undef PAIR
}

static inline __attribute__((always_inline)) void totals_floats(const totals *d, vf *sum, const int width)
{
    int q;
    _Pragma("GCC unroll 4") for (q = 0; q < width / 4; q++) sum[q] = vcvtq_f32_s32(d->v[q]);
}

/* Sizes of floats, by their bits. */
typedef uint32x4_t sizes;

static inline sizes sizes_none(void)
{
    return vdupq_n_u32(0);
}

static inline sizes sizes_most(sizes m, vf v)
{
    return vmaxq_u32(m, vreinterpretq_u32_f32(vabsq_f32(v)));
}

static inline uint32_t sizes_largest(sizes m)
{
#if defined(__aarch64__)
    return vmaxvq_u32(m);
#else
    uint32x2_t two = vpmax_u32(vget_low_u32(m), vget_high_u32(m));
    return vget_lane_u32(vpmax_u32(two, two), 0);
#endif
}

/* 16 floats to whole numbers of 16 bits, ties to even, saturated. */
static inline shorts shorts_round(const vf *v)
{
    shorts s;
#if defined(__aarch64__)
    s.v[0] = vqmovn_high_s32(vqmovn_s32(vcvtnq_s32_f32(v[0])), vcvtnq_s32_f32(v[1]));
    s.v[1] = vqmovn_high_s32(vqmovn_s32(vcvtnq_s32_f32(v[2])), vcvtnq_s32_f32(v[3]));
#else
    const vf low = vdupq_n_f32(ED_SHORT_LOW), high = vdupq_n_f32(ED_SHORT_HIGH);
    int16x4_t four[4];
    int i;
    _Pragma("GCC unroll 4") for (i = 0; i < 4; i++)
        four[i] = vmovn_s32(vcvtq_s32_f32(vf_round(vminq_f32(vmaxq_f32(v[i], low), high))));
    s.v[0] = vcombine_s16(four[0], four[1]), s.v[1] = vcombine_s16(four[2], four[3]);
#endif
    return s;
}

#endif
