/* Kernels for processors without vectors (microcontrollers, Armv6): portable C's sums, in the same order, a block
 * of them side by side in registers. On 32-bit ARM 8-bit products go two at a time (SMLAD, of Armv6 and Armv7E-M).
 *
 * Shapes that are not GTCRN's go to the portable kernels. */
#include "ed_program.h"

#if defined(ED_SCALAR)
#include <math.h>
#include <string.h>

#if defined(__GNUC__)
#define INLINE inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")
#else
#define INLINE inline
#define UNROLL
#endif
#define ROWS(T, pointer, row, i) ((T *)(pointer) + (ptrdiff_t)(i) * (row))
#define NO 4 /* results of a row side by side; weights are padded to as many */
#define NR 3 /* rows that share the weights */

/* --- 8-bit products: four at a time ------------------------------------------------------------------------------- */

#if defined(__ARM_FEATURE_SIMD32) && defined(__GNUC__)
#define ARM_PAIRS 1
typedef struct {
    uint32_t even, odd; /* of four bytes, each pair as two 16-bit numbers */
} four;

static INLINE four four_of(const int8_t *p)
{
    uint32_t v;
    four f;
    memcpy(&v, p, 4);
    __asm__("sxtb16 %0, %1" : "=r"(f.even) : "r"(v));
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(f.odd) : "r"(v));
    return f;
}

static INLINE int32_t dot(int32_t sum, four x, four w)
{
    __asm__("smlad %0, %1, %2, %0" : "+r"(sum) : "r"(x.even), "r"(w.even));
    __asm__("smlad %0, %1, %2, %0" : "+r"(sum) : "r"(x.odd), "r"(w.odd));
    return sum;
}
#else
typedef const int8_t *four;

static INLINE four four_of(const int8_t *p)
{
    return p;
}

static INLINE int32_t dot(int32_t sum, four x, four w)
{
    return sum + x[0] * w[0] + x[1] * w[1] + x[2] * w[2] + x[3] * w[3];
}
#endif

/* --- onto a grid -------------------------------------------------------------------------------------------------- */

/* Steps from a grid's zero point, rounded to even and saturated. */
static INLINE int32_t steps_of(float v, int32_t zp)
{
#if defined(ARM_PAIRS) && defined(__ARM_FP)
    int32_t n, q;
    __asm__("vcvtr.s32.f32 %0, %0" : "+t"(v)); /* saturates */
    memcpy(&n, &v, 4);
    __asm__("qadd %0, %1, %2" : "=r"(q) : "r"(n), "r"(zp));
    __asm__("ssat %0, #8, %1" : "=r"(q) : "r"(q));
    return q - zp;
#else
    float low = (float)(-128 - zp), high = (float)(127 - zp);
    v = v > low ? v < high ? v : high : low;
    return (int32_t)((v + 12582912.0f) - 12582912.0f);
#endif
}

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

static INLINE ptrdiff_t piece(const ed_op *op, int o)
{
    return op->seg >= op->n_out ? o : (ptrdiff_t)(o / op->seg) * op->seg_row + o % op->seg;
}

static INLINE float half_to_float(uint16_t h)
{
    union { uint32_t u; float f; } v;
#if defined(__GNUC__) && defined(__ARM_FP) && __ARM_FP & 2
    v.u = h;
    __asm__("vcvtb.f32.f16 %0, %0" : "+t"(v.f));
#else
    v.u = (uint32_t)(h & 0x7fffu) << 13;
    v.f *= 5.192296858534828e33f; /* 2^112 */
    v.u |= (uint32_t)(h & 0x8000u) << 16;
#endif
    return v.f;
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
        float *y = (float *)a->y + piece(op, o);
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
        char *y = (char *)a->y + piece(op, o) * size;
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

static INLINE const char *frame_of(const ed_args *a, int t, size_t element)
{
    const ed_op *op = a->op;
    int32_t age = (op->time_taps - 1 - t) * op->dilation;
    if (age == 0) return (const char *)a->x - (size_t)(op->pad * op->x_row) * element;
    return (const char *)a->state + ed_slot(op, a->frame, age) * ed_slot_size(op) * element;
}

/* This frame takes the place of the oldest. */
static INLINE void keep_frame(const ed_args *a, size_t element)
{
    const ed_op *op = a->op;
    size_t n = ed_slot_size(op) * element;
    memmove((char *)a->state + ed_slot(op, a->frame, (op->time_taps - 1) * op->dilation) * n,
            frame_of(a, op->time_taps - 1, element), n);
}

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
    UNROLL for (i = 0; i < 3; i++) x[i] = frame_of(a, i, sizeof(float));
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
    keep_frame(a, sizeof(float));
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
    UNROLL for (i = 0; i < 3; i++) x[i] = frame_of(a, i, 1);
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
    keep_frame(a, 1);
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

static INLINE void normalize(const ed_args *a, int n, float mean, float gain, const int half, const int add)
{
    const float *x = a->x, *x2 = a->x2;
    float *y = a->y;
    int i;
    for (i = 0; i < n; i++) {
        float v = (x[i] - mean) * gain * weight_at(a->weight, i, half) + weight_at(a->bias, i, half);
        y[i] = add ? x2[i] + v : v;
    }
}

static void run_LAYER_NORM(const ed_args *a)
{
    const ed_op *op = a->op;
    const float *x = a->x;
    int n = op->n_rows * op->n_out;
    float mean, gain;
    if (n % ED_LANES != 0) {
        ed_portable_kernels[ED_LAYER_NORM](a);
        return;
    }
    mean = lane_sum(x, n, 0, 0) / (float)n;
    gain = 1.0f / sqrtf(lane_sum(x, n, mean, 1) / (float)n + op->f0);
    if (op->flags & ED_HALF && op->flags & ED_ADD_AFTER) normalize(a, n, mean, gain, 1, 1);
    else normalize(a, n, mean, gain, op->flags & ED_HALF, op->flags & ED_ADD_AFTER);
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
