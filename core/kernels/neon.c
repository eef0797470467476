/* ARM64, whose every processor has NEON: smlal multiplies four int16 by one of another vector and adds to four sums. */
#include "kernels.h"

#if defined(__aarch64__)

#include <arm_neon.h>

enum { COLUMNS = 16, PLACES = 6 };

#include "elementwise.h"

/* 6 x 4 sums of the 32 registers; weights take four. */
#define EACH_NUMBER_OF_PLACES(f) f(1) f(2) f(3) f(4) f(5) f(6)

typedef int32x4x2_t vector;
typedef int16x8x2_t weights; /* the first of each pair, the second of each */
typedef int16x4_t pair;      /* twice */

ALWAYS_INLINE vector load(const int32_t *from) {
    return (vector){{vld1q_s32(from), vld1q_s32(from + 4)}};
}

ALWAYS_INLINE void store(int32_t *to, vector sums) {
    vst1q_s32(to, sums.val[0]);
    vst1q_s32(to + 4, sums.val[1]);
}

ALWAYS_INLINE weights load_weights(const int16_t *from) {
    return vld2q_s16(from);
}

ALWAYS_INLINE pair broadcast(int32_t both) {
    return vreinterpret_s16_s32(vdup_n_s32(both));
}

ALWAYS_INLINE vector add_products(vector sum, pair m, weights k) {
    sum.val[0] = vmlal_lane_s16(sum.val[0], vget_low_s16(k.val[0]), m, 0);
    sum.val[1] = vmlal_high_lane_s16(sum.val[1], k.val[0], m, 0);
    sum.val[0] = vmlal_lane_s16(sum.val[0], vget_low_s16(k.val[1]), m, 1);
    sum.val[1] = vmlal_high_lane_s16(sum.val[1], k.val[1], m, 1);
    return sum;
}

#include "sums.h"

const hpcm_kernel_set hpcm_neon_kernels = {
    "neon", COLUMNS, PLACES, sums_of, finish, round_inputs, round_to_floats, depthwise,
};

#endif
