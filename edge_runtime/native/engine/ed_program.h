/* Weights as a small program: a header, operations, and the arrays they read. Written by quant/emit/native/emitter.py.
 *
 * Values lie as [band][channel], rows `row` elements apart. A value that a convolution reads has halo rows of real zero
 * before and after it. Offsets: x, x2, y, state in bytes into the memory of a stream, which is the arena (scratch),
 * then the states; weight, bias, scale, table in bytes into the blob (bias of GATE_SHUFFLE: into the memory, where state
 * of GATES and GATES_I8 is a value, of QUANTIZE_I16 a result). Results lie in the arena, apart from what their operation reads; states in the order
 * of the operations that own them.
 * Little-endian; arrays of numbers of more than a byte start at a multiple of 4 bytes.
 */
#ifndef ED_PROGRAM_H
#define ED_PROGRAM_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Bit for bit needs sums as they are written, also where a build cannot be told (-ffp-contract=off), as Arduino's. */
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__) && defined(__ARM_ARCH_PROFILE) && __ARM_ARCH_PROFILE == 'M'
#pragma GCC optimize("fp-contract=off")
#endif

/* The kernel sets of this target besides portable C. */
#if defined(ED_NO_VECTORS) || !defined(__GNUC__)
#elif defined(__x86_64__)
#define ED_X86 1
#elif defined(__aarch64__)
#define ED_ARM64 1
#elif defined(__arm__) && defined(__ARM_ARCH) && defined(__ARM_PCS_VFP) && defined(__linux__)
#if __ARM_ARCH >= 7
#define ED_ARM32 1
#endif
#endif

#if !defined(ED_X86) && !defined(ED_ARM64) && !defined(ED_ARM32)
#if defined(__GNUC__) && defined(__ARM_FEATURE_MVE) && __ARM_FEATURE_MVE & 2 && !defined(ED_NO_HELIUM)
#define ED_HELIUM 1 /* vectors of a microcontroller: known when it is compiled */
#else
#define ED_SCALAR 1 /* no vectors here: kernels in blocks of registers */
#endif
#endif

/* What runs once, or only where a faster kernel does not: small before fast. ED_IN_VECTORS:
 * where the processor has vectors. */
#if defined(__GNUC__)
#define ED_SELDOM __attribute__((cold))
#else
#define ED_SELDOM
#endif
#if defined(ED_SCALAR)
#define ED_IN_VECTORS
#else
#define ED_IN_VECTORS ED_SELDOM
#endif

#define ED_MAGIC 0x574e4445u /* "EDNW" */
#define ED_FORMAT 3u /* 2 had no convolutions of 16 bits, 1 rounded before a LeakyReLU and where float reads */
#define ED_ALIGN 16u
#define ED_SLACK 64u /* bytes after the arena and after the blob's arrays: vector loads may read beyond a row */
#define ED_LANES 16  /* of reductions over a whole value */

/* What a program may ask for, checked before anything is allocated or run, for weights come as files from anywhere. Far
 * beyond the networks that are meant: the published one has 104 KB of weights in float, 109 KB of memory and 0.63
 * million units of work a hop; 64 channels, eight recurrent blocks and six dilations of 64 frames: 0.2 MB, 14 MB and 16
 * million. And little for whoever opens a stranger's file: the slowest hop found within them takes 0.3 s in plain C. A unit
 * is about a product, or an element made or moved: `work_of` in ed_check.c. */
#define ED_MOST_WEIGHT_BYTES (1 << 24)
#define ED_MOST_MEMORY_BYTES (1 << 25) /* arena and states of a stream */
#define ED_MOST_WORK (1 << 25)         /* units of a hop */

/* X(kind): one kernel each; dispatch and tests go over this list. */
#define ED_KINDS(X)                                                                                                    \
    X(ANALYSIS) X(SYNTHESIS) X(FEATURES) X(MERGE) X(SPLIT) X(MASK) X(EDGES) X(CONV) X(CONV_I8) X(DEPTH)           \
    X(DEPTH_I8) X(LEAKY) X(LEAKY_I8) X(MEAN_SQUARE) X(SIGMOID) X(TANH) X(GATE) X(GATE_I8) X(SHUFFLE) X(SHUFFLE_I8)     \
    X(GATE_SHUFFLE) X(ADD) X(ADD_I8) X(LAYER_NORM) X(INTERLEAVE) X(INTERLEAVE_I8) X(QUANTIZE) X(DEQUANTIZE)            \
    X(GRU_CELL) X(GRU_CELL_I8) X(BIGRU) X(BIGRU_MIXED) X(BIGRU_I8)                                                     \
    X(LOG_MAGNITUDE) X(MASK_REAL) X(HISTORY) X(HISTORY_I8) X(RESAMPLE) X(RESAMPLE_I8) X(AFFINE_RELU) X(AFFINE_RELU_I8)           \
    X(MEAN_SQUARE_I8) X(BAND_ENERGY) X(BAND_ENERGY_I8) X(BAND_GATE) X(BAND_GATE_I8) X(GATES) X(GATES_I8)                      \
    X(AFFINE_RELU_I16) X(GATES_I16) X(ADD_I16) X(QUANTIZE_I16) X(CONV_I16) X(BIGRU_I16)       \
    X(GRU_CELL_I16)

/* A folder for one program has no kernels but those of the kinds that it uses: it defines ED_ONLY_KINDS and, of each kind,
 * ED_USES_kind as 1 or 0 (ed_only_kinds.h, by quant/emit/native/c_project.py). ED_IF_USED(kind, yes, no) is one of both. */
#if defined(ED_ONLY_KINDS)
#define ED_IF_USED_1(yes, no) yes
#define ED_IF_USED_0(yes, no) no
#define ED_IF_USED_OF(uses, yes, no) ED_IF_USED_##uses(yes, no)
#define ED_IF_USED_AS(uses, yes, no) ED_IF_USED_OF(uses, yes, no)
#define ED_IF_USED(kind, yes, no) ED_IF_USED_AS(ED_USES_##kind, yes, no)
#else
#define ED_IF_USED(kind, yes, no) yes
#endif
#if defined(__GNUC__)
#define ED_UNUSED static __attribute__((unused))
#else
#define ED_UNUSED static
#endif

/* What begins a kernel's function, and a line that declares it: one that is not used is left out of what is compiled. */
#define ED_KERNEL(kind) ED_IF_USED(kind, , ED_UNUSED) void
#define ED_DECLARE_KERNEL(kind, name) ED_IF_USED(kind, void name(const ed_args *a);, )

#define ED_ENUM(name) ED_##name,
enum ed_kind { ED_KINDS(ED_ENUM) ED_N_KINDS };
#undef ED_ENUM

enum ed_flag {
    ED_LEAKY_AFTER = 1, /* a LeakyReLU follows inside the operation */
    ED_HALF = 2,        /* weights in half precision */
    ED_FLOAT_OUT = 4,   /* an 8-bit operation whose sums become floats */
    ED_ADD_AFTER = 8,   /* x2 is added to the result */
    ED_QUICK = 16       /* gates by the quicker curve, of programs in 8 bits */
};

typedef struct {
    uint32_t magic, format, n_bytes, crc32; /* crc32: of every byte after these four */
    uint32_t precision;                     /* 0 fp32, 1 int8 */
    uint32_t n_ops, ops;                    /* count, offset */
    uint32_t n_arena_bytes, n_state_bytes; /* the arena's with ED_SLACK at its end */
    uint32_t spectrum, enhanced; /* in the arena: re[ED_PLANE], im[ED_PLANE] */
    uint32_t period;             /* frames after which every history is at its first slot again */
    uint32_t window;             /* ed_window_name: what the network hears spectra through */
    uint32_t reserved[3];
} ed_header;

#define ED_HASHED_FROM (4 * sizeof(uint32_t)) /* offset of the first hashed byte */

enum ed_window_name { ED_SQRT_HANN, ED_HANN, ED_N_WINDOWS };

#define ED_PLANE 272 /* floats of a plane of 257 bins: whole vectors, and one more */

typedef struct {
    int32_t x, x2, y, state;             /* offsets in bytes into the memory of a stream */
    int32_t weight, bias, scale, table;  /* offsets in bytes into the blob */
    float f0, f1, f2;                    /* multipliers, see each kernel */
    uint16_t n_rows;                     /* of the result: bands */
    uint16_t x_row, x2_row, y_row;       /* elements from one row to the next */
    uint16_t n_in, n_out;                /* columns read, columns made */
    uint16_t seg, seg_row;               /* results lie in pieces of `seg` columns, `seg_row` elements apart; EDGES:
                                          * rows of x2; RESAMPLE: rows of x, phases of y */
    uint16_t halo;                       /* elements of real zero before and after the rows of the result */
    uint8_t kind, flags;
    uint8_t taps, stride, pad;           /* over bands */
    uint8_t time_taps, dilation;
    int8_t x_zp, x2_zp, y_zp, mid_zp;    /* zero points; mid: of GATES_I8 between its products */
    int8_t reserved[3];
} ed_op;

/* Constants of an 8-bit GRU cell, at `scale` of GRU_CELL_I8 and BIGRU_I8: zero points and multipliers as floats. */
typedef struct {
    float gates_x_zp, gates_h_zp, h_zp;
    float sum_x, sum_h, sum_zp;  /* reset_update_sum = gates_x + gates_h */
    float gate_zp;               /* of reset_update, a table of the sum */
    float reset, reset_zp;       /* reset_h = r * gates_h */
    float new_x, new_h, new_zp;  /* new_sum = gates_x + reset_h */
    float n_zp;                  /* of new, a table of its sum */
    float diff_h, diff_n, diff_zp;
    float update, update_zp;     /* z * difference */
    float h_n, h_update;         /* h = new + update */
} ed_gru_grids;

/* What a kernel gets: the operation with its offsets made pointers. */
typedef struct {
    const ed_op *op;
    const void *x, *x2;
    void *y;
    const void *weight, *bias, *scale, *table;
    void *state;
    uint32_t frame; /* counts up to `period` */
} ed_args;

typedef void (*ed_kernel)(const ed_args *a);

typedef struct ed_isa {
    const char *name;
    const struct ed_isa *base; /* runs the kinds that have no kernel here */
    int (*usable)(void);
    const ed_kernel *exact; /* one a kind; int8 programs: no fused multiply-add, sums in the stated order */
    const ed_kernel *fast;  /* one a kind; fp32 programs */
} ed_isa;

extern const ed_isa *const ed_isas[]; /* fastest first, then NULL */
extern const ed_isa ed_portable;      /* the last of them; has every kernel */
extern const ed_kernel ed_portable_kernels[ED_N_KINDS];

static inline ed_kernel ed_find(const ed_isa *isa, int kind, int exact)
{
    while ((exact ? isa->exact : isa->fast)[kind] == NULL) isa = isa->base;
    return (exact ? isa->exact : isa->fast)[kind];
}

/* The frame `age` frames before this one, in a ring of (time_taps - 1) * dilation frames. */
static inline size_t ed_slot(const ed_op *op, uint32_t frame, int32_t age)
{
    uint32_t n = (uint32_t)((op->time_taps - 1) * op->dilation);
    return (frame % n + n - (uint32_t)age) % n;
}

/* Elements of one stored frame of a depthwise convolution that reads n_rows, halo included. */
static inline size_t ed_slot_size_of(const ed_op *op, int n_rows)
{
    return (size_t)(n_rows + 2 * op->pad) * op->n_out;
}

static inline size_t ed_slot_size(const ed_op *op)
{
    return ed_slot_size_of(op, op->n_rows);
}

/* The frame of n_rows that time tap t reads, at band -pad: this one, or one of the ring. `element`: bytes of a value. */
static inline const char *ed_frame_in(const ed_args *a, int n_rows, int t, size_t element)
{
    const ed_op *op = a->op;
    int32_t age = (op->time_taps - 1 - t) * op->dilation;
    if (age == 0) return (const char *)a->x - (size_t)(op->pad * op->x_row) * element;
    return (const char *)a->state + ed_slot(op, a->frame, age) * ed_slot_size_of(op, n_rows) * element;
}

static inline const char *ed_frame_of(const ed_args *a, int t, size_t element)
{
    return ed_frame_in(a, a->op->n_rows, t, element);
}

/* This frame takes the place of the oldest; of more time taps than one. */
static inline void ed_keep_frame_in(const ed_args *a, int n_rows, size_t element)
{
    const ed_op *op = a->op;
    size_t n = ed_slot_size_of(op, n_rows) * element;
    memmove((char *)a->state + ed_slot(op, a->frame, (op->time_taps - 1) * op->dilation) * n,
            ed_frame_in(a, n_rows, op->time_taps - 1, element), n);
}

static inline void ed_keep_frame(const ed_args *a, size_t element)
{
    ed_keep_frame_in(a, a->op->n_rows, element);
}

/* Where result o of a row lies, in elements. */
static inline ptrdiff_t ed_piece(const ed_op *op, int o)
{
    return (ptrdiff_t)(o / op->seg) * op->seg_row + o % op->seg;
}

static inline float ed_half_to_float(uint16_t h)
{
    union { uint32_t u; float f; } v;
    v.u = (uint32_t)(h & 0x7fffu) << 13;
    v.f *= 5.192296858534828e33f; /* 2^112: the exponents' biases differ by so much */
    v.u |= (uint32_t)(h & 0x8000u) << 16;
    return v.f;
}

/* Row i of a value. */
#define ROWS(T, pointer, row, i) ((T *)(pointer) + (ptrdiff_t)(i) * (row))

#endif
