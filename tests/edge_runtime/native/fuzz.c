/* Structure-aware fuzzing of the native engine: programs that know their fields are pushed to the limits of what the
 * engine's checker accepts, and whatever it accepts runs on poisoned sound without leaving its memory, each operation to
 * the same result through every kernel set.
 *
 *     fuzz SECONDS RANDOM FOUND [FILE...]    FILES: weights to start from; with 0 seconds they run as they are
 *
 * Each round takes a program of a pool (the files, and small ones made here, every kind of operation among them), changes
 * some fields, mends size and hash, and asks the checker; now and then a field is moved as far as the checker lets it.
 * Accepted programs run and join the pool. Weights and states lie at the end of a mapping, before a page that traps;
 * under AddressSanitizer what lies around them, the arena's slack and the sound are poisoned, too. A program at which
 * the process dies is left in FOUND. */
#define _GNU_SOURCE
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "ed_check.c" /* itself, for what it takes each operation to write */
#include "ed_engine.c" /* itself, to run operations one by one */

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

/* Every set of this processor: vectors, the blocks of registers that else run without them, portable C. */
#if defined(ED_SCALAR)
extern const ed_isa ed_scalar;
#define AND_SCALAR &ed_scalar,
#else
#define AND_SCALAR
#endif
#if defined(ED_X86)
extern const ed_isa ed_avx512, ed_avx2;
const ed_isa *const ed_isas[] = {&ed_avx512, &ed_avx2, AND_SCALAR &ed_portable, NULL};
#elif defined(ED_ARM64)
extern const ed_isa ed_dotprod, ed_neon;
const ed_isa *const ed_isas[] = {&ed_dotprod, &ed_neon, AND_SCALAR &ed_portable, NULL};
#elif defined(ED_ARM32)
extern const ed_isa ed_neon;
const ed_isa *const ed_isas[] = {&ed_neon, AND_SCALAR &ed_portable, NULL};
#else
const ed_isa *const ed_isas[] = {AND_SCALAR &ed_portable, NULL};
#endif

#define N_SETS (sizeof ed_isas / sizeof *ed_isas - 1)
#define LONGEST (1 << 17) /* bytes of weights of a program here */
#define N_POOL 512
#define MOST_COMPARED (1 << 20) /* bytes of memory of a program whose operations are compared */
/* Arm's vectors take what is no number, and on 32 bits denormals, for other values than portable C does. */
#if defined(ED_ARM64) || defined(ED_ARM32)
#define COMPARED 0
#else
#define COMPARED 1
#endif
#define SLOW_S 0.005     /* a program with such a hop does not join the pool */

typedef struct {
    uint8_t bytes[LONGEST];
    size_t n;
} program;

static struct {
    uint64_t tried, accepted, ran[N_SETS], hops;
    double slowest_s[N_SETS];
} counts;

static program now; /* what runs, for the one who finds it dead */
static const char *found_path;
static program *pool[N_POOL];
static unsigned n_pool;

/* --- chance --------------------------------------------------------------------------------------------------------- */

static uint64_t rng_state = 1;

static uint32_t rng(void)
{
    rng_state ^= rng_state << 13, rng_state ^= rng_state >> 7, rng_state ^= rng_state << 17;
    return (uint32_t)(rng_state >> 32);
}

static int below(int n) { return (int)(rng() % (uint32_t)n); }
static int one_in(int n) { return below(n) == 0; }
#define N_OF(array) ((int)(sizeof(array) / sizeof *(array)))
#define ONE_OF(...) one_of((const int[]){__VA_ARGS__}, (int)(sizeof((const int[]){__VA_ARGS__}) / sizeof(int)))
static int one_of(const int *values, int n) { return values[below(n)]; }

/* --- memory that ends where it ends ----------------------------------------------------------------------------------- */

typedef struct {
    uint8_t *start, *end, *at;
    size_t n;
} room;

static void open_room(room *r, size_t n)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    n = (n + page - 1) / page * page;
    r->start = mmap(NULL, n + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (r->start == MAP_FAILED || mprotect(r->start + n, page, PROT_NONE) != 0) exit(2);
    r->end = r->at = r->start + n, r->n = 0;
    ASAN_POISON_MEMORY_REGION(r->start, n);
}

/* The last n bytes of the room, from a multiple of 16 on. */
static uint8_t *take_last(room *r, size_t n)
{
    ASAN_POISON_MEMORY_REGION(r->at, r->n);
    r->at = r->end - (n + 15) / 16 * 16, r->n = n;
    ASAN_UNPOISON_MEMORY_REGION(r->at, n);
    return r->at;
}

/* --- programs --------------------------------------------------------------------------------------------------------- */

__attribute__((no_sanitize("address", "undefined"))) static uint32_t crc32_of(const uint8_t *p, size_t n)
{
    static uint32_t table[256];
    uint32_t crc = 0xffffffffu;
    size_t i, k;
    for (i = 0; i < 256 && table[255] == 0; i++)
        for (table[i] = (uint32_t)i, k = 0; k < 8; k++) table[i] = table[i] >> 1 ^ (0xedb88320u & (0u - (table[i] & 1u)));
    for (; n > 0; n--) crc = crc >> 8 ^ table[(crc ^ *p++) & 255u];
    return ~crc;
}

static ed_header *header_of(program *p) { return (ed_header *)(void *)p->bytes; }

static int n_ops_of(program *p)
{
    const ed_header *h = header_of(p);
    size_t room = p->n > h->ops ? (p->n - h->ops) / sizeof(ed_op) : 0;
    return h->ops < sizeof *h || h->ops % 4 != 0 ? 0 : (int)(h->n_ops < room ? h->n_ops : room);
}

static ed_op *op_of(program *p, int i) { return (ed_op *)(void *)(p->bytes + header_of(p)->ops) + i; }

static void mend(program *p)
{
    ed_header *h = header_of(p);
    h->magic = ED_MAGIC, h->format = ED_FORMAT, h->n_bytes = (uint32_t)p->n;
    h->crc32 = crc32_of(p->bytes + ED_HASHED_FROM, p->n - ED_HASHED_FROM);
}

static room weights_room, state_room;

/* Bytes of a state block, or 0; the weights lie in their room. */
static size_t accepted(program *p)
{
    size_t n_bytes;
    uint8_t *weights;
    mend(p);
    weights = take_last(&weights_room, p->n);
    memcpy(weights, p->bytes, p->n);
    return ed_size(weights, p->n, &n_bytes) == ED_OK ? n_bytes : 0;
}

/* --- what a run must not do ------------------------------------------------------------------------------------------- */

static void keep_found(void)
{
    FILE *f = fopen(found_path, "wb");
    if (f != NULL && fwrite(now.bytes, 1, now.n, f) == now.n) fprintf(stderr, "the program is in %s\n", found_path);
    if (f != NULL) fclose(f);
}

static void found(const char *what, const char *isa)
{
    fprintf(stderr, "%s, %s kernels\n", what, isa);
    keep_found();
    exit(1);
}

#if !defined(__SANITIZE_ADDRESS__)
static void died(int signal_number)
{
    keep_found();
    _exit(128 + signal_number);
}
#endif

/* Sound and spectra of every kind: noise, full scale, what is no number, denormals, silence. */
static float poison(int kind)
{
    union { uint32_t u; float f; } any;
    any.u = rng();
    switch (kind) {
    case 0: return 0.0f;
    case 1: return any.f;
    case 2: return any.u & 1 ? 1e-40f : -1e-42f;
    case 3: return any.u & 1 ? 3.4e38f : -3.4e38f;
    case 4: return any.u % 3 == 0 ? any.f : any.u & 1 ? 1.0f : -1.0f;
    default: return (float)(int32_t)any.u / 2147483648.0f;
    }
}

/* The same word, for a float at least by value: what is no number has many faces. */
static int same_word(const uint8_t *a, const uint8_t *b)
{
    float x, y;
    memcpy(&x, a, 4), memcpy(&y, b, 4);
    return memcmp(a, b, 4) == 0 || x == y || (x != x && y != y);
}

static int same(const uint8_t *a, const uint8_t *b, size_t n)
{
    size_t i;
    if (memcmp(a, b, n) == 0) return 1;
    for (i = 0; i < n; i += 4)
        if (!same_word(a + i, b + i)) return 0;
    return 1;
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Behind the head of a block, and the arena's slack: nobody may touch them. */
static void guard(uint8_t *state, uint8_t *stream, int poisoned)
{
    uint8_t *head_end = state + sizeof(ed_state), *memory = state + MEMORY_AT;
    if (poisoned) {
        ASAN_POISON_MEMORY_REGION(head_end, (size_t)(memory - head_end));
        ASAN_POISON_MEMORY_REGION(stream - ED_SLACK, ED_SLACK);
    } else {
        ASAN_UNPOISON_MEMORY_REGION(head_end, (size_t)(memory - head_end));
        ASAN_UNPOISON_MEMORY_REGION(stream - ED_SLACK, ED_SLACK);
    }
}

/* A hop or some of one set; the seconds of the slowest. `seed`: of sound and states, the same for every set. */
static double run_set(uint8_t *state, size_t n_bytes, const ed_isa *isa, uint64_t seed, int n_hops)
{
    float spectrum[2 * ED_N_BINS];
    uint8_t head[sizeof(ed_state)], *audio = state + n_bytes - sizeof(ed_audio), *stream;
    double slowest = 0;
    int i, k, n_stream;
    rng_state = seed;
    if (ed_init_isa(state, n_bytes, weights_room.at, now.n, isa->name) != ED_OK) found("refused by ed_init", isa->name);
    memcpy(head, state, sizeof head);
    stream = ed_stream(state);
    n_stream = one_in(4) ? (int)ed_describe(state).n_stream_bytes : 0; /* it goes on from bytes of somebody else */
    for (k = 0; k < n_stream && k < 4096; k++) stream[k] = (uint8_t)rng();
    guard(state, stream, 1);
    for (i = 0; i < n_hops; i++) {
        int kind = below(6), whole = one_in(8);
        double from = seconds(), took;
        for (k = 0; k < 2 * ED_N_BINS; k++) spectrum[k] = poison(kind);
        if (!whole) ASAN_POISON_MEMORY_REGION(audio + 4, sizeof(ed_audio) - 4); /* all but the count of frames */
        if (whole) ed_process(state, spectrum, spectrum);
        else ed_step(state, spectrum, spectrum);
        ASAN_UNPOISON_MEMORY_REGION(audio, sizeof(ed_audio));
        took = seconds() - from;
        slowest = took > slowest ? took : slowest;
        counts.hops++;
        if (took > SLOW_S) break;
    }
    guard(state, stream, 0);
    if (memcmp(head, state, sizeof head) != 0) found("wrote before its memory", isa->name);
    return slowest;
}

/* --- what an operation may write: what the checker says ---------------------------------------------------------------- */

typedef struct {
    size_t from[2], end[2]; /* its result with its halo, and its state */
} spans;

static bounds bounds_of_now(void)
{
    bounds b;
    memset(&b, 0, sizeof b);
    b.weights = weights_room.at, b.header = (const ed_header *)(const void *)b.weights, b.work = INT64_MAX;
    b.n_weights = (int64_t)now.n - ED_SLACK, b.n_arena = (int64_t)b.header->n_arena_bytes - ED_SLACK;
    b.n_memory = (int64_t)b.header->n_arena_bytes + b.header->n_state_bytes, b.kept_end = b.header->n_arena_bytes;
    return b;
}

static spans spans_of(bounds *b, const ed_op *op)
{
    int64_t kept = b->kept_end;
    spans s;
    b->op = op;
    if (!fits(b)) found("accepted, then refused", "no");
    s.from[0] = (size_t)b->made, s.end[0] = (size_t)b->made_end;
    s.from[1] = s.end[1] = 0;
    if (b->kept_end != kept) s.from[1] = (size_t)op->state, s.end[1] = (size_t)b->kept_end;
    return s;
}

static void copy_spans(uint8_t *to, const uint8_t *from, const spans *s)
{
    int i;
    for (i = 0; i < 2; i++) memcpy(to + s->from[i], from + s->from[i], s->end[i] - s->from[i]);
}

/* Bytes as they are, floats by value. */
static int same_spans(const ed_op *op, const uint8_t *a, const uint8_t *b, const spans *s)
{
    int i;
    for (i = 0; i < 2; i++) {
        size_t at = s->from[i], n = s->end[i] - at;
        int bytes_alone = i == 0 ? ed_makes_i8(op) : op->kind != ED_GRU_CELL; /* rings are moved as they are */
        if (memcmp(a + at, b + at, n) != 0 && (bytes_alone || !same(a + at, b + at, n))) return 0;
    }
    return 1;
}

/* Each operation through every set, from the same memory: it writes where the checker says, in 8-bit programs the same. */
static void compare_sets(ed_state *s)
{
    static uint8_t before[MOST_COMPARED], wanted[MOST_COMPARED], made[MOST_COMPARED];
    const size_t n = (size_t)s->header->n_arena_bytes + s->header->n_state_bytes;
    const uint32_t frame = rng() % s->header->period;
    bounds b = bounds_of_now();
    uint32_t i;
    unsigned k;
    if (n > MOST_COMPARED || s->header->n_ops * n > 64 * MOST_COMPARED) return;
    for (i = 0; i < s->header->n_ops; i++) {
        const ed_op *op = ops_of(s) + i;
        const spans made_by = spans_of(&b, op);
        int first = 1;
        memcpy(before, s->memory, n);
        for (k = 0; k < N_SETS; k++) {
            if (!ed_isas[k]->usable()) continue;
            s->isa = ed_isas[k];
            guard((uint8_t *)s, ed_stream(s), 1);
            run_op(s, op, frame);
            guard((uint8_t *)s, ed_stream(s), 0);
            copy_spans(made, s->memory, &made_by);
            copy_spans(s->memory, before, &made_by);
            if (memcmp(before, s->memory, n) != 0) found("wrote where it may not", s->isa->name);
            if (first) copy_spans(wanted, made, &made_by);
            else if (COMPARED && s->header->precision == 1 && !same_spans(op, wanted, made, &made_by))
                found("not what the first set makes", s->isa->name);
            first = 0;
        }
        copy_spans(s->memory, wanted, &made_by);
    }
}

/* Every set; whether it was quick. */
static int run_all(size_t n_bytes)
{
    uint8_t *state = take_last(&state_room, n_bytes);
    const uint64_t seed = rng_state;
    double slowest = 0;
    int n_hops = 1 + below(3);
    unsigned i;
    for (i = 0; i < N_SETS; i++) {
        double took;
        if (!ed_isas[i]->usable()) continue;
        took = run_set(state, n_bytes, ed_isas[i], seed, n_hops);
        if (took > counts.slowest_s[i]) counts.slowest_s[i] = took;
        counts.ran[i]++;
        if (took > SLOW_S) n_hops = 1, slowest = took;
    }
    if (slowest == 0) compare_sets((ed_state *)(void *)state);
    if (memcmp(weights_room.at, now.bytes, now.n) != 0) found("wrote into its weights", "some");
    return slowest == 0;
}

/* --- programs of our own ---------------------------------------------------------------------------------------------- */

/* Arrays that any kind can read: floats, whole numbers, bytes, runs of rows, grids behind multipliers, tables. */
enum { FLOATS = 2048, INTS = 256, BYTES = 768, RUNS = 128, GRIDS = 192 + sizeof(ed_gru_grids), TABLE = 512 };
enum { ARENA = 1 << 15, STATES = 1 << 14 };

static float number(void) { return (float)(below(2001) - 1000) / (float)ONE_OF(1, 1000, 1000, 100000); }

/* Limits, and what is beyond them. */
static float odd_number(void)
{
    union { uint32_t u; float f; } any;
    any.u = (uint32_t)ONE_OF(0x7f7fffff, 0x7f800000, 0x7fc00000, 1, 0x007fffff, 0x3f000000, 0x4e800000, 0x42ff0000, 0x43000000);
    if (one_in(2)) any.u |= 0x80000000u;
    return any.f;
}

static float zero_point(void) { return (float)(below(256) - 128); }

static void arrays(uint8_t *at)
{
    float *f = (float *)(void *)at, *grids = (float *)(void *)(at + FLOATS + INTS + BYTES + RUNS);
    int32_t *ints = (int32_t *)(void *)(at + FLOATS);
    uint8_t *bytes = at + FLOATS + INTS, *table = at + FLOATS + INTS + BYTES + RUNS + GRIDS;
    uint16_t *runs = (uint16_t *)(void *)(bytes + BYTES);
    ed_gru_grids *g;
    int i;
    for (i = 0; i < FLOATS / 4; i++) f[i] = number();
    for (i = 0; i < INTS / 4; i++) ints[i] = below(40001) - 20000;
    for (i = 0; i < BYTES; i++) bytes[i] = (uint8_t)(below(255) - 127);
    for (i = 0; i < RUNS / 2; i += 2) runs[i] = (uint16_t)below(9), runs[i + 1] = (uint16_t)below(4);
    for (i = 0; i < GRIDS / 4; i++) grids[i] = number();
    g = (ed_gru_grids *)(void *)(grids + 48);
    g->gates_x_zp = zero_point(), g->gates_h_zp = zero_point(), g->h_zp = zero_point(), g->sum_zp = zero_point();
    g->gate_zp = zero_point(), g->reset_zp = zero_point(), g->new_zp = zero_point(), g->n_zp = zero_point();
    g->diff_zp = zero_point(), g->update_zp = zero_point();
    for (i = 0; i < TABLE; i++) table[i] = (uint8_t)rng();
    if (one_in(8)) f[below(FLOATS / 4)] = odd_number();
    if (one_in(8)) grids[below(GRIDS / 4)] = one_in(2) ? odd_number() : (float)ONE_OF(-129, -128, 127, 128);
    if (one_in(8)) ints[below(16)] = ONE_OF(1 << 30, -(1 << 30), (1 << 30) + 1, -(1 << 30) - 1, 0x7fffffff, 1 << 24);
    if (one_in(8)) bytes[below(BYTES)] = 0x80;
    if (one_in(8)) runs[below(RUNS / 2)] = (uint16_t)ONE_OF(0, 63, 64, 65, 255, 256, 65535);
}

/* Sizes and places of a kind, nearly always such that it is accepted. `at`: of the arrays, in the weights. */
static void make_op(ed_op *op, int kind, int at)
{
    const int ints = at + FLOATS, bytes = ints + INTS, runs = bytes + BYTES, grids = runs + RUNS + 192;
    int wide = 1, i8 = 0, i;
    memset(op, 0, sizeof *op);
    op->kind = (uint8_t)kind;
    op->n_rows = (uint16_t)ONE_OF(1, 2, 3, 5, 9), op->n_out = (uint16_t)ONE_OF(1, 2, 4, 8, 12, 16, 16, 20, 32);
    op->n_in = (uint16_t)ONE_OF(1, 3, 4, 4, 8, 16), op->taps = op->stride = op->time_taps = op->dilation = 1;
    op->x = 8192 + 4 * below(64), op->x2 = 14336 + 4 * below(64), op->y = 20480 + 4 * below(64), op->state = ARENA;
    op->weight = at, op->bias = at, op->scale = at, op->table = grids + (int)sizeof(ed_gru_grids);
    op->f0 = number(), op->f1 = number(), op->f2 = number();
    op->x_zp = (int8_t)rng(), op->x2_zp = (int8_t)rng(), op->y_zp = (int8_t)rng(), op->mid_zp = (int8_t)rng();
    op->x_row = op->x2_row = op->n_out;
    switch (kind) {
    case ED_FEATURES: op->n_out = 4, op->n_rows = (uint16_t)ONE_OF(1, 16, 257); break;
    case ED_MERGE: case ED_SPLIT:
        op->n_rows = (uint16_t)(1 + below(40)), op->n_in = (uint16_t)below(op->n_rows + 1), op->table = runs;
        op->n_out = 3, op->x_row = kind == ED_SPLIT ? 2 : 4;
        if (one_in(2)) op->x = op->x2 = 8192;
        break;
    case ED_MASK: op->n_rows = (uint16_t)ONE_OF(1, 16, 257); break;
    case ED_EDGES: op->seg = (uint16_t)(1 + below(9)), op->x2_row = op->n_in; break;
    case ED_CONV_I8: i8 = 1, op->bias = ints, op->weight = bytes; /* fall through */
    case ED_CONV:
        op->taps = (uint8_t)ONE_OF(1, 1, 2, 3), op->pad = op->taps / 2, op->stride = (uint8_t)ONE_OF(1, 2);
        op->x_row = op->n_in, op->flags = one_in(2) ? ED_LEAKY_AFTER : 0;
        if (op->n_out % 8 == 0 && one_in(2)) op->seg = op->n_out / 2, op->seg_row = 2 * op->seg, wide = 2;
        break;
    case ED_DEPTH_I8: i8 = 1, op->bias = ints, op->weight = bytes; /* fall through */
    case ED_DEPTH:
        op->taps = (uint8_t)ONE_OF(1, 3, 3), op->pad = op->taps / 2, op->time_taps = (uint8_t)ONE_OF(1, 2, 3, 3);
        op->n_out = (uint16_t)ONE_OF(1, 4, 16, 16, 32), op->x_row = op->n_out, op->dilation = (uint8_t)ONE_OF(1, 2);
        break;
    case ED_GRU_CELL_I8: op->scale = grids; /* fall through */
    case ED_GRU_CELL: op->x_row = op->x2_row = 3 * op->n_out, op->y = 0; break;
    case ED_BIGRU_I8: case ED_BIGRU_MIXED: i8 = 1, op->bias = ints, op->weight = bytes; /* fall through */
    case ED_BIGRU:
        op->n_in = (uint16_t)ONE_OF(1, 4, 4), op->n_out = 2 * op->n_in * (uint16_t)ONE_OF(1, 2, 2, 8, 9, 33), op->x_row = 3 * op->n_out;
        op->scale = kind == ED_BIGRU_I8 ? grids - 12 * op->n_out : at;
        break;
    case ED_INTERLEAVE: case ED_INTERLEAVE_I8: op->n_in = (uint16_t)ONE_OF(1, 2), op->n_out *= op->n_in, op->x_row = 2 * op->n_out; break;
    case ED_SHUFFLE: case ED_SHUFFLE_I8: wide = 2; break;
    case ED_GATE_SHUFFLE: wide = 2, op->bias = 12288; break;
    default: break;
    }
    if (i8 && one_in(3) && (kind == ED_CONV_I8 || kind == ED_DEPTH_I8)) op->flags |= ED_FLOAT_OUT;
    if (one_in(3) && (kind == ED_CONV || kind == ED_LAYER_NORM || kind == ED_BIGRU)) op->flags |= ED_HALF;
    if (kind == ED_LAYER_NORM && one_in(2)) op->flags |= ED_ADD_AFTER;
    if (op->seg == 0) op->seg = op->n_out;
    op->y_row = (uint16_t)(wide * op->n_out);
    if (one_in(4) && kind != ED_MEAN_SQUARE && kind != ED_SPLIT && kind != ED_MASK) op->halo = op->y_row;
    for (i = one_in(3) ? 1 + below(2) : 0; i > 0; i--) { /* a geometry that no network has */
        uint16_t *const sizes[] = {&op->seg, &op->seg, &op->seg_row, &op->x_row, &op->x2_row, &op->y_row, &op->n_in, &op->n_out, &op->n_rows, &op->halo};
        *sizes[below(N_OF(sizes))] = (uint16_t)ONE_OF(0, 1, 2, 3, 4, 6, 8, 8, 12, 16, 17, 24, 32, 33, 48, 64, 256, 1024);
    }
}

/* One to four operations of any kind, each with a state of its own. */
static void make(program *p)
{
    ed_header *h = header_of(p);
    int n_ops = 1 + below(4), at = (int)(sizeof *h + (size_t)n_ops * sizeof(ed_op)), i;
    memset(p->bytes, 0, sizeof *h);
    p->n = (size_t)at + FLOATS + INTS + BYTES + RUNS + GRIDS + TABLE + ED_SLACK;
    h->precision = (uint32_t)below(2), h->n_ops = (uint32_t)n_ops, h->ops = sizeof *h;
    h->n_arena_bytes = ARENA, h->n_state_bytes = STATES, h->enhanced = 4096, h->period = 840;
    for (i = 0; i < n_ops; i++) make_op(op_of(p, i), ED_FEATURES + below(ED_N_KINDS - ED_FEATURES), at);
    for (i = 1; i < n_ops; i++) op_of(p, i)->state += i * (STATES / 4);
    arrays(p->bytes + at);
    memset(p->bytes + p->n - ED_SLACK, 0, ED_SLACK);
}

/* --- fields ----------------------------------------------------------------------------------------------------------- */

typedef struct {
    const char *name;
    size_t at, size;
} field;

#define OP_FIELD(f) {#f, offsetof(ed_op, f), sizeof(((ed_op *)0)->f)}
#define HEADER_FIELD(f) {#f, offsetof(ed_header, f), sizeof(((ed_header *)0)->f)}
static const field header_fields[] = {HEADER_FIELD(precision), HEADER_FIELD(n_ops), HEADER_FIELD(ops),
                                      HEADER_FIELD(n_arena_bytes), HEADER_FIELD(n_state_bytes), HEADER_FIELD(spectrum),
                                      HEADER_FIELD(enhanced), HEADER_FIELD(period)};
static const field op_fields[] = {
    OP_FIELD(x), OP_FIELD(x2), OP_FIELD(y), OP_FIELD(state), OP_FIELD(weight), OP_FIELD(bias), OP_FIELD(scale),
    OP_FIELD(table), OP_FIELD(f0), OP_FIELD(f1), OP_FIELD(f2), OP_FIELD(n_rows), OP_FIELD(x_row), OP_FIELD(x2_row),
    OP_FIELD(y_row), OP_FIELD(n_in), OP_FIELD(n_out), OP_FIELD(seg), OP_FIELD(seg_row), OP_FIELD(halo), OP_FIELD(kind),
    OP_FIELD(flags), OP_FIELD(taps), OP_FIELD(stride), OP_FIELD(pad), OP_FIELD(time_taps), OP_FIELD(dilation),
    OP_FIELD(x_zp), OP_FIELD(x2_zp), OP_FIELD(y_zp), OP_FIELD(mid_zp)};

/* Where a field lies, as a number of its size. */
typedef struct {
    uint8_t *at;
    size_t size;
} place;

static int64_t get(place f)
{
    uint32_t v = 0;
    memcpy(&v, f.at, f.size);
    return v;
}

static void set(place f, int64_t value)
{
    uint32_t v = (uint32_t)value;
    memcpy(f.at, &v, f.size);
}

/* A field of the header, or mostly of an operation. */
static place some_field(program *p)
{
    int n_ops = n_ops_of(p), of_header = n_ops == 0 || one_in(6);
    const field *f = of_header ? header_fields + below(N_OF(header_fields)) : op_fields + below(N_OF(op_fields));
    place found_at;
    found_at.at = (of_header ? p->bytes : (uint8_t *)op_of(p, below(n_ops))) + f->at, found_at.size = f->size;
    return found_at;
}

/* What it is next to, what others are, what sizes are, and the ends of what it can be. */
static int64_t interesting(program *p, place f)
{
    const int64_t value = get(f);
    switch (below(8)) {
    case 0: return value + ONE_OF(-64, -16, -8, -4, -3, -2, -1, 1, 2, 3, 4, 8, 16, 64);
    case 1: return ONE_OF(0, 1, 2, 3, 4, 5, 7, 8, 12, 15, 16, 17, 24, 31, 32, 33, 48, 63, 64, 65, 127, 128, 129, 255, 256,
                          257, 271, 272, 273, 544, 1024, 4096, 16383, 16384, 32767, 32768, 65535, 65536);
    case 2: return one_in(2) ? -1 : ONE_OF(0x7fffffff, 0x7fff0000, -0x7fffffff - 1, 0x10000000, 0x01000000, 0x7f800000, 0x7fc00000);
    case 3: return one_in(2) ? value * ONE_OF(2, 3, 4) : value / ONE_OF(2, 3, 4);
    case 4: return get(some_field(p)) + ONE_OF(0, 0, 0, -4, 4, -16, 16);
    case 5: return (int64_t)header_of(p)->n_arena_bytes + header_of(p)->n_state_bytes - 4 * below(256);
    case 6: return header_of(p)->n_arena_bytes - ED_SLACK - ONE_OF(0, 1, 2, 4, 8, 16, 64, 256, 2176);
    default: return rng();
    }
}

/* As far as the checker lets it, in steps of a power of two; `step`: the first. */
static void push(program *p, place f, int64_t step)
{
    const int64_t unit = step < 0 ? -step : step;
    int64_t value = get(f);
    int grows = 1;
    if (accepted(p) == 0) return;
    while (step != 0 && step > -(1 << 26) && step < 1 << 26) {
        set(f, value + step);
        if (accepted(p) != 0 && get(f) == value + step) {
            value += step;
            if (grows) step *= 2;
        } else {
            grows = 0;
            step = step / 2 / unit * unit;
        }
    }
    set(f, value);
}

static place of_header(program *p, size_t at) { return (place){p->bytes + at, 4}; }

/* The weights as long as the checker lets them be short. */
static void cut(program *p)
{
    size_t step;
    for (step = 4096; step >= 4; step /= 2)
        while (p->n > step + sizeof(ed_header)) {
            p->n -= step;
            if (accepted(p) != 0) continue;
            p->n += step;
            break;
        }
}

/* Values and states to the end of the memory, the memory to the end of them, arrays and weights alike. */
static void tighten(program *p)
{
    int n = n_ops_of(p);
    place f;
    if (n == 0) return;
    f.at = (uint8_t *)op_of(p, below(n)), f.size = 4;
    switch (below(13)) {
    case 11: /* one value over another */
        set((place){f.at + 4 * below(4), 4}, get((place){f.at + 4 * below(4), 4}) + ONE_OF(0, 1, 4, -4, 16, -16, 64, -64));
        break;
    case 0: case 1: case 2: f.at += offsetof(ed_op, y), push(p, f, ONE_OF(1, 4)); break;
    case 3: f.at += offsetof(ed_op, x), push(p, f, ONE_OF(1, 4, -1, -4)); break;
    case 4: f.at += offsetof(ed_op, x2), push(p, f, ONE_OF(1, 4, -1, -4)); break;
    case 5: f.at += offsetof(ed_op, state), push(p, f, ONE_OF(1, 4)); break;
    case 6: f.at += (size_t)ONE_OF(offsetof(ed_op, weight), offsetof(ed_op, bias), offsetof(ed_op, scale), offsetof(ed_op, table)), push(p, f, 4); break;
    case 7: case 8: push(p, of_header(p, offsetof(ed_header, n_state_bytes)), -16); break;
    case 9: push(p, of_header(p, offsetof(ed_header, n_arena_bytes)), -64); break;
    case 10: cut(p); break;
    default: push(p, some_field(p), ONE_OF(1, 1, 4, 16, -1, -1, -4)); break;
    }
}

/* Numbers of the arrays: bits, ends of integers, what is no number. */
static void change_arrays(program *p)
{
    size_t n = 1 + (size_t)below(8), at;
    while (n-- > 0 && p->n > sizeof(ed_header)) {
        at = sizeof(ed_header) + rng() % (p->n - sizeof(ed_header));
        if (one_in(2)) p->bytes[at] = (uint8_t)ONE_OF(0, 1, 0x7f, 0x80, 0x81, 0xff);
        else set((place){p->bytes + (at & ~(size_t)3), 4}, ONE_OF(0, 1, -1, 0x40000000, -0x40000000, 0x40000001, 0x7f800000, 0x7fc00000, 1000000));
    }
}

/* Operations come, go, change places, and become others. */
static void change_ops(program *p)
{
    int n = n_ops_of(p), i, k;
    ed_op spare;
    if (n == 0) return;
    i = below(n), k = below(n);
    spare = *op_of(p, i);
    switch (below(5)) {
    case 0: op_of(p, i)->kind = (uint8_t)below(ED_N_KINDS + 1); break;
    case 1: *op_of(p, i) = *op_of(p, k); break;
    case 2: *op_of(p, i) = *op_of(p, k), *op_of(p, k) = spare; break;
    case 3: /* some of them alone: real programs become quick */
        header_of(p)->ops += (uint32_t)i * (uint32_t)sizeof(ed_op), header_of(p)->n_ops = (uint32_t)(1 + below(n - i));
        break;
    default: op_of(p, i)->flags ^= (uint8_t)(1 << below(8));
    }
}

static void mutate(program *p)
{
    int n = 1 + below(4);
    while (n-- > 0) {
        place f = some_field(p);
        if (one_in(8)) change_ops(p);
        else if (one_in(8)) change_arrays(p);
        else if (one_in(64)) p->n = sizeof(ed_header) + rng() % (p->n - sizeof(ed_header) + 1);
        else set(f, interesting(p, f));
    }
    for (n = one_in(3) ? 1 + below(4) : 0; n > 0; n--) tighten(p);
}

/* --- the rounds ------------------------------------------------------------------------------------------------------- */

static void keep(const program *p)
{
    unsigned i = n_pool < N_POOL ? n_pool++ : (unsigned)below(N_POOL);
    if (pool[i] == NULL && (pool[i] = malloc(sizeof **pool)) == NULL) exit(2);
    memcpy(pool[i]->bytes, p->bytes, p->n);
    pool[i]->n = p->n;
}

static void try(int from_pool)
{
    size_t n_bytes = accepted(&now);
    int quick;
    counts.tried++;
    if (n_bytes == 0) return;
    counts.accepted++;
    quick = run_all(n_bytes);
    if (quick && n_bytes < 1 << 18 && (!from_pool || one_in(4))) keep(&now);
}

static void one_round(void)
{
    if (n_pool < 64 || one_in(16)) {
        make(&now);
        try(0);
        return;
    }
    {
        const program *from = pool[below((int)n_pool)];
        memcpy(now.bytes, from->bytes, from->n);
        now.n = from->n;
    }
    mutate(&now);
    try(1);
}

static void read_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (f == NULL) {
        perror(path);
        exit(2);
    }
    now.n = fread(now.bytes, 1, sizeof now.bytes, f);
    fclose(f);
    if (now.n >= sizeof(ed_header)) try(0);
}

static void report(double took)
{
    unsigned i;
    printf("%llu programs, %llu accepted, %llu hops in %.0f s: nothing found\n", (unsigned long long)counts.tried,
           (unsigned long long)counts.accepted, (unsigned long long)counts.hops, took);
    for (i = 0; i < N_SETS; i++)
        printf("%s: %llu ran, slowest hop %.0f ms\n", ed_isas[i]->name, (unsigned long long)counts.ran[i], 1e3 * counts.slowest_s[i]);
}

int main(int argc, char **argv)
{
    double from = seconds();
    int i;
    if (argc < 4) {
        fputs("usage: fuzz SECONDS RANDOM FOUND [FILE...]\n", stderr);
        return 2;
    }
    rng_state = 0x9e3779b97f4a7c15u * (strtoull(argv[2], NULL, 10) + 1), found_path = argv[3];
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_set_death_callback(keep_found);
#else
    signal(SIGSEGV, died), signal(SIGBUS, died), signal(SIGABRT, died), signal(SIGFPE, died), signal(SIGILL, died);
#endif
    open_room(&weights_room, LONGEST);
    open_room(&state_room, ED_MOST_MEMORY_BYTES + 8192);
    for (i = 4; i < argc; i++) read_file(argv[i]);
    while (seconds() - from < atof(argv[1])) one_round();
    report(seconds() - from);
    return 0;
}
