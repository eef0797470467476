/* Decisions whose probabilities are mixed, and a binary arithmetic coder: what the coders of residuals have in common.
 *
 * ---- the stream ----
 *
 * A payload is one byte of the coder that uses it, and the bytes of a binary arithmetic coder, without the zeros at their
 * end. The coder is that of LZMA: code is the first 4 bytes, big-endian, range is 2^32 - 1. A decision with probability p
 * of 2^16 is 1 if code < bound = (range div 2^16) p, then range is bound; else bound is taken from both. While range <
 * 2^24 both are shifted by 8 bits and code takes the next byte, 0 beyond the end. A payload with more bytes than the last
 * decision has taken, or with a zero at its end, is refused.
 *
 * A decision is a node of its coder. Its probability (decide) is mixed: in each of INPUTS contexts every node has an
 * adaptive probability; two sets of weights, chosen by other contexts, add these up in the logistic domain, and the mean
 * of the two sums is averaged with an adaptive map of it. Then all of these learn from the decision.
 *
 * All numbers are integers; >> rounds down. */
#ifndef HPCM_MIXING_H
#define HPCM_MIXING_H

#include <stddef.h>
#include <stdint.h>

#include "hpcm.h"

enum {
    INPUTS = 6,
    KNOTS = 33, /* of the adaptive map */
    PROBABILITY_COUNT = 255,
    WEIGHT_LIMIT = 1 << 22, /* 64 */
    LEAST = 16,             /* a probability, of 2^16 */
    STRETCHED = 4096,       /* the logistic domain is -4095 to 4095, in units of 1/256 nat */
    SQUASHED = 8192
};

/* ---- small numbers ------------------------------------------------------------------------------------------------------ */

static inline int32_t smaller(int32_t a, int32_t b) {
    return a < b ? a : b;
}

static inline int32_t larger(int32_t a, int32_t b) {
    return a > b ? a : b;
}

static inline int32_t clamped(int32_t value, int32_t low, int32_t high) {
    return value < low ? low : value > high ? high : value;
}

static inline int64_t limited(int64_t value, int64_t limit) {
    return value < -limit ? -limit : value > limit ? limit : value;
}

static inline int32_t magnitude(int32_t value) {
    return value < 0 ? -value : value;
}

static inline int32_t log2_of(int32_t value) {
    return 31 - __builtin_clz((uint32_t)value);
}

/* Two classes an octave: 0, 1, 2-3, 4-5, 6-9, 10-13, ... */
static inline int32_t class_of(int32_t value, int32_t most) {
    int32_t log = log2_of(value + 2);
    return smaller(2 * log - 2 + ((value + 2) >> (log - 1) & 1), most);
}

/* Four an octave. */
static inline int32_t fine_class_of(int32_t value, int32_t most) {
    int32_t log = log2_of(value + 4);
    return smaller(4 * log - 8 + ((value + 4) >> (log - 2) & 3), most);
}

/* 0 to 2 most; most for 0. */
static inline int32_t signed_class(int32_t value, int32_t shift, int32_t most) {
    int32_t class = class_of(magnitude(value) >> shift, most);
    return value < 0 ? most - class : most + class;
}

/* ---- the arithmetic coder ----------------------------------------------------------------------------------------------- */

typedef struct {
    uint32_t range, code;
    const uint8_t *from; /* decoder: null in an encoder */
    size_t size, next;
    uint64_t low; /* encoder: 32 bits and a carry */
    uint8_t *bytes;
    size_t count, room;
    uint8_t kept;   /* a byte that a carry may still change */
    size_t waiting; /* it, and the 255 after it */
    int no_memory;
} arithmetic;

void hpcm_begin_encoding(arithmetic *a);

/* The payload of all decisions, with this first byte. Without memory there is none; either way the encoder is done. */
hpcm_status hpcm_finish_encoding(arithmetic *a, uint8_t first, uint8_t **payload, size_t *size);

/* Ends the work of an encoder before that. */
void hpcm_drop_encoding(arithmetic *a);

/* Whether these may be a payload. */
int hpcm_begin_decoding(arithmetic *a, const uint8_t *payload, size_t size);

/* Whether all bytes were taken. */
int hpcm_finish_decoding(const arithmetic *a);

void hpcm_shift_out(arithmetic *a);

static inline uint8_t next_byte(arithmetic *a) {
    uint8_t byte = a->next < a->size ? a->from[a->next] : 0;
    a->next++;
    return byte;
}

/* Codes a decision with this probability of a 1, of 2^16. */
static inline int code_bit(arithmetic *a, int bit, uint32_t probability) {
    uint32_t bound = (a->range >> 16) * probability;
    if (a->from) {
        bit = a->code < bound;
        if (!bit) a->code -= bound;
    } else if (!bit) {
        a->low += bound;
    }
    a->range = bit ? bound : a->range - bound;
    while (a->range < 1u << 24) {
        a->range <<= 8;
        if (a->from) a->code = a->code << 8 | next_byte(a);
        else hpcm_shift_out(a);
    }
    return bit;
}

/* ---- decisions ------------------------------------------------------------------------------------------------------------ */

typedef struct {
    int16_t stretch[STRETCHED];
    uint16_t squash[SQUASHED];
    int32_t rate[PROBABILITY_COUNT + 1]; /* 2^16 / (n + 1.5) */
} logistic;

typedef int32_t mixer[INPUTS];    /* Q16 */
typedef uint16_t knots[KNOTS];    /* of 2^16 */

typedef struct {
    arithmetic coder;
    logistic tables;
    /* what the next decisions are mixed of, by node */
    uint32_t *chosen[INPUTS]; /* 22 bits of a probability, 10 of how often */
    mixer *sets[2];
    knots *map;
} mixing;

void hpcm_make_tables(logistic *tables);
void hpcm_reset_probabilities(uint32_t *probabilities, size_t count);
void hpcm_reset_mixers(mixer *mixers, size_t count);
void hpcm_reset_maps(const logistic *tables, knots *maps, size_t count);

static inline int32_t squash(const logistic *tables, int32_t x) {
    return tables->squash[x + SQUASHED / 2];
}

static inline void learn_probability(uint32_t *probability, int bit, const int32_t *rate) {
    uint32_t count = *probability & 1023;
    int32_t value = (int32_t)(*probability >> 10), target = bit ? (1 << 22) - 1 : 0;
    value += (int32_t)(((int64_t)(target - value) * rate[count]) >> 16);
    *probability = (uint32_t)value << 10 | (count < PROBABILITY_COUNT ? count + 1 : count);
}

static inline void learn_knot(uint16_t *knot, int32_t target) {
    *knot = (uint16_t)(*knot + ((target - *knot) >> 6));
}

/* Codes the decision of a node in the contexts that were chosen. */
static inline int decide(mixing *m, int32_t node, int bit) {
    enum { LIMIT = SQUASHED / 2 - 1, KNOT_BITS = 13, KNOT = 1 << KNOT_BITS, RATE = 15 };
    int32_t *weights[2] = {m->sets[0][node], m->sets[1][node]}, inputs[INPUTS], sums[2];
    int64_t dots[2] = {0, 0};
    for (int i = 0; i < INPUTS; i++) {
        inputs[i] = m->tables.stretch[m->chosen[i][node] >> 20];
        for (int set = 0; set < 2; set++) dots[set] += (int64_t)weights[set][i] * inputs[i];
    }
    for (int set = 0; set < 2; set++) sums[set] = (int32_t)limited(dots[set] >> 16, LIMIT);
    int32_t sum = (sums[0] + sums[1]) >> 1;
    int32_t place = (sum + SQUASHED / 2) * (KNOTS - 1), beyond = place & (KNOT - 1);
    uint16_t *knot = m->map[node] + (place >> KNOT_BITS);
    int32_t mapped = (knot[0] * (KNOT - beyond) + knot[1] * beyond) >> KNOT_BITS;
    int32_t probability = clamped((squash(&m->tables, sum) + mapped + 1) >> 1, LEAST, 65536 - LEAST);
    bit = code_bit(&m->coder, bit, (uint32_t)probability);
    int32_t target = bit ? UINT16_MAX : 0;
    for (int set = 0; set < 2; set++) {
        int32_t error = target - squash(&m->tables, sums[set]);
        for (int i = 0; i < INPUTS; i++) {
            int32_t weight = weights[set][i] + ((inputs[i] * error + (1 << (RATE - 1))) >> RATE);
            weights[set][i] = clamped(weight, -WEIGHT_LIMIT, WEIGHT_LIMIT);
        }
    }
    for (int i = 0; i < INPUTS; i++) learn_probability(&m->chosen[i][node], bit, m->tables.rate);
    learn_knot(&knot[0], target);
    learn_knot(&knot[1], target);
    return bit;
}

#endif
