/* 8-bit convolutions without vectors, in two steps that each fit into the registers of 32-bit ARM: sums of two columns
 * of results, then the way back to a grid. Inputs and weights are widened to 16 bits once for all products. */
#include "ed_program.h"

#if defined(ED_SCALAR)
#include "ed_scalar.h"

#define NO 2             /* columns side by side */
#define NR 2             /* rows that share the weights */
#define MOST_FOURS 64    /* inputs of a result, four by four */
#define MOST_WIDENED 160 /* inputs of the rows made at a time, four by four */
#define MOST_ROWS 48     /* made at a time */

/* From a sum to the stored result: an operation's own copy, because stores of bytes might change the operation. */
typedef struct {
    float slope;
    int32_t zp;
} stage;

static INLINE stage stage_of(const ed_op *op)
{
    stage s;
    s.slope = op->f0, s.zp = op->y_zp;
    return s;
}

static INLINE void store(const stage *s, char *y, int32_t sum, float multiplier, const int leaky, const int as_float)
{
    float v = (float)sum * multiplier;
    if (leaky) v = greater(v * s->slope, v);
    if (as_float) *(float *)y = v;
    else *(int8_t *)y = (int8_t)byte_of(v, s->zp);
}

static INLINE void finish(const stage *end, const int32_t (*sum)[NO], const float *multiplier, char *y,
                          ptrdiff_t y_row, int n_rows, const int leaky, const int as_float)
{
    const stage s = *end;
    const float m0 = multiplier[0], m1 = multiplier[1];
    const int32_t (*stop)[NO] = sum + n_rows;
    for (; sum != stop; sum++, y += y_row) {
        store(&s, y, (*sum)[0], m0, leaky, as_float);
        store(&s, y + (as_float ? 4 : 1), (*sum)[1], m1, leaky, as_float);
    }
}

/* NO columns of results from their sums. */
static APART void finish_as(const ed_op *op, const stage *end, const int32_t (*sum)[NO], const float *multiplier,
                            char *y, ptrdiff_t y_row, int n_rows)
{
    const int leaky = op->flags & ED_LEAKY_AFTER;
    if (op->flags & ED_FLOAT_OUT) {
        if (leaky) finish(end, sum, multiplier, y, y_row, n_rows, 1, 1);
        else finish(end, sum, multiplier, y, y_row, n_rows, 0, 1);
    } else if (leaky) finish(end, sum, multiplier, y, y_row, n_rows, 1, 0);
    else finish(end, sum, multiplier, y, y_row, n_rows, 0, 0);
}

/* NR rows by NO columns take four more inputs of each row; what is read moves on. */
#if defined(ARM_PAIRS) && defined(__thumb2__)
/* As compilers would not: nothing leaves the registers. */
static INLINE void add_four(int32_t sum[NR][NO], const four **x0, const four **x1, const four **w)
{
    uint32_t even0, odd0, even1, odd1, even, odd;
    __asm__("ldrd %[even0], %[odd0], [%[x0]], #8\n\t"
            "ldrd %[even1], %[odd1], [%[x1]], #8\n\t"
            "ldrd %[even], %[odd], [%[w]], #8\n\t"
            "smlad %[s00], %[even0], %[even], %[s00]\n\t"
            "smlad %[s10], %[even1], %[even], %[s10]\n\t"
            "smlad %[s00], %[odd0], %[odd], %[s00]\n\t"
            "smlad %[s10], %[odd1], %[odd], %[s10]\n\t"
            "ldrd %[even], %[odd], [%[w]], #8\n\t"
            "smlad %[s01], %[even0], %[even], %[s01]\n\t"
            "smlad %[s11], %[even1], %[even], %[s11]\n\t"
            "smlad %[s01], %[odd0], %[odd], %[s01]\n\t"
            "smlad %[s11], %[odd1], %[odd], %[s11]"
            : [x0] "+r"(*x0), [x1] "+r"(*x1), [w] "+r"(*w), [s00] "+r"(sum[0][0]), [s01] "+r"(sum[0][1]),
              [s10] "+r"(sum[1][0]), [s11] "+r"(sum[1][1]), [even0] "=&r"(even0), [odd0] "=&r"(odd0),
              [even1] "=&r"(even1), [odd1] "=&r"(odd1), [even] "=&r"(even), [odd] "=&r"(odd)
            :
            : "memory");
}
#else
static INLINE void add_four(int32_t sum[NR][NO], const four **x0, const four **x1, const four **w)
{
    int i;
    UNROLL for (i = 0; i < NO; i++) {
        sum[0][i] = dot(sum[0][i], **x0, (*w)[i]);
        sum[1][i] = dot(sum[1][i], **x1, (*w)[i]);
    }
    ++*x0, ++*x1, *w += NO;
}
#endif

/* Sums of NO columns and n_blocks times NR rows, whose inputs begin x_step apart. n_known: n_fours if it is known when
 * compiled, else 0. */
static INLINE void sums_of(const four *x, ptrdiff_t x_step, const four *w, int n_fours, const int32_t *bias,
                           int32_t (*sums)[NO], int n_blocks, const int n_known)
{
    const int32_t bias0 = bias[0], bias1 = bias[1];
    int32_t (*stop)[NO] = sums + n_blocks * NR;
    int b, k;
    for (; sums != stop; sums += NR, x += NR * x_step) {
        int32_t sum[NR][NO] = {{bias0, bias1}, {bias0, bias1}};
        const four *x0 = x, *x1 = x + x_step, *at = w;
        if (n_known) {
            UNROLL for (k = 0; k < n_known; k++) add_four(sum, &x0, &x1, &at);
        } else
            for (k = n_fours; k > 0; k--) add_four(sum, &x0, &x1, &at);
        UNROLL for (b = 0; b < NR; b++) sums[b][0] = sum[b][0], sums[b][1] = sum[b][1];
    }
}

static APART void sums_of_any(const four *x, ptrdiff_t x_step, const four *w, int n_fours, const int32_t *bias,
                              int32_t (*sums)[NO], int n_blocks)
{
    if (n_fours == 2) sums_of(x, x_step, w, n_fours, bias, sums, n_blocks, 2);
    else if (n_fours == 4) sums_of(x, x_step, w, n_fours, bias, sums, n_blocks, 4);
    else if (n_fours == 6) sums_of(x, x_step, w, n_fours, bias, sums, n_blocks, 6);
    else sums_of(x, x_step, w, n_fours, bias, sums, n_blocks, 0);
}

/* Rows of x, one after the other. */
static INLINE void widen(const int8_t *x, ptrdiff_t x_row, int n_rows, int n_fours, four *wide)
{
    int r, k;
    for (r = 0; r < n_rows; r++, x += x_row)
        for (k = 0; k < n_fours; k++) *wide++ = four_of(x + 4 * k);
}

/* n_rows rows from row r on. */
static INLINE void rows(const ed_args *a, const stage *end, int r, int n_rows)
{
    const ed_op *op = a->op;
    const int size = op->flags & ED_FLOAT_OUT ? 4 : 1, n_out = op->n_out, n_in = op->n_in / 4;
    const int n_fours = op->taps * n_in;
    const ptrdiff_t y_row = (ptrdiff_t)op->y_row * size, x_row = op->x_row, x_step = (ptrdiff_t)op->stride * n_in;
    four wide[MOST_WIDENED], weights[MOST_FOURS * NO];
    int32_t sums[MOST_ROWS + 1][NO];
    int o, k;
    widen((const int8_t *)a->x + (r * op->stride - op->pad) * x_row, x_row, (n_rows - 1) * op->stride + op->taps, n_in,
          wide);
    for (o = 0; o < n_out; o += NO) {
        const int8_t *w = (const int8_t *)a->weight + 4 * o;
        const int32_t *bias = (const int32_t *)a->bias + o;
        for (k = 0; k < n_fours; k++, w += 4 * n_out)
            weights[k * NO] = four_of(w), weights[k * NO + 1] = four_of(w + 4);
        sums_of_any(wide, x_step, weights, n_fours, bias, sums, n_rows / NR);
        if (n_rows % NR) /* the last row, twice */
            sums_of_any(wide + (n_rows - 1) * x_step, 0, weights, n_fours, bias, sums + n_rows - 1, 1);
        finish_as(op, end, (const int32_t (*)[NO])sums, (const float *)a->scale + o,
                  (char *)a->y + r * y_row + ed_piece(op, o) * size, y_row, n_rows);
    }
}

/* One row: its weights are used once. */
static APART void one_row(const ed_args *a, const stage *end)
{
    const ed_op *op = a->op;
    const int size = op->flags & ED_FLOAT_OUT ? 4 : 1, n_out = op->n_out, n_fours = op->taps * op->n_in / 4;
    four wide[MOST_FOURS];
    int o, k;
    widen((const int8_t *)a->x - op->pad * op->x_row, op->x_row, op->taps, op->n_in / 4, wide);
    for (o = 0; o < n_out; o += NO) {
        const int8_t *w = (const int8_t *)a->weight + 4 * o;
        int32_t sum[1][NO] = {{((const int32_t *)a->bias)[o], ((const int32_t *)a->bias)[o + 1]}};
        for (k = 0; k < n_fours; k++, w += 4 * n_out) {
            sum[0][0] = dot(sum[0][0], wide[k], four_of(w));
            sum[0][1] = dot(sum[0][1], wide[k], four_of(w + 4));
        }
        finish_as(op, end, (const int32_t (*)[NO])sum, (const float *)a->scale + o,
                  (char *)a->y + ed_piece(op, o) * size, 0, 1);
    }
}

ED_KERNEL(CONV_I8) ed_scalar_CONV_I8(const ed_args *a)
{
    const ed_op *op = a->op;
    const stage end = stage_of(op);
    const int whole = op->n_out % 4 == 0 && op->n_in % 4 == 0 && (op->seg >= op->n_out || op->seg % NO == 0);
    const int n_in = op->n_in / 4, most = whole ? (MOST_WIDENED / n_in - op->taps) / op->stride + 1 : 0;
    const int n_at_a_time = most < MOST_ROWS ? most : MOST_ROWS;
    int r;
    if (!whole || op->taps * n_in > MOST_FOURS || MOST_WIDENED / n_in < op->taps)
        ed_portable_kernels[ED_CONV_I8](a);
    else if (op->n_rows == 1) one_row(a, &end);
    else
        for (r = 0; r < op->n_rows; r += n_at_a_time)
            rows(a, &end, r, op->n_rows - r < n_at_a_time ? op->n_rows - r : n_at_a_time);
}

/* Three frames, three bands. A row that is read serves the three rows that see it, whose sums wait in registers. */
static APART void column(const int8_t *const x[3], const int8_t *w, int n, int32_t bias, int32_t *sums, int n_rows)
{
    const int8_t *x0 = x[0];
    const ptrdiff_t to_x1 = x[1] - x[0], to_x2 = x[2] - x[0];
    const int32_t *stop = sums + n_rows * NO;
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
    for (; sums != stop; x0 += n, sums += NO) {
        const two pair = two_of(x0[0], x0[to_x1]);
        const int32_t x2 = x0[to_x2];
        *sums = add_low(dot_two(above, pair, top[2]), x2, lone);
        above = add_high(dot_two(here, pair, top[1]), x2, last);
        here = add_low(dot_two(bias, pair, top[0]), x2, last);
    }
}

ED_KERNEL(DEPTH_I8) ed_scalar_DEPTH_I8(const ed_args *a)
{
    const ed_op *op = a->op;
    const stage end = stage_of(op);
    const int size = op->flags & ED_FLOAT_OUT ? 4 : 1, n = op->n_out;
    int32_t sums[MOST_ROWS][NO];
    const int8_t *x[3];
    int c, i, t;
    if (op->time_taps != 3 || op->taps != 3 || op->n_rows > MOST_ROWS || n % NO != 0) {
        ED_IF_USED(RESAMPLE_I8, ed_scalar_depth_any_i8, ed_portable_kernels[ED_DEPTH_I8])(a);
        return;
    }
    for (c = 0; c < n; c += NO) {
        for (i = 0; i < NO; i++) {
            UNROLL for (t = 0; t < 3; t++) x[t] = (const int8_t *)ed_frame_of(a, t, 1) + c + i;
            column(x, (const int8_t *)a->weight + c + i, n, ((const int32_t *)a->bias)[c + i], sums[0] + i,
                   op->n_rows);
        }
        finish_as(op, &end, (const int32_t (*)[NO])sums, (const float *)a->scale + c, (char *)a->y + c * size,
                  (ptrdiff_t)op->y_row * size, op->n_rows);
    }
    ed_keep_frame(a, 1);
}
#else
typedef int ed_scalar_conv_i8_is_not_built;
#endif
