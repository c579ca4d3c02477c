/* NEON: what recurrent layers over bands in 8 bits need. */
#ifndef ED_ARM_GRU_H
#define ED_ARM_GRU_H

#include "ed_arm_sixteen.h"

/* --- units of both directions ------------------------------------------------------------------------------------ */

/* 8 bytes from each. */
static inline int8x16_t units_16(const int8_t *ahead, const int8_t *back)
{
    return vcombine_s8(vld1_s8(ahead), vld1_s8(back));
}

static inline void units_16_store(int8_t *ahead, int8_t *back, int8x16_t y)
{
    vst1_s8(ahead, vget_low_s8(y)), vst1_s8(back, vget_high_s8(y));
}

/* 4 bytes from each, of one gate and of the next one. */
static inline int8x16_t units_8(const int8_t *ahead, const int8_t *back, int next)
{
#define LANE(v, p, lane) vld1q_lane_s32((const int32_t *)(const void *)(p), v, lane)
    int32x4_t v = vdupq_n_s32(0);
    v = LANE(v, ahead, 0), v = LANE(v, back, 1), v = LANE(v, ahead + next, 2), v = LANE(v, back + next, 3);
    return vreinterpretq_s8_s32(v);
#undef LANE
}

static inline void units_8_store(int8_t *ahead, int8_t *back, int8x16_t y)
{
    vst1q_lane_s32((int32_t *)(void *)ahead, vreinterpretq_s32_s8(y), 0);
    vst1q_lane_s32((int32_t *)(void *)back, vreinterpretq_s32_s8(y), 1);
}

/* --- 16 numbers of 16 bits --------------------------------------------------------------------------------------- */

static inline shorts shorts_less(shorts a, shorts b)
{
    shorts s;
    s.v[0] = vsubq_s16(a.v[0], b.v[0]), s.v[1] = vsubq_s16(a.v[1], b.v[1]);
    return s;
}

static inline shorts shorts_lower(shorts a)
{
    a.v[1] = a.v[0];
    return a;
}

static inline shorts shorts_upper(shorts a)
{
    a.v[0] = a.v[1];
    return a;
}

/* From 128ths of a step. */
static inline int8x16_t shorts_state(shorts a)
{
    return vcombine_s8(vrshrn_n_s16(a.v[0], 7), vrshrn_n_s16(a.v[1], 7));
}

/* --- curves by table --------------------------------------------------------------------------------------------- */

typedef struct {
    const uint8_t *gates, *state; /* where step 0 is */
} curves;

static inline void curves_start(curves *c, const void *table)
{
    c->gates = (const uint8_t *)table + 128, c->state = c->gates + 256;
}

/* The bytes of 32nds. */
static inline uint8x16_t steps_of(shorts v)
{
    return vreinterpretq_u8_s8(vcombine_s8(vqshrn_n_s16(v.v[0], 5), vqshrn_n_s16(v.v[1], 5)));
}

/* n times 16 entries at once. */
static inline __attribute__((always_inline)) void look_up(const uint8_t *table, uint8x16_t *at, const int n)
{
    int i;
#if defined(__aarch64__)
    static const int quarter[4] = {0, 64, -128, -64};
    uint8x16_t found[2];
    int q;
    _Pragma("GCC unroll 4") for (q = 0; q < 4; q++) {
        const uint8x16x4_t entries = vld1q_u8_x4(table + quarter[q]);
        const uint8x16_t from = vdupq_n_u8((uint8_t)(64 * q));
        _Pragma("GCC unroll 2") for (i = 0; i < n; i++)
            found[i] = q ? vqtbx4q_u8(found[i], entries, veorq_u8(at[i], from)) : vqtbl4q_u8(entries, at[i]);
    }
    _Pragma("GCC unroll 2") for (i = 0; i < n; i++) at[i] = found[i];
#else
    int8_t index[32];
    uint8_t found[32];
    _Pragma("GCC unroll 2") for (i = 0; i < n; i++) vst1q_s8(index + 16 * i, vreinterpretq_s8_u8(at[i]));
    _Pragma("GCC unroll 32") for (i = 0; i < 16 * n; i++) found[i] = table[index[i]];
    _Pragma("GCC unroll 2") for (i = 0; i < n; i++) at[i] = vld1q_u8(found + 16 * i);
#endif
}

/* 256ths of n times 16 gates, 128fold. */
static inline __attribute__((always_inline)) void curve_gates(const curves *c, shorts *v, const int n)
{
    uint8x16_t at[2];
    int i;
    _Pragma("GCC unroll 2") for (i = 0; i < n; i++) at[i] = steps_of(v[i]);
    look_up(c->gates, at, n);
    _Pragma("GCC unroll 2") for (i = 0; i < n; i++) {
        v[i].v[0] = vreinterpretq_s16_u16(vshll_n_u8(vget_low_u8(at[i]), 7));
        v[i].v[1] = vreinterpretq_s16_u16(vshll_n_u8(vget_high_u8(at[i]), 7));
    }
}

/* 128ths, 128fold. */
static inline shorts curve_state(const curves *c, shorts v)
{
    uint8x16_t at = steps_of(v);
    look_up(c->state, &at, 1);
    return shorts_steps(vreinterpretq_s8_u8(at), 0, 16);
}

/* --- layers over time ---------------------------------------------------------------------------------------------- */

/* Halves of curves, 128 entries each. */
typedef struct {
    const uint8_t *sigmoid, *tanh;
} parts;

static inline void parts_start(parts *p, const void *table)
{
    p->sigmoid = table, p->tanh = p->sigmoid + 128;
}

/* n times 16 entries, at bytes of any sign. */
static inline __attribute__((always_inline)) void parts_of(const uint8_t *table, int8x16_t *at, const int n)
{
    int i;
    _Pragma("GCC unroll 2") for (i = 0; i < n; i++) at[i] = vqabsq_s8(at[i]);
#if defined(__aarch64__)
    {
        const uint8x16x4_t low = vld1q_u8_x4(table), high = vld1q_u8_x4(table + 64);
        _Pragma("GCC unroll 2") for (i = 0; i < n; i++) {
            const uint8x16_t from = vreinterpretq_u8_s8(at[i]), above = veorq_u8(from, vdupq_n_u8(64));
            at[i] = vreinterpretq_s8_u8(vqtbx4q_u8(vqtbl4q_u8(low, from), high, above));
        }
    }
#else
    {
        uint8_t index[32], found[32];
        _Pragma("GCC unroll 2") for (i = 0; i < n; i++) vst1q_u8(index + 16 * i, vreinterpretq_u8_s8(at[i]));
        _Pragma("GCC unroll 32") for (i = 0; i < 16 * n; i++) found[i] = table[index[i]];
        _Pragma("GCC unroll 2") for (i = 0; i < n; i++) at[i] = vreinterpretq_s8_u8(vld1q_u8(found + 16 * i));
    }
#endif
}

static inline shorts widened(int8x16_t v)
{
    shorts s;
    s.v[0] = vreinterpretq_s16_u16(vshll_n_u8(vreinterpret_u8_s8(vget_low_s8(v)), 6));
    s.v[1] = vreinterpretq_s16_u16(vshll_n_u8(vreinterpret_u8_s8(vget_high_s8(v)), 6));
    return s;
}

/* Whether a gate lies below a half, and the half of its curve, 64fold. */
typedef struct {
    shorts part, below;
} gate16;

static inline shorts below_zero(shorts v)
{
    v.v[0] = vshrq_n_s16(v.v[0], 15), v.v[1] = vshrq_n_s16(v.v[1], 15);
    return v;
}

static inline void gates_at(const parts *p, shorts reset, shorts update, gate16 *r, gate16 *z)
{
    int8x16_t at[2] = {vcombine_s8(vqmovn_s16(reset.v[0]), vqmovn_s16(reset.v[1])),
                       vcombine_s8(vqmovn_s16(update.v[0]), vqmovn_s16(update.v[1]))};
    parts_of(p->sigmoid, at, 2);
    r->part = widened(at[0]), z->part = widened(at[1]);
    r->below = below_zero(reset), z->below = below_zero(update);
}

static inline int16x8_t signed_as(int16x8_t size, int8x8_t below)
{
    const int16x8_t mask = vmovl_s8(below);
    return vsubq_s16(veorq_s16(size, mask), mask);
}

/* 2^14ths at 1280ths. */
static inline shorts state_at(const parts *p, shorts sum)
{
    const int8x16_t steps = vcombine_s8(vqrshrn_n_s16(sum.v[0], 5), vqrshrn_n_s16(sum.v[1], 5));
    const int8x16_t below = vshrq_n_s8(steps, 7);
    int8x16_t at = steps;
    shorts s;
    parts_of(p->tanh, &at, 1);
    s = widened(at);
    s.v[0] = signed_as(s.v[0], vget_low_s8(below)), s.v[1] = signed_as(s.v[1], vget_high_s8(below));
    return s;
}

/* Saturated. */
static inline shorts shorts_apart(shorts a, shorts b)
{
    a.v[0] = vqsubq_s16(a.v[0], b.v[0]), a.v[1] = vqsubq_s16(a.v[1], b.v[1]);
    return a;
}

/* a where the mask is set, else b. */
static inline shorts shorts_choose(shorts mask, shorts a, shorts b)
{
    shorts s;
    s.v[0] = vbslq_s16(vreinterpretq_u16_s16(mask.v[0]), a.v[0], b.v[0]);
    s.v[1] = vbslq_s16(vreinterpretq_u16_s16(mask.v[1]), a.v[1], b.v[1]);
    return s;
}

/* From 2^14ths to 128ths, as bytes. */
static inline void units_store(int8_t *p, shorts h)
{
    vst1_s8(p, vqrshrn_n_s16(h.v[0], 7)), vst1_s8(p + 8, vqrshrn_n_s16(h.v[1], 7));
}

/* --- sums of a gate in 16 bits ----------------------------------------------------------------------------------- */

/* Weights of one input of a block of all units. */
typedef struct {
    int8x16_t w[3][4];
} halves;

static inline void halves_start(halves *d, const int8_t *w, int n_gates)
{
    int gate, k;
    for (gate = 0; gate < n_gates; gate++) {
        const int8x16x4_t inputs = vld4q_s8(w + 64 * gate);
        _Pragma("GCC unroll 4") for (k = 0; k < 4; k++) d->w[gate][k] = inputs.val[k];
    }
}

/* Of each block the state of one unit, in the lanes of all of them. */
typedef struct {
    int8x16_t unit[4];
} seen;

static inline __attribute__((always_inline)) seen seen_of(int8x16_t h)
{
    static const uint8_t blocks[16] = {0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12};
    seen s;
#if defined(__aarch64__)
    uint8x16_t at = vld1q_u8(blocks);
    __asm__("" : "+w"(at)); /* or it is loaded each time, and so are three more that differ by a number */
    s.unit[0] = vqtbl1q_s8(h, at), s.unit[1] = vqtbl1q_s8(vextq_s8(h, h, 1), at);
    s.unit[2] = vqtbl1q_s8(vextq_s8(h, h, 2), at), s.unit[3] = vqtbl1q_s8(vextq_s8(h, h, 3), at);
#else
    int k;
    _Pragma("GCC unroll 4") for (k = 0; k < 4; k++) {
        const int8x8_t at = vreinterpret_s8_u8(vadd_u8(vld1_u8(blocks), vdup_n_u8((uint8_t)k)));
        s.unit[k] = vcombine_s8(vtbl1_s8(vget_low_s8(h), at), vtbl1_s8(vget_high_s8(h), at));
    }
#endif
    return s;
}

/* Two products fit 16 bits, and so does half the sum of four. */
static inline shorts halves_sum(const halves *d, const seen *s, int gate)
{
    const int8x16_t *w = d->w[gate], *h = s->unit;
    shorts half;
    half.v[0] = vhaddq_s16(mlal_low(mull_low(w[0], h[0]), w[1], h[1]), mlal_low(mull_low(w[2], h[2]), w[3], h[3]));
    half.v[1] = vhaddq_s16(mlal_high(mull_high(w[0], h[0]), w[1], h[1]), mlal_high(mull_high(w[2], h[2]), w[3], h[3]));
    return half;
}

/* --- gates in float ---------------------------------------------------------------------------------------------- */

typedef struct {
    const int8_t *w;
    const int32_t *bias;
} gate_dots;

static inline void gate_start(gate_dots *d, const void *w, const void *bias)
{
    d->w = w, d->bias = bias;
}

#endif
