/* What ed_check.c and ed_check_kinds.c share: one operation against the memory and weights there are. */
#ifndef ED_BOUNDS_H
#define ED_BOUNDS_H

#include "ed_check.h"

#define MOST 32768 /* numbers under one sum, numbers of a value, operations */

/* One operation against what there is. */
typedef struct {
    const ed_header *header;
    const uint8_t *weights;
    const ed_op *op;
    int64_t n_weights;        /* bytes of weights that arrays may fill; ED_SLACK more are there */
    int64_t n_arena, n_memory; /* ends of the arena, without its slack, and of the states */
    int64_t made, made_end;   /* bytes that the operation writes */
    int64_t unit, unit_end;   /* and those of QUANTIZE_I16 beside them */
    int64_t kept_end;         /* of the states of operations before */
    int64_t work;             /* still allowed */
} bounds;

/* Whether every access of the operation lies where it may; `made`, `kept_end` and `work` are then as it leaves them. */
int ed_fits(bounds *b);

/* Whether a spectrum's two planes at this offset lie in the arena. */
int ed_writes_planes(bounds *b, int64_t at);

static inline int64_t padded(int64_t n)
{
    return (n + 3) / 4 * 4;
}

static inline int is_finite(float v)
{
    const float largest = 3.402823466e38f;
    return v >= -largest && v <= largest;
}

#endif
