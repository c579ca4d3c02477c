/* Hops of the native engine with a mark after each, for icount.c to count.
 *
 *     hops WEIGHTS ISA SAMPLES [RATE_HZ]
 *
 * SAMPLES: float32, whole hops. At RATE_HZ above 16 kHz: as `live` has it in and out, high-pass and gain before, the full
 * band around, and a second clock followed. A mark costs instructions of its own: two in a row, at the very start, tell
 * how many.
 * Compiled with -DED_AFTER_STEP=count_mark, the engine sets one after each of its steps, too: analysis, operations.
 */
#include <string.h>

#include "counted.h"
#include "ed_band.h"
#include "ed_between.h"
#include "ed_front.h"

/* Hops at a host's rate; before and after them what live sound needs besides. */
static double through_band(void *state, float *samples, size_t n_samples, unsigned long rate_hz)
{
    void *rate = malloc(ed_rate_size(rate_hz)), *band;
    const ed_band_lines lines = {1, 1, 1, 1, 1, 1};
    const float highpass_and_gain[4] = {1, 1, 4, 4};
    float out[ED_HOP_SAMPLES], *joined, *played, *taps = calloc((ED_CLOCK_PHASES + 1) * ED_CLOCK_TAPS, sizeof *taps);
    ed_front front;
    double sum = 0, below;
    int n_most;
    ed_rate_init(rate, rate_hz);
    ed_front_init(&front, (double)rate_hz, 60);
    band = malloc(ed_band_size(rate));
    n_most = ed_band_most(rate);
    joined = calloc((size_t)n_most + ED_CLOCK_TAPS, sizeof *joined);
    played = malloc(sizeof *played * (size_t)n_most);
    ed_band_init(band, rate);
    count_mark();
    count_mark();
    while ((size_t)ed_band_wanted(band) <= n_samples) {
        const int n = ed_band_wanted(band);
        int n_joined;
        ed_front_run(&front, samples, n, highpass_and_gain, &below);
        ed_band_push(band, samples, n);
        samples += n;
        n_samples -= (size_t)n;
        ed_process(state, ed_band_hop(band), out);
        n_joined = ed_band_join(band, out, &lines, joined + ED_CLOCK_TAPS);
        ed_follow_clock(taps, joined, 0.5, 1.00002, played, n_joined);
        memmove(joined, joined + n_joined, sizeof *joined * ED_CLOCK_TAPS);
        count_mark();
        sum += played[0];
    }
    return sum;
}

int main(int argc, char **argv)
{
    size_t n_weights, n_sample_bytes, n_state, n_hops, k;
    void *weights, *state;
    float *samples, out[ED_HOP_SAMPLES], sum = 0;
    if (argc != 4 && argc != 5) return fputs("usage: hops WEIGHTS ISA SAMPLES [RATE_HZ]\n", stderr), 2;
    weights = whole_file(argv[1], &n_weights);
    samples = whole_file(argv[3], &n_sample_bytes);
    if (weights == NULL || samples == NULL) return fputs("hops: a file cannot be read\n", stderr), 1;
    if (ed_size(weights, n_weights, &n_state) != ED_OK) return fputs("hops: not weights\n", stderr), 1;
    state = aligned_alloc(64, (n_state + 63) / 64 * 64);
    if (ed_init_isa(state, n_state, weights, n_weights, argv[2]) != ED_OK) return fputs("hops: no such isa\n", stderr), 1;
    if (argc == 5) {
        printf("%g\n", through_band(state, samples, n_sample_bytes / sizeof *samples, strtoul(argv[4], NULL, 10)));
        return 0;
    }
    n_hops = n_sample_bytes / sizeof *samples / ED_HOP_SAMPLES;
    count_mark();
    count_mark();
    for (k = 0; k < n_hops; k++) {
        ed_process(state, samples + k * ED_HOP_SAMPLES, out);
        count_mark();
        sum += out[0];
    }
    printf("%zu hops, %g\n", n_hops, (double)sum);
    return 0;
}
