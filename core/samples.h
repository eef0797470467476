/* Pictures as the coders of residuals get them: whole samples, row by row. */
#ifndef HPCM_SAMPLES_H
#define HPCM_SAMPLES_H

#include <stddef.h>
#include <stdint.h>

enum { HPCM_RESIDUAL_SIDE = 4096, HPCM_RESIDUAL_CHANNELS = 3 };

typedef struct {
    const void *samples; /* [rows][columns][channels] */
    int32_t rows, columns, channels, bytes; /* bytes of a sample: 1 or 2 */
} picture;

static inline int32_t sample_at(const picture *p, int32_t y, int32_t x, int32_t channel) {
    size_t place = ((size_t)y * (size_t)p->columns + (size_t)x) * (size_t)p->channels + (size_t)channel;
    return p->bytes == 1 ? ((const uint8_t *)p->samples)[place] : ((const uint16_t *)p->samples)[place];
}

/* Of a picture of the same shape. */
static inline void set_sample(void *samples, const picture *p, int32_t y, int32_t x, int32_t channel, int32_t value) {
    size_t place = ((size_t)y * (size_t)p->columns + (size_t)x) * (size_t)p->channels + (size_t)channel;
    if (p->bytes == 1) ((uint8_t *)samples)[place] = (uint8_t)value;
    else ((uint16_t *)samples)[place] = (uint16_t)value;
}

/* Whether the coders take such pictures. */
static inline int has_shape(int32_t rows, int32_t columns, int32_t channels, int32_t bit_depth) {
    return rows > 0 && rows <= HPCM_RESIDUAL_SIDE && columns > 0 && columns <= HPCM_RESIDUAL_SIDE &&
           (channels == 1 || channels == HPCM_RESIDUAL_CHANNELS) && bit_depth >= 8 && bit_depth <= 16;
}

static inline int has_depth(const picture *p, int32_t bit_depth) {
    size_t count = (size_t)p->rows * (size_t)p->columns * (size_t)p->channels;
    const uint16_t *samples = p->samples;
    if (p->bytes == 1) return 1;
    for (size_t i = 0; i < count; i++)
        if (samples[i] >> bit_depth) return 0;
    return 1;
}

#endif
