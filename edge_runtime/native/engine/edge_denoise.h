/* edge-denoise: a streaming speech denoiser, one hop of 256 samples at 16 kHz at a time.
 *
 * No allocation, no globals, no input or output. The caller owns two blocks of memory: the weights, written by
 * `quant build` and only read, and one state block for each stream. Streams share nothing but the weights.
 *
 *     size_t n_bytes;
 *     if (ed_size(weights, n_weight_bytes, &n_bytes) != ED_OK) ...
 *     void *state = ...n_bytes, aligned as malloc does...;
 *     if (ed_init(state, n_bytes, weights, n_weight_bytes) != ED_OK) ...
 *     for (;;) ed_process(state, noisy, clean);            // clean lags ED_LATENCY_SAMPLES behind
 */
#ifndef EDGE_DENOISE_H
#define EDGE_DENOISE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32)
#define ED_API __declspec(dllexport)
#elif defined(__GNUC__)
#define ED_API __attribute__((visibility("default")))
#else
#define ED_API
#endif

#define ED_VERSION "0.2.0"
#define ED_SAMPLE_RATE_HZ 16000
#define ED_HOP_SAMPLES 256
#define ED_WINDOW_SAMPLES 512
#define ED_LATENCY_SAMPLES 256
#define ED_N_BINS 257
#define ED_INPUT_LIMIT 8.0f    /* full scale is 1; louder samples are limited to this */
#define ED_INPUT_FLOOR 1e-10f  /* -200 dBFS; quieter samples become 0, so that nothing grows denormal */

typedef enum {
    ED_OK = 0,
    ED_BAD_ARGUMENT, /* a null pointer, or memory that is misaligned or too small */
    ED_BAD_MAGIC,    /* not weights of this program, or of another byte order */
    ED_BAD_VERSION,  /* weights of another format version */
    ED_BAD_SIZE,     /* fewer or more bytes than the weights say of themselves */
    ED_BAD_HASH,     /* the bytes changed since they were written */
    ED_BAD_PROGRAM,  /* an operation that is unknown or would reach outside of its memory */
    ED_NO_ISA,       /* no kernels of that name for this processor */
    ED_TOO_LARGE     /* more memory or work than the engine gives to any weights: ED_MOST_... in ed_program.h */
} ed_status;

typedef struct {
    const char *precision;    /* "int8" or "fp32" */
    const char *isa;          /* which kernels run: "portable", "neon", "dotprod", "avx2", "avx512" */
    uint32_t n_ops;
    uint32_t n_weight_bytes;
    uint32_t n_stream_bytes;  /* carried from frame to frame, audio history included */
    uint32_t n_scratch_bytes; /* needed only inside a call, but part of the state block */
} ed_description;

/* Bytes of a state block for these weights; checks them whole. */
ED_API ed_status ed_size(const void *weights, size_t n_weight_bytes, size_t *n_bytes);

/* Check the weights, choose the fastest kernels for this processor, start the stream. `weights` must be 16-byte aligned
 * and stay where they are. `ed_init_isa` takes the kernels by name instead. */
ED_API ed_status ed_init(void *state, size_t n_bytes, const void *weights, size_t n_weight_bytes);
ED_API ed_status ed_init_isa(void *state, size_t n_bytes, const void *weights, size_t n_weight_bytes, const char *isa);

/* Back to the start of a stream. */
ED_API void ed_reset(void *state);

/* One hop in, one hop out; `in` and `out` may be the same. Returns how many samples were repaired: not finite (-> 0) in
 * the low 16 bits, beyond ED_INPUT_LIMIT (-> limited) in the high 16 bits. */
ED_API uint32_t ed_process(void *state, const float in[ED_HOP_SAMPLES], float out[ED_HOP_SAMPLES]);

/* The network alone: 257 bins of (real, imaginary), finite, to 257 bins. May be the same memory. */
ED_API void ed_step(void *state, const float spectrum[2 * ED_N_BINS], float enhanced[2 * ED_N_BINS]);

/* What this stream is. */
ED_API ed_description ed_describe(const void *state);

/* The part of a state block that must be kept to continue the stream later: n_stream_bytes at a fixed place. */
ED_API void *ed_stream(void *state);

ED_API const char *ed_version(void);
ED_API const char *ed_status_text(ed_status status);

/* Names of the kernel sets of this build, fastest first; NULL beyond the last. `usable` tells whether this processor
 * can run it. */
ED_API const char *ed_isa_name(unsigned index, int *usable);

#ifdef __cplusplus
}
#endif
#endif
