/* Fuzzing of the weight loader and the API: whatever is accepted must run without touching foreign memory.
 *
 * Built with libFuzzer (clang -fsanitize=fuzzer,address,undefined) or, with -DSTANDALONE, with a driver of its own:
 *     fuzz SECONDS SEED_FILE...
 * Input: weights. The first byte's low bits say whether the hash is mended, so that what lies behind it is reached. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ed_program.h"
#include "edge_denoise.h"

#define LARGEST (1u << 24) /* bytes of a state block that are tried */

static uint32_t crc32_of(const uint8_t *p, size_t n)
{
    uint32_t crc = 0xffffffffu;
    int k;
    while (n-- > 0)
        for (crc ^= *p++, k = 0; k < 8; k++) crc = crc >> 1 ^ (0xedb88320u & (0u - (crc & 1u)));
    return ~crc;
}

/* Full scale, garbage, denormals, silence. */
static void audio(float *hop, uint32_t seed)
{
    int i;
    for (i = 0; i < ED_HOP_SAMPLES; i++) {
        union { uint32_t u; float f; } any;
        seed = seed * 1664525u + 1013904223u;
        any.u = seed;
        hop[i] = seed >> 28 < 8 ? any.f : seed >> 28 < 10 ? 1e-40f : (float)(int32_t)seed / 2147483648.0f;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t n = size > 0 ? size - 1 : 0, n_bytes = 0;
    uint8_t *weights = aligned_alloc(64, (n + 63) / 64 * 64 + 64);
    ed_header *h = (ed_header *)(void *)weights;
    unsigned i;
    if (weights == NULL) return 0;
    memcpy(weights, data + (size > 0), n);
    if (n >= sizeof *h && data[0] % 4 != 0) {
        h->magic = ED_MAGIC, h->format = ED_FORMAT, h->n_bytes = (uint32_t)n;
        h->crc32 = crc32_of(weights + ED_HASHED_FROM, n - ED_HASHED_FROM);
    }
    if (ed_size(weights, n, &n_bytes) == ED_OK && n_bytes <= LARGEST)
        for (i = 0; ed_isas[i] != NULL; i++) {
            void *state = malloc(n_bytes); /* exactly, so that the sanitizer sees the first byte too many */
            float hop[ED_HOP_SAMPLES], spectrum[2 * ED_N_BINS] = {1, -1, 1e30f};
            unsigned k;
            if (state == NULL) break;
            if (ed_init_isa(state, n_bytes, weights, n, ed_isas[i]->name) == ED_OK) {
                for (k = 0; k < 4; k++) {
                    audio(hop, (uint32_t)(size + k));
                    ed_process(state, hop, hop);
                    ed_step(state, spectrum, spectrum);
                }
                ed_reset(state);
            }
            free(state);
        }
    free(weights);
    return 0;
}

#if defined(STANDALONE)
int main(int argc, char **argv)
{
    uint32_t rng = 1;
    time_t end;
    long n_runs = 0;
    int i;
#define NEXT (rng ^= rng << 13, rng ^= rng >> 17, rng ^= rng << 5, rng)
    if (argc < 3) return 2;
    end = time(NULL) + atoi(argv[1]);
    do {
        for (i = 2; i < argc; i++) {
            static uint8_t data[1 << 20];
            FILE *f = fopen(argv[i], "rb");
            size_t n = f == NULL ? 0 : fread(data + 1, 1, sizeof data - 1, f), k, changes = NEXT % 8;
            if (f == NULL || n == 0) return 2;
            fclose(f);
            data[0] = (uint8_t)(NEXT >> 8);
            for (k = 0; k < changes; k++) {
                /* mostly the header and the operations, where the indices are */
                size_t at = 1 + NEXT % (NEXT % 4 ? n < 12000 ? n : 12000 : n);
                switch (NEXT % 4) {
                case 0: data[at] = (uint8_t)(NEXT >> 8); break;
                case 1: data[at] = (uint8_t)(data[at] + NEXT % 5 - 2); break;
                case 2: data[at] ^= (uint8_t)(1u << NEXT % 8); break;
                default: data[at] = NEXT % 2 ? 0xff : 0x7f; break;
                }
            }
            if (NEXT % 64 == 0) n = NEXT % (n + 1);
            LLVMFuzzerTestOneInput(data, n + 1);
            n_runs++;
        }
    } while (time(NULL) < end);
    printf("%ld inputs, nothing found\n", n_runs);
    return 0;
}
#endif
