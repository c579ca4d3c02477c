/* One channel of a plugin: host samples in, host samples out, one for one, `plugin_latency` behind.
 *
 *     x -> limit -> to 16 kHz -> hops -> network -> to the host's rate -> clean
 *          limit -> wait for the latency ------------------------------> dry        out = (1 - wet) dry + wet clean
 */
#ifndef EDGE_DENOISE_PLUGIN_STREAM_H
#define EDGE_DENOISE_PLUGIN_STREAM_H

#include <stddef.h>

#include "edge_denoise.h"
#include "plugin_resample.h"

/* Weights with their filter: shared by the channels of one instance. */
typedef struct {
    void *weights;
    size_t n_weight_bytes, n_state_bytes;
    plugin_filter filter;
    int n_latency; /* host samples */
    int n_late;    /* steps of the common grid that make the latency whole host samples */
    int n_ramp;    /* host samples in a hop */
} plugin_model;

typedef struct {
    const plugin_model *model;
    void *state; /* of the engine */
    float *memory;
    float *dry; /* the last n_latency samples */
    int dry_at;
    float in[ED_HOP_SAMPLES], out[ED_HOP_SAMPLES];
    int hop_at;
    plugin_history host, clean;
    int ahead;  /* grid steps from the next sample of 16 kHz to the newest host sample */
    int behind; /* grid steps from the newest clean sample in use to the sample that goes out */
    int unused; /* clean samples that are newer than the one in use */
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

/* One sample in, one out. */
float plugin_stream_run(plugin_stream *stream, float sample, float wet);

#endif
