/* Every kernel in plain C: the obvious version, which judges the vectorized ones. Arithmetic: quant/int8/exact_float.py. */
#include <math.h>
#include <string.h>

#include "edge_denoise.h"
#include "ed_program.h"
#include "ed_tables.h"

/* 16: half floats are computed as such, too (processors with half-precision arithmetic). */
#if defined(__FLT_EVAL_METHOD__) && __FLT_EVAL_METHOD__ != 0 && __FLT_EVAL_METHOD__ != 16
#error "floats must be computed as floats (x87 rounds otherwise): on 32-bit x86 compile with -msse2 -mfpmath=sse"
#endif

#if defined(__FAST_MATH__)
#error "-ffast-math would reorder sums that must be exact"
#endif

#define KERNEL(name) ED_SELDOM static void run_##name(const ed_args *a)

static float weight_at(const ed_args *a, const void *weights, ptrdiff_t i)
{
    return a->op->flags & ED_HALF ? ed_half_to_float(((const uint16_t *)weights)[i]) : ((const float *)weights)[i];
}

static float clamp(float v, float low, float high)
{
    return v > low ? v < high ? v : high : low; /* low for NaN, which finite weights never make */
}

/* To the nearest integer, ties to even; |v| < 2^22. */
static float round_even(float v)
{
    return (v + 12582912.0f) - 12582912.0f;
}

/* Steps of a grid, rounded and saturated, still relative to its zero point. */
static float on_grid(float steps, float zp)
{
    return round_even(clamp(steps, -128.0f - zp, 127.0f - zp));
}

static int8_t to_i8(float steps, float zp)
{
    return (int8_t)(on_grid(steps, zp) + zp);
}

static float tanh_exact(float x)
{
    static const float p[] = {-2.76076847742355e-16f, 2.00018790482477e-13f, -8.60467152213735e-11f,
                              5.12229709037114e-08f,  1.48572235717979e-05f, 6.37261928875436e-04f,
                              4.89352455891786e-03f};
    static const float q[] = {1.19825839466702e-06f, 1.18534705686654e-04f, 2.26843463243900e-03f,
                              4.89352518554385e-03f};
    float s, num = p[0], den = q[0];
    int i;
    x = clamp(x, -7.90531110763549805f, 7.90531110763549805f);
    s = x * x;
    for (i = 1; i < 7; i++) num = num * s + p[i];
    for (i = 1; i < 4; i++) den = den * s + q[i];
    return x * num / den;
}

static float sigmoid_exact(float x)
{
    return tanh_exact(x * 0.5f) * 0.5f + 0.5f;
}

/* --- Fourier transform: 256 complex points as 16 x 16, radix 4 inside ------------------------------------------- */

static const float fft_w16_re[9] = {0.92387953251f, 0.70710678119f, 0.38268343236f, 0.70710678119f, 0.0f,
                                    -0.70710678119f, 0.38268343236f, -0.70710678119f, -0.92387953251f};
static const float fft_w16_im[9] = {-0.38268343236f, -0.70710678119f, -0.92387953251f, -0.70710678119f, -1.0f,
                                    -0.70710678119f, -0.92387953251f, -0.70710678119f, 0.38268343236f};

/* Rows r, r + step, r + 2 step, r + 3 step of 16 columns, in place. */
ED_SELDOM static void butterfly(float *re, float *im, int r, int step)
{
    int c;
    for (c = r * 16; c < r * 16 + 16; c++) {
        int i1 = c + 16 * step, i2 = c + 32 * step, i3 = c + 48 * step;
        float t0r = re[c] + re[i2], t0i = im[c] + im[i2], t1r = re[c] - re[i2], t1i = im[c] - im[i2];
        float t2r = re[i1] + re[i3], t2i = im[i1] + im[i3], t3r = re[i1] - re[i3], t3i = im[i1] - im[i3];
        re[c] = t0r + t2r, im[c] = t0i + t2i;
        re[i1] = t1r + t3i, im[i1] = t1i - t3r;
        re[i2] = t0r - t2r, im[i2] = t0i - t2i;
        re[i3] = t1r - t3i, im[i3] = t1i + t3r;
    }
}

static void multiply(float *re, float *im, float wr, float wi)
{
    float r = *re, i = *im;
    *re = r * wr - i * wi;
    *im = r * wi + i * wr;
}

/* 16 points down each of 16 columns; result k1 + 4 k2 lies in row 4 k1 + k2. */
ED_SELDOM static void fft16(float *re, float *im)
{
    int j, k, c;
    for (j = 0; j < 4; j++) butterfly(re, im, j, 4);
    for (k = 1; k < 4; k++)
        for (j = 1; j < 4; j++)
            for (c = 0; c < 16; c++)
                multiply(re + (4 * k + j) * 16 + c, im + (4 * k + j) * 16 + c, fft_w16_re[3 * (k - 1) + j - 1],
                         fft_w16_im[3 * (k - 1) + j - 1]);
    for (k = 0; k < 4; k++) butterfly(re, im, 4 * k, 1);
}

ED_SELDOM static void fft256(float *re, float *im)
{
    float tr[256], ti[256];
    int j, k;
    fft16(re, im);
    for (j = 0; j < 16; j++)
        for (k = 0; k < 16; k++) {
            int from = (4 * (j % 4) + j / 4) * 16 + k; /* frequency j of column k */
            tr[k * 16 + j] = re[from] * ed_twiddle_re[j * 16 + k] - im[from] * ed_twiddle_im[j * 16 + k];
            ti[k * 16 + j] = re[from] * ed_twiddle_im[j * 16 + k] + im[from] * ed_twiddle_re[j * 16 + k];
        }
    fft16(tr, ti);
    for (j = 0; j < 16; j++) {
        memcpy(re + j * 16, tr + (4 * (j % 4) + j / 4) * 16, 16 * sizeof *re);
        memcpy(im + j * 16, ti + (4 * (j % 4) + j / 4) * 16, 16 * sizeof *im);
    }
}

/* x: 512 samples -> y: re[ED_PLANE], im[ED_PLANE]. */
KERNEL(ANALYSIS)
{
    const float *x = a->x;
    float zr[257], zi[257], *re = a->y, *im = re + ED_PLANE;
    int k;
    for (k = 0; k < 256; k++) {
        zr[k] = x[2 * k] * ed_window[2 * k];
        zi[k] = x[2 * k + 1] * ed_window[2 * k + 1];
    }
    fft256(zr, zi);
    zr[256] = zr[0], zi[256] = zi[0];
    for (k = 0; k <= 256; k++) {
        int m = 256 - k;
        float er = (zr[k] + zr[m]) * 0.5f, ei = (zi[k] - zi[m]) * 0.5f;
        float or_ = (zi[k] + zi[m]) * 0.5f, oi = (zr[m] - zr[k]) * 0.5f;
        re[k] = er + (or_ * ed_unpack_re[k] - oi * ed_unpack_im[k]);
        im[k] = ei + (or_ * ed_unpack_im[k] + oi * ed_unpack_re[k]);
    }
}

/* x: re[ED_PLANE], im[ED_PLANE], state: the tail of the last frame, 256 -> y: 256 samples. */
KERNEL(SYNTHESIS)
{
    const float *re = a->x, *im = re + ED_PLANE;
    float xi[257], zr[256], zi[256], *y = a->y, *tail = a->state;
    int k;
    memcpy(xi, im, sizeof xi);
    xi[0] = xi[256] = 0; /* a real signal has none there */
    for (k = 0; k < 256; k++) {
        int m = 256 - k;
        float er = (re[k] + re[m]) * 0.5f, ei = (xi[k] - xi[m]) * 0.5f;
        float dr = (re[k] - re[m]) * 0.5f, di = (xi[k] + xi[m]) * 0.5f;
        zr[k] = er - (di * ed_unpack_re[k] - dr * ed_unpack_im[k]);
        zi[k] = ei + (dr * ed_unpack_re[k] + di * ed_unpack_im[k]);
    }
    fft256(zi, zr); /* the parts exchanged: the inverse */
    for (k = 0; k < 256; k++) {
        zr[k] *= 1.0f / 256.0f;
        zi[k] *= 1.0f / 256.0f;
    }
    for (k = 0; k < 128; k++) {
        y[2 * k] = tail[2 * k] + zr[k] * ed_window[2 * k];
        y[2 * k + 1] = tail[2 * k + 1] + zi[k] * ed_window[2 * k + 1];
        tail[2 * k] = zr[k + 128] * ed_window[2 * k + 256];
        tail[2 * k + 1] = zi[k + 128] * ed_window[2 * k + 257];
    }
}

/* --- spectrum and bands ----------------------------------------------------------------------------------------- */

/* x: planes -> y: rows of (magnitude, real, imaginary, 0). */
KERNEL(FEATURES)
{
    const float *re = a->x, *im = re + ED_PLANE;
    float *y = a->y;
    int k;
    for (k = 0; k < a->op->n_rows; k++, y += 4) {
        y[0] = sqrtf(re[k] * re[k] + im[k] * im[k] + 1e-12f);
        y[1] = re[k], y[2] = im[k], y[3] = 0;
    }
}

/* The first n_in rows are copied; each later row r sums a run of rows, table: (start, length), weights in order. */
static void sum_runs(const ed_args *a, int r, const float **w, float *out, int n_columns)
{
    const ed_op *op = a->op;
    const uint16_t *run = (const uint16_t *)a->table + 2 * (r - op->n_in);
    int c, j;
    for (c = 0; c < n_columns; c++) out[c] = 0;
    for (j = 0; j < run[1]; j++, ++*w)
        for (c = 0; c < n_columns; c++) out[c] = out[c] + ROWS(const float, a->x, op->x_row, run[0] + j)[c] * **w;
}

KERNEL(MERGE)
{
    const ed_op *op = a->op;
    const float *w = a->weight;
    int r;
    for (r = 0; r < op->n_rows; r++) {
        float *y = ROWS(float, a->y, op->y_row, r);
        if (r < op->n_in) memmove(y, ROWS(const float, a->x, op->x_row, r), (size_t)op->n_out * sizeof *y);
        else sum_runs(a, r, &w, y, op->n_out);
    }
}

/* Bands of (real, imaginary) -> planes. */
KERNEL(SPLIT)
{
    const ed_op *op = a->op;
    const float *w = a->weight;
    float *y = a->y, both[2];
    int r;
    for (r = 0; r < op->n_rows; r++) {
        if (r < op->n_in) memcpy(both, ROWS(const float, a->x, op->x_row, r), sizeof both);
        else sum_runs(a, r, &w, both, 2);
        y[r] = both[0], y[r + ED_PLANE] = both[1];
    }
}

KERNEL(MASK)
{
    const float *re = a->x, *im = re + ED_PLANE, *mr = a->x2, *mi = mr + ED_PLANE;
    float *yr = a->y, *yi = yr + ED_PLANE;
    int k;
    for (k = 0; k < a->op->n_rows; k++) {
        yr[k] = re[k] * mr[k] - im[k] * mi[k];
        yi[k] = im[k] * mr[k] + re[k] * mi[k];
    }
}

/* y = x, and weight[0] [n_in][n_out] times the first row of x2 added to its first row, weight[1] times the last to the
 * last. x and y may be the same. */
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

/* --- convolutions ----------------------------------------------------------------------------------------------- */

static int padded(int n)
{
    return (n + 3) / 4 * 4;
}

static float leaky(const ed_op *op, float v)
{
    return op->flags & ED_LEAKY_AFTER && v < 0 ? v * op->f0 : v;
}

/* weight [tap][channel][out, padded to 4]; f0: slope. */
KERNEL(CONV)
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

/* A sum onto the grid, through a LeakyReLU if there is one. f0: multiplier of what is above zero, f1: below; f2: the
 * scale if the result is float. */
static void store(const ed_args *a, int r, ptrdiff_t at, int32_t sum, float multiplier)
{
    const ed_op *op = a->op;
    float zp = (float)op->y_zp, v = (float)sum * multiplier;
    if (op->flags & ED_LEAKY_AFTER) {
        v = on_grid(v, (float)op->mid_zp);
        v = v * (v < 0 ? op->f1 : op->f0);
    }
    if (op->flags & ED_FLOAT_OUT) ROWS(float, a->y, op->y_row, r)[at] = on_grid(v, zp) * op->f2;
    else ROWS(int8_t, a->y, op->y_row, r)[at] = to_i8(v, zp);
}

/* weight [tap][channel / 4][out, padded to 4][channel % 4], zeros beyond the channels; the zero point of x is in the
 * bias. */
KERNEL(CONV_I8)
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

/* weight [time][tap][channel]. */
KERNEL(DEPTH)
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

KERNEL(DEPTH_I8)
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

/* --- element by element ----------------------------------------------------------------------------------------- */

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

KERNEL(LEAKY) { EACH(float, c, XF[c] < 0 ? XF[c] * op->f0 : XF[c]); }
KERNEL(LEAKY_I8) { EACH(int8_t, c, to_i8(XI * (XI < 0 ? op->f1 : op->f0), (float)op->y_zp)); }
KERNEL(SIGMOID) { EACH(float, c, sigmoid_exact(XF[c])); }
KERNEL(TANH) { EACH(float, c, tanh_exact(XF[c])); }
KERNEL(ADD) { EACH(float, c, XF[c] + X2F[c]); }
KERNEL(ADD_I8) { EACH(int8_t, c, to_i8(XI * op->f0 + X2I(c) * op->f1, (float)op->y_zp)); }
KERNEL(QUANTIZE) { EACH(int8_t, c, to_i8(XF[c] * op->f0, (float)op->y_zp)); }
KERNEL(DEQUANTIZE) { EACH(float, c, XI * op->f0); }

/* x2: one row of gates. */
KERNEL(GATE) { EACH(float, c, XF[c] * ((const float *)a->x2)[c]); }
KERNEL(GATE_I8) { EACH(int8_t, c, to_i8(XI * (float)(((const int8_t *)a->x2)[c] - op->x2_zp) * op->f0, (float)op->y_zp)); }

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

/* (group, phase, channel) in a row -> two rows; n_in groups, n_out channels of the result. */
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

/* All of x lies together. weight, bias like x; f0: epsilon; x2 is added with ED_ADD_AFTER. */
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

/* --- recurrent layers: x = W_ih x + b_ih, rows of (reset, update, new) gates ------------------------------------ */

static float gru(float xr, float xz, float xn, float hr, float hz, float hn, float h)
{
    float reset = sigmoid_exact(xr + hr), z = sigmoid_exact(xz + hz), n = tanh_exact(xn + reset * hn);
    return n + z * (h - n);
}

/* x2 = W_hh h + b_hh; state: h, n_out a row, is the result. */
KERNEL(GRU_CELL)
{
    const ed_op *op = a->op;
    float *h = a->state;
    int r, u, n = op->n_out;
    for (r = 0; r < op->n_rows; r++)
        for (u = 0; u < n; u++) {
            const float *x = XF, *g = X2F;
            h[r * n + u] = gru(x[u], x[n + u], x[2 * n + u], g[u], g[n + u], g[2 * n + u], h[r * n + u]);
        }
}

static float look_up(const int8_t *table, float steps, float zp, float table_zp)
{
    return (float)table[(int)(on_grid(steps, zp) + zp) + 128] - table_zp;
}

/* Everything in steps of its own grid; table: sigmoid[256], tanh[256]. */
static float gru_i8(const ed_gru_grids *g, const int8_t *table, const float x[3], const float hh[3], float h)
{
    float r = look_up(table, x[0] * g->sum_x + hh[0] * g->sum_h, g->sum_zp, g->gate_zp);
    float z = look_up(table, x[1] * g->sum_x + hh[1] * g->sum_h, g->sum_zp, g->gate_zp);
    float reset = on_grid(r * hh[2] * g->reset, g->reset_zp);
    float n = look_up(table + 256, x[2] * g->new_x + reset * g->new_h, g->new_zp, g->n_zp);
    float diff = on_grid(h * g->diff_h - n * g->diff_n, g->diff_zp);
    float update = on_grid(z * diff * g->update, g->update_zp);
    return on_grid(n * g->h_n + update * g->h_update, g->h_zp);
}

KERNEL(GRU_CELL_I8)
{
    const ed_op *op = a->op;
    const ed_gru_grids *g = a->scale;
    int8_t *h = a->state;
    int r, u, i, n = op->n_out;
    for (r = 0; r < op->n_rows; r++)
        for (u = 0; u < n; u++) {
            float x[3], hh[3];
            for (i = 0; i < 3; i++) {
                x[i] = (float)ROWS(const int8_t, a->x, op->x_row, r)[i * n + u] - g->gates_x_zp;
                hh[i] = (float)ROWS(const int8_t, a->x2, op->x2_row, r)[i * n + u] - g->gates_h_zp;
            }
            h[r * n + u] = (int8_t)(gru_i8(g, a->table, x, hh, (float)h[r * n + u] - g->h_zp) + g->h_zp);
        }
}

/* Over bands, in both directions at once: the first half of the n_out units reads row i of x, the other row
 * n_rows - 1 - i, second half. Units come in blocks of n_in that see only each other. */
typedef struct {
    const ed_op *op;
    int n, half, u, row; /* units, half of them, this unit, and the row it reads and makes */
} ed_unit;

static ed_unit unit(const ed_op *op, int i, int u)
{
    ed_unit v;
    v.op = op, v.n = op->n_out, v.half = op->n_out / 2, v.u = u;
    v.row = u < v.half ? i : op->n_rows - 1 - i;
    return v;
}

/* Where gate `gate` of the unit lies in its row: [direction][gate][unit]. */
static int gate_at(ed_unit v, int gate)
{
    return v.u / v.half * 3 * v.half + gate * v.half + v.u % v.half;
}

/* weight [gate][k][unit], bias [gate][unit]. */
KERNEL(BIGRU)
{
    const ed_op *op = a->op;
    float h[64] = {0}, next[64];
    int i, u, k, gate, n = op->n_out;
    for (i = 0; i < op->n_rows; i++) {
        for (u = 0; u < n; u++) {
            ed_unit v = unit(op, i, u);
            const float *x = ROWS(const float, a->x, op->x_row, v.row);
            float g[3];
            for (gate = 0; gate < 3; gate++) {
                g[gate] = ((const float *)a->bias)[gate * n + u];
                for (k = 0; k < op->n_in; k++)
                    g[gate] = g[gate] + h[u / op->n_in * op->n_in + k]
                                        * weight_at(a, a->weight, (gate * op->n_in + k) * n + u);
            }
            next[u] = gru(x[gate_at(v, 0)], x[gate_at(v, 1)], x[gate_at(v, 2)], g[0], g[1], g[2], h[u]);
            ROWS(float, a->y, op->y_row, v.row)[u] = next[u];
        }
        memcpy(h, next, (size_t)n * sizeof *h);
    }
}

/* One gate of one unit: weight [gate][unit][k], bias and scale [gate][unit]; steps of the grid with zero point zp. */
static float gate_i8(const ed_args *a, const int8_t *h, int gate, int u, float zp)
{
    const ed_op *op = a->op;
    int at = gate * op->n_out + u, k;
    int32_t sum = ((const int32_t *)a->bias)[at];
    for (k = 0; k < op->n_in; k++)
        sum += h[u / op->n_in * op->n_in + k] * ((const int8_t *)a->weight)[at * op->n_in + k];
    return on_grid((float)sum * ((const float *)a->scale)[at], zp);
}

/* Products in integers, gates and state in float. f0: 1 / scale of the quantized state, f1: scale of the gates;
 * x2_zp: zero point of the state, y_zp: of the gates. */
KERNEL(BIGRU_MIXED)
{
    const ed_op *op = a->op;
    float h[64] = {0}, next[64];
    int8_t q[64];
    int i, u, gate, n = op->n_out;
    for (i = 0; i < op->n_rows; i++) {
        for (u = 0; u < n; u++) q[u] = to_i8(h[u] * op->f0, (float)op->x2_zp);
        for (u = 0; u < n; u++) {
            ed_unit v = unit(op, i, u);
            const float *x = ROWS(const float, a->x, op->x_row, v.row);
            float g[3];
            for (gate = 0; gate < 3; gate++) g[gate] = gate_i8(a, q, gate, u, (float)op->y_zp) * op->f1;
            next[u] = gru(x[gate_at(v, 0)], x[gate_at(v, 1)], x[gate_at(v, 2)], g[0], g[1], g[2], h[u]);
            ROWS(float, a->y, op->y_row, v.row)[u] = next[u];
        }
        memcpy(h, next, (size_t)n * sizeof *h);
    }
}

/* scale: the multipliers of the gates, then ed_gru_grids. */
KERNEL(BIGRU_I8)
{
    const ed_op *op = a->op;
    const ed_gru_grids *g = (const ed_gru_grids *)((const float *)a->scale + 3 * op->n_out);
    int8_t h[64], next[64];
    int i, u, gate, n = op->n_out;
    for (u = 0; u < n; u++) h[u] = (int8_t)g->h_zp;
    for (i = 0; i < op->n_rows; i++) {
        for (u = 0; u < n; u++) {
            ed_unit v = unit(op, i, u);
            float x[3], hh[3];
            for (gate = 0; gate < 3; gate++) {
                x[gate] = (float)ROWS(const int8_t, a->x, op->x_row, v.row)[gate_at(v, gate)] - g->gates_x_zp;
                hh[gate] = gate_i8(a, h, gate, u, g->gates_h_zp);
            }
            next[u] = (int8_t)(gru_i8(g, a->table, x, hh, (float)h[u] - g->h_zp) + g->h_zp);
            ROWS(int8_t, a->y, op->y_row, v.row)[u] = next[u];
        }
        memcpy(h, next, (size_t)n);
    }
}

#define ENTRY(name) run_##name,
const ed_kernel ed_portable_kernels[ED_N_KINDS] = {ED_KINDS(ENTRY)};

static int usable(void)
{
    return 1;
}

const ed_isa ed_portable = {"portable", NULL, usable, ed_portable_kernels, ed_portable_kernels};
