/* The coefficients of tanh, which every kernel set shares: Eigen's rational fit, at most 4e-7 off, 1 where it is
 * clamped; highest powers first. Names as in quant/int8/exact_float.py. */
#ifndef ED_CURVE_H
#define ED_CURVE_H

#define ED_TANH_END 7.90531110763549805f
static const float ed_tanh_p[7] = {-2.76076847742355e-16f, 2.00018790482477e-13f, -8.60467152213735e-11f,
                                   5.12229709037114e-08f,  1.48572235717979e-05f, 6.37261928875436e-04f,
                                   4.89352455891786e-03f};
static const float ed_tanh_q[4] = {1.19825839466702e-06f, 1.18534705686654e-04f, 2.26843463243900e-03f,
                                   4.89352518554385e-03f};

#endif
