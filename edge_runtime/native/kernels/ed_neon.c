/* Kernels for NEON: every Armv8-A processor, and Armv7-A ones that have it. */
#include "ed_program.h"

#if defined(ED_ARM64) || defined(ED_ARM32)
#if !defined(__aarch64__)
#include <sys/auxv.h>
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("neon"))), apply_to = function)
#else
#pragma GCC target("fpu=neon")
/* Takes vector operators as NEON's instructions, which gcc makes four scalar ones of because NEON takes denormals for
 * zero (ed_arm32.h); nothing is reordered. */
#pragma GCC optimize("unsafe-math-optimizations", "no-associative-math", "no-reciprocal-math")
#pragma GCC optimize("signed-zeros", "trapping-math")
#endif
#endif
#include "ed_arm.h"
#include "ed_arm_gru.h"
#include "ed_arm_sixteen.h"
#include "ed_arm_sums.h"
#include "ed_arm_i16.h"
#if defined(__aarch64__)
#include "ed_arm64_i8.h"
#endif

#define SET ed_neon
#define NAME "neon"
#define BASE &ed_portable
#if defined(__aarch64__)
#define NB16_I8 3
#define NB8_I8 3
#else
#define NB16_I8 1
#define NB8_I8 2
#endif

#if !defined(__aarch64__)
/* 4 inputs of 4 results in 16 bytes: two by two as 16-bit products, added in pairs to 32 bits. */
typedef struct {
    int32x4_t low[4], high[4]; /* of 4 results: 0 and 1, 2 and 3, each as two partial sums */
} dots;

static inline __attribute__((always_inline)) void dots_start(dots *d, const int32_t *bias, const int n, const int width)
{
    (void)d, (void)bias, (void)n, (void)width; /* the first products of dots_add start the sums */
}

static inline __attribute__((always_inline)) void pair(dots *d, const int8_t *w, ptrdiff_t w_row, const int8_t *x,
                                                       ptrdiff_t step, const int n, const int width, const int first)
{
    int8x16_t x0[MOST_NB_I8], x1[MOST_NB_I8];
    int b, q;
    _Pragma("GCC unroll 4") for (b = 0; b < n; b++) x0[b] = four(x + b * step), x1[b] = four(x + b * step + 4);
    _Pragma("GCC unroll 4") for (q = 0; q < width / 4; q++) {
        int8x16_t w0 = vld1q_s8(w + 16 * q), w1 = vld1q_s8(w + w_row + 16 * q);
        _Pragma("GCC unroll 4") for (b = 0; b < n; b++) {
            int16x8_t low = mlal_low(mull_low(w0, x0[b]), w1, x1[b]), high = mlal_high(mull_high(w0, x0[b]), w1, x1[b]);
            d[b].low[q] = first ? vpaddlq_s16(low) : vpadalq_s16(d[b].low[q], low);
            d[b].high[q] = first ? vpaddlq_s16(high) : vpadalq_s16(d[b].high[q], high);
        }
    }
}

static inline __attribute__((always_inline)) void single(dots *d, const int8_t *w, const int8_t *x, ptrdiff_t step,
                                                         const int n, const int width, const int first)
{
    int b, q;
    _Pragma("GCC unroll 4") for (q = 0; q < width / 4; q++) {
        int8x16_t w0 = vld1q_s8(w + 16 * q);
        _Pragma("GCC unroll 4") for (b = 0; b < n; b++) {
            int16x8_t low = mull_low(w0, four(x + b * step)), high = mull_high(w0, four(x + b * step));
            d[b].low[q] = first ? vpaddlq_s16(low) : vpadalq_s16(d[b].low[q], low);
            d[b].high[q] = first ? vpaddlq_s16(high) : vpadalq_s16(d[b].high[q], high);
        }
    }
}

/* Groups of 4 inputs, two at a time; `first`: nothing was summed before. */
static inline __attribute__((always_inline)) void dots_add(dots *d, const int8_t *w, ptrdiff_t w_row, const int8_t *x,
                                                           ptrdiff_t step, int n_groups, const int n, const int width,
                                                           const int first)
{
    int g = 0;
    if (first && n_groups > 1) {
        pair(d, w, w_row, x, step, n, width, 1);
        g = 2, w += 2 * w_row, x += 8;
    } else if (first) {
        single(d, w, x, step, n, width, 1);
        return;
    }
    for (; g + 2 <= n_groups; g += 2, w += 2 * w_row, x += 8) pair(d, w, w_row, x, step, n, width, 0);
    if (g < n_groups) single(d, w, x, step, n, width, 0);
}

static inline __attribute__((always_inline)) void dots_sum(const dots *d, const int32_t *bias, vf sum[][4], const int n,
                                                           const int width)
{
    int b, q;
    _Pragma("GCC unroll 4") for (q = 0; q < width / 4; q++) {
        int32x4_t add = vld1q_s32(bias + 4 * q);
        _Pragma("GCC unroll 4") for (b = 0; b < n; b++)
            sum[b][q] = vcvtq_f32_s32(vaddq_s32(pairs(d[b].low[q], d[b].high[q]), add));
    }
}
#endif

static inline void gate_sum(const gate_dots *d, const int8_t *h, int gate, vf *sum)
{
    int q;
    _Pragma("GCC unroll 4") for (q = 0; q < 4; q++) {
        int8x16_t w = vld1q_s8(d->w + 64 * gate + 16 * q), x = block(h, q);
        int32x4_t s = pairs(vpaddlq_s16(mull_low(w, x)), vpaddlq_s16(mull_high(w, x)));
        sum[q] = vcvtq_f32_s32(vaddq_s32(s, vld1q_s32(d->bias + 16 * gate + 4 * q)));
    }
}

static int usable(void)
{
#if defined(__aarch64__)
    return 1;
#else
    return (getauxval(AT_HWCAP) >> 12 & 1) != 0; /* HWCAP_NEON */
#endif
}

#include "ed_simd.inc"

#if !defined(__aarch64__) && defined(__clang__)
#pragma clang attribute pop
#endif
#else
typedef int ed_neon_is_not_built;
#endif
