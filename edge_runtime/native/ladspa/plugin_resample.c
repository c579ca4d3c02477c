/* The filter (a sinc under a Kaiser window: Oppenheim and Schafer, Discrete-Time Signal Processing, 7.5.3). */
#include <math.h>
#include <stdlib.h>

#include "edge_denoise.h"
#include "plugin_resample.h"

#define PI 3.14159265358979323846
#define KAISER_BETA 8.0 /* 81 dB */

/* The modified Bessel function of order 0, by its power series. */
static double bessel_i0(double x)
{
    double sum = 1, term = 1;
    int k;
    for (k = 1; term > 1e-17 * sum; k++) {
        term *= (x / (2 * k)) * (x / (2 * k));
        sum += term;
    }
    return sum;
}

/* Tap `k` of the filter on the grid, for a gain of 1 at 16 kHz; 0 outside of it, and at both its ends. */
static double tap_at(int k, int n_down)
{
    double half = PLUGIN_TAPS / 2.0, at = (double)k / n_down - half, x = at / half;
    if (k <= 0 || k >= PLUGIN_TAPS * n_down) return 0;
    return (at == 0 ? 1 : sin(PI * at) / (PI * at)) * bessel_i0(KAISER_BETA * sqrt(1 - x * x)) / bessel_i0(KAISER_BETA);
}

static int greatest_common_divisor(int a, int b)
{
    while (b != 0) {
        int rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

static void fill(plugin_filter *f)
{
    int row, j;
    for (row = 0; row < f->n_up; row++)
        for (j = 0; j < f->n_host_taps; j++)
            f->to_16k[row * f->n_host_taps + f->n_host_taps - 1 - j] =
                (float)(tap_at(j * f->n_up - row, f->n_down) * f->n_up / f->n_down);
    for (row = 0; row < f->n_down; row++)
        for (j = 0; j < PLUGIN_TAPS; j++)
            f->to_host[row * PLUGIN_TAPS + PLUGIN_TAPS - 1 - j] = (float)tap_at(row + j * f->n_down, f->n_down);
}

int plugin_filter_make(plugin_filter *f, unsigned long rate_hz)
{
    int divisor;
    f->to_16k = f->to_host = NULL;
    if (rate_hz < ED_SAMPLE_RATE_HZ || rate_hz > 1000000) return 0;
    divisor = greatest_common_divisor((int)rate_hz, ED_SAMPLE_RATE_HZ);
    f->n_up = ED_SAMPLE_RATE_HZ / divisor;
    f->n_down = (int)rate_hz / divisor;
    if (f->n_down > PLUGIN_MAX_STEPS) return 0;
    f->n_host_taps = (PLUGIN_TAPS * f->n_down / f->n_up + 2 + 7) / 8 * 8;
    if (f->n_down == 1) return 1;
    f->to_16k = malloc(sizeof(float) * (size_t)(f->n_up * f->n_host_taps));
    f->to_host = malloc(sizeof(float) * (size_t)(f->n_down * PLUGIN_TAPS));
    if (f->to_16k != NULL && f->to_host != NULL) {
        fill(f);
        return 1;
    }
    plugin_filter_free(f);
    return 0;
}

void plugin_filter_free(plugin_filter *f)
{
    free(f->to_16k);
    free(f->to_host);
    f->to_16k = f->to_host = NULL;
}

float plugin_convolve(const plugin_history *history, const float *taps, int n_taps, int back)
{
    float sum[4] = {0, 0, 0, 0}; /* a vector register: compilers may not reorder one sum themselves */
    int end = history->at - back + (history->at - back < n_taps ? history->n : 0), i, lane;
    const float *samples = history->memory + end - n_taps;
    for (i = 0; i < n_taps; i += 4)
        for (lane = 0; lane < 4; lane++) sum[lane] += taps[i + lane] * samples[i + lane];
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}
