/* Convolutions without vectors: a block of NR rows by NO results in registers, so that each weight and each input that is
 * loaded is used for several products. Weights are widened once for all rows. Sums go in plain C's order. */
#include "ed_program.h"

#if defined(ED_SCALAR)
#include "ed_scalar.h"

#define NO 4 /* results of a row side by side; weights are padded to as many */
#if defined(__thumb2__)
#define NR 5 /* rows that share the weights */
#else
#define NR 3 /* five spill on an ARM1176: 22 % more instructions a hop in float */
#endif
#define MOST_INPUTS 96

/* As the inner loops see it, in elements. */
typedef struct {
    ptrdiff_t x_row, x_next, y_next; /* between two taps; between two rows of a block, 0 where there is one */
    int n_taps, n_in;                /* the inputs of all taps are one run if they lie together */
} shape;

/* n_rows rows: x from their first tap, y from their first result. */
static INLINE void block(const shape *s, const float *x, const float (*w)[NO], const float *bias, float *y,
                         const int leaky, float slope, const int n_rows)
{
    const ptrdiff_t x_next = s->x_next;
    float sum[NR][NO];
    int b, i, k;
    UNROLL for (b = 0; b < n_rows; b++)
        UNROLL for (i = 0; i < NO; i++) sum[b][i] = bias[i];
    for (k = 0; k < s->n_taps; k++, x += s->x_row) {
        const float *in = x, *stop = x + s->n_in;
        for (; in != stop; in++, w++)
            UNROLL for (b = 0; b < n_rows; b++) {
                const float v = in[b * x_next];
                UNROLL for (i = 0; i < NO; i++) sum[b][i] = sum[b][i] + v * (*w)[i];
            }
    }
    UNROLL for (b = 0; b < n_rows; b++)
        UNROLL for (i = 0; i < NO; i++) {
            float v = sum[b][i];
            y[b * s->y_next + i] = leaky && v < 0 ? v * slope : v;
        }
}

static APART void whole_block(const shape *s, const float *x, const float (*w)[NO], const float *bias, float *y,
                              const int leaky, float slope)
{
    block(s, x, w, bias, y, leaky, slope, NR);
}

static APART void one_row(const shape *s, const float *x, const float (*w)[NO], const float *bias, float *y,
                          const int leaky, float slope)
{
    block(s, x, w, bias, y, leaky, slope, 1);
}

/* Columns o to o + NO of all rows. */
static INLINE void columns(const ed_args *a, int o, const int half)
{
    const ed_op *op = a->op;
    const int together = op->x_row == op->n_in, few = op->n_rows < NR, n_block = few ? 1 : NR;
    const ptrdiff_t x_step = (ptrdiff_t)op->stride * op->x_row, y_step = op->y_row;
    const shape s = {op->x_row, few ? 0 : x_step, few ? 0 : y_step, together ? 1 : op->taps,
                     together ? op->taps * op->n_in : op->n_in};
    const float *x = (const float *)a->x - op->pad * op->x_row;
    float *y = (float *)a->y + ed_piece(op, o), wide[MOST_INPUTS][NO];
    int r, k, i;
    for (k = 0; k < op->taps * op->n_in; k++)
        UNROLL for (i = 0; i < NO; i++) wide[k][i] = weight_at(a->weight, (ptrdiff_t)k * op->n_out + o + i, half);
    for (r = 0; r < op->n_rows; r += n_block) {
        /* The last block makes rows twice that would reach beyond the end. */
        const ptrdiff_t row = r + n_block <= op->n_rows ? r : op->n_rows - n_block;
        (few ? one_row : whole_block)(&s, x + row * x_step, (const float (*)[NO])wide, (const float *)a->bias + o,
                                      y + row * y_step, op->flags & ED_LEAKY_AFTER, op->f0);
    }
}

ED_KERNEL(CONV) ed_scalar_CONV(const ed_args *a)
{
    const ed_op *op = a->op;
    int o;
    if (op->n_out % NO != 0 || (op->seg < op->n_out && op->seg % NO != 0) || op->taps * op->n_in > MOST_INPUTS) {
        ed_portable_kernels[ED_CONV](a);
        return;
    }
    for (o = 0; o < op->n_out; o += NO)
        if (op->flags & ED_HALF) columns(a, o, 1);
        else columns(a, o, 0);
}

/* --- depthwise convolutions: three frames, three bands ------------------------------------------------------------ */

/* The nine products of one result are added in `T`, in order. */
#define NINE(T, X, sum, x, w, n)                                                                                       \
    do {                                                                                                               \
        int t_, k_;                                                                                                    \
        UNROLL for (t_ = 0; t_ < 3; t_++)                                                                              \
            UNROLL for (k_ = 0; k_ < 3; k_++) sum = sum + (T)((const X *)x[t_])[(r + k_) * n + c] * w[3 * t_ + k_];    \
    } while (0)

static INLINE int has_nine(const ed_op *op)
{
    return op->time_taps == 3 && op->taps == 3;
}

ED_KERNEL(DEPTH) ed_scalar_DEPTH(const ed_args *a)
{
    const ed_op *op = a->op;
    const char *x[3];
    const int leaky = op->flags & ED_LEAKY_AFTER;
    const float slope = op->f0;
    int r, c, i, n = op->n_out, n_rows = op->n_rows, y_row = op->y_row;
    if (!has_nine(op)) {
        ed_portable_kernels[ED_DEPTH](a);
        return;
    }
    UNROLL for (i = 0; i < 3; i++) x[i] = ed_frame_of(a, i, sizeof(float));
    for (c = 0; c < n; c++) {
        const float bias = ((const float *)a->bias)[c];
        float w[9];
        UNROLL for (i = 0; i < 9; i++) w[i] = ((const float *)a->weight)[i * n + c];
        for (r = 0; r < n_rows; r++) {
            float sum = bias;
            NINE(float, float, sum, x, w, n);
            ROWS(float, a->y, y_row, r)[c] = leaky && sum < 0 ? sum * slope : sum;
        }
    }
    ed_keep_frame(a, sizeof(float));
}
#else
typedef int ed_scalar_conv_is_not_built;
#endif
