/* Kernels for x86-64 with AVX-512 (F, BW, DQ, VL, VNNI, VBMI: Ice Lake, Zen 4 and later). */
#include "ed_program.h"

#if defined(ED_X86)
#define ED_TARGET "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi,avx2,fma,f16c"
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target(ED_TARGET))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi,avx2,fma,f16c")
#endif
#include <immintrin.h>

#include "ed_block.h"
#include "ed_x86.h"

#define SET ed_avx512
#define NAME "avx512"
#define BASE &ed_portable
#define VL 16
#define MOST_NB 11
#define NB16 11
#define NB8 11
#define MOST_NB_I8 11
#define NB16_I8 11
#define NB8_I8 11

typedef __m512 vf;
#define vf_load(p) _mm512_loadu_ps(p)
#define vf_load8(p) _mm512_zextps256_ps512(_mm256_loadu_ps(p))
#define vf_load4(p) _mm512_zextps128_ps512(_mm_loadu_ps(p))
#define vf_store(p, v) _mm512_storeu_ps(p, v)
#define vf_set1(x) _mm512_set1_ps(x)
#define vf_min(a, b) _mm512_min_ps(a, b)
#define vf_max(a, b) _mm512_max_ps(a, b)
#define vf_div(a, b) _mm512_div_ps(a, b)
#define vf_sqrt(a) _mm512_sqrt_ps(a)
#define vf_fma(acc, a, b) _mm512_fmadd_ps(a, b, acc)
#define vf_round(v) _mm512_roundscale_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
#define vf_below_zero(test, then, other)                                                                               \
    _mm512_mask_blend_ps(_mm512_cmp_ps_mask(test, _mm512_setzero_ps(), _CMP_LT_OQ), other, then)
#define vf_load_half(p) _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)(p)))
#define vf_reverse(v)                                                                                                  \
    _mm512_permutexvar_ps(_mm512_setr_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0), v)
#define vf_join(a, b) _mm512_insertf32x8(_mm512_castps256_ps512(_mm256_loadu_ps(a)), _mm256_loadu_ps(b), 1)

#define vf_upper(v) _mm512_zextps256_ps512(_mm512_extractf32x8_ps(v, 1))
#define vf_twice(v) _mm512_insertf32x8(v, _mm512_castps512_ps256(v), 1)

typedef const float *x4;
#define x4_load(p) (p)
#define X4_TIMES(w, x, j) ((w) * vf_set1((x)[j]))
#define X4_FMA(acc, w, x, j) vf_fma(acc, w, vf_set1((x)[j]))
#define LANE_TIMES(w, h, k) ((w) * _mm512_permute_ps(h, (k) * 0x55))
#define LANE_FMA(acc, w, h, k) vf_fma(acc, w, _mm512_permute_ps(h, (k) * 0x55))

static inline void store16_i8(int8_t *p, const vf *v, int zp)
{
    __m512i steps = _mm512_add_epi32(_mm512_cvtps_epi32(v[0]), _mm512_set1_epi32(zp));
    _mm_storeu_si128((__m128i *)(void *)p, _mm512_cvtepi32_epi8(steps));
}

/* To the nearest steps of a grid. */
static inline void round16_i8(int8_t *p, const vf *v, vf low, vf high, int zp)
{
    vf f[16 / VL];
    int i;
    for (i = 0; i < 16 / VL; i++) f[i] = vf_min(vf_max(v[i], low), high); /* the conversion rounds */
    store16_i8(p, f, zp);
}

/* The same of two rows of 8 bytes. */
static inline void round_at_i8(int8_t *const *to, const int piece, const vf *v, vf low, vf high, int zp)
{
    int8_t bytes[16];
    (void)piece;
    round16_i8(bytes, v, low, high, zp);
    __builtin_memcpy(to[0], bytes, 8), __builtin_memcpy(to[2], bytes + 8, 8);
}

/* Steps from the zero point. */
static inline void load16_i8(const int8_t *p, int zp, vf *v)
{
    v[0] = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p))) - vf_set1((float)zp);
}

#define EVEN _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30)
#define ODD _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31)
#define FIRST _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define SECOND _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)

static inline void zip(vf a, vf b, vf *first, vf *second)
{
    *first = _mm512_permutex2var_ps(a, FIRST, b);
    *second = _mm512_permutex2var_ps(a, SECOND, b);
}

static inline void unzip(vf a, vf b, vf *even, vf *odd)
{
    *even = _mm512_permutex2var_ps(a, EVEN, b);
    *odd = _mm512_permutex2var_ps(a, ODD, b);
}

typedef __m256 eight;
#define load_gates(p) _mm256_loadu_ps(p)

static inline void zip8(const float *x, eight gates, const float *x2, float *y)
{
    vf a = _mm512_castps256_ps512(_mm256_loadu_ps(x) * gates);
    vf_store(y, _mm512_permutex2var_ps(a, FIRST, _mm512_castps256_ps512(_mm256_loadu_ps(x2))));
}

static inline void store_features(float *y, vf m, vf r, vf i)
{
    rows_of_4(y, _mm512_extractf32x4_ps(m, 0), _mm512_extractf32x4_ps(r, 0), _mm512_extractf32x4_ps(i, 0));
    rows_of_4(y + 16, _mm512_extractf32x4_ps(m, 1), _mm512_extractf32x4_ps(r, 1), _mm512_extractf32x4_ps(i, 1));
    rows_of_4(y + 32, _mm512_extractf32x4_ps(m, 2), _mm512_extractf32x4_ps(r, 2), _mm512_extractf32x4_ps(i, 2));
    rows_of_4(y + 48, _mm512_extractf32x4_ps(m, 3), _mm512_extractf32x4_ps(r, 3), _mm512_extractf32x4_ps(i, 3));
}

/* VNNI multiplies unsigned by signed bytes: inputs are shifted up by 128, and 128 sum(w) is taken off again. */
typedef struct {
    __m512i sum;
} dots;

static inline __m512i shifted(__m512i x)
{
    return _mm512_xor_si512(x, _mm512_set1_epi8((char)0x80));
}

static inline __attribute__((always_inline)) void dots_start(dots *d, const int32_t *bias, const int n, const int width)
{
    int b;
    (void)width;
    _Pragma("GCC unroll 16") for (b = 0; b < n; b++) d[b].sum = _mm512_setzero_si512();
    d[n].sum = _mm512_loadu_si512(bias);
}

static inline __attribute__((always_inline)) void dots_add(dots *d, const int8_t *w, ptrdiff_t w_row, const int8_t *x,
                                                           ptrdiff_t step, int n_groups, const int n, const int width,
                                                           const int first)
{
    int g, b;
    (void)first;
    (void)width;
    for (g = 0; g < n_groups; g++, w += w_row, x += 4) {
        __m512i ws = _mm512_loadu_si512(w), minus = _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_set1_epi8((char)0x80), ws);
        d[n].sum = _mm512_sub_epi32(d[n].sum, minus);
        _Pragma("GCC unroll 16") for (b = 0; b < n; b++) {
            int32_t bytes;
            __builtin_memcpy(&bytes, x + b * step, 4);
            d[b].sum = _mm512_dpbusd_epi32(d[b].sum, shifted(_mm512_set1_epi32(bytes)), ws);
        }
    }
}

static inline __attribute__((always_inline)) void dots_sum(const dots *d, const int32_t *bias, vf sum[][1], const int n,
                                                           const int width)
{
    int b;
    (void)width, (void)bias;
    _Pragma("GCC unroll 16") for (b = 0; b < n; b++)
        sum[b][0] = _mm512_cvtepi32_ps(_mm512_add_epi32(d[b].sum, d[n].sum));
}

#define DEPTH_ROLLS

/* One band of three frames, 16 channels: three bytes and a zero a channel. */
typedef __m512i depth_band;

static inline __m512i three_bytes(const int8_t *a, const int8_t *b, const int8_t *c)
{
    static const int8_t order[64] __attribute__((aligned(64))) = {
        0,  16, 32, 48, 1,  17, 33, 48, 2,  18, 34, 48, 3,  19, 35, 48, 4,  20, 36, 48, 5,  21, 37, 48,
        6,  22, 38, 48, 7,  23, 39, 48, 8,  24, 40, 48, 9,  25, 41, 48, 10, 26, 42, 48, 11, 27, 43, 48,
        12, 28, 44, 48, 13, 29, 45, 48, 14, 30, 46, 48, 15, 31, 47, 48};
    __m512i v = _mm512_zextsi128_si512(_mm_loadu_si128((const __m128i *)(const void *)a));
    v = _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *)(const void *)b), 1);
    v = _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *)(const void *)c), 2);
    return _mm512_permutexvar_epi8(_mm512_load_si512(order), v);
}

static inline depth_band depth_read(const int8_t *a, const int8_t *b, const int8_t *c)
{
    return shifted(three_bytes(a, b, c));
}

typedef struct {
    __m512i band[3], bias;
} depth_weights;

static inline void depth_load(depth_weights *d, const int8_t *w, ptrdiff_t row, const int32_t *bias)
{
    __m512i minus = _mm512_setzero_si512();
    int k;
    _Pragma("GCC unroll 3") for (k = 0; k < 3; k++) {
        d->band[k] = three_bytes(w + k * row, w + (3 + k) * row, w + (6 + k) * row);
        minus = _mm512_dpbusd_epi32(minus, _mm512_set1_epi8((char)0x80), d->band[k]);
    }
    d->bias = _mm512_sub_epi32(_mm512_loadu_si512(bias), minus);
}

static inline __attribute__((always_inline)) void depth_sum(const depth_weights *d, const depth_band *x, vf *sum)
{
    __m512i s = d->bias;
    int k;
    _Pragma("GCC unroll 3") for (k = 0; k < 3; k++) s = _mm512_dpbusd_epi32(s, x[k], d->band[k]);
    sum[0] = _mm512_cvtepi32_ps(s);
}

/* Sums of 16 channels; weights reach 127, so two products fit 16 bits. */
typedef struct {
    __m512i sum;
} products;

static inline void products_start(products *d, const int32_t *bias)
{
    d->sum = _mm512_loadu_si512(bias);
}

static inline void products_one(products *d, __m256i x, __m256i w)
{
    d->sum = _mm512_add_epi32(d->sum, _mm512_cvtepi16_epi32(_mm256_mullo_epi16(x, w)));
}

static inline void products_two(products *d, __m256i x, __m256i w, __m256i x2, __m256i w2)
{
    __m256i two = _mm256_add_epi16(_mm256_mullo_epi16(x, w), _mm256_mullo_epi16(x2, w2));
    d->sum = _mm512_add_epi32(d->sum, _mm512_cvtepi16_epi32(two));
}

static inline void products_sum(const products *d, vf *sum)
{
    sum[0] = _mm512_cvtepi32_ps(d->sum);
}

static inline void ints16(const int32_t *p, vf *v)
{
    v[0] = _mm512_cvtepi32_ps(_mm512_loadu_si512(p));
}

static inline void squares_sum(const squares *d, vf *sum)
{
    sum[0] = _mm512_cvtepi32_ps(_mm512_inserti64x4(_mm512_castsi256_si512(d->sum[0]), d->sum[1], 1));
}

#include "ed_avx512_gru.inc"

#define MOST_NB_I16 11
#define NB16_I16 11
#define NB8_I16 11
#define NB4_I16 11

/* Sums of up to 16 results of a row. */
typedef struct {
    __m512i v;
} totals;

static inline totals totals_none(void)
{
    totals s;
    s.v = _mm512_setzero_si512();
    return s;
}

/* `n_pairs` pairs of inputs of n rows, `step` bytes apart; `w_row` bytes lie between the weights of two pairs. */
static inline __attribute__((always_inline)) void totals_add(totals *d, const char *w, ptrdiff_t w_row, const char *x,
                                                             ptrdiff_t step, int n_pairs, const int n, const int width)
{
    int b;
    (void)width;
    for (; n_pairs > 0; n_pairs--, w += w_row, x += 4) {
        const __m512i ws = _mm512_loadu_si512(w);
        _Pragma("GCC unroll 11") for (b = 0; b < n; b++) {
            int32_t pair;
            __builtin_memcpy(&pair, x + b * step, 4);
            d[b].v = _mm512_dpwssd_epi32(d[b].v, ws, _mm512_set1_epi32(pair));
        }
    }
}

static inline void totals_floats(const totals *d, vf *sum, const int width)
{
    (void)width;
    sum[0] = _mm512_cvtepi32_ps(d->v);
}

/* Sizes of floats, by their bits. */
typedef __m512i sizes;
#define sizes_none() _mm512_setzero_si512()
#define sizes_largest(m) _mm512_reduce_max_epu32(m)

static inline sizes sizes_most(sizes m, vf v)
{
    return _mm512_max_epu32(m, _mm512_and_si512(_mm512_castps_si512(v), _mm512_set1_epi32(ED_SIZE_BITS)));
}

/* 16 floats to whole numbers of 16 bits, ties to even, saturated. */
static inline shorts shorts_round(const vf *v)
{
    return _mm512_cvtsepi32_epi16(_mm512_cvtps_epi32(vf_min(vf_set1(ED_SHORT_HIGH), v[0])));
}

static int usable(void)
{
    const unsigned leaf_7_b = bit_AVX2 | bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL;
    return has_features(bit_AVX | bit_FMA | bit_F16C, leaf_7_b, bit_AVX512VNNI | bit_AVX512VBMI, SAVES_AVX512);
}

#include "ed_simd.inc"

#if defined(__clang__)
#pragma clang attribute pop
#endif
#else
typedef int ed_avx512_is_not_built;
#endif
