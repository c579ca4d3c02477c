/* Hops of the native engine with a mark around each, then around each operation of some, for icount.c to count.
 *
 *     hops WEIGHTS ISA SAMPLES N_APART
 *
 * SAMPLES: float32, whole hops. Marks: one before the first hop, one after each; then for each of the first N_APART
 * hops, again from the start of the stream, one before it, after its analysis, after each operation, after synthesis.
 * A mark costs instructions of its own: two in a row, at the very start, tell how many.
 */
#include <stdio.h>
#include <stdlib.h>

#include "ed_engine.c" /* its steps are static */

__attribute__((noinline)) void count_mark(void)
{
    __asm__ volatile("" ::: "memory");
}

static void *whole_file(const char *path, size_t *n_bytes)
{
    FILE *file = fopen(path, "rb");
    void *data;
    if (file == NULL || fseek(file, 0, SEEK_END) != 0) return NULL;
    *n_bytes = (size_t)ftell(file);
    rewind(file);
    data = aligned_alloc(64, (*n_bytes + 63) / 64 * 64);
    if (data != NULL && fread(data, 1, *n_bytes, file) != *n_bytes) data = NULL;
    fclose(file);
    return data;
}

/* ed_process and run, with a mark after every step. */
static void process_apart(const ed_state *s, const float *in, float *out)
{
    const ed_op *op = ops_of(s), *end = op + s->header->n_ops;
    ed_audio *audio = audio_of(s);
    ed_args a;
    memset(&a, 0, sizeof a);
    count_mark();
    memcpy(audio->recent, audio->recent + ED_HOP_SAMPLES, ED_HOP_SAMPLES * sizeof *in);
    repair(in, audio->recent + ED_HOP_SAMPLES);
    a.x = audio->recent;
    a.y = s->memory + s->header->spectrum;
    kernel_of(s, ED_ANALYSIS)(&a);
    count_mark();
    a.frame = audio->frame;
    for (; op < end; op++) {
        a.op = op;
        a.x = s->memory + op->x;
        a.x2 = s->memory + op->x2;
        a.y = s->memory + op->y;
        a.weight = s->weights + op->weight;
        a.bias = op->kind == ED_GATE_SHUFFLE ? s->memory + op->bias : s->weights + op->bias;
        a.scale = s->weights + op->scale;
        a.table = s->weights + op->table;
        a.state = s->memory + op->state;
        kernel_of(s, op->kind)(&a);
        fill_halo(op, a.y);
        count_mark();
    }
    audio->frame = (a.frame + 1) % s->header->period;
    a.x = s->memory + s->header->enhanced;
    a.y = out;
    a.state = audio->tail;
    kernel_of(s, ED_SYNTHESIS)(&a);
    count_mark();
}

int main(int argc, char **argv)
{
    size_t n_weights, n_sample_bytes, n_state, n_hops, k;
    int n_apart;
    void *weights, *state;
    const float *samples;
    float out[ED_HOP_SAMPLES], sum = 0;
    if (argc != 5) return fputs("usage: hops WEIGHTS ISA SAMPLES N_APART\n", stderr), 2;
    weights = whole_file(argv[1], &n_weights);
    samples = whole_file(argv[3], &n_sample_bytes);
    n_apart = atoi(argv[4]);
    if (weights == NULL || samples == NULL) return fputs("hops: a file cannot be read\n", stderr), 1;
    if (ed_size(weights, n_weights, &n_state) != ED_OK) return fputs("hops: not weights\n", stderr), 1;
    state = aligned_alloc(64, (n_state + 63) / 64 * 64);
    if (ed_init_isa(state, n_state, weights, n_weights, argv[2]) != ED_OK) return fputs("hops: no such isa\n", stderr), 1;
    n_hops = n_sample_bytes / sizeof *samples / ED_HOP_SAMPLES;
    count_mark();
    count_mark();
    for (k = 0; k < n_hops; k++) {
        ed_process(state, samples + k * ED_HOP_SAMPLES, out);
        count_mark();
        sum += out[0];
    }
    ed_reset(state);
    for (k = 0; k < n_hops && k < (size_t)n_apart; k++) process_apart(state, samples + k * ED_HOP_SAMPLES, out);
    printf("%zu hops, %g\n", n_hops, (double)sum);
    return 0;
}
