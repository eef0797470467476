/* Plain C, for every processor. */
#include "kernels.h"

enum { COLUMNS = 16, PLACES = 4 };

#include "elementwise.h"

static void sums_of(const int16_t *inputs, ptrdiff_t stride, int places, int segments, ptrdiff_t segment_stride,
                    int length, const int16_t *weights, const int32_t *bias, int32_t *sums) {
    for (int p = 0; p < places; p++) {
        int32_t total[COLUMNS];
        const int16_t *k = weights;
        memcpy(total, bias, sizeof total);
        for (int s = 0; s < segments; s++) {
            const int16_t *m = inputs + p * stride + s * segment_stride;
            for (int i = 0; i < length; i += 2, k += 2 * COLUMNS)
                for (int o = 0; o < COLUMNS; o++) total[o] += m[i] * k[2 * o] + m[i + 1] * k[2 * o + 1];
        }
        memcpy(sums + p * COLUMNS, total, sizeof total);
    }
}

const hpcm_kernel_set hpcm_generic_kernels = {
    "generic", COLUMNS, PLACES, sums_of, finish, round_inputs, round_to_floats, depthwise,
};
