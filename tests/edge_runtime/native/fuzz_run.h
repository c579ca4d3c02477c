/* Of fuzz.c: chance, memory that ends where it ends, and the run of a program through every kernel set. */
#include "ed_bounds.h"
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
    uint64_t of_kind[ED_N_KINDS]; /* accepted programs that were changed, by the kinds of operation in them */
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
    size_t from[3], end[3]; /* its result with its halo, its state, and what says how large steps are */
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
    b->op = op, b->unit = b->unit_end = 0;
    if (!ed_fits(b)) found("accepted, then refused", "no");
    s.from[0] = (size_t)b->made, s.end[0] = (size_t)b->made_end;
    s.from[1] = s.end[1] = 0;
    if (b->kept_end != kept) s.from[1] = (size_t)op->state, s.end[1] = (size_t)b->kept_end;
    s.from[2] = (size_t)b->unit, s.end[2] = (size_t)b->unit_end;
    return s;
}

static void copy_spans(uint8_t *to, const uint8_t *from, const spans *s)
{
    int i;
    for (i = 0; i < 3; i++) memcpy(to + s->from[i], from + s->from[i], s->end[i] - s->from[i]);
}

/* Bytes as they are, floats by value. */
static int same_spans(const ed_op *op, const uint8_t *a, const uint8_t *b, const spans *s)
{
    int i;
    for (i = 0; i < 3; i++) {
        size_t at = s->from[i], n = s->end[i] - at;
        int bytes_alone = i == 0 ? ed_result_bytes(op) < 4 : op->kind != ED_GRU_CELL; /* rings are moved as they are */
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
            run_op(s, kernels_of(s, s->isa), others_of(s), op, frame);
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
