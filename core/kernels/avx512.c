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

/* sum + the products of pairs. It is written in assembly because clang, unless it compiles for one processor, takes
 * _mm512_dpwssd_epi32 apart into a multiplication and an addition, which take a third longer. */
ALWAYS_INLINE __m512i add_products(__m512i sum, __m512i m, __m512i k) {
    __asm__("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(m), "v"(k));
    return sum;
}

/* `places` is a constant where this is inlined: the sums stay in registers, 12 x 2 of the 32. */
ALWAYS_INLINE void sums_of_places(const int16_t *inputs, ptrdiff_t stride, const int places, int segments,
                                  ptrdiff_t segment_stride, int length, const int16_t *weights, const int32_t *bias,
                                  int32_t *sums) {
    __m512i total[PLACES][2];
    UNROLL
    for (int p = 0; p < places; p++) {
        total[p][0] = _mm512_loadu_si512(bias);
        total[p][1] = _mm512_loadu_si512(bias + 16);
    }
    for (int s = 0; s < segments; s++) {
        const int16_t *m = inputs + s * segment_stride;
        for (int i = 0; i < length; i += 2, weights += 2 * COLUMNS) {
            __m512i k0 = _mm512_loadu_si512(weights);
            __m512i k1 = _mm512_loadu_si512(weights + 32);
            UNROLL
            for (int p = 0; p < places; p++) {
                int32_t pair;
                memcpy(&pair, m + p * stride + i, sizeof pair);
                __m512i x = _mm512_set1_epi32(pair);
                total[p][0] = add_products(total[p][0], x, k0);
                total[p][1] = add_products(total[p][1], x, k1);
            }
        }
    }
    UNROLL
    for (int p = 0; p < places; p++) {
        _mm512_storeu_si512(sums + p * COLUMNS, total[p][0]);
        _mm512_storeu_si512(sums + p * COLUMNS + 16, total[p][1]);
    }
}

static void sums_of(const int16_t *inputs, ptrdiff_t stride, int places, int segments, ptrdiff_t segment_stride,
                    int length, const int16_t *weights, const int32_t *bias, int32_t *sums) {
    switch (places) {
#define PLACES_ARE(n)                                                                                        \
    case n: sums_of_places(inputs, stride, n, segments, segment_stride, length, weights, bias, sums); break;
        PLACES_ARE(1) PLACES_ARE(2) PLACES_ARE(3) PLACES_ARE(4) PLACES_ARE(5) PLACES_ARE(6) PLACES_ARE(7) PLACES_ARE(8)
        PLACES_ARE(9) PLACES_ARE(10) PLACES_ARE(11) PLACES_ARE(12)
    }
}

const hpcm_kernel_set hpcm_avx512_kernels = {
    "avx512", COLUMNS, PLACES, sums_of, finish, round_inputs, round_to_floats, depthwise,
};

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif
