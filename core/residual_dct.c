/* The residual of a tile as coefficients of a DCT, with loss: its source beside a base that both sides know.
 *
 * It is for the eye: the step of a coefficient grows with its frequency, and where the base has much detail. For a
 * bound of the error there is the coder of samples (residual.c).
 *
 * ---- the stream ----
 *
 * A payload (mixing.h) begins with a byte 0. Blocks of 8 x 8 are coded row by row, from left to right; the last ones
 * may reach beyond the picture. All numbers are integers; >> rounds down, / rounds towards zero, and a sum is rounded
 * to n bits less by adding 2^(n - 1) before >> n. Samples are counted in 1/32 of an 8-bit sample: with a depth of d
 * bits they are multiplied by 2^(13 - d), rounded down. The place of row v and column u of a block is 8 v + u; so is
 * that of the vertical frequency v and the horizontal frequency u.
 *
 * 1. The base of a block (read_base) is its samples, those of the last row and column again beyond them, as YCbCr
 *    where there are three channels (TO_YCBCR), transformed by BASIS (analyse): first columns, then rows, each sum
 *    rounded.
 *
 * 2. The width of the steps at a place (find_widths) is `step` times WEIGHTS, of luma or of chroma, times 2^(k/16),
 *    where k is the class of how active luma of the base is in this block (find_width).
 *
 * 3. For each channel, Y, Cb, Cr, the number of coefficients that aren't zero is coded (code_count): is it zero; one
 *    less in 6 bits, upper bits first. Then coefficients in the order SCAN, until so many weren't zero (code_block):
 *    is it zero, unless as many are left as places; its magnitude's class 1, 2, 3-4, 5-8, ... in unary; its place in
 *    the class, upper bits first; is it negative. Each is a node, mixed of probabilities in contexts: the coefficients
 *    of this block so far, those of the blocks to the left, above, above left and above right, of the channels before,
 *    and the base's.
 *
 * 4. A coefficient of magnitude m is m widths less LESS of 64 parts of one. It is transformed back (synthesise):
 *    columns, then rows. Coefficients and what either transform gives are clamped to LARGEST. Then come RGB (TO_RGB)
 *    and the sum with the base, rounded to the depth and clamped to its range.
 *
 * Any bytes are a payload or are refused: there are at most 34 decisions a sample, no number overflows, and memory is
 * 4 MB and 1.8 kB for each 8 columns of three channels. */
#include <stdlib.h>
#include <string.h>

#include "hpcm.h"
#include "mixing.h"
#include "samples.h"

enum {
    MAX_CHANNELS = HPCM_RESIDUAL_CHANNELS,
    SIDE = 8,
    PLACES = SIDE * SIDE,
    DEPTH = 13,          /* of samples in the coder's units */
    BASIS_SHIFT = 13,
    LARGEST = 1 << 16,   /* a coefficient; those of pictures reach 8 * 255 * 32 */
    LARGEST_STEP = 1 << 20,
    STEP_SHIFT = 11,     /* from sixteenths, sixteenths and 2^-8 to 1/32 */
    ACTIVITY_SHIFT = 9,  /* of the sum of a block's magnitudes */
    MOST_ACTIVE = 30,
    STRIDE = SIDE + 2,   /* of magnitudes, with zeros around them: two rows above, one row and column elsewhere */
    PADDED = STRIDE * (SIDE + 3),
    LARGEST_KNOWN = 1023, /* of a magnitude that contexts see */
    CONTEXTS = 1024,     /* of an input */
    COUNT_CONTEXTS = 384,
    NODES = 16,          /* of a coefficient */
    ZERO = 0,
    CLASS = 1,
    CLASSES = 7,
    FIRST_BIT = 8,
    FIRST_BITS = 6,
    SECOND_BIT = 14,
    LOWER_BITS = 15,
    COUNT_NODES = PLACES,
    COUNT_BITS = 6,
    SETS = 16,           /* of weights, and of maps, for each channel */
    LESS = 4,            /* this and the next ones in 64ths of a step */
    ROUNDED_UP = 42,     /* see quantise, of the encoder */
    MORE_ROUNDED_UP = 38,
    LESS_NEAR = 13,
    MOST_NEAR = 48,
};

/* ---- tables ------------------------------------------------------------------------------------------------------- */

/* round(2^13 c(k) cos((2 n + 1) k pi / 16)), with c(0) = 1/sqrt(8), else 1/2. */
static const int32_t BASIS[SIDE][SIDE] = {
    {2896, 2896, 2896, 2896, 2896, 2896, 2896, 2896},     {4017, 3406, 2276, 799, -799, -2276, -3406, -4017},
    {3784, 1567, -1567, -3784, -3784, -1567, 1567, 3784}, {3406, -799, -4017, -2276, 2276, 4017, 799, -3406},
    {2896, -2896, -2896, 2896, 2896, -2896, -2896, 2896}, {2276, -4017, 799, 3406, -3406, -799, 4017, -2276},
    {1567, -3784, 3784, -1567, -1567, 3784, -3784, 1567}, {799, -2276, 3406, -4017, 4017, -3406, 2276, -799},
};

/* Of a step, in sixteenths: luma's, then chroma's. They grow with the 0.8th power of the frequency. */
static const uint8_t WEIGHTS[2][PLACES] = {
    {
        16, 24, 31, 36, 42, 47, 51, 56, 24, 27, 32, 37, 42, 47, 52, 56, /* rows 0 and 1, and so on */
        31, 32, 35, 40, 44, 48, 53, 57, 36, 37, 40, 43, 47, 51, 55, 59,
        42, 42, 44, 47, 50, 53, 57, 61, 47, 47, 48, 51, 53, 56, 60, 63,
        51, 52, 53, 55, 57, 60, 63, 66, 56, 56, 57, 59, 61, 63, 66, 69,
    },
    {
        29, 59, 82, 102, 121, 139, 156, 173, 59, 69, 87, 105, 123, 141, 157, 174,
        82, 87, 99, 113, 129, 146, 162, 177, 102, 105, 113, 125, 139, 153, 168, 183,
        121, 123, 129, 139, 150, 163, 176, 190, 139, 141, 146, 153, 163, 174, 186, 199,
        156, 157, 162, 168, 176, 186, 197, 208, 173, 174, 177, 183, 190, 199, 208, 219,
    },
};

/* 2^(8 + k/16) */
static const int32_t SIXTEENTHS[16] = {256, 267, 279, 292, 304, 318, 332, 347, 362, 378, 395, 412, 431, 450, 470, 490};

static const uint8_t SCAN[PLACES] = {
    0,  1,  8,  16, 9,  2,  3,  10, 17, 24, 32, 25, 18, 11, 4,  5,  12, 19, 26, 33, 40, 48,
    41, 34, 27, 20, 13, 6,  7,  14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23,
    30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
};

static const int32_t TO_YCBCR[3][3] = {{19595, 38470, 7471}, {-11058, -21710, 32768}, {32768, -27439, -5329}}; /* Q16 */
static const int32_t TO_RGB[3][2] = {{0, 22970}, {-5638, -11700}, {29032, 0}}; /* of Cb and Cr, Q14; and once Y */

/* ---- what a tile's coder has -------------------------------------------------------------------------------------- */

/* What a channel's block is remembered by. */
typedef struct {
    uint16_t magnitudes[PADDED];
    int8_t signs[PLACES]; /* -1, 0, 1 */
    int32_t count;        /* of coefficients that aren't zero */
} block;

typedef struct {
    int32_t rows, columns, channels, bit_depth;
    int32_t across;                     /* blocks of a row */
    int32_t steps[2][PLACES];           /* step * WEIGHTS */
    uint32_t reciprocals[2][PLACES];    /* 2^18 / steps */
    block *now, *up;                    /* [across + 2][channels]: of this row, and of that above; zeros at the ends */
    uint32_t *probabilities;            /* [channels][INPUTS][CONTEXTS][NODES] */
    uint32_t *count_probabilities;      /* [channels][INPUTS][COUNT_CONTEXTS][COUNT_NODES] */
    uint32_t *sign_probabilities;       /* [channels][INPUTS][CONTEXTS] */
    mixing m;
    mixer mixers[2][MAX_CHANNELS][SETS][NODES];
    mixer count_mixers[2][MAX_CHANNELS][SETS][COUNT_NODES];
    mixer sign_mixers[2][MAX_CHANNELS];
    knots maps[MAX_CHANNELS][SETS][NODES];
    knots count_maps[MAX_CHANNELS][COUNT_NODES];
    knots sign_maps[MAX_CHANNELS];
} dct;

/* ---- transforms --------------------------------------------------------------------------------------------------- */

/* to[x][k] = the sum over n of matrix[k][n] * from[n][x]; twice, it transforms columns and rows. */
static void multiply(const int32_t matrix[SIDE][SIDE], const int32_t *from, int32_t *to) {
    for (int32_t k = 0; k < SIDE; k++) {
        int32_t sums[SIDE] = {0};
        for (int32_t n = 0; n < SIDE; n++)
            for (int32_t x = 0; x < SIDE; x++) sums[x] += matrix[k][n] * from[n * SIDE + x];
        for (int32_t x = 0; x < SIDE; x++) {
            int32_t rounded = (sums[x] + (1 << (BASIS_SHIFT - 1))) >> BASIS_SHIFT;
            to[x * SIDE + k] = clamped(rounded, -LARGEST, LARGEST);
        }
    }
}

static void analyse(int32_t *samples) {
    int32_t middle[PLACES];
    multiply(BASIS, samples, middle);
    multiply(BASIS, middle, samples);
}

static void synthesise(int32_t *coefficients) {
    int32_t inverse[SIDE][SIDE], middle[PLACES];
    for (int32_t k = 0; k < SIDE; k++)
        for (int32_t n = 0; n < SIDE; n++) inverse[n][k] = BASIS[k][n];
    multiply(inverse, coefficients, middle);
    multiply(inverse, middle, coefficients);
}

static void to_ycbcr(int32_t pixels[MAX_CHANNELS][PLACES]) {
    for (int32_t i = 0; i < PLACES; i++) {
        int32_t red = pixels[0][i], green = pixels[1][i], blue = pixels[2][i];
        for (int32_t c = 0; c < MAX_CHANNELS; c++) {
            const int32_t *row = TO_YCBCR[c];
            pixels[c][i] = (row[0] * red + row[1] * green + row[2] * blue + (1 << 15)) >> 16;
        }
    }
}

static void to_rgb(int32_t pixels[MAX_CHANNELS][PLACES]) {
    for (int32_t i = 0; i < PLACES; i++) {
        int32_t luma = pixels[0][i], blue = pixels[1][i], red = pixels[2][i];
        for (int32_t c = 0; c < MAX_CHANNELS; c++)
            pixels[c][i] = luma + ((TO_RGB[c][0] * blue + TO_RGB[c][1] * red + (1 << 13)) >> 14);
    }
}

/* ---- what is known of a block ------------------------------------------------------------------------------------- */

/* A block of one channel, before it is coded. */
typedef struct {
    const block *left, *above, *above_left, *above_right;
    const block *others;           /* the channels before, at this place */
    int32_t channel;
    int32_t count;                 /* of coefficients of the base that are a step or more */
    int32_t near[PLACES];          /* weighted magnitudes of the four blocks; the weights add up to 48 */
    int32_t energy[PLACES];        /* magnitudes of the base, in eighths of a step */
    int32_t is_negative[PLACES];   /* whether the base is */
} surroundings;

static int32_t padded(int32_t place) {
    return (place / SIDE + 2) * STRIDE + place % SIDE + 1;
}

static void look_around(const dct *d, int32_t x, int32_t channel, const int32_t *base, surroundings *s) {
    const block *now = d->now + x * d->channels, *up = d->up + x * d->channels;
    const uint32_t *reciprocals = d->reciprocals[channel > 0];
    int32_t sums[PADDED];
    s->channel = channel;
    s->left = now + channel;
    s->others = now + d->channels;
    s->above_left = up + channel;
    s->above = s->above_left + d->channels;
    s->above_right = s->above + d->channels;
    for (int32_t i = 0; i < PADDED; i++)
        sums[i] = 2 * (s->left->magnitudes[i] + s->above->magnitudes[i]) + s->above_left->magnitudes[i] +
                  s->above_right->magnitudes[i];
    for (int32_t v = 0; v < SIDE; v++)
        for (int32_t u = 0; u < SIDE; u++) {
            const int32_t *sum = sums + (v + 2) * STRIDE + u + 1;
            s->near[v * SIDE + u] = 4 * sum[0] + sum[1] + sum[-1] + sum[STRIDE] + sum[-STRIDE];
        }
    s->count = 0;
    for (int32_t i = 0; i < PLACES; i++) {
        int32_t size = i ? magnitude(base[i]) : (magnitude(base[1]) + magnitude(base[SIDE])) / 2;
        s->energy[i] = (int32_t)(((uint32_t)size * reciprocals[i]) >> 12);
        s->is_negative[i] = base[i] < 0;
        s->count += s->energy[i] >= 8;
    }
}

/* ---- decisions ---------------------------------------------------------------------------------------------------- */

static int32_t code_count(dct *d, const surroundings *s, int32_t count) {
    int32_t left = s->left->count, above = s->above->count, channel = s->channel, base = s->count;
    int32_t mean = (2 * (left + above) + s->above_left->count + s->above_right->count + 3) / 6;
    int32_t one = channel > 0 ? s->others[0].count : 0, two = channel > 1 ? s->others[1].count : 0;
    int32_t contexts[INPUTS] = {
        mean / 2 * 8 + class_of(two, 7),
        left / 4 * 17 + above / 4,
        base / 2 * 8 + class_of(one, 7),
        base / 4 * 17 + mean / 4,
        one / 4 * 17 + two / 4,
        (mean / 10 * 7 + one / 10) * 7 + base / 10,
    };
    for (int32_t i = 0; i < INPUTS; i++) {
        size_t context = (size_t)(channel * INPUTS + i) * COUNT_CONTEXTS + (size_t)contexts[i];
        d->m.chosen[i] = d->count_probabilities + context * COUNT_NODES;
    }
    d->m.sets[0] = d->count_mixers[0][channel][mean / 5];
    d->m.sets[1] = d->count_mixers[1][channel][base / 5];
    d->m.map = d->count_maps[channel];
    if (decide(&d->m, ZERO, !count)) return 0;
    int32_t node = 1;
    for (int32_t bit = COUNT_BITS - 1; bit >= 0; bit--) node = 2 * node + decide(&d->m, node, (count - 1) >> bit & 1);
    return node - (1 << COUNT_BITS) + 1;
}

/* The class of a magnitude of 1 or more: 1, 2, 3-4, 5-8, ... */
static int32_t magnitude_class(int32_t value) {
    return value < 2 ? 0 : log2_of(value - 1) + 1;
}

/* Codes a magnitude of 1 or more, whose class is that of `most` or below. */
static int32_t code_magnitude(dct *d, int32_t size, int32_t most) {
    int32_t wanted = magnitude_class(size), last = magnitude_class(most), class = 0;
    while (class < last && decide(&d->m, CLASS + smaller(class, CLASSES - 1), class < wanted)) class++;
    int32_t bits = class ? class - 1 : 0, begin = class ? 1 + (1 << bits) : 1, place = 0;
    for (int32_t bit = bits - 1; bit >= 0; bit--) {
        int32_t above = bits - 1 - bit, node = LOWER_BITS;
        if (above == 0) node = FIRST_BIT + smaller(class - 2, FIRST_BITS - 1);
        if (above == 1) node = SECOND_BIT;
        place = 2 * place + decide(&d->m, node, (size - begin) >> bit & 1);
    }
    return begin + place;
}

static int32_t code_sign(dct *d, const surroundings *s, int32_t place, int32_t size, int is_negative) {
    int32_t channel = s->channel, zone = smaller(place / SIDE + place % SIDE, 7), energy = class_of(s->energy[place], 7);
    int32_t one = channel > 0 ? s->others[0].signs[place] : 0, two = channel > 1 ? s->others[1].signs[place] : 0;
    int32_t base = s->is_negative[place] ? 7 - energy : 8 + energy;
    int32_t around = 3 * s->left->signs[place] + s->above->signs[place] + 4, others = 3 * one + two + 4;
    int32_t contexts[INPUTS] = {
        place * 16 + base,
        place * 9 + around,
        place * 9 + others,
        base * 9 + around,
        base * 9 + others,
        (base * 8 + smaller(size, 7)) * 4 + zone / 2,
    };
    for (int32_t i = 0; i < INPUTS; i++)
        d->m.chosen[i] = d->sign_probabilities + (channel * INPUTS + i) * CONTEXTS + contexts[i];
    for (int set = 0; set < 2; set++) d->m.sets[set] = &d->sign_mixers[set][channel];
    d->m.map = &d->sign_maps[channel];
    return decide(&d->m, 0, is_negative);
}

/* What the decisions about a coefficient's magnitude are mixed of. left: how many that aren't zero come still, in so many
 * places. */
static void choose_contexts(dct *d, const surroundings *s, const uint16_t *own, int32_t place, int32_t left,
                            int32_t places) {
    int32_t channel = s->channel, zone = smaller(place / SIDE + place % SIDE, 7), at = padded(place), other = 0;
    const uint16_t *m = own + at;
    int32_t within = 3 * (m[-1] + m[-STRIDE]) + 2 * (m[-STRIDE - 1] + m[1 - STRIDE] + m[STRIDE - 1]) + m[-2] +
                     m[-2 * STRIDE];
    for (int32_t before = 0; before < channel; before++) {
        const uint16_t *o = s->others[before].magnitudes + at;
        other += 4 * o[0] + o[-1] + o[1] + o[-STRIDE] + o[STRIDE];
    }
    int32_t near = s->near[place], expected = 4 * within + (within ? 1 : 2) * near + 2 * other;
    int32_t ratio_class = class_of(32 * left / places, 15);
    int32_t contexts[INPUTS] = {
        place * 16 + class_of(left, 15),
        zone * 64 + fine_class_of(near / 2, 63),
        zone * 64 + fine_class_of(within, 63),
        place * 16 + class_of(s->energy[place], 15),
        (class_of(within, 15) * 8 + class_of(near / 3, 15) / 2) * 8 + class_of(other, 7),
        ratio_class * 64 + fine_class_of(expected, 63),
    };
    for (int32_t i = 0; i < INPUTS; i++) {
        size_t context = (size_t)(channel * INPUTS + i) * CONTEXTS + (size_t)contexts[i];
        d->m.chosen[i] = d->probabilities + context * NODES;
    }
    d->m.sets[0] = d->mixers[0][channel][zone];
    d->m.sets[1] = d->mixers[1][channel][fine_class_of(expected / 2, 31) / 2];
    d->m.map = d->maps[channel][ratio_class];
}

/* Codes the coefficients of a block, in steps, and remembers them in `own`. */
static void code_block(dct *d, const surroundings *s, int32_t *coefficients, block *own) {
    const int32_t *steps = d->steps[s->channel > 0];
    int32_t count = 0;
    for (int32_t i = 0; i < PLACES; i++) count += coefficients[i] != 0;
    memset(own, 0, sizeof *own);
    own->count = count = code_count(d, s, count);
    for (int32_t i = 0, left = count; left > 0; i++) {
        int32_t place = SCAN[i], places = PLACES - i, size = magnitude(coefficients[place]);
        choose_contexts(d, s, own->magnitudes, place, left, places);
        if (left < places && decide(&d->m, ZERO, !size)) continue;
        size = code_magnitude(d, size, (LARGEST << 3) / steps[place] + 1);
        int is_negative = code_sign(d, s, place, size, coefficients[place] < 0);
        coefficients[place] = is_negative ? -size : size;
        own->magnitudes[padded(place)] = (uint16_t)smaller(size, LARGEST_KNOWN);
        own->signs[place] = is_negative ? -1 : 1;
        left--;
    }
}

/* ---- a block ------------------------------------------------------------------------------------------------------ */

static int32_t scaled(int32_t value, int32_t bit_depth) {
    return bit_depth > DEPTH ? value >> (bit_depth - DEPTH) : value * (1 << (DEPTH - bit_depth));
}

static void transform_block(const dct *d, int32_t pixels[MAX_CHANNELS][PLACES]) {
    if (d->channels == MAX_CHANNELS) to_ycbcr(pixels);
    for (int32_t c = 0; c < d->channels; c++) analyse(pixels[c]);
}

static void read_base(const dct *d, const picture *base, int32_t top, int32_t left, int32_t to[MAX_CHANNELS][PLACES]) {
    for (int32_t i = 0; i < PLACES; i++) {
        int32_t y = smaller(top + i / SIDE, d->rows - 1), x = smaller(left + i % SIDE, d->columns - 1);
        for (int32_t c = 0; c < d->channels; c++) to[c][i] = scaled(sample_at(base, y, x, c), d->bit_depth);
    }
    transform_block(d, to);
}

/* Encoder. Beyond the picture the residual is 0: what a smooth continuation would cost is more than what it saves. */
static void read_residual(const dct *d, const picture *source, const picture *base, int32_t top, int32_t left,
                          int32_t to[MAX_CHANNELS][PLACES]) {
    int32_t bottom = smaller(top + SIDE, d->rows), right = smaller(left + SIDE, d->columns);
    for (int32_t y = top; y < bottom; y++)
        for (int32_t x = left; x < right; x++)
            for (int32_t c = 0; c < d->channels; c++) {
                int32_t value = sample_at(source, y, x, c) - sample_at(base, y, x, c);
                to[c][(y - top) * SIDE + x - left] = scaled(value, d->bit_depth);
            }
    transform_block(d, to);
}

/* The base, and what the coefficients add. */
static void write_block(const dct *d, const picture *base, int32_t top, int32_t left,
                        int32_t added[MAX_CHANNELS][PLACES], void *pixels) {
    int32_t bottom = smaller(top + SIDE, d->rows), right = smaller(left + SIDE, d->columns);
    int32_t down = larger(DEPTH - d->bit_depth, 0), up = 1 << larger(d->bit_depth - DEPTH, 0);
    if (d->channels == MAX_CHANNELS) to_rgb(added);
    for (int32_t y = top; y < bottom; y++)
        for (int32_t x = left; x < right; x++)
            for (int32_t c = 0; c < d->channels; c++) {
                int32_t more = ((added[c][(y - top) * SIDE + x - left] + (1 << down >> 1)) >> down) * up;
                int32_t value = clamped(sample_at(base, y, x, c) + more, 0, (1 << d->bit_depth) - 1);
                set_sample(pixels, base, y, x, c, value);
            }
}

/* 2^8 times how much wider the steps of a block are, by luma of its base. */
static int32_t find_width(const int32_t *luma) {
    int32_t activity = 0;
    for (int32_t i = 1; i < PLACES; i++) activity += magnitude(luma[i]);
    int32_t class = fine_class_of(activity >> ACTIVITY_SHIFT, MOST_ACTIVE);
    return SIXTEENTHS[class % 16] << class / 16;
}

static void find_widths(const int32_t *steps, int32_t width, int32_t *widths) {
    for (int32_t i = 0; i < PLACES; i++)
        widths[i] = larger((steps[i] * width + (1 << (STEP_SHIFT - 1))) >> STEP_SHIFT, 1);
}

/* Rounds magnitudes to 1 from ROUNDED_UP of 64 parts of a step on, less where blocks around have something, and to more
 * from MORE_ROUNDED_UP parts beyond a whole step on. */
static void quantise(const surroundings *s, const int32_t *widths, int32_t *coefficients) {
    for (int32_t i = 0; i < PLACES; i++) {
        int32_t parts = 64 * magnitude(coefficients[i]), width = widths[i], steps;
        if (parts < (64 + MORE_ROUNDED_UP) * width)
            steps = parts >= (ROUNDED_UP - smaller(s->near[i], MOST_NEAR) * LESS_NEAR / MOST_NEAR) * width;
        else
            steps = (parts + (64 - MORE_ROUNDED_UP) * width) / (64 * width);
        coefficients[i] = coefficients[i] < 0 ? -steps : steps;
    }
}

static void dequantise(const int32_t *widths, int32_t *coefficients) {
    for (int32_t i = 0; i < PLACES; i++) {
        int32_t size = magnitude(coefficients[i]);
        if (!size) continue;
        int64_t value = limited(((int64_t)size * 64 - LESS) * widths[i] >> 6, LARGEST);
        coefficients[i] = coefficients[i] < 0 ? -(int32_t)value : (int32_t)value;
    }
}

/* Encoder: `source` is there. Decoder: `pixels` get the block. */
static void code_place(dct *d, const picture *source, const picture *base, int32_t top, int32_t x, void *pixels) {
    int32_t known[MAX_CHANNELS][PLACES], coefficients[MAX_CHANNELS][PLACES] = {0}, widths[PLACES], width;
    surroundings s;
    read_base(d, base, top, x * SIDE, known);
    if (source) read_residual(d, source, base, top, x * SIDE, coefficients);
    width = find_width(known[0]);
    for (int32_t c = 0; c < d->channels; c++) {
        find_widths(d->steps[c > 0], width, widths);
        look_around(d, x, c, known[c], &s);
        if (source) quantise(&s, widths, coefficients[c]);
        code_block(d, &s, coefficients[c], d->now + (x + 1) * d->channels + c);
        if (source) continue;
        dequantise(widths, coefficients[c]);
        synthesise(coefficients[c]);
    }
    if (!source) write_block(d, base, top, x * SIDE, coefficients, pixels);
}

/* ---- a tile ------------------------------------------------------------------------------------------------------- */

static void free_dct(dct *d) {
    if (!d) return;
    free(d->now);
    free(d->up);
    free(d->probabilities);
    free(d->count_probabilities);
    free(d->sign_probabilities);
    free(d);
}

static void reset(dct *d) {
    size_t inputs = (size_t)d->channels * INPUTS;
    hpcm_make_tables(&d->m.tables);
    hpcm_reset_probabilities(d->probabilities, inputs * CONTEXTS * NODES);
    hpcm_reset_probabilities(d->count_probabilities, inputs * COUNT_CONTEXTS * COUNT_NODES);
    hpcm_reset_probabilities(d->sign_probabilities, inputs * CONTEXTS);
    hpcm_reset_mixers(d->mixers[0][0][0], sizeof d->mixers / sizeof(mixer));
    hpcm_reset_mixers(d->count_mixers[0][0][0], sizeof d->count_mixers / sizeof(mixer));
    hpcm_reset_mixers(d->sign_mixers[0], sizeof d->sign_mixers / sizeof(mixer));
    hpcm_reset_maps(&d->m.tables, d->maps[0][0], sizeof d->maps / sizeof(knots));
    hpcm_reset_maps(&d->m.tables, d->count_maps[0], sizeof d->count_maps / sizeof(knots));
    hpcm_reset_maps(&d->m.tables, d->sign_maps, sizeof d->sign_maps / sizeof(knots));
}

/* Null without memory. */
static dct *make_dct(const picture *base, int32_t bit_depth, int32_t step) {
    dct *d = calloc(1, sizeof *d);
    if (!d) return 0;
    d->rows = base->rows;
    d->columns = base->columns;
    d->channels = base->channels;
    d->bit_depth = bit_depth;
    d->across = (base->columns + SIDE - 1) / SIDE;
    size_t inputs = (size_t)d->channels * INPUTS, blocks = (size_t)(d->across + 2) * (size_t)d->channels;
    d->now = calloc(blocks, sizeof *d->now);
    d->up = calloc(blocks, sizeof *d->up);
    d->probabilities = malloc(inputs * CONTEXTS * NODES * sizeof *d->probabilities);
    d->count_probabilities = malloc(inputs * COUNT_CONTEXTS * COUNT_NODES * sizeof *d->count_probabilities);
    d->sign_probabilities = malloc(inputs * CONTEXTS * sizeof *d->sign_probabilities);
    if (!d->now || !d->up || !d->probabilities || !d->count_probabilities || !d->sign_probabilities) {
        free_dct(d);
        return 0;
    }
    for (int kind = 0; kind < 2; kind++)
        for (int32_t i = 0; i < PLACES; i++) {
            d->steps[kind][i] = smaller(step * WEIGHTS[kind][i], LARGEST_STEP);
            d->reciprocals[kind][i] = (uint32_t)((1 << 18) / d->steps[kind][i]);
        }
    reset(d);
    return d;
}

static hpcm_status code_tile(dct *d, const picture *source, const picture *base, void *pixels, hpcm_check check,
                             void *user) {
    for (int32_t top = 0; top < d->rows; top += SIDE) {
        if (check && check(user)) return HPCM_STOPPED;
        for (int32_t x = 0; x < d->across; x++) code_place(d, source, base, top, x, pixels);
        if (d->m.coder.no_memory) return HPCM_NO_MEMORY;
        block *above = d->up;
        d->up = d->now;
        d->now = above;
    }
    return HPCM_OK;
}

static int has_step(int32_t rows, int32_t columns, int32_t channels, int32_t bit_depth, int32_t step) {
    return has_shape(rows, columns, channels, bit_depth) && step > 0 && step <= UINT16_MAX;
}

hpcm_status hpcm_dct_encode(const void *source, const void *base, int32_t rows, int32_t columns, int32_t channels,
                            int32_t bit_depth, int32_t step, uint8_t **payload, size_t *size, hpcm_check check,
                            void *user) {
    *payload = 0;
    *size = 0;
    if (!source || !base || !has_step(rows, columns, channels, bit_depth, step)) return HPCM_BAD_ARGUMENT;
    int32_t bytes = bit_depth > 8 ? 2 : 1;
    picture given = {source, rows, columns, channels, bytes}, known = {base, rows, columns, channels, bytes};
    if (!has_depth(&given, bit_depth) || !has_depth(&known, bit_depth)) return HPCM_BAD_ARGUMENT;
    dct *d = make_dct(&known, bit_depth, step);
    if (!d) return HPCM_NO_MEMORY;
    hpcm_begin_encoding(&d->m.coder);
    hpcm_status status = code_tile(d, &given, &known, 0, check, user);
    if (status == HPCM_OK) status = hpcm_finish_encoding(&d->m.coder, 0, payload, size);
    else hpcm_drop_encoding(&d->m.coder);
    free_dct(d);
    return status;
}

hpcm_status hpcm_dct_decode(const uint8_t *payload, size_t size, const void *base, int32_t rows, int32_t columns,
                            int32_t channels, int32_t bit_depth, int32_t step, void *pixels, hpcm_check check,
                            void *user) {
    if (!base || !pixels || !has_step(rows, columns, channels, bit_depth, step)) return HPCM_BAD_ARGUMENT;
    picture known = {base, rows, columns, channels, bit_depth > 8 ? 2 : 1};
    if (!has_depth(&known, bit_depth)) return HPCM_BAD_ARGUMENT;
    arithmetic coder;
    if (!hpcm_begin_decoding(&coder, payload, size) || payload[0]) return HPCM_BAD_PAYLOAD;
    dct *d = make_dct(&known, bit_depth, step);
    if (!d) return HPCM_NO_MEMORY;
    d->m.coder = coder;
    hpcm_status status = code_tile(d, 0, &known, pixels, check, user);
    if (status == HPCM_OK && !hpcm_finish_decoding(&d->m.coder)) status = HPCM_BAD_PAYLOAD;
    free_dct(d);
    return status;
}
