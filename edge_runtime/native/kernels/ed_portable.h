/* Every kernel in plain C: the obvious version, which judges the others. In four files by what they compute:
 *
 *     ed_portable_spectrum.c    windows and Fourier transforms, features, bands, mask
 *     ed_portable_conv.c        convolutions
 *     ed_portable_gru.c         tanh and sigmoid, recurrent layers
 *     ed_portable.c             element by element, reductions, the table
 *
 * What is said of a kernel there holds of all that do its work. Beside it x[r][c] is column c of row r of the value
 * at x; ed_program.h says where rows lie, and ed_check.c proves the bounds. The arithmetic that every engine of this
 * project keeps to (quant/int8/exact_float.py) is here:
 *
 *  - float: each operation rounded to float32, in the order written, products before sums, none fused; fp32 programs
 *    may use any order;
 *  - 8 bits: q stands for (q - zero point) * scale. A sum of products is an integer of 32 bits; it is made a float32,
 *    multiplied once, rounded once, ties to even, and clamped. Values go as steps from their zero point, so that scales
 *    meet only in that multiplier. */
#ifndef ED_PORTABLE_H
#define ED_PORTABLE_H

#include "ed_block.h"
#include "ed_program.h"

/* 16: half floats are computed as such, too (processors with half-precision arithmetic). */
#if defined(__FLT_EVAL_METHOD__) && __FLT_EVAL_METHOD__ != 0 && __FLT_EVAL_METHOD__ != 16
#error "floats must be computed as floats (x87 rounds otherwise): on 32-bit x86 compile with -msse2 -mfpmath=sse"
#endif

#if defined(__FAST_MATH__)
#error "-ffast-math would reorder sums that must be exact"
#endif

#define KERNEL(name) ED_IN_VECTORS ED_KERNEL(name) ed_portable_##name(const ed_args *a)
/* Of a kind whose time counts and that Helium alone lacks. */
#if defined(ED_HELIUM)
#define KERNEL_BUT_HELIUM(name) ED_KERNEL(name) ed_portable_##name(const ed_args *a)
#else
#define KERNEL_BUT_HELIUM(name) KERNEL(name)
#endif
/* Of a kind that every other set has a kernel of. */
#define KERNEL_SELDOM(name) ED_SELDOM ED_KERNEL(name) ed_portable_##name(const ed_args *a)
#define ED_DECLARE(name) ED_DECLARE_KERNEL(name, ed_portable_##name)
ED_KINDS(ED_DECLARE)
#undef ED_DECLARE

static inline float weight_at(const ed_args *a, const void *weights, ptrdiff_t i)
{
    return a->op->flags & ED_HALF ? ed_half_to_float(((const uint16_t *)weights)[i]) : ((const float *)weights)[i];
}

static inline float clamp(float v, float low, float high)
{
    return v > low ? v < high ? v : high : low; /* low for NaN, which finite weights never make */
}

/* To the nearest integer, ties to even; |v| < 2^22. At 1.5 * 2^23 the last place of a float is 1. */
static inline float round_even(float v)
{
    return (v + 12582912.0f) - 12582912.0f;
}

static inline int16_t to_i16(float v)
{
    return (int16_t)round_even(clamp(v, ED_SHORT_LOW, ED_SHORT_HIGH));
}

/* Steps of a grid, rounded and saturated, still relative to its zero point. */
static inline float on_grid(float steps, float zp)
{
    return round_even(clamp(steps, -128.0f - zp, 127.0f - zp));
}

/* The byte that is stored. */
static inline int8_t to_i8(float steps, float zp)
{
    return (int8_t)(on_grid(steps, zp) + zp);
}

/* Of 16-bit numbers: a product of two with 15 bits behind the point, to the nearest one, halves upwards. */
static inline int32_t high_product(int32_t a, int32_t b)
{
    return (a * b + (1 << 14)) >> 15;
}

static inline int32_t saturated(int32_t v)
{
    return v < -32768 ? -32768 : v > 32767 ? 32767 : v;
}

/* From 32nds of a step to the byte that is stored, halves upwards. */
static inline int8_t byte_of_32nds(int32_t v, int32_t zp)
{
    const int32_t q = (v + 16) >> 5;
    return (int8_t)(q < -128 - zp ? -128 : q > 127 - zp ? 127 : q + zp);
}

/* y[r][y_] = expression, for every element made. XF, X2F: x and x2 of row r; XI, X2I: their steps, of 8 bits. */
#define EACH(T, y_, expression)                                                                                        \
    do {                                                                                                               \
        const ed_op *op = a->op;                                                                                       \
        int r, c;                                                                                                      \
        for (r = 0; r < op->n_rows; r++)                                                                               \
            for (c = 0; c < op->n_out; c++) ROWS(T, a->y, op->y_row, r)[y_] = (expression);                            \
    } while (0)
#define XF ROWS(const float, a->x, op->x_row, r)
#define X2F ROWS(const float, a->x2, op->x2_row, r)
#define XI ((float)(ROWS(const int8_t, a->x, op->x_row, r)[c] - op->x_zp))
#define X2I(i) ((float)(ROWS(const int8_t, a->x2, op->x2_row, r)[i] - op->x2_zp))

#endif
