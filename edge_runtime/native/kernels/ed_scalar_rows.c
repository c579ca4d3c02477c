/* Bands without vectors, a row's numbers in registers; depthwise convolutions of any taps, affine ReLU and gates in 8
 * bits: what an operation says is read
 * once, because stores of bytes might change it, and what a channel needs stays in registers. */
#include "ed_program.h"

#if defined(ED_SCALAR) || defined(ED_HELIUM)
#include "ed_scalar.h"

/* A sum over a run of rows: columns 0 to 2. */
typedef struct {
    float at[3];
} run;

static INLINE run sum_of(const float *x, ptrdiff_t x_row, int n, const float *w, const int n_columns)
{
    run s;
    int c;
    UNROLL for (c = 0; c < n_columns; c++) s.at[c] = 0;
    for (; n > 0; n--, x += x_row, w++)
        UNROLL for (c = 0; c < n_columns; c++) s.at[c] = s.at[c] + x[c] * *w;
    return s;
}

ED_KERNEL(MERGE) ed_scalar_MERGE(const ed_args *a)
{
    const ed_op *op = a->op;
    const float *w = a->weight, *x = a->x;
    const uint16_t *of = a->table;
    const ptrdiff_t x_row = op->x_row;
    float *y = a->y;
    int r;
    if (op->n_out != 3) {
        ed_portable_kernels[ED_MERGE](a);
        return;
    }
    for (r = 0; r < op->n_rows; r++, y += op->y_row) {
        run s = {{0}};
        if (r < op->n_in) memcpy(s.at, x + r * x_row, sizeof s.at);
        else s = sum_of(x + of[0] * x_row, x_row, of[1], w, 3), w += of[1], of += 2;
        y[0] = s.at[0], y[1] = s.at[1], y[2] = s.at[2];
    }
}

ED_KERNEL(SPLIT) ed_scalar_SPLIT(const ed_args *a)
{
    const ed_op *op = a->op;
    const float *w = a->weight, *x = a->x;
    const uint16_t *of = a->table;
    const ptrdiff_t x_row = op->x_row;
    float *y = a->y;
    int r;
    for (r = 0; r < op->n_rows; r++, y++) {
        run s = {{0}};
        if (r < op->n_in) memcpy(s.at, x + r * x_row, 2 * sizeof(float));
        else s = sum_of(x + of[0] * x_row, x_row, of[1], w, 2), w += of[1], of += 2;
        y[0] = s.at[0], y[ED_PLANE] = s.at[1];
    }
}

#define MOST_TAPS 16

/* Channel c of every `n_phases`th row from `phase` on. */
static APART void channel(const ed_args *a, const char *const *frame, int c, int phase)
{
    const ed_op *op = a->op;
    const int resampled = op->kind == ED_RESAMPLE_I8, n_phases = resampled ? op->seg_row : 1;
    const int n = op->n_out, n_rows = op->n_rows, n_frames = op->time_taps, n_taps = op->taps, at = phase * n + c;
    const ptrdiff_t step = (resampled ? op->stride : 1) * (ptrdiff_t)n, y_step = n_phases * (ptrdiff_t)op->y_row;
    const int32_t bias = ((const int32_t *)a->bias)[at], zp = op->y_zp;
    const float scale = ((const float *)a->scale)[at];
    int8_t *y = ROWS(int8_t, a->y, op->y_row, phase) + c;
    const int8_t *x[MOST_TAPS];
    int32_t w[MOST_TAPS];
    int r, t, k;
    for (t = 0; t < n_frames; t++) x[t] = (const int8_t *)frame[t] + c;
    for (k = 0; k < n_frames * n_taps; k++) w[k] = ((const int8_t *)a->weight)[(phase * n_frames * n_taps + k) * n + c];
    for (r = phase; r < n_rows; r += n_phases, y += y_step) {
        const int32_t *tap = w;
        int32_t sum = bias;
        for (t = 0; t < n_frames; t++, tap += n_taps) {
            const int8_t *from = x[t];
            for (k = 0; k < n_taps; k++, from += n) sum += *from * tap[k];
            x[t] += step;
        }
        *y = (int8_t)byte_of((float)sum * scale, zp);
    }
}

ED_KERNEL(RESAMPLE_I8) ed_scalar_depth_any_i8(const ed_args *a)
{
    const ed_op *op = a->op;
    const int resampled = op->kind == ED_RESAMPLE_I8, n_phases = resampled ? op->seg_row : 1, n = op->n_out;
    const int n_rows_in = resampled ? op->seg : op->n_rows;
    const char *frame[MOST_TAPS];
    int c, t, phase;
    if (op->time_taps * op->taps > MOST_TAPS || op->flags != 0 || n_phases > op->n_rows) {
        ed_portable_kernels[op->kind](a);
        return;
    }
    for (t = 0; t < op->time_taps; t++) frame[t] = ed_frame_in(a, n_rows_in, t, 1);
    for (phase = 0; phase < n_phases; phase++)
        for (c = 0; c < n; c++) channel(a, frame, c, phase);
    if (op->time_taps > 1) ed_keep_frame_in(a, n_rows_in, 1);
}

ED_KERNEL(AFFINE_RELU_I8) ed_scalar_AFFINE_RELU_I8(const ed_args *a)
{
    const ed_op *op = a->op;
    const int8_t *w = a->weight, *rise = a->table;
    const int16_t *bias = a->bias;
    const float *scale = a->scale;
    const int32_t x_zp = op->x_zp, zp = op->y_zp;
    const int n = op->n_out, n_rows = op->n_rows, x_row = op->x_row, y_row = op->y_row;
    int r, c;
    for (r = 0; r < n_rows; r++, w += n, bias += n) {
        const int8_t *x = ROWS(const int8_t, a->x, x_row, r);
        int8_t *y = ROWS(int8_t, a->y, y_row, r);
        for (c = 0; c < n; c++) {
            const int32_t v = x[c] - x_zp;
            y[c] = (int8_t)byte_of((float)(bias[c] + v * (v > 0 ? w[c] + rise[c] : w[c])) * scale[c], zp);
        }
    }
}

ED_KERNEL(GATES_I8) ed_scalar_GATES_I8(const ed_args *a)
{
    const ed_op *op = a->op;
    const int8_t *gates = a->x2, *bands = a->state;
    const float f0 = op->f0, f1 = op->f1;
    const int32_t x_zp = op->x_zp, gate_zp = op->x2_zp, mid_zp = op->mid_zp, zp = op->y_zp;
    const int n = op->n_out, n_rows = op->n_rows, x_row = op->x_row, y_row = op->y_row;
    int r, c;
    for (r = 0; r < n_rows; r++) {
        const int8_t *x = ROWS(const int8_t, a->x, x_row, r);
        int8_t *y = ROWS(int8_t, a->y, y_row, r);
        const int32_t band = bands[r] - gate_zp;
        for (c = 0; c < n; c++) {
            const int32_t mid = byte_of((float)((x[c] - x_zp) * (gates[c] - gate_zp)) * f0, mid_zp) - mid_zp;
            y[c] = (int8_t)byte_of((float)(mid * band) * f1, zp);
        }
    }
}
#else
typedef int ed_scalar_rows_is_not_built;
#endif
