/* Curves and recurrent layers with Helium: four units side by side. */
#include "ed_program.h"

#if defined(ED_HELIUM)
#include "ed_curve.h"
#include "ed_helium.h"

/* There is no division of vectors; their lanes are registers of scalars. */
static INLINE vf divided(vf a, vf b)
{
    register vf x __asm__("q0") = a;
    register vf y __asm__("q1") = b;
    __asm__("vdiv.f32 s0, s0, s4\n\tvdiv.f32 s1, s1, s5\n\tvdiv.f32 s2, s2, s6\n\tvdiv.f32 s3, s3, s7" : "+w"(x) : "w"(y));
    return x;
}

static INLINE vf tanh_exact(vf x)
{
    vf s, num = vdupq_n_f32(ed_tanh_p[0]), den = vdupq_n_f32(ed_tanh_q[0]);
    int i;
    x = vminnmq_f32(vmaxnmq_f32(x, vdupq_n_f32(-ED_TANH_END)), vdupq_n_f32(ED_TANH_END));
    s = vmulq_f32(x, x);
    UNROLL for (i = 1; i < 7; i++) num = vaddq_n_f32(vmulq_f32(num, s), ed_tanh_p[i]);
    UNROLL for (i = 1; i < 4; i++) den = vaddq_n_f32(vmulq_f32(den, s), ed_tanh_q[i]);
    return divided(vmulq_f32(x, num), den);
}

APART vf ed_helium_tanh(vf x)
{
    return tanh_exact(x);
}

vf ed_helium_sigmoid(vf x)
{
    return vaddq_n_f32(vmulq_n_f32(ed_helium_tanh(vmulq_n_f32(x, 0.5f)), 0.5f), 0.5f);
}

/* As ed_curve.h says. */
static APART vf tanh_quick(vf x)
{
    vf s, num, den;
    x = vminnmq_f32(vmaxnmq_f32(x, vdupq_n_f32(-ED_QUICK_END)), vdupq_n_f32(ED_QUICK_END));
    s = vmulq_f32(x, x);
    num = vaddq_n_f32(vmulq_f32(vaddq_n_f32(vmulq_n_f32(s, ed_quick_p[0]), ed_quick_p[1]), s), ed_quick_p[2]);
    den = vaddq_n_f32(vmulq_f32(vaddq_n_f32(s, ed_quick_q[0]), s), ed_quick_q[1]);
    return divided(vmulq_f32(x, num), den);
}

static INLINE vf curve_tanh(vf x, const int quick)
{
    return quick ? tanh_quick(x) : ed_helium_tanh(x);
}

static INLINE vf curve_sigmoid(vf x, const int quick)
{
    return quick ? vaddq_n_f32(vmulq_n_f32(tanh_quick(vmulq_n_f32(x, 0.5f)), 0.5f), 0.5f) : ed_helium_sigmoid(x);
}

static INLINE void cells(const ed_args *a, const int quick)
{
    const ed_op *op = a->op;
    const int n = op->n_out, n_rows = op->n_rows;
    float *h = a->state;
    int r, u;
    for (r = 0; r < n_rows; r++, h += n) {
        const float *x = ROWS(const float, a->x, op->x_row, r), *g = ROWS(const float, a->x2, op->x2_row, r);
        for (u = 0; u < n; u += 4) {
            const vf reset = curve_sigmoid(vaddq_f32(vldrwq_f32(x + u), vldrwq_f32(g + u)), quick);
            const vf z = curve_sigmoid(vaddq_f32(vldrwq_f32(x + n + u), vldrwq_f32(g + n + u)), quick);
            const vf sum = vaddq_f32(vldrwq_f32(x + 2 * n + u), vmulq_f32(reset, vldrwq_f32(g + 2 * n + u)));
            const vf next = curve_tanh(sum, quick);
            vstrwq_f32(h + u, vaddq_f32(next, vmulq_f32(z, vsubq_f32(vldrwq_f32(h + u), next))));
        }
    }
}

ED_KERNEL(GRU_CELL) ed_helium_GRU_CELL(const ed_args *a)
{
    if (a->op->n_out % 4 != 0) ed_portable_kernels[ED_GRU_CELL](a);
    else if (a->op->flags & ED_QUICK) cells(a, 1);
    else cells(a, 0);
}

/* --- over bands, 8 bits ------------------------------------------------------------------------------------------- */

/* ed_gru_grids as units see them: local, because stores of bytes might change the operation. */
typedef struct {
    ed_gru_grids g;
    vf gates_low, gates_high, reset_low, reset_high, diff_low, diff_high, update_low, update_high;
    int32_t gates_x, h, sum, gate, new_sum, n;
} grids;

static INLINE grids grids_of(const ed_gru_grids *g)
{
    grids s;
    s.g = *g;
    s.gates_low = vdupq_n_f32(grid_of(g->gates_h_zp).low), s.gates_high = vdupq_n_f32(grid_of(g->gates_h_zp).high);
    s.reset_low = vdupq_n_f32(grid_of(g->reset_zp).low), s.reset_high = vdupq_n_f32(grid_of(g->reset_zp).high);
    s.diff_low = vdupq_n_f32(grid_of(g->diff_zp).low), s.diff_high = vdupq_n_f32(grid_of(g->diff_zp).high);
    s.update_low = vdupq_n_f32(grid_of(g->update_zp).low), s.update_high = vdupq_n_f32(grid_of(g->update_zp).high);
    s.gates_x = (int32_t)g->gates_x_zp, s.h = (int32_t)g->h_zp, s.sum = (int32_t)g->sum_zp;
    s.gate = (int32_t)g->gate_zp, s.new_sum = (int32_t)g->new_zp, s.n = (int32_t)g->n_zp;
    return s;
}

static INLINE vf held(vf v, vf low, vf high)
{
    return vminnmq_f32(vmaxnmq_f32(vrndnq_f32(v), low), high);
}

/* The entries of a table whose first one is of the byte -128. */
static INLINE vf look_up(const int8_t *table, vf v, int32_t zp, int32_t table_zp)
{
    int32x4_t at = vqaddq_n_s32(vcvtnq_s32_f32(v), zp + 128);
    at = vminq_s32(vmaxq_s32(at, vdupq_n_s32(0)), vdupq_n_s32(255));
    return vcvtq_f32_s32(vsubq_n_s32(vldrbq_gather_offset_s32(table, vreinterpretq_u32_s32(at)), table_zp));
}

/* What units of a layer share. */
typedef struct {
    const int8_t *weight, *table;
    const int32_t *bias;
    const float *scale;
    int n, half;
} layer;

/* One gate of four units: steps of W_hh h + b_hh. */
static INLINE vf gate_of(const layer *l, const grids *s, int at, const int8_t *h)
{
    const uint32x4_t units = vidupq_n_u32(0, 4);
    const int8_t *w = l->weight + 4 * at;
    int32x4_t sum = vldrwq_s32(l->bias + at);
    int k;
    UNROLL for (k = 0; k < 4; k++) sum = vmlaq_n_s32(sum, vldrbq_gather_offset_s32(w + k, units), h[k]);
    return held(vmulq_f32(vcvtq_f32_s32(sum), vldrwq_f32(l->scale + at)), s->gates_low, s->gates_high);
}

/* Four units from `at` of the layer on; x and h: of this row, y: their next states. */
static INLINE void four_units(const layer *l, const grids *s, int at, const int8_t *x, const int8_t *h, int8_t *y)
{
    const ed_gru_grids *g = &s->g;
    const vf hr = gate_of(l, s, at, h), hz = gate_of(l, s, l->n + at, h), hn = gate_of(l, s, 2 * l->n + at, h);
    const vf xr = vmulq_n_f32(load_steps(x, s->gates_x), g->sum_x), xz = vmulq_n_f32(load_steps(x + l->half, s->gates_x), g->sum_x);
    const vf r = look_up(l->table, vaddq_f32(xr, vmulq_n_f32(hr, g->sum_h)), s->sum, s->gate);
    const vf reset = held(vmulq_n_f32(vmulq_f32(r, hn), g->reset), s->reset_low, s->reset_high);
    const vf xn = vmulq_n_f32(load_steps(x + 2 * l->half, s->gates_x), g->new_x);
    const vf n = look_up(l->table + 256, vaddq_f32(xn, vmulq_n_f32(reset, g->new_h)), s->new_sum, s->n);
    const vf z = look_up(l->table, vaddq_f32(xz, vmulq_n_f32(hz, g->sum_h)), s->sum, s->gate);
    const vf diff = held(vsubq_f32(vmulq_n_f32(load_steps(h, s->h), g->diff_h), vmulq_n_f32(n, g->diff_n)), s->diff_low, s->diff_high);
    const vf update = held(vmulq_n_f32(vmulq_f32(z, diff), g->update), s->update_low, s->update_high);
    store_bytes(y, vaddq_f32(vmulq_n_f32(n, g->h_n), vmulq_n_f32(update, g->h_update)), s->h);
}

static APART void direction(const ed_args *a, int first, const int8_t *x, ptrdiff_t x_row, int8_t *y, ptrdiff_t y_row)
{
    const ed_op *op = a->op;
    const int n = op->n_out, half = n / 2, n_rows = op->n_rows;
    const grids s = grids_of((const ed_gru_grids *)((const float *)a->scale + 3 * n));
    const layer l = {a->weight, a->table, a->bias, a->scale, n, half};
    int8_t start[MOST_UNITS / 2];
    const int8_t *h = start;
    int i, u;
    memset(start, (int)s.h, sizeof start);
    for (i = 0; i < n_rows; i++, x += x_row, h = y, y += y_row)
        for (u = 0; u < half; u += 4) four_units(&l, &s, first + u, x + u, h + u, y + u);
}

ED_KERNEL(BIGRU_I8) ed_helium_BIGRU_I8(const ed_args *a)
{
    both_directions(a, direction);
}
#else
typedef int ed_helium_gru_is_not_built;
#endif
