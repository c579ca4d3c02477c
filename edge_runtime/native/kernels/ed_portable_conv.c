/* Convolutions over bands, and over frames. Rows are bands; `pad` rows of real zero lie before and after a value that
 * one reads (its halo), so that no kernel asks where the edge is. Transposed convolutions are written as plain ones
 * over interleaved phases (quant/emit/native), with EDGES for what differs at the ends. */
#include "ed_block.h"
#include "ed_portable.h"

/* y = x, and y[0][o] += sum over c of x2[0][c] weight[0][c][o], y[last][o] += x2[seg - 1][c] weight[1][c][o]:
 * products one by one, c upwards. x and y may be the same. x2 has `seg` rows. */
KERNEL(EDGES)
{
    const ed_op *op = a->op;
    const float *w = a->weight;
    int r, c, o, end;
    for (r = 0; r < op->n_rows && a->x != a->y; r++)
        memmove(ROWS(float, a->y, op->y_row, r), ROWS(const float, a->x, op->x_row, r), op->n_out * sizeof *w);
    for (end = 0; end < 2; end++) {
        const float *from = ROWS(const float, a->x2, op->x2_row, end ? op->seg - 1 : 0);
        float *y = ROWS(float, a->y, op->y_row, end ? op->n_rows - 1 : 0);
        for (c = 0; c < op->n_in; c++, w += op->n_out)
            for (o = 0; o < op->n_out; o++) y[o] = y[o] + from[c] * w[o];
    }
}

/* Weights lie in lines of as many results: a vector's, at least 4. */
static int padded(int n)
{
    return (n + 3) / 4 * 4;
}

static float leaky(const ed_op *op, float v)
{
    return op->flags & ED_LEAKY_AFTER && v < 0 ? v * op->f0 : v;
}

/* y[r][o] = bias[o] + sum over k, c of x[r stride + k - pad][c] weight[k][c][o], added in that order, k outermost;
 * then a LeakyReLU of slope f0, if there is one. weight: [taps][n_in][n_out padded to 4], halves with ED_HALF.
 * Columns of y may lie in pieces, see ed_piece. */
KERNEL_SELDOM(CONV)
{
    const ed_op *op = a->op;
    int r, o, k, c;
    for (r = 0; r < op->n_rows; r++)
        for (o = 0; o < op->n_out; o++) {
            float sum = ((const float *)a->bias)[o];
            ptrdiff_t w = o;
            for (k = 0; k < op->taps; k++)
                for (c = 0; c < op->n_in; c++, w += padded(op->n_out))
                    sum = sum + ROWS(const float, a->x, op->x_row, r * op->stride + k - op->pad)[c]
                                * weight_at(a, a->weight, w);
            ROWS(float, a->y, op->y_row, r)[ed_piece(op, o)] = leaky(op, sum);
        }
}

/* The LeakyReLU for slopes up to 1. */
static float bent(const ed_op *op, float v)
{
    return op->flags & ED_LEAKY_AFTER && v < v * op->f0 ? v * op->f0 : v;
}

/* A sum times its column's multiplier, then the LeakyReLU of slope f0 if there is one, then rounded once, onto the grid of
 * the result, y_zp; or with ED_FLOAT_OUT as it is, and multipliers are in real units. */
static void store(const ed_args *a, int r, ptrdiff_t at, int32_t sum, float multiplier)
{
    const ed_op *op = a->op;
    float v = (float)sum * multiplier;
    v = bent(op, v);
    if (op->flags & ED_FLOAT_OUT) ROWS(float, a->y, op->y_row, r)[at] = v;
    else ROWS(int8_t, a->y, op->y_row, r)[at] = to_i8(v, (float)op->y_zp);
}

/* As CONV with bytes: sum[r][o] = bias[o] + sum over k, c of x[r stride + k - pad][c] weight[k][c][o], in 32 bits,
 * any order; y = store(sum * scale[o]). weight: [taps][n_in / 4][n_out padded to 4][4], zeros beyond the channels: 4
 * inputs of 4 results are a vector of 16 bytes, as dot products take them. The zero point of x is in the bias, for
 * halos hold it, too. */
KERNEL_SELDOM(CONV_I8)
{
    const ed_op *op = a->op;
    const int8_t *weight = a->weight;
    int r, o, k, c, n_out = padded(op->n_out), n_in = padded(op->n_in);
    for (r = 0; r < op->n_rows; r++)
        for (o = 0; o < op->n_out; o++) {
            int32_t sum = ((const int32_t *)a->bias)[o];
            for (k = 0; k < op->taps; k++)
                for (c = 0; c < op->n_in; c++)
                    sum += ROWS(const int8_t, a->x, op->x_row, r * op->stride + k - op->pad)[c]
                           * weight[((k * n_in + c) / 4 * n_out + o) * 4 + c % 4];
            store(a, r, ed_piece(op, o), sum, ((const float *)a->scale)[o]);
        }
}

/* y[r][c]: x[r][c] in steps of the block's exponent, to nearest with ties to even; what a step is goes to the float at
 * state. */
KERNEL_SELDOM(QUANTIZE_I16)
{
    uint32_t largest = 0;
    ed_block b;
    int r, c;
    for (r = 0; r < a->op->n_rows; r++)
        for (c = 0; c < a->op->n_out; c++) {
            const uint32_t size = ed_size_bits(ROWS(const float, a->x, a->op->x_row, r)[c]);
            if (size > largest) largest = size;
        }
    b = ed_block_of(largest);
    EACH(int16_t, c, to_i16(XF[c] * b.steps));
    *(float *)a->state = b.unit;
}

/* As CONV, of numbers of 16 bits with one exponent: y[r][o] = bias[o] + sum times (scale[o] times the float at x2), where
 * sum = sum over k, c of x[r stride + k - pad][c] weight[k][c][o] in 32 bits, any order. weight: [taps][n_in / 2][n_out
 * padded to 4][2], of 16 bits; ed_check_kinds.c proves that no sum leaves 32. The LeakyReLU as in `store`. */
KERNEL_SELDOM(CONV_I16)
{
    const ed_op *op = a->op;
    const int16_t *weight = a->weight;
    const float unit = *(const float *)a->x2;
    int r, o, k, c, n_out = padded(op->n_out);
    for (r = 0; r < op->n_rows; r++)
        for (o = 0; o < op->n_out; o++) {
            int32_t sum = 0;
            float v;
            for (k = 0; k < op->taps; k++)
                for (c = 0; c < op->n_in; c++)
                    sum += ROWS(const int16_t, a->x, op->x_row, r * op->stride + k - op->pad)[c]
                           * weight[((k * op->n_in + c) / 2 * n_out + o) * 2 + c % 2];
            v = (float)sum * (((const float *)a->scale)[o] * unit);
            ROWS(float, a->y, op->y_row, r)[ed_piece(op, o)] = bent(op, v + ((const float *)a->bias)[o]);
        }
}

/* Each channel by itself, over time and bands: y[r][c] = bias[c] + sum over t, k of frame t [r + k - pad][c]
 * weight[t][k][c], t outermost; then a LeakyReLU of slope f0, if there is one. Frame time_taps - 1 is x, those before
 * it lie `dilation` frames apart in state, a ring of (time_taps - 1) * dilation frames that x joins. weight:
 * [time_taps][taps][n_out]. */
KERNEL_SELDOM(DEPTH)
{
    const ed_op *op = a->op;
    int r, c, t, k;
    for (r = 0; r < op->n_rows; r++)
        for (c = 0; c < op->n_out; c++) {
            float sum = ((const float *)a->bias)[c];
            for (t = 0; t < op->time_taps; t++)
                for (k = 0; k < op->taps; k++)
                    sum = sum + ((const float *)ed_frame_of(a, t, sizeof(float)))[(r + k) * op->n_out + c]
                                * ((const float *)a->weight)[(t * op->taps + k) * op->n_out + c];
            ROWS(float, a->y, op->y_row, r)[c] = leaky(op, sum);
        }
    if (op->time_taps > 1) ed_keep_frame(a, sizeof(float));
}

/* The same with bytes; sums and results as in CONV_I8. */
KERNEL_SELDOM(DEPTH_I8)
{
    const ed_op *op = a->op;
    int r, c, t, k;
    for (r = 0; r < op->n_rows; r++)
        for (c = 0; c < op->n_out; c++) {
            int32_t sum = ((const int32_t *)a->bias)[c];
            for (t = 0; t < op->time_taps; t++)
                for (k = 0; k < op->taps; k++)
                    sum += ((const int8_t *)ed_frame_of(a, t, 1))[(r + k) * op->n_out + c]
                           * ((const int8_t *)a->weight)[(t * op->taps + k) * op->n_out + c];
            store(a, r, c, sum, ((const float *)a->scale)[c]);
        }
    if (op->time_taps > 1) ed_keep_frame(a, 1);
}

/* A depthwise convolution that makes other rows than it reads: `seg` rows of x, each `stride`th, and for each one
 * `seg_row` rows of y (phases) with weights of their own, as a transposed convolution has them. y[r][c] = bias[p][c] +
 * sum over t, k of frame t [r / seg_row stride + k - pad][c] weight[p][t][k][c], p = r % seg_row; else as in DEPTH, with
 * frames of `seg` rows. */
#define RESAMPLED(T, S, finish)                                                                                        \
    do {                                                                                                               \
        const ed_op *op = a->op;                                                                                       \
        int r, c, t, k, n = op->n_out, n_frame = op->time_taps * op->taps;                                             \
        for (r = 0; r < op->n_rows; r++)                                                                               \
            for (c = 0; c < n; c++) {                                                                                  \
                int p = r % op->seg_row, row = r / op->seg_row * op->stride;                                           \
                S sum = ((const S *)a->bias)[p * n + c];                                                               \
                for (t = 0; t < op->time_taps; t++)                                                                    \
                    for (k = 0; k < op->taps; k++)                                                                     \
                        sum = sum + ((const T *)ed_frame_in(a, op->seg, t, sizeof(T)))[(row + k) * n + c]              \
                                    * ((const T *)a->weight)[(p * n_frame + t * op->taps + k) * n + c];                \
                finish;                                                                                                \
            }                                                                                                          \
        if (op->time_taps > 1) ed_keep_frame_in(a, op->seg, sizeof(T));                                                \
    } while (0)
KERNEL(RESAMPLE) { RESAMPLED(float, float, ROWS(float, a->y, op->y_row, r)[c] = leaky(op, sum)); }
KERNEL(RESAMPLE_I8)
{
    RESAMPLED(int8_t, int32_t, store(a, r, c, sum, ((const float *)a->scale)[p * n + c]));
}

/* A row of the frames before this one beside each other, the oldest first, then x: what a convolution over bands reads
 * as one over time, too. y[r] = state[r], x[r], zeros; n_in: columns of x, of which state has time_taps - 1 times as
 * many, n_out: of y. Rows are short: words are moved here, for a call would cost more than they do. */
static void move(char *to, const char *from, size_t n)
{
    size_t i = 0;
    for (; i + 4 <= n; i += 4) memcpy(to + i, from + i, 4);
    for (; i < n; i++) to[i] = from[i];
}

static void histories(const ed_args *a, size_t element, int zero)
{
    const ed_op *op = a->op;
    const size_t n = op->n_in * element, n_past = (op->time_taps - 1) * n, n_row = op->n_out * element;
    char *past = a->state;
    size_t i;
    int r;
    for (r = 0; r < op->n_rows; r++, past += n_past) {
        char *y = (char *)a->y + r * op->y_row * element;
        move(y, past, n_past);
        move(y + n_past, (const char *)a->x + r * op->x_row * element, n);
        for (i = n_past + n; i < n_row; i++) y[i] = (char)zero;
        move(past, y + n, n_past);
    }
}

KERNEL(HISTORY) { histories(a, sizeof(float), 0); }
KERNEL(HISTORY_I8) { histories(a, 1, a->op->y_zp); }
