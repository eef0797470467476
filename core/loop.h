/* THE loop over coding steps, and what y is at each of them. */
#ifndef HPCM_LOOP_H
#define HPCM_LOOP_H

#include "model.h"
#include "schedule.h"

/* Where the latent comes from at a step. */
typedef enum {
    HPCM_RECORD, /* it is rounded, and the symbols are kept */
    HPCM_REPLAY, /* symbols of a payload, then zeros */
    HPCM_FILL    /* what is known, else the mean */
} hpcm_mode;

typedef struct {
    hpcm_mode mode;
    int32_t level, rows, columns; /* rows, columns: of y that touch the picture */
    int32_t steps;                /* that are gone through, the hyper latent's counted */
    const float *y, *z;           /* to record, in the units of the networks; z isn't null */
    hpcm_encoder *encoder;
    uint32_t checksums[HPCM_PARTS];
    hpcm_decoder *decoder;
    int32_t to_read;              /* steps whose symbols the payload has */
    uint32_t checksum;
    float *keep_z, *keep_y[3];          /* what is known is written here, unless they are null */
    const float *known_z, *known_y[3];  /* to fill from */
} hpcm_driver;

/* Codes z and y of h x w, and gives y_hat [h][w][M], unless steps are left out. */
hpcm_status hpcm_code(const hpcm_call *call, hpcm_driver *driver, int32_t h, int32_t w, float *y_hat);

#endif
