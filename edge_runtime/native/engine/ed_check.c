#include "ed_check.h"

#define MOST 32768 /* numbers under one sum, operations: far beyond this network, far below overflow */
#define MOST_BIAS (1 << 30)

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

typedef struct {
    const ed_op *op;
    const uint8_t *weights;
    int64_t n_memory, n_weights; /* bytes that may be read */
} ed_bounds;

/* Rows first..last of `columns` elements, at `at`, within n bytes. */
static int rows(int64_t n, int64_t at, int64_t first, int64_t last, int64_t row, int64_t columns, int64_t element)
{
    int64_t begin = at + first * row * element, end = at + (last * row + columns) * element;
    return at % element == 0 && row >= 0 && begin >= 0 && begin <= end && end <= n;
}

static int reads(const ed_bounds *b, int64_t at, int64_t row, int64_t columns, int64_t element)
{
    return rows(b->n_memory, at, 0, b->op->n_rows - 1, row, columns, element);
}

/* The result and its halo. */
static int makes(const ed_bounds *b, int64_t n_rows, int64_t columns, int64_t element)
{
    const ed_op *op = b->op;
    int64_t end = op->y + (n_rows * op->y_row + op->halo) * element;
    return op->y >= op->halo * element && (op->halo == 0 || end <= b->n_memory)
           && rows(b->n_memory, op->y, 0, n_rows - 1, op->y_row, columns, element);
}

static int array(const ed_bounds *b, int64_t at, int64_t count, int64_t element)
{
    return at % 4 == 0 && at >= (int64_t)sizeof(ed_header) && at + count * element <= b->n_weights;
}

static int biases(const ed_bounds *b, int64_t at, int64_t count)
{
    const int32_t *bias = (const int32_t *)(const void *)(b->weights + at);
    int64_t i;
    if (!array(b, at, count, 4)) return 0;
    for (i = 0; i < count; i++)
        if (bias[i] > MOST_BIAS || bias[i] < -MOST_BIAS) return 0;
    return 1;
}

static int is_zero_point(float zp)
{
    return zp >= -128.0f && zp <= 127.0f && (float)(int)zp == zp;
}

static int grids(const ed_bounds *b, int64_t at)
{
    const ed_gru_grids *g = (const ed_gru_grids *)(const void *)(b->weights + at);
    return at >= (int64_t)sizeof(ed_header) && at % 4 == 0 && at + (int64_t)sizeof *g <= b->n_weights
           && array(b, b->op->table, 512, 1) && is_zero_point(g->gates_x_zp) && is_zero_point(g->gates_h_zp)
           && is_zero_point(g->h_zp) && is_zero_point(g->sum_zp) && is_zero_point(g->gate_zp)
           && is_zero_point(g->reset_zp) && is_zero_point(g->new_zp) && is_zero_point(g->n_zp)
           && is_zero_point(g->diff_zp) && is_zero_point(g->update_zp);
}

/* Runs of rows of x within `n_rows`, and as many weights. */
static int runs(const ed_bounds *b)
{
    const ed_op *op = b->op;
    const uint16_t *run = (const uint16_t *)(const void *)(b->weights + op->table);
    int64_t total = 0, high = 0, i;
    if (op->n_in > op->n_rows || !array(b, op->table, 2 * (op->n_rows - op->n_in), 2)) return 0;
    for (i = 0; i < op->n_rows - op->n_in; i++) {
        total += run[2 * i + 1];
        if (run[2 * i] + run[2 * i + 1] > high) high = run[2 * i] + run[2 * i + 1];
    }
    if (high < op->n_in) high = op->n_in;
    return array(b, op->weight, total, 4) && rows(b->n_memory, op->x, 0, high - 1, op->x_row, 4, 4);
}

static int64_t padded(int64_t n)
{
    return (n + 3) / 4 * 4;
}

ED_SELDOM static int convolution(const ed_bounds *b, int64_t element)
{
    const ed_op *op = b->op;
    int64_t last = (op->n_rows - 1) * (int64_t)op->stride + op->taps - 1 - op->pad, n_out = padded(op->n_out);
    int64_t columns = (op->n_out - 1) / op->seg * (int64_t)op->seg_row + (op->n_out - 1) % op->seg + 1;
    int64_t n = element == 1 ? op->taps * padded(op->n_in) * n_out : op->taps * (int64_t)op->n_in * n_out;
    if (op->pad >= op->taps || op->taps * (int64_t)op->n_in > MOST) return 0;
    if (op->seg < op->n_out && op->seg_row < op->seg) return 0; /* else the last piece ends last: `columns` */
    if (!rows(b->n_memory, op->x, -op->pad, last, op->x_row, element == 1 ? padded(op->n_in) : op->n_in, element))
        return 0;
    if (!makes(b, op->n_rows, columns, ed_makes_i8(op) ? 1 : 4)) return 0;
    if (element == 1) return array(b, op->weight, n, 1) && biases(b, op->bias, n_out) && array(b, op->scale, n_out, 4);
    return array(b, op->weight, n, op->flags & ED_HALF ? 2 : 4) && array(b, op->bias, n_out, 4);
}

ED_SELDOM static int depthwise(const ed_bounds *b, int64_t element)
{
    const ed_op *op = b->op;
    int64_t n_ring = (op->time_taps - 1) * (int64_t)op->dilation, n = op->n_out;
    int64_t slot = (op->n_rows + 2 * (int64_t)op->pad) * n;
    if (op->time_taps < 1 || op->dilation < 1 || op->x_row != op->n_out || op->pad != op->taps / 2) return 0;
    if (n_ring > MOST || op->time_taps * (int64_t)op->taps > MOST) return 0;
    return rows(b->n_memory, op->x, -op->pad, op->n_rows - 1 + op->pad, op->x_row, n, element)
           && (n_ring == 0 || rows(b->n_memory, op->state, 0, n_ring - 1, slot, slot, element))
           && makes(b, op->n_rows, n, ed_makes_i8(op) ? 1 : 4)
           && array(b, op->weight, op->time_taps * (int64_t)op->taps * n, element)
           && (element == 1 ? biases(b, op->bias, n) && array(b, op->scale, n, 4) : array(b, op->bias, n, 4));
}

/* Both inputs, if there are two, and the result, `wide` times as many columns as each input. */
static int elementwise(const ed_bounds *b, int two, int64_t x_element, int64_t wide)
{
    const ed_op *op = b->op;
    return reads(b, op->x, op->x_row, op->n_out, x_element)
           && (!two || reads(b, op->x2, op->x2_row, op->n_out, x_element))
           && makes(b, op->n_rows, wide * op->n_out, ed_makes_i8(op) ? 1 : 4);
}

static int gates(const ed_bounds *b, int64_t at, int64_t element)
{
    return rows(b->n_memory, at, 0, 0, 0, b->op->n_out, element);
}

static int together(const ed_op *op)
{
    return op->x_row == op->n_out && op->y_row == op->n_out && (!(op->flags & ED_ADD_AFTER) || op->x2_row == op->n_out);
}

static int bigru(const ed_bounds *b, int64_t x_element)
{
    const ed_op *op = b->op;
    int64_t n = op->n_out;
    return n <= 64 && n % 2 == 0 && n / 2 % op->n_in == 0 && reads(b, op->x, op->x_row, 3 * n, x_element)
           && makes(b, op->n_rows, n, x_element) && array(b, op->bias, 3 * n, 4);
}

static int planes(const ed_bounds *b, int64_t at)
{
    return rows(b->n_memory, at, 0, 0, 0, 2 * ED_PLANE, 4);
}

static int cell(const ed_bounds *b, int64_t element)
{
    const ed_op *op = b->op;
    int64_t n = op->n_out;
    return reads(b, op->x, op->x_row, 3 * n, element) && reads(b, op->x2, op->x2_row, 3 * n, element)
           && reads(b, op->state, n, n, element);
}

ED_SELDOM static int fits(const ed_bounds *b)
{
    const ed_op *op = b->op;
    switch (op->kind) {
    case ED_FEATURES: return op->n_rows <= ED_N_BINS && planes(b, op->x) && op->y_row == 4 && makes(b, op->n_rows, 4, 4);
    case ED_MERGE: return op->n_out <= 4 && runs(b) && makes(b, op->n_rows, 4, 4);
    case ED_SPLIT: return op->n_rows <= ED_N_BINS && op->halo == 0 && runs(b) && planes(b, op->y);
    case ED_MASK: return op->n_rows <= ED_N_BINS && op->halo == 0 && planes(b, op->x) && planes(b, op->x2) && planes(b, op->y);
    case ED_EDGES:
        return reads(b, op->x, op->x_row, op->n_out, 4) && rows(b->n_memory, op->x2, 0, op->seg - 1, op->x2_row, op->n_in, 4)
               && makes(b, op->n_rows, op->n_out, 4) && array(b, op->weight, 2 * (int64_t)op->n_in * op->n_out, 4);
    case ED_CONV: return convolution(b, 4);
    case ED_CONV_I8: return convolution(b, 1);
    case ED_DEPTH: return depthwise(b, 4);
    case ED_DEPTH_I8: return depthwise(b, 1);
    case ED_LEAKY: case ED_SIGMOID: case ED_TANH: case ED_QUANTIZE: return elementwise(b, 0, 4, 1);
    case ED_LEAKY_I8: case ED_DEQUANTIZE: return elementwise(b, 0, 1, 1);
    case ED_ADD: return elementwise(b, 1, 4, 1);
    case ED_ADD_I8: return elementwise(b, 1, 1, 1);
    case ED_GATE: return elementwise(b, 0, 4, 1) && gates(b, op->x2, 4);
    case ED_GATE_I8: return elementwise(b, 0, 1, 1) && gates(b, op->x2, 1);
    case ED_SHUFFLE: return elementwise(b, 1, 4, 2);
    case ED_SHUFFLE_I8: return elementwise(b, 1, 1, 2);
    case ED_GATE_SHUFFLE: return elementwise(b, 1, 4, 2) && gates(b, op->bias, 4);
    case ED_INTERLEAVE: case ED_INTERLEAVE_I8: {
        int64_t element = op->kind == ED_INTERLEAVE ? 4 : 1;
        return op->n_out % op->n_in == 0
               && rows(b->n_memory, op->x, 0, (op->n_rows - 1) / 2, op->x_row, 2 * op->n_out, element)
               && makes(b, op->n_rows, op->n_out, element);
    }
    case ED_MEAN_SQUARE: return op->halo == 0 && reads(b, op->x, op->x_row, op->n_out, 4) && rows(b->n_memory, op->y, 0, 0, 0, op->n_out, 4);
    case ED_LAYER_NORM: {
        int64_t element = op->flags & ED_HALF ? 2 : 4, n = op->n_rows * (int64_t)op->n_out;
        return together(op) && elementwise(b, op->flags & ED_ADD_AFTER, 4, 1) && array(b, op->weight, n, element)
               && array(b, op->bias, n, element);
    }
    case ED_GRU_CELL: return cell(b, 4) && op->halo == 0;
    case ED_GRU_CELL_I8: return cell(b, 1) && op->halo == 0 && grids(b, op->scale);
    case ED_BIGRU: return bigru(b, 4) && array(b, op->weight, 3 * (int64_t)op->n_out * op->n_in, op->flags & ED_HALF ? 2 : 4);
    case ED_BIGRU_MIXED:
        return bigru(b, 4) && biases(b, op->bias, 3 * op->n_out) && array(b, op->scale, 3 * op->n_out, 4)
               && array(b, op->weight, 3 * (int64_t)op->n_out * op->n_in, 1);
    case ED_BIGRU_I8:
        return bigru(b, 1) && biases(b, op->bias, 3 * op->n_out) && array(b, op->scale, 3 * op->n_out, 4)
               && array(b, op->weight, 3 * (int64_t)op->n_out * op->n_in, 1)
               && grids(b, op->scale + 12 * (int64_t)op->n_out);
    default: return 0; /* ANALYSIS and SYNTHESIS are not part of a program */
    }
}

static int between(int64_t v, int64_t low, int64_t high)
{
    return v >= low && v <= high;
}

static int is_sane(const ed_op *op)
{
    return op->n_rows >= 1 && op->n_out >= 1 && (int64_t)op->n_rows * op->n_out <= MOST && between(op->taps, 1, 64) && between(op->stride, 1, 64) && op->pad <= 64
           && between(op->time_taps, 1, 64) && between(op->dilation, 1, 64) && op->seg >= 1 && op->x >= 0 && op->x2 >= 0
           && op->y >= 0 && op->state >= 0 && op->weight >= 0 && op->bias >= 0 && op->scale >= 0 && op->table >= 0;
}

static int needs_inputs(int kind)
{
    switch (kind) {
    case ED_EDGES: case ED_CONV: case ED_CONV_I8: case ED_INTERLEAVE: case ED_INTERLEAVE_I8:
    case ED_BIGRU: case ED_BIGRU_MIXED: case ED_BIGRU_I8: return 1;
    default: return 0;
    }
}

ED_SELDOM ed_status ed_check(const void *weights, size_t n_bytes)
{
    const ed_header *h = weights;
    const uint8_t *bytes = weights;
    ed_bounds b;
    uint32_t i;
    if (weights == NULL || (uintptr_t)weights % ED_ALIGN != 0) return ED_BAD_ARGUMENT;
    if (n_bytes < sizeof *h) return ED_BAD_SIZE;
    if (h->magic != ED_MAGIC) return ED_BAD_MAGIC;
    if (h->format != ED_FORMAT) return ED_BAD_VERSION;
    if (h->n_bytes != n_bytes || n_bytes > (1u << 30)) return ED_BAD_SIZE;
    if (h->crc32 != crc32(bytes + ED_HASHED_FROM, n_bytes - ED_HASHED_FROM)) return ED_BAD_HASH;
    b.weights = bytes;
    b.n_weights = (int64_t)n_bytes - ED_SLACK;
    b.n_memory = (int64_t)h->n_arena_bytes + h->n_state_bytes;
    if (h->precision > 1 || h->period == 0 || h->n_arena_bytes > (1u << 28) || h->n_state_bytes > (1u << 28)) return ED_BAD_PROGRAM;
    if (h->n_arena_bytes % 64 != 0 || h->n_state_bytes % 16 != 0 || h->n_arena_bytes < ED_SLACK) return ED_BAD_PROGRAM;
    if (h->ops % 4 != 0 || h->ops < sizeof *h || h->n_ops > MOST
        || (int64_t)h->ops + (int64_t)h->n_ops * (int64_t)sizeof(ed_op) > b.n_weights) return ED_BAD_PROGRAM;
    b.op = (const ed_op *)(const void *)bytes;
    if (h->spectrum % 4 != 0 || h->enhanced % 4 != 0 || !planes(&b, h->spectrum) || !planes(&b, h->enhanced)) return ED_BAD_PROGRAM;
    for (i = 0; i < h->n_ops; i++) {
        b.op = (const ed_op *)(const void *)(bytes + h->ops) + i;
        if (!is_sane(b.op) || (needs_inputs(b.op->kind) && b.op->n_in < 1) || !fits(&b)) return ED_BAD_PROGRAM;
    }
    return ED_OK;
}
