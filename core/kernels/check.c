/* Whether a set of kernels computes right: its results for fixed inputs, against those of every machine. A processor, an
 * emulator or a compiler may be wrong; what it codes would open nowhere else. */
#include "kernels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../hpcm.h"

enum { PLACES = HPCM_MAX_PLACES, COLUMNS = 2 * HPCM_MAX_COLUMNS }; /* two blocks at least, */
enum { OUTPUTS = COLUMNS - 3 };                                    /* of which the last isn't full */
enum { STRIDE = 8, SEGMENTS = 2, LENGTH = 24, CHANNELS = 71 };
enum { MAX_WEIGHT = 1000, MAX_BIAS = 1 << 28 }; /* no sum overflows */

static const uint32_t RIGHT = 0x5D5DC9F3; /* the checksum of all results */
static const float NARROW = 32767, WIDE = 4194304;

/* ---- fixed numbers ---------------------------------------------------------------------------------------------------- */

/* Marsaglia, "Xorshift RNGs", 2003. */
static int32_t draw(uint32_t *random, int32_t limit) {
    *random ^= *random << 13;
    *random ^= *random >> 17;
    *random ^= *random << 5;
    return (int32_t)(*random % (2 * (uint32_t)limit + 1)) - limit;
}

static void draw_integers(uint32_t *random, int16_t *numbers, int count, int limit) {
    for (int i = 0; i < count; i++) numbers[i] = (int16_t)draw(random, limit);
}

/* Large and small, halves among them. */
static void draw_floats(uint32_t *random, float *numbers, int count) {
    for (int i = 0; i < count; i++) {
        float fraction = (float)draw(random, INT16_MAX);
        numbers[i] = ldexpf(fraction, draw(random, 8) - 4);
    }
}

static void draw_powers(uint32_t *random, float *numbers, int count) {
    for (int i = 0; i < count; i++) numbers[i] = ldexpf(1, draw(random, 3) - 6);
}

static void add(uint32_t *checksum, const void *results, size_t bytes) {
    *checksum = hpcm_checksum(results, bytes / sizeof(int32_t), *checksum);
}

/* ---- a dense layer ---------------------------------------------------------------------------------------------------- */

typedef struct {
    int16_t inputs[(SEGMENTS + 1) * PLACES * STRIDE];
    int16_t weights[COLUMNS][SEGMENTS][LENGTH], packed[COLUMNS * SEGMENTS * LENGTH];
    int32_t bias[COLUMNS], sums[PLACES][COLUMNS];
    float unit[COLUMNS], scale[COLUMNS], added[PLACES][COLUMNS], floats[PLACES][COLUMNS];
    int16_t whole[PLACES][COLUMNS], high[PLACES][COLUMNS];
} dense;

static void pack(const hpcm_kernel_set *set, dense *d) {
    int16_t *to = d->packed;
    for (int block = 0; block < COLUMNS; block += set->columns)
        for (int s = 0; s < SEGMENTS; s++)
            for (int i = 0; i < LENGTH; i += 2)
                for (int o = block; o < block + set->columns; o++, to += 2) memcpy(to, &d->weights[o][s][i], 2 * sizeof *to);
}

/* Up to as many places as the set computes at once, from `first` on, of the block that begins at `output`. */
static void compute_block(const hpcm_kernel_set *set, dense *d, int first, int places, int output, int wide) {
    int32_t sums[PLACES * COLUMNS];
    int outputs = OUTPUTS - output < set->columns ? OUTPUTS - output : set->columns;
    const hpcm_finish how = {d->unit + output, !wide, wide ? &d->added[first][output] : 0, COLUMNS,
                             &d->floats[first][output], COLUMNS, &d->whole[first][output],
                             wide ? &d->high[first][output] : 0, COLUMNS, d->scale + output, wide ? WIDE : NARROW};
    set->sums(d->inputs + first * STRIDE, STRIDE, places, SEGMENTS, PLACES * STRIDE, LENGTH,
              d->packed + output * SEGMENTS * LENGTH, d->bias + output, sums);
    for (int p = 0; p < places; p++)
        memcpy(&d->sums[first + p][output], sums + p * set->columns, (size_t)outputs * sizeof *sums);
    set->finish(sums, places, outputs, &how);
}

/* All numbers of places, so that each is computed at once if the set can. */
static void check_dense(const hpcm_kernel_set *set, uint32_t *random, uint32_t *checksum) {
    dense d = {0};
    draw_integers(random, d.inputs, sizeof d.inputs / sizeof *d.inputs, INT16_MAX);
    draw_integers(random, &d.weights[0][0][0], COLUMNS * SEGMENTS * LENGTH, MAX_WEIGHT);
    for (int o = 0; o < COLUMNS; o++) d.bias[o] = draw(random, MAX_BIAS);
    draw_powers(random, d.unit, COLUMNS);
    draw_powers(random, d.scale, COLUMNS);
    draw_floats(random, &d.added[0][0], PLACES * COLUMNS);
    pack(set, &d);
    for (int count = 1; count <= PLACES; count++) {
        for (int first = 0; first < count; first += set->places) {
            int places = count - first < set->places ? count - first : set->places;
            for (int output = 0; output < COLUMNS; output += set->columns)
                compute_block(set, &d, first, places, output, count % 2);
        }
        add(checksum, d.sums, sizeof d.sums);
        add(checksum, d.floats, sizeof d.floats);
        add(checksum, d.whole, sizeof d.whole);
        add(checksum, d.high, sizeof d.high);
    }
}

/* ---- other kernels ---------------------------------------------------------------------------------------------------- */

static void check_rounding(const hpcm_kernel_set *set, uint32_t *random, uint32_t *checksum) {
    float x[2 * CHANNELS], scale[CHANNELS], floats[2 * CHANNELS];
    int16_t whole[2 * CHANNELS], high[2 * CHANNELS];
    draw_floats(random, x, 2 * CHANNELS);
    draw_powers(random, scale, CHANNELS);
    x[0] = NAN, x[1] = INFINITY, x[2] = -INFINITY;
    set->round_inputs(x, CHANNELS, scale, NARROW, 2, CHANNELS, whole, 0, CHANNELS);
    add(checksum, whole, sizeof whole);
    set->round_inputs(x, CHANNELS, scale, WIDE, 2, CHANNELS, whole, high, CHANNELS);
    add(checksum, whole, sizeof whole);
    add(checksum, high, sizeof high);
    set->round(x, scale, WIDE, 2, CHANNELS, floats);
    add(checksum, floats, sizeof floats);
}

static void check_depthwise(const hpcm_kernel_set *set, uint32_t *random, uint32_t *checksum) {
    enum { ROW = 4 * CHANNELS, KERNEL = 9 };
    float rows[3][ROW], weights[KERNEL * CHANNELS], bias[CHANNELS], unit[CHANNELS], scale[CHANNELS];
    int16_t whole[2 * CHANNELS], high[2 * CHANNELS];
    const float *const three[3] = {rows[0], rows[1], rows[2]};
    for (int i = 0; i < 3 * ROW; i++) rows[i / ROW][i % ROW] = (float)draw(random, MAX_WEIGHT);
    for (int i = 0; i < KERNEL * CHANNELS; i++) weights[i] = (float)draw(random, MAX_WEIGHT);
    for (int i = 0; i < CHANNELS; i++) bias[i] = (float)draw(random, MAX_WEIGHT);
    draw_powers(random, unit, CHANNELS);
    draw_powers(random, scale, CHANNELS);
    set->depthwise(three, weights, bias, unit, 2, CHANNELS, scale, WIDE, whole, high, CHANNELS);
    add(checksum, whole, sizeof whole);
    add(checksum, high, sizeof high);
}

int hpcm_kernels_are_right(const hpcm_kernel_set *set) {
    uint32_t random = 1, checksum = 0;
    check_dense(set, &random, &checksum);
    check_rounding(set, &random, &checksum);
    check_depthwise(set, &random, &checksum);
    return checksum == RIGHT;
}
