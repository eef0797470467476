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

/* 6 x 2 sums of the 16 registers. */
#define EACH_NUMBER_OF_PLACES(f) f(1) f(2) f(3) f(4) f(5) f(6)

typedef __m256i vector, weights, pair;

ALWAYS_INLINE vector load(const int32_t *from) {
    return _mm256_loadu_si256((const vector *)from);
}

ALWAYS_INLINE void store(int32_t *to, vector sums) {
    _mm256_storeu_si256((vector *)to, sums);
}

ALWAYS_INLINE weights load_weights(const int16_t *from) {
    return _mm256_loadu_si256((const weights *)from);
}

ALWAYS_INLINE pair broadcast(int32_t both) {
    return _mm256_set1_epi32(both);
}

ALWAYS_INLINE vector add_products(vector sum, pair m, weights k) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(m, k));
}

#include "sums.h"

const hpcm_kernel_set hpcm_avx2_kernels = {
    "avx2", COLUMNS, PLACES, sums_of, finish, round_inputs, round_to_floats, depthwise,
};

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif
