/* The kernels for single numbers, in plain C, compiled once for each processor: the file that includes this has set the
 * instructions that may be used. Compilers turn these loops into vectors. */
#include "kernels.h"

#include <string.h>

#define ALWAYS_INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16") /* so that an array of sums lives in registers */

/* Adding 1.5 * 2^23 leaves no room for a fraction: the processor rounds to the nearest integer, halves to even, which
 * then stands in the low bits. For |v| <= 2^22. */
static const float ROUNDING = 12582912.0f;
static const int32_t ROUNDING_BITS = 0x4B400000;

static inline float clamped(float v, float limit) {
    v = v > -limit ? v : -limit;
    return v < limit ? v : limit;
}

static inline int32_t rounded(float v) {
    float shifted = v + ROUNDING;
    int32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    return bits - ROUNDING_BITS;
}

enum { LOW_MASK = (1 << HPCM_HIGH_SHIFT) - 1 };

ALWAYS_INLINE void round_channels(const float *restrict x, const float *restrict scale, float limit, int channels,
                                  int16_t *restrict whole, int16_t *restrict high) {
    if (!high) {
        for (int c = 0; c < channels; c++) whole[c] = (int16_t)rounded(clamped(x[c] * scale[c], limit));
        return;
    }
    for (int c = 0; c < channels; c++) {
        int32_t m = rounded(clamped(x[c] * scale[c], limit));
        whole[c] = (int16_t)(m & LOW_MASK);
        high[c] = (int16_t)(m >> HPCM_HIGH_SHIFT);
    }
}

static void round_inputs(const float *x, ptrdiff_t stride, const float *scale, float limit, int places, int channels,
                         int16_t *whole, int16_t *high, ptrdiff_t whole_stride) {
    for (int p = 0; p < places; p++)
        round_channels(x + p * stride, scale, limit, channels, whole + p * whole_stride,
                       high ? high + p * whole_stride : 0);
}

static void round_to_floats(const float *x, const float *scale, float limit, int places, int channels, float *out) {
    for (int p = 0; p < places; p++) {
        const float *restrict from = x + (ptrdiff_t)p * channels;
        float *restrict to = out + (ptrdiff_t)p * channels;
        for (int c = 0; c < channels; c++) to[c] = (float)rounded(clamped(from[c] * scale[c], limit));
    }
}

/* `outputs` is a constant where this is inlined for whole blocks. */
ALWAYS_INLINE void finish_outputs(const int32_t *sums, int places, const int outputs, const hpcm_finish *f) {
    float y[HPCM_MAX_COLUMNS];
    for (int p = 0; p < places; p++) {
        const int32_t *restrict s = sums + p * COLUMNS;
        for (int o = 0; o < outputs; o++) y[o] = (float)s[o] * f->unit[o];
        if (f->activation)
            for (int o = 0; o < outputs; o++) y[o] = y[o] > 0 ? y[o] : y[o] * 0.01f;
        if (f->added) {
            const float *added = f->added + p * f->added_stride;
            for (int o = 0; o < outputs; o++) y[o] = added[o] + y[o];
        }
        if (f->floats) memcpy(f->floats + p * f->floats_stride, y, (size_t)outputs * sizeof *y);
        if (f->whole)
            round_channels(y, f->scale, f->limit, outputs, f->whole + p * f->whole_stride,
                           f->high ? f->high + p * f->whole_stride : 0);
    }
}

static void finish(const int32_t *sums, int places, int outputs, const hpcm_finish *f) {
    if (outputs == COLUMNS) finish_outputs(sums, places, COLUMNS, f);
    else finish_outputs(sums, places, outputs, f);
}

/* The sums of one place, times unit: three rows of three places around it, [3][channels] each. Sums below 2^24 are exact
 * in floats, whatever their order. They are written out so that a sum stays in a register. */
ALWAYS_INLINE void depthwise_place(const float *restrict top, const float *restrict middle, const float *restrict bottom,
                                   const float *restrict k, const float *restrict bias, const float *restrict unit,
                                   int channels, int first, int count, float *restrict y) {
    const float *left = k, *centre = k + channels, *right = k + 2 * (ptrdiff_t)channels;
    ptrdiff_t row = 3 * (ptrdiff_t)channels, one = channels, two = 2 * (ptrdiff_t)channels;
    for (int c = 0; c < count; c++) {
        ptrdiff_t i = first + c;
        float sum = bias[i];
        sum += top[i] * left[i] + top[i + one] * centre[i] + top[i + two] * right[i];
        sum += middle[i] * left[i + row] + middle[i + one] * centre[i + row] + middle[i + two] * right[i + row];
        sum += bottom[i] * left[i + 2 * row] + bottom[i + one] * centre[i + 2 * row] + bottom[i + two] * right[i + 2 * row];
        y[c] = sum * unit[i];
    }
}

static void depthwise(const float *const rows[3], const float *weights, const float *bias, const float *unit, int places,
                      int channels, const float *scale, float limit, int16_t *whole, int16_t *high,
                      ptrdiff_t whole_stride) {
    enum { AT_ONCE = 64 };
    for (int p = 0; p < places; p++)
        for (int first = 0; first < channels; first += AT_ONCE) {
            float y[AT_ONCE];
            int count = channels - first < AT_ONCE ? channels - first : AT_ONCE;
            ptrdiff_t begin = (ptrdiff_t)p * channels;
            depthwise_place(rows[0] + begin, rows[1] + begin, rows[2] + begin, weights, bias, unit, channels, first, count,
                            y);
            round_channels(y, scale + first, limit, count, whole + p * whole_stride + first,
                           high ? high + p * whole_stride + first : 0);
        }
}
