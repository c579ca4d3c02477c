/* What the x86 sets share, in vectors of 4. */
#ifndef ED_X86_H
#define ED_X86_H

#include <cpuid.h>

typedef __m128 v4;
#define v4_load(p) _mm_loadu_ps(p)
#define v4_store(p, v) _mm_storeu_ps(p, v)
#define v4_set1(x) _mm_set1_ps(x)

static inline int has_f16c(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C) != 0;
}

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

/* Whether floats hold every sum of nine products with these biases exactly. */
static inline int depth_is_exact(const int32_t *bias, int n)
{
    const int32_t most = (1 << 24) - 9 * 127 * 128;
    int i, exact = 1;
    for (i = 0; i < n; i++) exact &= bias[i] <= most && bias[i] >= -most;
    return exact;
}

#endif
