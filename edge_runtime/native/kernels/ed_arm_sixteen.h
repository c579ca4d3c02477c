/* NEON: 16 numbers of 16 bits. */
#ifndef ED_ARM_SIXTEEN_H
#define ED_ARM_SIXTEEN_H

#include "ed_arm.h"

/* --- 16 numbers of 16 bits ----------------------------------------------------------------------------------------- */

typedef struct {
    int16x8_t v[2];
} shorts;

static inline shorts shorts_load(const int16_t *p)
{
    shorts s;
    s.v[0] = vld1q_s16(p), s.v[1] = vld1q_s16(p + 8);
    return s;
}

static inline void shorts_save(int16_t *p, shorts s)
{
    vst1q_s16(p, s.v[0]), vst1q_s16(p + 8, s.v[1]);
}

static inline shorts shorts_set1(int x)
{
    shorts s;
    s.v[0] = s.v[1] = vdupq_n_s16((int16_t)x);
    return s;
}

/* Steps from the zero point, 128fold. */
static inline shorts shorts_steps(int8x16_t x, int zp, const int width)
{
    const int8x8_t z = vdup_n_s8((int8_t)zp);
    shorts s;
    if (__builtin_constant_p(zp) && zp == 0) {
        s.v[0] = vshll_n_s8(vget_low_s8(x), 7), s.v[1] = vshll_n_s8(vget_high_s8(x), 7);
        return s;
    }
    s.v[0] = vshlq_n_s16(vsubl_s8(vget_low_s8(x), z), 7);
    s.v[1] = width > 8 ? vshlq_n_s16(vsubl_s8(vget_high_s8(x), z), 7) : s.v[0];
    return s;
}

static inline shorts shorts_high(shorts a, shorts b, const int width)
{
    shorts s;
    s.v[0] = vqrdmulhq_s16(a.v[0], b.v[0]);
    s.v[1] = width > 8 ? vqrdmulhq_s16(a.v[1], b.v[1]) : s.v[0];
    return s;
}

static inline shorts shorts_add(shorts a, shorts b, const int width)
{
    shorts s;
    s.v[0] = vqaddq_s16(a.v[0], b.v[0]);
    s.v[1] = width > 8 ? vqaddq_s16(a.v[1], b.v[1]) : s.v[0];
    return s;
}

/* w x + rise max(x, 0). */
static inline shorts shorts_bent(int8x16_t x, int8x16_t w, int8x16_t rise)
{
    const int8x16_t above = vmaxq_s8(x, vdupq_n_s8(0));
    shorts s;
    s.v[0] = mlal_low(mull_low(x, w), above, rise), s.v[1] = mlal_high(mull_high(x, w), above, rise);
    return s;
}

static inline shorts shorts_scaled(int8x16_t x, int unit, shorts start)
{
    const int8x16_t u = vdupq_n_s8((int8_t)unit);
    shorts s;
    s.v[0] = mlal_low(start.v[0], x, u), s.v[1] = mlal_high(start.v[1], x, u);
    return s;
}

/* The byte of 32nds, saturated; `width` bytes. */
static inline void shorts_store(int8_t *p, shorts v, const int width)
{
    const int8x8_t low = vqshrn_n_s16(v.v[0], 5);
    if (width == 4) vst1_lane_s32((int32_t *)(void *)p, vreinterpret_s32_s8(low), 0);
    else vst1_s8(p, low);
    if (width == 12) vst1_lane_s32((int32_t *)(void *)(p + 8), vreinterpret_s32_s8(vqshrn_n_s16(v.v[1], 5)), 0);
    if (width == 16) vst1_s8(p + 8, vqshrn_n_s16(v.v[1], 5));
}

#endif
