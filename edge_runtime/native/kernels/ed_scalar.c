/* Kernels for processors without vectors (microcontrollers, Armv6): portable C's sums, in the same order, a block
 * of them side by side in registers. On 32-bit ARM 8-bit products go two at a time (SMLAD, of Armv6 and Armv7E-M).
 *
 * Shapes that are not GTCRN's go to the portable kernels. */
#include "ed_program.h"

#if defined(ED_SCALAR)
#include <math.h>

#include "ed_scalar.h"

#define NO 4 /* results of a row side by side; weights are padded to as many */
#define NR 3 /* rows that share the weights */

/* --- onto a grid -------------------------------------------------------------------------------------------------- */

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

static void run_QUANTIZE(const ed_args *a)
{
    const ed_op *op = a->op;
    const float f0 = op->f0;
    const int32_t zp = op->y_zp;
    int r, c, n = op->n_out, n_rows = op->n_rows, x_row = op->x_row, y_row = op->y_row;
    for (r = 0; r < n_rows; r++) {
        const float *x = ROWS(const float, a->x, x_row, r);
        int8_t *y = ROWS(int8_t, a->y, y_row, r);
        for (c = 0; c < n; c++) y[c] = (int8_t)(steps_of(x[c] * f0, zp) + zp);
    }
}

/* --- convolutions ------------------------------------------------------------------------------------------------- */

static INLINE int fits(const ed_op *op)
{
    return op->n_out % NO == 0 && (op->seg >= op->n_out || op->seg % NO == 0);
}

static INLINE float weight_at(const void *weights, ptrdiff_t i, const int half)
{
    return half ? half_to_float(((const uint16_t *)weights)[i]) : ((const float *)weights)[i];
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

static void run_CONV(const ed_args *a)
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

static void run_CONV_I8(const ed_args *a)
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

static void run_DEPTH(const ed_args *a)
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

static void run_DEPTH_I8(const ed_args *a)
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

/* --- layer normalization ------------------------------------------------------------------------------------------ */

/* ED_LANES sums at a time. */
static INLINE float lane_sum(const float *x, int n, float mean, const int squared)
{
    float lane[ED_LANES];
    int i, j, half;
    UNROLL for (j = 0; j < ED_LANES; j++) lane[j] = 0;
    for (i = 0; i < n; i += ED_LANES)
        UNROLL for (j = 0; j < ED_LANES; j++) {
            float v = x[i + j] - mean;
            lane[j] = lane[j] + (squared ? v * v : v);
        }
    for (half = ED_LANES / 2; half > 0; half /= 2)
        for (i = 0; i < half; i++) lane[i] = lane[i] + lane[i + half];
    return lane[0];
}

static void run_LAYER_NORM(const ed_args *a)
{
    const ed_op *op = a->op;
    const float *x = a->x, *x2 = a->x2;
    const int n = op->n_rows * op->n_out, half = op->flags & ED_HALF, add = op->flags & ED_ADD_AFTER;
    float *y = a->y, mean, gain;
    int i;
    if (n % ED_LANES != 0) {
        ed_portable_kernels[ED_LAYER_NORM](a);
        return;
    }
    mean = lane_sum(x, n, 0, 0) / (float)n;
    gain = 1.0f / sqrtf(lane_sum(x, n, mean, 1) / (float)n + op->f0);
    for (i = 0; i < n; i++) {
        float v = (x[i] - mean) * gain * weight_at(a->weight, i, half) + weight_at(a->bias, i, half);
        y[i] = add ? x2[i] + v : v;
    }
}

/* --- recurrent layers over bands: blocks of four units ------------------------------------------------------------ */

static INLINE float look_up(const int8_t *table, float v, int32_t zp, float table_zp)
{
    return (float)table[steps_of(v, zp) + zp + 128] - table_zp;
}

/* Zero points of ed_gru_grids as whole numbers. */
typedef struct {
    int32_t gates_h, h, sum, reset, new_sum, diff, update;
} zero_points;

static INLINE int32_t gru_i8(const ed_gru_grids *g, const zero_points *zp, const int8_t *table, const float x[3],
                             const float hh[3], float h)
{
    float r = look_up(table, x[0] * g->sum_x + hh[0] * g->sum_h, zp->sum, g->gate_zp);
    float z = look_up(table, x[1] * g->sum_x + hh[1] * g->sum_h, zp->sum, g->gate_zp);
    float reset = (float)steps_of(r * hh[2] * g->reset, zp->reset);
    float n = look_up(table + 256, x[2] * g->new_x + reset * g->new_h, zp->new_sum, g->n_zp);
    float diff = (float)steps_of(h * g->diff_h - n * g->diff_n, zp->diff);
    float update = (float)steps_of(z * diff * g->update, zp->update);
    return steps_of(n * g->h_n + update * g->h_update, zp->h);
}

static void run_BIGRU_I8(const ed_args *a)
{
    const ed_op *op = a->op;
    const int n = op->n_out, half = n / 2, n_rows = op->n_rows;
    const ed_gru_grids *g = (const ed_gru_grids *)((const float *)a->scale + 3 * n);
    int8_t h[64], next[64];
    zero_points zp;
    int i, u, gate;
    if (op->n_in != 4 || half % 4 != 0) {
        ed_portable_kernels[ED_BIGRU_I8](a);
        return;
    }
    zp.gates_h = (int32_t)g->gates_h_zp, zp.h = (int32_t)g->h_zp, zp.sum = (int32_t)g->sum_zp;
    zp.reset = (int32_t)g->reset_zp, zp.new_sum = (int32_t)g->new_zp;
    zp.diff = (int32_t)g->diff_zp, zp.update = (int32_t)g->update_zp;
    for (u = 0; u < n; u++) h[u] = (int8_t)zp.h;
    for (i = 0; i < n_rows; i++) {
        for (u = 0; u < n; u++) {
            const int back = u >= half, row = back ? n_rows - 1 - i : i;
            const int8_t *xs = ROWS(const int8_t, a->x, op->x_row, row) + (back ? 2 * half : 0) + u;
            const four block = four_of(h + u / 4 * 4);
            float x[3], hh[3];
            UNROLL for (gate = 0; gate < 3; gate++) {
                const int at = gate * n + u;
                int32_t sum = dot(((const int32_t *)a->bias)[at], block, four_of((const int8_t *)a->weight + 4 * at));
                hh[gate] = (float)steps_of((float)sum * ((const float *)a->scale)[at], zp.gates_h);
                x[gate] = (float)xs[gate * half] - g->gates_x_zp;
            }
            next[u] = (int8_t)(gru_i8(g, &zp, a->table, x, hh, (float)(h[u] - zp.h)) + zp.h);
            ROWS(int8_t, a->y, op->y_row, row)[u] = next[u];
        }
        memcpy(h, next, (size_t)n);
    }
}

static int usable(void)
{
    return 1;
}

static const ed_kernel kernels[ED_N_KINDS] = {
    [ED_CONV] = run_CONV, [ED_CONV_I8] = run_CONV_I8, [ED_DEPTH] = run_DEPTH, [ED_DEPTH_I8] = run_DEPTH_I8,
    [ED_LAYER_NORM] = run_LAYER_NORM, [ED_QUANTIZE] = run_QUANTIZE, [ED_BIGRU_I8] = run_BIGRU_I8,
};

const ed_isa ed_scalar = {"scalar", &ed_portable, usable, kernels, kernels};
#else
typedef int ed_scalar_is_not_built;
#endif
