/* A decision as in mixing.h, made by eight int16 at once: its weights are smaller numbers, and no map follows the sum.
 *
 * In each of INPUTS contexts every node has an adaptive probability. Two sets of weights, chosen by other contexts, add
 * these up in the logistic domain: sum = the dot products of both sets, in Q14, >> 15, clamped to -4095 to 4095. A one
 * has the probability squash(sum), clamped to LEAST to 65536 - LEAST, of 2^16. Then each weight is raised by (input *
 * error + 2^15) >> 16 and stays an int16, where error = (target - squash(sum)) >> 1 and the target is 65535 or 0. */
#ifndef HPCM_LANES_H
#define HPCM_LANES_H

#include <string.h>

#include "mixing.h"

enum { LANES = 8 };

/* Compilers make vector instructions of the loops over these, on every processor. */
typedef struct {
    int16_t of[LANES];
} lanes;

static inline lanes load_lanes(const int16_t *from) {
    lanes x;
    memcpy(x.of, from, sizeof x.of);
    return x;
}

static inline void store_lanes(int16_t *to, lanes x) {
    memcpy(to, x.of, sizeof x.of);
}

/* The sum of a x + b x. */
static inline int32_t dot_lanes(lanes a, lanes b, lanes x) {
    int32_t sum = 0;
    for (int i = 0; i < LANES; i++) sum += a.of[i] * x.of[i] + b.of[i] * x.of[i];
    return sum;
}

/* (x factor + 2^15) >> 16. */
static inline lanes scale_lanes(lanes x, int16_t factor) {
    for (int i = 0; i < LANES; i++) x.of[i] = (int16_t)((x.of[i] * factor + (1 << 15)) >> 16);
    return x;
}

/* Clamped to int16. */
static inline lanes add_lanes(lanes a, lanes b) {
    for (int i = 0; i < LANES; i++) a.of[i] = (int16_t)clamped(a.of[i] + b.of[i], INT16_MIN, INT16_MAX);
    return a;
}

typedef int16_t lane_mixer[LANES]; /* INPUTS weights in Q14, and zeros */

typedef struct {
    arithmetic coder;
    logistic tables;
    /* what the next decisions are mixed of, by node */
    uint32_t *chosen[INPUTS]; /* 22 bits of a probability, 10 of how often */
    lane_mixer *sets[2];
} lane_mixing;

static inline void reset_lane_mixers(lane_mixer *mixers, size_t count) {
    for (size_t i = 0; i < count; i++)
        for (int input = 0; input < LANES; input++) mixers[i][input] = input < INPUTS ? (3 << 13) / INPUTS : 0;
}

/* Codes the decision of a node in the contexts that were chosen. */
static inline int decide_by_lanes(lane_mixing *m, int32_t node, int bit) {
    enum { LIMIT = SQUASHED / 2 - 1, SUM_SHIFT = 15, STRETCH_SHIFT = 20 };
    int16_t stretched[LANES] = {0}, *sets[2] = {m->sets[0][node], m->sets[1][node]};
    for (int i = 0; i < INPUTS; i++) stretched[i] = m->tables.stretch[m->chosen[i][node] >> STRETCH_SHIFT];
    lanes inputs = load_lanes(stretched), weights[2] = {load_lanes(sets[0]), load_lanes(sets[1])};
    int32_t sum = dot_lanes(weights[0], weights[1], inputs) >> SUM_SHIFT;
    int32_t mixed = squash(&m->tables, clamped(sum, -LIMIT, LIMIT));
    bit = code_bit(&m->coder, bit, (uint32_t)clamped(mixed, LEAST, 65536 - LEAST));
    int32_t error = (bit ? UINT16_MAX : 0) - mixed;
    lanes change = scale_lanes(inputs, (int16_t)(error >> 1));
    for (int i = 0; i < 2; i++) store_lanes(sets[i], add_lanes(weights[i], change));
    for (int i = 0; i < INPUTS; i++) learn_probability(&m->chosen[i][node], bit, m->tables.rate);
    return bit;
}

/* Codes a decision that has nothing but an adaptive probability. */
static inline int decide_alone(lane_mixing *m, uint32_t *probability, int bit) {
    bit = code_bit(&m->coder, bit, (uint32_t)clamped((int32_t)(*probability >> 16), LEAST, 65536 - LEAST));
    learn_probability(probability, bit, m->tables.rate);
    return bit;
}

#endif
