/* WebAssembly with SIMD: i32x4.dot_i16x8_s multiplies pairs of int16 and adds their products. */
#include "kernels.h"

#if defined(__wasm_simd128__)

#include <wasm_simd128.h>

enum { COLUMNS = 8, PLACES = 6 };

#include "elementwise.h"

/* 6 x 2 sums of the 16 registers that x86-64 has for them. */
#define EACH_NUMBER_OF_PLACES(f) f(1) f(2) f(3) f(4) f(5) f(6)

typedef v128_t vector, weights, pair;

ALWAYS_INLINE vector load(const int32_t *from) {
    return wasm_v128_load(from);
}

ALWAYS_INLINE void store(int32_t *to, vector sums) {
    wasm_v128_store(to, sums);
}

ALWAYS_INLINE weights load_weights(const int16_t *from) {
    return wasm_v128_load(from);
}

ALWAYS_INLINE pair broadcast(int32_t both) {
    return wasm_i32x4_splat(both);
}

ALWAYS_INLINE vector add_products(vector sum, pair m, weights k) {
    return wasm_i32x4_add(sum, wasm_i32x4_dot_i16x8(m, k));
}

#include "sums.h"

const hpcm_kernel_set hpcm_simd128_kernels = {
    "simd128", COLUMNS, PLACES, sums_of, finish, round_inputs, round_to_floats, depthwise,
};

#endif
