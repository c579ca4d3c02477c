/* The coefficients of curves, which every kernel set shares; highest powers first. Names as in quant/int8/exact_float.py.
 * tanh: Eigen's rational fit, at most 4e-7 off, 1 where it is clamped. */
#ifndef ED_CURVE_H
#define ED_CURVE_H

#define ED_TANH_END 7.90531110763549805f
static const float ed_tanh_p[7] = {-2.76076847742355e-16f, 2.00018790482477e-13f, -8.60467152213735e-11f,
                                   5.12229709037114e-08f,  1.48572235717979e-05f, 6.37261928875436e-04f,
                                   4.89352455891786e-03f};
static const float ed_tanh_q[4] = {1.19825839466702e-06f, 1.18534705686654e-04f, 2.26843463243900e-03f,
                                   4.89352518554385e-03f};

/* tanh for gates whose products are of 8 bits: x P(x^2) / Q(x^2), at most 1.2e-4 off and nowhere beyond 1. The leading
 * coefficient of Q is 1. */
#define ED_QUICK_END 5.25f
static const float ed_quick_p[3] = {0.05091181397438049f, 8.140962600708008f, 80.68488311767578f};
static const float ed_quick_q[2] = {34.988651275634766f, 80.70943450927734f};

/* tanh(x / 2) / 2 of the same curve as x P(x^2) / Q(x^2): products of powers of two, so every step is one of it, and a
 * sigmoid is that and a half. */
#define ED_HALF_END (2 * ED_QUICK_END)
#define ED_HALF_P(i) (ed_quick_p[i] * ((i) == 0 ? 0.25f : (i) == 1 ? 1.0f : 4.0f))
#define ED_HALF_Q(i) (ed_quick_q[i] * ((i) == 0 ? 4.0f : 16.0f))

/* log(1 + f) = f - f^2 / 2 + f^3 P(f), 1 + f between the roots of a half and of 2. Source: Cephes, logf.c. */
static const float ed_log_p[9] = {7.0376836292e-2f, -1.1514610310e-1f, 1.1676998740e-1f,  -1.2420140846e-1f,
                                  1.4249322787e-1f, -1.6668057665e-1f, 2.0000714765e-1f,  -2.4999993993e-1f,
                                  3.3333331174e-1f};
#define ED_LOG10_E 0.4342944920063019f
#define ED_LOG10_2 0.3010300099849701f
#define ED_LEAST_POWER 1e-24f
#define ED_LEAST_POWER_OF(op) ((op)->f0 > ED_LEAST_POWER ? (op)->f0 : ED_LEAST_POWER)
#define ED_MOST_POWER 3.402823466e38f
#define ED_SQRT_HALF_BITS 0x3f3504f3 /* of the float next to the root of a half */

#endif
