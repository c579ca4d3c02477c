/* The full band; see ed_band.h. Times are counted in steps of the rates' common grid (ed_rate.h). */
#include "ed_band.h"

#include <math.h>
#include <string.h>

#include "ed_above.h"
#include "ed_rate.h"

#define N_HALF (ED_RATE_TAPS / 2)
#define N_LATE (ED_LATENCY_SAMPLES + ED_RATE_TAPS) /* samples of 16 kHz from what is pushed to what is written */
#define N_BLOCK 64                                 /* for one gain: 4 ms */
#define N_GAINS (ED_HOP_SAMPLES + N_HALF + 1)
#define N_TOP_TAPS 21
#define SMOOTHING 0.5f /* of the energies, from block to block: 3 dB in 4 ms, as fast as a sibilant ends */

typedef struct {
    const ed_rate *rate;
    float *host; /* the last n_host samples, twice: always in one piece */
    int n_host, host_at;
    int ahead;  /* grid steps from the next sample of 16 kHz to the newest host sample */
    int behind; /* grid steps from the next sample of 16 kHz to the next host sample written; below 0 it is ready */
    int n_unwritten; /* host samples that wait, the silence before the first among them */
    float hop[ED_HOP_SAMPLES], noisy[ED_HOP_SAMPLES]; /* noisy is the hop before */
    float above[ED_HOP_SAMPLES]; /* what lies above at the samples of `hop`: energies do not mind that it folds */
    int n_hop;
    float clean[2 * ED_RATE_TAPS], rest[2 * ED_RATE_TAPS]; /* 16 kHz, twice: to come out without, with a full band */
    int clean_at;
    float gains[N_GAINS]; /* for each sample of 16 kHz, from N_HALF before the hop on */
    float gain, passed, noisy_energy, clean_energy; /* gain is the network's, passed what is made of it */
    ed_above judged;
    float noisy_top[N_TOP_TAPS - 1 + ED_HOP_SAMPLES], clean_top[N_TOP_TAPS - 1 + ED_HOP_SAMPLES];
} ed_band;

/* High-pass of 16 kHz: -25 dB at 5.5 kHz, -5 at 6.5, 0 from 7 on; the first half and the middle of its taps. */
static const float top_taps[N_TOP_TAPS / 2 + 1] = {
    0, 0.0021222711f, -0.006325354f, 0.01161181f, -0.012354657f, 0,
    0.031774498f, -0.081435908f, 0.13749378f, -0.18212549f, 0.19916883f};

static int n_host_of(const ed_rate *rate)
{
    return (N_LATE + 2 * ED_HOP_SAMPLES) * rate->n_down / rate->n_up + 2;
}

int ed_band_latency(const void *rate)
{
    const ed_rate *f = rate;
    return N_LATE * f->n_down / f->n_up;
}

int ed_band_even_latency(const void *rate)
{
    const ed_rate *f = rate;
    return ((N_LATE + ED_HOP_SAMPLES) * f->n_down + f->n_up - 1) / f->n_up;
}

int ed_band_most(const void *rate)
{
    const ed_rate *f = rate;
    return ED_HOP_SAMPLES * f->n_down / f->n_up + 1;
}

size_t ed_band_size(const void *rate)
{
    return sizeof(ed_band) + 2 * sizeof(float) * (size_t)n_host_of(rate);
}

void ed_band_init(void *band, const void *rate)
{
    ed_band *b = band;
    b->rate = rate;
    b->n_host = n_host_of(rate);
    b->host = (float *)(void *)(b + 1);
    ed_band_reset(band);
}

void ed_band_reset(void *band)
{
    ed_band *b = band;
    const ed_rate *f = b->rate;
    float *host = b->host;
    int n_host = b->n_host, i;
    memset(b, 0, ed_band_size(f));
    b->rate = f;
    b->host = host;
    b->n_host = n_host;
    b->ahead = -f->n_up; /* each host sample first moves on by n_up */
    b->n_unwritten = ed_band_latency(f); /* silence */
    b->behind = (N_LATE - 1) * f->n_down - b->n_unwritten * f->n_up;
    for (i = 0; i < N_GAINS; i++) b->gains[i] = 1;
    b->gain = b->passed = 1;
}

int ed_band_wanted(const void *band)
{
    const ed_band *b = band;
    int n_steps = (ED_HOP_SAMPLES - 1 - b->n_hop) * b->rate->n_down - b->ahead;
    return b->n_hop == ED_HOP_SAMPLES ? 0 : (n_steps + b->rate->n_up - 1) / b->rate->n_up;
}

/* As the engine does, and before a filter would smear it: what is not finite becomes 0, the rest is limited. Filters
 * must not grow denormal. */
static float limited(float sample)
{
    if (!(sample - sample == 0)) return 0; /* infinities and NaN */
    if (sample > ED_INPUT_LIMIT) return ED_INPUT_LIMIT;
    if (sample < -ED_INPUT_LIMIT) return -ED_INPUT_LIMIT;
    return sample < ED_INPUT_FLOOR && sample > -ED_INPUT_FLOOR ? 0 : sample;
}

int ed_band_push(void *band, const float *host, int n)
{
    ed_band *b = band;
    const ed_rate *f = b->rate;
    int i;
    for (i = 0; i < n && b->n_hop < ED_HOP_SAMPLES; i++) {
        b->host[b->host_at] = b->host[b->host_at + b->n_host] = limited(host[i]);
        if (++b->host_at == b->n_host) b->host_at = 0;
        b->n_unwritten++;
        b->ahead += f->n_up;
        if (b->ahead >= 0) {
            const float *newest = b->host + b->host_at + b->n_host;
            b->above[b->n_hop] =
                ed_convolve(newest - (f->n_host_taps + f->n_above_taps) / 2, f->above, f->n_above_taps);
            b->hop[b->n_hop++] =
                ed_convolve(newest - f->n_host_taps, f->to_16k + b->ahead * f->n_host_taps, f->n_host_taps);
            b->ahead -= f->n_down;
        }
    }
    return i;
}

const float *ed_band_hop(const void *band)
{
    const ed_band *b = band;
    return b->hop;
}

int ed_band_is_whole(const void *band)
{
    const ed_band *b = band;
    return b->n_hop == ED_HOP_SAMPLES;
}

/* Of a block. */
static float energy_of(const float *samples)
{
    float sum[4] = {0, 0, 0, 0};
    int i, lane;
    for (i = 0; i < N_BLOCK; i += 4)
        for (lane = 0; lane < 4; lane++) sum[lane] += samples[i + lane] * samples[i + lane];
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

/* Energy of the highest band in a block that ends with `top`'s samples [N_TOP_TAPS - 1 + begin, ...). */
static float top_energy(const float *top, int begin)
{
    float filtered[N_BLOCK] = {0};
    int t, i;
    for (t = 0; t < N_TOP_TAPS; t++) {
        const float tap = top_taps[t <= N_TOP_TAPS / 2 ? t : N_TOP_TAPS - 1 - t], *x = top + begin + t;
        for (i = 0; i < N_BLOCK; i++) filtered[i] += tap * x[i];
    }
    return energy_of(filtered);
}

static void append_top(float *top, const float *hop)
{
    memmove(top, top + ED_HOP_SAMPLES, (N_TOP_TAPS - 1) * sizeof *top);
    memcpy(top + N_TOP_TAPS - 1, hop, ED_HOP_SAMPLES * sizeof *top);
}

/* The gain along the hop: in every block a straight line to what was made of the network's
 * gain and of what lies above, which is known a hop ahead. */
static void measure_gains(ed_band *b, const float *clean)
{
    float *gains = b->gains + N_HALF + 1;
    int begin, i;
    append_top(b->noisy_top, b->noisy);
    append_top(b->clean_top, clean);
    memmove(b->gains, b->gains + ED_HOP_SAMPLES, (N_HALF + 1) * sizeof *gains);
    for (begin = 0; begin < ED_HOP_SAMPLES; begin += N_BLOCK) {
        float from = b->passed, step;
        b->noisy_energy = SMOOTHING * b->noisy_energy + top_energy(b->noisy_top, begin);
        b->clean_energy = SMOOTHING * b->clean_energy + top_energy(b->clean_top, begin);
        if (b->noisy_energy > ED_INPUT_FLOOR * ED_INPUT_FLOOR) {
            float ratio = b->clean_energy / b->noisy_energy;
            b->gain = ratio < 1 ? sqrtf(ratio) : 1;
        }
        b->passed = ed_above_gain(&b->judged, energy_of(b->above + begin), b->gain);
        step = (b->passed - from) / N_BLOCK;
        for (i = 0; i < N_BLOCK; i++) gains[begin + i] = from + step * (float)(i + 1);
        gains[begin + N_BLOCK - 1] = b->passed;
    }
}

/* A straight line along the hop's output, to be walked. */
typedef struct {
    float value, step, to;
} line;

static line line_of(float from, float to, int n)
{
    line l;
    l.value = from;
    l.step = (to - from) / (float)n;
    l.to = to;
    return l;
}

/* The next value; exactly `to` from the last sample on. */
static float walk(line *l, int is_last)
{
    return l->value = is_last ? l->to : l->value + l->step;
}

/* One host sample that lies `row` grid steps after the sample of 16 kHz that `gains` begin with. */
static float joined(const ed_band *b, const float *gains, int row, float full, float host)
{
    const ed_rate *f = b->rate;
    float with = 0, without = 0;
    if (full < 1) without = ed_convolve_row(b->clean + b->clean_at, f->to_host + row * ED_RATE_TAPS);
    if (full <= 0) return without;
    with = (gains[0] + (gains[1] - gains[0]) * ((float)row / (float)f->n_down)) * host;
    with += ed_convolve_row(b->rest + b->clean_at, f->to_host_below + row * ED_RATE_TAPS);
    return full >= 1 ? with : full * with + (1 - full) * without;
}

static float next_host(ed_band *b)
{
    int at = b->host_at - b->n_unwritten--;
    return b->host[at < 0 ? at + b->n_host : at];
}

static void push_16k(ed_band *b, float clean, float rest)
{
    b->clean[b->clean_at] = b->clean[b->clean_at + ED_RATE_TAPS] = clean;
    b->rest[b->clean_at] = b->rest[b->clean_at + ED_RATE_TAPS] = rest;
    if (++b->clean_at == ED_RATE_TAPS) b->clean_at = 0;
}

int ed_band_join(void *band, const float clean[ED_HOP_SAMPLES], const ed_band_lines *lines, float *out)
{
    ed_band *b = band;
    const int n_line = ED_HOP_SAMPLES * b->rate->n_down / b->rate->n_up;
    line full = line_of(lines->full_from, lines->full_to, n_line), wet = line_of(lines->wet_from, lines->wet_to, n_line),
         gate = line_of(lines->gate_from, lines->gate_to, n_line);
    int n = 0, m;
    measure_gains(b, clean);
    for (m = 0; m < ED_HOP_SAMPLES; m++) {
        push_16k(b, clean[m], clean[m] - b->gains[N_HALF + 1 + m] * b->noisy[m]);
        for (; b->behind < 0; b->behind += b->rate->n_up) {
            const int is_last = ++n >= n_line;
            const float host = next_host(b), share = walk(&full, is_last), w = walk(&wet, is_last);
            const float heard = joined(b, b->gains + 1 + m, b->behind + b->rate->n_down, share, host);
            out[n - 1] = ((1 - w) * host + w * heard) * walk(&gate, is_last);
        }
        b->behind -= b->rate->n_down;
    }
    memcpy(b->noisy, b->hop, sizeof b->noisy);
    b->n_hop = 0;
    return n;
}
