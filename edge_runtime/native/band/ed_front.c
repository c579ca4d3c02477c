#include "ed_front.h"

#include <math.h>

#define PI 3.14159265358979323846

static ed_biquad butterworth(double rate_hz, double cutoff_hz, int is_low)
{
    const double k = tan(PI * cutoff_hz / rate_hz), norm = 1 / (1 + sqrt(2.0) * k + k * k);
    ed_biquad f;
    f.b = is_low ? k * k * norm : norm;
    f.a1 = 2 * (k * k - 1) * norm;
    f.a2 = (1 - sqrt(2.0) * k + k * k) * norm;
    f.z1 = f.z2 = 0;
    return f;
}

/* `sign` is 2 for a low-pass, -2 for a high-pass. */
static double filtered(ed_biquad *f, double x, double sign)
{
    const double y = f->b * x + f->z1;
    f->z1 = sign * f->b * x - f->a1 * y + f->z2;
    f->z2 = f->b * x - f->a2 * y;
    return y;
}

/* Silence must not grow denormal. */
static void settle(ed_biquad *f)
{
    if (fabs(f->z1) < 1e-30) f->z1 = 0;
    if (fabs(f->z2) < 1e-30) f->z2 = 0;
}

void ed_front_init(ed_front *f, double rate_hz, double cutoff_hz)
{
    f->high = butterworth(rate_hz, cutoff_hz, 0);
    f->low = butterworth(rate_hz, cutoff_hz / 2, 1);
}

double ed_front_run(ed_front *f, float *samples, int n, const float lines[4], double *below)
{
    const float share_from = lines[0], share_to = lines[1], gain_from = lines[2], gain_to = lines[3];
    const int is_plain = share_from == 0 && share_to == 0 && gain_from == 1 && gain_to == 1;
    const int is_still = share_from == share_to && gain_from == gain_to;
    ed_biquad high_pass = f->high, low_pass = f->low; /* in registers */
    double passed = 0, low_energy = 0;
    int i;
    for (i = 0; i < n; i++) {
        const double x = samples[i], high = filtered(&high_pass, x, -2), low = filtered(&low_pass, x, 2);
        const double along = is_still ? 0 : (double)(i + 1) / n;
        const double share = share_from + (share_to - share_from) * along;
        passed += high * high;
        low_energy += low * low;
        if (is_plain) continue; /* what needs nothing stays bit for bit */
        samples[i] = (float)((x + (high - x) * share) * (gain_from + (gain_to - gain_from) * along));
    }
    settle(&high_pass);
    settle(&low_pass);
    f->high = high_pass;
    f->low = low_pass;
    *below = low_energy;
    return passed;
}
