/* What the x86 sets share, in vectors of 4. */
#ifndef ED_X86_H
#define ED_X86_H

#include <cpuid.h>

typedef __m128 v4;
#define v4_load(p) _mm_loadu_ps(p)
#define v4_store(p, v) _mm_storeu_ps(p, v)
#define v4_set1(x) _mm_set1_ps(x)
#define v4_zip_low(a, b) _mm_unpacklo_ps(a, b)
#define v4_zip_high(a, b) _mm_unpackhi_ps(a, b)
#define v4_low_halves(a, b) _mm_movelh_ps(a, b)
#define v4_high_halves(a, b) _mm_movehl_ps(b, a)
#define v4_even(a, b) _mm_shuffle_ps(a, b, 0x88)
#define v4_odd(a, b) _mm_shuffle_ps(a, b, 0xdd)

/* Whether the processor has these bits of CPUID's leaves 1 and 7, and the system saves these registers. It is asked itself:
 * __builtin_cpu_supports comes with a compiler's own library, and zig's says no to everything. */
static inline int has_features(unsigned leaf_1_c, unsigned leaf_7_b, unsigned leaf_7_c, unsigned saved)
{
    unsigned a, b, c, d;
    leaf_1_c |= bit_OSXSAVE;
    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & leaf_1_c) != leaf_1_c) return 0;
    __asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
    if ((a & saved) != saved) return 0;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & leaf_7_b) == leaf_7_b && (c & leaf_7_c) == leaf_7_c;
}

enum { SAVES_AVX = 0x06, SAVES_AVX512 = 0xe6 };

static inline void transpose4(const float *x, float *y, ptrdiff_t row)
{
    v4 a = v4_load(x), b = v4_load(x + row), c = v4_load(x + 2 * row), d = v4_load(x + 3 * row);
    _MM_TRANSPOSE4_PS(a, b, c, d);
    v4_store(y, a);
    v4_store(y + row, b);
    v4_store(y + 2 * row, c);
    v4_store(y + 3 * row, d);
}

/* 4 rows of (m, r, i, 0). */
static inline void rows_of_4(float *y, v4 m, v4 r, v4 i)
{
    v4 zero = _mm_setzero_ps();
    _MM_TRANSPOSE4_PS(m, r, i, zero);
    v4_store(y, m);
    v4_store(y + 4, r);
    v4_store(y + 8, i);
    v4_store(y + 12, zero);
}

/* 8 bytes to floats. */
static inline __m256 from_8(const int8_t *p)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p)));
}

typedef __m256i bytes16;

/* 16 bytes, or the first 12, 8 or 4 and zeros, as words. */
static inline __m256i bytes_n(const int8_t *p, const int width)
{
    int32_t four = 0;
    __m128i v;
    if (width == 16) return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)p));
    if (width != 8) __builtin_memcpy(&four, p + width - 4, 4);
    v = width == 4 ? _mm_cvtsi32_si128(four) : _mm_loadl_epi64((const __m128i *)(const void *)p);
    return _mm256_cvtepi8_epi16(width == 12 ? _mm_insert_epi32(v, four, 2) : v);
}

/* 16 of each, one by one. */
static inline void zip_bytes(const int8_t *x, const int8_t *x2, int8_t *y)
{
    __m128i a = _mm_loadu_si128((const __m128i *)(const void *)x), b = _mm_loadu_si128((const __m128i *)(const void *)x2);
    _mm_storeu_si128((__m128i *)(void *)y, _mm_unpacklo_epi8(a, b));
    _mm_storeu_si128((__m128i *)(void *)(y + 16), _mm_unpackhi_epi8(a, b));
}

/* Steps from the zero point of `width` words, 0 of the others. */
static inline __m256i words_less(__m256i x, int zp, const int width)
{
    const __m128i all = _mm_set1_epi16((int16_t)zp), half = _mm_move_epi64(all), none = _mm_setzero_si128();
    return _mm256_sub_epi16(x, _mm256_set_m128i(width == 16 ? all : width == 12 ? half : none, width == 4 ? half : all));
}

/* Sums of weighted squares of 16 numbers; what lies beyond the last one has no weight. */
typedef struct {
    __m256i sum;
} energies;

static inline void energies_start(energies *d)
{
    d->sum = _mm256_setzero_si256();
}

static inline void energies_add(energies *d, __m256i x, int zp, const int8_t *w)
{
    __m256i xs = _mm256_sub_epi16(x, _mm256_set1_epi16((int16_t)zp));
    d->sum = _mm256_add_epi32(d->sum, _mm256_madd_epi16(xs, _mm256_mullo_epi16(xs, bytes_n(w, 16))));
}

/* Of `width` bytes as words, without weights; the others are zero. */
static inline void energies_square(energies *d, __m256i x, int zp, const int width)
{
    __m256i steps = words_less(x, zp, width);
    d->sum = _mm256_add_epi32(d->sum, _mm256_madd_epi16(steps, steps));
}

static inline int32_t energies_sum(const energies *d)
{
    __m128i four = _mm_add_epi32(_mm256_castsi256_si128(d->sum), _mm256_extracti128_si256(d->sum, 1));
    four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(four, _mm_shuffle_epi32(four, 0xb1)));
}

/* Sums of squares, 16 columns: the low 8 and the high 8. A step's square fits 16 bits without sign. */
typedef struct {
    __m256i sum[2];
} squares;

static inline void squares_start(squares *d)
{
    d->sum[0] = d->sum[1] = _mm256_setzero_si256();
}

static inline void squares_add(squares *d, __m256i x, int zp, const int width)
{
    __m256i steps = _mm256_sub_epi16(x, _mm256_set1_epi16((int16_t)zp)), square = _mm256_mullo_epi16(steps, steps);
    d->sum[0] = _mm256_add_epi32(d->sum[0], _mm256_cvtepu16_epi32(_mm256_castsi256_si128(square)));
    if (width > 8) d->sum[1] = _mm256_add_epi32(d->sum[1], _mm256_cvtepu16_epi32(_mm256_extracti128_si256(square, 1)));
}

/* 16 numbers of 16 bits. */
typedef __m256i shorts;
#define shorts_load(p) _mm256_loadu_si256((const __m256i *)(const void *)(p))
#define shorts_save(p, v) _mm256_storeu_si256((__m256i *)(void *)(p), v)
#define shorts_set1(x) _mm256_set1_epi16((int16_t)(x))

/* Steps from the zero point, 128fold, of words. */
static inline shorts shorts_steps(bytes16 x, int zp, const int width)
{
    (void)width;
    return _mm256_slli_epi16(_mm256_sub_epi16(x, _mm256_set1_epi16((int16_t)zp)), 7);
}

static inline shorts shorts_high(shorts a, shorts b, const int width)
{
    (void)width;
    return _mm256_mulhrs_epi16(a, b);
}

static inline shorts shorts_add(shorts a, shorts b, const int width)
{
    (void)width;
    return _mm256_adds_epi16(a, b);
}

/* w x + rise max(x, 0) of words of bytes. */
static inline shorts shorts_bent(bytes16 x, bytes16 w, bytes16 rise)
{
    const __m256i above = _mm256_max_epi16(x, _mm256_setzero_si256());
    return _mm256_add_epi16(_mm256_mullo_epi16(x, w), _mm256_mullo_epi16(above, rise));
}

static inline shorts shorts_scaled(bytes16 x, int unit, shorts start)
{
    return _mm256_add_epi16(start, _mm256_mullo_epi16(x, _mm256_set1_epi16((int16_t)unit)));
}

/* The byte of 32nds, saturated; `width` bytes. */
static inline void shorts_store(int8_t *p, shorts v, const int width)
{
    const __m256i q = _mm256_srai_epi16(v, 5);
    const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(q), _mm256_extracti128_si256(q, 1));
    int8_t row[16];
    if (width == 16) {
        _mm_storeu_si128((__m128i *)(void *)p, bytes);
        return;
    }
    _mm_storeu_si128((__m128i *)(void *)row, bytes);
    __builtin_memcpy(p, row, (size_t)width);
}

#endif
