/* Convolutions without vectors: a block of NR rows by NO results in registers, so that each weight and each input that is
 * loaded is used for several products. Sums go in plain C's order. */
#include "ed_program.h"

#if defined(ED_SCALAR)
#include "ed_scalar.h"

#define NO 4 /* results of a row side by side; weights are padded to as many */
#define NR 3 /* rows that share the weights */

/* From a sum to the stored result: an operation's own copy, because stores of bytes might change the operation. */
typedef struct {
    float up, down, scale;
    int32_t mid_zp, zp;
} stage;

static INLINE stage stage_of(const ed_op *op)
{
    stage s;
    s.up = op->f0, s.down = op->f1, s.scale = op->f2;
    s.mid_zp = op->mid_zp, s.zp = op->y_zp;
    return s;
}

static INLINE void store(const stage *s, void *y, ptrdiff_t at, int32_t sum, float multiplier, const int leaky,
                         const int as_float)
{
    float v = (float)sum * multiplier;
    int32_t steps;
    if (leaky) {
        steps = steps_of(v, s->mid_zp);
        v = (float)steps * (steps < 0 ? s->down : s->up);
    }
    steps = steps_of(v, s->zp);
    if (as_float) ((float *)y)[at] = (float)steps * s->scale;
    else ((int8_t *)y)[at] = (int8_t)(steps + s->zp);
}

static INLINE int fits(const ed_op *op)
{
    return op->n_out % NO == 0 && (op->seg >= op->n_out || op->seg % NO == 0);
}

/* A convolution as its inner loops see it: local, because stores of bytes might change an operation. In elements. */
typedef struct {
    ptrdiff_t x_row, w_row;   /* between two taps, two inputs */
    ptrdiff_t x_step, y_step; /* between two rows made */
    ptrdiff_t x_next, y_next; /* the same inside a block; 0 where rows are too few: one is made NR times */
    int n_taps, n_in;         /* the inputs of all taps are one run if they lie together */
    int n_rows, n_block;
} shape;

static INLINE shape shape_of(const ed_op *op)
{
    const int together = op->x_row == op->n_in;
    const int few = op->n_rows < NR;
    shape s;
    s.x_row = op->x_row, s.w_row = op->n_out;
    s.x_step = (ptrdiff_t)op->stride * op->x_row, s.y_step = op->y_row;
    s.x_next = few ? 0 : s.x_step, s.y_next = few ? 0 : s.y_step;
    s.n_rows = op->n_rows, s.n_block = few ? 1 : NR;
    s.n_taps = together ? 1 : op->taps, s.n_in = together ? op->taps * op->n_in : op->n_in;
    return s;
}

/* Where block r begins: the last one makes rows twice that would reach beyond the end. */
static INLINE ptrdiff_t row_of(const shape *s, int r)
{
    return r + s->n_block <= s->n_rows ? r : s->n_rows - s->n_block;
}

/* NR rows: x from their first tap, w and bias from their first result. */
static INLINE void tile(const shape *s, const float *x, const char *w, const float *bias, float *y, const int half,
                        const int leaky, float slope)
{
    float sum[NR][NO];
    int b, i, k, c;
    UNROLL for (b = 0; b < NR; b++)
        UNROLL for (i = 0; i < NO; i++) sum[b][i] = bias[i];
    for (k = 0; k < s->n_taps; k++, x += s->x_row)
        for (c = 0; c < s->n_in; c++, w += s->w_row * (half ? 2 : 4)) {
            float ws[NO];
            UNROLL for (i = 0; i < NO; i++) ws[i] = weight_at(w, i, half);
            UNROLL for (b = 0; b < NR; b++) {
                float v = x[b * s->x_next + c];
                UNROLL for (i = 0; i < NO; i++) sum[b][i] = sum[b][i] + v * ws[i];
            }
        }
    UNROLL for (b = 0; b < NR; b++)
        UNROLL for (i = 0; i < NO; i++) {
            float v = sum[b][i];
            y[b * s->y_next + i] = leaky && v < 0 ? v * slope : v;
        }
}

static INLINE void tiles(const ed_args *a, const int half)
{
    const ed_op *op = a->op;
    const shape s = shape_of(op);
    const int leaky = op->flags & ED_LEAKY_AFTER, n_out = op->n_out;
    const float *first = (const float *)a->x - op->pad * s.x_row, slope = op->f0;
    int r, o;
    for (o = 0; o < n_out; o += NO) {
        const char *w = (const char *)a->weight + o * (half ? 2 : 4);
        float *y = (float *)a->y + ed_piece(op, o);
        for (r = 0; r < s.n_rows; r += s.n_block) {
            ptrdiff_t row = row_of(&s, r);
            tile(&s, first + row * s.x_step, w, (const float *)a->bias + o, y + row * s.y_step, half, leaky, slope);
        }
    }
}

void ed_scalar_CONV(const ed_args *a)
{
    if (!fits(a->op)) ed_portable_kernels[ED_CONV](a);
    else if (a->op->flags & ED_HALF) tiles(a, 1);
    else tiles(a, 0);
}

static INLINE void tile_i8(const shape *s, const stage *end, const int8_t *x, const int8_t *w, const int32_t *bias,
                           const float *scale, char *y, const int leaky, const int as_float)
{
    int32_t sum[NR][NO];
    int b, i, k, c;
    UNROLL for (b = 0; b < NR; b++)
        UNROLL for (i = 0; i < NO; i++) sum[b][i] = bias[i];
    for (k = 0; k < s->n_taps; k++, x += s->x_row)
        for (c = 0; c < s->n_in; c += 4, w += 4 * s->w_row) {
            four xs[NR];
            UNROLL for (b = 0; b < NR; b++) xs[b] = four_of(x + b * s->x_next + c);
            UNROLL for (i = 0; i < NO; i++) {
                four ws = four_of(w + 4 * i);
                UNROLL for (b = 0; b < NR; b++) sum[b][i] = dot(sum[b][i], xs[b], ws);
            }
        }
    UNROLL for (i = 0; i < NO; i++)
        UNROLL for (b = 0; b < NR; b++)
            store(end, y + b * s->y_next * (as_float ? 4 : 1), i, sum[b][i], scale[i], leaky, as_float);
}

static INLINE void tiles_i8(const ed_args *a, const int leaky, const int as_float)
{
    const ed_op *op = a->op;
    const shape s = shape_of(op);
    const stage end = stage_of(op);
    const int size = as_float ? 4 : 1, n_out = op->n_out;
    const int8_t *first = (const int8_t *)a->x - op->pad * s.x_row;
    int r, o;
    for (o = 0; o < n_out; o += NO) {
        const int8_t *w = (const int8_t *)a->weight + 4 * o;
        const int32_t *bias = (const int32_t *)a->bias + o;
        const float *scale = (const float *)a->scale + o;
        char *y = (char *)a->y + ed_piece(op, o) * size;
        for (r = 0; r < s.n_rows; r += s.n_block) {
            ptrdiff_t row = row_of(&s, r);
            tile_i8(&s, &end, first + row * s.x_step, w, bias, scale, y + row * s.y_step * size, leaky, as_float);
        }
    }
}

void ed_scalar_CONV_I8(const ed_args *a)
{
    const ed_op *op = a->op;
    const int leaky = op->flags & ED_LEAKY_AFTER;
    if (!fits(op) || op->n_in % 4 != 0) ed_portable_kernels[ED_CONV_I8](a);
    else if (op->flags & ED_FLOAT_OUT) tiles_i8(a, leaky, 1);
    else if (leaky) tiles_i8(a, 1, 0);
    else tiles_i8(a, 0, 0);
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

void ed_scalar_DEPTH(const ed_args *a)
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

void ed_scalar_DEPTH_I8(const ed_args *a)
{
    const ed_op *op = a->op;
    const stage s = stage_of(op);
    const char *x[3];
    const int leaky = op->flags & ED_LEAKY_AFTER, as_float = op->flags & ED_FLOAT_OUT;
    int r, c, i, n = op->n_out, n_rows = op->n_rows, y_row = op->y_row * (as_float ? 4 : 1);
    if (!has_nine(op)) {
        ed_portable_kernels[ED_DEPTH_I8](a);
        return;
    }
    UNROLL for (i = 0; i < 3; i++) x[i] = ed_frame_of(a, i, 1);
    for (c = 0; c < n; c++) {
        const int32_t bias = ((const int32_t *)a->bias)[c];
        const float scale = ((const float *)a->scale)[c];
        int32_t w[9];
        UNROLL for (i = 0; i < 9; i++) w[i] = ((const int8_t *)a->weight)[i * n + c];
        for (r = 0; r < n_rows; r++) {
            int32_t sum = bias;
            NINE(int32_t, int8_t, sum, x, w, n);
            store(&s, (char *)a->y + (ptrdiff_t)r * y_row, c, sum, scale, leaky, as_float);
        }
    }
    ed_keep_frame(a, 1);
}
#else
typedef int ed_scalar_conv_is_not_built;
#endif
