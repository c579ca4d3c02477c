/* Kernels for x86-64 with AVX2, FMA and F16C. */
#include "ed_program.h"

#if defined(ED_X86)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c")
#endif
#include <immintrin.h>

#include "ed_block.h"
#include "ed_x86.h"

#define SET ed_avx2
#define NAME "avx2"
#define BASE &ed_portable
#define VL 8
#define MOST_NB 11
#define NB16 5
#define NB8 11
#define MOST_NB_I8 3
#define NB16_I8 2
#define NB8_I8 3

typedef __m256 vf;
#define vf_load(p) _mm256_loadu_ps(p)
#define vf_load8(p) vf_load(p)
#define vf_load4(p) _mm256_zextps128_ps256(_mm_loadu_ps(p))
#define vf_store(p, v) _mm256_storeu_ps(p, v)
#define vf_set1(x) _mm256_set1_ps(x)
#define vf_min(a, b) _mm256_min_ps(a, b)
#define vf_max(a, b) _mm256_max_ps(a, b)
#define vf_div(a, b) _mm256_div_ps(a, b)
#define vf_sqrt(a) _mm256_sqrt_ps(a)
#define vf_fma(acc, a, b) _mm256_fmadd_ps(a, b, acc)
#define vf_round(v) _mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
#define vf_below_zero(test, then, other) _mm256_blendv_ps(other, then, test)
#define vf_load_half(p) _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(p)))
#define vf_reverse(v) _mm256_permutevar8x32_ps(v, _mm256_setr_epi32(7, 6, 5, 4, 3, 2, 1, 0))

typedef const float *x4;
#define x4_load(p) (p)
#define X4_TIMES(w, x, j) ((w) * vf_set1((x)[j]))
#define X4_FMA(acc, w, x, j) vf_fma(acc, w, vf_set1((x)[j]))
#define LANE_TIMES(w, h, k) ((w) * _mm256_permute_ps(h, (k) * 0x55))
#define LANE_FMA(acc, w, h, k) vf_fma(acc, w, _mm256_permute_ps(h, (k) * 0x55))

/* Whole numbers and a zero point, saturated. */
static inline __m128i bytes_of(const vf v[2], int zp)
{
    __m256i words = _mm256_packs_epi32(_mm256_cvtps_epi32(v[0]), _mm256_cvtps_epi32(v[1])), bytes;
    words = _mm256_adds_epi16(words, _mm256_set1_epi16((int16_t)zp));
    bytes = _mm256_packs_epi16(words, words); /* each four times of 8 bytes twice */
    return _mm_unpacklo_epi32(_mm256_castsi256_si128(bytes), _mm256_extracti128_si256(bytes, 1));
}

static inline void store16_i8(int8_t *p, const vf v[2], int zp)
{
    _mm_storeu_si128((__m128i *)(void *)p, bytes_of(v, zp));
}

/* To the nearest steps of a grid. The conversion rounds; of what is too low, or no number, it makes the lowest integer,
 * which saturates. */
static inline __m128i rounded(const vf v[2], vf high, int zp)
{
    const vf f[2] = {vf_min(high, v[0]), vf_min(high, v[1])};
    return bytes_of(f, zp);
}

static inline void round16_i8(int8_t *p, const vf *v, vf low, vf high, int zp)
{
    (void)low;
    _mm_storeu_si128((__m128i *)(void *)p, rounded(v, high, zp));
}

/* The same to four places, in pieces of 4, 8 or 16 bytes. */
static inline __attribute__((always_inline)) void round_at_i8(int8_t *const *to, const int piece, const vf *v, vf low,
                                                              vf high, int zp)
{
    const __m128i bytes = rounded(v, high, zp);
    (void)low;
    if (piece == 16) _mm_storeu_si128((__m128i *)(void *)to[0], bytes);
    else if (piece == 8) {
        _mm_storel_epi64((__m128i *)(void *)to[0], bytes);
        _mm_storel_epi64((__m128i *)(void *)to[2], _mm_unpackhi_epi64(bytes, bytes));
    } else {
        int32_t words[4] = {_mm_cvtsi128_si32(bytes), _mm_extract_epi32(bytes, 1), _mm_extract_epi32(bytes, 2),
                            _mm_extract_epi32(bytes, 3)};
        __builtin_memcpy(to[0], words, 4), __builtin_memcpy(to[1], words + 1, 4);
        __builtin_memcpy(to[2], words + 2, 4), __builtin_memcpy(to[3], words + 3, 4);
    }
}

/* Steps from the zero point. */
static inline void load16_i8(const int8_t *p, int zp, vf *v)
{
    v[0] = from_8(p) - vf_set1((float)zp);
    v[1] = from_8(p + 8) - vf_set1((float)zp);
}

static inline void zip(vf a, vf b, vf *first, vf *second)
{
    vf low = _mm256_unpacklo_ps(a, b), high = _mm256_unpackhi_ps(a, b);
    *first = _mm256_permute2f128_ps(low, high, 0x20);
    *second = _mm256_permute2f128_ps(low, high, 0x31);
}

static inline void unzip(vf a, vf b, vf *even, vf *odd)
{
    __m256d e = _mm256_castps_pd(_mm256_shuffle_ps(a, b, 0x88)), o = _mm256_castps_pd(_mm256_shuffle_ps(a, b, 0xdd));
    *even = _mm256_castpd_ps(_mm256_permute4x64_pd(e, 0xd8));
    *odd = _mm256_castpd_ps(_mm256_permute4x64_pd(o, 0xd8));
}

typedef vf eight;
#define load_gates(p) vf_load(p)

static inline void zip8(const float *x, eight gates, const float *x2, float *y)
{
    vf first, second;
    zip(vf_load(x) * gates, vf_load(x2), &first, &second);
    vf_store(y, first);
    vf_store(y + 8, second);
}

static inline void store_features(float *y, vf m, vf r, vf i)
{
    rows_of_4(y, _mm256_castps256_ps128(m), _mm256_castps256_ps128(r), _mm256_castps256_ps128(i));
    rows_of_4(y + 16, _mm256_extractf128_ps(m, 1), _mm256_extractf128_ps(r, 1), _mm256_extractf128_ps(i, 1));
}

/* 4 inputs of 4 results in 16 bytes: as 16-bit products, two by two. */
typedef struct {
    __m256i low[2], high[2]; /* of 8 results: 0..3, 4..7, each as two partial sums */
} dots;

static inline __m256i words(const int8_t *p)
{
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)p));
}

static inline __m256i four(const int8_t *x)
{
    int32_t bytes;
    __builtin_memcpy(&bytes, x, 4);
    return _mm256_broadcastq_epi64(_mm_cvtepi8_epi16(_mm_cvtsi32_si128(bytes)));
}

static inline __attribute__((always_inline)) void dots_start(dots *d, const int32_t *bias, const int n, const int width)
{
    int b;
    (void)bias, (void)width;
    _Pragma("GCC unroll 4") for (b = 0; b < n; b++)
        d[b].low[0] = d[b].low[1] = d[b].high[0] = d[b].high[1] = _mm256_setzero_si256();
}

static inline __attribute__((always_inline)) void dots_add(dots *d, const int8_t *w, ptrdiff_t w_row, const int8_t *x,
                                                           ptrdiff_t step, int n_groups, const int n, const int width,
                                                           const int first)
{
    int g, b, v;
    (void)first;
    for (g = 0; g < n_groups; g++, w += w_row, x += 4) {
        __m256i xs[MOST_NB_I8];
        _Pragma("GCC unroll 4") for (b = 0; b < n; b++) xs[b] = four(x + b * step);
        _Pragma("GCC unroll 2") for (v = 0; v < (width + 7) / 8; v++) {
            __m256i low = words(w + 32 * v), high = width > 4 ? words(w + 32 * v + 16) : low;
            _Pragma("GCC unroll 4") for (b = 0; b < n; b++) {
                d[b].low[v] = _mm256_add_epi32(d[b].low[v], _mm256_madd_epi16(low, xs[b]));
                if (width > 4) d[b].high[v] = _mm256_add_epi32(d[b].high[v], _mm256_madd_epi16(high, xs[b]));
            }
        }
    }
}

static inline vf joined(__m256i low, __m256i high, const int32_t *bias)
{
    __m256i sum = _mm256_permute4x64_epi64(_mm256_hadd_epi32(low, high), 0xd8);
    return _mm256_cvtepi32_ps(_mm256_add_epi32(sum, _mm256_loadu_si256((const __m256i *)(const void *)bias)));
}

static inline __attribute__((always_inline)) void dots_sum(const dots *d, const int32_t *bias, vf sum[][2], const int n,
                                                           const int width)
{
    int b, v;
    _Pragma("GCC unroll 4") for (b = 0; b < n; b++)
        _Pragma("GCC unroll 2") for (v = 0; v < (width + 7) / 8; v++)
            sum[b][v] = joined(d[b].low[v], d[b].high[v], bias + 8 * v);
}

#define HELD_I8
#define HELD_MOST 24
#define HELD_24
#define HELD_SIXTEEN
#define HELD_WIDENS

/* Inputs in 16 bits, so that a load gives a pair of them to all lanes. */
typedef int16_t held_in;
enum { MOST_HELD = 1600 };

/* n_rows rows of n_in inputs, one after the other; n_in is 8, 12, 16 or 24. Of 12 the last eight are widened. */
static inline __attribute__((always_inline)) void held_widen(held_in *wide, const int8_t *x, ptrdiff_t x_row,
                                                             int n_rows, const int n_in)
{
    const int at = n_in - 8;
    int r;
    if (x_row == n_in) {
        const int last = n_rows * n_in - 16;
        for (r = 0; r < last; r += 16) _mm256_storeu_si256((__m256i *)(void *)(wide + r), words(x + r));
        _mm256_storeu_si256((__m256i *)(void *)(wide + last), words(x + last));
        return;
    }
    _Pragma("GCC unroll 4") for (r = 0; r < n_rows; r++, x += x_row, wide += n_in) {
        const __m128i first = _mm_loadl_epi64((const __m128i *)(const void *)x);
        const __m128i last = _mm_loadl_epi64((const __m128i *)(const void *)(x + at));
        if (n_in >= 16) _mm256_storeu_si256((__m256i *)(void *)wide, words(x));
        else _mm_storeu_si128((__m128i *)(void *)wide, _mm_cvtepi8_epi16(first));
        if (n_in % 16 != 0 && n_in > 8) _mm_storeu_si128((__m128i *)(void *)(wide + at), _mm_cvtepi8_epi16(last));
    }
}

/* n groups of 4 inputs by `width` columns: pairs of inputs, 8 columns a vector, so that no sum goes across lanes. */
typedef struct {
    __m256i w[24], bias[3];
} held;

static inline __attribute__((always_inline)) void held_load(held *h, const int8_t *w, ptrdiff_t w_row,
                                                            const int32_t *bias, const int n, const int width)
{
    /* the first and the second two of each four bytes, as upper halves of words */
    const __m128i two = _mm_setr_epi8(-1, 0, -1, 1, -1, 4, -1, 5, -1, 8, -1, 9, -1, 12, -1, 13);
    const __m256i first = _mm256_broadcastsi128_si256(two), second = _mm256_add_epi8(first, _mm256_set1_epi16(0x200));
    const int n_v = width / 8;
    int g, v;
    _Pragma("GCC unroll 3") for (v = 0; v < n_v; v++) {
        h->bias[v] = _mm256_loadu_si256((const __m256i *)(const void *)(bias + 8 * v));
        _Pragma("GCC unroll 6") for (g = 0; g < n; g++) {
            const __m256i four = _mm256_loadu_si256((const __m256i *)(const void *)(w + g * w_row + 32 * v));
            h->w[2 * g * n_v + v] = _mm256_srai_epi16(_mm256_shuffle_epi8(four, first), 8);
            h->w[(2 * g + 1) * n_v + v] = _mm256_srai_epi16(_mm256_shuffle_epi8(four, second), 8);
        }
    }
}

#define HELD_SUMS
/* A compiler is not to add products to each other first, which would keep them all. */
#define IN_ORDER(v) __asm__("" : "+x"(v))

/* Row by row: a pair of inputs is read once, for the sums of all rows that it is a tap of. */
static inline __attribute__((always_inline)) void held_sums(const held *h, const held_in *x, ptrdiff_t x_row, const int n,
                                                            const int n_taps, const int n_fours, const int width, vf *sum)
{
    const int n_pairs = 2 * n_fours, n_v = width / 8, n_rows = n + n_taps - 1;
    __m256i acc[2][3];
    int r, p, b, v;
    _Pragma("GCC unroll 2") for (b = 0; b < n; b++) _Pragma("GCC unroll 3") for (v = 0; v < n_v; v++) acc[b][v] = h->bias[v];
    _Pragma("GCC unroll 4") for (r = 0; r < n_rows; r++)
        _Pragma("GCC unroll 12") for (p = 0; p < n_pairs; p++) {
            const __m256i pair = _mm256_castps_si256(_mm256_broadcast_ss((const float *)(const void *)(x + r * x_row + 2 * p)));
            _Pragma("GCC unroll 2") for (b = 0; b < n; b++)
                _Pragma("GCC unroll 3") for (v = 0; v < n_v; v++)
                    if (r >= b && r - b < n_taps) {
                        const __m256i product = _mm256_madd_epi16(h->w[((r - b) * n_pairs + p) * n_v + v], pair);
                        acc[b][v] = _mm256_add_epi32(acc[b][v], product);
                        IN_ORDER(acc[b][v]);
                    }
        }
    _Pragma("GCC unroll 2") for (b = 0; b < n; b++)
        _Pragma("GCC unroll 3") for (v = 0; v < n_v; v++) sum[b * n_v + v] = _mm256_cvtepi32_ps(acc[b][v]);
}

/* 24 results of a row to their places, which move on. */
static inline __attribute__((always_inline)) void put_fours(char **to, ptrdiff_t by, const vf *sum, int zp)
{
    const vf high = vf_set1(127.0f - (float)zp);
    __m256i whole[3], bytes;
    int i, v;
    _Pragma("GCC unroll 3") for (v = 0; v < 3; v++) whole[v] = _mm256_cvtps_epi32(vf_min(high, sum[v]));
    whole[0] = _mm256_adds_epi16(_mm256_packs_epi32(whole[0], whole[1]), _mm256_set1_epi16((int16_t)zp));
    whole[2] = _mm256_adds_epi16(_mm256_packs_epi32(whole[2], whole[2]), _mm256_set1_epi16((int16_t)zp));
    bytes = _mm256_packs_epi16(whole[0], whole[2]);
    _Pragma("GCC unroll 2") for (i = 0; i < 2; i++) {
        const __m128i four = i == 0 ? _mm256_castsi256_si128(bytes) : _mm256_extracti128_si256(bytes, 1);
        const int32_t words[3] = {_mm_cvtsi128_si32(four), _mm_extract_epi32(four, 1), _mm_extract_epi32(four, 2)};
        _Pragma("GCC unroll 3") for (v = 0; v < 3; v++) __builtin_memcpy(to[2 * v + i], words + v, 4), to[2 * v + i] += by;
    }
}

#include "ed_avx2_depth.inc"

/* Sums of 16 channels; weights reach 127, so two products fit 16 bits. */
typedef struct {
    __m256i sum[2];
} products;

static inline void products_start(products *d, const int32_t *bias)
{
    d->sum[0] = _mm256_loadu_si256((const __m256i *)(const void *)bias);
    d->sum[1] = _mm256_loadu_si256((const __m256i *)(const void *)(bias + 8));
}

static inline void products_add(products *d, __m256i words)
{
    d->sum[0] = _mm256_add_epi32(d->sum[0], _mm256_cvtepi16_epi32(_mm256_castsi256_si128(words)));
    d->sum[1] = _mm256_add_epi32(d->sum[1], _mm256_cvtepi16_epi32(_mm256_extracti128_si256(words, 1)));
}

static inline void products_one(products *d, __m256i x, __m256i w)
{
    products_add(d, _mm256_mullo_epi16(x, w));
}

static inline void products_two(products *d, __m256i x, __m256i w, __m256i x2, __m256i w2)
{
    products_add(d, _mm256_add_epi16(_mm256_mullo_epi16(x, w), _mm256_mullo_epi16(x2, w2)));
}

static inline void products_sum(const products *d, vf *sum)
{
    sum[0] = _mm256_cvtepi32_ps(d->sum[0]), sum[1] = _mm256_cvtepi32_ps(d->sum[1]);
}

static inline void ints16(const int32_t *p, vf *v)
{
    v[0] = _mm256_cvtepi32_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
    v[1] = _mm256_cvtepi32_ps(_mm256_loadu_si256((const __m256i *)(const void *)(p + 8)));
}

static inline void squares_sum(const squares *d, vf *sum)
{
    sum[0] = _mm256_cvtepi32_ps(d->sum[0]), sum[1] = _mm256_cvtepi32_ps(d->sum[1]);
}

#include "ed_avx2_gru.inc"
#include "ed_avx2_i16.inc"

static int usable(void)
{
    return has_features(bit_AVX | bit_FMA | bit_F16C, bit_AVX2, 0, SAVES_AVX);
}

#include "ed_simd.inc"

#if defined(__clang__)
#pragma clang attribute pop
#endif
#else
typedef int ed_avx2_is_not_built;
#endif
