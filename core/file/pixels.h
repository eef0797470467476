/* y_hat of tiles -> pixels, piece by piece without seams: each piece is synthesised with a halo of real neighbours as wide as
 * g_s reaches (codec/pixels.py). */
#ifndef HPCM_PIXELS_H
#define HPCM_PIXELS_H

#include "latents.h"

typedef struct {
    hpcm_latents latents;
    int32_t halo;    /* latents */
    hpcm_box needed; /* columns and rows of the tiles that the pixels depend on */
    float **rows;    /* of each row of them: y_hat side by side, [h][w][M]; null before it is needed and behind */
    int32_t row_count; /* that were decoded so far */
} hpcm_synthesis;

/* Begins to make the pixels of a box. `synthesis->latents` is set; the rest is zeros. */
hpcm_status hpcm_begin_synthesis(hpcm_synthesis *synthesis, hpcm_box box);
void hpcm_end_synthesis(hpcm_synthesis *synthesis);

/* The pixels of a piece, in one tile and in the box that was begun; pieces come row by row.
 * samples: [rows][columns][3 or, for grey, 1], uint8_t if the file has 8 bits, else uint16_t of the file's depth. */
hpcm_status hpcm_synthesise_piece(hpcm_synthesis *synthesis, hpcm_box piece, void *samples);

#endif
