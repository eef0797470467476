/* x86-64 with AVX-512 and VNNI: vpdpwssd multiplies pairs of int16 and adds their products to a sum. */
#include "kernels.h"

#if defined(__x86_64__) || defined(_M_X64)

#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni"))), \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")
#endif

enum { COLUMNS = 32, PLACES = 12 };

#include "elementwise.h"

/* 12 x 2 sums of the 32 registers. */
#define EACH_NUMBER_OF_PLACES(f) f(1) f(2) f(3) f(4) f(5) f(6) f(7) f(8) f(9) f(10) f(11) f(12)

typedef __m512i vector, weights, pair;

ALWAYS_INLINE vector load(const int32_t *from) {
    return _mm512_loadu_si512(from);
}

ALWAYS_INLINE void store(int32_t *to, vector sums) {
    _mm512_storeu_si512(to, sums);
}

ALWAYS_INLINE weights load_weights(const int16_t *from) {
    return _mm512_loadu_si512(from);
}

ALWAYS_INLINE pair broadcast(int32_t both) {
    return _mm512_set1_epi32(both);
}

/* In assembly because clang, unless it compiles for one processor, takes _mm512_dpwssd_epi32 apart into a multiplication
 * and an addition, which take a third longer. */
ALWAYS_INLINE vector add_products(vector sum, pair m, weights k) {
    __asm__("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(m), "v"(k));
    return sum;
}

#include "sums.h"

const hpcm_kernel_set hpcm_avx512_kernels = {
    "avx512", COLUMNS, PLACES, sums_of, finish, round_inputs, round_to_floats, depthwise,
};

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif
