/* The coding order (paper, section 3.2 and figure 4).
 *
 * The M channels of the latent y are split into eight groups. Place (i, j) of group g is coded at the step
 * order[g][i % 8][j % 8]. With steps (2, 3, 6) group 2 looks like this:
 *
 *     7  4  8  0  7  4  8  1        scale 1 (steps 0, 1): a quarter of the resolution, a checkerboard
 *     5  9  6 10  5  9  6 10        scale 2 (steps 2-4):  half the resolution
 *     8  2  7  3  8  2  7  3        scale 3 (steps 5-10): full resolution
 *     6 10  5  9  6 10  5  9
 *     7  4  8  1  7  4  8  0        Every group has its own phase, so that at any place some channels are known early:
 *     5  9  6 10  5  9  6 10        all channels live on every scale, and at each step exactly one group of 2 / 4 / 8
 *     8  2  7  3  8  2  7  3        is coded at a place of scale 1 / 2 / 3.
 *     6 10  5  9  6 10  5  9
 */
#include "schedule.h"

#include <string.h>

#include "model.h"

static const int8_t QUADS[4][2] = {{0, 0}, {0, 1}, {1, 0}, {1, 1}};
static const int8_t PHASES[4][2] = {{0, 0}, {1, 1}, {0, 1}, {1, 0}}; /* of a half-resolution lattice, by g % 4 */
static const int8_t SCALE2_ORDER[3][4] = {{3, 2, 1, 0}, {2, 3, 0, 1}, {1, 0, 3, 2}}; /* [turn][g / 2]: which of QUADS */
/* Scale 3 codes 4x4 patterns of two places; pattern ORDER[turn][g] at each turn. */
static const int8_t PATTERNS[8][2][2] = {
    {{0, 0}, {2, 2}}, {{0, 2}, {2, 0}}, {{1, 1}, {3, 3}}, {{1, 3}, {3, 1}},
    {{0, 1}, {2, 3}}, {{0, 3}, {2, 1}}, {{1, 0}, {3, 2}}, {{1, 2}, {3, 0}},
};
static const int8_t ORDER[6][8] = {
    {2, 4, 6, 0, 3, 5, 7, 1}, {3, 5, 7, 1, 2, 4, 6, 0}, {4, 6, 0, 2, 5, 7, 1, 3},
    {5, 7, 1, 3, 4, 6, 0, 2}, {6, 0, 2, 4, 7, 1, 3, 5}, {7, 1, 3, 5, 6, 0, 2, 4},
};

int32_t hpcm_step_count(const hpcm_config *config) {
    return config->steps[0] + config->steps[1] + config->steps[2];
}

int32_t hpcm_scale_of_step(const hpcm_config *config, int32_t step) {
    if (step < config->steps[0]) return 0;
    return step < config->steps[0] + config->steps[1] ? 1 : 2;
}

void hpcm_part_ends(const hpcm_config *config, int32_t ends[HPCM_PARTS]) {
    int32_t done = 1; /* the hyper latent */
    for (int scale = 0; scale < HPCM_PARTS; scale++) ends[scale] = done += config->steps[scale];
}

/* order[i][j] of a group: twelve half turns on scale 3, three turns on scale 2 and four phases on scale 1, each shared out
 * over the steps that the scale has. */
static void fill_order(const int32_t steps[3], int g, int8_t order[HPCM_PERIOD][HPCM_PERIOD]) {
    enum { TURNS = 6, HALF_TURNS = 12 };
    for (int turn = 0; turn < TURNS; turn++)
        for (int half = 0; half < 2; half++) {
            const int8_t *place = PATTERNS[ORDER[turn][g]][half];
            int step = steps[0] + steps[1] + (2 * turn + half) * steps[2] / HALF_TURNS;
            for (int i = place[0]; i < HPCM_PERIOD; i += 4)
                for (int j = place[1]; j < HPCM_PERIOD; j += 4) order[i][j] = (int8_t)step;
        }
    const int8_t *phase = PHASES[g % 4], *subphase = QUADS[g / 2];
    for (int turn = 0; turn < 3; turn++) {
        const int8_t *quad = QUADS[SCALE2_ORDER[turn][g / 2]];
        for (int i = quad[0]; i < 4; i += 2)
            for (int j = quad[1]; j < 4; j += 2)
                order[phase[0] + 2 * i][phase[1] + 2 * j] = (int8_t)(steps[0] + turn * steps[1] / 3);
    }
    for (int quad = 0; quad < 4; quad++) {
        int r = QUADS[quad][0], c = QUADS[quad][1];
        int step = (2 * ((r + c + g / 4) % 2) + r) * steps[0] / 4;
        int i = subphase[0] + 2 * r, j = subphase[1] + 2 * c; /* on the half-resolution lattice */
        order[phase[0] + 2 * i][phase[1] + 2 * j] = (int8_t)step;
    }
}

void hpcm_make_lattices(const hpcm_config *config, int32_t h, int32_t w, hpcm_lattice lattices[3]) {
    const int strides[3] = {4, 2, 1};
    int32_t first = 0;
    memset(lattices, 0, 3 * sizeof *lattices);
    for (int scale = 0; scale < 3; scale++) {
        hpcm_lattice *lattice = &lattices[scale];
        lattice->stride = config->hierarchy ? strides[scale] : 1;
        lattice->rows = h / lattice->stride;
        lattice->columns = w / lattice->stride;
        lattice->period = HPCM_PERIOD / lattice->stride;
        lattice->first = first;
        first += config->steps[scale];
        for (int g = 0; g < HPCM_GROUPS; g++) {
            int8_t whole[HPCM_PERIOD][HPCM_PERIOD] = {{0}};
            fill_order(config->steps, g, whole);
            for (int axis = 0; axis < 2; axis++) {
                int phase = lattice->stride > 1 ? PHASES[g % 4][axis] : 0;
                if (lattice->stride > 2) phase += 2 * QUADS[g / 2][axis];
                lattice->phase[g][axis] = (int8_t)phase;
            }
            for (int i = 0; i < lattice->period; i++)
                for (int j = 0; j < lattice->period; j++)
                    lattice->order[g][i][j] =
                        whole[lattice->phase[g][0] + lattice->stride * i][lattice->phase[g][1] + lattice->stride * j];
        }
    }
}
