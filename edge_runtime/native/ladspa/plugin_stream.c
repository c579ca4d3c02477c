/* A channel, sample by sample: whatever blocks the host likes, the output is the same. */
#define _POSIX_C_SOURCE 200112L /* posix_memalign */
#include <stdlib.h>
#include <string.h>

#include "plugin_stream.h"

#define N_16K_LATENCY (ED_HOP_SAMPLES + ED_LATENCY_SAMPLES) /* a hop is collected, and comes out a hop late */

int plugin_model_make(plugin_model *m, void *weights, size_t n_weight_bytes, unsigned long rate_hz, const char **why)
{
    ed_status status = ed_size(weights, n_weight_bytes, &m->n_state_bytes);
    int n_steps;
    m->weights = weights;
    m->n_weight_bytes = n_weight_bytes;
    *why = ed_status_text(status);
    if (status != ED_OK) return 0;
    *why = "no memory, or a sample rate other than 16, 22.05, 24, 32, 44.1, 48, 88.2, 96, 176.4 or 192 kHz";
    if (!plugin_filter_make(&m->filter, rate_hz)) return 0;
    n_steps = (N_16K_LATENCY + (m->filter.n_down > 1 ? PLUGIN_TAPS : 0)) * m->filter.n_down;
    m->n_latency = (n_steps + m->filter.n_up - 1) / m->filter.n_up;
    m->n_late = m->n_latency * m->filter.n_up - n_steps;
    m->n_ramp = (ED_HOP_SAMPLES * m->filter.n_down + m->filter.n_up / 2) / m->filter.n_up;
    return 1;
}

void plugin_model_free(plugin_model *m)
{
    plugin_filter_free(&m->filter);
    free(m->weights);
    m->weights = NULL;
}

/* One more than the taps, to look one sample back. */
static size_t n_memory(const plugin_stream *s)
{
    return (size_t)s->model->n_latency + 2 * (size_t)(s->host.n + s->clean.n);
}

int plugin_stream_make(plugin_stream *s, const plugin_model *model)
{
    memset(s, 0, sizeof *s);
    s->model = model;
    s->host.n = model->filter.n_host_taps;
    s->clean.n = PLUGIN_TAPS + 1;
    s->memory = malloc(sizeof(float) * n_memory(s));
    if (posix_memalign(&s->state, 64, model->n_state_bytes) != 0) s->state = NULL;
    if (s->memory != NULL && s->state != NULL &&
        ed_init(s->state, model->n_state_bytes, model->weights, model->n_weight_bytes) == ED_OK) {
        s->dry = s->memory;
        s->host.memory = s->dry + model->n_latency;
        s->clean.memory = s->host.memory + 2 * s->host.n;
        plugin_stream_reset(s);
        return 1;
    }
    plugin_stream_free(s);
    return 0;
}

void plugin_stream_free(plugin_stream *s)
{
    free(s->memory);
    free(s->state);
    memset(s, 0, sizeof *s);
}

void plugin_stream_reset(plugin_stream *s)
{
    const plugin_model *m = s->model;
    ed_reset(s->state);
    memset(s->memory, 0, sizeof(float) * n_memory(s));
    memset(s->in, 0, sizeof s->in);
    memset(s->out, 0, sizeof s->out);
    s->dry_at = s->hop_at = s->host.at = s->clean.at = 0;
    s->ahead = -m->filter.n_up; /* each host sample first moves on by n_up */
    s->behind = -m->n_late - m->filter.n_up;
    s->unused = -1; /* the first clean sample is in use as soon as it is there */
    if (s->behind + m->filter.n_up < 0) {
        s->behind += m->filter.n_down;
        s->unused++;
    }
}

/* As the engine does, and before a filter would smear it: what is not finite becomes 0, the rest is limited. */
static float limited(float sample)
{
    if (!(sample - sample == 0)) return 0; /* infinities and NaN */
    if (sample > ED_INPUT_LIMIT) return ED_INPUT_LIMIT;
    return sample < -ED_INPUT_LIMIT ? -ED_INPUT_LIMIT : sample;
}

/* The sample that was there N_16K_LATENCY samples ago, denoised. */
static float denoised(plugin_stream *s, float sample)
{
    float clean = s->out[s->hop_at];
    s->in[s->hop_at] = sample;
    if (++s->hop_at == ED_HOP_SAMPLES) {
        ed_process(s->state, s->in, s->out);
        s->hop_at = 0;
    }
    return clean;
}

/* The same at the host's rate, through both filters. */
static float resampled(plugin_stream *s, float sample)
{
    const plugin_filter *f = &s->model->filter;
    plugin_push(&s->host, sample);
    s->ahead += f->n_up;
    if (s->ahead >= 0) {
        const float *taps = f->to_16k + s->ahead * f->n_host_taps;
        plugin_push(&s->clean, denoised(s, plugin_convolve(&s->host, taps, f->n_host_taps, 0)));
        s->ahead -= f->n_down;
        s->unused++;
    }
    s->behind += f->n_up;
    if (s->behind >= f->n_down) {
        s->behind -= f->n_down;
        s->unused--;
    }
    return plugin_convolve(&s->clean, f->to_host + s->behind * PLUGIN_TAPS, PLUGIN_TAPS, s->unused);
}

float plugin_stream_run(plugin_stream *s, float sample, float wet)
{
    float x = limited(sample), dry = s->dry[s->dry_at], clean;
    float audible = x < ED_INPUT_FLOOR && x > -ED_INPUT_FLOOR ? 0 : x; /* filters must not grow denormal */
    s->dry[s->dry_at] = x;
    if (++s->dry_at == s->model->n_latency) s->dry_at = 0;
    clean = s->model->filter.n_down == 1 ? denoised(s, audible) : resampled(s, audible);
    return (1 - wet) * dry + wet * clean;
}
