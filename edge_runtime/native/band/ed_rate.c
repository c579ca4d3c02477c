/* The filters (a sinc under a Kaiser window: Oppenheim and Schafer, Discrete-Time Signal Processing, 7.5.3). */
#include "ed_rate.h"

#include <math.h>

#include "ed_band.h"
#include "edge_denoise.h"

#define PI 3.14159265358979323846
#define KAISER_BETA 8.0 /* 81 dB */
#define BELOW_FULL 0.9  /* of 8 kHz */
#define ABOVE_HZ 8600.0 /* 60 dB down 1.5 kHz below */
#define ABOVE_BETA 5.65
#define N_ABOVE_TAPS_A_KHZ 4 / 3

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

/* Tap `k` of the filter on the grid, for a gain of 1 at 16 kHz, up to `cutoff` of 8 kHz; 0 outside of it, and at both
 * its ends. */
static double tap_at(int k, int n_down, double cutoff)
{
    double half = ED_RATE_TAPS / 2.0, at = (double)k / n_down - half, x = at / half, phase = PI * cutoff * at;
    if (k <= 0 || k >= ED_RATE_TAPS * n_down) return 0;
    return (at == 0 ? cutoff : cutoff * sin(phase) / phase) * bessel_i0(KAISER_BETA * sqrt(1 - x * x)) /
           bessel_i0(KAISER_BETA);
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

/* All but the taps: 1, or 0 without a common grid. */
static int set_grid(ed_rate *f, unsigned long rate_hz)
{
    int divisor;
    if (rate_hz <= ED_SAMPLE_RATE_HZ || rate_hz > 1000000) return 0;
    divisor = greatest_common_divisor((int)rate_hz, ED_SAMPLE_RATE_HZ);
    f->n_up = ED_SAMPLE_RATE_HZ / divisor;
    f->n_down = (int)rate_hz / divisor;
    f->n_host_taps = (ED_RATE_TAPS * f->n_down / f->n_up + 2 + 7) / 8 * 8;
    f->n_above_taps = (int)(rate_hz / 1000 * N_ABOVE_TAPS_A_KHZ + 7) / 8 * 8;
    return f->n_down <= ED_RATE_MAX_STEPS;
}

size_t ed_rate_size(unsigned long rate_hz)
{
    ed_rate f;
    if (!set_grid(&f, rate_hz)) return 0;
    return sizeof f + sizeof(float) * (size_t)(f.n_up * f.n_host_taps + 2 * f.n_down * ED_RATE_TAPS + f.n_above_taps);
}

static void fill_to_host(float *taps, int n_down, double cutoff)
{
    int row, j;
    for (row = 0; row < n_down; row++)
        for (j = 0; j < ED_RATE_TAPS; j++)
            taps[row * ED_RATE_TAPS + ED_RATE_TAPS - 1 - j] = (float)tap_at(row + j * n_down, n_down, cutoff);
}

/* What a low-pass leaves; an odd number of taps, behind one that is 0. */
static void fill_above(float *taps, int n, double rate_hz)
{
    int k;
    taps[0] = 0;
    for (k = 1; k < n; k++) {
        const double at = k - n / 2, x = at / (n / 2), cutoff = 2 * ABOVE_HZ / rate_hz, phase = PI * cutoff * at;
        const double window = bessel_i0(ABOVE_BETA * sqrt(1 - x * x)) / bessel_i0(ABOVE_BETA);
        taps[k] = (float)((at == 0 ? 1 - cutoff : -cutoff * sin(phase) / phase) * window);
    }
}

void ed_rate_init(void *rate, unsigned long rate_hz)
{
    ed_rate *f = rate;
    int row, j;
    set_grid(f, rate_hz);
    f->to_16k = (float *)(void *)(f + 1);
    f->to_host = f->to_16k + f->n_up * f->n_host_taps;
    f->to_host_below = f->to_host + f->n_down * ED_RATE_TAPS;
    for (row = 0; row < f->n_up; row++)
        for (j = 0; j < f->n_host_taps; j++)
            f->to_16k[row * f->n_host_taps + f->n_host_taps - 1 - j] =
                (float)(tap_at(j * f->n_up - row, f->n_down, 1) * f->n_up / f->n_down);
    fill_to_host(f->to_host, f->n_down, 1);
    fill_to_host(f->to_host_below, f->n_down, BELOW_FULL);
    f->above = f->to_host_below + f->n_down * ED_RATE_TAPS;
    fill_above(f->above, f->n_above_taps, (double)rate_hz);
}

/* Inlined where `n_taps` is known, so that no sum need be in memory; the same sums in the same order either way. */
static inline float convolved(const float *samples, const float *taps, int n_taps)
{
    float sum[8] = {0}; /* two vector registers: compilers may not reorder one sum themselves */
    int i, lane;
    for (i = 0; i < n_taps; i += 8)
        for (lane = 0; lane < 8; lane++) sum[lane] += taps[i + lane] * samples[i + lane];
    for (lane = 0; lane < 4; lane++) sum[lane] += sum[lane + 4];
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

float ed_convolve(const float *samples, const float *taps, int n_taps)
{
    return convolved(samples, taps, n_taps);
}

float ed_convolve_row(const float *samples, const float *taps)
{
    return convolved(samples, taps, ED_RATE_TAPS);
}
