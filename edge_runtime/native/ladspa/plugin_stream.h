/* One channel of a plugin: host samples in, host samples out, one for one, `plugin_latency` behind.
 *
 *     x -> limit -> hops at 16 kHz -> network -> the host's rate (ed_band.h) -> clean
 *          limit -> wait for the latency -------------------------------------> dry   out = (1 - wet) dry + wet clean
 */
#ifndef EDGE_DENOISE_PLUGIN_STREAM_H
#define EDGE_DENOISE_PLUGIN_STREAM_H

#include <stddef.h>

#include "ed_band.h"

/* Weights with the filters of the host's rate: shared by the channels of one instance. */
typedef struct {
    void *weights;
    size_t n_weight_bytes, n_state_bytes;
    void *rate;    /* NULL at 16 kHz */
    int n_latency; /* host samples */
    int n_ready;   /* host samples that can be denoised and not yet due; at 16 kHz none */
    int n_ramp;    /* host samples in a hop */
} plugin_model;

typedef struct {
    const plugin_model *model;
    void *state; /* of the engine */
    void *band;  /* NULL at 16 kHz */
    float *memory;
    float *dry; /* the last n_latency samples */
    int dry_at;
    float *ready; /* a queue: clean samples at the host's rate */
    int ready_at, n_ready;
    float full; /* how much of the full band the last hop ended with */
    float in[ED_HOP_SAMPLES], out[ED_HOP_SAMPLES];
    int hop_at;
} plugin_stream;

/* Take over `weights` (16-byte aligned, malloc'ed). 1, or 0 with the reason in `*why`; `weights` stay the caller's
 * then. Allocates. */
int plugin_model_make(plugin_model *model, void *weights, size_t n_weight_bytes, unsigned long rate_hz,
                      const char **why);
void plugin_model_free(plugin_model *model);

/* 1, or 0 when there is no memory. Allocates. */
int plugin_stream_make(plugin_stream *stream, const plugin_model *model);
void plugin_stream_free(plugin_stream *stream);

/* Back to silence. */
void plugin_stream_reset(plugin_stream *stream);

/* One sample in, one out; what is above 8 kHz comes with it or not, along a line from hop to hop. */
float plugin_stream_run(plugin_stream *stream, float sample, float wet, float full);

#endif
