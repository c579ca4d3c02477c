/* What the kernels of microcontrollers share, with Helium and without. */
#ifndef ED_BARE_H
#define ED_BARE_H

#include <math.h>

#include "ed_program.h"

#if defined(__GNUC__)
#ifndef INLINE
#define INLINE inline __attribute__((always_inline))
#endif
#define UNROLL _Pragma("GCC unroll 16")
#define APART __attribute__((noinline)) /* has the registers to itself */
#else
#define INLINE inline
#define APART
#define UNROLL
#endif

/* From sums to stored results: an operation's own copy, because stores of bytes might change the operation. */
typedef struct {
    float slope; /* of a LeakyReLU; 1 where there is none */
    int32_t zp;
} stage;

static INLINE stage stage_of(const ed_op *op)
{
    stage s;
    s.slope = op->flags & ED_LEAKY_AFTER ? op->f0 : 1.0f, s.zp = op->y_zp;
    return s;
}

/* ED_LANES sums side by side, in plain C's order; every number less the mean, times the gain, through weight and
 * bias. */
typedef float (*lane_sums)(const float *x, int n, float mean, const int squared);
typedef void (*normalization)(const ed_args *a, int n, float mean, float gain, const int half, const int add);

static INLINE void layer_norm(const ed_args *a, lane_sums sum, normalization normalize)
{
    const ed_op *op = a->op;
    const float *x = a->x;
    const int n = op->n_rows * op->n_out, half = op->flags & ED_HALF, add = op->flags & ED_ADD_AFTER;
    float mean, gain;
    if (n % ED_LANES != 0) {
        ed_portable_kernels[ED_LAYER_NORM](a);
        return;
    }
    mean = sum(x, n, 0, 0) / (float)n;
    gain = 1.0f / sqrtf(sum(x, n, mean, 1) / (float)n + op->f0);
    if (half && add) normalize(a, n, mean, gain, 1, 1);
    else if (half) normalize(a, n, mean, gain, 1, 0);
    else if (add) normalize(a, n, mean, gain, 0, 1);
    else normalize(a, n, mean, gain, 0, 0);
}

#define MOST_UNITS 64

/* A direction of a recurrent layer over bands: units first to first + half of each row. */
typedef void (*one_direction)(const ed_args *a, int first, const int8_t *x, ptrdiff_t x_row, int8_t *y,
                              ptrdiff_t y_row);

static INLINE void both_directions(const ed_args *a, one_direction direction)
{
    const ed_op *op = a->op;
    const int n = op->n_out, half = n / 2, n_rows = op->n_rows;
    const ptrdiff_t x_row = op->x_row, y_row = op->y_row;
    if (op->n_in != 4 || half % 4 != 0 || n > MOST_UNITS) {
        ed_portable_kernels[ED_BIGRU_I16](a);
        return;
    }
    direction(a, 0, a->x, x_row, a->y, y_row);
    direction(a, half, (const int8_t *)a->x + (n_rows - 1) * x_row + 3 * half, -x_row,
              (int8_t *)a->y + (n_rows - 1) * y_row + half, -y_row);
}

/* --- ed_scalar_rows.c, which has no vectors --- */

ED_DECLARE_KERNEL(SPLIT, ed_scalar_SPLIT)
ED_DECLARE_KERNEL(RESAMPLE_I8, ed_scalar_depth_any_i8)

#endif
