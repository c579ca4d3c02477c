/* Speech above 8 kHz; see ed_above.h. Found on recordings, docs/measured/2026-11-28-full-band.md. */
#include "ed_above.h"

#include <math.h>
#include <string.h>

#define N_ENERGIES (ED_ABOVE_BEFORE + 1 + ED_ABOVE_AHEAD)
#define N_LASTING (ED_ABOVE_HELD + 1)
#define LEARNING 0.008f     /* of what is new in a block: half a second */
#define N_LEARNING 125      /* 1 / LEARNING */
#define N_FIRST 60          /* blocks whose mean is the first noise: 240 ms */
#define MOST_LOUDER 4.0f    /* a block counts as so much noise at most: a sibilant raises it by 4 dB */
#define LEAST_NOISE 6.4e-9f /* -100 dBFS, 64 samples */
#define UNEVEN 16.0f        /* from the least to the greatest, 12 dB: what dies away falls by more */
#define CLOSED 2.5f         /* amplitude over the noise's, 8 dB; open 3 dB above */
#define N_LONGEST 100       /* blocks: no sibilant lasts 0.4 s */
#define CLICK 4.0f          /* a click is 6 dB over what lasts, and 8 dB over the noise */
#define CLICK_TO_NOISE 6.3f
#define LEAST_HELD 0.01f /* it is held down to that, by 20 dB at most, */
#define DOUBTFUL 0.6f    /* where the network leaves so much of the energy or less; */
#define SURE 0.9f        /* where it leaves so much, not at all */

static float greatest(const float *values, int n)
{
    float found = values[0];
    int i;
    for (i = 1; i < n; i++) found = values[i] > found ? values[i] : found;
    return found;
}

/* The least energy of those around a block, 0 where they are uneven. */
static float lasting(const float *energies)
{
    float least = energies[0];
    int i;
    for (i = 1; i < N_ENERGIES; i++) least = energies[i] < least ? energies[i] : least;
    return greatest(energies, N_ENERGIES) < UNEVEN * least ? least : 0;
}

static void append(float *values, int n, float value)
{
    memmove(values, values + 1, (size_t)(n - 1) * sizeof *values);
    values[n - 1] = value;
}

/* As far as the network takes a block for noise it is. */
static void learn(ed_above *a, float energy, float gain)
{
    float share = LEARNING;
    if (a->n_learnt < N_LEARNING) share = 1 / (float)++a->n_learnt;
    if (a->n_learnt > N_FIRST && energy > MOST_LOUDER * a->noise) energy = MOST_LOUDER * a->noise;
    a->noise += share * (1 - gain * gain) * (energy - a->noise);
    if (a->noise < LEAST_NOISE) a->noise = LEAST_NOISE;
}

/* The network's gain, less where it is in doubt and something dies away: that is louder up here than where it judges. */
static float without_clicks(float gain, float energy, float most, float noise)
{
    const float expected = CLICK * most > CLICK_TO_NOISE * noise ? CLICK * most : CLICK_TO_NOISE * noise;
    const float kept = gain * gain, doubt = kept < DOUBTFUL ? 1 : (SURE - kept) / (SURE - DOUBTFUL);
    if (doubt <= 0 || energy <= expected) return gain;
    if (LEAST_HELD * energy > expected) return gain * (1 - doubt + doubt * sqrtf(LEAST_HELD));
    return gain * (1 - doubt + doubt * sqrtf(expected / energy));
}

float ed_above_gain(ed_above *above, float energy, float gain)
{
    const float now = above->energies[ED_ABOVE_BEFORE + 1]; /* which moves on by one */
    float most, open;
    append(above->energies, N_ENERGIES, energy);
    append(above->lasting, N_LASTING, lasting(above->energies));
    learn(above, now, gain);
    most = greatest(above->lasting, N_LASTING);
    open = sqrtf(most / above->noise) - CLOSED;
    above->n_open = open > gain ? above->n_open + 1 : 0;
    if (above->n_open > N_LONGEST) {
        above->noise = most;
        above->n_open = 0;
        open = 0;
    }
    gain = without_clicks(gain, now, most, above->noise);
    return open > 1 ? 1 : open > gain ? open : gain;
}
