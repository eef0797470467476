#include "picture.h"

#include <string.h>

#include "depth.h"

/* Samples of a box, of which one is at (row, column, channel) of the picture. */
typedef struct {
    const void *samples;
    hpcm_box box;
    int channels, bytes;
} plane;

static uint32_t at(const plane *p, int32_t row, int32_t column, int channel) {
    size_t place = (size_t)(row - p->box.top) * (size_t)hpcm_columns(p->box) + (size_t)(column - p->box.left);
    return hpcm_sample(p->samples, place * (size_t)p->channels + (size_t)channel, p->bytes);
}

/* Rounds to the nearest, halves to even, whatever the caller's rounding mode is. */
static uint32_t mean(uint64_t sum, uint64_t count) {
    uint64_t whole = sum / count, rest = sum % count;
    return (uint32_t)(whole + (2 * rest > count || (2 * rest == count && (whole & 1))));
}

/* The mean of a block, to which pixels count by their alpha, since the colour of a transparent one isn't seen. Where all are
 * transparent they count alike. */
static uint32_t mean_of(const plane *p, const plane *alpha, hpcm_box block, int channel) {
    uint64_t weighted = 0, weights = 0, sum = 0;
    if (hpcm_rows(block) == 1 && hpcm_columns(block) == 1) return at(p, block.top, block.left, channel);
    for (int32_t row = block.top; row < block.bottom; row++)
        for (int32_t column = block.left; column < block.right; column++) {
            uint64_t sample = at(p, row, column, channel), weight = alpha ? at(alpha, row, column, 0) : 1;
            weighted += weight * sample;
            weights += weight;
            sum += sample;
        }
    if (weights) return mean(weighted, weights);
    return mean(sum, (uint64_t)hpcm_rows(block) * (uint64_t)hpcm_columns(block));
}

static void put(const hpcm_canvas *canvas, uint8_t *row, size_t place, uint32_t sample) {
    uint16_t wide = (uint16_t)sample;
    if (canvas->bit_depth == 8) row[place] = (uint8_t)sample;
    else memcpy(row + place * sizeof wide, &wide, sizeof wide); /* rows may begin anywhere */
}

static void draw_pixel(const hpcm_canvas *canvas, const plane *colour, const plane *alpha, hpcm_box block, uint8_t *row,
                       size_t place) {
    int has_alpha = canvas->channels % 2 == 0, colours = canvas->channels - has_alpha;
    int32_t depth = canvas->header->bit_depth;
    place *= (size_t)canvas->channels;
    for (int c = 0; c < colours; c++) {
        uint32_t sample = c < colour->channels ? mean_of(colour, alpha, block, c) : 0;
        if (colour->channels == 1 && c > 0) sample = mean_of(colour, alpha, block, 0);
        put(canvas, row, place++, hpcm_rescaled(sample, depth, canvas->bit_depth));
    }
    if (!has_alpha) return;
    uint32_t opaque = hpcm_peak(depth);
    put(canvas, row, place, hpcm_rescaled(alpha ? mean_of(alpha, 0, block, 0) : opaque, depth, canvas->bit_depth));
}

void hpcm_draw(const hpcm_canvas *canvas, hpcm_box piece, const void *samples, hpcm_box samples_box) {
    const hpcm_header *header = canvas->header;
    int bytes = (int)hpcm_sample_bytes(header->bit_depth);
    int32_t n = canvas->reduction;
    plane colour = {samples, samples_box, hpcm_colours(header), bytes};
    plane alpha = {canvas->alpha, {0, 0, header->width, header->height}, 1, bytes};
    for (int32_t top = piece.top; top < piece.bottom; top += n) {
        uint8_t *row = canvas->pixels + (size_t)((top - canvas->area.top) / n) * canvas->stride;
        for (int32_t left = piece.left; left < piece.right; left += n) {
            hpcm_box block = {left, top, hpcm_least(left + n, piece.right), hpcm_least(top + n, piece.bottom)};
            draw_pixel(canvas, &colour, canvas->alpha ? &alpha : 0, block, row, (size_t)((left - canvas->area.left) / n));
        }
    }
}
