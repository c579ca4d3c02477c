/* Bands without vectors, a row's numbers in registers; depthwise convolutions of any taps in 8 bits: what an operation
 * says is read once, because stores of bytes might change it, and what a channel needs stays in registers. */
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

/* Rows of a band table one after the other: n_in of them as they are, then a sum each. */
typedef struct {
    const float *x, *w;
    const uint16_t *of;
    ptrdiff_t x_row;
    int n_copied;
} band_rows;

static INLINE band_rows bands_of(const ed_args *a)
{
    band_rows b;
    b.x = a->x, b.w = a->weight, b.of = a->table, b.x_row = a->op->x_row, b.n_copied = a->op->n_in;
    return b;
}

static INLINE run next_row(band_rows *b, int r, const int n_columns)
{
    run s = {{0}};
    if (r < b->n_copied) memcpy(s.at, b->x + r * b->x_row, (size_t)n_columns * sizeof(float));
    else s = sum_of(b->x + b->of[0] * b->x_row, b->x_row, b->of[1], b->w, n_columns), b->w += b->of[1], b->of += 2;
    return s;
}

ED_KERNEL(MERGE) ed_scalar_MERGE(const ed_args *a)
{
    const int n_rows = a->op->n_rows;
    const ptrdiff_t y_row = a->op->y_row;
    band_rows b = bands_of(a);
    float *y = a->y;
    int r;
    if (a->op->n_out != 3) {
        ed_portable_kernels[ED_MERGE](a);
        return;
    }
    for (r = 0; r < n_rows; r++, y += y_row) {
        const run s = next_row(&b, r, 3);
        y[0] = s.at[0], y[1] = s.at[1], y[2] = s.at[2];
    }
}

ED_KERNEL(SPLIT) ed_scalar_SPLIT(const ed_args *a)
{
    const int n_rows = a->op->n_rows;
    band_rows b = bands_of(a);
    float *y = a->y;
    int r;
    for (r = 0; r < n_rows; r++, y++) {
        const run s = next_row(&b, r, 2);
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
#else
typedef int ed_scalar_rows_is_not_built;
#endif
