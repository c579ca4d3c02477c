/* x86: what recurrent layers over bands in 8 bits need but for the curves; 16 numbers of 16 bits are a vector. */
#ifndef ED_X86_GRU_H
#define ED_X86_GRU_H

#include "ed_x86.h"

static inline __m128i bytes_8(const int8_t *p)
{
    return _mm_loadl_epi64((const __m128i *)(const void *)p);
}

/* 8 bytes from each. */
static inline bytes16 units_16(const int8_t *ahead, const int8_t *back)
{
    return _mm256_cvtepi8_epi16(_mm_unpacklo_epi64(bytes_8(ahead), bytes_8(back)));
}

static inline __m128i packed(bytes16 y)
{
    return _mm_packs_epi16(_mm256_castsi256_si128(y), _mm256_extracti128_si256(y, 1));
}

static inline void units_16_store(int8_t *ahead, int8_t *back, bytes16 y)
{
    const __m128i bytes = packed(y);
    _mm_storel_epi64((__m128i *)(void *)ahead, bytes);
    _mm_storel_epi64((__m128i *)(void *)back, _mm_unpackhi_epi64(bytes, bytes));
}

static inline int32_t bytes_4(const int8_t *p)
{
    int32_t v;
    __builtin_memcpy(&v, p, 4);
    return v;
}

/* 4 bytes from each, of one gate and of the next one. */
static inline bytes16 units_8(const int8_t *ahead, const int8_t *back, int next)
{
    return _mm256_cvtepi8_epi16(_mm_setr_epi32(bytes_4(ahead), bytes_4(back), bytes_4(ahead + next), bytes_4(back + next)));
}

static inline void units_8_store(int8_t *ahead, int8_t *back, bytes16 y)
{
    const __m128i bytes = packed(y);
    const int32_t first = _mm_cvtsi128_si32(bytes), second = _mm_extract_epi32(bytes, 1);
    __builtin_memcpy(ahead, &first, 4), __builtin_memcpy(back, &second, 4);
}

#define shorts_less(a, b) _mm256_sub_epi16(a, b)
#define shorts_lower(a) _mm256_permute4x64_epi64(a, 0x44)
#define shorts_upper(a) _mm256_permute4x64_epi64(a, 0xee)

/* Saturated. */
#define shorts_apart(a, b) _mm256_subs_epi16(a, b)
/* a where the mask is set, else b. */
#define shorts_choose(mask, a, b) _mm256_blendv_epi8(b, a, mask)

/* Whether a gate lies below a half, and the half of its curve, 64fold. */
typedef struct {
    shorts part, below;
} gate16;

/* From 2^14ths to 128ths, as bytes. */
static inline void units_store(int8_t *p, shorts h)
{
    const __m256i q = _mm256_srai_epi16(_mm256_adds_epi16(h, shorts_set1(64)), 7);
    _mm_storeu_si128((__m128i *)(void *)p, packed(q));
}

/* From 128ths of a step. */
static inline bytes16 shorts_state(shorts a)
{
    return _mm256_srai_epi16(_mm256_add_epi16(a, shorts_set1(64)), 7);
}

/* Weights of inputs 0 and 1 and of inputs 2 and 3 of a block, those of units 0 to 3 and 8 to 11 before the others: so
 * that the sums, made 16 bits, lie in order. */
typedef struct {
    __m256i w[3][4];
} halves;

static inline void halves_start(halves *d, const int8_t *w, int n_gates)
{
    int gate, q;
    for (gate = 0; gate < n_gates; gate++) {
        __m128i first[4], second[4];
        _Pragma("GCC unroll 4") for (q = 0; q < 4; q++) {
            const __m256 four = _mm256_castsi256_ps(bytes_n(w + 64 * gate + 16 * q, 16));
            const __m128 low = _mm256_castps256_ps128(four), high = _mm256_extractf128_ps(four, 1);
            first[q] = _mm_castps_si128(_mm_shuffle_ps(low, high, 0x88));
            second[q] = _mm_castps_si128(_mm_shuffle_ps(low, high, 0xdd));
        }
        _Pragma("GCC unroll 2") for (q = 0; q < 2; q++) {
            d->w[gate][2 * q] = _mm256_set_m128i(first[q + 2], first[q]);
            d->w[gate][2 * q + 1] = _mm256_set_m128i(second[q + 2], second[q]);
        }
    }
}

/* The state, each pair of a block in the lanes of its units. */
typedef struct {
    __m256i pair[4];
} seen;

static inline seen seen_of(bytes16 h)
{
    seen s;
    s.pair[0] = _mm256_shuffle_epi32(h, 0x00), s.pair[1] = _mm256_shuffle_epi32(h, 0x55);
    s.pair[2] = _mm256_shuffle_epi32(h, 0xaa), s.pair[3] = _mm256_shuffle_epi32(h, 0xff);
    return s;
}

static inline shorts halves_sum(const halves *d, const seen *s, int gate)
{
    const __m256i *w = d->w[gate];
    const __m256i low = _mm256_add_epi32(_mm256_madd_epi16(w[0], s->pair[0]), _mm256_madd_epi16(w[1], s->pair[1]));
    const __m256i high = _mm256_add_epi32(_mm256_madd_epi16(w[2], s->pair[2]), _mm256_madd_epi16(w[3], s->pair[3]));
    return _mm256_packs_epi32(_mm256_srai_epi32(low, 1), _mm256_srai_epi32(high, 1));
}

#endif
