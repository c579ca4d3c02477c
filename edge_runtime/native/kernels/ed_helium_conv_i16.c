/* Convolutions of numbers of 16 bits with one exponent, and to such numbers, with Helium. Weights lie [inputs / 2][n_out][2]:
 * a gather takes those of one result, two by two inputs, as a vector. */
#include "ed_program.h"

#if defined(ED_HELIUM)
#include "ed_block.h"
#include "ed_helium.h"

#define MOST_EIGHTS 6 /* inputs of a result, eight by eight, whose weights are kept together */

/* Four columns as the inner loops see them. */
typedef struct {
    vf factor, bias;
    float slope;
    int leaky;
} ending;

static INLINE vf finished(const ending *e, int32x4_t sum)
{
    const vf v = vaddq_f32(vmulq_f32(vcvtq_f32_s32(sum), e->factor), e->bias);
    return e->leaky ? vmaxnmq_f32(vmulq_n_f32(v, e->slope), v) : v;
}

/* Weights of 8 inputs of one result; of those beyond the last one, none. */
static INLINE int16x8_t weights_of(const int16_t *w, int n_out, int n_in)
{
    const uint32x4_t line = vmulq_n_u32(vidupq_n_u32(0, 1), (uint32_t)(4 * n_out));
    const mve_pred16_t pairs = vctp32q((uint32_t)(n_in + 1) / 2);
    return vreinterpretq_s16_s32(vldrwq_gather_offset_z_s32((const int32_t *)(const void *)w, line, pairs));
}

/* Four columns from o on, of every row; `n_in` inputs of a tap. */
static APART void columns(const ed_args *a, int o, int n_in)
{
    const ed_op *op = a->op;
    const int n_out = op->n_out, n_taps = op->taps;
    const int16_t *x = (const int16_t *)a->x - op->pad * op->x_row;
    const ptrdiff_t x_step = (ptrdiff_t)op->stride * op->x_row;
    float *y = (float *)a->y + ed_piece(op, o);
    ending e;
    int r, k, i, j;
    e.factor = vmulq_n_f32(vldrwq_f32((const float *)a->scale + o), *(const float *)a->x2);
    e.bias = vldrwq_f32((const float *)a->bias + o), e.slope = op->f0, e.leaky = op->flags & ED_LEAKY_AFTER;
    for (r = op->n_rows; r > 0; r--, x += x_step, y += op->y_row) {
        const int16_t *w = (const int16_t *)a->weight + 2 * o, *from = x;
        int32_t sum[4] = {0};
        for (k = 0; k < n_taps; k++, from += op->x_row)
            for (i = 0; i < n_in; i += 8) {
                const int16x8_t in = vldrhq_z_s16(from + i, vctp16q((uint32_t)(n_in - i)));
                UNROLL for (j = 0; j < 4; j++) sum[j] = vmladavaq_s16(sum[j], in, weights_of(w + 2 * j, n_out, n_in - i));
                w += n_in - i < 8 ? (n_in - i) * n_out : 8 * n_out;
            }
        vstrwq_f32(y, finished(&e, vldrwq_s32(sum)));
    }
}

/* Two columns' weights stay in registers over all rows: n eights of inputs, `apart` numbers from one to the next. */
static INLINE void kept(const ed_args *a, int o, const int n, ptrdiff_t apart)
{
    const ed_op *op = a->op;
    const int n_out = op->n_out, leaky = op->flags & ED_LEAKY_AFTER;
    const ptrdiff_t x_step = (ptrdiff_t)op->stride * op->x_row, y_row = op->y_row;
    const float unit = *(const float *)a->x2, factor = ((const float *)a->scale)[o] * unit, slope = op->f0;
    const float bias = ((const float *)a->bias)[o];
    const int16_t *x = (const int16_t *)a->x - op->pad * op->x_row, *w = (const int16_t *)a->weight + 2 * o;
    float *y = (float *)a->y + ed_piece(op, o);
    int16x8_t by[MOST_EIGHTS];
    int r, i;
    UNROLL for (i = 0; i < n; i++) by[i] = weights_of(w + 8 * i * n_out, n_out, 8);
    for (r = op->n_rows; r > 0; r--, x += x_step, y += y_row) {
        int32_t sum = 0;
        float v;
        UNROLL for (i = 0; i < n; i++) sum = vmladavaq_s16(sum, vldrhq_s16(x + i * apart), by[i]);
        v = (float)sum * factor + bias;
        *y = leaky && v < v * slope ? v * slope : v;
    }
}

/* 24 or 48 inputs in one run, five taps of 8. */
static APART void three(const ed_args *a, int o) { kept(a, o, 3, 8); }
static APART void six(const ed_args *a, int o) { kept(a, o, 6, 8); }
static APART void five(const ed_args *a, int o) { kept(a, o, 5, a->op->x_row); }

ED_KERNEL(CONV_I16) ed_helium_CONV_I16(const ed_args *a)
{
    const ed_op *op = a->op;
    void (*const known)(const ed_args *, int) = op->taps == 1 && op->n_in == 24   ? three
                                                : op->taps == 1 && op->n_in == 48 ? six
                                                : op->taps == 5 && op->n_in == 8  ? five
                                                                                  : NULL;
    int o;
    if (op->n_out % 4 != 0 || op->n_in % 2 != 0 || (op->seg < op->n_out && op->seg % 4 != 0)) {
        ed_portable_kernels[ED_CONV_I16](a);
        return;
    }
    for (o = 0; known && o < op->n_out; o++) known(a, o);
    for (; o < op->n_out; o += 4) columns(a, o, op->n_in);
}

ED_KERNEL(QUANTIZE_I16) ed_helium_QUANTIZE_I16(const ed_args *a)
{
    const ed_op *op = a->op;
    const int n = op->n_out;
    uint32x4_t most = vdupq_n_u32(0);
    ed_block block;
    int r, c;
    for (r = 0; r < op->n_rows; r++) {
        const uint32_t *x = ROWS(const uint32_t, a->x, op->x_row, r);
        for (c = 0; c < n; c += 4) {
            const uint32x4_t bits = vldrwq_z_u32(x + c, vctp32q((uint32_t)(n - c)));
            most = vmaxq_u32(most, vandq_u32(bits, vdupq_n_u32(ED_SIZE_BITS)));
        }
    }
    block = ed_block_of(vmaxvq_u32(0, most));
    *(float *)a->state = block.unit;
    for (r = 0; r < op->n_rows; r++) {
        const float *x = ROWS(const float, a->x, op->x_row, r);
        int16_t *y = ROWS(int16_t, a->y, op->y_row, r);
        for (c = 0; c < n; c += 4) {
            const mve_pred16_t lanes = vctp32q((uint32_t)(n - c));
            int32x4_t q = vcvtnq_s32_f32(vmulq_n_f32(vldrwq_z_f32(x + c, lanes), block.steps));
            q = vreinterpretq_s32_s16(vqmovnbq_s32(vreinterpretq_s16_s32(q), q));
            vstrhq_p_s32(y + c, q, lanes);
        }
    }
}
#else
typedef int ed_helium_conv_i16_is_not_built;
#endif
