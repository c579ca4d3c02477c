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

static APART vf sigmoid_quick(vf x)
{
    vf s, num, den;
    x = vminnmq_f32(vmaxnmq_f32(x, vdupq_n_f32(-ED_HALF_END)), vdupq_n_f32(ED_HALF_END));
    s = vmulq_f32(x, x);
    num = vaddq_n_f32(vmulq_f32(vaddq_n_f32(vmulq_n_f32(s, ED_HALF_P(0)), ED_HALF_P(1)), s), ED_HALF_P(2));
    den = vaddq_n_f32(vmulq_f32(vaddq_n_f32(s, ED_HALF_Q(0)), s), ED_HALF_Q(1));
    return vaddq_n_f32(divided(vmulq_f32(x, num), den), 0.5f);
}

static INLINE vf curve_tanh(vf x, const int quick)
{
    return quick ? tanh_quick(x) : ed_helium_tanh(x);
}

static INLINE vf curve_sigmoid(vf x, const int quick)
{
    return quick ? sigmoid_quick(x) : ed_helium_sigmoid(x);
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

/* --- over bands, in 16 bits: eight units side by side ------------------------------------------------------------- */

/* What eight units or four of a direction need: of each gate weights of the inputs 0 and 1, and 2 and 3, of every unit. */
typedef struct {
    int16_t w[3][2][8], scale[3][8], bias[3][8]; /* w: pairs of bytes */
    const uint8_t *gates, *state; /* tables, from -128 on */
    int16_t x_gates, x_new, start_new;
    mve_pred16_t lanes;
    int apart; /* from one gate of x to the next */
} eight;

static INLINE void eight_start(eight *e, const ed_args *a, int at)
{
    const ed_op *op = a->op;
    const uint16x8_t units = vmulq_n_u16(vidupq_n_u16(0, 1), 4);
    int gate, side;
    e->lanes = vctp16q((uint32_t)(op->n_out / 2 < 8 ? 4 : 8)), e->apart = op->n_out / 2;
    for (gate = 0; gate < 3; gate++, at += op->n_out) {
        for (side = 0; side < 2; side++) {
            const int16_t *w = (const int16_t *)(const void *)((const int8_t *)a->weight + 4 * at + 2 * side);
            vstrhq_s16(e->w[gate][side], vldrhq_gather_offset_z_s16(w, units, e->lanes));
        }
        vstrhq_s16(e->scale[gate], vldrhq_z_s16((const int16_t *)a->scale + at, e->lanes));
        vstrhq_s16(e->bias[gate], vldrhq_z_s16((const int16_t *)a->bias + at, e->lanes));
    }
    e->gates = a->table, e->state = e->gates + 256;
    e->x_gates = (int16_t)op->f0, e->x_new = (int16_t)op->f1, e->start_new = (int16_t)op->f2;
}

/* Two products fit 16 bits, and so does half the sum of four. */
static INLINE int16x8_t pair_of(const int16_t *w, int8x16_t h)
{
    const int8x16_t ws = vreinterpretq_s8_s16(vldrhq_s16(w));
    return vaddq_s16(vmullbq_int_s8(ws, h), vmulltq_int_s8(ws, h));
}

/* W_hh h + b_hh, in 32nds; first, second: what each unit sees of the state. */
static INLINE int16x8_t sum_of(const eight *e, int gate, int8x16_t first, int8x16_t second)
{
    const int16x8_t half = vhaddq_s16(pair_of(e->w[gate][0], first), pair_of(e->w[gate][1], second));
    return vqaddq_s16(vqrdmulhq_s16(half, vldrhq_s16(e->scale[gate])), vldrhq_s16(e->bias[gate]));
}

/* Bytes of x, 128fold, times a number. */
static INLINE int16x8_t of_x(const eight *e, const int8_t *x, int16_t factor)
{
    return vqrdmulhq_n_s16(vshlq_n_s16(vldrbq_z_s16(x, e->lanes), 7), factor);
}

/* Where a table has the entry of so many 32nds. */
static INLINE uint16x8_t index_of(int16x8_t v)
{
    v = vmaxq_s16(vminq_s16(vshrq_n_s16(v, 5), vdupq_n_s16(127)), vdupq_n_s16(-128));
    return vreinterpretq_u16_s16(vaddq_n_s16(v, 128));
}

static INLINE int16x8_t gate_of(const eight *e, int16x8_t v)
{
    return vreinterpretq_s16_u16(vshlq_n_u16(vldrbq_gather_offset_u16(e->gates, index_of(v)), 7));
}

/* Next states; h: of the row before. */
static INLINE void eight_units(const eight *e, const int8_t *x, const int8_t *h, int8_t *y)
{
    const uint16x8_t block = vmulq_n_u16(vshrq_n_u16(vidupq_n_u16(0, 1), 2), 4);
    const mve_pred16_t lanes = e->lanes;
    const int8x16_t first = vreinterpretq_s8_s16(vldrhq_gather_offset_z_s16((const int16_t *)(const void *)h, block, lanes));
    const int8x16_t second = vreinterpretq_s8_s16(vldrhq_gather_offset_z_s16((const int16_t *)(const void *)(h + 2), block, lanes));
    const int16x8_t r = gate_of(e, vqaddq_s16(sum_of(e, 0, first, second), of_x(e, x, e->x_gates)));
    const int16x8_t z = gate_of(e, vqaddq_s16(sum_of(e, 1, first, second), of_x(e, x + e->apart, e->x_gates)));
    const int16x8_t start = vqaddq_n_s16(of_x(e, x + 2 * e->apart, e->x_new), e->start_new);
    const int16x8_t sum = vqaddq_s16(start, vqrdmulhq_s16(r, sum_of(e, 2, first, second)));
    const int16x8_t made = vldrbq_gather_offset_s16((const int8_t *)e->state, index_of(sum));
    const int16x8_t whole = vshlq_n_s16(made, 7), before = vshlq_n_s16(vldrbq_z_s16(h, lanes), 7);
    const int16x8_t next = vaddq_s16(whole, vqrdmulhq_s16(z, vsubq_s16(before, whole)));
    vstrbq_p_s16(y, vrshrq_n_s16(next, 7), lanes);
}

static APART void direction(const ed_args *a, int first, const int8_t *x, ptrdiff_t x_row, int8_t *y, ptrdiff_t y_row)
{
    const ed_op *op = a->op;
    const int half = op->n_out / 2, n_rows = op->n_rows;
    int8_t start[MOST_UNITS / 2] = {0};
    int i, u;
    for (u = 0; u < half; u += 8) {
        const int8_t *h = start, *from = x + u;
        int8_t *to = y + u;
        eight e;
        eight_start(&e, a, first + u);
        for (i = n_rows; i > 0; i--, from += x_row, h = to, to += y_row) eight_units(&e, from, h, to);
    }
}

ED_KERNEL(BIGRU_I16) ed_helium_BIGRU_I16(const ed_args *a)
{
    if (a->op->n_out == 8 || a->op->n_out % 16 == 0) both_directions(a, direction);
    else ed_portable_kernels[ED_BIGRU_I16](a);
}

/* --- over time, in 16 bits ---------------------------------------------------------------------------------------- */

/* Every second one of 8 floats, as they are packed. By gathers: GCC 12 writes vld2's address as no processor has it. */
static INLINE float32x4_t second(const float *x)
{
    return vldrwq_gather_shifted_offset_f32(x, vidupq_n_u32(0, 2));
}

/* To whole numbers of 16 bits, ties to even, saturated. */
static INLINE int16x8_t shorts_of(float32x4_t even, float32x4_t odd)
{
    return vqmovntq_s32(vqmovnbq_s32(vdupq_n_s16(0), vcvtnq_s32_f32(even)), vcvtnq_s32_f32(odd));
}

static INLINE int16x8_t shorts_at(const float *x)
{
    return shorts_of(second(x), second(x + 1));
}

static INLINE int16x8_t shorts_at_both(const float *x, const float *x2)
{
    return shorts_of(vaddq_f32(second(x), second(x2)), vaddq_f32(second(x + 1), second(x2 + 1)));
}

/* The entry of half a curve, 64fold, at a number of any sign. */
static INLINE int16x8_t part_at(const uint8_t *table, int16x8_t at)
{
    const uint16x8_t size = vreinterpretq_u16_s16(vminq_s16(vqabsq_s16(at), vdupq_n_s16(127)));
    return vreinterpretq_s16_u16(vshlq_n_u16(vldrbq_gather_offset_u16(table, size), 6));
}

/* What a gate at so many 20ths passes of a number. */
static INLINE int16x8_t passed(const uint8_t *table, int16x8_t at, int16x8_t whole)
{
    const int16x8_t part = vqrdmulhq_s16(part_at(table, at), whole);
    return vpselq_s16(part, vsubq_s16(whole, part), vcmpltq_n_s16(at, 0));
}

static INLINE void eight_over_time(const uint8_t *table, const float *x, const float *g, int n, int16_t *state, int8_t *y)
{
    const int16x8_t reset = shorts_at_both(x, g), update = shorts_at_both(x + n, g + n), h = vldrhq_s16(state);
    const int16x8_t sum = vqaddq_s16(shorts_at(x + 2 * n), passed(table, reset, shorts_at(g + 2 * n)));
    const int16x8_t at = vrshrq_n_s16(sum, 5), size = part_at(table + 128, at);
    const int16x8_t made = vpselq_s16(vnegq_s16(size), size, vcmpltq_n_s16(at, 0));
    const int16x8_t next = vqaddq_s16(made, passed(table, update, vqsubq_s16(h, made)));
    vstrhq_s16(state, next);
    vstrbq_s16(y, vmaxq_s16(vminq_s16(vrshrq_n_s16(next, 7), vdupq_n_s16(127)), vdupq_n_s16(-128)));
}

ED_KERNEL(GRU_CELL_I16) ed_helium_GRU_CELL_I16(const ed_args *a)
{
    const ed_op *op = a->op;
    const int n = op->n_out, n_rows = op->n_rows;
    int16_t *state = a->state;
    int r, u;
    if (n % 8 != 0) {
        ed_portable_kernels[ED_GRU_CELL_I16](a);
        return;
    }
    for (r = 0; r < n_rows; r++)
        for (u = 0; u < n; u += 8, state += 8)
            eight_over_time(a->table, ROWS(const float, a->x, op->x_row, r) + u, ROWS(const float, a->x2, op->x2_row, r) + u, n,
                            state, ROWS(int8_t, a->y, op->y_row, r) + u);
}
#else
typedef int ed_helium_gru_is_not_built;
#endif
