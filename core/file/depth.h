/* Samples of 8 to 16 bits. */
#ifndef HPCM_DEPTH_H
#define HPCM_DEPTH_H

#include <stddef.h>
#include <stdint.h>

static inline uint32_t hpcm_peak(int32_t bit_depth) {
    return (1u << bit_depth) - 1;
}

/* Of a sample in memory. */
static inline size_t hpcm_sample_bytes(int32_t bit_depth) {
    return bit_depth == 8 ? 1 : 2;
}

/* A sample of another depth: black and white stay, the rest is rounded to the nearest. */
static inline uint32_t hpcm_rescaled(uint32_t sample, int32_t bit_depth, int32_t wanted) {
    uint32_t peak = hpcm_peak(bit_depth);
    return wanted == bit_depth ? sample : (sample * hpcm_peak(wanted) + peak / 2) / peak;
}

/* The same of `count` samples of 9 to 16 bits, in place. */
static inline void hpcm_rescale(uint16_t *samples, size_t count, int32_t bit_depth, int32_t wanted) {
    if (wanted == bit_depth) return;
    for (size_t i = 0; i < count; i++) samples[i] = (uint16_t)hpcm_rescaled(samples[i], bit_depth, wanted);
}

/* A sample of a plane, whose samples have one byte or two. */
static inline uint32_t hpcm_sample(const void *plane, size_t place, int bytes) {
    return bytes == 1 ? ((const uint8_t *)plane)[place] : ((const uint16_t *)plane)[place];
}

#endif
