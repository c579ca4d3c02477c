/* What is proven here of every operation before anything runs, by the least and the greatest offset that any kernel of
 * its kind reaches:
 *
 *  - results lie in the arena, its own state in the states, and no other operation's state lies there;
 *  - what it reads lies in the arena, in the states or in the weights. Beyond a value nothing is read, beyond an array
 *    of weights ED_SLACK bytes at most;
 *  - it reads nothing that it writes (EDGES may work in place), and the rows and pieces that it makes do not lie over one
 *    another: the order in which a kernel goes is free, so all kernel sets make the same;
 *  - 8-bit weights reach from -127 to 127, biases and numbers under one sum so far that 32 bits hold it: see MOST;
 *    weights of 16 bits under one sum add up to no more than 2^16 - 1;
 *  - all of them together do no more work, in no more memory, than ED_MOST_... say. */
#include "ed_bounds.h"
#include "ed_tables.h"

static uint32_t crc32(const uint8_t *bytes, size_t n)
{
    static const uint32_t nibble[16] = {0x00000000u, 0x1db71064u, 0x3b6e20c8u, 0x26d930acu, 0x76dc4190u, 0x6b6b51f4u,
                                        0x4db26158u, 0x5005713cu, 0xedb88320u, 0xf00f9344u, 0xd6d6a3e8u, 0xcb61b38cu,
                                        0x9b64c2b0u, 0x86d3d2d4u, 0xa00ae278u, 0xbdbdf21cu};
    uint32_t crc = 0xffffffffu;
#if defined(ED_SCALAR) || defined(ED_HELIUM) /* a kilobyte of stack is dear there */
    for (; n > 0; n--) {
        crc ^= *bytes++;
        crc = crc >> 4 ^ nibble[crc & 15u];
        crc = crc >> 4 ^ nibble[crc & 15u];
    }
#else
    uint32_t of_byte[256], i;
    for (i = 0; i < 256; i++) {
        of_byte[i] = i >> 4 ^ nibble[i & 15u];
        of_byte[i] = of_byte[i] >> 4 ^ nibble[of_byte[i] & 15u];
    }
    for (; n > 0; n--) crc = crc >> 8 ^ of_byte[(crc ^ *bytes++) & 255u];
#endif
    return ~crc;
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
    case ED_CONV_I16: return ED_LEAKY_AFTER;
    case ED_CONV_I8: case ED_DEPTH_I8: case ED_RESAMPLE_I8: return ED_LEAKY_AFTER | ED_FLOAT_OUT;
    case ED_DEPTH: case ED_RESAMPLE: return ED_LEAKY_AFTER;
    case ED_LAYER_NORM: return ED_HALF | ED_ADD_AFTER;
    case ED_BIGRU: return ED_HALF | ED_QUICK;
    case ED_GRU_CELL: case ED_BIGRU_MIXED: return ED_QUICK;
    case ED_AFFINE_RELU: return ED_HALF;
    default: return 0;
    }
}

static int needs_inputs(int kind)
{
    switch (kind) {
    case ED_EDGES: case ED_CONV: case ED_CONV_I8: case ED_CONV_I16: case ED_INTERLEAVE: case ED_INTERLEAVE_I8:
    case ED_BIGRU: case ED_BIGRU_MIXED: case ED_BIGRU_I8: case ED_BIGRU_I16: case ED_HISTORY: case ED_HISTORY_I8:
        return 1;
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
    case ED_CONV: case ED_CONV_I8: case ED_CONV_I16: return work + op->n_rows * op->taps * padded(n_in) * padded(n_out);
    case ED_DEPTH: case ED_DEPTH_I8: return work + op->time_taps * op->taps * made + (int64_t)ed_slot_size(op);
    case ED_RESAMPLE: case ED_RESAMPLE_I8: return work + op->time_taps * op->taps * made + (int64_t)ed_slot_size_of(op, op->seg);
    case ED_BAND_ENERGY: case ED_BAND_ENERGY_I8: return work + n_in;
    case ED_SIGMOID: case ED_TANH: case ED_LOG_MAGNITUDE: return work + curve * made;
    case ED_GRU_CELL: case ED_GRU_CELL_I8: case ED_GRU_CELL_I16: return work + 3 * curve * made;
    case ED_BIGRU: case ED_BIGRU_MIXED: case ED_BIGRU_I8: case ED_BIGRU_I16: return work + 3 * (curve + n_in) * made;
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
    if (h->window >= ED_N_WINDOWS || ed_windows[h->window].analysis == NULL) return ED_BAD_PROGRAM;
    if ((h->reserved[0] | h->reserved[1] | h->reserved[2]) != 0) return ED_BAD_PROGRAM;
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
    b.made = b.made_end = b.unit = b.unit_end = 0, b.kept_end = h->n_arena_bytes, b.work = ED_MOST_WORK;
    if (!ed_writes_planes(&b, h->spectrum) || !ed_writes_planes(&b, h->enhanced)) return ED_BAD_PROGRAM;
    for (i = 0; i < h->n_ops; i++) {
        b.op = (const ed_op *)(const void *)(b.weights + h->ops) + i;
        if (!is_sane(&b)) return ED_BAD_PROGRAM;
        b.work -= work_of(b.op);
        if (b.work < 0) return ED_TOO_LARGE; /* before its arrays are looked through */
        if (!ed_fits(&b)) return b.work < 0 ? ED_TOO_LARGE : ED_BAD_PROGRAM;
    }
    return ED_OK;
}
