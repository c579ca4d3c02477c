/* Of check.c: a random case of each kind of operation, and the names of the kinds. */
#include "check_random.h"
#include "check_cells.h"

static void planes(test_case *c)
{
    start(c, ED_N_BINS, 1, 1);
    float_inputs(c);
}

static void shape_ANALYSIS(test_case *c) { planes(c); }
static void shape_SYNTHESIS(test_case *c) { planes(c); }
static void shape_MASK(test_case *c) { planes(c); c->op.n_rows = (uint16_t)between(1, ED_N_BINS); }

static void shape_FEATURES(test_case *c)
{
    planes(c);
    c->op.n_rows = (uint16_t)between(1, ED_N_BINS), c->op.n_out = c->op.y_row = 4;
}

/* Runs of 0 to 11 rows behind copied ones. */
static void run_table(test_case *c, int n_low, int n_columns, int x_row)
{
    uint16_t *run;
    int i, n_rows = n_low + between(1, 200), longest = pick(2, 2, 11);
    start(c, n_rows, n_low, n_columns);
    float_inputs(c);
    floats(c->weights.floats, 1 << 11, 1);
    c->op.x_row = (uint16_t)x_row;
    run = (uint16_t *)(void *)(c->weights.bytes + c->op.table);
    for (i = 0; i < n_rows - n_low; i++) {
        run[2 * i] = (uint16_t)between(0, 200);
        run[2 * i + 1] = (uint16_t)(between(0, 9) ? longest : between(0, longest));
        if (longest > 2 && i > 150) run[2 * i + 1] = 1;
    }
}

static void shape_MERGE(test_case *c)
{
    run_table(c, between(0, 65), pick(3, 3, 2), 4);
}

static void shape_SPLIT(test_case *c)
{
    run_table(c, between(0, 65), 2, pick(2, 2, 4));
    if (c->op.n_rows > ED_N_BINS) c->op.n_rows = ED_N_BINS;
}

static void shape_EDGES(test_case *c)
{
    start(c, between(1, 65), between(1, 9), 4 * between(1, 8));
    float_inputs(c);
    floats(c->weights.floats, 1 << 11, 1);
    c->op.x_row = c->op.n_out, c->op.x2_row = c->op.n_in, c->op.seg = (uint16_t)between(1, 129);
    if (between(0, 1)) c->op.x = c->op.y;
}

/* Widths of the network, and odd ones that the vectorized kernels hand on; results in pieces now and then. */
static void convolution(test_case *c)
{
    ed_op *op = &c->op;
    int n_out = pick(4 * between(1, 12), pick(8, 16, 24), between(1, 50)), spread = between(0, 3) == 0;
    start(c, pick(1, 33, between(1, 66)), pick(8, 16, between(1, 20)), n_out);
    op->taps = (uint8_t)pick(1, 3, between(1, 7)), op->stride = (uint8_t)between(1, 2), op->pad = op->taps / 2;
    if (spread) op->x_row = (uint16_t)(op->n_in + 8);
    if (between(0, 2) == 0 && n_out % 8 == 0) op->seg = (uint16_t)pick(4, 8, n_out / 2), op->seg_row = 24, op->y_row = 400;
    if (op->seg_row && (n_out - 1) / op->seg * 24 + op->seg > 400) op->seg = op->n_out;
    if (between(0, 1)) op->flags |= ED_LEAKY_AFTER;
}

/* What kernels know by heart: a few groups of inputs, 24 results too, whole or in pieces. */
static void convolution_known(test_case *c)
{
    ed_op *op = &c->op;
    const int taps = pick(1, 1, 3), n_in = taps == 3 ? 8 : pick(8, 16, pick(12, 24, 32));
    start(c, pick(33, between(1, 66), between(1, 4)), n_in, pick(24, pick(16, 12, 20), 8));
    op->taps = (uint8_t)taps, op->stride = 1, op->pad = op->taps / 2;
    if (between(0, 1)) op->x_row = (uint16_t)(n_in + 8);
    if (between(0, 1)) op->seg = (uint16_t)(op->n_out % 8 ? 4 : pick(4, 8, 8)), op->seg_row = (uint16_t)pick(8, 24, 24), op->y_row = 400;
    if (taps == 3) op->flags |= ED_LEAKY_AFTER;
}

/* Gates of a recurrent layer: three pieces of 8, or of 4, of which another layer's lie between. */
static void gates_known(test_case *c)
{
    start(c, pick(33, between(1, 40), between(1, 4)), 8, 24);
    c->op.seg = (uint16_t)pick(8, 8, 4), c->op.seg_row = 16, c->op.y_row = 100;
    if (between(0, 1)) c->op.flags |= ED_FLOAT_OUT;
}

static void shape_CONV(test_case *c)
{
    uint16_t *half = (uint16_t *)(void *)c->weights.bytes;
    int i;
    const int attends = between(0, 3) == 0; /* as what attention ends in */
    convolution(c);
    if (attends) start(c, 1, between(1, 20), 8 * between(1, 3)), c->op.taps = c->op.stride = 1;
    float_inputs(c);
    floats(c->weights.floats + (c->op.bias >> 2), 64, 1);
    if (attends || between(0, 3) == 0) {
        c->op.flags |= ED_HALF;
        for (i = 0; i < 1 << 12; i++) half[i] = half_number(0x3c00);
    } else {
        c->op.bias = c->op.scale = 7 << 13;
        floats(c->weights.floats, 7 << 11, 1);
        floats(c->weights.floats + (c->op.bias >> 2), 64, 1);
    }
}

static void shape_CONV_I8(test_case *c)
{
    if (between(0, 1)) convolution(c);
    else if (between(0, 2)) convolution_known(c);
    else gates_known(c);
    c->op.n_in = (uint16_t)(between(0, 5) ? (c->op.n_in + 3) / 4 * 4 : c->op.n_in);
    if (c->op.x_row < c->op.n_in) c->op.x_row = c->op.n_in;
    byte_inputs(c);
    byte_weights(c, 64);
    c->op.y_row = (uint16_t)(c->op.y_row + 3 * between(0, 1));
    if (between(0, 2) == 0) c->op.flags |= ED_FLOAT_OUT;
}

static void depthwise(test_case *c)
{
    int n = pick(16, 32, between(1, 40));
    start(c, between(1, 40), n, n);
    c->op.time_taps = (uint8_t)pick(3, 3, between(2, 4)), c->op.taps = (uint8_t)pick(3, 3, 1);
    c->op.dilation = (uint8_t)pick(1, 2, 5), c->op.pad = c->op.taps / 2;
    if (ed_slot_size(&c->op) * 15 * 4 > (5 << 14)) c->op.n_rows = 8;
    if (between(0, 1)) c->op.flags |= ED_LEAKY_AFTER;
}

static void shape_DEPTH(test_case *c)
{
    depthwise(c);
    float_inputs(c);
    floats(c->weights.floats, WEIGHTS / 4, 1);
}

static void shape_DEPTH_I8(test_case *c)
{
    int i, n_large;
    depthwise(c);
    byte_inputs(c);
    byte_weights(c, 64);
    if (between(0, 2) == 0) c->op.flags |= ED_FLOAT_OUT;
    /* Channels with next to no weights have biases that no float holds exactly; here half a step of the result. */
    n_large = between(0, 3) == 0 ? 64 : 0;
    for (i = 0; i < 9 * 64 && n_large; i++) c->weights.bytes[i] = (uint8_t)between(-1, 1);
    for (i = 0; i < n_large; i++) {
        c->weights.ints[(c->op.bias >> 2) + i] = (1 << 24) + between(-9, 9);
        c->weights.floats[(c->op.scale >> 2) + i] = 0.5f / (1 << 24);
    }
}

static void rows(test_case *c)
{
    int n = pick(8, 16, between(1, 60));
    start(c, between(1, 40), n, n);
    if (between(0, 1)) c->op.x_row = (uint16_t)(n + 8);
    if (between(0, 1)) c->op.x2_row = (uint16_t)(n + 8);
}

static void float_rows(test_case *c) { rows(c); float_inputs(c); }
static void byte_rows(test_case *c) { rows(c); byte_inputs(c); c->op.f0 *= 0.5f; c->op.f1 *= 0.5f; }
static void wide(test_case *c) { c->op.y_row = (uint16_t)(2 * c->op.n_out); }

static void shape_LEAKY(test_case *c) { float_rows(c); }
static void shape_LEAKY_I8(test_case *c) { byte_rows(c); }
static void shape_SIGMOID(test_case *c) { float_rows(c); }
static void shape_TANH(test_case *c) { float_rows(c); }
static void shape_ADD(test_case *c) { float_rows(c); }
static void shape_ADD_I8(test_case *c) { byte_rows(c); }
static void shape_GATE(test_case *c) { float_rows(c); }
static void shape_GATE_I8(test_case *c) { byte_rows(c); c->op.f0 *= 0.01f; }
static void shape_SHUFFLE(test_case *c) { float_rows(c); wide(c); }
static void shape_SHUFFLE_I8(test_case *c)
{
    byte_rows(c);
    if (between(0, 1)) {
        c->op.n_out = (uint16_t)pick(12, 16, 8), c->op.x_row = c->op.x2_row = (uint16_t)(2 * c->op.n_out);
        c->op.f0 = c->op.f1 = 1, c->op.x_zp = c->op.x2_zp = c->op.y_zp;
    }
    wide(c);
}

static void shape_QUANTIZE(test_case *c) { float_rows(c); c->op.f0 = 60; }
static void shape_DEQUANTIZE(test_case *c) { byte_rows(c); }

static void shape_GATE_SHUFFLE(test_case *c)
{
    float_rows(c);
    wide(c);
    c->op.bias = STATE; /* the gates, in memory */
}

static void interleave(test_case *c)
{
    int n_groups = between(1, 3), per = between(1, 9);
    start(c, between(1, 65), n_groups, n_groups * per);
    c->op.x_row = (uint16_t)(2 * c->op.n_out);
}

static void shape_INTERLEAVE(test_case *c) { interleave(c); float_inputs(c); }
static void shape_INTERLEAVE_I8(test_case *c) { interleave(c); byte_inputs(c); }
static void shape_MEAN_SQUARE(test_case *c) { float_rows(c); }

static void shape_LAYER_NORM(test_case *c)
{
    start(c, pick(33, 33, between(1, 40)), 0, pick(16, 16, between(1, 30)));
    c->op.x_row = c->op.n_out, c->op.f0 = 1e-8f;
    float_inputs(c);
    floats(c->weights.floats, WEIGHTS / 4, 1);
    if (between(0, 1)) {
        uint16_t *half = (uint16_t *)(void *)c->weights.bytes;
        int i;
        c->op.flags |= ED_HALF;
        for (i = 0; i < WEIGHTS / 2; i++) half[i] = half_number(0x4000);
    }
    if (between(0, 1)) c->op.flags |= ED_ADD_AFTER;
}

static void shape_LOG_MAGNITUDE(test_case *c) { shape_FEATURES(c); c->op.n_out = c->op.y_row = 1; }
static void shape_MASK_REAL(test_case *c) { shape_MASK(c); }

static void history(test_case *c)
{
    start(c, pick(33, 65, between(1, 129)), pick(1, 12, between(1, 20)), 0);
    c->op.time_taps = (uint8_t)between(1, 4);
    c->op.n_out = c->op.y_row = (uint16_t)((c->op.time_taps * c->op.n_in + 3) / 4 * 4);
    if (c->op.n_rows * c->op.n_out > 5000) c->op.n_rows = 5;
    if (between(0, 1)) c->op.x_row = (uint16_t)(c->op.n_in + 3);
}

/* What the kernels know by heart, beside any. */
static void history_known(test_case *c)
{
    history(c);
    if (between(0, 1)) return;
    start(c, pick(129, 65, between(1, 70)), pick(1, 12, 12), 0);
    c->op.time_taps = 3, c->op.n_out = c->op.y_row = (uint16_t)((3 * c->op.n_in + 3) / 4 * 4);
}

static void shape_HISTORY(test_case *c) { history(c); float_inputs(c); }
static void shape_HISTORY_I8(test_case *c) { history_known(c); byte_inputs(c); }

/* Half as many rows, or twice, or any. */
static void resampling(test_case *c)
{
    int n = pick(24, 12, between(1, 40)), way = between(0, 2);
    start(c, between(1, 40), n, n);
    c->op.time_taps = (uint8_t)pick(1, 2, 3), c->op.taps = (uint8_t)pick(3, 3, 5), c->op.pad = c->op.taps / 2;
    c->op.stride = (uint8_t)(way == 0 ? 2 : way == 1 ? 1 : between(1, 3)), c->op.seg_row = (uint16_t)(way == 0 ? 1 : way == 1 ? 2 : between(1, 3));
    c->op.seg = (uint16_t)((c->op.n_rows - 1) / c->op.seg_row * c->op.stride + between(1, 3));
    c->op.dilation = (uint8_t)pick(1, 1, 2);
    if (between(0, 1)) c->op.flags |= ED_LEAKY_AFTER;
}

static void shape_RESAMPLE(test_case *c)
{
    resampling(c);
    float_inputs(c);
    floats(c->weights.floats, WEIGHTS / 4, 1);
}

static void shape_RESAMPLE_I8(test_case *c)
{
    resampling(c);
    byte_inputs(c);
    byte_weights(c, 160);
    if (between(0, 2) == 0) c->op.flags |= ED_FLOAT_OUT;
    if (between(0, 3) == 0) c->weights.ints[(c->op.bias >> 2) + between(0, 31)] = (1 << 24) + between(-9, 9);
}

static void shape_AFFINE_RELU(test_case *c)
{
    shape_ADD(c);
    floats(c->weights.floats, WEIGHTS / 4, 1);
}

static void shape_AFFINE_RELU_I8(test_case *c)
{
    byte_rows(c);
    if (between(0, 3)) {
        c->op.n_out = (uint16_t)pick(24, 12, pick(8, 16, 32)), c->op.x_row = c->op.y_row = c->op.n_out;
        c->op.n_rows = (uint16_t)between(1, 65);
    }
    bytes(c->weights.bytes + c->op.bias, 1 << 13), weights8(c->weights.bytes, 1 << 13);
    weights8(c->weights.bytes + c->op.table, 1 << 13);
    floats(c->weights.floats + (c->op.scale >> 2), c->op.n_out, 0.01f);
}

static void shape_MEAN_SQUARE_I8(test_case *c) { byte_rows(c); c->op.f0 *= 1e-4f; }
static void energies(test_case *c) { c->op.n_in = (uint16_t)(c->op.n_rows + between(-1, 3)), c->op.y_row = 4; }
static void shape_BAND_ENERGY(test_case *c) { float_rows(c); energies(c); floats(c->weights.floats, 64, 1); }

static void shape_BAND_ENERGY_I8(test_case *c)
{
    byte_rows(c);
    if (between(0, 1)) c->op.n_out = (uint16_t)pick(24, 12, pick(16, 32, 1)), c->op.x_row = c->op.n_out;
    energies(c);
    weights8(c->weights.bytes, 64);
    if (between(0, 1)) memset(c->weights.bytes, c->weights.bytes[0], 64);
    c->op.f0 *= 1e-5f;
}

static void shape_BAND_GATE(test_case *c) { float_rows(c); }
static void shape_BAND_GATE_I8(test_case *c) { shape_GATE_I8(c); }
static void shape_GATES(test_case *c) { float_rows(c); }
static void shape_GATES_I8(test_case *c) { shape_GATE_I8(c); c->op.f1 *= 0.02f; }

static void shape_AFFINE_RELU_I16(test_case *c)
{
    shape_AFFINE_RELU_I8(c);
    c->op.x_zp = 0, c->op.f0 = (float)between(0, 127);
    weights8(c->weights.bytes + c->op.bias, 1 << 13);
    bytes(c->weights.bytes + c->op.scale, 256);
}

static void shape_GATES_I16(test_case *c)
{
    shape_GATE_I8(c);
    if (between(0, 2) == 0) c->op.n_out = c->op.x_row = c->op.y_row = (uint16_t)pick(1, 12, 24), c->op.n_rows = 33;
    c->op.f0 = (float)between(0, 32767);
}

static void shape_ADD_I16(test_case *c)
{
    byte_rows(c);
    c->op.f0 = (float)between(0, 32767), c->op.f1 = (float)between(0, 32767);
}

/* One exponent for all of a value, which is silent now and then, or holds what is no finite number. */
static void shape_QUANTIZE_I16(test_case *c)
{
    const float loud = between(0, 3) ? 1.0f : between(0, 1) ? 1e30f : 1e-30f;
    rows(c);
    floats(c->memory.floats, MEMORY / 4, loud);
    if (between(0, 7) == 0) memset(c->memory.bytes + X, 0, 1 << 15);
}

/* Weights that reach as far as a sum may, and mostly small ones; sums of full inputs. */
static void shape_CONV_I16(test_case *c)
{
    int16_t *w = (int16_t *)(void *)c->weights.bytes;
    int i, n_in, most;
    const int few = between(0, 3) == 0; /* of 8 inputs, of which the last ones have no weights */
    convolution(c);
    if (few) start(c, between(1, 66), 8 * between(1, 3), 16), c->op.taps = c->op.stride = 1;
    c->op.n_in = (uint16_t)(between(0, 5) ? (c->op.n_in + 3) / 4 * 4 : c->op.n_in);
    if (c->op.x_row < c->op.n_in && between(0, 2)) c->op.x_row = c->op.n_in; /* or rows overlap */
    n_in = c->op.taps * c->op.n_in, most = 65535 / (n_in + 1);
    bytes(c->memory.bytes, MEMORY);
    c->op.bias = 6 << 13, c->op.scale = 7 << 13;
    for (i = 0; i < (6 << 13) / 2; i++) w[i] = (int16_t)(between(0, 3) ? between(-most, most) : most);
    if (few) memset(w + 16 * (n_in - 2), 0, 32 * sizeof *w);
    floats(c->weights.floats + (c->op.bias >> 2), 64, 1), floats(c->weights.floats + (c->op.scale >> 2), 64, 1e-6f);
    c->memory.floats[c->op.x2 >> 2] = 1.0f / (float)(1 << between(0, 20));
}

/* A kind that has no shape here does not link. */
typedef void (*shape)(test_case *);
#define SHAPE(name) shape_##name,
static const shape shapes[ED_N_KINDS] = {ED_KINDS(SHAPE)};
#define NAME(name) #name,
static const char *const kinds[ED_N_KINDS] = {ED_KINDS(NAME)};
