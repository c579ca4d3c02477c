/* 8-bit kernels for Armv8.2-A with the dot product (Cortex-A55, A76 and later); all others are NEON's. */
#include "ed_program.h"

#if defined(ED_ARM64)
#include <sys/auxv.h>
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("dotprod"))), apply_to = function)
#else
#pragma GCC target("arch=armv8.2-a+dotprod")
#endif
#include "ed_arm.h"
#include "ed_arm_sums.h"

#define SHARES_NEON
#define SET ed_dotprod
#define NAME "dotprod"
#define BASE &ed_neon
#define NB16_I8 3
#define NB8_I8 3

#define OWN , [ED_DEPTH_I8] = run_DEPTH_I8

extern const ed_isa ed_neon;

#include "ed_dotprod_depth.h"

static inline __attribute__((always_inline)) void dots_add(dots *d, const int8_t *w, ptrdiff_t w_row, const int8_t *x,
                                                           ptrdiff_t step, int n_groups, const int n, const int width,
                                                           const int first)
{
    int g, b, q;
    (void)first;
    for (g = 0; g < n_groups; g++, w += w_row, x += 4) {
        int8x16_t xs[MOST_NB_I8], ws[4];
        _Pragma("GCC unroll 4") for (b = 0; b < n; b++) xs[b] = four(x + b * step);
        _Pragma("GCC unroll 4") for (q = 0; q < width / 4; q++) ws[q] = vld1q_s8(w + 16 * q);
        _Pragma("GCC unroll 4") for (q = 0; q < width / 4; q++)
            _Pragma("GCC unroll 4") for (b = 0; b < n; b++) d[b].v[q] = vdotq_s32(d[b].v[q], ws[q], xs[b]);
    }
}

/* --- weights that stay in registers -------------------------------------------------------------------------------- */

#define HELD_I8
#define HELD_MOST 32
#define HELD_WIDE

/* n groups of 4 inputs by `width` columns. Sums start from memory, two vectors by one load: from a register each would cost
 * a copy. */
typedef struct {
    int8x16_t w[16];
    const int32_t *bias;
} held;

static inline __attribute__((always_inline)) void held_start(const held *h, int32x4_t *sum, const int width)
{
    int q;
    _Pragma("GCC unroll 3") for (q = 0; q < width / 4; q += 2) load_two(h->bias + 4 * q, sum + q);
}

static inline __attribute__((always_inline)) void held_load(held *h, const int8_t *w, ptrdiff_t w_row,
                                                            const int32_t *bias, const int n, const int width)
{
    int g, q;
    _Pragma("GCC unroll 8") for (g = 0; g < n; g++)
        _Pragma("GCC unroll 6") for (q = 0; q < width / 4; q++) h->w[g * (width / 4) + q] = vld1q_s8(w + g * w_row + 16 * q);
    h->bias = bias;
}

/* A row of up to 32 inputs; of an odd number of groups the last one is there twice. */
typedef struct {
    int8x8_t two[4];
} held_x;

static inline __attribute__((always_inline)) void held_read(held_x *row, const int8_t *x, const int n_fours)
{
    int g;
    _Pragma("GCC unroll 4") for (g = 0; g < n_fours; g += 2)
        row->two[g / 2] = g + 1 < n_fours ? vld1_s8(x + 4 * g) : vget_low_s8(four(x + 4 * g));
}

static inline __attribute__((always_inline)) void held_sum(const held *h, const held_x *rows, const int n_taps,
                                                           const int n_fours, const int width, vf *sum)
{
    const int n_q = width / 4;
    int32x4_t acc[6];
    int t, g, q;
    held_start(h, acc, width);
    _Pragma("GCC unroll 3") for (t = 0; t < n_taps; t++)
        _Pragma("GCC unroll 8") for (g = 0; g < n_fours; g++) {
            const int8x16_t *w = h->w + (t * n_fours + g) * n_q;
            const int8x8_t x = rows[t].two[g / 2];
            _Pragma("GCC unroll 6") for (q = 0; q < n_q; q++)
                acc[q] = g % 2 ? vdotq_lane_s32(acc[q], w[q], x, 1) : vdotq_lane_s32(acc[q], w[q], x, 0);
        }
    _Pragma("GCC unroll 6") for (q = 0; q < n_q; q++) sum[q] = vcvtq_f32_s32(acc[q]);
}

static int usable(void)
{
    return (getauxval(AT_HWCAP) >> 20 & 1) != 0; /* HWCAP_ASIMDDP */
}

#include "ed_simd.inc"

#if defined(__clang__)
#pragma clang attribute pop
#endif
#else
typedef int ed_dotprod_is_not_built;
#endif
