/* What goes element by element, reductions, and the table of the plain kernels. */
#include <math.h>

#include "ed_portable.h"

/* --- element by element ------------------------------------------------------------------------------------------
 *
 * y[r][c] of x[r][c] and x2[r][c]. Of 8 bits: steps times the ratio of two scales (f0, f1), once rounded. */

KERNEL(LEAKY) { EACH(float, c, XF[c] < 0 ? XF[c] * op->f0 : XF[c]); }
KERNEL(LEAKY_I8) { EACH(int8_t, c, to_i8(XI * (XI < 0 ? op->f1 : op->f0), (float)op->y_zp)); }
KERNEL_SELDOM(ADD) { EACH(float, c, XF[c] + X2F[c]); }
KERNEL(ADD_I8) { EACH(int8_t, c, to_i8(XI * op->f0 + X2I(c) * op->f1, (float)op->y_zp)); }
KERNEL_SELDOM(QUANTIZE) { EACH(int8_t, c, to_i8(XF[c] * op->f0, (float)op->y_zp)); }
KERNEL(DEQUANTIZE) { EACH(float, c, XI * op->f0); }

/* x[r][c] * gate[c]. x2: one row of gates. */
KERNEL(GATE) { EACH(float, c, XF[c] * ((const float *)a->x2)[c]); }
KERNEL(GATE_I8)
{
    EACH(int8_t, c, to_i8(XI * (float)(((const int8_t *)a->x2)[c] - op->x2_zp) * op->f0, (float)op->y_zp));
}

/* x[r][c] * gate[r]. x2: a gate a row, one after the other. */
#define BAND_STEPS (float)(((const int8_t *)a->x2)[r] - op->x2_zp)
KERNEL(BAND_GATE) { EACH(float, c, XF[c] * ((const float *)a->x2)[r]); }
KERNEL(BAND_GATE_I8) { EACH(int8_t, c, to_i8(XI * BAND_STEPS * op->f0, (float)op->y_zp)); }

/* x[r][c] * gate[c] * gate of the band[r]: x2 as in GATE, state as x2 in BAND_GATE. The product of the first two has a
 * grid of its own, mid_zp, f0 leads to it and f1 from there; all gates have the zero point x2_zp. */
KERNEL(GATES) { EACH(float, c, XF[c] * ((const float *)a->x2)[c] * ((const float *)a->state)[r]); }
KERNEL(GATES_I8)
{
    EACH(int8_t, c,
         to_i8(on_grid(XI * (float)(((const int8_t *)a->x2)[c] - op->x2_zp) * op->f0, (float)op->mid_zp)
                   * (float)(((const int8_t *)a->state)[r] - op->x2_zp) * op->f1,
               (float)op->y_zp));
}

/* y[r][c] = (bias[r][c] + weight[r][c] x[r][c]) + scale[c] max(x[r][c], 0): a slope a band below zero, and what is
 * added to it above zero. weight and bias: rows of n_out without gaps, halves with ED_HALF. */
KERNEL(AFFINE_RELU)
{
    EACH(float, c,
         (weight_at(a, a->bias, (ptrdiff_t)r * op->n_out + c) + weight_at(a, a->weight, (ptrdiff_t)r * op->n_out + c) * XF[c])
             + ((const float *)a->scale)[c] * (XF[c] > 0 ? XF[c] : 0.0f));
}

/* The same in integers of 32 bits: weight and, at table, the rise [n_out] in bytes, bias in 16 bits; then on the grid of
 * the result, scale[c] a channel. */
static int32_t affine_sum(const ed_args *a, int r, int c)
{
    const ed_op *op = a->op;
    const ptrdiff_t at = (ptrdiff_t)r * op->n_out + c;
    const int32_t x = ROWS(const int8_t, a->x, op->x_row, r)[c] - op->x_zp;
    return ((const int16_t *)a->bias)[at] + ((const int8_t *)a->weight)[at] * x + ((const int8_t *)a->table)[c] * (x > 0 ? x : 0);
}

KERNEL(AFFINE_RELU_I8)
{
    EACH(int8_t, c, to_i8((float)affine_sum(a, r, c) * ((const float *)a->scale)[c], (float)op->y_zp));
}

/* --- in 16 bits ---------------------------------------------------------------------------------------------------
 *
 * What most processors do eight or sixteen at a time, and a microcontroller without floats: products of bytes are sums of
 * 16 bits; those times a number of 16 bits, whose upper half is kept, are 32nds of a step of the result
 * (quant/int8/sixteen_bits.py). Steps of x are taken 128fold, so that nothing of them is lost. */

/* As AFFINE_RELU_I8, but x has the zero point 0: w x + rise max(x, 0) then fits 16 bits. scale: a multiplier a channel, 16
 * bits; bias: bytes, of which one is f0 32nds of a step. */
KERNEL(AFFINE_RELU_I16)
{
    const ed_op *op = a->op;
    const int32_t unit = (int32_t)op->f0;
    int r, c;
    for (r = 0; r < op->n_rows; r++)
        for (c = 0; c < op->n_out; c++) {
            const ptrdiff_t at = (ptrdiff_t)r * op->n_out + c;
            const int32_t x = ROWS(const int8_t, a->x, op->x_row, r)[c];
            const int32_t sum = ((const int8_t *)a->weight)[at] * x + ((const int8_t *)a->table)[c] * (x > 0 ? x : 0);
            const int32_t y = high_product(sum, ((const int16_t *)a->scale)[c]) + ((const int8_t *)a->bias)[at] * unit;
            ROWS(int8_t, a->y, op->y_row, r)[c] = byte_of_32nds(y, op->y_zp);
        }
}

static int32_t by_128(int8_t x, int32_t zp)
{
    return (x - zp) * 128;
}

/* As GATES_I8 without a grid between. f0: what takes steps to steps, times 2^29. */
KERNEL(GATES_I16)
{
    const ed_op *op = a->op;
    int r, c;
    for (r = 0; r < op->n_rows; r++) {
        const int32_t band = high_product(by_128(((const int8_t *)a->state)[r], op->x2_zp), (int32_t)op->f0);
        for (c = 0; c < op->n_out; c++) {
            const int32_t gate = high_product(by_128(((const int8_t *)a->x2)[c], op->x2_zp), band);
            const int32_t y = high_product(by_128(ROWS(const int8_t, a->x, op->x_row, r)[c], op->x_zp), gate);
            ROWS(int8_t, a->y, op->y_row, r)[c] = byte_of_32nds(y, op->y_zp);
        }
    }
}

/* f0, f1: the ratios of two scales, times 2^13. */
#define TERM(value, row, zp, factor) high_product(by_128(ROWS(const int8_t, value, row, r)[c], zp), (int32_t)(factor))
KERNEL(ADD_I16)
{
    EACH(int8_t, c,
         byte_of_32nds(TERM(a->x, op->x_row, op->x_zp, op->f0) + TERM(a->x2, op->x2_row, op->x2_zp, op->f1), op->y_zp));
}

/* y[2 c] = x[c], y[2 c + 1] = x2[c]. */
KERNEL(SHUFFLE)
{
    EACH(float, 2 * c, XF[c]);
    EACH(float, 2 * c + 1, X2F[c]);
}

KERNEL(SHUFFLE_I8)
{
    EACH(int8_t, 2 * c, to_i8(XI * op->f0, (float)op->y_zp));
    EACH(int8_t, 2 * c + 1, to_i8(X2I(c) * op->f1, (float)op->y_zp));
}

/* The same with x gated first; bias: the row of gates, in the arena. */
KERNEL_SELDOM(GATE_SHUFFLE)
{
    EACH(float, 2 * c, XF[c] * ((const float *)a->bias)[c]);
    EACH(float, 2 * c + 1, X2F[c]);
}

/* What a transposed convolution of stride 2 made: row r of x is [group][phase][channel], and phase p is row 2 r + p
 * of y, [group][channel]. n_in: groups, n_out: columns of y. */
#define INTERLEAVE_OF(T)                                                                                               \
    do {                                                                                                               \
        const ed_op *op = a->op;                                                                                       \
        int r, c, per = op->n_out / op->n_in;                                                                          \
        for (r = 0; r < op->n_rows; r++)                                                                               \
            for (c = 0; c < op->n_out; c++)                                                                            \
                ROWS(T, a->y, op->y_row, r)[c] =                                                                       \
                    ROWS(const T, a->x, op->x_row, r / 2)[(c / per * 2 + r % 2) * per + c % per];                      \
    } while (0)
KERNEL(INTERLEAVE) { INTERLEAVE_OF(float); }
KERNEL(INTERLEAVE_I8) { INTERLEAVE_OF(int8_t); }

/* --- reductions ------------------------------------------------------------------------------------------------- */

/* y[c] = mean over r of x[r][c]^2, r upwards. */
KERNEL_SELDOM(MEAN_SQUARE)
{
    const ed_op *op = a->op;
    float *y = a->y;
    int r, c;
    for (c = 0; c < op->n_out; c++) {
        float sum = ((const float *)a->x)[c] * ((const float *)a->x)[c];
        for (r = 1; r < op->n_rows; r++) sum = sum + XF[c] * XF[c];
        y[c] = sum / (float)op->n_rows;
    }
}

/* Of 8 bits: the sum is an integer of 32 bits, any order; f0 takes it to the grid of the result. */
KERNEL(MEAN_SQUARE_I8)
{
    const ed_op *op = a->op;
    int r, c;
    for (c = 0; c < op->n_out; c++) {
        int32_t sum = 0;
        for (r = 0; r < op->n_rows; r++) {
            int32_t v = ROWS(const int8_t, a->x, op->x_row, r)[c] - op->x_zp;
            sum += v * v;
        }
        ((int8_t *)a->y)[c] = to_i8((float)sum * op->f0, (float)op->y_zp);
    }
}

/* y[r] = sum over c of weight[c] (x[r][c] x[r][c]), c upwards, for n_out columns; then zeros up to y[n_in - 1]. */
KERNEL(BAND_ENERGY)
{
    const ed_op *op = a->op;
    const float *w = a->weight;
    float *y = a->y;
    int r, c;
    for (r = 0; r < op->n_rows; r++) {
        float sum = w[0] * (XF[0] * XF[0]);
        for (c = 1; c < op->n_out; c++) sum = sum + w[c] * (XF[c] * XF[c]);
        y[r] = sum;
    }
    for (; r < op->n_in; r++) y[r] = 0;
}

/* The same with bytes, weights too, as MEAN_SQUARE_I8. */
KERNEL(BAND_ENERGY_I8)
{
    const ed_op *op = a->op;
    int8_t *y = a->y;
    int r, c;
    for (r = 0; r < op->n_rows; r++) {
        int32_t sum = 0;
        for (c = 0; c < op->n_out; c++) {
            int32_t v = ROWS(const int8_t, a->x, op->x_row, r)[c] - op->x_zp;
            sum += ((const int8_t *)a->weight)[c] * v * v;
        }
        y[r] = to_i8((float)sum * op->f0, (float)op->y_zp);
    }
    for (; r < op->n_in; r++) y[r] = op->y_zp;
}

/* Of x, or of its squared distances from `mean`. ED_LANES sums side by side, halved into one another at the end: the
 * order that vectors of 4, 8 and 16 share. */
static float lane_sum(const float *x, int n, float mean, int squared)
{
    float lane[ED_LANES] = {0};
    int i, half;
    for (i = 0; i < n; i++) {
        float v = x[i] - mean;
        lane[i % ED_LANES] = lane[i % ED_LANES] + (squared ? v * v : v);
    }
    for (half = ED_LANES / 2; half > 0; half /= 2)
        for (i = 0; i < half; i++) lane[i] = lane[i] + lane[i + half];
    return lane[0];
}

/* y = (x - mean) / sqrt(variance + f0) * weight + bias over the whole value, n_rows * n_out numbers that lie
 * together; weight and bias like x, halves with ED_HALF; x2 is added with ED_ADD_AFTER. The reciprocal is taken once.
 */
KERNEL_SELDOM(LAYER_NORM)
{
    const ed_op *op = a->op;
    const float *x = a->x;
    float *y = a->y, n = (float)(op->n_rows * op->n_out);
    float mean = lane_sum(x, op->n_rows * op->n_out, 0, 0) / n;
    float gain = 1.0f / sqrtf(lane_sum(x, op->n_rows * op->n_out, mean, 1) / n + op->f0);
    int i;
    for (i = 0; i < op->n_rows * op->n_out; i++) {
        float v = (x[i] - mean) * gain * weight_at(a, a->weight, i) + weight_at(a, a->bias, i);
        y[i] = op->flags & ED_ADD_AFTER ? ((const float *)a->x2)[i] + v : v;
    }
}

#define ENTRY(name) ED_IF_USED(name, ed_portable_##name, NULL),
const ed_kernel ed_portable_kernels[ED_N_KINDS] = {ED_KINDS(ENTRY)};

static int usable(void)
{
    return 1;
}

const ed_isa ed_portable = {"portable", NULL, usable, ed_portable_kernels, ed_portable_kernels};
