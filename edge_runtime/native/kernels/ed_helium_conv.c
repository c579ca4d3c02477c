/* Float convolutions with Helium, in plain C's order: rows by columns in registers, so that each weight that is loaded
 * is used for several products. */
#include "ed_program.h"

#if defined(ED_HELIUM)
#include "ed_helium.h"

#define NR8 3 /* rows of 8 columns in registers */
#define NR4 5 /* of 4 columns */

/* As the inner loops see it, in elements. */
typedef struct {
    ptrdiff_t x_row, x_next, y_next; /* between two taps; between two rows of a block, 0 where there is one */
    int n_taps, n_in, n_out;         /* the inputs of all taps are one run if they lie together */
} shape;

/* NR rows by NV vectors of columns: x from their first tap, y from their first result, o the first column. */
static INLINE void block(const ed_args *a, const shape *s, const float *x, int o, float *y, const int NR, const int NV,
                         const int half)
{
    const int leaky = a->op->flags & ED_LEAKY_AFTER;
    const ptrdiff_t x_next = s->x_next;
    ptrdiff_t w = o;
    vf sum[NR4][2];
    int b, v, k;
    UNROLL for (b = 0; b < NR; b++)
        UNROLL for (v = 0; v < NV; v++) sum[b][v] = vldrwq_f32((const float *)a->bias + o + 4 * v);
    for (k = 0; k < s->n_taps; k++, x += s->x_row) {
        const float *in = x, *stop = x + s->n_in;
        for (; in != stop; in++, w += s->n_out)
            UNROLL for (v = 0; v < NV; v++) {
                const vf weight = load_weights(a->weight, w + 4 * v, half);
                UNROLL for (b = 0; b < NR; b++) sum[b][v] = vaddq_f32(sum[b][v], vmulq_n_f32(weight, in[b * x_next]));
            }
    }
    UNROLL for (b = 0; b < NR; b++)
        UNROLL for (v = 0; v < NV; v++) {
            vf made = sum[b][v];
            if (leaky) made = vpselq_f32(vmulq_n_f32(made, a->op->f0), made, vcmpltq_n_f32(made, 0.0f));
            vstrwq_f32(y + b * s->y_next + 4 * v, made);
        }
}

/* Columns o to o + 4 NV of all rows; the last block makes rows twice that would reach beyond the end. */
static INLINE void columns(const ed_args *a, int o, const int most, const int NV, const int half)
{
    const ed_op *op = a->op;
    const int together = op->x_row == op->n_in, n_rows = op->n_rows, few = n_rows < most;
    const ptrdiff_t x_step = (ptrdiff_t)op->stride * op->x_row, y_step = op->y_row;
    const shape s = {op->x_row, few ? 0 : x_step, few ? 0 : y_step, together ? 1 : op->taps,
                     together ? op->taps * op->n_in : op->n_in, op->n_out};
    const float *x = (const float *)a->x - op->pad * op->x_row;
    float *y = (float *)a->y + ed_piece(op, o);
    int r;
    if (few)
        for (r = 0; r < n_rows; r++) block(a, &s, x + r * x_step, o, y + r * y_step, 1, NV, half);
    else
        for (r = 0; r < n_rows; r += most) {
            const ptrdiff_t row = r + most <= n_rows ? r : n_rows - most;
            block(a, &s, x + row * x_step, o, y + row * y_step, most, NV, half);
        }
}

static APART void eight_columns(const ed_args *a, int o) { columns(a, o, NR8, 2, 0); }
static APART void four_columns(const ed_args *a, int o) { columns(a, o, NR4, 1, 0); }
static APART void four_columns_of_halves(const ed_args *a, int o) { columns(a, o, NR4, 1, 1); }

ED_KERNEL(CONV) ed_helium_CONV(const ed_args *a)
{
    const ed_op *op = a->op;
    int o = 0;
    if (op->n_out % 4 != 0 || (op->seg < op->n_out && op->seg % 4 != 0)) {
        ed_portable_kernels[ED_CONV](a);
        return;
    }
    if (op->flags & ED_HALF)
        for (; o < op->n_out; o += 4) four_columns_of_halves(a, o);
    if (op->seg >= op->n_out || op->seg % 8 == 0)
        for (; o + 8 <= op->n_out; o += 8) eight_columns(a, o);
    for (; o < op->n_out; o += 4) four_columns(a, o);
}
/* Each channel by itself, four side by side, frames and bands in order. */
ED_KERNEL(DEPTH) ed_helium_DEPTH(const ed_args *a)
{
    const ed_op *op = a->op;
    const int n = op->n_out, n_rows = op->n_rows, n_taps = op->taps, n_frames = op->time_taps;
    const int leaky = op->flags & ED_LEAKY_AFTER;
    const float *weight = a->weight, *frame[64];
    int r, c, t, k;
    if (n % 4 != 0) {
        ed_portable_kernels[ED_DEPTH](a);
        return;
    }
    for (t = 0; t < n_frames; t++) frame[t] = (const float *)(const void *)ed_frame_of(a, t, sizeof(float));
    for (c = 0; c < n; c += 4)
        for (r = 0; r < n_rows; r++) {
            const float *w = weight + c;
            vf sum = vldrwq_f32((const float *)a->bias + c);
            for (t = 0; t < n_frames; t++) {
                const float *x = frame[t] + r * n + c;
                for (k = n_taps; k > 0; k--, x += n, w += n)
                    sum = vaddq_f32(sum, vmulq_f32(vldrwq_f32(x), vldrwq_f32(w)));
            }
            if (leaky) sum = vpselq_f32(vmulq_n_f32(sum, op->f0), sum, vcmpltq_n_f32(sum, 0.0f));
            vstrwq_f32(ROWS(float, a->y, op->y_row, r) + c, sum);
        }
    if (n_frames > 1) ed_keep_frame(a, sizeof(float));
}
#else
typedef int ed_helium_conv_is_not_built;
#endif
