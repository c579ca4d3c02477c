/* tanh and sigmoid, and the recurrent layers that use them. */
#include "ed_curve.h"
#include "ed_portable.h"

/* So every engine has the same curve, which a library's tanhf is not, and vectors can compute it. */
static float tanh_exact(float x)
{
    float s, num = ed_tanh_p[0], den = ed_tanh_q[0];
    int i;
    x = clamp(x, -ED_TANH_END, ED_TANH_END);
    s = x * x;
    for (i = 1; i < 7; i++) num = num * s + ed_tanh_p[i];
    for (i = 1; i < 4; i++) den = den * s + ed_tanh_q[i];
    return x * num / den;
}

static float sigmoid_exact(float x)
{
    return tanh_exact(x * 0.5f) * 0.5f + 0.5f;
}

/* A third of the operations, see ed_curve.h. */
static float tanh_quick(float x)
{
    float s;
    x = clamp(x, -ED_QUICK_END, ED_QUICK_END);
    s = x * x;
    return x * ((ed_quick_p[0] * s + ed_quick_p[1]) * s + ed_quick_p[2]) / ((s + ed_quick_q[0]) * s + ed_quick_q[1]);
}

static float sigmoid_quick(float x)
{
    return tanh_quick(x * 0.5f) * 0.5f + 0.5f;
}

/* --- curves ----------------------------------------------------------------------------------------------------- */

/* y[r][c] of x[r][c], in float. */
KERNEL(SIGMOID) { EACH(float, c, sigmoid_exact(XF[c])); }
KERNEL(TANH) { EACH(float, c, tanh_exact(XF[c])); }

/* --- recurrent layers ------------------------------------------------------------------------------------------- *
 *
 * r = sigmoid(xr + hr), z = sigmoid(xz + hz), n = tanh(xn + r hn), h' = n + z (h - n), where xr, xz, xn = W_ih x +
 * b_ih are made by a convolution before, for all rows at once, and hr, hz, hn = W_hh h + b_hh by each step. */

static float gru(const ed_op *op, float xr, float xz, float xn, float hr, float hz, float hn, float h)
{
    float reset, z, n;
    if (op->flags & ED_QUICK) reset = sigmoid_quick(xr + hr), z = sigmoid_quick(xz + hz), n = tanh_quick(xn + reset * hn);
    else reset = sigmoid_exact(xr + hr), z = sigmoid_exact(xz + hz), n = tanh_exact(xn + reset * hn);
    return n + z * (h - n);
}

/* Over time: every row is a stream of its own. x, x2: [row][gate][n_out], x2 = W_hh h + b_hh; state: h, [row][n_out],
 * is the result, and the operation makes no other. */
KERNEL_SELDOM(GRU_CELL)
{
    const ed_op *op = a->op;
    float *h = a->state;
    int r, u, n = op->n_out;
    for (r = 0; r < op->n_rows; r++)
        for (u = 0; u < n; u++) {
            const float *x = XF, *g = X2F;
            h[r * n + u] = gru(op, x[u], x[n + u], x[2 * n + u], g[u], g[n + u], g[2 * n + u], h[r * n + u]);
        }
}

/* A curve of 8 bits: the table at the byte that the sum makes, as steps of its own grid. */
static float look_up(const int8_t *table, float steps, float zp, float table_zp)
{
    return (float)table[(int)(on_grid(steps, zp) + zp) + 128] - table_zp;
}

/* The same with everything on a grid of its own, as the quantized model has each value; table: sigmoid[256], tanh[256].
 * Names and multipliers: ed_gru_grids. */
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

/* As GRU_CELL with bytes. scale: ed_gru_grids. */
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

/* The entry of half a curve, 64fold, at a number of any sign. */
static int32_t part_at(const uint8_t *half, int at)
{
    return 64 * half[at < -127 ? 127 : at < 0 ? -at : at];
}

/* What a sigmoid passes of a number, at so many 20ths: one half of the curve in 512ths, and what that leaves. */
static int32_t passed(const uint8_t *parts, int at, int32_t whole)
{
    const int32_t part = high_product(part_at(parts, at), whole);
    return at < 0 ? part : whole - part;
}

/* As GRU_CELL, its gates by tables, its state of 16 bits (quant/int8/cells_over_time.py). x, x2: sums of reset and update in
 * 20ths, of the new state in 1280ths. table: sigmoid of 0 to -127 20ths in 512ths, tanh of 0 to 127 40ths in 256ths.
 * state: h in 2^14ths; y, before it: in 128ths, what the next frame's products and other operations read. */
KERNEL_SELDOM(GRU_CELL_I16)
{
    const ed_op *op = a->op;
    const uint8_t *parts = a->table;
    int16_t *h = a->state;
    int r, u, n = op->n_out;
    for (r = 0; r < op->n_rows; r++)
        for (u = 0; u < n; u++, h++) {
            const float *x = XF, *g = X2F;
            const int reset = (int)on_grid(x[u] + g[u], 0), update = (int)on_grid(x[n + u] + g[n + u], 0);
            const int32_t sum = saturated(to_i16(x[2 * n + u]) + passed(parts, reset, to_i16(g[2 * n + u])));
            const int at = byte_of_32nds(sum, 0), size = part_at(parts + 128, at);
            const int made = at < 0 ? -size : size;
            *h = (int16_t)saturated(made + passed(parts, update, saturated(*h - made)));
            ROWS(int8_t, a->y, op->y_row, r)[u] = byte_of_32nds(*h >> 2, 0);
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

/* Gate sums in float: bias[gate][u] + sum over k of h[block of u][k] weight[gate][k][u], k upwards. weight:
 * [3][n_in][n_out], halves with ED_HALF; y: [row][unit]. */
KERNEL_BUT_HELIUM(BIGRU)
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
            next[u] = gru(op, x[gate_at(v, 0)], x[gate_at(v, 1)], x[gate_at(v, 2)], g[0], g[1], g[2], h[u]);
            ROWS(float, a->y, op->y_row, v.row)[u] = next[u];
        }
        memcpy(h, next, (size_t)n * sizeof *h);
    }
}

/* One gate of one unit: the sum of 8-bit products in 32 bits, times scale.
 * weight: [3][n_out][n_in], the 4 inputs of a unit together; bias, scale: [3][n_out]. */
static float gate_i8(const ed_args *a, const int8_t *h, int gate, int u)
{
    const ed_op *op = a->op;
    int at = gate * op->n_out + u, k;
    int32_t sum = ((const int32_t *)a->bias)[at];
    for (k = 0; k < op->n_in; k++)
        sum += h[u / op->n_in * op->n_in + k] * ((const int8_t *)a->weight)[at * op->n_in + k];
    return (float)sum * ((const float *)a->scale)[at];
}

/* Products in integers, gates and state in float. f0, x2_zp: 1 / scale and zero point of the quantized state. */
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
            for (gate = 0; gate < 3; gate++) g[gate] = gate_i8(a, q, gate, u);
            next[u] = gru(op, x[gate_at(v, 0)], x[gate_at(v, 1)], x[gate_at(v, 2)], g[0], g[1], g[2], h[u]);
            ROWS(float, a->y, op->y_row, v.row)[u] = next[u];
        }
        memcpy(h, next, (size_t)n * sizeof *h);
    }
}

/* scale: the multipliers of the gates, then ed_gru_grids. Of layers whose numbers 16 bits do not hold. */
KERNEL_SELDOM(BIGRU_I8)
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
                hh[gate] = on_grid(gate_i8(a, h, gate, u), g->gates_h_zp);
            }
            next[u] = (int8_t)(gru_i8(g, a->table, x, hh, (float)h[u] - g->h_zp) + g->h_zp);
            ROWS(int8_t, a->y, op->y_row, v.row)[u] = next[u];
        }
        memcpy(h, next, (size_t)n);
    }
}

/* The exact sum of a gate, 17 bits, as half of it; to 32nds of a step. */
static int32_t sum_i16(const ed_args *a, const int8_t *h, int gate, int u)
{
    const ed_op *op = a->op;
    const int at = gate * op->n_out + u;
    int32_t sum = 0, half;
    int k;
    for (k = 0; k < op->n_in; k++)
        sum += h[u / op->n_in * op->n_in + k] * ((const int8_t *)a->weight)[at * op->n_in + k];
    half = sum >> 1;
    return saturated(high_product(half, ((const int16_t *)a->scale)[at]) + ((const int16_t *)a->bias)[at]);
}

/* Which entry of a table is that of so many 32nds of a step: half a step is among them. */
static int entry_of(int32_t steps_32)
{
    return byte_of_32nds(steps_32 - 16, 0) + 128;
}

/* In 16 bits (quant/int8/cells.py). table: sigmoid[256] in 256ths, without sign, tanh[256] in 128ths, as new and state are.
 * weight: as MIXED; scale, bias: [3][n_out] of 16 bits, to 32nds of a step; f0, f1: what takes a byte of x, 128fold, to
 * those of both gates' sum and of the new one, which starts from f2. */
KERNEL_SELDOM(BIGRU_I16)
{
    const ed_op *op = a->op;
    const uint8_t *gates = a->table;
    const int32_t x_gates = (int32_t)op->f0, x_new = (int32_t)op->f1, start = (int32_t)op->f2;
    int8_t h[64] = {0}, next[64];
    int i, u, n = op->n_out;
    for (i = 0; i < op->n_rows; i++) {
        for (u = 0; u < n; u++) {
            ed_unit v = unit(op, i, u);
            const int8_t *x = ROWS(const int8_t, a->x, op->x_row, v.row);
            int32_t sum = saturated(sum_i16(a, h, 0, u) + high_product(128 * x[gate_at(v, 0)], x_gates)), r, z, made;
            r = gates[entry_of(sum)];
            sum = saturated(sum_i16(a, h, 1, u) + high_product(128 * x[gate_at(v, 1)], x_gates));
            z = gates[entry_of(sum)];
            sum = saturated(high_product(128 * x[gate_at(v, 2)], x_new) + start);
            sum = saturated(sum + high_product(128 * r, sum_i16(a, h, 2, u)));
            made = (int8_t)gates[256 + entry_of(sum)];
            next[u] = (int8_t)((128 * made + high_product(128 * z, 128 * (h[u] - made)) + 64) >> 7);
            ROWS(int8_t, a->y, op->y_row, v.row)[u] = next[u];
        }
        memcpy(h, next, (size_t)n);
    }
}
