/* 8-bit convolutions with Helium. Weights lie [inputs / 4][n_out][4]: a gather takes those of one result, four by four
 * inputs, as a vector, which stays in its register for all rows. */
#include "ed_program.h"

#if defined(ED_HELIUM)
#include "ed_helium.h"

static INLINE vf finished(const stage *s, int32x4_t sum, vf multiplier, const int leaky)
{
    const vf v = vmulq_f32(vcvtq_f32_s32(sum), multiplier);
    return leaky ? vmaxnmq_f32(vmulq_n_f32(v, s->slope), v) : v;
}

/* What a convolution's inner loops see of it, `o` its first column of four. */
typedef struct {
    const int8_t *x, *w;
    const int32_t *bias;
    const float *scale;
    char *y;
    ptrdiff_t x_step, x_row, y_row; /* bytes */
    int n_rows, n_out, n_in, n_taps;
} shape;

static INLINE shape shape_of(const ed_args *a, int o)
{
    const ed_op *op = a->op;
    const int size = op->flags & ED_FLOAT_OUT ? 4 : 1;
    shape s;
    s.x = (const int8_t *)a->x - op->pad * op->x_row, s.w = (const int8_t *)a->weight + 4 * o;
    s.bias = (const int32_t *)a->bias + o, s.scale = (const float *)a->scale + o;
    s.y = (char *)a->y + ed_piece(op, o) * size;
    s.x_row = op->x_row, s.x_step = (ptrdiff_t)op->stride * op->x_row, s.y_row = (ptrdiff_t)op->y_row * size;
    s.n_rows = op->n_rows, s.n_out = op->n_out, s.n_in = op->n_in, s.n_taps = op->taps;
    return s;
}

/* Weights of 8 inputs as halfwords, of 16 as bytes. */
static INLINE int16x8_t eight_of(const int8_t *w, int n_out)
{
    const uint16x8_t at = vidupq_n_u16(0, 1), line = vshrq_n_u16(at, 2);
    return vldrbq_gather_offset_s16(w, vaddq_u16(vmulq_n_u16(line, (uint16_t)(4 * n_out - 4)), at));
}

static INLINE int8x16_t sixteen_of(const int8_t *w, int n_out)
{
    const uint32x4_t line = vmulq_n_u32(vidupq_n_u32(0, 1), (uint32_t)(4 * n_out));
    return vreinterpretq_s8_s32(vldrwq_gather_offset_s32((const int32_t *)(const void *)w, line));
}

static INLINE void put(const stage *s, char *y, vf v, const int as_float)
{
    if (as_float) vstrwq_f32((float *)(void *)y, v);
    else store_bytes((int8_t *)y, v, s->zp);
}

/* Four columns of every row, no LeakyReLU; 8 inputs. */
static INLINE void of_eight(const shape *c, const stage *end, const int as_float)
{
    const stage s = *end;
    const int32x4_t bias = vldrwq_s32(c->bias);
    const vf scale = vldrwq_f32(c->scale);
    const int16x8_t w0 = eight_of(c->w, c->n_out), w1 = eight_of(c->w + 4, c->n_out);
    const int16x8_t w2 = eight_of(c->w + 8, c->n_out), w3 = eight_of(c->w + 12, c->n_out);
    const int8_t *x = c->x;
    char *y = c->y;
    int r;
    for (r = c->n_rows; r > 0; r--, x += c->x_step, y += c->y_row) {
        const int16x8_t in = vldrbq_s16(x);
        const int32x4_t sum = vector_of(vmladavq_s16(in, w0), vmladavq_s16(in, w1), vmladavq_s16(in, w2),
                                        vmladavq_s16(in, w3));
        put(&s, y, finished(&s, vaddq_s32(sum, bias), scale, 0), as_float);
    }
}

/* The same; 16 inputs. */
static INLINE void of_sixteen(const shape *c, const stage *end, const int as_float)
{
    const stage s = *end;
    const int32x4_t bias = vldrwq_s32(c->bias);
    const vf scale = vldrwq_f32(c->scale);
    const int8x16_t w0 = sixteen_of(c->w, c->n_out), w1 = sixteen_of(c->w + 4, c->n_out);
    const int8x16_t w2 = sixteen_of(c->w + 8, c->n_out), w3 = sixteen_of(c->w + 12, c->n_out);
    const int8_t *x = c->x;
    char *y = c->y;
    int r;
    for (r = c->n_rows; r > 0; r--, x += c->x_step, y += c->y_row) {
        const int8x16_t in = vldrbq_s8(x);
        const int32x4_t sum = vector_of(vmladavq_s8(in, w0), vmladavq_s8(in, w1), vmladavq_s8(in, w2),
                                        vmladavq_s8(in, w3));
        put(&s, y, finished(&s, vaddq_s32(sum, bias), scale, 0), as_float);
    }
}

/* Two columns of every row, two rows at a time, the last one twice if they are odd; 24 inputs: three taps of 8. */
static APART void of_three_eights(const shape *c, const stage *end, const int as_float)
{
    const stage s = *end;
    const int8x16_t w0 = sixteen_of(c->w, c->n_out), w1 = sixteen_of(c->w + 4, c->n_out);
    const int16x8_t v0 = eight_of(c->w + 16 * c->n_out, c->n_out), v1 = eight_of(c->w + 16 * c->n_out + 4, c->n_out);
    const uint32x4_t twice = vreinterpretq_u32_s32(vector_of(0, 1, 0, 1));
    const int32x4_t bias = vldrwq_gather_shifted_offset_s32(c->bias, twice);
    const vf scale = vldrwq_gather_shifted_offset_f32(c->scale, twice);
    const int size = as_float ? 4 : 1;
    const ptrdiff_t x_step = c->x_step, y_row = c->y_row, to_last = 2 * c->x_row;
    const uint32x4_t at = vreinterpretq_u32_s32(vector_of(0, size, y_row, y_row + size));
    const uint32x4_t taps = vreinterpretq_u32_s32(vector_of(0, 4, c->x_row, c->x_row + 4));
    const int8_t *x = c->x;
    char *y = c->y;
    int r;
    for (r = c->n_rows; r > 0; r -= 2, x += 2 * x_step, y += 2 * y_row) {
        int8x16_t in;
        int16x8_t more;
        int32_t a, b, d, e;
        vf v;
        if (r == 1) x -= x_step, y -= y_row;
        in = vreinterpretq_s8_s32(vldrwq_gather_offset_s32((const int32_t *)(const void *)x, taps));
        more = vldrbq_s16(x + to_last);
        a = vmladavaq_s16(vmladavq_s8(in, w0), more, v0), b = vmladavaq_s16(vmladavq_s8(in, w1), more, v1);
        in = vreinterpretq_s8_s32(vldrwq_gather_offset_s32((const int32_t *)(const void *)(x + x_step), taps));
        more = vldrbq_s16(x + x_step + to_last);
        d = vmladavaq_s16(vmladavq_s8(in, w0), more, v0), e = vmladavaq_s16(vmladavq_s8(in, w1), more, v1);
        v = finished(&s, vaddq_s32(vector_of(a, b, d, e), bias), scale, 1);
        if (as_float) vstrwq_scatter_offset_f32((float *)(void *)y, at, v);
        else vstrbq_scatter_offset_s32((int8_t *)y, at, bytes_of(v, s.zp));
    }
}

/* Four columns of every row, any inputs, up to 16 at a time. */
static APART void of_any(const shape *c, const stage *s, const int as_float)
{
    const int n_in = c->n_in, n_out = c->n_out;
    int r, k, i, j;
    for (r = 0; r < c->n_rows; r++) {
        const int8_t *w = c->w, *x = c->x + r * c->x_step;
        int32_t sum[4] = {0};
        for (k = 0; k < c->n_taps; k++, x += c->x_row, w += n_in * n_out)
            for (i = 0; i < n_in; i += 16) {
                const uint32x4_t line = vmulq_n_u32(vidupq_n_u32(0, 1), (uint32_t)(4 * n_out));
                const mve_pred16_t bytes = vctp8q((uint32_t)(n_in - i)), words = vctp32q((uint32_t)(n_in - i) / 4);
                const int8x16_t in = vldrbq_z_s8(x + i, bytes);
                for (j = 0; j < 4; j++) {
                    const int32_t *from = (const int32_t *)(const void *)(w + i * n_out + 4 * j);
                    const int32x4_t by = vldrwq_gather_offset_z_s32(from, line, words);
                    sum[j] = vmladavaq_s8(sum[j], in, vreinterpretq_s8_s32(by));
                }
            }
        put(s, c->y + r * c->y_row,
            finished(s, vaddq_s32(vldrwq_s32(sum), vldrwq_s32(c->bias)), vldrwq_f32(c->scale), 1), as_float);
    }
}

static INLINE void columns(const ed_args *a, const int as_float)
{
    const ed_op *op = a->op;
    const stage s = stage_of(op);
    const int n_out = op->n_out, n_inputs = op->taps == 1 && !(op->flags & ED_LEAKY_AFTER) ? op->n_in : 0;
    const int three_eights = op->taps == 3 && op->n_in == 8 && op->n_rows > 1;
    int o;
    for (o = 0; o < n_out; o += 4) {
        shape c = shape_of(a, o);
        if (n_inputs == 8) of_eight(&c, &s, as_float);
        else if (n_inputs == 16) of_sixteen(&c, &s, as_float);
        else if (three_eights) {
            of_three_eights(&c, &s, as_float);
            c.w += 8, c.bias += 2, c.scale += 2, c.y += as_float ? 8 : 2;
            of_three_eights(&c, &s, as_float);
        } else of_any(&c, &s, as_float);
    }
}

/* Four inputs are read as a word. */
ED_KERNEL(CONV_I8) ed_helium_CONV_I8(const ed_args *a)
{
    const ed_op *op = a->op;
    const int whole = op->n_out % 4 == 0 && op->n_in % 4 == 0 && (op->seg >= op->n_out || op->seg % 4 == 0);
    if (!whole || op->x_row % 4 != 0 || (uintptr_t)a->x % 4 != 0) ed_portable_kernels[ED_CONV_I8](a);
    else if (op->flags & ED_FLOAT_OUT) columns(a, 1);
    else columns(a, 0);
}

/* Three frames, three bands, 8 channels: those with even and odd numbers apart, as long products have them. */
static INLINE void eight_channels(const ed_args *a, const stage *end, const int8_t *const frame[3], int c, const int n)
{
    const ed_op *op = a->op;
    const stage s = *end;
    const int32x4x2_t bias = vld2q_s32((const int32_t *)a->bias + c);
    const float32x4x2_t scale = vld2q_f32((const float *)a->scale + c);
    const int8_t *x[3] = {frame[0] + c, frame[1] + c, frame[2] + c}, *weight = (const int8_t *)a->weight + c;
    const ptrdiff_t y_row = op->y_row;
    int8_t *y = (int8_t *)a->y + c;
    int r, t, k;
    for (r = op->n_rows; r > 0; r--, y += y_row) {
        const int8_t *w = weight;
        int32x4_t even = bias.val[0], odd = bias.val[1], low, high;
        int16x8_t words;
        UNROLL for (t = 0; t < 3; t++, w += 3 * n) {
            UNROLL for (k = 0; k < 3; k++) {
                const int16x8_t in = vldrbq_s16(x[t] + k * n), by = vldrbq_s16(w + k * n);
                even = vaddq_s32(even, vmullbq_int_s16(in, by)), odd = vaddq_s32(odd, vmulltq_int_s16(in, by));
                IN_ORDER(even, odd);
            }
            x[t] += n;
        }
        low = vcvtnq_s32_f32(finished(&s, even, scale.val[0], 1));
        high = vcvtnq_s32_f32(finished(&s, odd, scale.val[1], 1));
        words = vqmovntq_s32(vqmovnbq_s32(vreinterpretq_s16_s32(low), low), high);
        words = vqaddq_n_s16(words, (int16_t)s.zp);
        vstrbq_s16(y, vreinterpretq_s16_s8(vqmovnbq_s16(vreinterpretq_s8_s16(words), words)));
    }
}

static APART void eight_of_sixteen(const ed_args *a, const stage *end, const int8_t *const frame[3], int c)
{
    eight_channels(a, end, frame, c, 16);
}

static APART void eight_of_any(const ed_args *a, const stage *end, const int8_t *const frame[3], int c)
{
    eight_channels(a, end, frame, c, a->op->n_out);
}

ED_KERNEL(DEPTH_I8) ed_helium_DEPTH_I8(const ed_args *a)
{
    const ed_op *op = a->op;
    const stage s = stage_of(op);
    const int8_t *frame[3];
    int c, t;
    if (op->time_taps != 3 || op->taps != 3 || op->n_out % 8 != 0 || op->flags & ED_FLOAT_OUT) {
        ed_portable_kernels[ED_DEPTH_I8](a);
        return;
    }
    for (t = 0; t < 3; t++) frame[t] = (const int8_t *)ed_frame_of(a, t, 1);
    for (c = 0; c < op->n_out; c += 8) {
        if (op->n_out == 16) eight_of_sixteen(a, &s, frame, c);
        else eight_of_any(a, &s, frame, c);
    }
    ed_keep_frame(a, 1);
}
#else
typedef int ed_helium_conv_i8_is_not_built;
#endif
