/* Recurrent layers without vectors: what a unit needs stays in registers, and the weights of a layer over bands are
 * widened once for all of them. */
#include "ed_program.h"

#if defined(ED_SCALAR)
#include "ed_curve.h"
#include "ed_scalar_pairs.h"

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
    float s;
    x = between(x, -ED_HALF_END, ED_HALF_END);
    s = x * x;
    return x * ((ED_HALF_P(0) * s + ED_HALF_P(1)) * s + ED_HALF_P(2)) / ((s + ED_HALF_Q(0)) * s + ED_HALF_Q(1)) + 0.5f;
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

/* --- over bands, in 16 bits ----------------------------------------------------------------------------------------- */

/* Within 16 bits. */
static INLINE int32_t saturated(int32_t v)
{
#if defined(ARM_PAIRS)
    __asm__("ssat %0, #16, %1" : "=r"(v) : "r"(v));
    return v;
#else
    return v < -32768 ? -32768 : v > 32767 ? 32767 : v;
#endif
}

/* The byte of 32nds of a step. */
static INLINE int32_t byte_of_32nds(int32_t v)
{
#if defined(ARM_PAIRS)
    __asm__("ssat %0, #8, %1, asr #5" : "=r"(v) : "r"(v));
    return v;
#else
    v >>= 5;
    return v < -128 ? -128 : v > 127 ? 127 : v;
#endif
}

static INLINE int32_t high_product(int32_t a, int32_t b)
{
    return (a * b + (1 << 14)) >> 15;
}

/* What a unit's three gates need, side by side. */
typedef struct {
    struct {
        four w;
        int32_t scale, bias;
    } gate[3];
} unit;

/* Of 32nds of a step, W_hh h + b_hh. */
static INLINE int32_t sum_of(const unit *u, int gate, four h)
{
    return saturated(high_product(dot(0, h, u->gate[gate].w) >> 1, u->gate[gate].scale) + u->gate[gate].bias);
}

/* What the units of a layer share: multipliers of bytes of x, 128fold, and both tables, from step 0 on. */
typedef struct {
    const uint8_t *gates;
    const int8_t *state;
    int32_t x_gates, x_new, start_new;
} shared;

/* The byte of a unit's next state; `apart`: from one gate of x to the next. */
static INLINE int32_t next_of(const shared *s, const unit *u, const int8_t *x, ptrdiff_t apart, four block, int32_t h)
{
    const int32_t at_r = saturated(sum_of(u, 0, block) + high_product(x[0], s->x_gates));
    const int32_t r = 128 * s->gates[byte_of_32nds(at_r)];
    const int32_t start = saturated(high_product(x[2 * apart], s->x_new) + s->start_new);
    const int32_t made = s->state[byte_of_32nds(saturated(start + high_product(r, sum_of(u, 2, block))))];
    const int32_t at_z = saturated(sum_of(u, 1, block) + high_product(x[apart], s->x_gates));
    const int32_t z = 128 * s->gates[byte_of_32nds(at_z)];
    return (128 * made + high_product(z, 128 * (h - made)) + 64) >> 7;
}

static INLINE void units_of(const ed_args *a, int first, unit *units)
{
    const int n = a->op->n_out;
    int u, k;
    for (u = 0; u < n / 2; u++)
        for (k = 0; k < 3; k++) {
            const int at = k * n + first + u;
            units[u].gate[k].bias = ((const int16_t *)a->bias)[at];
            units[u].gate[k].scale = ((const int16_t *)a->scale)[at];
            units[u].gate[k].w = four_of((const int8_t *)a->weight + 4 * at);
        }
}

/* The states of the row before lie in its results. */
static APART void direction(const ed_args *a, int first, const int8_t *x, ptrdiff_t x_row, int8_t *y, ptrdiff_t y_row)
{
    const ed_op *op = a->op;
    const int half = op->n_out / 2, n_rows = op->n_rows;
    const int8_t start[MOST_UNITS / 2] = {0}, *h = start;
    unit units[MOST_UNITS / 2];
    shared s;
    int i, u, k;
    s.gates = (const uint8_t *)a->table + 128, s.state = (const int8_t *)a->table + 256 + 128;
    s.x_gates = 128 * (int32_t)op->f0, s.x_new = 128 * (int32_t)op->f1, s.start_new = (int32_t)op->f2;
    units_of(a, first, units);
    for (i = 0; i < n_rows; i++, h = y, x += x_row, y += y_row) {
        const unit *at = units;
        for (u = 0; u < half; u += 4) {
            const four block = four_of(h + u);
            for (k = u; k < u + 4; k++, at++) {
                const int8_t *in = x + k;
                AFTER_THAT(in);
                y[k] = (int8_t)next_of(&s, at, in, half, block, h[k]);
            }
        }
    }
}

ED_KERNEL(BIGRU_I16) ed_scalar_BIGRU_I16(const ed_args *a)
{
    both_directions(a, direction);
}

/* --- over time, in 16 bits ------------------------------------------------------------------------------------------ */

/* Where half a curve has a number's entry. */
static INLINE int32_t size_of(int32_t v)
{
    v = v < 0 ? -v : v;
#if defined(ARM_PAIRS)
    __asm__("usat %0, #7, %1" : "=r"(v) : "r"(v));
    return v;
#else
    return v > 127 ? 127 : v;
#endif
}

/* What a gate at so many 20ths passes of a number: a 64fold entry's product with 15 bits behind the point. */
static INLINE int32_t passed(const uint8_t *sigmoid, int32_t at, int32_t whole)
{
    const int32_t part = (sigmoid[size_of(at)] * whole + 256) >> 9;
    return at < 0 ? part : whole - part;
}

static INLINE int32_t state_of(const uint8_t *tanh, int32_t sum)
{
    const int32_t at = (sum + 16) >> 5, size = 64 * tanh[size_of(at)];
    return at < 0 ? -size : size;
}

/* Rows of y lie together. */
ED_KERNEL(GRU_CELL_I16) ed_scalar_GRU_CELL_I16(const ed_args *a)
{
    const ed_op *op = a->op;
    const int n = op->n_out, n_rows = op->n_rows;
    const uint8_t *sigmoid = a->table, *tanh = sigmoid + 128;
    int16_t *h = a->state;
    int8_t *y = a->y;
    int r, u;
    for (r = 0; r < n_rows; r++) {
        const float *x = ROWS(const float, a->x, op->x_row, r), *g = ROWS(const float, a->x2, op->x2_row, r);
        for (u = n; u > 0; u--, x++, g++) {
            const int32_t part = passed(sigmoid, short_of(x[0] + g[0]), short_of(g[2 * n]));
            const int32_t made = state_of(tanh, saturated(short_of(x[2 * n]) + part));
            const int32_t next = saturated(made + passed(sigmoid, short_of(x[n] + g[n]), saturated(*h - made)));
            *h++ = (int16_t)next, *y++ = (int8_t)byte_of_32nds((next >> 2) + 16);
        }
    }
}
#else
typedef int ed_scalar_gru_is_not_built;
#endif
