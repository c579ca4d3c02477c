/* What goes element by element, reductions, and the table of the plain kernels. */
#include <math.h>

#include "ed_portable.h"

/* --- element by element ------------------------------------------------------------------------------------------
 *
 * y[r][c] of x[r][c] and x2[r][c]. Of 8 bits: steps times the ratio of two scales (f0, f1), once rounded. */

KERNEL(LEAKY) { EACH(float, c, XF[c] < 0 ? XF[c] * op->f0 : XF[c]); }
KERNEL(LEAKY_I8) { EACH(int8_t, c, to_i8(XI * (XI < 0 ? op->f1 : op->f0), (float)op->y_zp)); }
KERNEL(ADD) { EACH(float, c, XF[c] + X2F[c]); }
KERNEL(ADD_I8) { EACH(int8_t, c, to_i8(XI * op->f0 + X2I(c) * op->f1, (float)op->y_zp)); }
KERNEL(QUANTIZE) { EACH(int8_t, c, to_i8(XF[c] * op->f0, (float)op->y_zp)); }
KERNEL(DEQUANTIZE) { EACH(float, c, XI * op->f0); }

/* x[r][c] * gate[c]. x2: one row of gates. */
KERNEL(GATE) { EACH(float, c, XF[c] * ((const float *)a->x2)[c]); }
KERNEL(GATE_I8)
{
    EACH(int8_t, c, to_i8(XI * (float)(((const int8_t *)a->x2)[c] - op->x2_zp) * op->f0, (float)op->y_zp));
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
KERNEL(GATE_SHUFFLE)
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
KERNEL(MEAN_SQUARE)
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
KERNEL(LAYER_NORM)
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

#define ENTRY(name) ed_portable_##name,
const ed_kernel ed_portable_kernels[ED_N_KINDS] = {ED_KINDS(ENTRY)};

static int usable(void)
{
    return 1;
}

const ed_isa ed_portable = {"portable", NULL, usable, ed_portable_kernels, ed_portable_kernels};
