/* What is proven here of every operation before anything runs, by the least and the greatest offset that any kernel of
 * its kind reaches:
 *
 *  - results lie in the arena, its own state in the states, and no other operation's state lies there;
 *  - what it reads lies in the arena, in the states or in the weights. Beyond a value nothing is read, beyond an array
 *    of weights ED_SLACK bytes at most;
 *  - it reads nothing that it writes (EDGES may work in place), and the rows and pieces that it makes do not lie over one
 *    another: the order in which a kernel goes is free, so all kernel sets make the same;
 *  - 8-bit weights reach from -127 to 127, biases and numbers under one sum so far that 32 bits hold it: see MOST;
 *  - all of them together do no more work, in no more memory, than ED_MOST_... say. */
#include "ed_check.h"

#define MOST 32768 /* numbers under one sum, numbers of a value, operations */
#define MOST_BIAS (1 << 30) /* and MOST products of -127..127 with -128..127 are 2^29: their sum fits */
#define MOST_UNITS 64 /* of a recurrent layer over bands: kernels keep them on the stack */
#define LARGEST_FLOAT 3.402823466e38f

static uint32_t crc32(const uint8_t *bytes, size_t n)
{
    static const uint32_t nibble[16] = {0x00000000u, 0x1db71064u, 0x3b6e20c8u, 0x26d930acu, 0x76dc4190u, 0x6b6b51f4u,
                                        0x4db26158u, 0x5005713cu, 0xedb88320u, 0xf00f9344u, 0xd6d6a3e8u, 0xcb61b38cu,
                                        0x9b64c2b0u, 0x86d3d2d4u, 0xa00ae278u, 0xbdbdf21cu};
    uint32_t crc = 0xffffffffu;
    for (; n > 0; n--) {
        crc ^= *bytes++;
        crc = crc >> 4 ^ nibble[crc & 15u];
        crc = crc >> 4 ^ nibble[crc & 15u];
    }
    return ~crc;
}

int ed_makes_i8(const ed_op *op)
{
    switch (op->kind) {
    case ED_CONV_I8: case ED_DEPTH_I8: return !(op->flags & ED_FLOAT_OUT);
    case ED_LEAKY_I8: case ED_GATE_I8: case ED_SHUFFLE_I8: case ED_ADD_I8: case ED_INTERLEAVE_I8:
    case ED_QUANTIZE: case ED_GRU_CELL_I8: case ED_BIGRU_I8: return 1;
    default: return 0;
    }
}

/* One operation against what there is. */
typedef struct {
    const ed_header *header;
    const uint8_t *weights;
    const ed_op *op;
    int64_t n_weights;        /* bytes of weights that arrays may fill; ED_SLACK more are there */
    int64_t n_arena, n_memory; /* ends of the arena, without its slack, and of the states */
    int64_t made, made_end;   /* bytes that the operation writes */
    int64_t kept_end;         /* of the states of operations before */
    int64_t work;             /* still allowed */
} bounds;

/* --- memory ------------------------------------------------------------------------------------------------------- */

/* Bytes from..end lie whole in the arena or whole in the states. */
static int inside(const bounds *b, int64_t from, int64_t end)
{
    return from >= 0 && from <= end && (end <= b->n_arena || (from >= b->header->n_arena_bytes && end <= b->n_memory));
}

/* Rows first..last of `columns` elements are read, at `at`; after `makes` or `keeps`. */
static int reads_rows(const bounds *b, int64_t at, int64_t first, int64_t last, int64_t row, int64_t columns, int64_t element)
{
    int64_t from = at + first * row * element, end = at + (last * row + columns) * element;
    return at % element == 0 && inside(b, from, end) && (end <= b->made || from >= b->made_end);
}

/* As many rows as are made. */
static int reads(const bounds *b, int64_t at, int64_t row, int64_t columns, int64_t element)
{
    return reads_rows(b, at, 0, b->op->n_rows - 1, row, columns, element);
}

static int reads_one(const bounds *b, int64_t at, int64_t columns, int64_t element)
{
    return reads_rows(b, at, 0, 0, 0, columns, element);
}

static int reads_planes(const bounds *b, int64_t at)
{
    return reads_one(b, at, 2 * ED_PLANE, 4);
}

static int writes(bounds *b, int64_t at, int64_t from, int64_t end, int64_t element)
{
    b->made = from, b->made_end = end;
    return at % element == 0 && from >= 0 && from <= end && end <= b->n_arena;
}

/* Rows of results, and their halo. */
static int makes(bounds *b, int64_t n_rows, int64_t columns, int64_t element)
{
    const ed_op *op = b->op;
    int64_t end = op->halo ? n_rows * op->y_row + op->halo : (n_rows - 1) * op->y_row + columns;
    return op->y_row >= columns && writes(b, op->y, op->y - op->halo * element, op->y + end * element, element);
}

static int writes_planes(bounds *b, int64_t at)
{
    return writes(b, at, at, at + 2 * ED_PLANE * 4, 4);
}

static int makes_planes(bounds *b)
{
    return b->op->halo == 0 && writes_planes(b, b->op->y);
}

/* A state of `count` elements, behind those of all operations before. */
static int keeps(bounds *b, int64_t count, int64_t element)
{
    int64_t from = b->op->state, end = from + count * element;
    if (from % element != 0 || from < b->kept_end || end > b->n_memory) return 0;
    b->kept_end = end;
    return 1;
}

/* --- weights ------------------------------------------------------------------------------------------------------ */

static int array(const bounds *b, int64_t at, int64_t count, int64_t element)
{
    return at % 4 == 0 && at >= (int64_t)sizeof(ed_header) && at + count * element <= b->n_weights;
}

static int biases(const bounds *b, int64_t at, int64_t count)
{
    const int32_t *bias;
    int64_t i;
    if (!array(b, at, count, 4)) return 0;
    bias = (const int32_t *)(const void *)(b->weights + at);
    for (i = 0; i < count; i++)
        if (bias[i] > MOST_BIAS || bias[i] < -MOST_BIAS) return 0;
    return 1;
}

/* NEON adds two products in 16 bits, which two of -128 with -128 would leave. */
static int bytes(const bounds *b, int64_t at, int64_t count)
{
    int64_t i;
    if (!array(b, at, count, 1)) return 0;
    for (i = 0; i < count; i++)
        if (b->weights[at + i] == 0x80) return 0;
    return 1;
}

static int is_finite(float v)
{
    return v >= -LARGEST_FLOAT && v <= LARGEST_FLOAT;
}

static int floats(const bounds *b, int64_t at, int64_t count)
{
    const float *v;
    int64_t i;
    if (!array(b, at, count, 4)) return 0;
    v = (const float *)(const void *)(b->weights + at);
    for (i = 0; i < count; i++)
        if (!is_finite(v[i])) return 0;
    return 1;
}

/* Floats, or as many in half precision. */
static int numbers(const bounds *b, int64_t at, int64_t count)
{
    const uint16_t *half;
    int64_t i;
    if (!(b->op->flags & ED_HALF)) return floats(b, at, count);
    if (!array(b, at, count, 2)) return 0;
    half = (const uint16_t *)(const void *)(b->weights + at);
    for (i = 0; i < count; i++)
        if ((half[i] & 0x7c00u) == 0x7c00u) return 0;
    return 1;
}

static int is_zero_point(float zp)
{
    return zp >= -128.0f && zp <= 127.0f && (float)(int)zp == zp;
}

/* Zero points are whole bytes, so that no step of a grid is an index beyond a table of 256. */
static int grids(const bounds *b, int64_t at)
{
    const ed_gru_grids *g;
    if (!floats(b, at, sizeof *g / sizeof(float)) || !array(b, b->op->table, 512, 1)) return 0;
    g = (const ed_gru_grids *)(const void *)(b->weights + at);
    return is_zero_point(g->gates_x_zp) && is_zero_point(g->gates_h_zp) && is_zero_point(g->h_zp)
           && is_zero_point(g->sum_zp) && is_zero_point(g->gate_zp) && is_zero_point(g->reset_zp)
           && is_zero_point(g->new_zp) && is_zero_point(g->n_zp) && is_zero_point(g->diff_zp)
           && is_zero_point(g->update_zp);
}

/* --- kinds -------------------------------------------------------------------------------------------------------- */

static int64_t padded(int64_t n)
{
    return (n + 3) / 4 * 4;
}

/* Runs of rows of x, and as many weights; `columns`: those of x. */
static int runs(bounds *b, int64_t columns)
{
    const ed_op *op = b->op;
    const uint16_t *run;
    int64_t total = 0, high = op->n_in, i;
    if (op->n_in > op->n_rows || !array(b, op->table, 2 * (op->n_rows - op->n_in), 2)) return 0;
    run = (const uint16_t *)(const void *)(b->weights + op->table);
    for (i = 0; i < op->n_rows - op->n_in; i++) {
        total += run[2 * i + 1];
        if (run[2 * i] + run[2 * i + 1] > high) high = run[2 * i] + run[2 * i + 1];
    }
    b->work -= total * columns;
    return b->work >= 0 && floats(b, op->weight, total)
           && (high == 0 || reads_rows(b, op->x, 0, high - 1, op->x_row, columns, 4));
}

/* The vectorized kernel reads whole rows of 4, and makes 3 of them. */
static int merge(bounds *b)
{
    const ed_op *op = b->op;
    return op->n_out <= 4 && makes(b, op->n_rows, op->n_out, 4) && runs(b, op->x_row == 4 ? 4 : op->n_out);
}

/* x2 is read in its first and its last row. */
static int edges(bounds *b)
{
    const ed_op *op = b->op;
    int in_place = op->x == op->y && op->x_row == op->y_row;
    return makes(b, op->n_rows, op->n_out, 4) && (in_place || reads(b, op->x, op->x_row, op->n_out, 4))
           && reads_rows(b, op->x2, 0, op->seg - 1, op->x2_row, op->n_in, 4)
           && floats(b, op->weight, 2 * (int64_t)op->n_in * op->n_out);
}

/* Inputs of 8 bits are read four at a time, with weights for as many. */
ED_SELDOM static int convolution(bounds *b, int64_t element)
{
    const ed_op *op = b->op;
    int64_t last = (op->n_rows - 1) * (int64_t)op->stride + op->taps - 1 - op->pad, n_out = padded(op->n_out);
    int64_t n_in = element == 1 ? padded(op->n_in) : op->n_in, columns = op->n_out;
    if (op->pad >= op->taps || op->taps * n_in > MOST) return 0;
    if (op->seg < op->n_out) { /* pieces that do not overlap, so the last one ends last */
        if (op->seg_row < op->seg) return 0;
        columns = (op->n_out - 1) / op->seg * (int64_t)op->seg_row + (op->n_out - 1) % op->seg + 1;
    }
    if (!makes(b, op->n_rows, columns, ed_makes_i8(op) ? 1 : 4)) return 0;
    if (!reads_rows(b, op->x, -op->pad, last, op->x_row, n_in, element)) return 0;
    if (element == 1) return bytes(b, op->weight, op->taps * n_in * n_out) && biases(b, op->bias, n_out) && floats(b, op->scale, n_out);
    return numbers(b, op->weight, op->taps * n_in * n_out) && floats(b, op->bias, n_out);
}

/* Of every frame, this one and those of the ring, n_rows + 2 pad rows are read. */
ED_SELDOM static int depthwise(bounds *b, int64_t element)
{
    const ed_op *op = b->op;
    int64_t n_ring = (op->time_taps - 1) * (int64_t)op->dilation, n = op->n_out;
    if (op->x_row != op->n_out || op->pad != op->taps / 2 || op->seg < op->n_out) return 0;
    if (n_ring > 0 && (b->header->period % n_ring != 0 || !keeps(b, n_ring * (int64_t)ed_slot_size(op), element))) return 0;
    return makes(b, op->n_rows, n, ed_makes_i8(op) ? 1 : 4)
           && reads_rows(b, op->x, -op->pad, op->n_rows - 1 + op->pad, op->x_row, n, element)
           && (element == 1 ? bytes(b, op->weight, op->time_taps * op->taps * n) && biases(b, op->bias, n)
                                  && floats(b, op->scale, n)
                            : floats(b, op->weight, op->time_taps * op->taps * n) && floats(b, op->bias, n));
}

/* Both inputs, if there are two, and the result, `wide` times as many columns as each input. */
static int elementwise(bounds *b, int two, int64_t element, int64_t wide)
{
    const ed_op *op = b->op;
    return makes(b, op->n_rows, wide * op->n_out, ed_makes_i8(op) ? 1 : 4) && reads(b, op->x, op->x_row, op->n_out, element)
           && (!two || reads(b, op->x2, op->x2_row, op->n_out, element));
}

static int interleave(bounds *b, int64_t element)
{
    const ed_op *op = b->op;
    return op->n_out % op->n_in == 0 && makes(b, op->n_rows, op->n_out, element)
           && reads_rows(b, op->x, 0, (op->n_rows - 1) / 2, op->x_row, 2 * op->n_out, element);
}

/* x, x2 and y without gaps between their rows. */
static int layer_norm(bounds *b)
{
    const ed_op *op = b->op;
    int64_t n = op->n_rows * (int64_t)op->n_out;
    int two = (op->flags & ED_ADD_AFTER) != 0;
    return op->x_row == op->n_out && op->y_row == op->n_out && (!two || op->x2_row == op->n_out)
           && elementwise(b, two, 4, 1) && numbers(b, op->weight, n) && numbers(b, op->bias, n);
}

/* The result is the state: rows of n_out, without gaps. */
static int cell(bounds *b, int64_t element)
{
    const ed_op *op = b->op;
    int64_t n = op->n_out;
    if (op->halo != 0 || !keeps(b, op->n_rows * n, element)) return 0;
    b->made = op->state, b->made_end = b->kept_end;
    return reads(b, op->x, op->x_row, 3 * n, element) && reads(b, op->x2, op->x2_row, 3 * n, element);
}

static int bigru(bounds *b, int64_t element)
{
    const ed_op *op = b->op;
    int64_t n = op->n_out;
    return n <= MOST_UNITS && n % 2 == 0 && n / 2 % op->n_in == 0 && makes(b, op->n_rows, n, element)
           && reads(b, op->x, op->x_row, 3 * n, element);
}

static int bigru_products(const bounds *b)
{
    const ed_op *op = b->op;
    return bytes(b, op->weight, 3 * (int64_t)op->n_out * op->n_in) && biases(b, op->bias, 3 * op->n_out)
           && floats(b, op->scale, 3 * op->n_out);
}

ED_SELDOM static int fits(bounds *b)
{
    const ed_op *op = b->op;
    switch (op->kind) {
    case ED_FEATURES:
        return op->n_rows <= ED_N_BINS && op->y_row == 4 && makes(b, op->n_rows, 4, 4) && reads_planes(b, op->x);
    case ED_MERGE: return merge(b);
    case ED_SPLIT: return op->n_rows <= ED_N_BINS && makes_planes(b) && runs(b, 2);
    case ED_MASK: return op->n_rows <= ED_N_BINS && makes_planes(b) && reads_planes(b, op->x) && reads_planes(b, op->x2);
    case ED_EDGES: return edges(b);
    case ED_CONV: return convolution(b, 4);
    case ED_CONV_I8: return convolution(b, 1);
    case ED_DEPTH: return depthwise(b, 4);
    case ED_DEPTH_I8: return depthwise(b, 1);
    case ED_LEAKY: case ED_SIGMOID: case ED_TANH: case ED_QUANTIZE: return elementwise(b, 0, 4, 1);
    case ED_LEAKY_I8: case ED_DEQUANTIZE: return elementwise(b, 0, 1, 1);
    case ED_ADD: return elementwise(b, 1, 4, 1);
    case ED_ADD_I8: return elementwise(b, 1, 1, 1);
    case ED_GATE: return elementwise(b, 0, 4, 1) && reads_one(b, op->x2, op->n_out, 4);
    case ED_GATE_I8: return elementwise(b, 0, 1, 1) && reads_one(b, op->x2, op->n_out, 1);
    case ED_SHUFFLE: return elementwise(b, 1, 4, 2);
    case ED_SHUFFLE_I8: return elementwise(b, 1, 1, 2);
    case ED_GATE_SHUFFLE: return elementwise(b, 1, 4, 2) && reads_one(b, op->bias, op->n_out, 4);
    case ED_INTERLEAVE: return interleave(b, 4);
    case ED_INTERLEAVE_I8: return interleave(b, 1);
    case ED_MEAN_SQUARE: return op->halo == 0 && makes(b, 1, op->n_out, 4) && reads(b, op->x, op->x_row, op->n_out, 4);
    case ED_LAYER_NORM: return layer_norm(b);
    case ED_GRU_CELL: return cell(b, 4);
    case ED_GRU_CELL_I8: return cell(b, 1) && grids(b, op->scale);
    case ED_BIGRU:
        return bigru(b, 4) && floats(b, op->bias, 3 * op->n_out)
               && numbers(b, op->weight, 3 * (int64_t)op->n_out * op->n_in);
    case ED_BIGRU_MIXED: return bigru(b, 4) && bigru_products(b);
    case ED_BIGRU_I8: return bigru(b, 1) && bigru_products(b) && grids(b, op->scale + 12 * (int64_t)op->n_out);
    default: return 0; /* ANALYSIS and SYNTHESIS are not part of a program */
    }
}

/* --- what holds of every kind ------------------------------------------------------------------------------------- */

static int between(int64_t v, int64_t low, int64_t high)
{
    return v >= low && v <= high;
}

/* Those that the kind knows. */
static int flags_of(int kind)
{
    switch (kind) {
    case ED_CONV: return ED_LEAKY_AFTER | ED_HALF;
    case ED_CONV_I8: case ED_DEPTH_I8: return ED_LEAKY_AFTER | ED_FLOAT_OUT;
    case ED_DEPTH: return ED_LEAKY_AFTER;
    case ED_LAYER_NORM: return ED_HALF | ED_ADD_AFTER;
    case ED_BIGRU: return ED_HALF;
    default: return 0;
    }
}

static int needs_inputs(int kind)
{
    switch (kind) {
    case ED_EDGES: case ED_CONV: case ED_CONV_I8: case ED_INTERLEAVE: case ED_INTERLEAVE_I8:
    case ED_BIGRU: case ED_BIGRU_MIXED: case ED_BIGRU_I8: return 1;
    default: return 0;
    }
}

/* Offsets that the kind does not use become pointers, too. */
static int is_sane(const bounds *b)
{
    const ed_op *op = b->op;
    int64_t n_bytes = b->header->n_bytes, bias_end = op->kind == ED_GATE_SHUFFLE ? b->n_memory : n_bytes;
    return op->n_rows >= 1 && op->n_out >= 1 && (int64_t)op->n_rows * op->n_out <= MOST
           && (op->n_in >= 1 || !needs_inputs(op->kind)) && between(op->taps, 1, 64) && between(op->stride, 1, 64)
           && op->pad <= 64 && between(op->time_taps, 1, 64) && between(op->dilation, 1, 64) && op->seg >= 1
           && between(op->x, 0, b->n_memory) && between(op->x2, 0, b->n_memory) && between(op->y, 0, b->n_memory)
           && between(op->state, 0, b->n_memory) && between(op->weight, 0, n_bytes) && between(op->bias, 0, bias_end)
           && between(op->scale, 0, n_bytes) && between(op->table, 0, n_bytes) && is_finite(op->f0) && is_finite(op->f1)
           && is_finite(op->f2) && (op->flags & ~flags_of(op->kind)) == 0 && op->reserved[0] == 0
           && op->reserved[1] == 0 && op->reserved[2] == 0;
}

/* Products, or else elements made or moved; a call is worth some, a curve many. Runs of rows come to it: `runs`. */
static int64_t work_of(const ed_op *op)
{
    const int64_t call = 64, curve = 32, made = op->n_rows * (int64_t)op->n_out, n_in = op->n_in, n_out = op->n_out;
    int64_t work = call + 2 * (int64_t)op->halo + made;
    switch (op->kind) {
    case ED_EDGES: return work + 2 * n_in * n_out;
    case ED_CONV: case ED_CONV_I8: return work + op->n_rows * op->taps * padded(n_in) * padded(n_out);
    case ED_DEPTH: case ED_DEPTH_I8: return work + op->time_taps * op->taps * made + (int64_t)ed_slot_size(op);
    case ED_SIGMOID: case ED_TANH: return work + curve * made;
    case ED_GRU_CELL: case ED_GRU_CELL_I8: return work + 3 * curve * made;
    case ED_BIGRU: case ED_BIGRU_MIXED: case ED_BIGRU_I8: return work + 3 * (curve + n_in) * made;
    default: return work;
    }
}

/* What the header says of itself. */
ED_SELDOM static ed_status check_header(const ed_header *h, size_t n_bytes)
{
    if (h->magic != ED_MAGIC) return ED_BAD_MAGIC;
    if (h->format != ED_FORMAT) return ED_BAD_VERSION;
    if (h->n_bytes != n_bytes) return ED_BAD_SIZE;
    if (n_bytes > ED_MOST_WEIGHT_BYTES) return ED_TOO_LARGE;
    if (h->crc32 != crc32((const uint8_t *)h + ED_HASHED_FROM, n_bytes - ED_HASHED_FROM)) return ED_BAD_HASH;
    if ((int64_t)h->n_arena_bytes + h->n_state_bytes > ED_MOST_MEMORY_BYTES) return ED_TOO_LARGE;
    if (h->precision > 1 || h->period == 0 || h->n_arena_bytes % 64 != 0 || h->n_state_bytes % 16 != 0) return ED_BAD_PROGRAM;
    if ((h->reserved[0] | h->reserved[1] | h->reserved[2] | h->reserved[3]) != 0) return ED_BAD_PROGRAM;
    if (h->ops % 4 != 0 || h->ops < sizeof *h || h->n_ops > MOST) return ED_BAD_PROGRAM;
    return (int64_t)h->ops + h->n_ops * (int64_t)sizeof(ed_op) + (int64_t)ED_SLACK <= (int64_t)n_bytes ? ED_OK : ED_BAD_PROGRAM;
}

ED_SELDOM ed_status ed_check(const void *weights, size_t n_bytes)
{
    const ed_header *h = weights;
    ed_status status;
    bounds b;
    uint32_t i;
    if (weights == NULL || (uintptr_t)weights % ED_ALIGN != 0) return ED_BAD_ARGUMENT;
    if (n_bytes < sizeof *h) return ED_BAD_SIZE;
    status = check_header(h, n_bytes);
    if (status != ED_OK) return status;
    b.header = h, b.weights = weights, b.op = NULL;
    b.n_weights = (int64_t)n_bytes - ED_SLACK;
    b.n_arena = (int64_t)h->n_arena_bytes - ED_SLACK, b.n_memory = (int64_t)h->n_arena_bytes + h->n_state_bytes;
    b.made = b.made_end = 0, b.kept_end = h->n_arena_bytes, b.work = ED_MOST_WORK;
    if (!writes_planes(&b, h->spectrum) || !writes_planes(&b, h->enhanced)) return ED_BAD_PROGRAM;
    for (i = 0; i < h->n_ops; i++) {
        b.op = (const ed_op *)(const void *)(b.weights + h->ops) + i;
        if (!is_sane(&b)) return ED_BAD_PROGRAM;
        b.work -= work_of(b.op);
        if (b.work < 0) return ED_TOO_LARGE; /* before its arrays are looked through */
        if (!fits(&b)) return b.work < 0 ? ED_TOO_LARGE : ED_BAD_PROGRAM;
    }
    return ED_OK;
}
