/* The accesses of each kind of operation, see ed_check.c: first what memory there is, then what every kind
 * reads and makes of them. A new kind, or a kernel that reaches further, has its line here. */
#include "ed_check_weights.h"

#define MOST_UNITS 64 /* of a recurrent layer over bands: kernels keep them on the stack */

int ed_makes_i8(const ed_op *op)
{
    static const uint8_t can[ED_N_KINDS] = {
        [ED_CONV_I8] = 1, [ED_DEPTH_I8] = 1, [ED_LEAKY_I8] = 1, [ED_GATE_I8] = 1, [ED_SHUFFLE_I8] = 1, [ED_ADD_I8] = 1,
        [ED_INTERLEAVE_I8] = 1, [ED_QUANTIZE] = 1, [ED_GRU_CELL_I8] = 1, [ED_BIGRU_I8] = 1, [ED_HISTORY_I8] = 1,
        [ED_RESAMPLE_I8] = 1, [ED_AFFINE_RELU_I8] = 1, [ED_BAND_GATE_I8] = 1, [ED_GATES_I8] = 1, [ED_MEAN_SQUARE_I8] = 1,
        [ED_BAND_ENERGY_I8] = 1, [ED_AFFINE_RELU_I16] = 1, [ED_GATES_I16] = 1, [ED_ADD_I16] = 1, [ED_BIGRU_I16] = 1,
        [ED_GRU_CELL_I16] = 1};
    return can[op->kind] && !(op->flags & ED_FLOAT_OUT);
}

int ed_result_bytes(const ed_op *op)
{
    return ed_makes_i8(op) ? 1 : op->kind == ED_QUANTIZE_I16 ? 2 : 4;
}

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

int ed_writes_planes(bounds *b, int64_t at)
{
    return writes(b, at, at, at + 2 * ED_PLANE * 4, 4);
}

static int makes_planes(bounds *b)
{
    return b->op->halo == 0 && ed_writes_planes(b, b->op->y);
}

/* A state of `count` elements, behind those of all operations before. */
static int keeps_at(bounds *b, int64_t from, int64_t count, int64_t element)
{
    int64_t end = from + count * element;
    if (from % element != 0 || from < b->kept_end || end > b->n_memory) return 0;
    b->kept_end = end;
    return 1;
}

static int keeps(bounds *b, int64_t count, int64_t element)
{
    return keeps_at(b, b->op->state, count, element);
}

/* --- kinds -------------------------------------------------------------------------------------------------------- */

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
    if (!makes(b, op->n_rows, columns, ed_result_bytes(op))) return 0;
    if (!reads_rows(b, op->x, -op->pad, last, op->x_row, n_in, element)) return 0;
    if (element == 1) return bytes(b, op->weight, op->taps * n_in * n_out) && biases(b, op->bias, n_out) && floats(b, op->scale, n_out);
    if (element == 2)
        return shorts(b, op->weight, (op->taps * n_in + 1) / 2 * 2, n_out) && floats(b, op->bias, n_out)
               && floats(b, op->scale, n_out) && reads_one(b, op->x2, 1, 4);
    return numbers(b, op->weight, op->taps * n_in * n_out) && floats(b, op->bias, n_out);
}

/* Of every frame, this one and those of the ring, n_rows + 2 pad rows are read. */
ED_SELDOM static int depthwise(bounds *b, int64_t element)
{
    const ed_op *op = b->op;
    int64_t n_ring = (op->time_taps - 1) * (int64_t)op->dilation, n = op->n_out;
    if (op->x_row != op->n_out || op->pad != op->taps / 2 || op->seg < op->n_out) return 0;
    if (n_ring > 0 && (b->header->period % n_ring != 0 || !keeps(b, n_ring * (int64_t)ed_slot_size(op), element))) return 0;
    return makes(b, op->n_rows, n, ed_result_bytes(op))
           && reads_rows(b, op->x, -op->pad, op->n_rows - 1 + op->pad, op->x_row, n, element)
           && (element == 1 ? bytes(b, op->weight, op->time_taps * op->taps * n) && biases(b, op->bias, n)
                                  && floats(b, op->scale, n)
                            : floats(b, op->weight, op->time_taps * op->taps * n) && floats(b, op->bias, n));
}

/* As `depthwise`, of `seg` rows; the last result reads the last of those that its row of x makes it read. */
ED_SELDOM static int resampling(bounds *b, int64_t element)
{
    const ed_op *op = b->op;
    int64_t n_ring = (op->time_taps - 1) * (int64_t)op->dilation, n = op->n_out, n_sums = op->seg_row * n;
    int64_t n_weights = n_sums * op->time_taps * op->taps, size = (int64_t)ed_slot_size_of(op, op->seg);
    if (op->x_row != op->n_out || op->pad != op->taps / 2 || op->seg_row < 1) return 0;
    if ((op->n_rows - 1) / op->seg_row * (int64_t)op->stride + op->taps > op->seg + 2 * op->pad) return 0;
    if (n_ring > 0 && (b->header->period % n_ring != 0 || !keeps(b, n_ring * size, element))) return 0;
    return makes(b, op->n_rows, n, ed_result_bytes(op))
           && reads_rows(b, op->x, -op->pad, op->seg - 1 + op->pad, op->x_row, n, element)
           && (element == 1 ? bytes(b, op->weight, n_weights) && biases(b, op->bias, n_sums) && floats(b, op->scale, n_sums)
                            : floats(b, op->weight, n_weights) && floats(b, op->bias, n_sums));
}

static int history(bounds *b, int64_t element)
{
    const ed_op *op = b->op;
    if (op->time_taps * op->n_in > op->n_out) return 0;
    if (!keeps(b, op->n_rows * (op->time_taps - 1) * (int64_t)op->n_in, element)) return 0;
    b->made = op->state, b->made_end = b->kept_end; /* not of itself */
    return reads(b, op->x, op->x_row, op->n_in, element) && makes(b, op->n_rows, op->n_out, element)
           && reads(b, op->x, op->x_row, op->n_in, element);
}

/* Both inputs, if there are two, and the result, `wide` times as many columns as each input. */
static int elementwise(bounds *b, int two, int64_t element, int64_t wide)
{
    const ed_op *op = b->op;
    return makes(b, op->n_rows, wide * op->n_out, ed_result_bytes(op)) && reads(b, op->x, op->x_row, op->n_out, element)
           && (!two || reads(b, op->x2, op->x2_row, op->n_out, element));
}

/* The result, and the number that says what its steps are. */
static int quantize_i16(bounds *b)
{
    const ed_op *op = b->op;
    if (!elementwise(b, 0, 4, 1)) return 0;
    b->unit = op->state, b->unit_end = b->unit + 4;
    if (b->unit % 4 != 0 || b->unit < 0 || b->unit_end > b->n_arena) return 0;
    if (b->unit < b->made_end && b->unit_end > b->made) return 0;
    return b->unit_end <= op->x || b->unit >= op->x + ((op->n_rows - 1) * (int64_t)op->x_row + op->n_out) * 4;
}

static int interleave(bounds *b, int64_t element)
{
    const ed_op *op = b->op;
    return op->n_out % op->n_in == 0 && makes(b, op->n_rows, op->n_out, element)
           && reads_rows(b, op->x, 0, (op->n_rows - 1) / 2, op->x_row, 2 * op->n_out, element);
}

/* One number a row, and zeros behind them. */
static int band_energy(bounds *b, int64_t element)
{
    const ed_op *op = b->op;
    int64_t n = op->n_in > op->n_rows ? op->n_in : op->n_rows;
    return op->halo == 0 && writes(b, op->y, op->y, op->y + n * element, element)
           && reads(b, op->x, op->x_row, op->n_out, element)
           && (element == 1 ? bytes(b, op->weight, op->n_out) : floats(b, op->weight, op->n_out));
}

static int affine_relu(bounds *b, int64_t element)
{
    const ed_op *op = b->op;
    int64_t n = op->n_rows * (int64_t)op->n_out;
    return elementwise(b, 0, element, 1)
           && floats(b, op->scale, op->n_out)
           && (element == 1 ? bytes(b, op->weight, n) && array(b, op->bias, n, 2) && bytes(b, op->table, op->n_out)
                            : numbers(b, op->weight, n) && numbers(b, op->bias, n));
}

/* Of 16 bits, or the unit of 8-bit biases: a whole number. */
static int is_factor(float v, float most)
{
    return v >= 0 && v <= most && (float)(int)v == v;
}

static int affine_relu_i16(bounds *b)
{
    const ed_op *op = b->op;
    int64_t n = op->n_rows * (int64_t)op->n_out;
    return elementwise(b, 0, 1, 1) && bytes(b, op->weight, n) && bytes(b, op->bias, n) && bytes(b, op->table, op->n_out)
           && array(b, op->scale, op->n_out, 2) && is_factor(op->f0, 127.0f);
}

static int gates(bounds *b, int64_t element)
{
    const ed_op *op = b->op;
    return elementwise(b, 0, element, 1) && reads_one(b, op->x2, op->n_out, element)
           && reads_one(b, op->state, op->n_rows, element);
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

/* The bytes of the result are kept too, before the state that they are of. */
static int cell_i16(bounds *b)
{
    const ed_op *op = b->op;
    int64_t n = op->n_out;
    if (op->halo != 0 || op->y_row != n || !keeps_at(b, op->y, op->n_rows * n, 1) || !keeps(b, op->n_rows * n, 2)) return 0;
    b->made = op->y, b->made_end = b->kept_end;
    return reads(b, op->x, op->x_row, 3 * n, 4) && reads(b, op->x2, op->x2_row, 3 * n, 4) && array(b, op->table, 256, 1);
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

/* Half a sum of four products fits 16 bits. */
static int bigru_i16(bounds *b)
{
    const ed_op *op = b->op;
    int64_t n = 3 * (int64_t)op->n_out;
    return op->n_in <= 4 && bigru(b, 1) && bytes(b, op->weight, n * op->n_in) && array(b, op->bias, n, 2)
           && array(b, op->scale, n, 2) && array(b, op->table, 512, 1) && is_factor(op->f0, 32767.0f)
           && is_factor(op->f1, 32767.0f) && is_factor(op->f2 < 0 ? -op->f2 : op->f2, 32767.0f);
}

/* A kind whose kernel is not in this build cannot be run. */
#define FITS(kind, proof) case ED_##kind: return ED_IF_USED(kind, 1, 0) && (proof)

ED_SELDOM int ed_fits(bounds *b)
{
    const ed_op *op = b->op;
    switch (op->kind) {
    FITS(FEATURES, op->n_rows <= ED_N_BINS && op->y_row == 4 && makes(b, op->n_rows, 4, 4) && reads_planes(b, op->x));
    FITS(MERGE, merge(b));
    FITS(SPLIT, op->n_rows <= ED_N_BINS && makes_planes(b) && runs(b, 2));
    FITS(MASK, op->n_rows <= ED_N_BINS && makes_planes(b) && reads_planes(b, op->x) && reads_planes(b, op->x2));
    FITS(EDGES, edges(b));
    FITS(CONV, convolution(b, 4));
    FITS(CONV_I8, convolution(b, 1));
    FITS(CONV_I16, convolution(b, 2));
    FITS(QUANTIZE_I16, quantize_i16(b));
    FITS(DEPTH, depthwise(b, 4));
    FITS(DEPTH_I8, depthwise(b, 1));
    FITS(LEAKY, elementwise(b, 0, 4, 1));
    FITS(SIGMOID, elementwise(b, 0, 4, 1));
    FITS(TANH, elementwise(b, 0, 4, 1));
    FITS(QUANTIZE, elementwise(b, 0, 4, 1));
    FITS(LEAKY_I8, elementwise(b, 0, 1, 1));
    FITS(DEQUANTIZE, elementwise(b, 0, 1, 1));
    FITS(ADD, elementwise(b, 1, 4, 1));
    FITS(ADD_I8, elementwise(b, 1, 1, 1));
    FITS(GATE, elementwise(b, 0, 4, 1) && reads_one(b, op->x2, op->n_out, 4));
    FITS(GATE_I8, elementwise(b, 0, 1, 1) && reads_one(b, op->x2, op->n_out, 1));
    FITS(SHUFFLE, elementwise(b, 1, 4, 2));
    FITS(SHUFFLE_I8, elementwise(b, 1, 1, 2));
    FITS(GATE_SHUFFLE, elementwise(b, 1, 4, 2) && reads_one(b, op->bias, op->n_out, 4));
    FITS(INTERLEAVE, interleave(b, 4));
    FITS(INTERLEAVE_I8, interleave(b, 1));
    FITS(MEAN_SQUARE, op->halo == 0 && makes(b, 1, op->n_out, 4) && reads(b, op->x, op->x_row, op->n_out, 4));
    FITS(LAYER_NORM, layer_norm(b));
    FITS(GRU_CELL, cell(b, 4));
    FITS(GRU_CELL_I8, cell(b, 1) && grids(b, op->scale));
    FITS(GRU_CELL_I16, cell_i16(b));
    FITS(BIGRU, bigru(b, 4) && floats(b, op->bias, 3 * op->n_out)
                    && numbers(b, op->weight, 3 * (int64_t)op->n_out * op->n_in));
    FITS(BIGRU_MIXED, bigru(b, 4) && bigru_products(b));
    FITS(BIGRU_I8, bigru(b, 1) && bigru_products(b) && grids(b, op->scale + 12 * (int64_t)op->n_out));
    FITS(BIGRU_I16, bigru_i16(b));
    FITS(LOG_MAGNITUDE, op->n_rows <= ED_N_BINS && op->y_row == 1 && makes(b, op->n_rows, 1, 4) && reads_planes(b, op->x));
    FITS(MASK_REAL, op->n_rows <= ED_N_BINS && makes_planes(b) && reads_planes(b, op->x) && reads_one(b, op->x2, op->n_rows, 4));
    FITS(HISTORY, history(b, 4));
    FITS(HISTORY_I8, history(b, 1));
    FITS(RESAMPLE, resampling(b, 4));
    FITS(RESAMPLE_I8, resampling(b, 1));
    FITS(AFFINE_RELU, affine_relu(b, 4));
    FITS(AFFINE_RELU_I8, affine_relu(b, 1));
    FITS(MEAN_SQUARE_I8, op->halo == 0 && makes(b, 1, op->n_out, 1) && reads(b, op->x, op->x_row, op->n_out, 1));
    FITS(BAND_ENERGY, band_energy(b, 4));
    FITS(BAND_ENERGY_I8, band_energy(b, 1));
    FITS(BAND_GATE, elementwise(b, 0, 4, 1) && reads_one(b, op->x2, op->n_rows, 4));
    FITS(BAND_GATE_I8, elementwise(b, 0, 1, 1) && reads_one(b, op->x2, op->n_rows, 1));
    FITS(GATES, gates(b, 4));
    FITS(GATES_I8, gates(b, 1));
    FITS(AFFINE_RELU_I16, affine_relu_i16(b));
    FITS(GATES_I16, gates(b, 1) && is_factor(op->f0, 32767.0f));
    FITS(ADD_I16, elementwise(b, 1, 1, 1) && is_factor(op->f0, 32767.0f) && is_factor(op->f1, 32767.0f));
    default: return 0; /* ANALYSIS and SYNTHESIS are not part of a program */
    }
}
