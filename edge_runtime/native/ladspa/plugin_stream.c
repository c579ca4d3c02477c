/* A channel, sample by sample: whatever blocks the host likes, the output is the same. */
#define _POSIX_C_SOURCE 200112L /* posix_memalign */
#include <stdlib.h>
#include <string.h>

#include "plugin_stream.h"

#define N_16K_LATENCY (ED_HOP_SAMPLES + ED_LATENCY_SAMPLES) /* a hop is collected, and comes out a hop late */

static int set_rate(plugin_model *m, unsigned long rate_hz)
{
    const size_t n_bytes = ed_rate_size(rate_hz);
    m->rate = NULL;
    m->n_latency = N_16K_LATENCY;
    m->n_ready = 0;
    m->n_ramp = ED_HOP_SAMPLES;
    if (rate_hz == ED_SAMPLE_RATE_HZ) return 1;
    if (n_bytes == 0 || (m->rate = malloc(n_bytes)) == NULL) return 0;
    ed_rate_init(m->rate, rate_hz);
    m->n_latency = ed_band_even_latency(m->rate);
    m->n_ready = m->n_latency - ed_band_latency(m->rate);
    m->n_ramp = (int)((ED_HOP_SAMPLES * rate_hz + ED_SAMPLE_RATE_HZ / 2) / ED_SAMPLE_RATE_HZ);
    return 1;
}

int plugin_model_make(plugin_model *m, void *weights, size_t n_weight_bytes, unsigned long rate_hz, const char **why)
{
    ed_status status = ed_size(weights, n_weight_bytes, &m->n_state_bytes);
    m->weights = weights;
    m->n_weight_bytes = n_weight_bytes;
    *why = ed_status_text(status);
    if (status != ED_OK) return 0;
    *why = "no memory, or a sample rate other than 16, 22.05, 24, 32, 44.1, 48, 88.2, 96, 176.4 or 192 kHz";
    return set_rate(m, rate_hz);
}

void plugin_model_free(plugin_model *m)
{
    free(m->rate);
    free(m->weights);
    m->rate = m->weights = NULL;
}

/* The queue holds what is not due, and a hop. */
static size_t n_queue(const plugin_model *m)
{
    return m->rate == NULL ? 0 : (size_t)(m->n_ready + ed_band_most(m->rate));
}

static int make_band(plugin_stream *s)
{
    const plugin_model *m = s->model;
    if (m->rate == NULL) return 1;
    s->band = malloc(ed_band_size(m->rate));
    if (s->band == NULL) return 0;
    ed_band_init(s->band, m->rate);
    return 1;
}

int plugin_stream_make(plugin_stream *s, const plugin_model *model)
{
    memset(s, 0, sizeof *s);
    s->model = model;
    s->memory = malloc(sizeof(float) * ((size_t)model->n_latency + n_queue(model)));
    if (posix_memalign(&s->state, 64, model->n_state_bytes) != 0) s->state = NULL;
    if (s->memory != NULL && s->state != NULL && make_band(s) &&
        ed_init(s->state, model->n_state_bytes, model->weights, model->n_weight_bytes) == ED_OK) {
        s->dry = s->memory;
        s->ready = s->dry + model->n_latency;
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
    free(s->band);
    memset(s, 0, sizeof *s);
}

void plugin_stream_reset(plugin_stream *s)
{
    const plugin_model *m = s->model;
    ed_reset(s->state);
    if (s->band != NULL) ed_band_reset(s->band);
    memset(s->memory, 0, sizeof(float) * ((size_t)m->n_latency + n_queue(m)));
    memset(s->in, 0, sizeof s->in);
    memset(s->out, 0, sizeof s->out);
    s->dry_at = s->hop_at = s->ready_at = 0;
    s->n_ready = m->n_ready;
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

/* The queue is a line that is moved back to its start when a hop comes: once in 16 ms. */
static void denoise_hop(plugin_stream *s, float full)
{
    ed_band_lines lines = {0, 0, 1, 1, 1, 1};
    lines.full_from = s->full;
    lines.full_to = s->full = full;
    ed_process(s->state, ed_band_hop(s->band), s->out);
    memmove(s->ready, s->ready + s->ready_at, sizeof(float) * (size_t)s->n_ready);
    s->ready_at = 0;
    s->n_ready += ed_band_join(s->band, s->out, &lines, s->ready + s->n_ready);
}

/* The same at the host's rate. */
static float resampled(plugin_stream *s, float sample, float full)
{
    ed_band_push(s->band, &sample, 1);
    if (ed_band_is_whole(s->band)) denoise_hop(s, full);
    s->n_ready--;
    return s->ready[s->ready_at++];
}

float plugin_stream_run(plugin_stream *s, float sample, float wet, float full)
{
    float x = limited(sample), dry = s->dry[s->dry_at], clean;
    s->dry[s->dry_at] = x;
    if (++s->dry_at == s->model->n_latency) s->dry_at = 0;
    clean = s->band == NULL ? denoised(s, x) : resampled(s, x, full);
    return (1 - wet) * dry + wet * clean;
}
