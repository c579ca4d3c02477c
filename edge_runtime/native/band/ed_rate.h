/* Between a host's sample rate and 16 kHz: linear-phase filters, used in polyphase both ways.
 *
 * The rates share a grid: `n_up` of its steps are one host sample, `n_down` are one sample at 16 kHz (48 kHz: 1 and 3,
 * 44.1 kHz: 160 and 441). The filters live on that grid and are ED_RATE_TAPS samples of 16 kHz long, with a band of
 * 0.8 kHz between what passes and what is 80 dB down. Down to 16 kHz, and up again where nothing is above: around 8 kHz,
 * flat to 7.6, so that what folds falls between 7.6 and 8 kHz only. Up below a full band: around 7.2 kHz, where the
 * network is still itself and nothing has folded.
 */
#ifndef ED_RATE_H
#define ED_RATE_H

#include <stddef.h>

#define ED_RATE_TAPS 112 /* delay 56 samples of 16 kHz each way, 7 ms both ways */
#define ED_RATE_MAX_STEPS 441

/* The filters of one host rate, in memory of the caller; streams only read them. */
typedef struct {
    int n_up, n_down;
    int n_host_taps; /* of a row of `to_16k`; a multiple of 8, as ED_RATE_TAPS is */
    float *to_16k;   /* (n_up, n_host_taps): rows by how far the newest host sample is ahead, oldest tap first */
    float *to_host;  /* (n_down, ED_RATE_TAPS): rows by how far the newest 16 kHz sample lies back */
    float *to_host_below; /* the same for below a full band */
    int n_above_taps;     /* a multiple of 8 */
    float *above;         /* high-pass from 8.6 kHz at the host's rate, 1.3 ms long */
} ed_rate;

/* The sum of `taps` times as many samples, a multiple of 8. */
float ed_convolve(const float *samples, const float *taps, int n_taps);

/* The same of ED_RATE_TAPS. */
float ed_convolve_row(const float *samples, const float *taps);

#endif
