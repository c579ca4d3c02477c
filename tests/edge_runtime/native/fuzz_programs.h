/* Of fuzz.c: programs made here, and how one is changed into another. */

/* --- programs of our own ---------------------------------------------------------------------------------------------- */

/* Arrays that any kind can read: floats, whole numbers, bytes, runs of rows, grids behind multipliers, tables,
 * numbers of 16 bits. */
enum { FLOATS = 2048, INTS = 256, BYTES = 768, RUNS = 128, GRIDS = 192 + sizeof(ed_gru_grids), TABLE = 512, SHORTS = 3072 };
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
    int16_t *shorts = (int16_t *)(void *)(table + TABLE);
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
    for (i = 0; i < SHORTS / 2; i++) shorts[i] = (int16_t)(below(2001) - 1000);
    if (one_in(8)) shorts[below(SHORTS / 2)] = (int16_t)ONE_OF(32767, -32767, -32768, 20000);
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
    case ED_QUANTIZE_I16: op->state = 12288; break;
    case ED_CONV_I16:
        op->taps = (uint8_t)ONE_OF(1, 1, 2, 3), op->pad = op->taps / 2, op->stride = (uint8_t)ONE_OF(1, 2);
        op->x_row = (uint16_t)ONE_OF(3, op->n_in), op->flags = one_in(2) ? ED_LEAKY_AFTER : 0, op->weight = op->table + TABLE;
        if (op->n_out % 8 == 0 && one_in(2)) op->seg = op->n_out / 2, op->seg_row = 2 * op->seg, wide = 2;
        break;
    case ED_GRU_CELL_I8: op->scale = grids; /* fall through */
    case ED_GRU_CELL: case ED_GRU_CELL_I16: op->x_row = op->x2_row = 3 * op->n_out, op->y = 0; break;
    case ED_BIGRU_I16: op->f0 = (float)below(32768), op->f1 = (float)below(32768), op->f2 = (float)(below(65535) - 32767); /* fall through */
    case ED_BIGRU_I8: case ED_BIGRU_MIXED: i8 = 1, op->bias = ints, op->weight = bytes; /* fall through */
    case ED_BIGRU:
        op->n_in = (uint16_t)ONE_OF(1, 4, 4), op->n_out = 2 * op->n_in * (uint16_t)ONE_OF(1, 2, 2, 8, 9, 33), op->x_row = 3 * op->n_out;
        op->scale = kind == ED_BIGRU_I8 ? grids - 12 * op->n_out : at;
        break;
    case ED_INTERLEAVE: case ED_INTERLEAVE_I8: op->n_in = (uint16_t)ONE_OF(1, 2), op->n_out *= op->n_in, op->x_row = 2 * op->n_out; break;
    case ED_LOG_MAGNITUDE: op->n_out = 1, op->n_rows = (uint16_t)ONE_OF(1, 16, 257); break;
    case ED_MASK_REAL: op->n_rows = (uint16_t)ONE_OF(1, 16, 257); break;
    case ED_HISTORY: case ED_HISTORY_I8:
        op->time_taps = (uint8_t)ONE_OF(1, 2, 3), op->n_out = (uint16_t)(op->time_taps * op->n_in + below(4)), op->x_row = op->n_in;
        break;
    case ED_RESAMPLE_I8: i8 = 1, op->bias = ints, op->weight = bytes; /* fall through */
    case ED_RESAMPLE:
        op->taps = (uint8_t)ONE_OF(1, 3, 3, 5), op->pad = op->taps / 2, op->time_taps = (uint8_t)ONE_OF(1, 2, 3);
        op->n_out = (uint16_t)ONE_OF(1, 4, 12, 24), op->x_row = op->n_out, op->dilation = (uint8_t)ONE_OF(1, 1, 2);
        op->stride = (uint8_t)ONE_OF(1, 2), op->seg_row = (uint16_t)ONE_OF(1, 2);
        op->seg = (uint16_t)((op->n_rows - 1) / op->seg_row * op->stride + 1 + below(2));
        break;
    case ED_AFFINE_RELU_I16: op->weight = op->table = op->bias = bytes, op->scale = runs, op->f0 = (float)below(128); break;
    case ED_GATES_I16: op->state = 12288; /* fall through */
    case ED_ADD_I16: op->f0 = (float)below(32768), op->f1 = (float)below(32768); break;
    case ED_AFFINE_RELU_I8: op->weight = op->table = bytes, op->bias = runs; break;
    case ED_BAND_ENERGY_I8: op->weight = bytes; /* fall through */
    case ED_BAND_ENERGY: op->n_in = (uint16_t)(op->n_rows + below(4)); break;
    case ED_GATES: case ED_GATES_I8: op->state = 12288; break;
    case ED_SHUFFLE: case ED_SHUFFLE_I8: wide = 2; break;
    case ED_GATE_SHUFFLE: wide = 2, op->bias = 12288; break;
    default: break;
    }
    if (i8 && one_in(3) && (kind == ED_CONV_I8 || kind == ED_DEPTH_I8 || kind == ED_RESAMPLE_I8)) op->flags |= ED_FLOAT_OUT;
    if (one_in(3) && (kind == ED_CONV || kind == ED_LAYER_NORM || kind == ED_BIGRU || kind == ED_AFFINE_RELU)) op->flags |= ED_HALF;
    if (one_in(2) && (kind == ED_GRU_CELL || kind == ED_BIGRU || kind == ED_BIGRU_MIXED)) op->flags |= ED_QUICK;
    if (kind == ED_LAYER_NORM && one_in(2)) op->flags |= ED_ADD_AFTER;
    if (op->seg == 0) op->seg = op->n_out;
    op->y_row = (uint16_t)(wide * op->n_out);
    if (one_in(4) && kind != ED_MEAN_SQUARE && kind != ED_MEAN_SQUARE_I8 && kind != ED_BAND_ENERGY && kind != ED_BAND_ENERGY_I8
        && kind != ED_SPLIT && kind != ED_MASK && kind != ED_MASK_REAL) op->halo = op->y_row;
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
    p->n = (size_t)at + FLOATS + INTS + BYTES + RUNS + GRIDS + TABLE + SHORTS + ED_SLACK;
    h->precision = (uint32_t)below(2), h->n_ops = (uint32_t)n_ops, h->ops = sizeof *h;
    h->n_arena_bytes = ARENA, h->n_state_bytes = STATES, h->enhanced = 4096, h->period = 840;
    for (i = 0; i < n_ops; i++) make_op(op_of(p, i), ED_FEATURES + below(ED_N_KINDS - ED_FEATURES), at);
    for (i = 1; i < n_ops; i++)
        if (op_of(p, i)->state == ARENA) op_of(p, i)->state += i * (STATES / 4);
    for (i = 0; i < n_ops; i++) /* its bytes come before its state */
        if (op_of(p, i)->kind == ED_GRU_CELL_I16) op_of(p, i)->y = op_of(p, i)->state, op_of(p, i)->state += STATES / 8;
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
