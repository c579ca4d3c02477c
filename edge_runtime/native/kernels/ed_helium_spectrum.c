/* Spectra with Helium: what ed_portable_spectrum.c computes, four columns or bins at a time, product by product and sum
 * by sum. */
#include "ed_program.h"

#if defined(ED_HELIUM)
#include "ed_helium.h"
#include "ed_tables.h"
#include "edge_denoise.h"

/* e^(-2 pi i j k / 16) of rows 1..3, columns 1..3. */
static const float w16_re[9] = {0.92387953251f, 0.70710678119f, 0.38268343236f, 0.70710678119f, 0.0f,
                                -0.70710678119f, 0.38268343236f, -0.70710678119f, -0.92387953251f};
static const float w16_im[9] = {-0.38268343236f, -0.70710678119f, -0.92387953251f, -0.70710678119f, -1.0f,
                                -0.70710678119f, -0.92387953251f, -0.70710678119f, 0.38268343236f};

/* Rows r, r + step, r + 2 step, r + 3 step of 16 columns, in place. */
static APART void butterfly(float *re, float *im, int r, int step)
{
    const ptrdiff_t d = 16 * step;
    float *stop = re + 16 * r + 16;
    for (re += 16 * r, im += 16 * r; re != stop; re += 4, im += 4) {
        const vf r0 = vldrwq_f32(re), r2 = vldrwq_f32(re + 2 * d), r1 = vldrwq_f32(re + d), r3 = vldrwq_f32(re + 3 * d);
        const vf t0r = vaddq_f32(r0, r2), t1r = vsubq_f32(r0, r2), t2r = vaddq_f32(r1, r3), t3r = vsubq_f32(r1, r3);
        const vf i0 = vldrwq_f32(im), i2 = vldrwq_f32(im + 2 * d), i1 = vldrwq_f32(im + d), i3 = vldrwq_f32(im + 3 * d);
        const vf t0i = vaddq_f32(i0, i2), t1i = vsubq_f32(i0, i2), t2i = vaddq_f32(i1, i3), t3i = vsubq_f32(i1, i3);
        vstrwq_f32(re, vaddq_f32(t0r, t2r)), vstrwq_f32(im, vaddq_f32(t0i, t2i));
        vstrwq_f32(re + d, vaddq_f32(t1r, t3i)), vstrwq_f32(im + d, vsubq_f32(t1i, t3r));
        vstrwq_f32(re + 2 * d, vsubq_f32(t0r, t2r)), vstrwq_f32(im + 2 * d, vsubq_f32(t0i, t2i));
        vstrwq_f32(re + 3 * d, vsubq_f32(t1r, t3i)), vstrwq_f32(im + 3 * d, vaddq_f32(t1i, t3r));
    }
}

/* 16 points down each of 16 columns; result k1 + 4 k2 lies in row 4 k1 + k2. */
static APART void fft16(float *re, float *im)
{
    int j, k, c;
    for (j = 0; j < 4; j++) butterfly(re, im, j, 4);
    for (k = 1; k < 4; k++)
        for (j = 1; j < 4; j++) {
            const float wr = w16_re[3 * (k - 1) + j - 1], wi = w16_im[3 * (k - 1) + j - 1];
            float *pr = re + (4 * k + j) * 16, *pi = im + (4 * k + j) * 16;
            for (c = 0; c < 16; c += 4) {
                const vf r = vldrwq_f32(pr + c), i = vldrwq_f32(pi + c);
                vstrwq_f32(pr + c, vsubq_f32(vmulq_n_f32(r, wr), vmulq_n_f32(i, wi)));
                vstrwq_f32(pi + c, vaddq_f32(vmulq_n_f32(r, wi), vmulq_n_f32(i, wr)));
            }
        }
    for (k = 0; k < 4; k++) butterfly(re, im, 4 * k, 1);
}

static APART void fft256(float *re, float *im)
{
    const uint32x4_t columns = vshlq_n_u32(vidupq_n_u32(0, 1), 4);
    float tr[256], ti[256];
    int j, k;
    fft16(re, im);
    for (j = 0; j < 16; j++)
        for (k = 0; k < 16; k += 4) {
            const int from = (4 * (j % 4) + j / 4) * 16 + k; /* frequency j of column k */
            const vf r = vldrwq_f32(re + from), i = vldrwq_f32(im + from);
            const vf wr = vldrwq_f32(ed_twiddle_re + j * 16 + k), wi = vldrwq_f32(ed_twiddle_im + j * 16 + k);
            vstrwq_scatter_shifted_offset_f32(tr + k * 16 + j, columns, vsubq_f32(vmulq_f32(r, wr), vmulq_f32(i, wi)));
            vstrwq_scatter_shifted_offset_f32(ti + k * 16 + j, columns, vaddq_f32(vmulq_f32(r, wi), vmulq_f32(i, wr)));
        }
    fft16(tr, ti);
    for (j = 0; j < 16; j++) {
        const int from = (4 * (j % 4) + j / 4) * 16;
        for (k = 0; k < 16; k += 4) {
            vstrwq_f32(re + j * 16 + k, vldrwq_f32(tr + from + k));
            vstrwq_f32(im + j * 16 + k, vldrwq_f32(ti + from + k));
        }
    }
}

/* Four numbers from p downwards. */
static INLINE vf backwards(const float *p)
{
    return vldrwq_gather_shifted_offset_f32(p - 3, vddupq_n_u32(3, 1));
}

ED_KERNEL(ANALYSIS) ed_helium_ANALYSIS(const ed_args *a)
{
    const float *x = a->x, *window = a->weight;
    float zr[257], zi[257], *re = a->y, *im = re + ED_PLANE;
    int k;
    for (k = 0; k < 256; k += 4) {
        const float32x4x2_t in = vld2q_f32(x + 2 * k), by = vld2q_f32(window + 2 * k);
        vstrwq_f32(zr + k, vmulq_f32(in.val[0], by.val[0]));
        vstrwq_f32(zi + k, vmulq_f32(in.val[1], by.val[1]));
    }
    fft256(zr, zi);
    zr[256] = zr[0], zi[256] = zi[0];
    for (k = 0; k < 256; k += 4) {
        const vf ar = vldrwq_f32(zr + k), br = backwards(zr + 256 - k);
        const vf ai = vldrwq_f32(zi + k), bi = backwards(zi + 256 - k);
        const vf er = vaddq_f32(ar, br), ei = vsubq_f32(ai, bi);
        const vf or_ = vaddq_f32(ai, bi), oi = vsubq_f32(br, ar);
        const vf wr = vldrwq_f32(ed_unpack_re + k), wi = vldrwq_f32(ed_unpack_im + k);
        vstrwq_f32(re + k, vaddq_f32(er, vsubq_f32(vmulq_f32(or_, wr), vmulq_f32(oi, wi))));
        vstrwq_f32(im + k, vaddq_f32(ei, vaddq_f32(vmulq_f32(or_, wi), vmulq_f32(oi, wr))));
    }
    {
        const float er = zr[256] + zr[0], ei = zi[256] - zi[0];
        const float or_ = zi[256] + zi[0], oi = zr[0] - zr[256];
        re[256] = er + (or_ * ed_unpack_re[256] - oi * ed_unpack_im[256]);
        im[256] = ei + (or_ * ed_unpack_im[256] + oi * ed_unpack_re[256]);
    }
}

ED_KERNEL(SYNTHESIS) ed_helium_SYNTHESIS(const ed_args *a)
{
    const float *re = a->x, *im = re + ED_PLANE, *window = a->weight;
    float xi[257], zr[256], zi[256], *y = a->y, *tail = a->state;
    int k;
    memcpy(xi, im, sizeof xi);
    xi[0] = xi[256] = 0; /* a real signal has none there */
    for (k = 0; k < 256; k += 4) {
        const vf ar = vldrwq_f32(re + k), br = backwards(re + 256 - k);
        const vf ai = vldrwq_f32(xi + k), bi = backwards(xi + 256 - k);
        const vf er = vaddq_f32(ar, br), ei = vsubq_f32(ai, bi);
        const vf dr = vsubq_f32(ar, br), di = vaddq_f32(ai, bi);
        const vf wr = vldrwq_f32(ed_unpack_re + k), wi = vldrwq_f32(ed_unpack_im + k);
        vstrwq_f32(zr + k, vsubq_f32(er, vsubq_f32(vmulq_f32(di, wr), vmulq_f32(dr, wi))));
        vstrwq_f32(zi + k, vaddq_f32(ei, vaddq_f32(vmulq_f32(dr, wr), vmulq_f32(di, wi))));
    }
    fft256(zi, zr); /* the parts exchanged make it the inverse, times 256 */
    for (k = 0; k < 256; k += 4) {
        const int second = k >= 128, at = 2 * k - (second ? 256 : 0);
        const float32x4x2_t by = vld2q_f32(window + 2 * k);
        float32x4x2_t made;
        made.val[0] = vmulq_f32(vmulq_n_f32(vldrwq_f32(zr + k), 1.0f / 256.0f), by.val[0]);
        made.val[1] = vmulq_f32(vmulq_n_f32(vldrwq_f32(zi + k), 1.0f / 256.0f), by.val[1]);
        if (!second) {
            const float32x4x2_t before = vld2q_f32(tail + at);
            made.val[0] = vaddq_f32(before.val[0], made.val[0]), made.val[1] = vaddq_f32(before.val[1], made.val[1]);
        }
        vst2q_f32((second ? tail : y) + at, made);
    }
}

/* Rows of four numbers, of which the result has the first: some copied, then sums of runs. */
ED_KERNEL(MERGE) ed_helium_MERGE(const ed_args *a)
{
    const ed_op *op = a->op;
    const mve_pred16_t lanes = vctp32q(op->n_out);
    const float *w = a->weight, *x = a->x;
    const uint16_t *run = a->table;
    const int n_rows = op->n_rows, n_in = op->n_in;
    float *y = a->y;
    int r, j;
    if (op->x_row != 4 || op->n_out > 4) {
        ed_portable_kernels[ED_MERGE](a);
        return;
    }
    for (r = 0; r < n_rows; r++, y += op->y_row) {
        vf sum = vdupq_n_f32(0);
        if (r < n_in) sum = vldrwq_f32(x + 4 * r);
        else {
            const float *from = x + 4 * run[0];
            for (j = run[1]; j > 0; j--, from += 4) sum = vaddq_f32(sum, vmulq_n_f32(vldrwq_f32(from), *w++));
            run += 2;
        }
        vstrwq_p_f32(y, sum, lanes);
    }
}
#else
typedef int ed_helium_spectrum_is_not_built;
#endif
