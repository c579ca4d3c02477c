/* What a microphone needs before it is heard: a high-pass against offset and rumble, and gain.
 *
 * Second-order Butterworth by the bilinear transform (Oppenheim and Schafer, 7.2), in double precision: 60 Hz at 192 kHz
 * lies close to the unit circle. The filter always runs; how much of it is heard moves along a line, as the gain does.
 * Beside it a low-pass an octave lower measures what there is to take off: a voice has next to nothing there.
 */
#ifndef ED_FRONT_H
#define ED_FRONT_H

#include "edge_denoise.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    double b, a1, a2; /* numerator b (1, -2, 1), or b (1, 2, 1) of a low-pass */
    double z1, z2;
} ed_biquad;

typedef struct {
    ed_biquad high, low;
} ed_front;

ED_API void ed_front_init(ed_front *front, double rate_hz, double cutoff_hz);

/* In place, along lines from and to so much of the filter and such a gain. Returns the energy of what passes the filter,
 * before the gain; `below` takes that of what lies an octave below. */
ED_API double ed_front_run(ed_front *front, float *samples, int n, const float lines[4], double *below);

#ifdef __cplusplus
}
#endif
#endif
