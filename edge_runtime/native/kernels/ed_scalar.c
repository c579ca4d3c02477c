/* Kernels for processors without vectors (microcontrollers, Armv6): portable C's sums, in the same order, a block of them
 * side by side in registers; convolutions in ed_scalar_conv*.c, recurrent layers in ed_scalar_gru.c. On 32-bit ARM 8-bit products go two at a time (SMLAD, of
 * Armv6 and Armv7E-M). Shapes that are not GTCRN's go to the portable kernels, as do kinds that are not listed here. */
#include "ed_program.h"

#if defined(ED_SCALAR)
#include "ed_scalar_pairs.h"

/* `twos` for columns c + i and c + i + 1 of n, four at a time, and `one` for the columns after them. */
#define COLUMNS(n, twos, one)                                                                                          \
    do {                                                                                                               \
        int c, i;                                                                                                      \
        for (c = 0; c + 4 <= (n); c += 4)                                                                              \
            UNROLL for (i = 0; i < 4; i += 2) twos;                                                                    \
        for (i = 0; c < (n); c++) one;                                                                                 \
    } while (0)

/* Rounding is one instruction where the processor has it (byte_of). */
ED_KERNEL(QUANTIZE) ed_scalar_QUANTIZE(const ed_args *a)
{
    const ed_op *op = a->op;
    const float f0 = op->f0;
    const int32_t zp = op->y_zp;
    int r, n = op->n_out, n_rows = op->n_rows, x_row = op->x_row, y_row = op->y_row;
    for (r = 0; r < n_rows; r++) {
        const float *x = ROWS(const float, a->x, x_row, r);
        int8_t *y = ROWS(int8_t, a->y, y_row, r);
        COLUMNS(n, put_bytes(y + c + i, product_of(both_of(x + c + i), f0), zp), y[c] = (int8_t)byte_of(x[c] * f0, zp));
    }
}

ED_KERNEL(ADD) ed_scalar_ADD(const ed_args *a)
{
    const ed_op *op = a->op;
    int r, n = op->n_out;
    for (r = 0; r < op->n_rows; r++) {
        const float *x = ROWS(const float, a->x, op->x_row, r), *x2 = ROWS(const float, a->x2, op->x2_row, r);
        float *y = ROWS(float, a->y, op->y_row, r);
        COLUMNS(n, put_floats(y + c + i, plus(both_of(x + c + i), both_of(x2 + c + i))), y[c] = x[c] + x2[c]);
    }
}

#define PUT_GATED(c) put_gated(y + 2 * (c), x + (c), gates + (c), x2 + (c))

ED_KERNEL(GATE_SHUFFLE) ed_scalar_GATE_SHUFFLE(const ed_args *a)
{
    const ed_op *op = a->op;
    const float *gates = a->bias;
    int r, n = op->n_out;
    for (r = 0; r < op->n_rows; r++) {
        const float *x = ROWS(const float, a->x, op->x_row, r), *x2 = ROWS(const float, a->x2, op->x2_row, r);
        float *y = ROWS(float, a->y, op->y_row, r);
        COLUMNS(n, (PUT_GATED(c + i), PUT_GATED(c + i + 1)), PUT_GATED(c));
    }
}

/* Four columns' sums side by side. */
ED_KERNEL(MEAN_SQUARE) ed_scalar_MEAN_SQUARE(const ed_args *a)
{
    const ed_op *op = a->op;
    const int n_rows = op->n_rows, n = op->n_out;
    float *y = a->y;
    int r, c, i;
    if (n % 4 != 0) {
        ed_portable_kernels[ED_MEAN_SQUARE](a);
        return;
    }
    for (c = 0; c < n; c += 4) {
        const float *x = (const float *)a->x + c;
        float sum[4];
        UNROLL for (i = 0; i < 4; i++) sum[i] = x[i] * x[i];
        for (r = 1; r < n_rows; r++) {
            x += op->x_row;
            UNROLL for (i = 0; i < 4; i++) sum[i] = sum[i] + x[i] * x[i];
        }
        UNROLL for (i = 0; i < 4; i++) y[c + i] = sum[i] / (float)n_rows;
    }
}

/* --- layer normalization ------------------------------------------------------------------------------------------ */

static INLINE float lane_sum(const float *x, int n, float mean, const int squared)
{
    float sum[ED_LANES] = {0};
    both lane[ED_LANES / 2];
    int i, j, half;
    UNROLL for (j = 0; j < ED_LANES / 2; j++) lane[j] = both_of(sum);
    for (i = 0; i < n; i += ED_LANES)
        UNROLL for (j = 0; j < ED_LANES / 2; j++) {
            both v = both_of(x + i + 2 * j);
            if (squared) v = less(v, mean), v = product(v, v);
            lane[j] = plus(lane[j], v);
        }
    UNROLL for (j = 0; j < ED_LANES / 2; j++) put_floats(sum + 2 * j, lane[j]);
    for (half = ED_LANES / 2; half > 0; half /= 2)
        for (i = 0; i < half; i++) sum[i] = sum[i] + sum[i + half];
    return sum[0];
}

static INLINE void normalize(const ed_args *a, int n, float mean, float gain, const int half, const int add)
{
    const float *x = a->x, *x2 = a->x2;
    const void *weight = a->weight, *bias = a->bias;
    float *y = a->y;
    int i, j;
    for (i = 0; i < n; i += 4)
        UNROLL for (j = i; j < i + 4; j += 2) {
            both v = product(product_of(less(both_of(x + j), mean), gain), weights_at(weight, j, half));
            v = plus(v, weights_at(bias, j, half));
            put_floats(y + j, add ? plus(both_of(x2 + j), v) : v);
        }
}

ED_KERNEL(LAYER_NORM) ed_scalar_LAYER_NORM(const ed_args *a)
{
    layer_norm(a, lane_sum, normalize);
}

static int usable(void)
{
    return 1;
}

#define ENTRY(kind, kernel) [ED_##kind] = ED_IF_USED(kind, kernel, NULL)

static const ed_kernel kernels[ED_N_KINDS] = {
    ENTRY(CONV, ed_scalar_CONV), ENTRY(CONV_I8, ed_scalar_CONV_I8), ENTRY(DEPTH, ed_scalar_DEPTH),
    ENTRY(DEPTH_I8, ed_scalar_DEPTH_I8), ENTRY(LAYER_NORM, ed_scalar_LAYER_NORM),
    ENTRY(QUANTIZE, ed_scalar_QUANTIZE), ENTRY(BIGRU_I16, ed_scalar_BIGRU_I16), ENTRY(GRU_CELL, ed_scalar_GRU_CELL),
    ENTRY(GRU_CELL_I16, ed_scalar_GRU_CELL_I16), ENTRY(ADD, ed_scalar_ADD), ENTRY(GATE_SHUFFLE, ed_scalar_GATE_SHUFFLE), ENTRY(MEAN_SQUARE, ed_scalar_MEAN_SQUARE),
    ENTRY(MERGE, ed_scalar_MERGE), ENTRY(SPLIT, ed_scalar_SPLIT),
    ENTRY(RESAMPLE_I8, ed_scalar_depth_any_i8), ENTRY(CONV_I16, ed_scalar_CONV_I16),
    ENTRY(QUANTIZE_I16, ed_scalar_QUANTIZE_I16),
};

const ed_isa ed_scalar = {"scalar", &ed_portable, usable, kernels, kernels};
#else
typedef int ed_scalar_is_not_built;
#endif
