/* Streams: the state block, the run of a program, the hop around it. */
#include <string.h>

#include "edge_denoise.h"
#include "ed_check.h"
#include "ed_program.h"
#include "ed_tables.h"

/* Called after each step of a hop but the last: a count of instructions names a function (tests/counting). */
#ifdef ED_AFTER_STEP
void ED_AFTER_STEP(void);
#else
#define ED_AFTER_STEP() ((void)0)
#endif

/* Audio history and the frame counter, behind the states of the network. */
typedef struct {
    uint32_t frame, reserved[3];
    float recent[ED_WINDOW_SAMPLES]; /* the last hop and this one */
    float tail[ED_HOP_SAMPLES];      /* second half of the last frame */
} ed_audio;

typedef struct {
    const uint8_t *weights;
    const ed_header *header;
    const ed_isa *isa;
    uint8_t *memory; /* arena, states, ed_audio */
} ed_state;

#define MEMORY_AT ((sizeof(ed_state) + 63u) / 64u * 64u)

static ed_audio *audio_of(const ed_state *s)
{
    return (ed_audio *)(void *)(s->memory + s->header->n_arena_bytes + s->header->n_state_bytes);
}

static const ed_op *ops_of(const ed_state *s)
{
    return (const ed_op *)(const void *)(s->weights + s->header->ops);
}

static ed_kernel kernel_of(const ed_state *s, int kind)
{
    return ed_find(s->isa, kind, s->header->precision == 1);
}

/* Of a set; NULL where another one runs the kind. */
static const ed_kernel *kernels_of(const ed_state *s, const ed_isa *isa)
{
    return s->header->precision == 1 ? isa->exact : isa->fast;
}

/* Of the set to which the stream's leaves kinds, or its own. */
static const ed_kernel *others_of(const ed_state *s)
{
    return kernels_of(s, s->isa->base != NULL ? s->isa->base : s->isa);
}

ed_status ed_size(const void *weights, size_t n_weight_bytes, size_t *n_bytes)
{
    const ed_header *h = weights;
    ed_status status = ed_check(weights, n_weight_bytes);
    if (n_bytes == NULL) return ED_BAD_ARGUMENT;
    *n_bytes = 0;
    if (status == ED_OK) *n_bytes = MEMORY_AT + h->n_arena_bytes + h->n_state_bytes + sizeof(ed_audio);
    return status;
}

static const ed_isa *find_isa(const char *name)
{
    const ed_isa *const *isa;
    for (isa = ed_isas; *isa != NULL; isa++)
        if ((name == NULL || strcmp(name, (*isa)->name) == 0) && (*isa)->usable()) return *isa;
    return NULL;
}

ed_status ed_init_isa(void *state, size_t n_bytes, const void *weights, size_t n_weight_bytes, const char *isa)
{
    ed_state *s = state;
    size_t wanted;
    ed_status status = ed_size(weights, n_weight_bytes, &wanted);
    if (status != ED_OK) return status;
    if (state == NULL || (uintptr_t)state % sizeof(void *) != 0 || n_bytes < wanted) return ED_BAD_ARGUMENT;
    memset(state, 0, wanted);
    s->weights = weights;
    s->header = weights;
    s->isa = find_isa(isa);
    if (s->isa == NULL) return ED_NO_ISA;
    s->memory = (uint8_t *)state + MEMORY_AT;
    ed_reset(state);
    return ED_OK;
}

ed_status ed_init(void *state, size_t n_bytes, const void *weights, size_t n_weight_bytes)
{
    return ed_init_isa(state, n_bytes, weights, n_weight_bytes, NULL);
}

void ed_reset(void *state)
{
    const ed_state *s = state;
    const ed_op *op = ops_of(s), *end = op + s->header->n_ops;
    memset(s->memory + s->header->n_arena_bytes, 0, s->header->n_state_bytes + sizeof(ed_audio));
    for (; op < end; op++) {
        if (op->kind == ED_DEPTH_I8 && op->time_taps > 1)
            memset(s->memory + op->state, op->x_zp,
                   (size_t)((op->time_taps - 1) * op->dilation) * ed_slot_size(op));
        if (op->kind == ED_RESAMPLE_I8 && op->time_taps > 1)
            memset(s->memory + op->state, op->x_zp,
                   (size_t)((op->time_taps - 1) * op->dilation) * ed_slot_size_of(op, op->seg));
        if (op->kind == ED_HISTORY_I8)
            memset(s->memory + op->state, op->y_zp, (size_t)(op->n_rows * (op->time_taps - 1) * op->n_in));
        if (op->kind == ED_GRU_CELL_I8)
            memset(s->memory + op->state, (int)((const ed_gru_grids *)(const void *)(s->weights + op->scale))->h_zp,
                   (size_t)(op->n_rows * op->n_out));
    }
}

/* n times a byte, of which `eight` is made. Most are 8 or 16, for which a call would cost more than they do. */
static void fill(uint8_t *p, uint64_t eight, size_t n)
{
    if (n < 8 || n > 16) {
        memset(p, (int)(eight & 255), n);
        return;
    }
    memcpy(p, &eight, 8), memcpy(p + n - 8, &eight, 8);
}

/* Rows of real zero before and after a result. */
static void fill_halo(const ed_op *op, uint8_t *y)
{
    size_t element, n;
    uint64_t zero;
    if (op->halo == 0) return; /* most have none */
    element = (size_t)ed_result_bytes(op), n = (size_t)op->halo * element;
    zero = element == 1 ? (uint8_t)op->y_zp * (uint64_t)0x0101010101010101u : 0;
    fill(y - n, zero, n);
    fill(y + (size_t)(op->n_rows * op->y_row) * element, zero, n);
}

/* `kernels` of the stream's set, `others` of the one that it leaves kinds to. */
static void run_op(const ed_state *s, const ed_kernel *kernels, const ed_kernel *others, const ed_op *op, uint32_t frame)
{
    ed_kernel kernel = kernels[op->kind];
    ed_args a;
    if (kernel == NULL) kernel = others[op->kind];
    a.op = op;
    a.x = s->memory + op->x;
    a.x2 = s->memory + op->x2;
    a.y = s->memory + op->y;
    a.weight = s->weights + op->weight;
    a.bias = op->kind == ED_GATE_SHUFFLE ? s->memory + op->bias : s->weights + op->bias;
    a.scale = s->weights + op->scale;
    a.table = s->weights + op->table;
    a.state = s->memory + op->state;
    a.frame = frame;
    (kernel != NULL ? kernel : kernel_of(s, op->kind))(&a);
    fill_halo(op, a.y);
}

static void run(const ed_state *state)
{
    const ed_state held = *state, *s = &held; /* in registers: as far as a compiler sees, a kernel might change it */
    const ed_kernel *const kernels = kernels_of(s, s->isa), *const others = others_of(s);
    const ed_op *op = ops_of(s), *end = op + s->header->n_ops;
    const uint32_t frame = audio_of(s)->frame;
    for (; op < end; op++) {
        run_op(s, kernels, others, op, frame);
        ED_AFTER_STEP();
    }
    audio_of(s)->frame = (frame + 1) % s->header->period;
}

void ed_step(void *state, const float spectrum[2 * ED_N_BINS], float enhanced[2 * ED_N_BINS])
{
    const ed_state *s = state;
    float *in = (float *)(void *)(s->memory + s->header->spectrum);
    const float *out = (const float *)(const void *)(s->memory + s->header->enhanced);
    int k;
    for (k = 0; k < ED_N_BINS; k++) {
        in[k] = spectrum[2 * k];
        in[k + ED_PLANE] = spectrum[2 * k + 1];
    }
    run(s);
    for (k = 0; k < ED_N_BINS; k++) {
        enhanced[2 * k] = out[k];
        enhanced[2 * k + 1] = out[k + ED_PLANE];
    }
}

/* The bits of a float without its sign grow with its size, so that whole numbers are compared, and compilers find
 * vectors: what is no number lies behind the endless ones. */
static const float ends[3] = {ED_INPUT_FLOOR, ED_INPUT_LIMIT, 3.402823466e38f};

/* Of a hop that has samples beyond the limit. */
static uint32_t repair_loud(const float *in, float *out, const int32_t *end)
{
    int32_t n_nonfinite = 0, n_loud = 0;
    int i;
    for (i = 0; i < ED_HOP_SAMPLES; i++) {
        int32_t bits, size, kept;
        memcpy(&bits, in + i, sizeof bits);
        size = bits & 0x7fffffff;
        n_nonfinite += size > end[2];
        n_loud += size > end[1];
        kept = size > end[1] ? end[1] : size;
        kept |= bits & ~0x7fffffff;
        kept = size < end[0] || size > end[2] ? 0 : kept;
        memcpy(out + i, &kept, sizeof kept);
    }
    return (uint32_t)n_nonfinite | (uint32_t)(n_loud - n_nonfinite) << 16;
}

static uint32_t repair(const float *in, float *out)
{
    int32_t end[3], most = 0;
    int i;
    memcpy(end, ends, sizeof end);
    for (i = 0; i < ED_HOP_SAMPLES; i++) {
        int32_t bits, size;
        memcpy(&bits, in + i, sizeof bits);
        size = bits & 0x7fffffff;
        most = size > most ? size : most;
        bits = size < end[0] ? 0 : bits;
        memcpy(out + i, &bits, sizeof bits);
    }
    return most > end[1] ? repair_loud(in, out, end) : 0;
}

uint32_t ed_process(void *state, const float in[ED_HOP_SAMPLES], float out[ED_HOP_SAMPLES])
{
    const ed_state *s = state;
    ed_audio *audio = audio_of(s);
    const ed_window *window = &ed_windows[s->header->window];
    ed_args a;
    uint32_t repairs;
    memset(&a, 0, sizeof a);
    memcpy(audio->recent, audio->recent + ED_HOP_SAMPLES, ED_HOP_SAMPLES * sizeof *in);
    repairs = repair(in, audio->recent + ED_HOP_SAMPLES);
    a.x = audio->recent;
    a.y = s->memory + s->header->spectrum;
    a.weight = window->analysis;
    kernel_of(s, ED_ANALYSIS)(&a);
    ED_AFTER_STEP();
    run(s);
    a.x = s->memory + s->header->enhanced;
    a.y = out;
    a.weight = window->synthesis;
    a.state = audio->tail;
    kernel_of(s, ED_SYNTHESIS)(&a);
    return repairs;
}

void *ed_stream(void *state)
{
    const ed_state *s = state;
    return s->memory + s->header->n_arena_bytes;
}

ed_description ed_describe(const void *state)
{
    const ed_state *s = state;
    ed_description d;
    d.precision = s->header->precision == 1 ? "int8" : "fp32";
    d.isa = s->isa->name;
    d.n_ops = s->header->n_ops;
    d.n_weight_bytes = s->header->n_bytes;
    d.n_stream_bytes = s->header->n_state_bytes + (uint32_t)sizeof(ed_audio);
    d.n_scratch_bytes = s->header->n_arena_bytes;
    return d;
}

const char *ed_version(void)
{
    return ED_VERSION;
}

const char *ed_status_text(ed_status status)
{
    switch (status) {
    case ED_OK: return "ok";
    case ED_BAD_ARGUMENT: return "a null pointer, or memory that is misaligned or too small";
    case ED_BAD_MAGIC: return "not weights of the native engine";
    case ED_BAD_VERSION: return "weights of another format version";
    case ED_BAD_SIZE: return "cut off, or longer than it says of itself";
    case ED_BAD_HASH: return "changed since it was written";
    case ED_BAD_PROGRAM: return "holds an operation that cannot be run";
    case ED_NO_ISA: return "no such kernels for this processor";
    case ED_TOO_LARGE: return "asks for more memory or work than any network of its kind";
    }
    return "unknown status";
}

const char *ed_isa_name(unsigned index, int *usable)
{
    unsigned i;
    for (i = 0; ed_isas[i] != NULL; i++)
        if (i == index) {
            if (usable != NULL) *usable = ed_isas[i]->usable();
            return ed_isas[i]->name;
        }
    return NULL;
}
