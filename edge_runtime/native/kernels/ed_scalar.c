/* Kernels for processors without vectors (microcontrollers, Armv6): portable C's sums, in the same order, a block of them
 * side by side in registers; convolutions in ed_scalar_conv.c. On 32-bit ARM 8-bit products go two at a time (SMLAD, of
 * Armv6 and Armv7E-M). Shapes that are not GTCRN's go to the portable kernels, as do kinds that are not listed here. */
#include "ed_program.h"

#if defined(ED_SCALAR)
#include <math.h>

#include "ed_scalar.h"

/* Rounding is one instruction where the processor has it (steps_of). */
static void run_QUANTIZE(const ed_args *a)
{
    const ed_op *op = a->op;
    const float f0 = op->f0;
    const int32_t zp = op->y_zp;
    int r, c, n = op->n_out, n_rows = op->n_rows, x_row = op->x_row, y_row = op->y_row;
    for (r = 0; r < n_rows; r++) {
        const float *x = ROWS(const float, a->x, x_row, r);
        int8_t *y = ROWS(int8_t, a->y, y_row, r);
        for (c = 0; c < n; c++) y[c] = (int8_t)(steps_of(x[c] * f0, zp) + zp);
    }
}

/* --- layer normalization ------------------------------------------------------------------------------------------ */

/* ED_LANES sums side by side, in plain C's order. */
static INLINE float lane_sum(const float *x, int n, float mean, const int squared)
{
    float lane[ED_LANES];
    int i, j, half;
    UNROLL for (j = 0; j < ED_LANES; j++) lane[j] = 0;
    for (i = 0; i < n; i += ED_LANES)
        UNROLL for (j = 0; j < ED_LANES; j++) {
            float v = x[i + j] - mean;
            lane[j] = lane[j] + (squared ? v * v : v);
        }
    for (half = ED_LANES / 2; half > 0; half /= 2)
        for (i = 0; i < half; i++) lane[i] = lane[i] + lane[i + half];
    return lane[0];
}

static void run_LAYER_NORM(const ed_args *a)
{
    const ed_op *op = a->op;
    const float *x = a->x, *x2 = a->x2;
    const int n = op->n_rows * op->n_out, half = op->flags & ED_HALF, add = op->flags & ED_ADD_AFTER;
    float *y = a->y, mean, gain;
    int i;
    if (n % ED_LANES != 0) {
        ed_portable_kernels[ED_LAYER_NORM](a);
        return;
    }
    mean = lane_sum(x, n, 0, 0) / (float)n;
    gain = 1.0f / sqrtf(lane_sum(x, n, mean, 1) / (float)n + op->f0);
    for (i = 0; i < n; i++) {
        float v = (x[i] - mean) * gain * weight_at(a->weight, i, half) + weight_at(a->bias, i, half);
        y[i] = add ? x2[i] + v : v;
    }
}

/* --- recurrent layers over bands: blocks of four units ------------------------------------------------------------ */

static INLINE float look_up(const int8_t *table, float v, int32_t zp, float table_zp)
{
    return (float)table[steps_of(v, zp) + zp + 128] - table_zp;
}

/* Zero points of ed_gru_grids as whole numbers. */
typedef struct {
    int32_t gates_h, h, sum, reset, new_sum, diff, update;
} zero_points;

static INLINE int32_t gru_i8(const ed_gru_grids *g, const zero_points *zp, const int8_t *table, const float x[3],
                             const float hh[3], float h)
{
    float r = look_up(table, x[0] * g->sum_x + hh[0] * g->sum_h, zp->sum, g->gate_zp);
    float z = look_up(table, x[1] * g->sum_x + hh[1] * g->sum_h, zp->sum, g->gate_zp);
    float reset = (float)steps_of(r * hh[2] * g->reset, zp->reset);
    float n = look_up(table + 256, x[2] * g->new_x + reset * g->new_h, zp->new_sum, g->n_zp);
    float diff = (float)steps_of(h * g->diff_h - n * g->diff_n, zp->diff);
    float update = (float)steps_of(z * diff * g->update, zp->update);
    return steps_of(n * g->h_n + update * g->h_update, zp->h);
}

static void run_BIGRU_I8(const ed_args *a)
{
    const ed_op *op = a->op;
    const int n = op->n_out, half = n / 2, n_rows = op->n_rows;
    const ed_gru_grids *g = (const ed_gru_grids *)((const float *)a->scale + 3 * n);
    int8_t h[64], next[64];
    zero_points zp;
    int i, u, gate;
    if (op->n_in != 4 || half % 4 != 0) {
        ed_portable_kernels[ED_BIGRU_I8](a);
        return;
    }
    zp.gates_h = (int32_t)g->gates_h_zp, zp.h = (int32_t)g->h_zp, zp.sum = (int32_t)g->sum_zp;
    zp.reset = (int32_t)g->reset_zp, zp.new_sum = (int32_t)g->new_zp;
    zp.diff = (int32_t)g->diff_zp, zp.update = (int32_t)g->update_zp;
    for (u = 0; u < n; u++) h[u] = (int8_t)zp.h;
    for (i = 0; i < n_rows; i++) {
        for (u = 0; u < n; u++) {
            const int back = u >= half, row = back ? n_rows - 1 - i : i;
            const int8_t *xs = ROWS(const int8_t, a->x, op->x_row, row) + (back ? 2 * half : 0) + u;
            const four block = four_of(h + u / 4 * 4);
            float x[3], hh[3];
            UNROLL for (gate = 0; gate < 3; gate++) {
                const int at = gate * n + u;
                int32_t sum = dot(((const int32_t *)a->bias)[at], block, four_of((const int8_t *)a->weight + 4 * at));
                hh[gate] = (float)steps_of((float)sum * ((const float *)a->scale)[at], zp.gates_h);
                x[gate] = (float)xs[gate * half] - g->gates_x_zp;
            }
            next[u] = (int8_t)(gru_i8(g, &zp, a->table, x, hh, (float)(h[u] - zp.h)) + zp.h);
            ROWS(int8_t, a->y, op->y_row, row)[u] = next[u];
        }
        memcpy(h, next, (size_t)n);
    }
}

static int usable(void)
{
    return 1;
}

static const ed_kernel kernels[ED_N_KINDS] = {
    [ED_CONV] = ed_scalar_CONV, [ED_CONV_I8] = ed_scalar_CONV_I8, [ED_DEPTH] = ed_scalar_DEPTH,
    [ED_DEPTH_I8] = ed_scalar_DEPTH_I8, [ED_LAYER_NORM] = run_LAYER_NORM, [ED_QUANTIZE] = run_QUANTIZE,
    [ED_BIGRU_I8] = run_BIGRU_I8,
};

const ed_isa ed_scalar = {"scalar", &ed_portable, usable, kernels, kernels};
#else
typedef int ed_scalar_is_not_built;
#endif
