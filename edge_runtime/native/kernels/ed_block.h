/* Numbers of 16 bits with one exponent (quant/int8/block_floats.py): the least power of two under which 16 bits hold the
 * largest number of a value. */
#ifndef ED_BLOCK_H
#define ED_BLOCK_H

#include "ed_program.h"

#define ED_SIZE_BITS 0x7fffffffu /* of a float, without its sign; they order as sizes do */
#define ED_SHORT_LOW -32768.0f
#define ED_SHORT_HIGH 32767.0f

typedef struct {
    float steps, unit; /* a real unit, in steps; a step, in real units */
} ed_block;

static inline float ed_power(uint32_t exponent)
{
    union { uint32_t u; float f; } v;
    v.u = exponent << 23;
    return v.f;
}

/* `largest`: bits of the largest size. Below 2^-40 is silence; what is no finite number has the largest exponent. */
static inline ed_block ed_block_of(uint32_t largest)
{
    const uint32_t found = largest >> 23, exponent = found < 87 ? 87 : found > 254 ? 254 : found;
    ed_block b;
    b.steps = ed_power(268 - exponent), b.unit = ed_power(exponent - 14);
    return b;
}

static inline uint32_t ed_size_bits(float v)
{
    uint32_t u;
    memcpy(&u, &v, 4);
    return u & ED_SIZE_BITS;
}

#endif
