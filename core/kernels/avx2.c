/* x86-64 with AVX2: vpmaddwd multiplies pairs of int16 and adds their products. */
#include "kernels.h"

#if defined(__x86_64__) || defined(_M_X64)

#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2")
#endif

enum { COLUMNS = 16, PLACES = 6 };

#include "elementwise.h"

/* `places` is a constant where this is inlined: the sums stay in registers, 6 x 2 of the 16. */
ALWAYS_INLINE void sums_of_places(const int16_t *inputs, ptrdiff_t stride, const int places, int segments,
                                  ptrdiff_t segment_stride, int length, const int16_t *weights, const int32_t *bias,
                                  int32_t *sums) {
    __m256i total[PLACES][2];
    UNROLL
    for (int p = 0; p < places; p++) {
        total[p][0] = _mm256_loadu_si256((const __m256i *)bias);
        total[p][1] = _mm256_loadu_si256((const __m256i *)(bias + 8));
    }
    for (int s = 0; s < segments; s++) {
        const int16_t *m = inputs + s * segment_stride;
        for (int i = 0; i < length; i += 2, weights += 2 * COLUMNS) {
            __m256i k0 = _mm256_loadu_si256((const __m256i *)weights);
            __m256i k1 = _mm256_loadu_si256((const __m256i *)(weights + 16));
            UNROLL
            for (int p = 0; p < places; p++) {
                int32_t pair;
                memcpy(&pair, m + p * stride + i, sizeof pair);
                __m256i x = _mm256_set1_epi32(pair);
                total[p][0] = _mm256_add_epi32(total[p][0], _mm256_madd_epi16(x, k0));
                total[p][1] = _mm256_add_epi32(total[p][1], _mm256_madd_epi16(x, k1));
            }
        }
    }
    UNROLL
    for (int p = 0; p < places; p++) {
        _mm256_storeu_si256((__m256i *)(sums + p * COLUMNS), total[p][0]);
        _mm256_storeu_si256((__m256i *)(sums + p * COLUMNS + 8), total[p][1]);
    }
}

static void sums_of(const int16_t *inputs, ptrdiff_t stride, int places, int segments, ptrdiff_t segment_stride,
                    int length, const int16_t *weights, const int32_t *bias, int32_t *sums) {
    switch (places) {
#define PLACES_ARE(n)                                                                                        \
    case n: sums_of_places(inputs, stride, n, segments, segment_stride, length, weights, bias, sums); break;
        PLACES_ARE(1) PLACES_ARE(2) PLACES_ARE(3) PLACES_ARE(4) PLACES_ARE(5) PLACES_ARE(6)
    }
}

const hpcm_kernel_set hpcm_avx2_kernels = {
    "avx2", COLUMNS, PLACES, sums_of, finish, round_inputs, round_to_floats, depthwise,
};

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif
