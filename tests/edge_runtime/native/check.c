/* The native engine judged in C, so that it runs wherever a C program does: on the host, under sanitizers, emulated.
 *
 *     check kernels [SEED [N]]            every kernel of every usable set against portable C, N random cases each
 *     check replay BLOB FRAMES ISA        spectra and what they must become, bit for bit (int8) or over 100 dB (fp32)
 *     check hops BLOB ISA N [SIGNAL]      run N hops of noise, silence, tiny or loud: for counting instructions
 *     check isas                          the usable sets
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check_cases.h"
#include "ed_check.h"

static void run(const test_case *c, ed_kernel kernel, uint8_t *memory)
{
    ed_args a;
    memcpy(memory, c->memory.bytes, MEMORY);
    a.op = &c->op, a.frame = rng_state % 30;
    a.x = memory + c->op.x, a.x2 = memory + c->op.x2, a.y = memory + c->op.y, a.state = memory + c->op.state;
    a.weight = c->weights.bytes, a.scale = c->weights.bytes + c->op.scale, a.table = c->weights.bytes + c->op.table;
    a.bias = c->op.kind == ED_GATE_SHUFFLE ? memory + c->op.bias : c->weights.bytes + c->op.bias;
    kernel(&a);
}

/* Whether the memories are alike: bytes everywhere, floats by value or, if not `exact`, within 1e-4 of the largest. */
static int alike(const test_case *c, const uint8_t *wanted, const uint8_t *found, int exact)
{
    const float *w = (const float *)(const void *)wanted, *f = (const float *)(const void *)found;
    int i, first = c->op.y / 4, kept = c->op.kind == ED_GRU_CELL ? STATE / 4 : first;
    double largest = 1e-3;
    if (memcmp(wanted, found, MEMORY) == 0) return 1;
    if (ed_result_bytes(&c->op) < 4) return 0;
    for (i = first; i < kept + 20000 && i < MEMORY / 4; i++)
        if (fabs((double)w[i]) > largest && w[i] != ((const float *)(const void *)c->memory.bytes)[i]) largest = fabs((double)w[i]);
    for (i = 0; i < MEMORY / 4; i++) {
        if (memcmp(w + i, f + i, 4) == 0 || w[i] == f[i]) continue;
        if (!exact && fabs((double)w[i] - f[i]) <= 1e-4 * largest) continue;
        printf("at %d from y: %.9g, found %.9g; ", i - first, (double)w[i], (double)f[i]);
        return 0;
    }
    return 1;
}

/* Whether a set's kernel, exact or fast, makes of a case what portable C makes of it. */
static int check_case(test_case *c, const ed_isa *isa, int exact, const uint8_t *wanted)
{
    static union { uint8_t bytes[MEMORY]; double align; } found;
    if (!exact && c->op.flags & ED_HALF) return 1;
    run(c, ed_find(isa, c->op.kind, exact), found.bytes);
    return alike(c, wanted, found.bytes, exact);
}

/* Cases outside, sets within: to make a case and the portable result is most of the work, and the same for all. */
static int check_kernels(uint32_t seed, int n)
{
    static test_case c;
    static union { uint8_t bytes[MEMORY]; double align; } wanted;
    int kind, i, set, exact, failures = 0, n_kernels = 0;
    for (kind = 0; kind < ED_N_KINDS; kind++) {
        uint32_t failed = 0;
        for (i = 0; i < n; i++) {
            rng_state = seed * 2654435761u + (uint32_t)(kind * 1000003 + i) * 97u + 1u;
            shapes[kind](&c);
            c.op.kind = (uint8_t)kind;
            run(&c, ed_portable_kernels[kind], wanted.bytes);
            for (set = 0; ed_isas[set] != NULL; set++) {
                const ed_isa *isa = ed_isas[set];
                if (!isa->usable()) continue;
                for (exact = 0; exact < 2; exact++) {
                    uint32_t bit = 1u << (2 * set + exact);
                    n_kernels += i == 0 && (exact ? isa->exact : isa->fast)[kind] != NULL;
                    if (failed & bit || check_case(&c, isa, exact, wanted.bytes)) continue;
                    printf("%s %s differs from portable C: seed %u, case %d, %d x %d from %d, taps %d\n", isa->name, kinds[kind],
                           seed, i, c.op.n_rows, c.op.n_out, c.op.n_in, c.op.taps);
                    failed |= bit, failures++;
                }
            }
        }
    }
    printf("%d kernels, %d cases each: %d differ\n", n_kernels, n, failures);
    return failures != 0;
}

static void *whole_file(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    void *data = NULL;
    if (f == NULL || fseek(f, 0, SEEK_END) != 0) {
        perror(path);
        exit(1);
    }
    *n = (size_t)ftell(f);
    rewind(f);
    data = aligned_alloc(64, (*n + 63) / 64 * 64);
    if (data == NULL || fread(data, 1, *n, f) != *n) exit(1);
    fclose(f);
    return data;
}

static void *open_stream(const void *weights, size_t n, const char *isa)
{
    size_t n_bytes = 0;
    void *state;
    ed_status status = ed_size(weights, n, &n_bytes);
    state = aligned_alloc(64, (n_bytes + 63) / 64 * 64 + 64);
    if (status == ED_OK) status = ed_init_isa(state, n_bytes, weights, n, isa);
    if (status == ED_OK) return state;
    printf("%s: %s\n", isa, ed_status_text(status));
    exit(1);
}

/* FRAMES: float32, for each frame 514 numbers in and 514 out. */
static int check_replay(const char *blob, const char *frames, const char *isa)
{
    size_t n_weights, n, i, k;
    void *weights = whole_file(blob, &n_weights), *state = open_stream(weights, n_weights, isa);
    const float *p = whole_file(frames, &n);
    float out[2 * ED_N_BINS];
    double signal = 0, noise = 0;
    int exact = strcmp(ed_describe(state).precision, "int8") == 0, result = 0;
    n /= sizeof out + sizeof out;
    for (i = 0; i < n && result == 0; i++, p += 4 * ED_N_BINS) {
        ed_step(state, p, out);
        for (k = 0; k < 2 * ED_N_BINS; k++) {
            double want = p[2 * ED_N_BINS + k], off = want - out[k];
            signal += want * want, noise += off * off;
            if (exact && off != 0 && result == 0) {
                printf("frame %d, number %d: %.9g, found %.9g\n", (int)i, (int)k, want, (double)out[k]);
                result = 1;
            }
        }
    }
    if (!exact && !(noise * 1e10 < signal)) result = 1;
    printf("%s %s: %d frames, %s\n", isa, exact ? "int8" : "fp32", (int)n, result ? "DIFFERENT" : exact ? "bit for bit" : "over 100 dB");
    return result;
}

static int run_hops(const char *blob, const char *isa, int n, const char *signal)
{
    size_t n_weights;
    void *weights = whole_file(blob, &n_weights), *state = open_stream(weights, n_weights, isa);
    float in[ED_HOP_SAMPLES], out[ED_HOP_SAMPLES], last = 0;
    float scale = strcmp(signal, "silence") == 0 ? 0.0f : strcmp(signal, "tiny") == 0 ? 1e-39f : strcmp(signal, "loud") == 0 ? 4.0f : 0.1f;
    int i, k;
    rng_state = 1;
    for (i = 0; i < n; i++) {
        for (k = 0; k < ED_HOP_SAMPLES; k++) in[k] = uniform() * scale;
        ed_process(state, in, out);
        last = out[0];
    }
    printf("%s: %d hops of %s, %g\n", isa, n, signal, (double)last);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc >= 2 && strcmp(argv[1], "kernels") == 0)
        return check_kernels(argc > 2 ? (uint32_t)atoi(argv[2]) : 1, argc > 3 ? atoi(argv[3]) : 100);
    if (argc == 5 && strcmp(argv[1], "replay") == 0) return check_replay(argv[2], argv[3], argv[4]);
    if (argc >= 5 && strcmp(argv[1], "hops") == 0) return run_hops(argv[2], argv[3], atoi(argv[4]), argc > 5 ? argv[5] : "noise");
    if (argc == 2 && strcmp(argv[1], "isas") == 0) {
        unsigned i;
        int usable;
        const char *name;
        for (i = 0; (name = ed_isa_name(i, &usable)) != NULL; i++)
            if (usable) puts(name);
        return 0;
    }
    fputs("usage: check kernels [SEED [N]] | replay BLOB FRAMES ISA | hops BLOB ISA N [SIGNAL] | isas\n", stderr);
    return 2;
}
