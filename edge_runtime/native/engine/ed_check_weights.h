/* Of ed_check_kinds.c: arrays of weights that lie within their file, and hold numbers that no sum or table is left by. */
#ifndef ED_CHECK_WEIGHTS_H
#define ED_CHECK_WEIGHTS_H

#include "ed_bounds.h"

#define MOST_BIAS (1 << 30) /* and MOST products of -127..127 with -128..127 are 2^29: their sum fits */
#define MOST_SUM ((1 << 16) - 1) /* of weights, whose inputs reach 2^15 */

static int array(const bounds *b, int64_t at, int64_t count, int64_t element)
{
    return at % 4 == 0 && at >= (int64_t)sizeof(ed_header) && at + count * element <= b->n_weights;
}

static int biases(const bounds *b, int64_t at, int64_t count)
{
    const int32_t *bias;
    int64_t i;
    if (!array(b, at, count, 4)) return 0;
    bias = (const int32_t *)(const void *)(b->weights + at);
    for (i = 0; i < count; i++)
        if (bias[i] > MOST_BIAS || bias[i] < -MOST_BIAS) return 0;
    return 1;
}

/* NEON adds two products in 16 bits, which two of -128 with -128 would leave. */
static int bytes(const bounds *b, int64_t at, int64_t count)
{
    int64_t i;
    if (!array(b, at, count, 1)) return 0;
    for (i = 0; i < count; i++)
        if (b->weights[at + i] == 0x80) return 0;
    return 1;
}

static int floats(const bounds *b, int64_t at, int64_t count)
{
    const float *v;
    int64_t i;
    if (!array(b, at, count, 4)) return 0;
    v = (const float *)(const void *)(b->weights + at);
    for (i = 0; i < count; i++)
        if (!is_finite(v[i])) return 0;
    return 1;
}

/* Of 16 bits, two inputs of n_out results side by side: their sizes under each result, times 2^15, are 31 bits. */
static int shorts(const bounds *b, int64_t at, int64_t n_in, int64_t n_out)
{
    const int16_t *w;
    int64_t i, o;
    if (!array(b, at, n_in * n_out, 2)) return 0;
    w = (const int16_t *)(const void *)(b->weights + at);
    for (o = 0; o < n_out; o++) {
        int64_t total = 0;
        for (i = 0; i < n_in; i++) {
            const int32_t v = w[(i / 2 * n_out + o) * 2 + i % 2];
            total += v < 0 ? -v : v;
        }
        if (total > MOST_SUM) return 0;
    }
    return 1;
}

/* Floats, or as many in half precision. */
static int numbers(const bounds *b, int64_t at, int64_t count)
{
    const uint16_t *half;
    int64_t i;
    if (!(b->op->flags & ED_HALF)) return floats(b, at, count);
    if (!array(b, at, count, 2)) return 0;
    half = (const uint16_t *)(const void *)(b->weights + at);
    for (i = 0; i < count; i++)
        if ((half[i] & 0x7c00u) == 0x7c00u) return 0;
    return 1;
}

static int is_zero_point(float zp)
{
    return zp >= -128.0f && zp <= 127.0f && (float)(int)zp == zp;
}

/* Zero points are whole bytes, so that no step of a grid is an index beyond a table of 256. */
static int grids(const bounds *b, int64_t at)
{
    const ed_gru_grids *g;
    if (!floats(b, at, sizeof *g / sizeof(float)) || !array(b, b->op->table, 512, 1)) return 0;
    g = (const ed_gru_grids *)(const void *)(b->weights + at);
    return is_zero_point(g->gates_x_zp) && is_zero_point(g->gates_h_zp) && is_zero_point(g->h_zp)
           && is_zero_point(g->sum_zp) && is_zero_point(g->gate_zp) && is_zero_point(g->reset_zp)
           && is_zero_point(g->new_zp) && is_zero_point(g->n_zp) && is_zero_point(g->diff_zp)
           && is_zero_point(g->update_zp);
}

#endif
