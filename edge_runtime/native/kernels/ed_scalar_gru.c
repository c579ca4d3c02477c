/* Recurrent layers without vectors: what a unit needs stays in registers, and the weights of a layer over bands are
 * widened once for all of them. */
#include "ed_program.h"

#if defined(ED_SCALAR)
#include "ed_curve.h"
#include "ed_scalar.h"

static INLINE float tanh_exact(float x)
{
    float s, num = ed_tanh_p[0], den = ed_tanh_q[0];
    int i;
    x = between(x, -ED_TANH_END, ED_TANH_END);
    s = x * x;
    UNROLL for (i = 1; i < 7; i++) num = num * s + ed_tanh_p[i];
    UNROLL for (i = 1; i < 4; i++) den = den * s + ed_tanh_q[i];
    return x * num / den;
}

static INLINE float sigmoid_exact(float x)
{
    return tanh_exact(x * 0.5f) * 0.5f + 0.5f;
}

static INLINE float tanh_quick(float x)
{
    float s;
    x = between(x, -ED_QUICK_END, ED_QUICK_END);
    s = x * x;
    return x * ((ed_quick_p[0] * s + ed_quick_p[1]) * s + ed_quick_p[2]) / ((s + ed_quick_q[0]) * s + ed_quick_q[1]);
}

static INLINE float sigmoid_quick(float x)
{
    return tanh_quick(x * 0.5f) * 0.5f + 0.5f;
}

static INLINE void cells(const ed_args *a, const int quick)
{
    const ed_op *op = a->op;
    const int n = op->n_out, n_rows = op->n_rows;
    float *h = a->state;
    int r, u;
    for (r = 0; r < n_rows; r++, h += n) {
        const float *x = ROWS(const float, a->x, op->x_row, r), *g = ROWS(const float, a->x2, op->x2_row, r);
        for (u = 0; u < n; u++) {
            const float xr = x[u] + g[u], xz = x[n + u] + g[n + u];
            const float reset = quick ? sigmoid_quick(xr) : sigmoid_exact(xr);
            const float z = quick ? sigmoid_quick(xz) : sigmoid_exact(xz);
            const float sum = x[2 * n + u] + reset * g[2 * n + u], next = quick ? tanh_quick(sum) : tanh_exact(sum);
            h[u] = next + z * (h[u] - next);
        }
    }
}

ED_KERNEL(GRU_CELL) ed_scalar_GRU_CELL(const ed_args *a)
{
    if (a->op->flags & ED_QUICK) cells(a, 1);
    else cells(a, 0);
}

/* ed_gru_grids as a unit sees them: local, because stores of bytes might change the operation. */
typedef struct {
    float sum_x, sum_h, reset, new_x, new_h, diff_h, diff_n, update, h_n, h_update;
    grid gates_h, on_reset, on_diff, on_update;
    int32_t gates_x, h, sum, gate, new_sum, n;
} grids;

static INLINE grids grids_of(const ed_gru_grids *g)
{
    grids s;
    s.sum_x = g->sum_x, s.sum_h = g->sum_h, s.reset = g->reset, s.new_x = g->new_x, s.new_h = g->new_h;
    s.diff_h = g->diff_h, s.diff_n = g->diff_n, s.update = g->update, s.h_n = g->h_n, s.h_update = g->h_update;
    s.gates_h = grid_of((int32_t)g->gates_h_zp), s.on_reset = grid_of((int32_t)g->reset_zp);
    s.on_diff = grid_of((int32_t)g->diff_zp), s.on_update = grid_of((int32_t)g->update_zp);
    s.gates_x = (int32_t)g->gates_x_zp, s.h = (int32_t)g->h_zp, s.sum = (int32_t)g->sum_zp;
    s.gate = (int32_t)g->gate_zp, s.new_sum = (int32_t)g->new_zp, s.n = (int32_t)g->n_zp;
    return s;
}

static INLINE float look_up(const int8_t *table, float v, int32_t zp, int32_t table_zp)
{
    return (float)(table[byte_of(v, zp) + 128] - table_zp);
}

/* The byte of the next state; hh: steps of W_hh h + b_hh. */
static INLINE int32_t gru_i8(const grids *g, const int8_t *table, const int8_t *x, ptrdiff_t gate, const float hh[3],
                             float h)
{
    const float r = look_up(table, (float)(x[0] - g->gates_x) * g->sum_x + hh[0] * g->sum_h, g->sum, g->gate);
    const float z = look_up(table, (float)(x[gate] - g->gates_x) * g->sum_x + hh[1] * g->sum_h, g->sum, g->gate);
    const float reset = on_grid(r * hh[2] * g->reset, &g->on_reset);
    const float n = look_up(table + 256, (float)(x[2 * gate] - g->gates_x) * g->new_x + reset * g->new_h, g->new_sum,
                            g->n);
    const float diff = on_grid(h * g->diff_h - n * g->diff_n, &g->on_diff);
    const float update = on_grid(z * diff * g->update, &g->on_update);
    return byte_of(n * g->h_n + update * g->h_update, g->h);
}

/* What a unit's three gates need, side by side. */
typedef struct {
    struct {
        int32_t bias;
        float scale;
        four w;
    } gate[3];
} unit;

static INLINE float gate_of(const unit *u, int gate, four h, const grids *g)
{
    return on_grid((float)dot(u->gate[gate].bias, h, u->gate[gate].w) * u->gate[gate].scale, &g->gates_h);
}

/* The states of the row before lie in its results. */
static APART void direction(const ed_args *a, int first, const int8_t *x, ptrdiff_t x_row, int8_t *y, ptrdiff_t y_row)
{
    const ed_op *op = a->op;
    const int n = op->n_out, half = n / 2, n_rows = op->n_rows;
    const grids g = grids_of((const ed_gru_grids *)((const float *)a->scale + 3 * n));
    const int8_t *table = a->table, *h;
    int8_t start[MOST_UNITS / 2];
    unit units[MOST_UNITS / 2];
    int i, u, k;
    for (u = 0; u < half; u++) {
        start[u] = (int8_t)g.h;
        for (k = 0; k < 3; k++) {
            const int at = k * n + first + u;
            units[u].gate[k].bias = ((const int32_t *)a->bias)[at];
            units[u].gate[k].scale = ((const float *)a->scale)[at];
            units[u].gate[k].w = four_of((const int8_t *)a->weight + 4 * at);
        }
    }
    for (i = 0, h = start; i < n_rows; i++, h = y, x += x_row, y += y_row) {
        const unit *at = units;
        for (u = 0; u < half; u += 4) {
            const four block = four_of(h + u);
            for (k = u; k < u + 4; k++, at++) {
                const float hh[3] = {gate_of(at, 0, block, &g), gate_of(at, 1, block, &g), gate_of(at, 2, block, &g)};
                const int8_t *in = x + k;
                AFTER_THAT(in);
                y[k] = (int8_t)gru_i8(&g, table, in, half, hh, (float)(h[k] - g.h));
            }
        }
    }
}

ED_KERNEL(BIGRU_I8) ed_scalar_BIGRU_I8(const ed_args *a)
{
    both_directions(a, direction);
}
#else
typedef int ed_scalar_gru_is_not_built;
#endif
