/* Who is coded when: the coding order, and how the lattices of the three scales lie in one another. */
#ifndef HPCM_SCHEDULE_H
#define HPCM_SCHEDULE_H

#include "hpcm.h"

enum { HPCM_PERIOD = 8 };

/* The lattice of a scale for y of h x w. */
typedef struct {
    int32_t rows, columns;
    int32_t period;    /* of the table on this lattice */
    int32_t first;     /* step of this scale; steps are y's alone, from 0 */
    int32_t stride;    /* between neighbours, in places of y */
    int8_t order[8][HPCM_PERIOD][HPCM_PERIOD]; /* the step of each place of a group */
    int8_t phase[8][2];                        /* where each group's lattice begins in y */
} hpcm_lattice;

int32_t hpcm_step_count(const hpcm_config *config);
/* The scale's index, 0 to 2. */
int32_t hpcm_scale_of_step(const hpcm_config *config, int32_t step);
/* After how many steps, the hyper latent's counted, each scale is done. */
void hpcm_part_ends(const hpcm_config *config, int32_t ends[HPCM_PARTS]);
void hpcm_make_lattices(const hpcm_config *config, int32_t h, int32_t w, hpcm_lattice lattices[3]);

#endif
