/* LADSPA plugins `edge_denoise` and `edge_denoise_stereo`. The weights lie beside the library, its suffix replaced by
 * ".native": another model is another copy of both. run() allocates nothing, locks nothing and does no input or output.
 */
#define _GNU_SOURCE /* dladdr */
#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plugin_ladspa.h"
#include "plugin_stream.h"

#define MAX_CHANNELS 2
#define MAX_WEIGHT_BYTES (16L << 20)
#define LIMIT_OFF_DB 100.0f

enum { STRENGTH, LIMIT_DB, BYPASS, LATENCY, FULL_BAND, N_CONTROLS }; /* after the audio inputs and the audio outputs */

typedef struct {
    plugin_model model;
    int n_channels;
    plugin_stream streams[MAX_CHANNELS];
    float *ports[2 * MAX_CHANNELS + N_CONTROLS];
    float wet, target, step, full;
    int n_ramp_left;
    int is_new; /* the first controls are taken without a ramp */
} instance;

static void say(const char *path, const char *what)
{
    fprintf(stderr, "edge_denoise: %s: %s\n", path, what);
}

/* Where the weights of this library lie: 1, or 0 when it is unknown. */
static int weights_path(char *path, size_t n_bytes)
{
    static const char suffix[] = ".native";
    Dl_info info;
    const char *dot, *slash;
    size_t n;
    if (dladdr((const void *)(size_t)&weights_path, &info) == 0 || info.dli_fname == NULL) return 0;
    dot = strrchr(info.dli_fname, '.');
    slash = strrchr(info.dli_fname, '/');
    n = dot != NULL && (slash == NULL || dot > slash) ? (size_t)(dot - info.dli_fname) : strlen(info.dli_fname);
    if (n + sizeof suffix > n_bytes) return 0;
    memcpy(path, info.dli_fname, n);
    memcpy(path + n, suffix, sizeof suffix);
    return 1;
}

/* The whole file in memory aligned for the engine, or NULL. */
static void *read_file(const char *path, size_t *n_bytes)
{
    FILE *file = fopen(path, "rb");
    void *data = NULL;
    long n;
    if (file == NULL) return NULL;
    if (fseek(file, 0, SEEK_END) == 0 && (n = ftell(file)) > 0 && n <= MAX_WEIGHT_BYTES &&
        fseek(file, 0, SEEK_SET) == 0 && posix_memalign(&data, 64, (size_t)n) == 0) {
        *n_bytes = (size_t)n;
        if (fread(data, 1, *n_bytes, file) != *n_bytes) {
            free(data);
            data = NULL;
        }
    }
    fclose(file);
    return data;
}

static int load(plugin_model *model, unsigned long rate_hz)
{
    char path[4096];
    size_t n_bytes = 0;
    void *weights = weights_path(path, sizeof path) ? read_file(path, &n_bytes) : NULL;
    const char *why = "cannot be read; `edge-denoise install --virtual-mic` puts it there";
    if (weights != NULL && plugin_model_make(model, weights, n_bytes, rate_hz, &why)) return 1;
    say(path, why);
    free(weights);
    return 0;
}

static void cleanup(ladspa_handle handle)
{
    instance *p = handle;
    int c;
    for (c = 0; c < p->n_channels; c++) plugin_stream_free(&p->streams[c]);
    plugin_model_free(&p->model);
    free(p);
}

static ladspa_handle instantiate(const ladspa_plugin *plugin, unsigned long rate_hz)
{
    instance *p = calloc(1, sizeof *p);
    if (p == NULL || !load(&p->model, rate_hz)) {
        free(p);
        return NULL;
    }
    p->is_new = 1;
    for (; p->n_channels < ((int)plugin->n_ports - N_CONTROLS) / 2; p->n_channels++)
        if (!plugin_stream_make(&p->streams[p->n_channels], &p->model)) {
            cleanup(p);
            return NULL;
        }
    return p;
}

static void connect_port(ladspa_handle handle, unsigned long port, float *memory)
{
    instance *p = handle;
    if (port < (unsigned long)(2 * p->n_channels + N_CONTROLS)) p->ports[port] = memory;
}

static void activate(ladspa_handle handle)
{
    instance *p = handle;
    int c;
    for (c = 0; c < p->n_channels; c++) plugin_stream_reset(&p->streams[c]);
    p->is_new = 1;
}

/* A control within its bounds; what is not connected or not a number is `otherwise`. */
static float control(const instance *p, int which, float upper, float otherwise)
{
    const float *port = p->ports[2 * p->n_channels + which];
    float value = port == NULL ? otherwise : *port;
    if (!(value == value)) return otherwise;
    return value < 0 ? 0 : value > upper ? upper : value;
}

/* How much of the denoised sound the controls ask for; the same formula as `edge-denoise live`. */
static float wet_of(const instance *p)
{
    float strength = control(p, STRENGTH, 1, 1), limit_db = control(p, LIMIT_DB, LIMIT_OFF_DB, LIMIT_OFF_DB);
    if (control(p, BYPASS, 1, 0) > 0) return 0;
    return limit_db >= LIMIT_OFF_DB ? strength : strength * (1 - powf(10, -limit_db / 20));
}

static void take_controls(instance *p)
{
    float target = wet_of(p);
    int c;
    p->full = control(p, FULL_BAND, 1, 1) > 0 ? 1.0f : 0.0f;
    if (p->ports[2 * p->n_channels + LATENCY] != NULL)
        *p->ports[2 * p->n_channels + LATENCY] = (float)p->model.n_latency;
    if (p->is_new) {
        p->wet = p->target = target;
        p->n_ramp_left = p->is_new = 0;
        for (c = 0; c < p->n_channels; c++) p->streams[c].full = p->full;
    } else if (target != p->target) {
        p->target = target;
        p->n_ramp_left = p->model.n_ramp;
        p->step = (target - p->wet) / (float)p->n_ramp_left;
    }
}

static void advance_ramp(instance *p)
{
    if (p->n_ramp_left == 0) return;
    p->n_ramp_left--;
    p->wet = p->n_ramp_left == 0 ? p->target : p->wet + p->step;
}

/* All inputs are read before an output is written: hosts may pass the same memory. */
static void run(ladspa_handle handle, unsigned long n_samples)
{
    instance *p = handle;
    unsigned long i;
    int c;
    take_controls(p);
    for (i = 0; i < n_samples; i++) {
        float in[MAX_CHANNELS];
        advance_ramp(p);
        for (c = 0; c < p->n_channels; c++) in[c] = p->ports[c][i];
        for (c = 0; c < p->n_channels; c++)
            p->ports[p->n_channels + c][i] = plugin_stream_run(&p->streams[c], in[c], p->wet, p->full);
    }
}

#define AUDIO_IN (LADSPA_INPUT | LADSPA_AUDIO)
#define AUDIO_OUT (LADSPA_OUTPUT | LADSPA_AUDIO)
#define CONTROL_IN (LADSPA_INPUT | LADSPA_CONTROL)
#define BOUNDED (LADSPA_BOUNDED_BELOW | LADSPA_BOUNDED_ABOVE)
#define CONTROL_KINDS CONTROL_IN, CONTROL_IN, CONTROL_IN, LADSPA_OUTPUT | LADSPA_CONTROL, CONTROL_IN
#define CONTROL_NAMES "Strength", "Limit (dB)", "Bypass", "latency", "Full band"
#define CONTROL_RANGES                                                                                                 \
    {BOUNDED | LADSPA_DEFAULT_1, 0, 1}, {BOUNDED | LADSPA_DEFAULT_MAXIMUM, 0, LIMIT_OFF_DB},                           \
        {LADSPA_TOGGLED | LADSPA_DEFAULT_0, 0, 0}, {LADSPA_INTEGER | LADSPA_DEFAULT_0, 0, 0},                          \
        {LADSPA_TOGGLED | LADSPA_DEFAULT_1, 0, 0}
#define AUDIO_RANGE {0, 0, 0}

static const int mono_kinds[] = {AUDIO_IN, AUDIO_OUT, CONTROL_KINDS};
static const char *const mono_names[] = {"Input", "Output", CONTROL_NAMES};
static const ladspa_range mono_ranges[] = {AUDIO_RANGE, AUDIO_RANGE, CONTROL_RANGES};
static const int stereo_kinds[] = {AUDIO_IN, AUDIO_IN, AUDIO_OUT, AUDIO_OUT, CONTROL_KINDS};
static const char *const stereo_names[] = {"Input left", "Input right", "Output left", "Output right", CONTROL_NAMES};
static const ladspa_range stereo_ranges[] = {AUDIO_RANGE, AUDIO_RANGE, AUDIO_RANGE, AUDIO_RANGE, CONTROL_RANGES};

#define PLUGIN(id, label, name, n_channels, kinds, names, ranges)                                                      \
    {                                                                                                                  \
        id, label, LADSPA_HARD_RT_CAPABLE, name, "edge-denoise", "MIT", 2 * (n_channels) + N_CONTROLS, kinds, names,   \
            ranges, NULL, instantiate, connect_port, activate, run, NULL, NULL, NULL, cleanup                          \
    }

static const ladspa_plugin plugins[] = {
    PLUGIN(17732, "edge_denoise", "Speech denoiser", 1, mono_kinds, mono_names, mono_ranges),
    PLUGIN(17733, "edge_denoise_stereo", "Speech denoiser, stereo", 2, stereo_kinds, stereo_names, stereo_ranges),
};

ED_API const ladspa_plugin *ladspa_descriptor(unsigned long index);

ED_API const ladspa_plugin *ladspa_descriptor(unsigned long index)
{
    return index < sizeof plugins / sizeof *plugins ? &plugins[index] : NULL;
}
