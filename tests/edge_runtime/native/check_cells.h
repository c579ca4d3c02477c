/* Of check.c: random cases of recurrent layers, over time and over bands. */
#include "check_random.h"

static void cell(test_case *c)
{
    int n = pick(16, 16, between(1, 40));
    start(c, pick(33, 1, between(1, 33)), 3 * n, n);
    c->op.x2_row = c->op.x_row;
}

/* Grids as they come, in steps of which most stay inside. */
static void gru_grids(test_case *c, int at)
{
    float *g = c->weights.floats + (at >> 2);
    int i;
    for (i = 0; i < (int)(sizeof(ed_gru_grids) / sizeof(float)); i++) g[i] = (1 + uniform()) * 0.6f;
    {
        ed_gru_grids *z = (ed_gru_grids *)(void *)g;
        z->gates_x_zp = (float)between(-128, 127), z->gates_h_zp = (float)between(-128, 127);
        z->h_zp = (float)between(-20, 20), z->sum_zp = (float)between(-30, 30), z->gate_zp = -128;
        z->reset = 0.004f, z->reset_zp = (float)between(-30, 30), z->new_zp = (float)between(-30, 30), z->n_zp = 0;
        z->diff_zp = (float)between(-128, 127), z->update = 0.004f, z->update_zp = (float)between(-30, 30);
    }
    bytes(c->weights.bytes + c->op.table, 512);
}

static void maybe_quick(test_case *c)
{
    if (between(0, 1)) c->op.flags |= ED_QUICK;
}

static void shape_GRU_CELL(test_case *c) { cell(c); float_inputs(c); maybe_quick(c); }
static void shape_GRU_CELL_I8(test_case *c) { cell(c); byte_inputs(c); gru_grids(c, c->op.scale); }

/* Sums of any size; states beyond what cells reach. */
static void shape_GRU_CELL_I16(test_case *c)
{
    float *x = c->memory.floats + X / 4, *x2 = c->memory.floats + X2 / 4;
    int i;
    cell(c);
    float_inputs(c);
    for (i = 0; i < c->op.n_rows * c->op.x_row; i++) x[i] *= between(0, 7) ? 40 : 40000, x2[i] *= between(0, 7) ? 40 : 40000;
    bytes(c->weights.bytes + c->op.table, 256);
}

static void bigru(test_case *c)
{
    int blocks = between(1, 4), n_in = between(1, 6), usual = between(0, 3);
    start(c, pick(33, 33, between(1, 20)), usual ? 4 : n_in, usual == 1 ? 8 : usual ? 16 : 2 * blocks * n_in);
    c->op.x_row = (uint16_t)(3 * c->op.n_out);
}

static void shape_BIGRU(test_case *c)
{
    int i;
    bigru(c);
    float_inputs(c);
    for (i = 0; i < WEIGHTS / 4; i++) c->weights.floats[i] = uniform() * 0.5f; /* larger ones would make it chaotic */
    maybe_quick(c);
}

static void shape_BIGRU_MIXED(test_case *c)
{
    bigru(c);
    float_inputs(c);
    byte_weights(c, 3 * c->op.n_out);
    c->op.f0 = 128, c->op.x2_zp = 0;
    maybe_quick(c);
}

/* Now and then with sums that floats do not hold, or multipliers that lead out of 32 bits. */
static void shape_BIGRU_I8(test_case *c)
{
    bigru(c);
    byte_inputs(c);
    byte_weights(c, 3 * c->op.n_out);
    gru_grids(c, c->op.scale + 12 * c->op.n_out);
    if (between(0, 7) == 0)
        ((int32_t *)(void *)(c->weights.bytes + c->op.bias))[between(0, 3 * c->op.n_out - 1)] = between(-(1 << 29), 1 << 29);
    if (between(0, 7) == 0) c->weights.floats[(c->op.scale >> 2) + between(0, 3 * c->op.n_out - 1)] = 3e7f;
}

/* Biases and multipliers of any size: some sums saturate. */
static void shape_BIGRU_I16(test_case *c)
{
    int16_t *scale, *bias;
    int i;
    bigru(c);
    if (c->op.n_in > 4) c->op.n_in = 4, c->op.n_out = 16, c->op.x_row = 48, c->op.y_row = 16, c->op.seg = 16;
    byte_inputs(c);
    byte_weights(c, 3 * c->op.n_out);
    scale = (int16_t *)(void *)(c->weights.bytes + c->op.scale), bias = (int16_t *)(void *)(c->weights.bytes + c->op.bias);
    for (i = 0; i < 3 * c->op.n_out; i++) scale[i] = (int16_t)between(0, between(0, 3) ? 9000 : 32767);
    for (i = 0; i < 3 * c->op.n_out; i++) bias[i] = (int16_t)(between(0, 3) ? between(-900, 900) : between(-32768, 32767));
    c->op.f0 = (float)between(0, 32767), c->op.f1 = (float)between(0, 32767), c->op.f2 = (float)between(-32767, 32767);
    bytes(c->weights.bytes + c->op.table, 512);
}
