/* The residual layer of a file: what its decoded picture lacks, tile by tile (codec/residual.py). */
#ifndef HPCM_LAYER_H
#define HPCM_LAYER_H

#include "../hpcm.h"
#include "../threads.h"
#include "container.h"
#include "geometry.h"

/* A tile that is being refined. */
typedef struct {
    int32_t index; /* among the file's tiles */
    hpcm_box box;
    void *samples; /* of the base, and then with the layer: [rows][columns][channels] */
    hpcm_status status;
    char message[HPCM_MESSAGE];
} hpcm_piece;

/* Adds the residuals of tiles to their bases, side by side on the threads of `runtime`. A tile whose part isn't there stays
 * as it is. Gives the first status that isn't HPCM_OK, and its message. */
hpcm_status hpcm_refine(const hpcm_container *container, hpcm_runtime *runtime, hpcm_piece *pieces, int count,
                        hpcm_check check, void *user, char *message);

#endif
