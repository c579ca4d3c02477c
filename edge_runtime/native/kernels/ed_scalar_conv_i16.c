/* Convolutions of numbers of 16 bits with one exponent, and to such numbers, without vectors: as 8-bit ones, but
 * nothing is widened. */
#include "ed_program.h"

#if defined(ED_SCALAR)
#include "ed_scalar_sums.h"

#define MOST_FOURS 64 /* inputs of a result, four by four */
#define MOST_KEPT 160 /* inputs of the rows made at a time, four by four */

/* NO columns of rows. */
typedef struct {
    const four *x, *w;       /* zeros before the weights */
    ptrdiff_t x_step, y_row; /* in fours; in floats */
    float factor[NO], bias[NO], slope; /* of the LeakyReLU; 1 where there is none */
    float *y;
    int n_fours, n_rows;
} job;

/* As in ed_scalar_conv_i8.c. */
static INLINE void blocks(const job *j, const runs known)
{
    const ptrdiff_t x_step = j->x_step, y_row = j->y_row;
    const both factor = both_of(j->factor), bias = both_of(j->bias);
    const float slope = j->slope;
    const four *const w = j->w, *x = j->x;
    const int n_fours = j->n_fours;
    float *y = j->y;
    int n = j->n_rows / NR, odd = j->n_rows % NR;
    for (;; odd = 0, n = 1, x -= x_step, y -= y_row) {
        for (; n > 0; n--, x += NR * x_step, y += NR * y_row) {
            int32_t sum[NR][NO];
            sums_of(sum, x, x_step, w, n_fours, known);
            AFTER_THAT(y);
            put_floats(y, leaky_of(plus(times(sum[0], factor), bias), slope));
            put_floats(y + y_row, leaky_of(plus(times(sum[1], factor), bias), slope));
        }
        if (!odd) break;
    }
}

/* The network's: 24 inputs; and any. */
static APART void any_blocks(const job *j)
{
    if (runs_of(j->n_fours, j->x_step) == SIX_AT_SIX) blocks(j, SIX_AT_SIX);
    else blocks(j, ANY);
}

/* Two pairs of inputs of one column. */
static INLINE four weights_of(const int16_t *w, ptrdiff_t line)
{
    four f;
    memcpy(&f, w, 4), memcpy((char *)&f + 4, w + line, 4);
    return f;
}

/* n_rows rows from row r on, `x_step` fours apart, from x on. */
static APART void rows(const ed_args *a, const four *x, ptrdiff_t x_step, int r, int n_rows)
{
    const ed_op *op = a->op;
    const int n_fours = op->taps * op->n_in / 4, n_out = op->n_out;
    const ptrdiff_t line = 2 * (ptrdiff_t)n_out;
    const float unit = *(const float *)a->x2;
    four weights[1 + MOST_FOURS * NO];
    const float slope = op->flags & ED_LEAKY_AFTER ? op->f0 : 1.0f;
    job j = {x, weights, x_step, op->y_row, {0}, {0}, slope, NULL, n_fours, n_rows};
    const int32_t zeros[NO] = {0};
    int o, i, k;
    put_biases(weights, zeros);
    if (n_rows < NR) j.n_rows = NR, j.x_step = j.y_row = 0; /* twice */
    for (o = 0; o < n_out; o += NO) {
        const int16_t *w = (const int16_t *)a->weight + 2 * o;
        for (k = 0; k < n_fours; k++, w += 2 * line)
            weights[1 + k * NO] = weights_of(w, line), weights[2 + k * NO] = weights_of(w + 2, line);
        UNROLL for (i = 0; i < NO; i++) {
            j.factor[i] = ((const float *)a->scale)[o + i] * unit;
            j.bias[i] = ((const float *)a->bias)[o + i];
        }
        j.y = ROWS(float, a->y, op->y_row, r) + ed_piece(op, o);
        any_blocks(&j);
    }
}

/* Inputs of some rows one after the other. */
static INLINE void keep(const int16_t *x, ptrdiff_t x_row, int n_rows, int n_fours, four *kept)
{
    int r, k;
    for (r = 0; r < n_rows; r++, x += x_row)
        for (k = 0; k < n_fours; k++) memcpy(kept++, x + 4 * k, sizeof *kept);
}

/* Rows lie as products want them if all inputs of one are a run, at words. */
ED_KERNEL(CONV_I16) ed_scalar_CONV_I16(const ed_args *a)
{
    const ed_op *op = a->op;
    const int whole = op->n_out % 4 == 0 && op->n_in % 4 == 0 && (op->seg >= op->n_out || op->seg % NO == 0);
    const int n_in = op->n_in / 4, one_tap = op->taps == 1, step = op->stride * op->x_row;
    const int most = whole ? (MOST_KEPT / n_in - op->taps) / (one_tap ? 1 : op->stride) + 1 : 0;
    const int16_t *x = (const int16_t *)a->x - op->pad * op->x_row;
    int r;
    if (!whole || op->taps * n_in > MOST_FOURS || MOST_KEPT / n_in < op->taps) ed_portable_kernels[ED_CONV_I16](a);
    else if (one_tap && step % 4 == 0 && (uintptr_t)x % sizeof(uint32_t) == 0)
        rows(a, (const four *)(const void *)x, step / 4, 0, op->n_rows);
    else
        for (r = 0; r < op->n_rows; r += most) {
            const int n_rows = op->n_rows - r < most ? op->n_rows - r : most;
            four kept[MOST_KEPT];
            if (one_tap) keep(x + r * step, step, n_rows, n_in, kept);
            else keep(x + r * step, op->x_row, (n_rows - 1) * op->stride + op->taps, n_in, kept);
            rows(a, kept, one_tap ? n_in : op->stride * n_in, r, n_rows);
        }
}

#if defined(ARM_PAIRS)
/* The upper halves of two floats, each the larger one of what there was and, without their signs, of x. */
static INLINE uint32_t larger_halves(uint32_t halves, const float *x)
{
    uint32_t low, high;
    memcpy(&low, x, 4), memcpy(&high, x + 1, 4);
    __asm__("pkhtb %1, %1, %2, asr #16\n\t"
            "and %1, %1, %3\n\t"
            "usub16 %2, %1, %0\n\t"
            "sel %0, %1, %0"
            : "+r"(halves), "+r"(high), "+r"(low)
            : "r"(0x7fff7fff)
            : "cc");
    return halves;
}
#endif

/* The bits of the largest size, or the upper half of them. */
static INLINE uint32_t largest_of(const float *x, int n, uint32_t largest)
{
    int c = 0;
#if defined(ARM_PAIRS)
    uint32_t halves = largest >> 16;
    for (; c + 4 <= n; c += 4) halves = larger_halves(larger_halves(halves, x + c), x + c + 2);
    largest = halves << 16 > (halves & 0xffff0000u) ? halves << 16 : halves & 0xffff0000u;
#endif
    for (; c < n; c++)
        if (ed_size_bits(x[c]) > largest) largest = ed_size_bits(x[c]);
    return largest;
}

ED_KERNEL(QUANTIZE_I16) ed_scalar_QUANTIZE_I16(const ed_args *a)
{
    const ed_op *op = a->op;
    const int n = op->n_out, n_rows = op->n_rows, x_row = op->x_row, y_row = op->y_row;
    uint32_t largest = 0;
    ed_block block;
    int r, c, i;
    for (r = 0; r < n_rows; r++) largest = largest_of(ROWS(const float, a->x, x_row, r), n, largest);
    block = ed_block_of(largest);
    *(float *)a->state = block.unit;
    for (r = 0; r < n_rows; r++) {
        const float *x = ROWS(const float, a->x, x_row, r);
        int16_t *y = ROWS(int16_t, a->y, y_row, r);
        for (c = 0; c + 4 <= n; c += 4)
            UNROLL for (i = 0; i < 4; i += 2) put_shorts(y + c + i, product_of(both_of(x + c + i), block.steps));
        for (; c < n; c++) y[c] = short_of(x[c] * block.steps);
    }
}
#else
typedef int ed_scalar_conv_i16_is_not_built;
#endif
