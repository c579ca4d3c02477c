/* A host for the plugin linked into itself, to run it under sanitizers.
 *
 *     host SEED         random rates, blocks, controls and samples; "ok" when all that came out was finite
 *     host taps RATE    the filter's tables, a number a line
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plugin_ladspa.h"
#include "ed_band.h"
#include "ed_rate.h"

const ladspa_plugin *ladspa_descriptor(unsigned long index);

#define MAX_BLOCK 8192
#define MAX_PORTS 8

#ifdef WATCH_ALLOCATIONS /* linked with --wrap: run() may call none of these */
static int is_running;

#define WATCHED(result, name, parameters, arguments)                                                                   \
    result __real_##name parameters;                                                                                   \
    result __wrap_##name parameters                                                                                    \
    {                                                                                                                  \
        if (is_running) abort();                                                                                       \
        return __real_##name arguments;                                                                                \
    }
WATCHED(void *, malloc, (size_t n), (n))
WATCHED(void *, calloc, (size_t n, size_t size), (n, size))
WATCHED(void *, realloc, (void *memory, size_t n), (memory, n))
WATCHED(int, posix_memalign, (void **memory, size_t align, size_t n), (memory, align, n))
void __real_free(void *memory);
void __wrap_free(void *memory)
{
    if (is_running) abort();
    __real_free(memory);
}
#define RUN(plugin, handle, n) (is_running = 1, (plugin)->run(handle, n), is_running = 0)
#else
#define RUN(plugin, handle, n) (plugin)->run(handle, n)
#endif

static float random_sample(void)
{
    static const float special[] = {NAN, INFINITY, -INFINITY, 1e30f, -9, 1e-42f, 0, -0.0f, 1};
    int kind = rand() % 64;
    if (kind < (int)(sizeof special / sizeof *special)) return special[kind];
    return (float)(rand() % 20001 - 10000) * 1e-4f;
}

static size_t random_block(void)
{
    static const size_t sizes[] = {0, 1, 2, 3, 63, 64, 255, 256, 257, 480, 1024, 8191, MAX_BLOCK};
    return sizes[(size_t)rand() % (sizeof sizes / sizeof *sizes)];
}

/* Blocks of the exact size, so that a sample too many is seen; sometimes output on top of input. */
static int run_block(const ladspa_plugin *plugin, ladspa_handle handle, int n_channels)
{
    size_t n = random_block(), i;
    int in_place = rand() % 2, c, finite = 1;
    float *in[2], *out[2];
    for (c = 0; c < n_channels; c++) {
        in[c] = malloc(n * sizeof(float) + 1);
        out[c] = in_place ? in[c] : malloc(n * sizeof(float) + 1);
        for (i = 0; i < n; i++) in[c][i] = random_sample();
        plugin->connect_port(handle, (unsigned long)c, in[c]);
        plugin->connect_port(handle, (unsigned long)(n_channels + c), out[c]);
    }
    RUN(plugin, handle, n);
    for (c = 0; c < n_channels; c++) {
        for (i = 0; i < n; i++) finite = finite && isfinite(out[c][i]);
        if (!in_place) free(out[c]);
        free(in[c]);
    }
    return finite;
}

static int run_instance(const ladspa_plugin *plugin, unsigned long rate_hz)
{
    int n_channels = ((int)plugin->n_ports - 5) / 2, block, finite = 1, k;
    float controls[5] = {1, 100, 0, 0, 1};
    ladspa_handle handle = plugin->instantiate(plugin, rate_hz);
    if (handle == NULL) return 0;
    for (k = 0; k < 5; k++)
        if (rand() % 8) plugin->connect_port(handle, (unsigned long)(2 * n_channels + k), &controls[k]);
    plugin->connect_port(handle, 1000, NULL);
    for (block = 0; block < 12; block++) {
        if (rand() % 4 == 0) plugin->activate(handle);
        controls[0] = random_sample();
        controls[1] = 10 * random_sample();
        controls[2] = (float)(rand() % 2);
        controls[4] = (float)(rand() % 2);
        finite = run_block(plugin, handle, n_channels) && finite;
    }
    plugin->cleanup(handle);
    return finite;
}

static int print_taps(unsigned long rate_hz)
{
    ed_rate *f = ed_rate_size(rate_hz) == 0 ? NULL : malloc(ed_rate_size(rate_hz));
    int i;
    if (f == NULL) return 1;
    ed_rate_init(f, rate_hz);
    printf("%d\n", f->n_host_taps);
    for (i = 0; i < f->n_up * f->n_host_taps; i++) printf("%.9g\n", f->to_16k[i]);
    for (i = 0; i < f->n_down * ED_RATE_TAPS; i++) printf("%.9g\n", f->to_host[i]);
    for (i = 0; i < f->n_down * ED_RATE_TAPS; i++) printf("%.9g\n", f->to_host_below[i]);
    free(f);
    return 0;
}

int main(int argc, char **argv)
{
    static const unsigned long rates_hz[] = {16000, 22050, 24000, 32000, 44100, 48000, 88200, 96000, 192000};
    size_t r;
    if (argc == 3 && strcmp(argv[1], "taps") == 0) return print_taps(strtoul(argv[2], NULL, 10));
    srand(argc > 1 ? (unsigned)atoi(argv[1]) : 1);
    for (r = 0; r < sizeof rates_hz / sizeof *rates_hz; r++)
        if (!run_instance(ladspa_descriptor(r % 2), rates_hz[r])) {
            printf("not finite, or no instance, at %lu Hz\n", rates_hz[r]);
            return 1;
        }
    if (ladspa_descriptor(0)->instantiate(ladspa_descriptor(0), 8000) != NULL || ladspa_descriptor(2) != NULL) return 1;
    puts("ok");
    return 0;
}
