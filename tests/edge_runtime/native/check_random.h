/* Of check.c: memory that is the checker's, and random numbers in it. */
#ifndef CHECK_RANDOM_H
#define CHECK_RANDOM_H

#include "edge_denoise.h"
#include "ed_program.h"

#define MEMORY (1 << 18)
#define WEIGHTS (1 << 16)

typedef struct {
    ed_op op;
    union { uint8_t bytes[MEMORY]; float floats[MEMORY / 4]; double align; } memory;
    union { uint8_t bytes[WEIGHTS]; float floats[WEIGHTS / 4]; int32_t ints[WEIGHTS / 4]; double align; } weights;
} test_case;

static uint32_t rng_state;

static uint32_t rng(void)
{
    rng_state ^= rng_state << 13, rng_state ^= rng_state >> 17, rng_state ^= rng_state << 5;
    return rng_state;
}

static int between(int low, int high) { return low + (int)(rng() % (uint32_t)(high - low + 1)); }
static int pick(int a, int b, int c) { int n = between(0, 2); return n == 0 ? a : n == 1 ? b : c; }
static float uniform(void) { return (float)((int)(rng() >> 8) - (1 << 23)) / (float)(1 << 23); }

/* Mostly of order one; zeros, large and tiny ones among them. */
static float number(void)
{
    switch (between(0, 15)) {
    case 0: return 0;
    case 1: return uniform() * 1e3f;
    case 2: return uniform() * 1e-6f;
    default: return uniform() * 2;
    }
}

/* A half-precision weight below `most`, by its bits; some subnormal, which Armv7's NEON takes for zero in its own sums. */
static uint16_t half_number(int most)
{
    return (uint16_t)((rng() & 0x8000) | (between(0, 7) == 0 ? between(0, 0x0800) : between(0x2000, most)));
}

enum { DRAWN = 1 << 14 }; /* bytes that are random one by one */

/* The rest of n bytes: runs of the first `DRAWN`, from random places, which are copied far faster than they are drawn. */
static void repeat(void *p, int n)
{
    uint8_t *b = p;
    int at, run;
    for (at = DRAWN; at < n; at += run) {
        int from = 4 * between(0, DRAWN / 8 - 1);
        run = DRAWN - from < n - at ? DRAWN - from : n - at;
        memcpy(b + at, b + from, (size_t)run);
    }
}

static void floats(float *p, int n, float scale)
{
    int i, n_drawn = n < DRAWN / 4 ? n : DRAWN / 4;
    for (i = 0; i < n_drawn; i++) p[i] = number() * scale;
    repeat(p, 4 * n);
}

static void bytes(void *p, int n)
{
    int8_t *b = p;
    int i, n_drawn = n < DRAWN ? n : DRAWN;
    for (i = 0; i < n_drawn; i++) b[i] = (int8_t)between(-128, 127);
    repeat(p, n);
}

static void weights8(void *p, int n) { int8_t *b = p; while (n-- > 0) *b++ = (int8_t)between(-127, 127); }

/* Places in memory: x, x2, y and the state lie 32 KB apart, with room before them for halos. */
enum { X = 1 << 14, X2 = 3 << 14, Y = 5 << 14, STATE = 9 << 14 };

static void start(test_case *c, int n_rows, int n_in, int n_out)
{
    ed_op *op = &c->op;
    memset(c, 0, sizeof *c);
    op->n_rows = (uint16_t)n_rows, op->n_in = (uint16_t)n_in, op->n_out = (uint16_t)n_out;
    op->x = X, op->x2 = X2, op->y = Y, op->state = STATE, op->bias = 1 << 13, op->scale = 2 << 13, op->table = 3 << 13;
    op->taps = op->stride = op->time_taps = op->dilation = 1, op->seg = op->n_out;
    op->x_row = (uint16_t)n_in, op->x2_row = op->y_row = (uint16_t)n_out;
    op->x_zp = (int8_t)between(-128, 127), op->x2_zp = (int8_t)between(-128, 127);
    op->y_zp = (int8_t)between(-128, 127), op->mid_zp = (int8_t)between(-128, 127);
    op->f0 = uniform() * 2, op->f1 = uniform() * 2, op->f2 = 0.01f;
}

static void float_inputs(test_case *c) { floats(c->memory.floats, MEMORY / 4, 1); }
static void byte_inputs(test_case *c) { bytes(c->memory.bytes, MEMORY); }

/* 8-bit products: biases and multipliers that reach all of the grid, and now and then beyond. */
static void byte_weights(test_case *c, int n_sums)
{
    int i;
    weights8(c->weights.bytes, 1 << 13);
    for (i = 0; i < n_sums; i++) {
        c->weights.ints[(c->op.bias >> 2) + i] = between(-20000, 20000);
        c->weights.floats[(c->op.scale >> 2) + i] = (1 + uniform()) * 0.004f;
    }
}

#endif
