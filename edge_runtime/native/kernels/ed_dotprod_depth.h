/* Depthwise convolutions by dot products: three frames by three bands of 16 channels. The three frames of a channel are put
 * beside each other, so that a product of four bytes is a band's sum of a channel, and each band is so read once for the
 * three rows made that see it. 8 channels at a time, of which all weights and bands stay in registers. */
#ifndef ED_DOTPROD_DEPTH_H
#define ED_DOTPROD_DEPTH_H

#include "ed_arm.h"

enum { DEPTH_CHANNELS = 16 };

/* What two vectors are loaded from at once. */
typedef struct {
    int32_t v[8];
} eight_ints;

/* Each time anew, for where a sum starts from a register that is a copy. */
static inline __attribute__((always_inline)) void load_two(const int32_t *p, int32x4_t *v)
{
    __asm__ volatile("ldp %q0, %q1, %2" : "=w"(v[0]), "=w"(v[1]) : "Q"(*(const eight_ints *)(const void *)p));
}

/* 8 channels of a band: bytes of three frames and a zero each. */
typedef struct {
    int8x16_t v[2];
} depth_frames;

/* Bands of three frames, and where the bytes of 8 channels lie in a band. Not an array, which a compiler would guard in
 * memory. */
typedef struct {
    const int8_t *first, *second, *third;
    uint8x16_t low, high;
} depth_source;

/* In registers that follow each other, to which gcc would copy what it loads. */
static inline __attribute__((always_inline)) depth_frames depth_frames_at(const depth_source *s, ptrdiff_t row)
{
    const ptrdiff_t at = row * DEPTH_CHANNELS;
    depth_frames d;
#define BAND(frame) "m"(*(const int8x16_t *)(const void *)(s->frame + at))
    __asm__("ldr q29, %2\n\tldr q30, %3\n\tldr q31, %4\n\t"
            "tbl %0.16b, {v29.16b-v31.16b}, %5.16b\n\ttbl %1.16b, {v29.16b-v31.16b}, %6.16b"
            : "=&w"(d.v[0]), "=w"(d.v[1]) : BAND(first), BAND(second), BAND(third), "w"(s->low), "w"(s->high)
            : "v29", "v30", "v31");
#undef BAND
    return d;
}

/* Of the channels from c on; the fourth place of each lies beyond the three vectors, where zeros are read. */
static inline __attribute__((always_inline)) depth_source depth_source_of(const int8_t *first, const int8_t *second,
                                                                          const int8_t *third, const int c)
{
    static const uint8_t places[16] = {0, 16, 32, 192, 1, 17, 33, 192, 2, 18, 34, 192, 3, 19, 35, 192};
    depth_source s;
    s.first = first, s.second = second, s.third = third;
    s.low = vaddq_u8(vld1q_u8(places), vdupq_n_u8((uint8_t)c)), s.high = vaddq_u8(s.low, vdupq_n_u8(4));
    return s;
}

/* Sums of a row that sees three bands; at once, for gcc would copy sums from register to register. */
static inline __attribute__((always_inline)) void depth_dots(const int32_t *bias, const depth_frames *w, const depth_frames *x,
                                                             const depth_frames *x2, const depth_frames *x3, int32x4_t *sum)
{
    __asm__ volatile("ldp %q0, %q1, %2\n\t"
                     "sdot %0.4s, %3.16b, %9.16b\n\tsdot %1.4s, %4.16b, %10.16b\n\t"
                     "sdot %0.4s, %5.16b, %11.16b\n\tsdot %1.4s, %6.16b, %12.16b\n\t"
                     "sdot %0.4s, %7.16b, %13.16b\n\tsdot %1.4s, %8.16b, %14.16b"
                     : "=&w"(sum[0]), "=&w"(sum[1])
                     : "Q"(*(const eight_ints *)(const void *)bias), "w"(w[0].v[0]), "w"(w[0].v[1]), "w"(w[1].v[0]),
                       "w"(w[1].v[1]), "w"(w[2].v[0]), "w"(w[2].v[1]), "w"(x->v[0]), "w"(x->v[1]), "w"(x2->v[0]),
                       "w"(x2->v[1]), "w"(x3->v[0]), "w"(x3->v[1]));
}

/* 8 channels from c on of n_rows, a multiple of three; frames from the band on that the first row begins with. */
static inline __attribute__((always_inline)) void depth_eight(const ed_args *a, const int8_t *first, const int8_t *second,
                                                              const int8_t *third, int8_t *y, int n_rows, const int c)
{
    enum { BAND = DEPTH_CHANNELS };
    const int8_t *weight = a->weight;
    const int32_t *bias = (const int32_t *)a->bias + c;
    const vf scale[2] = {vf_load((const float *)a->scale + c), vf_load((const float *)a->scale + c + 4)};
    const vf slope = vf_set1(a->op->f0);
    const int zp = a->op->y_zp;
    depth_source from = depth_source_of(weight, weight + 3 * BAND, weight + 6 * BAND, c);
    depth_frames w[3], x[3];
    int k, u, v;
    _Pragma("GCC unroll 3") for (k = 0; k < 3; k++) w[k] = depth_frames_at(&from, k);
    from.first = first, from.second = second, from.third = third;
    x[0] = depth_frames_at(&from, 0), x[1] = depth_frames_at(&from, 1);
    for (y += c; n_rows > 0; n_rows -= 3) {
        _Pragma("GCC unroll 3") for (u = 0; u < 3; u++, y += BAND) {
            int32x4_t sum[2];
            vf f[2];
            x[(u + 2) % 3] = depth_frames_at(&from, u + 2);
            depth_dots(bias, w, x + u, x + (u + 1) % 3, x + (u + 2) % 3, sum);
            _Pragma("GCC unroll 2") for (v = 0; v < 2; v++) {
                f[v] = vcvtq_f32_s32(sum[v]) * scale[v];
                f[v] = vf_max(f[v] * slope, f[v]);
            }
            round8_i8(y, f, zp);
        }
        from.first += 3 * BAND, from.second += 3 * BAND, from.third += 3 * BAND;
    }
}

/* n_rows rows from row r on. */
static __attribute__((noinline)) void depth_rows(const ed_args *a, const int8_t *first, const int8_t *second,
                                                 const int8_t *third, int r, int n_rows)
{
    const ptrdiff_t at = (ptrdiff_t)r * DEPTH_CHANNELS;
    depth_eight(a, first + at, second + at, third + at, (int8_t *)a->y + at, n_rows, 0);
    depth_eight(a, first + at, second + at, third + at, (int8_t *)a->y + at, n_rows, 8);
}

/* What three does not divide is made of the last three rows. */
static void run_DEPTH_I8(const ed_args *a)
{
    const ed_op *op = a->op;
    const int n_rows = op->n_rows, rest = n_rows % 3;
    const int8_t *first, *second, *third;
    if (op->time_taps != 3 || op->taps != 3 || op->n_out != DEPTH_CHANNELS || op->y_row != DEPTH_CHANNELS || n_rows < 3
        || op->flags != ED_LEAKY_AFTER) {
        ed_neon.exact[ED_DEPTH_I8](a);
        return;
    }
    first = (const int8_t *)ed_frame_of(a, 0, 1), second = (const int8_t *)ed_frame_of(a, 1, 1);
    third = (const int8_t *)ed_frame_of(a, 2, 1);
    depth_rows(a, first, second, third, 0, n_rows - rest);
    if (rest != 0) depth_rows(a, first, second, third, n_rows - 3, 3);
    ed_keep_frame(a, 1);
}

#endif
