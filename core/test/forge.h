/* Models made of random numbers, for the programs in this folder: every array that a configuration asks for, within the
 * bounds. Their numbers go through all networks at the size of real ones, and mean nothing. */
#ifndef HPCM_FORGE_H
#define HPCM_FORGE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../hpcm.h"

enum { FORGE_MAX_ARRAYS = 4096, FORGE_NAME = 64, FORGE_KNOTS = 6, FORGE_TABLES = 24 };

typedef struct {
    hpcm_array arrays[FORGE_MAX_ARRAYS];
    size_t count;
    uint32_t random;
} forge;

static uint32_t forge_random(forge *f) {
    f->random ^= f->random << 13;
    f->random ^= f->random >> 17;
    f->random ^= f->random << 5;
    return f->random;
}

/* Nano's structure; the released one with everything that it lacks; one without hierarchy and with odd widths. */
enum { FORGE_CONFIGS = 3 };
static const hpcm_config forge_configs[FORGE_CONFIGS] = {
    {.M = 16, .N = 8, .stem = HPCM_UNSHUFFLE8, .stages = {2, 2, 2, 2}, .blocks = {{1, 0}, {0, 1}, {1, 0}, {1, 0}},
     .widths = {{16, 16}, {16, 16}, {16, 8}, {8, 32}}, .partial = 4, .ratio = 3, .prior_width = 16,
     .prior_coarse = {1, 0, 0}, .prior_fine = {1, 1, 0}, .has_prior_fine = 1, .steps = {2, 3, 6}, .hierarchy = 1,
     .psi_is_context = 1, .refine = 1, .paired_gains = 1, .levels = 64},
    {.M = 8, .N = 6, .stem = HPCM_CONV4, .stages = {4, 4, 2, 2},
     .blocks = {{1, 0, 0, 0}, {0, 0, 0, 1}, {0, 1}, {0, 1}},
     .widths = {{4, 6, 8, 8}, {8, 8, 6, 4}, {8, 8}, {8, 16}}, .partial = 2, .ratio = 2, .prior_width = 24,
     .prior_coarse = {0, 1, 1}, .adaptor_blocks = {1, 0, 1}, .steps = {4, 1, 12}, .hierarchy = 1, .context_net = 1,
     .released_placement = 1, .levels = 2},
    {.M = 8, .N = 5, .stem = HPCM_CONV2, .stages = {4, 4, 2, 2},
     .blocks = {{0, 1, 0, 0}, {0, 0, 1, 0}, {0, 0}, {1, 0}},
     .widths = {{3, 5, 7, 8}, {8, 7, 5, 3}, {8, 7}, {9, 16}}, .partial = 1, .ratio = 1, .prior_width = 11,
     .prior_coarse = {1, 0, 1}, .steps = {1, 1, 2}, .refine = 1, .levels = 1},
};

/* A whole number from -most to most. */
static int32_t forge_within(forge *f, int32_t most) {
    return (int32_t)(forge_random(f) % (2 * (uint32_t)most + 1)) - most;
}

/* A number from low to high. */
static float forge_float(forge *f, float low, float high) {
    return low + (high - low) * (float)(forge_random(f) >> 8) / 16777216.0f;
}

/* A new array NAME.PART, or NAME where part is null: where its numbers go to. */
static void *forge_array(forge *f, const char *name, const char *part, hpcm_type type, int32_t dimensions,
                         const int64_t *shape) {
    const size_t sizes[] = {1, 2, 4, 2, 4};
    size_t numbers = 1;
    char *whole = malloc(FORGE_NAME);
    hpcm_array *array = &f->arrays[f->count++];
    if (f->count == FORGE_MAX_ARRAYS || !whole) abort();
    snprintf(whole, FORGE_NAME, part ? "%s.%s" : "%s", name, part);
    *array = (hpcm_array){whole, 0, {0}, dimensions, type};
    for (int32_t d = 0; d < dimensions; d++) {
        array->shape[d] = shape[d];
        numbers *= (size_t)shape[d];
    }
    void *data = malloc(numbers * sizes[type]);
    if (!data) abort();
    array->data = data;
    return data;
}

static void forge_fill(forge *f, const char *name, int32_t dimensions, const int64_t *shape, float low, float high) {
    float *to = forge_array(f, name, 0, HPCM_FLOAT32, dimensions, shape);
    int64_t numbers = 1;
    for (int32_t d = 0; d < dimensions; d++) numbers *= shape[d];
    for (int64_t i = 0; i < numbers; i++) to[i] = forge_float(f, low, high);
}

/* An exact layer whose outputs are about as large as its inputs: those are counted in sixteenths, and weights have half
 * the size that the narrower of the two bounds allows. `terms` are added up in each sum. */
static void forge_layer(forge *f, const char *name, int32_t outputs, const int64_t shape[4], int32_t inputs,
                        int32_t terms) {
    enum { LIMIT = 127, INPUT_BITS = 4, MAX_BIAS = 64 };
    const double bound = 16777216;
    const int64_t out[1] = {outputs}, in[1] = {inputs};
    int32_t most = (int32_t)(bound / 2 / LIMIT / terms);
    most = most > 127 ? 127 : most < 1 ? 1 : most;
    int exponent = -INPUT_BITS;
    for (double size = most; size * size * terms > 4; size /= 2) exponent--;
    int64_t weights = shape[0] * shape[1] * shape[2] * shape[3];
    int8_t *weight = forge_array(f, name, "weight", HPCM_INT8, 4, shape);
    for (int64_t i = 0; i < weights; i++) weight[i] = (int8_t)forge_within(f, most);
    int32_t *bias = forge_array(f, name, "bias", HPCM_INT32, 1, out);
    int8_t *exponents = forge_array(f, name, "exponent", HPCM_INT8, 1, out);
    for (int32_t o = 0; o < outputs; o++) {
        bias[o] = forge_within(f, MAX_BIAS);
        exponents[o] = (int8_t)exponent;
    }
    int8_t *input_bits = forge_array(f, name, "input_bits", HPCM_INT8, 1, in);
    memset(input_bits, INPUT_BITS, (size_t)inputs);
    int32_t *limit = forge_array(f, name, "limit", HPCM_INT32, 0, 0);
    *limit = LIMIT;
}

static void forge_dense(forge *f, const char *name, int32_t inputs, int32_t outputs, int32_t side) {
    const int64_t shape[4] = {outputs, inputs, side, side};
    forge_layer(f, name, outputs, shape, inputs, inputs * side * side);
}

static void forge_transposed(forge *f, const char *name, int32_t inputs, int32_t outputs, int32_t side) {
    const int64_t shape[4] = {inputs, outputs, side, side};
    forge_layer(f, name, outputs, shape, inputs, inputs * side * side / 4);
}

static void forge_blocks(forge *f, const char *name, int32_t first, int32_t count, int32_t width, int32_t partial,
                         int32_t ratio, int is_depthwise) {
    char part[FORGE_NAME];
    for (int32_t i = first; i < first + count; i++) {
        snprintf(part, sizeof part, "%s.%d.spatial", name, (int)i);
        if (is_depthwise) {
            const int64_t shape[4] = {width, 1, 3, 3};
            forge_layer(f, part, width, shape, width, 9);
        } else {
            forge_dense(f, part, width / partial, width / partial, 3);
        }
        snprintf(part, sizeof part, "%s.%d.expand", name, (int)i);
        forge_dense(f, part, width, ratio * width, 1);
        snprintf(part, sizeof part, "%s.%d.project", name, (int)i);
        forge_dense(f, part, ratio * width, width, 1);
    }
}

/* g_a, g_s, h_a and h_s, as model.c puts them together. */
static void forge_transforms(forge *f, const hpcm_config *c) {
    char name[FORGE_NAME];
    int32_t unshuffle = c->stem == HPCM_UNSHUFFLE8, at = unshuffle, last = c->stages[1] - 1;
    int32_t side = unshuffle ? 1 : c->stem == HPCM_CONV4 ? 4 : 2, colours = unshuffle ? 3 * 64 : 3;
    snprintf(name, sizeof name, "g_a.%d", (int)at++);
    forge_dense(f, name, colours, c->widths[0][0], side);
    for (int32_t stage = 0; stage < c->stages[0]; stage++) {
        snprintf(name, sizeof name, "g_a.%d", (int)at);
        if (stage) forge_dense(f, name, c->widths[0][stage - 1], c->widths[0][stage], 2);
        at += stage > 0;
        forge_blocks(f, "g_a", at, c->blocks[0][stage], c->widths[0][stage], c->partial, c->ratio, 0);
        at += c->blocks[0][stage];
    }
    at = 0;
    for (int32_t stage = 0; stage <= last; stage++) {
        forge_blocks(f, "g_s", at, c->blocks[1][stage], c->widths[1][stage], c->partial, c->ratio, 0);
        at += c->blocks[1][stage];
        snprintf(name, sizeof name, "g_s.%d", (int)at++);
        if (stage < last) forge_transposed(f, name, c->widths[1][stage], c->widths[1][stage + 1], 2);
        else if (unshuffle) forge_dense(f, name, c->widths[1][last], colours, 1);
        else forge_transposed(f, name, c->widths[1][last], colours, side);
    }
    at = 0;
    for (int32_t stage = 0; stage < c->stages[2]; stage++) {
        forge_blocks(f, "h_a", at, c->blocks[2][stage], c->widths[2][stage], c->partial, c->ratio, 0);
        at += c->blocks[2][stage];
        snprintf(name, sizeof name, "h_a.%d", (int)at++);
        forge_dense(f, name, c->widths[2][stage], stage + 1 < c->stages[2] ? c->widths[2][stage + 1] : c->N, 2);
    }
    at = 0;
    for (int32_t stage = 0; stage < c->stages[3]; stage++) {
        snprintf(name, sizeof name, "h_s.%d", (int)at++);
        forge_transposed(f, name, stage ? c->widths[3][stage - 1] : c->N, c->widths[3][stage], 2);
        forge_blocks(f, "h_s", at, c->blocks[3][stage], c->widths[3][stage], c->partial, c->ratio, 0);
        at += c->blocks[3][stage];
    }
}

static void forge_parameters(forge *f, const hpcm_config *c) {
    const char *parts[3] = {"before", "after", "tail"};
    char name[FORGE_NAME];
    int32_t step = 1, until = 0;
    for (int scale = 0; scale < 3; scale++) {
        until += c->steps[scale];
        for (; step < until; step++) {
            snprintf(name, sizeof name, "adaptors.%d", (int)step - 1);
            forge_blocks(f, name, 0, c->adaptor_blocks[scale], 3 * c->M, 1, 2, 1);
            if (c->adaptor_blocks[scale]) continue;
            snprintf(name, sizeof name, "adaptors.%d.0", (int)step - 1);
            forge_dense(f, name, 3 * c->M, c->prior_width, 1);
        }
    }
    for (int prior = 0; prior < 1 + (c->has_prior_fine != 0); prior++) {
        for (int part = 0; part < 3; part++) {
            snprintf(name, sizeof name, "priors.%d.%s", prior, parts[part]);
            forge_blocks(f, name, 0, (prior ? c->prior_fine : c->prior_coarse)[part],
                         part == 2 ? 2 * c->M : c->prior_width, 1, 2, 1);
        }
        snprintf(name, sizeof name, "priors.%d.head", prior);
        forge_dense(f, name, c->prior_width, 2 * c->M, 1);
    }
    for (int i = 0; c->context_net && i < 2; i++) {
        snprintf(name, sizeof name, "context_nets.%d", i);
        forge_dense(f, name, 2 * c->M, 2 * c->M, 1);
    }
}

static void forge_gains(forge *f, const hpcm_config *c) {
    const int64_t z[4] = {1, c->N, 1, 1}, y_knots[2] = {FORGE_KNOTS, c->M}, z_knots[2] = {FORGE_KNOTS, c->N};
    const int64_t step_knots[2] = {c->levels > 1 ? FORGE_KNOTS : 1, c->prior_width};
    char name[FORGE_NAME];
    forge_fill(f, "z_means", 4, z, -1, 1);
    forge_fill(f, "z_scales", 4, z, 0.1f, 4);
    if (c->levels > 1) {
        forge_fill(f, "y_gain.knots", 2, y_knots, 0.5f, 2);
        forge_fill(f, "y_inverse.knots", 2, y_knots, 0.5f, 2);
        forge_fill(f, "z_gain.knots", 2, z_knots, 0.5f, 2);
        forge_fill(f, "z_inverse.knots", 2, z_knots, 0.5f, 2);
    }
    for (int32_t step = 1; step < c->steps[0] + c->steps[1] + c->steps[2]; step++) {
        snprintf(name, sizeof name, "gains.%d.knots", (int)step - 1);
        forge_fill(f, name, 2, step_knots, 0.5f, 2);
    }
}

/* Scales from 0.1 up, each with symbols as far as four times that, less frequent the farther out. */
static void forge_tables(forge *f) {
    enum { UNITS = 1 << 16, MAX_RADIUS = 255 };
    int64_t count[1] = {FORGE_TABLES}, total[1] = {0};
    float *scales = forge_array(f, "tables.scales", 0, HPCM_FLOAT32, 1, count);
    int32_t *radius = forge_array(f, "tables.radius", 0, HPCM_INT32, 1, count);
    float scale = 0.1f;
    for (int t = 0; t < FORGE_TABLES; t++, scale *= 1.35f) {
        scales[t] = scale;
        radius[t] = scale * 4 < MAX_RADIUS ? (int32_t)(scale * 4) : MAX_RADIUS;
        total[0] += 2 * radius[t] + 2;
    }
    int32_t *frequencies = forge_array(f, "tables.frequencies", 0, HPCM_INT32, 1, total);
    for (int t = 0; t < FORGE_TABLES; t++) {
        int32_t r = radius[t], left = UNITS, share = UNITS / (r + 1) / (r + 1);
        for (int32_t s = -r; s <= r; s++) left -= frequencies[s + r] = 1 + (share - 1) * (r + 1 - abs(s)) / 2;
        frequencies[2 * r + 1] = 16; /* the escape */
        frequencies[r] += left - 16;
        frequencies += 2 * r + 2;
    }
}

/* All arrays of a model of this configuration. forge_free frees them. */
static forge *forge_arrays(const hpcm_config *config, uint32_t seed) {
    forge *f = calloc(1, sizeof *f);
    if (!f) abort();
    f->random = seed;
    forge_transforms(f, config);
    forge_parameters(f, config);
    forge_gains(f, config);
    forge_tables(f);
    return f;
}

static void forge_free(forge *f) {
    for (size_t i = 0; i < f->count; i++) {
        free((void *)f->arrays[i].name);
        free((void *)f->arrays[i].data);
    }
    free(f);
}

/* A model of this configuration, the same for the same seed (not 0). The program ends if there is none.
 * kernels: as for hpcm_model_create. */
static inline hpcm_model *forge_model(const hpcm_config *config, int32_t threads, uint32_t seed, const char *kernels) {
    char message[HPCM_MESSAGE];
    hpcm_model *model;
    forge *f = forge_arrays(config, seed);
    hpcm_status status = hpcm_model_create(config, f->arrays, f->count, threads, kernels, &model, message);
    forge_free(f);
    if (status == HPCM_OK) return model;
    fprintf(stderr, "the model is refused (status %d): %s\n", (int)status, message);
    abort();
}

#endif
