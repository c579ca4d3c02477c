/* Convolutions without vectors: sums of products of 16-bit numbers, four inputs at a time, of blocks of two rows by two
 * columns, which fill the registers of 32-bit ARM. */
#ifndef ED_SCALAR_SUMS_H
#define ED_SCALAR_SUMS_H

#include "ed_scalar.h"

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

/* Sums of a block. w: the biases, then the weights. n_known: n_fours if it is known when compiled, else 0. */
#if defined(ARM_PAIRS) && defined(__thumb2__)
#define START                                                                                                          \
    "ldrd %[s00], %[s01], [%[w]]\n\t"                                                                                  \
    "ldrd %[s10], %[s11], [%[w]]\n\t"
#define FOUR(x_at, w_at, next_at)                                                                                      \
    "ldrd %[even0], %[odd0], [%[x0], #" x_at "]\n\t"                                                                   \
    "ldrd %[even1], %[odd1], [%[x1], #" x_at "]\n\t"                                                                   \
    "ldrd %[even], %[odd], [%[w], #" w_at "]\n\t"                                                                      \
    "smlad %[s00], %[even0], %[even], %[s00]\n\t"                                                                      \
    "smlad %[s10], %[even1], %[even], %[s10]\n\t"                                                                      \
    "smlad %[s00], %[odd0], %[odd], %[s00]\n\t"                                                                        \
    "smlad %[s10], %[odd1], %[odd], %[s10]\n\t"                                                                        \
    "ldrd %[even], %[odd], [%[w], #" next_at "]\n\t"                                                                   \
    "smlad %[s01], %[even0], %[even], %[s01]\n\t"                                                                      \
    "smlad %[s11], %[even1], %[even], %[s11]\n\t"                                                                      \
    "smlad %[s01], %[odd0], %[odd], %[s01]\n\t"                                                                        \
    "smlad %[s11], %[odd1], %[odd], %[s11]\n\t"
#define SUM(fours)                                                                                                     \
    __asm__(START fours                                                                                                \
            : [s00] "=&r"(sum[0][0]), [s01] "=&r"(sum[0][1]), [s10] "=&r"(sum[1][0]), [s11] "=&r"(sum[1][1]),          \
              [even0] "=&r"(even0), [odd0] "=&r"(odd0), [even1] "=&r"(even1), [odd1] "=&r"(odd1), [even] "=&r"(even),  \
              [odd] "=&r"(odd)                                                                                         \
            : [x0] "r"(x0), [x1] "r"(x1), [w] "r"(w)                                                                   \
            : "memory")
#define TWO_FOURS FOUR("0", "8", "16") FOUR("8", "24", "32")
#define FOUR_FOURS TWO_FOURS FOUR("16", "40", "48") FOUR("24", "56", "64")
#define SIX_FOURS FOUR_FOURS FOUR("32", "72", "80") FOUR("40", "88", "96")

static INLINE void sums_of(int32_t sum[NR][NO], const four *x0, const four *x1, const four *w, int n_fours,
                           const int n_known)
{
    uint32_t even0, odd0, even1, odd1, even, odd;
    if (n_known == 2) SUM(TWO_FOURS);
    else if (n_known == 4) SUM(FOUR_FOURS);
    else if (n_known == 6) SUM(SIX_FOURS);
    else {
        sum[0][0] = sum[1][0] = (int32_t)w->even, sum[0][1] = sum[1][1] = (int32_t)w->odd;
        for (w++; n_fours > 0; n_fours--) add_four(sum, &x0, &x1, &w);
    }
}

static INLINE void put_biases(four *w, const int32_t *bias)
{
    w->even = (uint32_t)bias[0], w->odd = (uint32_t)bias[1];
}
#else
static INLINE void sums_of(int32_t sum[NR][NO], const four *x0, const four *x1, const four *w, int n_fours,
                           const int n_known)
{
    int32_t bias[NO];
    int k;
    memcpy(bias, w, sizeof bias);
    sum[0][0] = sum[1][0] = bias[0], sum[0][1] = sum[1][1] = bias[1], w++;
    if (n_known) {
        UNROLL for (k = 0; k < n_known; k++) add_four(sum, &x0, &x1, &w);
    } else
        for (k = n_fours; k > 0; k--) add_four(sum, &x0, &x1, &w);
}

static INLINE void put_biases(four *w, const int32_t *bias)
{
    memcpy(w, bias, NO * sizeof *bias);
}
#endif

#endif
