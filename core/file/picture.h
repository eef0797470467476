/* The pixels of a request: pieces of tiles -> reduced, with alpha, of the depth and channels that are wanted. */
#ifndef HPCM_PICTURE_H
#define HPCM_PICTURE_H

#include "decode.h"
#include "pixels.h"

/* Where a request's pixels go. */
typedef struct {
    const hpcm_header *header;
    hpcm_box area;      /* that is wanted */
    int32_t reduction;
    int32_t bit_depth, channels; /* that are wanted */
    const void *alpha;  /* of the whole picture, of the file's depth; null if it has none */
    uint8_t *pixels;
    size_t stride;      /* bytes between rows */
} hpcm_canvas;

/* Writes a piece of the picture, whose sides are multiples of the reduction but at the picture's edge.
 * samples: [rows][columns][3 or, of grey, 1] of a box around the piece, of the file's depth. */
void hpcm_draw(const hpcm_canvas *canvas, hpcm_box piece, const void *samples, hpcm_box samples_box);

#endif
