/* Kernels for Helium: convolutions in ed_helium_conv*.c, recurrent layers and curves in ed_helium_gru.c, spectra in
 * ed_helium_spectrum.c; here what goes element by element. Shapes that are not GTCRN's go to the portable kernels, as
 * do kinds that are not listed here. Chosen when a program is compiled, so no other core's is larger. */
#include "ed_program.h"

#if defined(ED_HELIUM)
#include "ed_helium.h"

/* y = expression of x and x2, vectors of floats: whole ones of each row, then its rest. */
#define EACH_VECTOR(with_x2, expression)                                                                               \
    do {                                                                                                               \
        const ed_op *op = a->op;                                                                                       \
        const int n = op->n_out;                                                                                       \
        int r, c;                                                                                                      \
        for (r = 0; r < op->n_rows; r++) {                                                                             \
            const float *px = ROWS(const float, a->x, op->x_row, r), *px2 = ROWS(const float, a->x2, op->x2_row, r);   \
            float *py = ROWS(float, a->y, op->y_row, r);                                                               \
            vf x, x2 = vdupq_n_f32(0);                                                                                 \
            for (c = 0; c + 4 <= n; c += 4) {                                                                          \
                x = vldrwq_f32(px + c);                                                                                \
                if (with_x2) x2 = vldrwq_f32(px2 + c);                                                                 \
                vstrwq_f32(py + c, expression);                                                                        \
            }                                                                                                          \
            if (c < n) {                                                                                               \
                const mve_pred16_t lanes = vctp32q((uint32_t)(n - c));                                                 \
                x = vldrwq_z_f32(px + c, lanes);                                                                       \
                if (with_x2) x2 = vldrwq_z_f32(px2 + c, lanes);                                                        \
                vstrwq_p_f32(py + c, expression, lanes);                                                               \
            }                                                                                                          \
            (void)px2, (void)x2;                                                                                       \
        }                                                                                                              \
    } while (0)

ED_KERNEL(ADD) ed_helium_ADD(const ed_args *a)
{
    EACH_VECTOR(1, vaddq_f32(x, x2));
}

ED_KERNEL(LEAKY) ed_helium_LEAKY(const ed_args *a)
{
    const float slope = a->op->f0;
    EACH_VECTOR(0, vpselq_f32(vmulq_n_f32(x, slope), x, vcmpltq_n_f32(x, 0.0f)));
}

ED_KERNEL(SIGMOID) ed_helium_SIGMOID(const ed_args *a)
{
    EACH_VECTOR(0, ed_helium_sigmoid(x));
}

ED_KERNEL(TANH) ed_helium_TANH(const ed_args *a)
{
    EACH_VECTOR(0, ed_helium_tanh(x));
}

ED_KERNEL(QUANTIZE) ed_helium_QUANTIZE(const ed_args *a)
{
    const float f0 = a->op->f0;
    const int32_t zp = a->op->y_zp;
    const ptrdiff_t x_row = a->op->x_row, y_row = a->op->y_row;
    const float *x = a->x;
    int8_t *y = a->y;
    const int n = a->op->n_out;
    int r, c;
    for (r = a->op->n_rows; r > 0; r--, x += x_row, y += y_row) {
        for (c = 0; c + 4 <= n; c += 4) store_bytes(y + c, vmulq_n_f32(vldrwq_f32(x + c), f0), zp);
        if (c < n) {
            const mve_pred16_t lanes = vctp32q((uint32_t)(n - c));
            vstrbq_p_s32(y + c, bytes_of(vmulq_n_f32(vldrwq_z_f32(x + c, lanes), f0), zp), lanes);
        }
    }
}

ED_KERNEL(GATE_SHUFFLE) ed_helium_GATE_SHUFFLE(const ed_args *a)
{
    const ed_op *op = a->op;
    const float *gates = a->bias;
    const int n = op->n_out, n_rows = op->n_rows;
    int r, c;
    if (n % 4 != 0) {
        ed_portable_kernels[ED_GATE_SHUFFLE](a);
        return;
    }
    for (r = 0; r < n_rows; r++) {
        const float *x = ROWS(const float, a->x, op->x_row, r), *x2 = ROWS(const float, a->x2, op->x2_row, r);
        float *y = ROWS(float, a->y, op->y_row, r);
        for (c = 0; c < n; c += 4) {
            float32x4x2_t both;
            both.val[0] = vmulq_f32(vldrwq_f32(x + c), vldrwq_f32(gates + c)), both.val[1] = vldrwq_f32(x2 + c);
            vst2q_f32(y + 2 * c, both);
        }
    }
}

ED_KERNEL(MEAN_SQUARE) ed_helium_MEAN_SQUARE(const ed_args *a)
{
    const ed_op *op = a->op;
    const int n_rows = op->n_rows, x_row = op->x_row;
    int r, c, i;
    for (c = 0; c < op->n_out; c += 4) {
        const mve_pred16_t lanes = vctp32q((uint32_t)(op->n_out - c));
        const float *x = (const float *)a->x + c;
        vf v = vldrwq_z_f32(x, lanes), sum = vmulq_f32(v, v);
        float sums[4];
        for (r = 1; r < n_rows; r++) {
            x += x_row;
            v = vldrwq_z_f32(x, lanes), sum = vaddq_f32(sum, vmulq_f32(v, v));
        }
        vstrwq_f32(sums, sum);
        for (i = 0; i < 4 && c + i < op->n_out; i++) ((float *)a->y)[c + i] = sums[i] / (float)n_rows;
    }
}

/* --- layer normalization ------------------------------------------------------------------------------------------ */

static INLINE float lane_sum(const float *x, int n, float mean, const int squared)
{
    vf lane[4];
    float sums[ED_LANES];
    int i, j, half;
    UNROLL for (j = 0; j < 4; j++) lane[j] = vdupq_n_f32(0);
    for (i = 0; i < n; i += ED_LANES)
        UNROLL for (j = 0; j < 4; j++) {
            vf v = vldrwq_f32(x + i + 4 * j);
            if (squared) v = vsubq_n_f32(v, mean), v = vmulq_f32(v, v);
            lane[j] = vaddq_f32(lane[j], v);
        }
    UNROLL for (j = 0; j < 4; j++) vstrwq_f32(sums + 4 * j, lane[j]);
    for (half = ED_LANES / 2; half > 0; half /= 2)
        for (i = 0; i < half; i++) sums[i] = sums[i] + sums[i + half];
    return sums[0];
}

static INLINE void normalize(const ed_args *a, int n, float mean, float gain, const int half, const int add)
{
    const float *x = a->x, *x2 = a->x2;
    const void *weight = a->weight, *bias = a->bias;
    float *y = a->y;
    int i;
    for (i = 0; i < n; i += 4) {
        vf v = vmulq_n_f32(vsubq_n_f32(vldrwq_f32(x + i), mean), gain);
        v = vaddq_f32(vmulq_f32(v, load_weights(weight, i, half)), load_weights(bias, i, half));
        vstrwq_f32(y + i, add ? vaddq_f32(vldrwq_f32(x2 + i), v) : v);
    }
}

ED_KERNEL(LAYER_NORM) ed_helium_LAYER_NORM(const ed_args *a)
{
    layer_norm(a, lane_sum, normalize);
}

static int usable(void)
{
    return 1;
}

#define ENTRY(kind, kernel) [ED_##kind] = ED_IF_USED(kind, kernel, NULL)

static const ed_kernel kernels[ED_N_KINDS] = {
    ENTRY(ANALYSIS, ed_helium_ANALYSIS), ENTRY(SYNTHESIS, ed_helium_SYNTHESIS), ENTRY(MERGE, ed_helium_MERGE),
    ENTRY(CONV, ed_helium_CONV), ENTRY(CONV_I8, ed_helium_CONV_I8), ENTRY(DEPTH_I8, ed_helium_DEPTH_I8),
    ENTRY(DEPTH, ed_helium_DEPTH),
    ENTRY(LEAKY, ed_helium_LEAKY), ENTRY(MEAN_SQUARE, ed_helium_MEAN_SQUARE), ENTRY(SIGMOID, ed_helium_SIGMOID),
    ENTRY(TANH, ed_helium_TANH), ENTRY(GATE_SHUFFLE, ed_helium_GATE_SHUFFLE), ENTRY(ADD, ed_helium_ADD),
    ENTRY(LAYER_NORM, ed_helium_LAYER_NORM), ENTRY(QUANTIZE, ed_helium_QUANTIZE),
    ENTRY(GRU_CELL, ed_helium_GRU_CELL), ENTRY(BIGRU_I16, ed_helium_BIGRU_I16),
    ENTRY(GRU_CELL_I16, ed_helium_GRU_CELL_I16),
    ENTRY(SPLIT, ed_scalar_SPLIT),
    ENTRY(RESAMPLE_I8, ed_scalar_depth_any_i8),
    ENTRY(CONV_I16, ed_helium_CONV_I16), ENTRY(QUANTIZE_I16, ed_helium_QUANTIZE_I16),
};

const ed_isa ed_helium = {"helium", &ed_portable, usable, kernels, kernels};
#else
typedef int ed_helium_is_not_built;
#endif
