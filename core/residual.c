/* The residual of a tile: the samples of its source, to a bound of their error, beside a base that both sides know.
 *
 * ---- the stream ----
 *
 * A payload (mixing.h) begins with a byte of flags: 1, pixels may be copied; no other bit is allowed. Decisions are those of
 * lanes.h.
 *
 * Pixels are coded row by row, from left to right; the channels of RGB in the order green, red, blue. All numbers are
 * integers; >> rounds down, and / rounds towards zero. W, N, E, S and so on are places around the sample, NN two rows
 * above. Beyond the sides of a row lies its first or last sample; left of the row that is being decoded, the first of the
 * row above. Above the first row lies the base's first row; above and below the base, its first and last row. x means
 * decoded samples, b those of the base. Every error is in sixteenths, and 0 outside, but beyond the sides as samples.
 *
 * 1. A pixel that may be copied (copy_pixel). Candidates are the pixels that followed the same surroundings before, W, N,
 *    and NE. If the first of them has followed these very surroundings, a decision says whether it is this one. Then one
 *    says whether it is any other candidate, and one each but for the last whether it is that. If it is one its channels'
 *    errors are 0, and all is said.
 *
 * 2. The prediction (predict) is linear in up to FEATURES - 1 differences f (gather) between twice a sample and x_W + x_N:
 *    x around, b in the middle, and x of the channels that were coded before. Weights minimise the weighted squared error
 *    over the samples around: each block of BLOCK columns has the sums of products of features and target. At the end of
 *    the block in a row (learn_block) they lose a part and get the products of the row's samples (learn_moments), also of
 *    copied ones, unless their six neighbours all equal them. With its neighbours' sums they give the weights for the next
 *    row's BLOCK samples, before the first that isn't copied, by a Cholesky decomposition in integers (solve).
 *
 * 3. The mean error of the prediction in each of BIASES contexts is taken from it.
 *
 * 4. The error, in steps of 2 max_error + 1 from the rounded prediction, is decisions (code_error): is it zero; is it
 *    negative; its magnitude's class 1, 2, 3-4, 5-8, 9-16, ... in unary; its place in the class, upper bits first, of which
 *    each has one adaptive probability by itself. The sample is clamped to its range.
 *
 * Any bytes are a payload or are refused: there are at most 40 decisions a sample, numbers stay within their types by
 * clamps that pictures hardly meet, and memory is 4 MB and 0.3 kB for each column of three channels. */
#include <stdlib.h>
#include <string.h>

#include "hpcm.h"
#include "kernels/kernels.h"
#include "lanes.h"
#include "samples.h"

enum {
    MAX_CHANNELS = HPCM_RESIDUAL_CHANNELS,
    PAD = 2,           /* samples beyond the sides of a row */
    BLOCK = 16,        /* columns that share weights */
    FEATURES = 16,     /* of a sample, with the target behind the last one */
    FEATURE_LIMIT = 2047,
    WEIGHTED_LIMIT = 4095,
    FORGET = 3,        /* every row, of 2^3 */
    RIDGE = 1024,      /* is added to the sums on the diagonal, and 2^-RIDGE_SHIFT of them */
    RIDGE_SHIFT = 12,
    CONTEXTS = 1024,   /* of an input */
    LINE = 64,         /* bytes of a processor's cache */
    NODES = 16,        /* of a context: a line */
    ZERO = 0,          /* nodes */
    NEGATIVE = 1,
    CLASS = 2,
    CLASSES = 18,      /* of magnitudes */
    PLACES = 8,        /* nodes of a magnitude's place in its class */
    MIXER_SETS = 16,   /* of weights, for each channel */
    PHASES = 16,       /* a prediction's place between two integers */
    BIASES = 4,
    BIAS_CONTEXTS = 1024,
    BIAS_COUNT = 100,  /* a mean goes over so many errors */
    CANDIDATES = 5,
    SLOT_BITS = 16,
    SLOTS = 1 << SLOT_BITS, /* of pixels that followed surroundings, and of copies' contexts */
    MOST_CONFIDENT = 15,
    PIXEL_BITS = 16 * MAX_CHANNELS,
    ALL_EQUAL = 63,
    TRIAL_ROWS = 64,        /* that the encoder codes with and without copies */
    TRIAL_GAIN = 128        /* copies are worth their time if they save one of so many bytes */
};

static const uint64_t LARGEST_PIXEL = ((uint64_t)1 << PIXEL_BITS) - 1;

/* ---- what a tile's coder has --------------------------------------------------------------------------------------------- */

/* The sums of products of a block of columns, each pair twice. */
typedef struct {
    int32_t sums[FEATURES][FEATURES];
    int32_t weights[FEATURES]; /* Q16 */
    int32_t is_solved;         /* in this row */
} block;

/* Samples of a block whose products aren't in its sums yet. */
typedef struct {
    int32_t count;
    int16_t weighted[FEATURES][BLOCK];
    int16_t features[BLOCK / 2][FEATURES][2]; /* of pairs of samples */
} batch;

/* Rows from their first sample on; PAD more on both sides. */
typedef struct {
    int32_t *samples[3]; /* of the row that is coded, of the one above, of that above it */
    int32_t *base[3];    /* of the row above, of the row that is coded, of the one below */
    int32_t *errors[3];  /* as samples, in sixteenths */
    block *blocks;
    batch batch;
} plane;

typedef struct {
    int32_t mean, count; /* in units of 2^-10 */
} bias;

typedef struct {
    int32_t rows, columns, channels, step, max_error, peak;
    int32_t feature_shift, class_shift; /* of deeper samples than 8 bits */
    const int32_t *source;              /* a row of it, or null in a decoder */
    int copies;
    const hpcm_kernel_set *kernels;
    lane_mixing m;
    plane planes[MAX_CHANNELS];
    int32_t *rows_memory;
    block *blocks;
    uint32_t *unaligned;
    uint32_t *probabilities; /* [channels][INPUTS][CONTEXTS][NODES]: 22 bits of a probability, 10 of how often */
    lane_mixer *mixers[2];      /* [channels][MIXER_SETS][NODES] */
    uint32_t *places; /* [channels][MIXER_SETS][CLASSES][PLACES]: probabilities */
    uint32_t *place; /* of those, the sample's [CLASSES][PLACES] */
    bias biases[MAX_CHANNELS][BIASES][BIAS_CONTEXTS];
    /* copies */
    uint32_t *copy_probabilities;                          /* [INPUTS][SLOTS] */
    lane_mixer copy_mixers[2][MOST_CONFIDENT + 1][CANDIDATES + 2];  /* by confidence; by what the candidate is */
    uint64_t followed[2][SLOTS]; /* the pixel that followed surroundings, and above it how confidently; 0: none did */
    uint32_t slots[2];                                     /* of this pixel's surroundings */
    uint8_t *copied[2];                                    /* of this row and of that above: which candidate, 1 to 5 */
    uint32_t history;                                      /* of the pixels before, a bit each: was it copied */
    int64_t lower[FEATURES][FEATURES], scaled[FEATURES][FEATURES], inverse[FEATURES]; /* of solve */
} residual;

/* ---- an error ------------------------------------------------------------------------------------------------------------- */

/* The class of a magnitude of 1 or more: 1, 2, 3-4, 5-8, ... */
static int32_t magnitude_class(int32_t value) {
    return value < 2 ? 0 : log2_of(value - 1) + 1;
}

/* Codes an error whose magnitude is at most `most`. */
static int32_t code_error(residual *r, int32_t error, int32_t most) {
    int32_t size = magnitude(error), wanted = magnitude_class(size), last = magnitude_class(most), class = 0;
    if (decide_by_lanes(&r->m, ZERO, !size)) return 0;
    int is_negative = decide_by_lanes(&r->m, NEGATIVE, error < 0);
    while (class < last && decide_by_lanes(&r->m, smaller(CLASS + class, NODES - 1), class < wanted)) class++;
    int32_t bits = class ? class - 1 : 0, begin = class ? 1 + (1 << bits) : 1, place = 0;
    uint32_t *places = r->place + class * PLACES;
    for (int32_t bit = bits - 1; bit >= 0; bit--) {
        int32_t above = bits - 1 - bit, node = above < 2 ? above + place : smaller(above + 1, PLACES - 1);
        place = 2 * place + decide_alone(&r->m, places + node, (size - begin) >> bit & 1);
    }
    return is_negative ? -(begin + place) : begin + place;
}

/* ---- prediction ---------------------------------------------------------------------------------------------------------- */

/* What is known of a sample before it is coded. */
typedef struct {
    int32_t W, N, NW, b; /* b: the base */
    int32_t twice;       /* W + N, from which features are counted */
    int32_t count;       /* of features */
    int32_t features[FEATURES];
    int32_t missed;      /* by the base around: the sum of 4 */
    int32_t distance;    /* the sum of its magnitudes */
    int32_t contrast;    /* of the base in 3 x 3 */
    int32_t activity;    /* the weighted errors around; the weights add up to 24 */
    int32_t before[2];   /* the errors of the channels before, here */
} surroundings;

static void gather_other(surroundings *s, const plane *other, int32_t x) {
    const int32_t *now = other->samples[0] + x, *up = other->samples[1] + x;
    int32_t twice = now[-1] + up[0], *f = s->features + s->count;
    f[0] = 2 * now[0] - twice;
    f[1] = now[-1] - up[0];
    f[2] = 2 * up[-1] - twice;
    f[3] = 2 * up[1] - twice;
    s->count += 4;
}

static const int32_t ORDER[MAX_CHANNELS] = {1, 0, 2};

static void gather(const residual *r, int32_t turn, int32_t x, surroundings *s) {
    const plane *own = &r->planes[r->channels == 1 ? 0 : ORDER[turn]];
    const int32_t *now = own->samples[0] + x, *up = own->samples[1] + x, *above = own->samples[2] + x;
    const int32_t *e = own->errors[0] + x, *e_up = own->errors[1] + x, *e_above = own->errors[2] + x;
    int32_t twice = now[-1] + up[0], *f = s->features, low = own->base[1][x], high = low, missed;
    s->W = now[-1];
    s->N = up[0];
    s->NW = up[-1];
    s->b = own->base[1][x];
    s->twice = twice;
    *f++ = now[-1] - up[0];
    *f++ = 2 * up[-1] - twice;
    *f++ = 2 * up[1] - twice;
    *f++ = 2 * now[-2] - twice;
    *f++ = 2 * above[0] - twice;
    *f++ = 2 * own->base[1][x] - twice;
    for (int32_t row = 0; row < 3; row++)
        for (int32_t column = -1; column < 2; column++) {
            int32_t value = own->base[row][x + column];
            low = smaller(low, value);
            high = larger(high, value);
        }
    s->contrast = high - low;
    s->count = (int32_t)(f - s->features);
    s->before[0] = s->before[1] = 0;
    for (int32_t before = 0; before < turn; before++) {
        gather_other(s, &r->planes[ORDER[before]], x);
        s->before[before] = r->planes[ORDER[before]].errors[0][x];
    }
    missed = now[-1] - own->base[1][x - 1];
    s->missed = missed;
    s->distance = magnitude(missed);
    for (int32_t column = -1; column < 2; column++) {
        missed = up[column] - own->base[0][x + column];
        s->missed += missed;
        s->distance += magnitude(missed);
    }
    s->activity = 6 * (magnitude(e[-1]) + magnitude(e_up[0])) + 3 * (magnitude(e_up[-1]) + magnitude(e_up[1])) +
                  2 * (magnitude(e[-2]) + magnitude(e_above[0]) + magnitude(e_up[2]));
}

static int64_t shifted(int64_t value, int32_t left) {
    return left < 0 ? value >> -left : value * ((int64_t)1 << left);
}

/* The weights of `count` features, from twice the sums of a block and those of its neighbours: S w = t, by S = L D L^T.
 * Features are scaled by powers of two so that their squares' sums have 29 or 30 bits. `scaled` is L D, with at most 31
 * bits, `lower` is L in Q18, with at most 27; the target is one row more of both. */
static void solve(residual *r, block *blocks, int32_t chosen, int32_t count) {
    enum { L_SHIFT = 18, INVERSE_SHIFT = 46, SMALLEST = 1 << 16, LIMIT_OF_WEIGHTS = 1 << 21 };
    const int64_t largest_scaled = (int64_t)1 << 31, largest_lower = 1 << 26;
    int32_t last = (r->columns - 1) / BLOCK, shifts[FEATURES];
    block *own = blocks + chosen;
    const block *left = blocks + larger(chosen - 1, 0), *right = blocks + smaller(chosen + 1, last);
    int64_t(*scaled)[FEATURES] = r->scaled, (*lower)[FEATURES] = r->lower, weights[FEATURES];
    for (int32_t i = 0; i <= count; i++) {
        for (int32_t j = 0; j <= i; j++)
            scaled[i][j] = (int64_t)own->sums[i][j] * 2 + left->sums[i][j] + right->sums[i][j];
        scaled[i][i] += RIDGE + (scaled[i][i] >> RIDGE_SHIFT);
        shifts[i] = (29 - (63 - __builtin_clzll((uint64_t)scaled[i][i]))) >> 1;
    }
    for (int32_t i = 0; i <= count; i++)
        for (int32_t j = 0; j <= smaller(i, count - 1); j++) {
            int64_t value = shifted(scaled[i][j], shifts[i] + shifts[j]), sum = 0;
            for (int32_t q = 0; q < j; q++) sum += scaled[i][q] * lower[j][q];
            value = limited(value - (sum >> L_SHIFT), largest_scaled);
            if (i == j && value < SMALLEST) value = SMALLEST;
            scaled[i][j] = value;
            if (i == j) r->inverse[i] = ((int64_t)1 << INVERSE_SHIFT) / value;
            else lower[i][j] = limited(value * r->inverse[j] >> (INVERSE_SHIFT - L_SHIFT), largest_lower);
        }
    for (int32_t i = count - 1; i >= 0; i--) {
        int64_t sum = lower[count][i] * 65536;
        for (int32_t j = i + 1; j < count; j++) sum -= lower[j][i] * weights[j];
        weights[i] = limited(sum >> L_SHIFT, largest_lower);
        own->weights[i] = (int32_t)limited(shifted(weights[i], shifts[i] - shifts[count]), LIMIT_OF_WEIGHTS);
    }
    own->is_solved = 1;
}

/* Keeps a sample's features and target for the sums, with a smaller weight where errors are larger. */
static void learn_moments(residual *r, batch *b, const surroundings *s, int32_t value) {
    int16_t f[FEATURES] = {0};
    int32_t most = 0, count = s->count + 1;
    for (int32_t i = 0; i < count; i++) {
        int32_t feature = i < s->count ? s->features[i] : 2 * value - s->twice;
        f[i] = (int16_t)clamped(feature >> r->feature_shift, -FEATURE_LIMIT, FEATURE_LIMIT);
        most = larger(most, magnitude(f[i]));
    }
    int32_t weight = (64 << 8) / (64 + (s->activity >> r->feature_shift) / 2);
    weight = larger(smaller(weight, 16 * WEIGHTED_LIMIT / (most + 1)), 1);
    for (int32_t i = 0; i < FEATURES; i++) {
        b->weighted[i][b->count] = (int16_t)((f[i] * weight + 8) >> 4);
        b->features[b->count / 2][i][b->count % 2] = f[i];
    }
    b->count++;
}

/* The products of a batch, by `columns` features at once: products[i][j] of feature i, weighted, and feature j. */
static void multiply(const hpcm_kernel_set *kernels, const batch *b, int32_t products[FEATURES][FEATURES]) {
    static const int32_t zeros[HPCM_MAX_COLUMNS];
    int16_t packed[BLOCK * HPCM_MAX_COLUMNS] = {0};
    int32_t sums[HPCM_MAX_PLACES * HPCM_MAX_COLUMNS], columns = kernels->columns;
    size_t width = (size_t)smaller(columns, FEATURES);
    for (int32_t j = 0; j < FEATURES; j += columns) {
        for (int32_t pair = 0; pair < BLOCK / 2; pair++)
            memcpy(packed + pair * columns * 2, b->features[pair][j], width * 2 * sizeof *packed);
        for (int32_t i = 0; i < FEATURES; i += kernels->places) {
            int32_t rows = smaller(kernels->places, FEATURES - i);
            kernels->sums(b->weighted[i], BLOCK, rows, 1, 0, BLOCK, packed, zeros, sums);
            for (int32_t row = 0; row < rows; row++)
                memcpy(&products[i + row][j], sums + row * columns, width * sizeof *sums);
        }
    }
}

/* At the end of a block in a row: adds the products of its batch, and what was there counts less. */
static void learn_block(residual *r, plane *own, int32_t x) {
    int32_t products[FEATURES][FEATURES] = {0};
    batch *b = &own->batch;
    block *its = own->blocks + x / BLOCK;
    if (b->count) {
        for (; b->count < BLOCK; b->count++)
            for (int32_t i = 0; i < FEATURES; i++)
                b->weighted[i][b->count] = b->features[b->count / 2][i][b->count % 2] = 0;
        multiply(r->kernels, b, products);
    }
    for (int32_t i = 0; i < FEATURES; i++)
        for (int32_t j = 0; j < FEATURES; j++) its->sums[i][j] += products[i][j] - (its->sums[i][j] >> FORGET);
    its->is_solved = 0;
    b->count = 0;
}

/* In sixteenths. */
static int32_t predict(const block *own, const surroundings *s, int32_t peak) {
    int64_t sum = 0;
    for (int32_t i = 0; i < s->count; i++) sum += (int64_t)own->weights[i] * s->features[i];
    int64_t value = (int64_t)8 * s->twice + (sum >> 13), highest = (int64_t)16 * peak;
    return (int32_t)(value < 0 ? 0 : value > highest ? highest : value);
}

/* ---- a sample ------------------------------------------------------------------------------------------------------------- */

static void choose_biases(residual *r, int32_t channel, const surroundings *s, const plane *own, int32_t x,
                          int32_t predicted, int32_t by_base, int32_t median, bias *chosen[BIASES]) {
    const int32_t *e = own->errors[0] + x, *e_up = own->errors[1] + x;
    int32_t shift = r->class_shift, level = predicted >> 4;
    int32_t larger_ones = (s->W > level) | (s->N > level) << 1 | (s->NW > level) << 2 |
                          (own->samples[1][x + 1] > level) << 3 | (own->samples[0][x - 2] > level) << 4 |
                          (own->samples[2][x] > level) << 5 | (s->b > level) << 6;
    int32_t contexts[BIASES] = {
        larger_ones * 8 + class_of(s->activity >> (5 + shift), 15) / 2,
        signed_class(e[-1], 1 + shift, 8) * 32 + signed_class(e_up[0], 1 + shift, 8),
        signed_class(s->before[0], 1 + shift, 10) * 32 + signed_class(s->before[1], 1 + shift, 10),
        signed_class(by_base - predicted, 2 + shift, 12) * 32 + signed_class(median - predicted, 2 + shift, 12),
    };
    for (int i = 0; i < BIASES; i++) chosen[i] = &r->biases[channel][i][contexts[i]];
}

/* Chooses an input of the next decisions, and has it read into the cache. */
static void choose_input(residual *r, int32_t channel, int32_t input, int32_t context) {
    size_t number = (size_t)(channel * INPUTS + input) * CONTEXTS + (size_t)context;
    r->m.chosen[input] = r->probabilities + number * NODES;
    __builtin_prefetch(r->m.chosen[input]);
}

/* Chooses those that are known before the prediction, early, since they may not be in the cache. */
static void choose_contexts(residual *r, int32_t channel, const surroundings *s, const plane *own, int32_t x,
                            int32_t turn) {
    const int32_t *e = own->errors[0] + x, *e_up = own->errors[1] + x, *e_above = own->errors[2] + x;
    int32_t shift = r->class_shift, others[2] = {magnitude(s->before[0]), magnitude(s->before[1])};
    int32_t NE_NW = magnitude(e_up[1]) + magnitude(e_up[-1]);
    int32_t outer = NE_NW + magnitude(e_up[2]) + magnitude(e[-2]) + magnitude(e_above[0]);
    int32_t expected = s->activity + 8 * (others[0] + others[1]); /* the error, of all that is known, times 32 / 1.33 */
    for (int32_t i = 0; i < turn; i++) expected = expected * 3 >> 2;
    choose_input(r, channel, 1, class_of(s->contrast >> shift, 31) * 32 + class_of(s->activity >> (5 + shift), 31));
    choose_input(r, channel, 2, signed_class(e[-1], 3 + shift, 15) * 32 + signed_class(e_up[0], 3 + shift, 15));
    choose_input(r, channel, 4, class_of(s->distance >> shift, 31) * 32 + class_of(NE_NW >> (3 + shift), 31));
    choose_input(r, channel, 5, class_of(outer >> (4 + shift), 31) * 32 +
                                    class_of(larger(others[0], others[1]) >> (3 + shift), 31));
    int32_t sets[2] = {class_of(expected >> (5 + shift), MIXER_SETS - 1), class_of(s->contrast >> shift, MIXER_SETS - 1)};
    for (int i = 0; i < 2; i++) r->m.sets[i] = r->mixers[i] + (channel * MIXER_SETS + sets[i]) * NODES;
    r->place = r->places + (channel * MIXER_SETS + sets[0]) * CLASSES * PLACES;
}

static void choose_predicted_contexts(residual *r, int32_t channel, const surroundings *s, int32_t predicted,
                                      int32_t by_base, int32_t median) {
    int32_t shift = r->class_shift, phase = (predicted + 8) & (PHASES - 1);
    choose_input(r, channel, 0, fine_class_of(s->activity >> (4 + shift), 63) * PHASES + phase);
    choose_input(r, channel, 3, signed_class(by_base - predicted, 3 + shift, 15) * 32 +
                                    signed_class(median - predicted, 3 + shift, 15));
}

static void code_sample(residual *r, int32_t turn, int32_t x) {
    int32_t channel = r->channels == 1 ? 0 : ORDER[turn], highest = 16 * r->peak, correction = 0, error = 0;
    plane *own = &r->planes[channel];
    block *its = own->blocks + x / BLOCK;
    surroundings s;
    bias *biases[BIASES];
    gather(r, turn, x, &s);
    choose_contexts(r, channel, &s, own, x, turn);
    if (!its->is_solved) solve(r, own->blocks, x / BLOCK, s.count);
    int32_t linear = predict(its, &s, r->peak);
    int32_t median = 16 * clamped(s.W + s.N - s.NW, smaller(s.W, s.N), larger(s.W, s.N));
    int32_t by_base = clamped(16 * s.b + 4 * s.missed, 0, highest);
    choose_biases(r, channel, &s, own, x, linear, by_base, median, biases);
    for (int i = 0; i < BIASES; i++) correction += biases[i]->mean;
    int32_t predicted = clamped(linear + (correction >> 8), 0, highest), rounded = (predicted + 8) >> 4;
    choose_predicted_contexts(r, channel, &s, predicted, by_base, median);
    if (r->source) {
        int32_t away = r->source[x * r->channels + channel] - rounded;
        int32_t steps = (magnitude(away) + r->max_error) / r->step;
        error = away < 0 ? -steps : steps;
    }
    error = code_error(r, error, r->peak / r->step + 1);
    int32_t value = clamped(rounded + error * r->step, 0, r->peak);
    own->samples[0][x] = value;
    own->errors[0][x] = 16 * value - predicted;
    for (int i = 0; i < BIASES; i++) {
        int32_t away = (16 * value - linear) * 64 - biases[i]->mean;
        biases[i]->mean += (int32_t)(((int64_t)away * r->m.tables.rate[biases[i]->count]) >> 16);
        if (biases[i]->count < BIAS_COUNT) biases[i]->count++;
    }
    learn_moments(r, &own->batch, &s, value);
}

static void learn_copied(residual *r, int32_t turn, int32_t x) {
    plane *own = &r->planes[r->channels == 1 ? 0 : ORDER[turn]];
    surroundings s;
    gather(r, turn, x, &s);
    learn_moments(r, &own->batch, &s, own->samples[0][x]);
}

/* ---- copies --------------------------------------------------------------------------------------------------------------- */

/* A pixel as one number: 16 bits a channel, the last one lowest. */
static uint64_t pixel_at(const residual *r, int32_t row, int32_t x) {
    uint64_t pixel = 0;
    for (int32_t c = 0; c < r->channels; c++) pixel = pixel << 16 | (uint64_t)r->planes[c].samples[row][x];
    return pixel;
}

static int32_t sample_of(const residual *r, uint64_t pixel, int32_t channel) {
    return (int32_t)(pixel >> 16 * (r->channels - 1 - channel) & UINT16_MAX);
}

static uint64_t hashed(uint64_t hash, uint64_t pixel) {
    hash = (hash + pixel) * 0xD6E8FEB86659FD93u;
    return hash ^ hash >> 29;
}

static uint32_t slot_of(uint64_t hash) {
    return (uint32_t)(hash * 0x9E3779B97F4A7C15u >> (64 - SLOT_BITS));
}

typedef struct {
    uint64_t W, N, NE;
    uint64_t four, six; /* hashes of so many pixels around */
    uint32_t equal;     /* which of the pixels around are, a bit each */
    uint32_t copied;    /* of W, N, NE, NW: which candidate, 4 bits each */
    uint32_t activity;  /* the class of the weighted errors around */
    uint64_t followed[2];
    int32_t confidence[2];
} copy_context;

static uint32_t activity_around(const residual *r, int32_t x) {
    int32_t sum = 0;
    for (int32_t c = 0; c < r->channels; c++) {
        const int32_t *e = r->planes[c].errors[0] + x, *e_up = r->planes[c].errors[1] + x;
        sum += 2 * (magnitude(e[-1]) + magnitude(e_up[0])) + magnitude(e_up[1]) + magnitude(e_up[-1]);
    }
    return (uint32_t)fine_class_of(sum >> (3 + r->class_shift), 63);
}

static void look_around(residual *r, int32_t x, copy_context *c) {
    uint64_t W = pixel_at(r, 0, x - 1), N = pixel_at(r, 1, x), NW = pixel_at(r, 1, x - 1), NE = pixel_at(r, 1, x + 1);
    uint64_t WW = pixel_at(r, 0, x - 2), NN = pixel_at(r, 2, x), two = hashed(hashed(0, W), N);
    const uint8_t *now = r->copied[0] + x, *up = r->copied[1] + x;
    c->W = W;
    c->N = N;
    c->NE = NE;
    c->four = hashed(hashed(two, NW), NE);
    c->six = hashed(hashed(c->four, WW), NN);
    c->equal = (uint32_t)((W == N) | (W == NW) << 1 | (N == NW) << 2 | (N == NE) << 3 | (W == WW) << 4 | (N == NN) << 5);
    c->copied = (uint32_t)(now[-1] | up[0] << 4 | up[1] << 8 | up[-1] << 12);
    c->activity = activity_around(r, x);
    r->slots[0] = slot_of(c->six);
    r->slots[1] = slot_of(two);
    for (int i = 0; i < 2; i++) {
        uint64_t known = r->followed[i][r->slots[i]];
        c->followed[i] = known & LARGEST_PIXEL;
        c->confidence[i] = (int32_t)(known >> PIXEL_BITS);
    }
}

/* The candidates, each once; gives how many. */
static int32_t list_candidates(const copy_context *c, uint64_t *candidates) {
    const uint64_t all[CANDIDATES] = {c->followed[0], c->followed[1], c->W, c->N, c->NE};
    int32_t count = 0;
    for (int32_t i = 0; i < CANDIDATES; i++) {
        int is_new = i > 1 || c->confidence[i];
        for (int32_t j = 0; j < count; j++) is_new &= candidates[j] != all[i];
        if (is_new) candidates[count++] = all[i];
    }
    return count;
}

static void choose_copy_contexts(residual *r, const copy_context *c, int32_t x, int32_t number, uint64_t candidate) {
    int32_t distance = 0, contrast = 0, confidence = c->confidence[0];
    uint64_t is = (uint64_t)((candidate == c->W) | (candidate == c->N) << 1 | (candidate == c->NE) << 2 |
                             (candidate == c->followed[0]) << 3);
    uint64_t id = ((uint64_t)number + 1 + 8 * is) << 32; /* above the other parts of keys */
    for (int32_t channel = 0; channel < r->channels; channel++) {
        int32_t *const *base = r->planes[channel].base;
        distance += magnitude(sample_of(r, candidate, channel) - base[1][x]);
        contrast += magnitude(base[1][x + 1] - base[1][x - 1]) + magnitude(base[2][x] - base[0][x]);
    }
    uint64_t by_base = (uint64_t)(class_of(distance, 31) + 32 * class_of(contrast, 31));
    const uint64_t keys[INPUTS] = {
        hashed(id, (uint64_t)confidence + 16 * (r->history & 255)),
        confidence ? hashed(c->six, id) : hashed(id, c->activity),
        hashed(id, c->equal),
        hashed(id, c->copied),
        hashed(id, by_base),
        confidence ? hashed(c->four, id) : hashed(id, c->activity / 4 * 64 + c->equal),
    };
    for (int32_t i = 0; i < INPUTS; i++) r->m.chosen[i] = r->copy_probabilities + i * SLOTS + slot_of(keys[i]);
    r->m.sets[0] = &r->copy_mixers[0][confidence][number];
    r->m.sets[1] = &r->copy_mixers[1][is][number];
}

static int is_close(const residual *r, int32_t x, uint64_t pixel) {
    const int32_t *source = r->source + x * r->channels;
    for (int32_t c = 0; c < r->channels; c++)
        if (magnitude(source[c] - sample_of(r, pixel, c)) > r->max_error) return 0;
    return 1;
}

/* Codes which of the candidates from `first` on the pixel is; `wanted` is `count` if it is none. Gives that. */
static int32_t code_candidate(residual *r, const copy_context *c, int32_t x, const uint64_t *candidates, int32_t first,
                              int32_t count, int32_t wanted) {
    choose_copy_contexts(r, c, x, CANDIDATES + (first > 0), candidates[first]);
    if (!decide_by_lanes(&r->m, 0, wanted < count)) return count;
    int32_t number = first;
    for (; number < count - 1; number++) {
        choose_copy_contexts(r, c, x, number, candidates[number]);
        if (decide_by_lanes(&r->m, 0, wanted == number)) break;
    }
    return number;
}

/* Whether the pixel is one of the candidates; then it is there afterwards. */
static int copy_pixel(residual *r, int32_t x) {
    copy_context c;
    uint64_t candidates[CANDIDATES];
    look_around(r, x, &c);
    int32_t count = list_candidates(&c, candidates), wanted = 0, number = count;
    while (r->source && wanted < count && !is_close(r, x, candidates[wanted])) wanted++;
    int32_t is_likely = c.confidence[0] > 0;
    if (is_likely) {
        choose_copy_contexts(r, &c, x, 0, candidates[0]);
        if (decide_by_lanes(&r->m, 0, !wanted)) number = 0;
    }
    if (number && is_likely < count) number = code_candidate(r, &c, x, candidates, is_likely, count, wanted);
    int is_copied = number < count;
    r->copied[0][x] = (uint8_t)(is_copied ? number + 1 : 0);
    r->history = r->history << 1 | (uint32_t)is_copied;
    for (int32_t channel = 0; is_copied && channel < r->channels; channel++) {
        r->planes[channel].samples[0][x] = sample_of(r, candidates[number], channel);
        r->planes[channel].errors[0][x] = 0;
    }
    /* Of even areas there is nothing to learn. */
    if (is_copied && !(c.equal == ALL_EQUAL && candidates[number] == c.W))
        for (int32_t turn = 0; turn < r->channels; turn++) learn_copied(r, turn, x);
    return is_copied;
}

static void learn_pixel(residual *r, int32_t x) {
    uint64_t pixel = pixel_at(r, 0, x);
    for (int i = 0; i < 2; i++) {
        uint64_t *followed = &r->followed[i][r->slots[i]], confidence = *followed >> PIXEL_BITS;
        if (confidence && (*followed & LARGEST_PIXEL) == pixel) {
            if (confidence < MOST_CONFIDENT) confidence++;
            *followed = confidence << PIXEL_BITS | pixel;
        } else if (confidence > 3) {
            *followed = confidence / 2 << PIXEL_BITS | (*followed & LARGEST_PIXEL);
        } else {
            *followed = (uint64_t)1 << PIXEL_BITS | pixel;
        }
    }
}

/* ---- a tile --------------------------------------------------------------------------------------------------------------- */

static void code_row(residual *r) {
    for (int32_t x = 0; x < r->columns; x++) {
        if (!r->copies || !copy_pixel(r, x))
            for (int32_t turn = 0; turn < r->channels; turn++) code_sample(r, turn, x);
        if (r->copies) learn_pixel(r, x);
        if (x % BLOCK == BLOCK - 1 || x == r->columns - 1)
            for (int32_t c = 0; c < r->channels; c++) learn_block(r, &r->planes[c], x);
    }
}

static void free_residual(residual *r) {
    if (!r) return;
    free(r->rows_memory);
    free(r->blocks);
    free(r->unaligned);
    free(r->mixers[0]);
    free(r->mixers[1]);
    free(r->places);
    free(r->copy_probabilities);
    free(r->copied[0] ? r->copied[0] - PAD : 0);
    free(r->copied[1] ? r->copied[1] - PAD : 0);
    free(r);
}

static void reset(residual *r) {
    size_t mixers = (size_t)r->channels * MIXER_SETS * NODES, places = (size_t)r->channels * MIXER_SETS * CLASSES * PLACES;
    hpcm_make_tables(&r->m.tables);
    hpcm_reset_probabilities(r->probabilities, (size_t)r->channels * INPUTS * CONTEXTS * NODES);
    if (r->copies) hpcm_reset_probabilities(r->copy_probabilities, (size_t)INPUTS * SLOTS);
    for (int set = 0; set < 2; set++) {
        reset_lane_mixers(r->mixers[set], mixers);
        reset_lane_mixers(r->copy_mixers[set][0], (MOST_CONFIDENT + 1) * (CANDIDATES + 2));
    }
    hpcm_reset_probabilities(r->places, places);
}

/* Null without memory. */
static residual *make_residual(int32_t columns, int32_t channels, int copies) {
    enum { ROWS = 9 }; /* of a plane */
    residual *r = calloc(1, sizeof *r);
    if (!r) return 0;
    size_t width = (size_t)columns + 2 * PAD, blocks = ((size_t)columns + BLOCK - 1) / BLOCK, count = (size_t)channels;
    r->columns = columns;
    r->channels = channels;
    r->copies = copies;
    r->rows_memory = calloc(count * ROWS * width, sizeof *r->rows_memory);
    r->blocks = calloc(count * blocks, sizeof *r->blocks);
    r->unaligned = malloc((count * INPUTS * CONTEXTS + 1) * NODES * sizeof *r->probabilities);
    r->probabilities = (uint32_t *)(((uintptr_t)r->unaligned + LINE - 1) & ~(uintptr_t)(LINE - 1));
    r->places = malloc(count * MIXER_SETS * CLASSES * PLACES * sizeof *r->places);
    char message[HPCM_MESSAGE];
    if (hpcm_choose_kernels(0, &r->kernels, message) != HPCM_OK) r->kernels = &hpcm_generic_kernels;
    r->copy_probabilities = malloc((size_t)INPUTS * SLOTS * sizeof *r->copy_probabilities);
    int all = r->rows_memory && r->blocks && r->unaligned && r->places && r->copy_probabilities;
    for (int i = 0; i < 2; i++) {
        uint8_t *copied = calloc(width, 1);
        r->mixers[i] = malloc(count * MIXER_SETS * NODES * sizeof *r->mixers[i]);
        r->copied[i] = copied ? copied + PAD : 0;
        all = all && copied && r->mixers[i];
    }
    if (!all) {
        free_residual(r);
        return 0;
    }
    for (size_t c = 0; c < count; c++) {
        int32_t *row = r->rows_memory + c * ROWS * width + PAD;
        plane *own = &r->planes[c];
        for (int i = 0; i < 3; i++, row += width) own->samples[i] = row;
        for (int i = 0; i < 3; i++, row += width) own->base[i] = row;
        for (int i = 0; i < 3; i++, row += width) own->errors[i] = row;
        own->blocks = r->blocks + c * blocks;
    }
    reset(r);
    return r;
}

static void pad_sides(int32_t *row, int32_t columns) {
    for (int32_t x = 1; x <= PAD; x++) {
        row[-x] = row[0];
        row[columns - 1 + x] = row[columns - 1];
    }
}

static void read_base(residual *r, const picture *base, int32_t y, int32_t place) {
    y = clamped(y, 0, base->rows - 1);
    for (int32_t c = 0; c < r->channels; c++) {
        int32_t *row = r->planes[c].base[place];
        for (int32_t x = 0; x < r->columns; x++) row[x] = sample_at(base, y, x, c);
        pad_sides(row, r->columns);
    }
}

/* The first becomes the second, and so on; the last one is free, and becomes the first. */
static void rotate(int32_t *rows[3]) {
    int32_t *last = rows[2];
    rows[2] = rows[1];
    rows[1] = rows[0];
    rows[0] = last;
}

static void begin_row(residual *r, const picture *base, int32_t y) {
    size_t width = ((size_t)r->columns + 2 * PAD) * sizeof(int32_t);
    for (int32_t c = 0; c < r->channels; c++) {
        plane *own = &r->planes[c];
        if (y) { /* the row above, this one, the one below: each moves up */
            int32_t *free_row = own->base[0];
            own->base[0] = own->base[1];
            own->base[1] = own->base[2];
            own->base[2] = free_row;
        }
    }
    if (!y) {
        read_base(r, base, 0, 0);
        read_base(r, base, 0, 1);
    }
    read_base(r, base, y + 1, 2);
    for (int32_t c = 0; c < r->channels; c++) {
        plane *own = &r->planes[c];
        if (y) {
            pad_sides(own->samples[0], r->columns);
            pad_sides(own->errors[0], r->columns);
            rotate(own->samples);
            rotate(own->errors);
        } else {
            for (int i = 1; i < 3; i++) memcpy(own->samples[i] - PAD, own->base[0] - PAD, width);
        }
        for (int32_t x = 1; x <= PAD; x++) {
            own->samples[0][-x] = own->samples[1][0];
            own->errors[0][-x] = own->errors[1][0];
        }
    }
    if (y) {
        uint8_t *above = r->copied[1];
        r->copied[1] = r->copied[0];
        r->copied[0] = above;
    }
}

static void write_row(const residual *r, int32_t bytes, int32_t y, void *pixels) {
    size_t place = (size_t)y * (size_t)r->columns * (size_t)r->channels;
    for (int32_t x = 0; x < r->columns; x++)
        for (int32_t c = 0; c < r->channels; c++, place++) {
            int32_t value = r->planes[c].samples[0][x];
            if (bytes == 1) ((uint8_t *)pixels)[place] = (uint8_t)value;
            else ((uint16_t *)pixels)[place] = (uint16_t)value;
        }
}

static int has_size(int32_t rows, int32_t columns, int32_t channels, int32_t bit_depth, int32_t max_error) {
    return has_shape(rows, columns, channels, bit_depth) && max_error >= 0 && max_error < 1 << (bit_depth - 1);
}

static void set_depth(residual *r, int32_t bit_depth, int32_t max_error) {
    r->max_error = max_error;
    r->step = 2 * max_error + 1;
    r->peak = (1 << bit_depth) - 1;
    r->feature_shift = larger(bit_depth - 9, 0);
    r->class_shift = (bit_depth - 8) / 2;
}

static hpcm_status encode_rows(residual *r, const picture *source, const picture *base, int32_t *line, hpcm_check check,
                               void *user) {
    r->source = line;
    for (int32_t y = 0; y < source->rows; y++) {
        if (check && check(user)) return HPCM_STOPPED;
        for (int32_t x = 0; x < source->columns; x++)
            for (int32_t c = 0; c < source->channels; c++) line[x * source->channels + c] = sample_at(source, y, x, c);
        begin_row(r, base, y);
        code_row(r);
        if (r->m.coder.no_memory) return HPCM_NO_MEMORY;
    }
    return HPCM_OK;
}

static hpcm_status encode(const picture *source, const picture *base, int32_t bit_depth, int32_t max_error, int copies,
                          uint8_t **payload, size_t *size, hpcm_check check, void *user) {
    int32_t *line = malloc((size_t)source->columns * (size_t)source->channels * sizeof *line);
    residual *r = make_residual(source->columns, source->channels, copies);
    hpcm_status status = HPCM_NO_MEMORY;
    if (line && r) {
        set_depth(r, bit_depth, max_error);
        hpcm_begin_encoding(&r->m.coder);
        status = encode_rows(r, source, base, line, check, user);
        if (status == HPCM_OK) status = hpcm_finish_encoding(&r->m.coder, (uint8_t)copies, payload, size);
        else hpcm_drop_encoding(&r->m.coder);
    }
    free(line);
    free_residual(r);
    return status;
}

/* Whether half the pixels are their left or upper neighbour. */
static int is_even(const picture *source) {
    int64_t equal = 0, all = (int64_t)source->rows * source->columns;
    for (int32_t y = 0; y < source->rows; y++)
        for (int32_t x = 0; x < source->columns; x++) {
            int is_left = x > 0, is_upper = y > 0;
            for (int32_t c = 0; c < source->channels; c++) {
                int32_t value = sample_at(source, y, x, c);
                is_left = is_left && value == sample_at(source, y, x - 1, c);
                is_upper = is_upper && value == sample_at(source, y - 1, x, c);
            }
            equal += is_left || is_upper;
        }
    return 2 * equal >= all;
}

static picture rows_in_the_middle(const picture *all) {
    picture some = *all;
    some.rows = smaller(all->rows, TRIAL_ROWS);
    size_t above = (size_t)(all->rows - some.rows) / 2 * (size_t)all->columns * (size_t)all->channels;
    some.samples = (const uint8_t *)all->samples + above * (size_t)all->bytes;
    return some;
}

/* Whether pixels should be copied: in pictures of even areas; else, if there is no loss, where some rows say so. */
static hpcm_status choose_copies(const picture *source, const picture *base, int32_t bit_depth, int32_t max_error,
                                 int *copies, hpcm_check check, void *user) {
    *copies = is_even(source);
    if (*copies || max_error) return HPCM_OK;
    picture some = rows_in_the_middle(source), its_base = rows_in_the_middle(base);
    size_t sizes[2];
    for (int with = 0; with < 2; with++) {
        uint8_t *payload;
        hpcm_status status = encode(&some, &its_base, bit_depth, 0, with, &payload, &sizes[with], check, user);
        if (status != HPCM_OK) return status;
        free(payload);
    }
    *copies = sizes[1] + sizes[1] / TRIAL_GAIN < sizes[0];
    return HPCM_OK;
}

hpcm_status hpcm_residual_encode(const void *source, const void *base, int32_t rows, int32_t columns, int32_t channels,
                                 int32_t bit_depth, int32_t max_error, uint8_t **payload, size_t *size,
                                 hpcm_check check, void *user) {
    *payload = 0;
    *size = 0;
    if (!source || !base || !has_size(rows, columns, channels, bit_depth, max_error)) return HPCM_BAD_ARGUMENT;
    int32_t bytes = bit_depth > 8 ? 2 : 1;
    picture given = {source, rows, columns, channels, bytes}, known = {base, rows, columns, channels, bytes};
    if (!has_depth(&given, bit_depth) || !has_depth(&known, bit_depth)) return HPCM_BAD_ARGUMENT;
    int copies;
    hpcm_status status = choose_copies(&given, &known, bit_depth, max_error, &copies, check, user);
    if (status == HPCM_OK) status = encode(&given, &known, bit_depth, max_error, copies, payload, size, check, user);
    return status;
}

void hpcm_residual_free(uint8_t *payload) {
    free(payload);
}

hpcm_status hpcm_residual_decode(const uint8_t *payload, size_t size, const void *base, int32_t rows, int32_t columns,
                                 int32_t channels, int32_t bit_depth, int32_t max_error, void *pixels,
                                 hpcm_check check, void *user) {
    if (!base || !pixels || !has_size(rows, columns, channels, bit_depth, max_error)) return HPCM_BAD_ARGUMENT;
    int32_t bytes = bit_depth > 8 ? 2 : 1;
    picture known = {base, rows, columns, channels, bytes};
    if (!has_depth(&known, bit_depth)) return HPCM_BAD_ARGUMENT;
    arithmetic coder;
    if (!hpcm_begin_decoding(&coder, payload, size) || payload[0] > 1) return HPCM_BAD_PAYLOAD;
    residual *r = make_residual(columns, channels, payload[0]);
    if (!r) return HPCM_NO_MEMORY;
    hpcm_status status = HPCM_OK;
    set_depth(r, bit_depth, max_error);
    r->m.coder = coder;
    for (int32_t y = 0; y < rows && status == HPCM_OK; y++) {
        if (check && check(user)) status = HPCM_STOPPED;
        if (status != HPCM_OK) break;
        begin_row(r, &known, y);
        code_row(r);
        write_row(r, bytes, y, pixels);
    }
    if (status == HPCM_OK && !hpcm_finish_decoding(&r->m.coder)) status = HPCM_BAD_PAYLOAD;
    free_residual(r);
    return status;
}
