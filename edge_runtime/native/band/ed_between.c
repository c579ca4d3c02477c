#include "ed_between.h"

#define N_LANES 8 /* two vector registers: compilers may not reorder one sum themselves */

/* Of two rows of taps, `along` from the first to the second. A call of its own, for a fixed number of taps: compilers
 * make vectors of this. */
float ed_between_rows(const float *samples, const float *taps, float along)
{
    const float *next_taps = taps + ED_CLOCK_TAPS;
    float here[N_LANES] = {0}, next[N_LANES] = {0};
    int i, lane;
    for (i = 0; i < ED_CLOCK_TAPS; i += N_LANES) {
        for (lane = 0; lane < N_LANES; lane++) here[lane] += taps[i + lane] * samples[i + lane];
        for (lane = 0; lane < N_LANES; lane++) next[lane] += next_taps[i + lane] * samples[i + lane];
    }
    for (lane = 0; lane < N_LANES; lane++) here[lane] += (next[lane] - here[lane]) * along;
    for (lane = 0; lane < N_LANES / 2; lane++) here[lane] += here[lane + N_LANES / 2];
    return (here[0] + here[1]) + (here[2] + here[3]);
}

void ed_follow_clock(const float *taps, const float *samples, double at, double step, float *out, int n)
{
    int k;
    for (k = 0; k < n; k++) {
        const double place = at + k * step;
        const int whole = (int)place;
        const double phase = (place - whole) * ED_CLOCK_PHASES;
        const int row = (int)phase;
        out[k] = ed_between_rows(samples + whole, taps + row * ED_CLOCK_TAPS, (float)(phase - row));
    }
}

/* Any number of taps. */
static float weighed(const float *samples, const float *taps, int n_taps)
{
    const int n_whole = n_taps / N_LANES * N_LANES;
    float lanes[N_LANES] = {0};
    int i, lane;
    for (i = 0; i < n_whole; i += N_LANES)
        for (lane = 0; lane < N_LANES; lane++) lanes[lane] += taps[i + lane] * samples[i + lane];
    for (; i < n_taps; i++) lanes[i - n_whole] += taps[i] * samples[i];
    for (lane = 0; lane < N_LANES / 2; lane++) lanes[lane] += lanes[lane + N_LANES / 2];
    return (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]);
}

void ed_convert_rate(const ed_phases *phases, const float *samples, int at, float *out, int n)
{
    int k;
    for (k = 0; k < n; k++, at += phases->n_down) {
        const float *taps = phases->taps + at % phases->n_up * phases->n_taps;
        out[k] = weighed(samples + at / phases->n_up, taps, phases->n_taps);
    }
}
