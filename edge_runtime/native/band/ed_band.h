/* One channel between a host's sample rate above 16 kHz and the network, which hears 8 kHz of it.
 *
 *     host -> limit -> to 16 kHz -> hops -> network -> clean --(- gain x noisy)--> to the host's rate --(+)-> out
 *                |                     '-> noisy, a hop late                                             |
 *                '--> wait ------------------------------------------------------ x gain ----------------'
 *
 * `gain` is what the network did to the highest band that it hears, 6.5 to 8 kHz: the energy of clean over that of noisy,
 * every 4 ms, smoothed, at most 1; or more, where what lies above is speech by its own energy (ed_above.h). So it passes
 * as the network's neighbour of it does, in phase, and never louder than it came; and where clean is gain x noisy, out
 * is gain x host, through the seam at 7.2 kHz. Without a full band the gain is 0, and up to 8 kHz is heard.
 *
 * No allocation, no globals: the caller owns a block for the filters of a rate and one for each channel.
 */
#ifndef ED_BAND_H
#define ED_BAND_H

#include <stddef.h>

#include "edge_denoise.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes for the filters of a rate; 0: none for 16 kHz and below, nor without a common grid with 16 kHz. */
ED_API size_t ed_rate_size(unsigned long rate_hz);
ED_API void ed_rate_init(void *rate, unsigned long rate_hz);

/* How far `ed_band_join` writes behind `ed_band_push`, in host samples: sample `latency` of all it wrote is sample 0 of
 * all that was pushed. */
ED_API int ed_band_latency(const void *rate);

/* The same for one who takes as many as he brings: host samples until the first is there, rounded up. */
ED_API int ed_band_even_latency(const void *rate);

/* Most host samples that `ed_band_join` writes. */
ED_API int ed_band_most(const void *rate);

/* Bytes of a channel, and its start; `rate` must stay where it is. */
ED_API size_t ed_band_size(const void *rate);
ED_API void ed_band_init(void *band, const void *rate);
ED_API void ed_band_reset(void *band);

/* Host samples that complete the hop. */
ED_API int ed_band_wanted(const void *band);

/* Take host samples until they, or a hop, are complete; returns how many were taken. */
ED_API int ed_band_push(void *band, const float *host, int n);

/* The hop at 16 kHz, ED_HOP_SAMPLES at a fixed place, and whether it is complete. */
ED_API const float *ed_band_hop(const void *band);
ED_API int ed_band_is_whole(const void *band);

/* Straight lines along one hop's output: how much of the full band, how much denoised, how loud. */
typedef struct {
    float full_from, full_to, wet_from, wet_to, gate_from, gate_to;
} ed_band_lines;

/* The hop as the network denoised it, ED_LATENCY_SAMPLES behind; writes ((1 - wet) host + wet clean) gate and returns
 * how many samples. */
ED_API int ed_band_join(void *band, const float clean[ED_HOP_SAMPLES], const ed_band_lines *lines, float *out);

#ifdef __cplusplus
}
#endif
#endif
