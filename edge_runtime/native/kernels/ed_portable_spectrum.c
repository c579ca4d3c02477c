/* From samples to what the network reads, and from its mask to samples. All in float, in both precisions. */
#include <math.h>

#include "ed_curve.h"
#include "edge_denoise.h"
#include "ed_portable.h"
#include "ed_tables.h"

/* --- Fourier transform ------------------------------------------------------------------------------------------
 *
 * 512 real points as 256 complex ones, z[n] = x[2 n] + i x[2 n + 1]: half the work, and 256 = 16 x 16 is two passes
 * of the same 16-point transform down the columns of a square, each two stages of radix 4, in registers where vectors
 * are. */

static const float fft_w16_re[9] = {0.92387953251f, 0.70710678119f, 0.38268343236f, 0.70710678119f, 0.0f,
                                    -0.70710678119f, 0.38268343236f, -0.70710678119f, -0.92387953251f};
static const float fft_w16_im[9] = {-0.38268343236f, -0.70710678119f, -0.92387953251f, -0.70710678119f, -1.0f,
                                    -0.70710678119f, -0.92387953251f, -0.70710678119f, 0.38268343236f};

/* 4 points, rows r, r + step, r + 2 step, r + 3 step of 16 columns, in place: no products, for the factors are 1 and
 * -i. */
ED_IN_VECTORS static void butterfly(float *re, float *im, int r, int step)
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
ED_IN_VECTORS static void fft16(float *re, float *im)
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

/* Half of it: what comes of it, or has come before, is the mean of two bins. */
ED_IN_VECTORS static void fft256(float *re, float *im)
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

/* Of one frame. x: 512 samples, half of them of the frame before, weight: the window -> y: re[ED_PLANE], im[ED_PLANE],
 * bins 0..256 of the transform of x times the window. Bin k of even and odd samples is (Z[k] + conj Z[256 - k]) / 2 and
 * (Z[k] - conj Z[256 - k]) / 2i, whose halves fft256 has made; ed_unpack turns the odd ones by half a sample, e^(-2 pi i k / 512). */
KERNEL(ANALYSIS)
{
    const float *x = a->x, *window = a->weight;
    float zr[257], zi[257], *re = a->y, *im = re + ED_PLANE;
    int k;
    for (k = 0; k < 256; k++) {
        zr[k] = x[2 * k] * window[2 * k];
        zi[k] = x[2 * k + 1] * window[2 * k + 1];
    }
    fft256(zr, zi);
    zr[256] = zr[0], zi[256] = zi[0];
    for (k = 0; k <= 256; k++) {
        int m = 256 - k;
        float er = zr[k] + zr[m], ei = zi[k] - zi[m];
        float or_ = zi[k] + zi[m], oi = zr[m] - zr[k];
        re[k] = er + (or_ * ed_unpack_re[k] - oi * ed_unpack_im[k]);
        im[k] = ei + (or_ * ed_unpack_im[k] + oi * ed_unpack_re[k]);
    }
}

/* The inverse. x: re[ED_PLANE], im[ED_PLANE], weight: the window of synthesis, state: the tail of the last frame, 256
 * samples -> y: 256 samples, the sum of both windowed halves. */
KERNEL(SYNTHESIS)
{
    const float *re = a->x, *im = re + ED_PLANE, *window = a->weight;
    float xi[257], zr[256], zi[256], *y = a->y, *tail = a->state;
    int k;
    memcpy(xi, im, sizeof xi);
    xi[0] = xi[256] = 0; /* a real signal has none there */
    for (k = 0; k < 256; k++) {
        int m = 256 - k;
        float er = re[k] + re[m], ei = xi[k] - xi[m];
        float dr = re[k] - re[m], di = xi[k] + xi[m];
        zr[k] = er - (di * ed_unpack_re[k] - dr * ed_unpack_im[k]);
        zi[k] = ei + (dr * ed_unpack_re[k] + di * ed_unpack_im[k]);
    }
    fft256(zi, zr); /* the parts exchanged make it the inverse, times 256 */
    for (k = 0; k < 256; k++) {
        zr[k] *= 1.0f / 256.0f;
        zi[k] *= 1.0f / 256.0f;
    }
    for (k = 0; k < 128; k++) {
        y[2 * k] = tail[2 * k] + zr[k] * window[2 * k];
        y[2 * k + 1] = tail[2 * k + 1] + zi[k] * window[2 * k + 1];
        tail[2 * k] = zr[k + 128] * window[2 * k + 256];
        tail[2 * k + 1] = zi[k + 128] * window[2 * k + 257];
    }
}

/* --- spectrum and bands ----------------------------------------------------------------------------------------- */

/* x: planes -> y: a row a bin of (magnitude, real, imaginary, 0), 4 columns so that a vector is a row. 1e-12 as in
 * training: the root's slope at zero is endless. */
KERNEL_BUT_HELIUM(FEATURES)
{
    const float *re = a->x, *im = re + ED_PLANE;
    float *y = a->y;
    int k;
    for (k = 0; k < a->op->n_rows; k++, y += 4) {
        y[0] = sqrtf(re[k] * re[k] + im[k] * im[k] + 1e-12f);
        y[1] = re[k], y[2] = im[k], y[3] = 0;
    }
}

/* MERGE and SPLIT multiply by a matrix of bins and bands (ERB) that is nearly empty: the first n_in rows are copied,
 * for low bands are bins; each later row sums a run of rows of x. table: (start, length) a row, weight: a number
 * each, in order. */
static void sum_runs(const ed_args *a, int r, const float **w, float *out, int n_columns)
{
    const ed_op *op = a->op;
    const uint16_t *run = (const uint16_t *)a->table + 2 * (r - op->n_in);
    int c, j;
    for (c = 0; c < n_columns; c++) out[c] = 0;
    for (j = 0; j < run[1]; j++, ++*w)
        for (c = 0; c < n_columns; c++) out[c] = out[c] + ROWS(const float, a->x, op->x_row, run[0] + j)[c] * **w;
}

/* Bins to bands: x, y rows of n_out columns. */
KERNEL_SELDOM(MERGE)
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

/* Bands to bins: x: rows of (real, imaginary) -> y: planes of n_rows bins. */
KERNEL_SELDOM(SPLIT)
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

/* y = x times x2, complex, planes of n_rows bins. */
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

/* x: planes -> y[k][0] = log10 of the magnitude of bin k: half of that of its power, f0 at least (1e-24 where that is
 * less), which is 2^e times 1 + f (ed_curve.h). So every engine has the same curve, as with tanh. */
KERNEL(LOG_MAGNITUDE)
{
    const float *re = a->x, *im = re + ED_PLANE, least = ED_LEAST_POWER_OF(a->op);
    int k, i;
    for (k = 0; k < a->op->n_rows; k++) {
        union { float f; uint32_t u; } v;
        int32_t e;
        float p = ed_log_p[0], f, s, ln;
        v.f = clamp(re[k] * re[k] + im[k] * im[k], least, ED_MOST_POWER);
        e = (int32_t)(v.u - ED_SQRT_HALF_BITS) >> 23;
        v.u -= (uint32_t)e << 23;
        f = v.f - 1.0f;
        s = f * f;
        for (i = 1; i < 9; i++) p = p * f + ed_log_p[i];
        ln = f - 0.5f * s + f * s * p;
        ROWS(float, a->y, a->op->y_row, k)[0] = 0.5f * (ln * ED_LOG10_E + (float)e * ED_LOG10_2);
    }
}

/* y = x times x2, planes of n_rows bins; x2: a real number a bin. */
KERNEL(MASK_REAL)
{
    const float *re = a->x, *im = re + ED_PLANE, *m = a->x2;
    float *yr = a->y, *yi = yr + ED_PLANE;
    int k;
    for (k = 0; k < a->op->n_rows; k++) yr[k] = re[k] * m[k], yi[k] = im[k] * m[k];
}
