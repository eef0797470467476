/* The inner loops, of which each processor has its own: sums of products, and the arithmetic of single numbers.
 *
 * Every set of kernels gives the same integers, and the same floats: sums are of int32, exact in any order; what is done
 * to floats is one IEEE operation after another on each number by itself.
 *
 * A *dense* layer is a convolution as a product of matrices. The inputs of an output place are `segments` runs of
 * `length` int16 each: one run of all channels for a 1x1 kernel, three rows of three places for 3x3, and so on. No copy
 * of the inputs is made for it. Weights lie in blocks of `columns` outputs:
 *
 *     block of outputs | segment | pair of inputs | output of the block | the pair's two weights
 */
#ifndef HPCM_KERNELS_H
#define HPCM_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "../hpcm.h"

enum { HPCM_MAX_COLUMNS = 32, HPCM_MAX_PLACES = 12 };
enum { HPCM_HIGH_SHIFT = 15 }; /* m = high * 2^15 + low, where an input doesn't fit 16 bits */

/* What is done to the sums of a block: y = float(sum) * unit, then in this order whatever is there. */
typedef struct {
    const float *unit;     /* [outputs] powers of two */
    int activation;        /* LeakyReLU */
    const float *added;    /* [places][added_stride]: a residual */
    ptrdiff_t added_stride;
    float *floats;         /* [places][floats_stride]: where y goes to */
    ptrdiff_t floats_stride;
    int16_t *whole;        /* [places][whole_stride]: where y, rounded for the next layer, goes to */
    int16_t *high;         /* what doesn't fit `whole`, or null; see `whole` in network.c */
    ptrdiff_t whole_stride;
    const float *scale;    /* [outputs] of the next layer's inputs, and their limit */
    float limit;
} hpcm_finish;

typedef struct {
    const char *name;
    int columns; /* outputs of a block */
    int places;  /* that `sums` computes at once, at most */

    /* sums[place][columns] = bias + products, of up to `places` places that begin `stride` numbers apart. */
    void (*sums)(const int16_t *inputs, ptrdiff_t stride, int places, int segments, ptrdiff_t segment_stride, int length,
                 const int16_t *weights, const int32_t *bias, int32_t *sums);

    /* Does to the first `outputs` sums of each place what `how` says. Its arrays begin at the block's first output. */
    void (*finish)(const int32_t *sums, int places, int outputs, const hpcm_finish *how);

    /* The inputs of a dense layer, round(x * scale) clamped to limit: x [places][stride] -> whole
     * [places][whole_stride], and high or null. */
    void (*round_inputs)(const float *x, ptrdiff_t stride, const float *scale, float limit, int places, int channels,
                         int16_t *whole, int16_t *high, ptrdiff_t whole_stride);

    /* The same to floats, for depthwise layers. */
    void (*round)(const float *x, const float *scale, float limit, int places, int channels, float *rounded);

    /* 3x3 sums of each channel by itself, times unit, rounded for the next layer: rows of rounded places, each with
     * one more on both sides; weights [9][channels]. */
    void (*depthwise)(const float *const rows[3], const float *weights, const float *bias, const float *unit, int places,
                      int channels, const float *scale, float limit, int16_t *whole, int16_t *high,
                      ptrdiff_t whole_stride);
} hpcm_kernel_set;

extern const hpcm_kernel_set hpcm_generic_kernels;
#if defined(__x86_64__) || defined(_M_X64)
extern const hpcm_kernel_set hpcm_avx2_kernels, hpcm_avx512_kernels;
#elif defined(__aarch64__)
extern const hpcm_kernel_set hpcm_neon_kernels;
#elif defined(__wasm_simd128__)
extern const hpcm_kernel_set hpcm_simd128_kernels;
#endif

/* Whether a set computes right on this machine, as far as a fraction of a millisecond tells. */
int hpcm_kernels_are_right(const hpcm_kernel_set *set);

/* The kernels of this name, of the name that the environment's HPCM_KERNELS has if this is null, or the best.
 * HPCM_BAD_KERNELS and a message of HPCM_MESSAGE bytes if this machine lacks them, or they compute wrongly. */
hpcm_status hpcm_choose_kernels(const char *name, const hpcm_kernel_set **chosen, char *message);

#endif
