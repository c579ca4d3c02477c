/* NEON: curves of a GRU by table, and where its gates lie. */
#ifndef ED_ARM_GRU_H
#define ED_ARM_GRU_H

#include "ed_arm.h"

/* --- curves of a GRU -------------------------------------------------------------------------------------------- */

typedef struct {
    const int8_t *table;
    int sum_zp, new_zp, gate_zp, n_zp;
    vf sum_low, sum_high, new_low, new_high;
} curves;

static inline void curves_start(curves *c, const int8_t *table, const ed_gru_grids *g)
{
    c->table = table, c->sum_zp = (int)g->sum_zp, c->new_zp = (int)g->new_zp;
    c->gate_zp = (int)g->gate_zp, c->n_zp = (int)g->n_zp;
    c->sum_low = vf_set1(-128.0f - g->sum_zp), c->sum_high = vf_set1(127.0f - g->sum_zp);
    c->new_low = vf_set1(-128.0f - g->new_zp), c->new_high = vf_set1(127.0f - g->new_zp);
}

/* Round to bytes, add 128, and take that entry of the table. */
static inline void look_up(const int8_t *table, int8x16_t steps, int table_zp, vf *y)
{
    uint8x16_t at = veorq_u8(vreinterpretq_u8_s8(steps), vdupq_n_u8(0x80));
#if defined(__aarch64__)
    const uint8_t *t = (const uint8_t *)table;
    uint8x16_t found = vqtbl4q_u8(vld1q_u8_x4(t), at);
    found = vqtbx4q_u8(found, vld1q_u8_x4(t + 64), veorq_u8(at, vdupq_n_u8(64)));
    found = vqtbx4q_u8(found, vld1q_u8_x4(t + 128), veorq_u8(at, vdupq_n_u8(128)));
    found = vqtbx4q_u8(found, vld1q_u8_x4(t + 192), veorq_u8(at, vdupq_n_u8(192)));
    floats_of(vreinterpretq_s8_u8(found), table_zp, y);
#else
    uint8_t index[16];
    int8_t found[16];
    int i;
    vst1q_u8(index, at);
    _Pragma("GCC unroll 16") for (i = 0; i < 16; i++) found[i] = table[index[i]];
    load16_i8(found, table_zp, y);
#endif
}

static inline void curve_sigmoid(const curves *c, const vf *x, vf *y)
{
    look_up(c->table, rounded(x, c->sum_low, c->sum_high, c->sum_zp), c->gate_zp, y);
}

static inline void curve_tanh(const curves *c, const vf *x, vf *y)
{
    look_up(c->table + 256, rounded(x, c->new_low, c->new_high, c->new_zp), c->n_zp, y);
}

typedef struct {
    const int8_t *w;
    const int32_t *bias;
} gate_dots;

static inline void gate_start(gate_dots *d, const void *w, const void *bias)
{
    d->w = w, d->bias = bias;
}

#endif
