/* Whether this build computes what the compiler of the weights computed, on this processor:
 *
 *     int8    every frame of the network and every hop of sound, bit for bit
 *     fp32    the network to 90 dB, hops to one step of 16 bits (sums may go in another order)
 *
 * Every kernel set of the build that the processor can run takes its turn. Exit status 0 and a line that ends in "ok",
 * or 1 and the first difference. All memory is static. Compiled with -DED_SELF_TEST.
 */
#if defined(ED_SELF_TEST) /* else nothing: some builds compile whatever lies in a folder */
#include <stdio.h>
#include <string.h>

#include "ed_weights.h"
#include "edge_denoise.h"
#include "test_vectors.h"

static union {
    uint8_t bytes[ED_STATE_BYTES];
    double number;
    void *pointer;
} state;
static float in[2 * ED_N_BINS], out[2 * ED_N_BINS], want[2 * ED_N_BINS];

static int start(const char *isa)
{
    size_t n_bytes;
    ed_status status = ed_size(ED_WEIGHTS, ED_WEIGHT_BYTES, &n_bytes);
    if (status == ED_OK && n_bytes != ED_STATE_BYTES) {
        printf("the state has %lu bytes, ed_weights.h says %lu\n", (unsigned long)n_bytes, (unsigned long)ED_STATE_BYTES);
        return 0;
    }
    if (status == ED_OK) status = ed_init_isa(state.bytes, sizeof state, ED_WEIGHTS, ED_WEIGHT_BYTES, isa);
    if (status != ED_OK) printf("the weights: %s\n", ed_status_text(status));
    return status == ED_OK;
}

/* The network alone against its golden frames. */
static int frames_agree(const char *isa)
{
    double signal = 0, noise = 0;
    int i, k;
    if (!start(isa)) return 0;
    for (i = 0; i < VECTOR_FRAMES; i++) {
        memcpy(in, vector_spectrum + i * 2 * ED_N_BINS, sizeof in);
        memcpy(want, vector_enhanced + i * 2 * ED_N_BINS, sizeof want);
        ed_step(state.bytes, in, out);
        for (k = 0; k < 2 * ED_N_BINS; k++) {
            double off = (double)out[k] - (double)want[k];
            signal += (double)want[k] * (double)want[k], noise += off * off;
            if (VECTOR_EXACT && !(out[k] == want[k])) {
                printf("frame %d, number %d: %.9g, not %.9g\n", i, k, (double)out[k], (double)want[k]);
                return 0;
            }
        }
    }
    if (!(noise * 1e9 <= signal)) {
        printf("the frames are less than 90 dB above their error\n");
        return 0;
    }
    return 1;
}

/* CRC-32 of a hop; 0 is added, because zeros of either sign are equal. */
static uint32_t crc32_of(const float *samples)
{
    uint32_t crc = 0xffffffffu, bits;
    int i, k;
    for (i = 0; i < ED_HOP_SAMPLES; i++) {
        float sample = samples[i] + 0.0f;
        memcpy(&bits, &sample, sizeof bits);
        crc ^= bits;
        for (k = 0; k < 32; k++) crc = crc >> 1 ^ (crc & 1u ? 0xedb88320u : 0u);
    }
    return ~crc;
}

static int hop_agrees(int hop)
{
    int k;
    if (VECTOR_EXACT) return crc32_of(out) == vector_crc32[hop];
    for (k = 0; k < ED_HOP_SAMPLES; k++) {
        float off = out[k] * 32768.0f - (float)vector_clean[hop * ED_HOP_SAMPLES + k];
        if (!(off <= 1.5f && off >= -1.5f)) return 0;
    }
    return 1;
}

/* Sound in, sound out. */
static int hops_agree(const char *isa)
{
    int i, k;
    if (!start(isa)) return 0;
    for (i = 0; i < VECTOR_HOPS; i++) {
        for (k = 0; k < ED_HOP_SAMPLES; k++) in[k] = (float)vector_noisy[i * ED_HOP_SAMPLES + k] / 32768.0f;
        ed_process(state.bytes, in, out);
        if (!hop_agrees(i)) {
            printf("hop %d differs\n", i);
            return 0;
        }
    }
    return 1;
}

int main(void)
{
    unsigned i;
    int usable, failed = 0;
    const char *isa, *how = VECTOR_EXACT ? "bit for bit" : "within their bounds";
    for (i = 0; (isa = ed_isa_name(i, &usable)) != NULL; i++) {
        if (!usable) continue;
        if (frames_agree(isa) && hops_agree(isa))
            printf("%s %s: %d frames and %d hops %s, weights %lu bytes, state %lu bytes: ok\n", isa,
                   ed_describe(state.bytes).precision, VECTOR_FRAMES, VECTOR_HOPS, how, (unsigned long)ED_WEIGHT_BYTES,
                   (unsigned long)ED_STATE_BYTES);
        else {
            printf("%s: FAILED\n", isa);
            failed = 1;
        }
    }
    return failed;
}
#else
typedef int self_test_is_not_asked_for;
#endif
