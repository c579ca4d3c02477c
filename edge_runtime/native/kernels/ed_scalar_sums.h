/* Convolutions without vectors: sums of products of 16-bit numbers, four inputs at a time, of blocks of two rows by two
 * columns, which fill the registers of 32-bit ARM. */
#ifndef ED_SCALAR_SUMS_H
#define ED_SCALAR_SUMS_H

#include "ed_scalar_pairs.h"

#define NO 2 /* columns side by side */
#define NR 2 /* rows that share the weights */

/* NR rows by NO columns take four more inputs of each row; what is read moves on. */
#if defined(ARM_PAIRS) && defined(__thumb2__)
/* As compilers would not: nothing leaves the registers. */
static INLINE void add_four(int32_t sum[NR][NO], const four **x0, const four **x1, const four **w)
{
    uint32_t even0, odd0, even1, odd1, even, odd;
    __asm__("ldrd %[even0], %[odd0], [%[x0]], #8\n\t"
            "ldrd %[even1], %[odd1], [%[x1]], #8\n\t"
            "ldrd %[even], %[odd], [%[w]], #8\n\t"
            "smlad %[s00], %[even0], %[even], %[s00]\n\t"
            "smlad %[s10], %[even1], %[even], %[s10]\n\t"
            "smlad %[s00], %[odd0], %[odd], %[s00]\n\t"
            "smlad %[s10], %[odd1], %[odd], %[s10]\n\t"
            "ldrd %[even], %[odd], [%[w]], #8\n\t"
            "smlad %[s01], %[even0], %[even], %[s01]\n\t"
            "smlad %[s11], %[even1], %[even], %[s11]\n\t"
            "smlad %[s01], %[odd0], %[odd], %[s01]\n\t"
            "smlad %[s11], %[odd1], %[odd], %[s11]"
            : [x0] "+r"(*x0), [x1] "+r"(*x1), [w] "+r"(*w), [s00] "+r"(sum[0][0]), [s01] "+r"(sum[0][1]),
              [s10] "+r"(sum[1][0]), [s11] "+r"(sum[1][1]), [even0] "=&r"(even0), [odd0] "=&r"(odd0),
              [even1] "=&r"(even1), [odd1] "=&r"(odd1), [even] "=&r"(even), [odd] "=&r"(odd)
            :
            : "memory");
}
#else
static INLINE void add_four(int32_t sum[NR][NO], const four **x0, const four **x1, const four **w)
{
    int i;
    UNROLL for (i = 0; i < NO; i++) {
        sum[0][i] = dot(sum[0][i], **x0, (*w)[i]);
        sum[1][i] = dot(sum[1][i], **x1, (*w)[i]);
    }
    ++*x0, ++*x1, *w += NO;
}
#endif

/* Sums of a block. w: the biases, then the weights. `runs`: what is known of its inputs when it is compiled. */
typedef enum { ANY, TWO_AT_TWO, FOUR_AT_FOUR, SIX_AT_TWO, SIX_AT_SIX } runs; /* fours, and fours from row to row */

static INLINE runs runs_of(int n_fours, ptrdiff_t x_step)
{
    if (n_fours == 2 && x_step == 2) return TWO_AT_TWO;
    if (n_fours == 4 && x_step == 4) return FOUR_AT_FOUR;
    if (n_fours == 6 && x_step == 2) return SIX_AT_TWO;
    return n_fours == 6 && x_step == 6 ? SIX_AT_SIX : ANY;
}

#if defined(ARM_PAIRS) && defined(__thumb2__)
/* Places in bytes: of four inputs of both rows, of their weights for both columns. */
#define FOUR(x0, x1, w0, w1)                                                                                           \
    "ldrd %[even0], %[odd0], [%[x], #" #x0 "]\n\t"                                                                     \
    "ldrd %[even1], %[odd1], [%[x], #" #x1 "]\n\t"                                                                     \
    "ldrd %[even], %[odd], [%[w], #" #w0 "]\n\t"                                                                       \
    "smlad %[s00], %[even0], %[even], %[s00]\n\t"                                                                      \
    "smlad %[s10], %[even1], %[even], %[s10]\n\t"                                                                      \
    "smlad %[s00], %[odd0], %[odd], %[s00]\n\t"                                                                        \
    "smlad %[s10], %[odd1], %[odd], %[s10]\n\t"                                                                        \
    "ldrd %[even], %[odd], [%[w], #" #w1 "]\n\t"                                                                       \
    "smlad %[s01], %[even0], %[even], %[s01]\n\t"                                                                      \
    "smlad %[s11], %[even1], %[even], %[s11]\n\t"                                                                      \
    "smlad %[s01], %[odd0], %[odd], %[s01]\n\t"                                                                        \
    "smlad %[s11], %[odd1], %[odd], %[s11]\n\t"
#define SUM(fours)                                                                                                     \
    __asm__("ldrd %[s00], %[s01], [%[w]]\n\t"                                                                          \
            "ldrd %[s10], %[s11], [%[w]]\n\t" fours                                                                    \
            : [s00] "=&r"(sum[0][0]), [s01] "=&r"(sum[0][1]), [s10] "=&r"(sum[1][0]), [s11] "=&r"(sum[1][1]),          \
              [even0] "=&r"(even0), [odd0] "=&r"(odd0), [even1] "=&r"(even1), [odd1] "=&r"(odd1), [even] "=&r"(even),  \
              [odd] "=&r"(odd)                                                                                         \
            : [x] "r"(x), [w] "r"(w)                                                                                   \
            : "memory")

static INLINE void sums_of(int32_t sum[NR][NO], const four *x, ptrdiff_t x_step, const four *w, int n_fours,
                           const runs known)
{
    uint32_t even0, odd0, even1, odd1, even, odd;
    if (known == TWO_AT_TWO) SUM(FOUR(0, 16, 8, 16) FOUR(8, 24, 24, 32));
    else if (known == FOUR_AT_FOUR)
        SUM(FOUR(0, 32, 8, 16) FOUR(8, 40, 24, 32) FOUR(16, 48, 40, 48) FOUR(24, 56, 56, 64));
    else if (known == SIX_AT_TWO)
        SUM(FOUR(0, 16, 8, 16) FOUR(8, 24, 24, 32) FOUR(16, 32, 40, 48) FOUR(24, 40, 56, 64) FOUR(32, 48, 72, 80)
                FOUR(40, 56, 88, 96));
    else if (known == SIX_AT_SIX)
        SUM(FOUR(0, 48, 8, 16) FOUR(8, 56, 24, 32) FOUR(16, 64, 40, 48) FOUR(24, 72, 56, 64) FOUR(32, 80, 72, 80)
                FOUR(40, 88, 88, 96));
    else {
        const four *x1 = x + x_step;
        sum[0][0] = sum[1][0] = (int32_t)w->even, sum[0][1] = sum[1][1] = (int32_t)w->odd;
        for (w++; n_fours >= 2; n_fours -= 2) add_four(sum, &x, &x1, &w), add_four(sum, &x, &x1, &w);
        if (n_fours > 0) add_four(sum, &x, &x1, &w);
    }
}

static INLINE void put_biases(four *w, const int32_t *bias)
{
    w->even = (uint32_t)bias[0], w->odd = (uint32_t)bias[1];
}
#else
static INLINE void sums_of(int32_t sum[NR][NO], const four *x, ptrdiff_t x_step, const four *w, int n_fours,
                           const runs known)
{
    const int n_known = known == TWO_AT_TWO ? 2 : known == FOUR_AT_FOUR ? 4 : known == ANY ? 0 : 6;
    const four *x1 = x + x_step;
    int32_t bias[NO];
    int k;
    memcpy(bias, w, sizeof bias);
    sum[0][0] = sum[1][0] = bias[0], sum[0][1] = sum[1][1] = bias[1], w++;
    if (n_known) {
        UNROLL for (k = 0; k < n_known; k++) add_four(sum, &x, &x1, &w);
    } else
        for (k = n_fours; k > 0; k--) add_four(sum, &x, &x1, &w);
}

static INLINE void put_biases(four *w, const int32_t *bias)
{
    memcpy(w, bias, NO * sizeof *bias);
}
#endif

#endif
