/* NEON of Armv8-A without the dot product: sums of 8-bit convolutions. A pair of inputs goes to all lanes of 16 bits beside
 * the pairs of weights of 4 results, so that products added in pairs are the results' own and no sum goes across lanes. A load
 * that takes every second pair apart makes such weights of the stored groups of 4 inputs, one that repeats makes such inputs. */
#ifndef ED_ARM64_I8_H
#define ED_ARM64_I8_H

#include "ed_arm.h"

/* Of 8 results: the first two of a group of 4 inputs, and the last two. */
typedef struct {
    int8x16_t first, last;
} pair_weights;

/* Two groups of 4 inputs as pairs, each eight times. */
typedef struct {
    int8x16_t pair[4];
} pair_inputs;

/* Of a group for 8 results. Where there are 4, the others are whatever follows them. */
static inline pair_weights weights_at(const int8_t *w)
{
    const int16x8x2_t two = vld2q_s16((const int16_t *)(const void *)w);
    const pair_weights p = {vreinterpretq_s8_s16(two.val[0]), vreinterpretq_s8_s16(two.val[1])};
    return p;
}

/* One group, or two. */
static inline pair_inputs inputs_at(const int8_t *x, const int n_groups)
{
    pair_inputs p;
    if (n_groups == 1) {
        const int16x8x2_t two = vld2q_dup_s16((const int16_t *)(const void *)x);
        p.pair[0] = p.pair[2] = vreinterpretq_s8_s16(two.val[0]), p.pair[1] = p.pair[3] = vreinterpretq_s8_s16(two.val[1]);
    } else {
        const int16x8x4_t four = vld4q_dup_s16((const int16_t *)(const void *)x);
        p.pair[0] = vreinterpretq_s8_s16(four.val[0]), p.pair[1] = vreinterpretq_s8_s16(four.val[1]);
        p.pair[2] = vreinterpretq_s8_s16(four.val[2]), p.pair[3] = vreinterpretq_s8_s16(four.val[3]);
    }
    return p;
}

/* Products of a group, of the first 4 results of 8 or of the last; weights reach 127, so two fit 16 bits. */
static inline int16x8_t group_of(pair_weights w, const pair_inputs *x, const int group, const int high)
{
    const int8x16_t a = x->pair[2 * group], b = x->pair[2 * group + 1];
    return high ? mlal_high(mull_high(w.first, a), w.last, b) : mlal_low(mull_low(w.first, a), w.last, b);
}

/* --- blocks of rows that share loaded weights -------------------------------------------------------------------- */

static inline __attribute__((always_inline)) void dots_groups(dots *d, const int8_t *w, ptrdiff_t w_row, const int8_t *x,
                                                              ptrdiff_t step, const int n_groups, const int n,
                                                              const int width)
{
    pair_inputs xs[MOST_NB_I8];
    int b, g, q;
    _Pragma("GCC unroll 4") for (b = 0; b < n; b++) xs[b] = inputs_at(x + b * step, n_groups);
    _Pragma("GCC unroll 2") for (g = 0; g < n_groups; g++)
        _Pragma("GCC unroll 2") for (q = 0; q < width / 4; q += 2) {
            const pair_weights ws = weights_at(w + g * w_row + 16 * q);
            _Pragma("GCC unroll 4") for (b = 0; b < n; b++) {
                d[b].v[q] = vpadalq_s16(d[b].v[q], group_of(ws, xs + b, g, 0));
                if (width > 4) d[b].v[q + 1] = vpadalq_s16(d[b].v[q + 1], group_of(ws, xs + b, g, 1));
            }
        }
}

static inline __attribute__((always_inline)) void dots_add(dots *d, const int8_t *w, ptrdiff_t w_row, const int8_t *x,
                                                           ptrdiff_t step, int n_groups, const int n, const int width,
                                                           const int first)
{
    (void)first;
    for (; n_groups >= 2; n_groups -= 2, w += 2 * w_row, x += 8) dots_groups(d, w, w_row, x, step, 2, n, width);
    if (n_groups > 0) dots_groups(d, w, w_row, x, step, 1, n, width);
}

/* --- weights that stay in registers -------------------------------------------------------------------------------- */

#define HELD_I8
#define HELD_MOST 32
#define HELD_SUMS
#define HELD_WIDE

/* n groups of 4 inputs by `width` columns, 8 at a time. */
typedef struct {
    pair_weights w[8];
    int32x4_t bias[6];
} held;

static inline __attribute__((always_inline)) void held_load(held *h, const int8_t *w, ptrdiff_t w_row,
                                                            const int32_t *bias, const int n, const int width)
{
    int g, e, q;
    _Pragma("GCC unroll 8") for (g = 0; g < n; g++)
        _Pragma("GCC unroll 3") for (e = 0; e < width / 8; e++)
            h->w[g * (width / 8) + e] = weights_at(w + g * w_row + 32 * e);
    _Pragma("GCC unroll 6") for (q = 0; q < width / 4; q++) h->bias[q] = vld1q_s32(bias + 4 * q);
}

/* Adds the products of a row's inputs x to what is summed; `at`: the first of their groups, of which group 0 starts the sums. */
static inline __attribute__((always_inline)) void held_tap(const held *h, const pair_inputs *x, int32x4_t *acc, const int at,
                                                           const int n_groups, const int width)
{
    int g, q;
    _Pragma("GCC unroll 2") for (g = 0; g < n_groups; g++)
        _Pragma("GCC unroll 6") for (q = 0; q < width / 4; q++) {
            const int16x8_t products = group_of(h->w[(at + g) * (width / 8) + q / 2], x, g, q % 2);
            acc[q] = at + g == 0 ? vpaddlq_s16(products) : vpadalq_s16(acc[q], products);
        }
}

/* Sums of n rows, of which rows of inputs are read once for all that see them. */
static inline __attribute__((always_inline)) void held_sums(const held *h, const int8_t *x, ptrdiff_t x_row, const int n,
                                                            const int n_taps, const int n_fours, const int width, vf *sum)
{
    const int n_q = width / 4;
    int32x4_t acc[6];
    int r, g, b, q;
    _Pragma("GCC unroll 5") for (r = 0; r < n + n_taps - 1; r++)
        _Pragma("GCC unroll 4") for (g = 0; g < n_fours; g += 2) {
            const int n_groups = n_fours - g < 2 ? 1 : 2;
            const pair_inputs now = inputs_at(x + r * x_row + 4 * g, n_groups);
            _Pragma("GCC unroll 3") for (b = 0; b < n; b++)
                if (r - b >= 0 && r - b < n_taps) held_tap(h, &now, acc + b * n_q, (r - b) * n_fours + g, n_groups, width);
        }
    _Pragma("GCC unroll 6") for (q = 0; q < n * n_q; q++) sum[q] = vcvtq_f32_s32(vaddq_s32(acc[q], h->bias[q % n_q]));
}

#endif
