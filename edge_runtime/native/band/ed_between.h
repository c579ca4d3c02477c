/* Sound between samples: each sample out is a window of samples in, weighed by a row of taps; a row is a phase of a
 * windowed sinc (Crochiere and Rabiner, Multirate Digital Signal Processing, 2.3), oldest tap first. The caller owns
 * samples and taps, and sees to it that every window lies in them.
 */
#ifndef ED_BETWEEN_H
#define ED_BETWEEN_H

#include "edge_denoise.h"

#ifdef __cplusplus
extern "C" {
#endif

#define ED_CLOCK_TAPS 32
#define ED_CLOCK_PHASES 512

/* Two clocks: sample k lies `at` + k `step` samples on, anywhere, and is weighed on a straight line between the phases
 * beside it. `taps` is (ED_CLOCK_PHASES + 1, ED_CLOCK_TAPS): the last row is the first of the next sample. */
ED_API void ed_follow_clock(const float *taps, const float *samples, double at, double step, float *out, int n);

typedef struct {
    const float *taps; /* (n_up, n_taps) */
    int n_taps, n_up, n_down;
} ed_phases;

/* Two fixed rates, n_up samples out for n_down in: sample k lies (`at` + k n_down) / n_up samples on, exactly. */
ED_API void ed_convert_rate(const ed_phases *phases, const float *samples, int at, float *out, int n);

/* Within. */
float ed_between_rows(const float *samples, const float *taps, float along);

#ifdef __cplusplus
}
#endif
#endif
