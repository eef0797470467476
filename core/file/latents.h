/* The latents of a file's tiles. */
#ifndef HPCM_LATENTS_H
#define HPCM_LATENTS_H

#include "../hpcm.h"
#include "container.h"
#include "geometry.h"

typedef struct hpcm_known hpcm_known;

/* How a file is being decoded. */
typedef struct {
    const hpcm_container *container;
    hpcm_model *model;
    hpcm_tiling tiling;
    int scale; /* of a progressive file, so many are decoded */
    hpcm_check check;
    void *user;
    char *message; /* HPCM_MESSAGE bytes */
    hpcm_known **known; /* of each tile, while it is needed; null unless the file is decoded in part */
} hpcm_latents;

void hpcm_latents_free(hpcm_latents *latents);

/* Copies what two maps of latents have in common. Each has `channels` numbers for `stride` x `stride` latents of a box. */
void hpcm_copy_box(const float *from, hpcm_box from_box, float *to, hpcm_box to_box, int32_t stride, int32_t channels);

/* y_hat [h][w][M] of a tile, padded (hpcm_cells). Tiles are asked for row by row. */
hpcm_status hpcm_latents_of(hpcm_latents *latents, int32_t row, int32_t column, float *y_hat);

#endif
