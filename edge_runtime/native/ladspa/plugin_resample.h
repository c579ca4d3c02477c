/* Between a host's sample rate and 16 kHz: one linear-phase filter, used in polyphase both ways.
 *
 * The rates share a grid: `n_up` of its steps are one host sample, `n_down` are one sample at 16 kHz (48 kHz: 1 and 3,
 * 44.1 kHz: 160 and 441). The filter lives on that grid and is PLUGIN_TAPS samples of 16 kHz long: flat to 7.6 kHz,
 * 80 dB down from 8.4 kHz on, so that what folds falls between 7.6 and 8 kHz only.
 */
#ifndef EDGE_DENOISE_PLUGIN_RESAMPLE_H
#define EDGE_DENOISE_PLUGIN_RESAMPLE_H

#include <stddef.h>

#define PLUGIN_TAPS 112 /* delay 56 samples of 16 kHz each way, 7 ms both ways */
#define PLUGIN_MAX_STEPS 441

/* The filter of one host rate; streams only read it. */
typedef struct {
    int n_up, n_down;
    int n_host_taps; /* of a row of `to_16k`; a multiple of 8, as PLUGIN_TAPS is of 4 */
    float *to_16k;   /* (n_up, n_host_taps): rows by how far the newest host sample is ahead, oldest tap first */
    float *to_host;  /* (n_down, PLUGIN_TAPS): rows by how far the newest 16 kHz sample lies back */
} plugin_filter;

/* 1 when done, 0 when there is no memory or no such common grid (rates under 16 kHz, odd rates). Allocates. */
int plugin_filter_make(plugin_filter *filter, unsigned long rate_hz);
void plugin_filter_free(plugin_filter *filter);

/* The last `n` samples, always in one piece: everything is written twice. `memory` holds 2 * n. */
typedef struct {
    float *memory;
    int n, at;
} plugin_history;

static inline void plugin_push(plugin_history *history, float sample)
{
    history->memory[history->at] = history->memory[history->at + history->n] = sample;
    if (++history->at == history->n) history->at = 0;
}

/* The sum of taps times the `n_taps` samples that end `back` samples before the newest. */
float plugin_convolve(const plugin_history *history, const float *taps, int n_taps, int back);

#endif
