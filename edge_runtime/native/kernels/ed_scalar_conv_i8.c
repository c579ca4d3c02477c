/* 8-bit convolutions without vectors, blocks of two rows by two columns: their sums fill the registers of 32-bit ARM, and
 * go from there to their grid. Inputs and weights are widened to 16 bits once for all products. */
#include "ed_program.h"

#if defined(ED_SCALAR)
#include "ed_scalar_sums.h"

#define MOST_FOURS 64    /* inputs of a result, four by four */
#define MOST_WIDENED 160 /* inputs of the rows made at a time, four by four */
#define MOST_ROWS 48     /* made at a time */

/* One row. */
static INLINE void put(const stage *s, char *y, const int32_t sum[NO], both factor, const int leaky, const int as_float)
{
    both v = times(sum, factor);
    if (leaky) v = leaky_of(v, s->slope);
    if (as_float) put_floats((float *)(void *)y, v);
    else put_bytes((int8_t *)y, v, s->zp);
}

/* NO columns of rows. */
typedef struct {
    const four *x, *w;       /* biases before the weights */
    ptrdiff_t x_step, y_row; /* in fours; in bytes */
    const float *scale;
    char *y;
    int n_fours, n_rows;
    stage end;
} job;

/* Two rows at a time; of an odd number the last one with the one before it, again. */
static INLINE void blocks(const job *j, const runs known, const int leaky, const int as_float)
{
    const stage s = j->end;
    const ptrdiff_t x_step = j->x_step, y_row = j->y_row;
    const both factor = both_of(j->scale);
    const four *const w = j->w, *x = j->x;
    const int n_fours = j->n_fours;
    char *y = j->y;
    int n = j->n_rows / NR, odd = j->n_rows % NR;
    for (;; odd = 0, n = 1, x -= x_step, y -= y_row) {
        for (; n > 0; n--, x += NR * x_step, y += NR * y_row) {
            int32_t sum[NR][NO];
            sums_of(sum, x, x_step, w, n_fours, known);
            AFTER_THAT(y);
            put(&s, y, sum[0], factor, leaky, as_float);
            put(&s, y + y_row, sum[1], factor, leaky, as_float);
        }
        if (!odd) break;
    }
}

/* The network's: 8 or 16 inputs, or three times 8 and a LeakyReLU; and any. */
static APART void blocks_to_floats(const job *j)
{
    const runs known = runs_of(j->n_fours, j->x_step);
    const int leaky = j->end.slope != 1.0f;
    if (known == TWO_AT_TWO && !leaky) blocks(j, TWO_AT_TWO, 0, 1);
    else if (known == FOUR_AT_FOUR && !leaky) blocks(j, FOUR_AT_FOUR, 0, 1);
    else if (known == SIX_AT_TWO) blocks(j, SIX_AT_TWO, 1, 1);
    else blocks(j, ANY, 1, 1);
}

static APART void blocks_to_bytes(const job *j)
{
    const runs known = runs_of(j->n_fours, j->x_step);
    if (known == TWO_AT_TWO && j->end.slope == 1.0f) blocks(j, TWO_AT_TWO, 0, 0);
    else if (known == SIX_AT_TWO) blocks(j, SIX_AT_TWO, 1, 0);
    else blocks(j, ANY, 1, 0);
}

/* Rows of x, one after the other. */
static INLINE void widen(const int8_t *x, ptrdiff_t x_row, int n_rows, int n_fours, four *wide)
{
    int r, k;
    for (r = 0; r < n_rows; r++, x += x_row) {
        for (k = 0; k + 2 <= n_fours; k += 2, wide += 2) wide[0] = four_of(x + 4 * k), wide[1] = four_of(x + 4 * k + 4);
        if (k < n_fours) *wide++ = four_of(x + 4 * k);
    }
}

/* n_rows rows from row r on. */
static INLINE void rows(const ed_args *a, int r, int n_rows)
{
    const ed_op *op = a->op;
    const int as_float = op->flags & ED_FLOAT_OUT, size = as_float ? 4 : 1, n_out = op->n_out, n_in = op->n_in / 4;
    const int n_fours = op->taps * n_in;
    const ptrdiff_t x_row = op->x_row, x_step = (ptrdiff_t)op->stride * n_in, y_row = (ptrdiff_t)op->y_row * size;
    four wide[MOST_WIDENED], weights[1 + MOST_FOURS * NO];
    job j = {wide, weights, x_step, y_row, NULL, NULL, n_fours, n_rows, stage_of(op)};
    int o, k;
    widen((const int8_t *)a->x + (r * op->stride - op->pad) * x_row, x_row, (n_rows - 1) * op->stride + op->taps, n_in,
          wide);
    for (o = 0; o < n_out; o += NO) {
        const int8_t *w = (const int8_t *)a->weight + 4 * o;
        for (k = 0; k < n_fours; k++, w += 4 * n_out)
            weights[1 + k * NO] = four_of(w), weights[2 + k * NO] = four_of(w + 4);
        put_biases(weights, (const int32_t *)a->bias + o);
        j.scale = (const float *)a->scale + o;
        j.y = (char *)a->y + r * y_row + ed_piece(op, o) * size;
        if (as_float) blocks_to_floats(&j);
        else blocks_to_bytes(&j);
    }
}

/* One row: its weights are used once. */
static APART void one_row(const ed_args *a)
{
    const ed_op *op = a->op;
    const stage end = stage_of(op);
    const int as_float = op->flags & ED_FLOAT_OUT, size = as_float ? 4 : 1, n_out = op->n_out;
    const int n_fours = op->taps * op->n_in / 4;
    four wide[MOST_FOURS];
    int o, k;
    widen((const int8_t *)a->x - op->pad * op->x_row, op->x_row, op->taps, op->n_in / 4, wide);
    for (o = 0; o < n_out; o += NO) {
        const int8_t *w = (const int8_t *)a->weight + 4 * o;
        const float *scale = (const float *)a->scale + o;
        int32_t sum[NO] = {((const int32_t *)a->bias)[o], ((const int32_t *)a->bias)[o + 1]};
        char *y = (char *)a->y + ed_piece(op, o) * size;
        for (k = 0; k < n_fours; k++, w += 4 * n_out)
            sum[0] = dot(sum[0], wide[k], four_of(w)), sum[1] = dot(sum[1], wide[k], four_of(w + 4));
        if (as_float) put(&end, y, sum, both_of(scale), 1, 1);
        else put(&end, y, sum, both_of(scale), 1, 0);
    }
}

ED_KERNEL(CONV_I8) ed_scalar_CONV_I8(const ed_args *a)
{
    const ed_op *op = a->op;
    const int whole = op->n_out % 4 == 0 && op->n_in % 4 == 0 && (op->seg >= op->n_out || op->seg % NO == 0);
    const int n_in = op->n_in / 4, most = whole ? (MOST_WIDENED / n_in - op->taps) / op->stride + 1 : 0;
    const int n_at_a_time = most < MOST_ROWS ? most : MOST_ROWS;
    int r, n;
    if (!whole || op->taps * n_in > MOST_FOURS || most < NR) ed_portable_kernels[ED_CONV_I8](a);
    else if (op->n_rows == 1) one_row(a);
    else
        for (r = 0; r < op->n_rows; r += n) {
            n = op->n_rows - r < n_at_a_time ? op->n_rows - r : n_at_a_time;
            if (n < NR) n = NR, r = op->n_rows - NR;
            rows(a, r, n);
        }
}

/* One channel of three frames, three bands. A row that is read serves the three rows that see it, whose sums wait in
 * registers. */
static INLINE void column(const ed_args *a, const int8_t *const x[3], int c, const int as_float)
{
    const ed_op *op = a->op;
    const stage s = stage_of(op);
    const int n = op->n_out, size = as_float ? 4 : 1;
    const int8_t *x0 = x[0] + c, *w = (const int8_t *)a->weight + c;
    const ptrdiff_t to_x1 = x[1] - x[0], to_x2 = x[2] - x[0], y_row = (ptrdiff_t)op->y_row * size;
    const int32_t bias = ((const int32_t *)a->bias)[c];
    const float multiplier = ((const float *)a->scale)[c];
    char *y = (char *)a->y + c * size, *stop = y + op->n_rows * y_row;
    two top[3], last, lone;
    int32_t above = bias, here = bias;
    int k;
    UNROLL for (k = 0; k < 3; k++) top[k] = two_of(w[k * n], w[(3 + k) * n]);
    last = two_of(w[6 * n], w[7 * n]), lone = two_of(w[8 * n], 0);
    for (k = 0; k < 2; k++, x0 += n) {
        const two pair = two_of(x0[0], x0[to_x1]);
        const int32_t x2 = x0[to_x2];
        if (k == 1) above = add_high(dot_two(here, pair, top[1]), x2, last);
        here = add_low(dot_two(bias, pair, top[0]), x2, last);
    }
    for (; y != stop; x0 += n, y += y_row) {
        const two pair = two_of(x0[0], x0[to_x1]);
        const int32_t x2 = x0[to_x2];
        float v = (float)add_low(dot_two(above, pair, top[2]), x2, lone) * multiplier;
        v = greater(v * s.slope, v);
        if (as_float) *(float *)(void *)y = v;
        else *(int8_t *)y = (int8_t)byte_of(v, s.zp);
        above = add_high(dot_two(here, pair, top[1]), x2, last);
        here = add_low(dot_two(bias, pair, top[0]), x2, last);
    }
}

static APART void column_to_floats(const ed_args *a, const int8_t *const x[3], int c) { column(a, x, c, 1); }
static APART void column_to_bytes(const ed_args *a, const int8_t *const x[3], int c) { column(a, x, c, 0); }

ED_KERNEL(DEPTH_I8) ed_scalar_DEPTH_I8(const ed_args *a)
{
    const ed_op *op = a->op;
    const int8_t *x[3];
    int c, t;
    if (op->time_taps != 3 || op->taps != 3) {
        ED_IF_USED(RESAMPLE_I8, ed_scalar_depth_any_i8, ed_portable_kernels[ED_DEPTH_I8])(a);
        return;
    }
    for (t = 0; t < 3; t++) x[t] = (const int8_t *)ed_frame_of(a, t, 1);
    for (c = 0; c < op->n_out; c++)
        if (op->flags & ED_FLOAT_OUT) column_to_floats(a, x, c);
        else column_to_bytes(a, x, c);
    ed_keep_frame(a, 1);
}
#else
typedef int ed_scalar_conv_i8_is_not_built;
#endif
