/* From a weights file's arrays to layers that are ready for the kernels. Nothing of the file is trusted: every shape and
 * every bound is checked before memory is taken. */
#include "arithmetic.h"
#include "model.h"
#include "schedule.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    KNOTS = 6, /* levels at which gains are learned */
    MAX_WIDTH = 8192,
    MAX_BLOCKS = 64,
    NAME = 64 /* room for the longest name of a network or layer */
};
static const double PARAMETER_BOUND = 16777216.0;  /* 2^24: what float32 holds, for other engines' sake */
static const double TRANSFORM_BOUND = 2147483647.0; /* 2^31 - 1: what int32 holds */
static const double MAX_EXPONENT = 64;
static const double MAX_LIMIT = 4194304;           /* 2^22, of whole inputs: `rounded` in kernels/elementwise.h goes so far */
static const float MAX_NUMBER = 4294967296.0f;     /* 2^32, of any parameter; together with bounded sums, none overflows */

typedef struct {
    hpcm_model *model;
    const hpcm_array *arrays;
    size_t count;
    size_t *used; /* how many of the arrays a layer or network has taken */
    char *message;
} builder;

static hpcm_status refuse(const builder *b, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(b->message, HPCM_MESSAGE, format, arguments);
    va_end(arguments);
    return HPCM_BAD_MODEL;
}

/* ---- memory ----------------------------------------------------------------------------------------------------------- */

static void *own(hpcm_model *model, size_t count, size_t size) {
    if (model->owned_count == model->owned_room) {
        size_t room = 2 * model->owned_room + 64;
        void **owned = realloc(model->owned, room * sizeof *owned);
        if (!owned) return 0;
        model->owned = owned;
        model->owned_room = room;
    }
    void *made = calloc(count ? count : 1, size);
    if (made) model->owned[model->owned_count++] = made;
    return made;
}

void hpcm_model_free(hpcm_model *model) {
    if (!model) return;
    for (size_t i = 0; i < model->owned_count; i++) free(model->owned[i]);
    free(model->owned);
    hpcm_tables_free(model->tables);
    hpcm_runtime_free(model->runtime);
    free(model);
}

/* ---- arrays ----------------------------------------------------------------------------------------------------------- */

static float from_half(uint16_t half) {
    int exponent = half >> 10 & 31, fraction = half & 1023;
    float value = exponent ? ldexpf((float)(fraction + 1024), exponent - 25) : ldexpf((float)fraction, -24);
    if (exponent == 31) value = fraction ? NAN : INFINITY;
    return half >> 15 ? -value : value;
}

static double number(const hpcm_array *array, size_t place) {
    switch (array->type) {
    case HPCM_INT8: return ((const int8_t *)array->data)[place];
    case HPCM_INT16: return ((const int16_t *)array->data)[place];
    case HPCM_INT32: return ((const int32_t *)array->data)[place];
    case HPCM_FLOAT16: return (double)from_half(((const uint16_t *)array->data)[place]);
    default: return (double)((const float *)array->data)[place];
    }
}

static int is_integer(const hpcm_array *array) {
    return array->type == HPCM_INT8 || array->type == HPCM_INT16 || array->type == HPCM_INT32;
}

static int is_float(const hpcm_array *array) {
    return array->type == HPCM_FLOAT16 || array->type == HPCM_FLOAT32;
}

/* The array NAME.PART, or NAME where part is null, of exactly this shape. */
static hpcm_status find(const builder *b, const char *name, const char *part, int dimensions, const int64_t *shape,
                        int integers, const hpcm_array **found) {
    char whole[2 * NAME];
    snprintf(whole, sizeof whole, part ? "%s.%s" : "%s", name, part);
    for (size_t i = 0; i < b->count; i++) {
        const hpcm_array *array = &b->arrays[i];
        if (strcmp(array->name, whole)) continue;
        int fits = array->dimensions == dimensions;
        for (int d = 0; fits && d < dimensions; d++) fits = array->shape[d] == shape[d];
        if (!fits) return refuse(b, "%s has another shape than the configuration asks for", whole);
        if (!(integers ? is_integer : is_float)(array)) return refuse(b, "%s has a wrong type", whole);
        *found = array;
        ++*b->used;
        return HPCM_OK;
    }
    return refuse(b, "there is no %s", whole);
}

/* Finite floats of any type, as floats that the model owns. */
static hpcm_status floats(const builder *b, const char *name, const char *part, int dimensions, const int64_t *shape,
                          float **made) {
    const hpcm_array *array;
    HPCM_TRY(find(b, name, part, dimensions, shape, 0, &array));
    size_t count = 1;
    for (int d = 0; d < dimensions; d++) count *= (size_t)shape[d];
    *made = own(b->model, count, sizeof **made);
    if (!*made) return HPCM_NO_MEMORY;
    for (size_t i = 0; i < count; i++) {
        float value = (float)number(array, i);
        if (!(fabsf(value) <= MAX_NUMBER)) return refuse(b, "%s has a number that is too large", name);
        (*made)[i] = value;
    }
    return HPCM_OK;
}

/* Powers of two whose exponents are an array [count] of integers. */
static hpcm_status powers(const builder *b, const char *name, const char *part, int32_t count, float *made) {
    const hpcm_array *array;
    const int64_t shape[1] = {count};
    HPCM_TRY(find(b, name, part, 1, shape, 1, &array));
    for (int32_t i = 0; i < count; i++) {
        double exponent = number(array, (size_t)i);
        if (fabs(exponent) > MAX_EXPONENT) return refuse(b, "%s.%s has a number that is too large", name, part);
        made[i] = ldexpf(1, (int)exponent);
    }
    return HPCM_OK;
}

static hpcm_status limit_of(const builder *b, const char *name, float *limit) {
    const hpcm_array *array;
    HPCM_TRY(find(b, name, "limit", 0, 0, 1, &array));
    double value = number(array, 0);
    if (value < 1 || value > MAX_LIMIT) return refuse(b, "%s.limit isn't in 1 to %.0f", name, MAX_LIMIT);
    *limit = (float)value;
    return HPCM_OK;
}

/* ---- layers ----------------------------------------------------------------------------------------------------------- */

/* A convolution as the weights file has it. Transposed ones have stride 2: each place gives 2 x 2 outputs. */
typedef struct {
    const char *name;
    int32_t inputs, outputs, side, stride, padding;
    int transposed;
    double bound;
} geometry;

/* The row of a transposed 4x4 kernel with padding 1 that leads from the place `offset` (-1, 0, 1) away to an output of this
 * parity; -1 for none. */
static int tap_of_parity(int parity, int offset) {
    if (parity == 0) return offset == 0 ? 1 : offset == -1 ? 3 : -1;
    return offset == 0 ? 2 : offset == 1 ? 0 : -1;
}

/* The weight from channel c at (row, column) of the dense kernel to output o of it. */
static double weight_of(const hpcm_array *weight, const geometry *g, int32_t o, int32_t row, int32_t column, int32_t c) {
    if (!g->transposed) {
        size_t place = (((size_t)o * (size_t)g->inputs + (size_t)c) * (size_t)g->side + (size_t)row) * (size_t)g->side;
        return number(weight, place + (size_t)column);
    }
    int32_t tap = o / g->outputs, channel = o % g->outputs;
    int ky = tap / 2, kx = tap % 2;
    if (g->side == 4) {
        ky = tap_of_parity(ky, row - 1);
        kx = tap_of_parity(kx, column - 1);
        if (ky < 0 || kx < 0) return 0;
    }
    size_t place = (((size_t)c * (size_t)g->outputs + (size_t)channel) * (size_t)g->side + (size_t)ky) * (size_t)g->side;
    return number(weight, place + (size_t)kx);
}

/* One output's weights into its block, and the bound of its sums. */
static hpcm_status pack_output(const builder *b, const geometry *g, const hpcm_array *weight, const hpcm_dense *dense,
                               int32_t o) {
    int32_t columns = b->model->kernels->columns, pair = 0;
    size_t pairs = (size_t)dense->segments * (size_t)dense->length / 2;
    int16_t *block = dense->weights + (size_t)(o / columns) * pairs * 2 * (size_t)columns + 2 * (o % columns);
    double total = 0;
    for (int32_t row = 0; row < dense->side; row++)
        for (int32_t i = 0; i < dense->length; i += 2, pair++)
            for (int32_t half = 0; half < 2; half++) {
                int32_t c = (i + half) % dense->channels, column = (i + half) / dense->channels;
                double k = c < g->inputs ? weight_of(weight, g, o, row, column, c) : 0;
                if (fabs(k) > INT16_MAX) return refuse(b, "%s.weight has a number that is too large", g->name);
                block[(size_t)pair * 2 * (size_t)columns + (size_t)half] = (int16_t)k;
                total += fabs(k);
            }
    double reach = total * (double)dense->limit + fabs((double)dense->bias[o]);
    if (!(reach <= g->bound))
        return refuse(b, "layer %s breaks the bound of exact arithmetic: its sums reach %.0f of %.0f", g->name, reach,
                      g->bound);
    return HPCM_OK;
}

static hpcm_status make_dense(const builder *b, const geometry *g, hpcm_dense *dense) {
    const int64_t weight_shape[4] = {g->transposed ? g->inputs : g->outputs, g->transposed ? g->outputs : g->inputs,
                                     g->side, g->side};
    const int64_t outputs[1] = {g->outputs};
    const hpcm_array *weight, *bias;
    HPCM_TRY(find(b, g->name, "weight", 4, weight_shape, 1, &weight));
    HPCM_TRY(find(b, g->name, "bias", 1, outputs, 1, &bias));
    HPCM_TRY(limit_of(b, g->name, &dense->limit));
    int32_t taps = g->transposed ? 4 : 1, columns = b->model->kernels->columns;
    dense->inputs = g->inputs;
    dense->outputs = g->outputs * taps;
    dense->side = g->transposed ? g->side - 1 : g->side; /* 2x2: each output has one place; 4x4: three rows and columns */
    dense->stride = g->transposed ? 1 : g->stride;
    dense->padding = g->padding;
    dense->channels = (g->inputs + 1) / 2 * 2;
    dense->segments = dense->side;
    dense->length = dense->side * dense->channels;
    dense->wide = dense->limit > INT16_MAX;
    size_t filled = (size_t)((dense->outputs + columns - 1) / columns * columns);
    dense->weights = own(b->model, filled * (size_t)dense->segments * (size_t)dense->length, sizeof *dense->weights);
    dense->bias = own(b->model, filled, sizeof *dense->bias);
    dense->unit = own(b->model, filled, sizeof *dense->unit);
    dense->scale = own(b->model, (size_t)dense->inputs, sizeof *dense->scale);
    if (!dense->weights || !dense->bias || !dense->unit || !dense->scale) return HPCM_NO_MEMORY;
    HPCM_TRY(powers(b, g->name, "exponent", g->outputs, dense->unit));
    HPCM_TRY(powers(b, g->name, "input_bits", g->inputs, dense->scale));
    for (int32_t o = 0; o < dense->outputs; o++) {
        dense->unit[o] = dense->unit[o % g->outputs];
        double own_bias = number(bias, (size_t)(o % g->outputs));
        dense->bias[o] = (int32_t)own_bias;
        if ((double)(float)own_bias != own_bias) /* other engines have it so */
            return refuse(b, "%s.bias has a number that float32 doesn't hold", g->name);
        HPCM_TRY(pack_output(b, g, weight, dense, o));
    }
    return HPCM_OK;
}

static hpcm_status make_depthwise(const builder *b, const char *name, int32_t channels, hpcm_depthwise *layer) {
    enum { TAPS = 9 };
    const int64_t weight_shape[4] = {channels, 1, 3, 3}, outputs[1] = {channels};
    const hpcm_array *weight, *bias;
    HPCM_TRY(find(b, name, "weight", 4, weight_shape, 1, &weight));
    HPCM_TRY(find(b, name, "bias", 1, outputs, 1, &bias));
    HPCM_TRY(limit_of(b, name, &layer->limit));
    layer->channels = channels;
    layer->weights = own(b->model, (size_t)channels * TAPS, sizeof *layer->weights);
    layer->bias = own(b->model, (size_t)channels, sizeof *layer->bias);
    layer->unit = own(b->model, (size_t)channels, sizeof *layer->unit);
    layer->scale = own(b->model, (size_t)channels, sizeof *layer->scale);
    if (!layer->weights || !layer->bias || !layer->unit || !layer->scale) return HPCM_NO_MEMORY;
    HPCM_TRY(powers(b, name, "exponent", channels, layer->unit));
    HPCM_TRY(powers(b, name, "input_bits", channels, layer->scale));
    for (int32_t c = 0; c < channels; c++) {
        double total = 0;
        for (int tap = 0; tap < TAPS; tap++) {
            double k = number(weight, (size_t)c * TAPS + (size_t)tap);
            layer->weights[(size_t)tap * (size_t)channels + (size_t)c] = (float)k;
            total += fabs(k);
        }
        layer->bias[c] = (float)number(bias, (size_t)c);
        double reach = total * (double)layer->limit + fabs(number(bias, (size_t)c));
        if (!(reach <= PARAMETER_BOUND)) /* of floats, whatever the layer is part of */
            return refuse(b, "layer %s breaks the bound of exact arithmetic: its sums reach %.0f of %.0f", name, reach,
                          PARAMETER_BOUND);
    }
    return HPCM_OK;
}

static hpcm_status make_block(const builder *b, const char *name, int32_t width, int32_t partial, int32_t ratio,
                              int is_depthwise, double bound, hpcm_block *block) {
    char spatial[NAME + 16], expand[NAME + 16], project[NAME + 16];
    snprintf(spatial, sizeof spatial, "%s.spatial", name);
    snprintf(expand, sizeof expand, "%s.expand", name);
    snprintf(project, sizeof project, "%s.project", name);
    block->width = width;
    block->is_depthwise = is_depthwise;
    block->convolved = is_depthwise ? width : width / partial;
    if (is_depthwise) {
        HPCM_TRY(make_depthwise(b, spatial, width, &block->depthwise));
    } else {
        const geometry three = {spatial, block->convolved, block->convolved, 3, 1, 1, 0, bound};
        HPCM_TRY(make_dense(b, &three, &block->spatial));
    }
    const geometry wider = {expand, width, ratio * width, 1, 1, 0, 0, bound};
    const geometry narrower = {project, ratio * width, width, 1, 1, 0, 0, bound};
    HPCM_TRY(make_dense(b, &wider, &block->expand));
    return make_dense(b, &narrower, &block->project);
}

/* ---- networks --------------------------------------------------------------------------------------------------------- */

/* A network that grows by one operation after another; torch counts those as `name`.0, `name`.1, ... */
typedef struct {
    const builder *b;
    const char *name;
    hpcm_network *network;
    double bound;
    int32_t room;
    hpcm_status status;
} sequence;

static hpcm_operation *append(sequence *s, hpcm_kind kind, char name[NAME]) {
    if (s->status != HPCM_OK) return 0;
    if (s->network->count == s->room) {
        s->status = refuse(s->b, "%s has too many layers", s->name);
        return 0;
    }
    if (snprintf(name, NAME, "%s.%d", s->name, (int)s->network->count) >= NAME) {
        s->status = refuse(s->b, "%s is too long a name", s->name);
        return 0;
    }
    hpcm_operation *operation = &s->network->operations[s->network->count++];
    operation->kind = kind;
    return operation;
}

static sequence begin(const builder *b, const char *name, hpcm_network *network, double bound, int32_t room) {
    sequence s = {b, name, network, bound, room, HPCM_OK};
    network->operations = own(b->model, (size_t)room, sizeof *network->operations);
    if (!network->operations) s.status = HPCM_NO_MEMORY;
    return s;
}

static void add_bare(sequence *s, hpcm_kind kind) {
    char name[NAME];
    append(s, kind, name);
}

static void add_convolution(sequence *s, int32_t inputs, int32_t outputs, int32_t side, int32_t stride, int32_t padding) {
    char name[NAME];
    hpcm_operation *operation = append(s, HPCM_DENSE, name);
    if (!operation) return;
    const geometry g = {name, inputs, outputs, side, stride, padding, 0, s->bound};
    s->status = make_dense(s->b, &g, &operation->dense);
}

static void add_doubling(sequence *s, int32_t inputs, int32_t outputs, int32_t side) {
    char name[NAME];
    hpcm_operation *operation = append(s, HPCM_DOUBLE, name);
    if (!operation) return;
    const geometry g = {name, inputs, outputs, side, 2, side == 4, 1, s->bound};
    s->status = make_dense(s->b, &g, &operation->dense);
}

static void add_blocks(sequence *s, int32_t count, int32_t width, int32_t partial, int32_t ratio, int is_depthwise) {
    char name[NAME];
    for (int32_t i = 0; i < count; i++) {
        hpcm_operation *operation = append(s, HPCM_BLOCK, name);
        if (!operation) return;
        s->status = make_block(s->b, name, width, partial, ratio, is_depthwise, s->bound, &operation->block);
    }
}

enum { PICTURE_CHANNELS = 3, ROOM = HPCM_STAGES * (MAX_BLOCKS + 1) + 2 };

static hpcm_status make_analysis(const builder *b) {
    const hpcm_config *c = &b->model->config;
    sequence s = begin(b, "g_a", &b->model->analysis, TRANSFORM_BOUND, ROOM);
    if (c->stem == HPCM_UNSHUFFLE8) add_bare(&s, HPCM_UNSHUFFLE);
    int32_t cell = c->stem == HPCM_UNSHUFFLE8 ? HPCM_CELL * HPCM_CELL : 1;
    int32_t side = c->stem == HPCM_CONV4 ? 4 : c->stem == HPCM_CONV2 ? 2 : 1;
    add_convolution(&s, PICTURE_CHANNELS * cell, c->widths[0][0], side, side == 1 ? 1 : 2, side == 4);
    for (int32_t stage = 0; stage < c->stages[0]; stage++) {
        if (stage) add_convolution(&s, c->widths[0][stage - 1], c->widths[0][stage], 2, 2, 0);
        add_blocks(&s, c->blocks[0][stage], c->widths[0][stage], c->partial, c->ratio, 0);
    }
    return s.status;
}

static hpcm_status make_synthesis(const builder *b) {
    const hpcm_config *c = &b->model->config;
    sequence s = begin(b, "g_s", &b->model->synthesis, TRANSFORM_BOUND, ROOM);
    int32_t last = c->stages[1] - 1;
    for (int32_t stage = 0; stage <= last; stage++) {
        add_blocks(&s, c->blocks[1][stage], c->widths[1][stage], c->partial, c->ratio, 0);
        if (stage < last) add_doubling(&s, c->widths[1][stage], c->widths[1][stage + 1], 2);
    }
    if (c->stem == HPCM_UNSHUFFLE8) {
        add_convolution(&s, c->widths[1][last], PICTURE_CHANNELS * HPCM_CELL * HPCM_CELL, 1, 1, 0);
        add_bare(&s, HPCM_SHUFFLE);
    } else {
        add_doubling(&s, c->widths[1][last], PICTURE_CHANNELS, c->stem == HPCM_CONV4 ? 4 : 2);
    }
    return s.status;
}

static hpcm_status make_hyper_analysis(const builder *b) {
    const hpcm_config *c = &b->model->config;
    sequence s = begin(b, "h_a", &b->model->hyper_analysis, TRANSFORM_BOUND, ROOM);
    for (int32_t stage = 0; stage < c->stages[2]; stage++) {
        int32_t narrower = stage + 1 < c->stages[2] ? c->widths[2][stage + 1] : c->N;
        add_blocks(&s, c->blocks[2][stage], c->widths[2][stage], c->partial, c->ratio, 0);
        add_convolution(&s, c->widths[2][stage], narrower, 2, 2, 0);
    }
    return s.status;
}

static hpcm_status make_hyper_synthesis(const builder *b) {
    const hpcm_config *c = &b->model->config;
    sequence s = begin(b, "h_s", &b->model->hyper_synthesis, PARAMETER_BOUND, ROOM);
    for (int32_t stage = 0; stage < c->stages[3]; stage++) {
        add_doubling(&s, stage ? c->widths[3][stage - 1] : c->N, c->widths[3][stage], 2);
        add_blocks(&s, c->blocks[3][stage], c->widths[3][stage], c->partial, c->ratio, 0);
    }
    return s.status;
}

static hpcm_status make_adaptors(const builder *b) {
    const hpcm_config *c = &b->model->config;
    char name[NAME];
    for (int32_t step = 1; step < b->model->step_count; step++) {
        int32_t blocks = c->adaptor_blocks[hpcm_scale_of_step(c, step)];
        snprintf(name, sizeof name, "adaptors.%d", (int)step - 1);
        sequence s = begin(b, name, &b->model->adaptors[step], PARAMETER_BOUND, MAX_BLOCKS);
        if (blocks) add_blocks(&s, blocks, 3 * c->M, 1, 2, 1);
        else add_convolution(&s, 3 * c->M, c->prior_width, 1, 1, 0);
        HPCM_TRY(s.status);
    }
    return HPCM_OK;
}

static hpcm_status make_prior(const builder *b, int index, const int32_t blocks[3], hpcm_prior *prior) {
    const hpcm_config *c = &b->model->config;
    const char *parts[3] = {"before", "after", "tail"};
    hpcm_network *networks[3] = {&prior->before, &prior->after, &prior->tail};
    char name[NAME];
    for (int part = 0; part < 3; part++) {
        snprintf(name, sizeof name, "priors.%d.%s", index, parts[part]);
        sequence s = begin(b, name, networks[part], PARAMETER_BOUND, MAX_BLOCKS);
        add_blocks(&s, blocks[part], part == 2 ? 2 * c->M : c->prior_width, 1, 2, 1);
        HPCM_TRY(s.status);
    }
    snprintf(name, sizeof name, "priors.%d.head", index);
    const geometry head = {name, c->prior_width, 2 * c->M, 1, 1, 0, 0, PARAMETER_BOUND};
    return make_dense(b, &head, &prior->head);
}

/* ---- gains ------------------------------------------------------------------------------------------------------------ */

/* Knots [KNOTS or 1][channels], interpolated linearly to all levels: [levels][channels]. */
static float *between(const builder *b, const float *knots, int32_t channels) {
    int32_t levels = b->model->config.levels;
    float *made = own(b->model, (size_t)levels * (size_t)channels, sizeof *made);
    if (!made) return 0;
    for (int32_t level = 0; level < levels; level++)
        for (int32_t c = 0; c < channels; c++) {
            if (levels == 1) {
                made[c] = knots[c];
                continue;
            }
            float place = (float)level * (float)((KNOTS - 1) / (double)(levels - 1));
            float low = floorf(place);
            if (low > KNOTS - 2) low = KNOTS - 2;
            float share = place - low;
            const float *lower = knots + (size_t)low * (size_t)channels, *upper = lower + channels;
            float left = lower[c] * (1 - share), right = upper[c] * share;
            made[(size_t)level * (size_t)channels + (size_t)c] = left + right;
        }
    return made;
}

static hpcm_status knots_of(const builder *b, const char *name, int32_t channels, float **knots) {
    const int64_t shape[2] = {b->model->config.levels > 1 ? KNOTS : 1, channels};
    return floats(b, name, "knots", 2, shape, knots);
}

static hpcm_status check_factors(const builder *b, const char *name, const float *factors, int32_t channels) {
    size_t count = (size_t)b->model->config.levels * (size_t)channels;
    for (size_t i = 0; i < count; i++)
        if (!(fabsf(factors[i]) >= 1 / MAX_NUMBER && fabsf(factors[i]) <= MAX_NUMBER)) /* the sign doesn't matter */
            return refuse(b, "%s has a factor beyond 2^-32 to 2^32", name);
    return HPCM_OK;
}

static hpcm_status ones(const builder *b, int32_t channels, float **made) {
    *made = own(b->model, (size_t)channels, sizeof **made);
    if (!*made) return HPCM_NO_MEMORY;
    for (int32_t c = 0; c < channels; c++) (*made)[c] = 1;
    return HPCM_OK;
}

/* The gain of a latent and its learned inverse. "paired" interpolates the gain and the product of both. */
static hpcm_status make_gain(const builder *b, const char *name, const char *inverse_name, int32_t channels, float **gain,
                             float **inverse) {
    const hpcm_config *c = &b->model->config;
    float *knots, *inverse_knots;
    if (c->levels == 1) {
        HPCM_TRY(ones(b, channels, gain));
        return ones(b, channels, inverse);
    }
    HPCM_TRY(knots_of(b, name, channels, &knots));
    HPCM_TRY(knots_of(b, inverse_name, channels, &inverse_knots));
    *gain = between(b, knots, channels);
    if (!*gain) return HPCM_NO_MEMORY;
    HPCM_TRY(check_factors(b, name, *gain, channels));
    if (c->paired_gains)
        for (int32_t i = 0; i < KNOTS * channels; i++) inverse_knots[i] = inverse_knots[i] * knots[i];
    *inverse = between(b, inverse_knots, channels);
    if (!*inverse) return HPCM_NO_MEMORY;
    if (c->paired_gains)
        for (size_t i = 0; i < (size_t)c->levels * (size_t)channels; i++) (*inverse)[i] = (*inverse)[i] / (*gain)[i];
    return check_factors(b, inverse_name, *inverse, channels);
}

static hpcm_status make_gains(const builder *b) {
    hpcm_model *m = b->model;
    const int64_t z_shape[4] = {1, m->config.N, 1, 1};
    char name[NAME];
    HPCM_TRY(floats(b, "z_means", 0, 4, z_shape, &m->z_means));
    HPCM_TRY(floats(b, "z_scales", 0, 4, z_shape, &m->z_scales));
    HPCM_TRY(make_gain(b, "y_gain", "y_inverse", m->config.M, &m->y_gain, &m->y_inverse));
    HPCM_TRY(make_gain(b, "z_gain", "z_inverse", m->config.N, &m->z_gain, &m->z_inverse));
    for (int32_t step = 1; step < m->step_count; step++) {
        float *knots;
        snprintf(name, sizeof name, "gains.%d", (int)step - 1);
        HPCM_TRY(knots_of(b, name, m->config.prior_width, &knots));
        m->step_gains[step] = between(b, knots, m->config.prior_width);
        if (!m->step_gains[step]) return HPCM_NO_MEMORY;
    }
    return HPCM_OK;
}

/* ---- the whole -------------------------------------------------------------------------------------------------------- */

static int within(int32_t value, int32_t low, int32_t high) {
    return low <= value && value <= high;
}

static int steps_fit(const int32_t steps[3]) {
    int coarse = steps[0] == 1 || steps[0] == 2 || steps[0] == 4;
    int middle = steps[1] == 1 || steps[1] == 3;
    int fine = within(steps[2], 1, 12) && 12 % steps[2] == 0;
    return coarse && middle && fine;
}

static int stages_fit(const hpcm_config *c) {
    const int32_t stem_strides[3] = {2, 2, HPCM_CELL};
    int32_t count = 1;
    for (int32_t stride = stem_strides[c->stem]; stride < HPCM_LATENT_STRIDE; stride *= 2) count++;
    const int32_t counts[4] = {count, count, 2, 2};
    const int32_t meeting[4] = {count - 1, 0, 0, 1}; /* the stage that meets y, or the hyper parameters */
    for (int t = 0; t < 4; t++) {
        if (c->stages[t] != counts[t]) return 0;
        for (int32_t stage = 0; stage < counts[t]; stage++) {
            int32_t blocks = c->blocks[t][stage], width = c->widths[t][stage];
            if (!within(blocks, 0, MAX_BLOCKS) || !within(width, 1, MAX_WIDTH)) return 0;
            if (blocks && (width < c->partial || width * (int64_t)c->ratio > 8 * MAX_WIDTH)) return 0;
        }
        if (c->widths[t][meeting[t]] != (t == 3 ? 2 * c->M : c->M)) return 0;
    }
    return 1;
}

static hpcm_status check_config(const builder *b) {
    const hpcm_config *c = &b->model->config;
    int adapted = c->adaptor_blocks[0] || c->adaptor_blocks[1] || c->adaptor_blocks[2];
    int fits = within(c->M, HPCM_GROUPS, MAX_WIDTH) && c->M % HPCM_GROUPS == 0 && within(c->N, 1, MAX_WIDTH) &&
               within(c->stem, HPCM_CONV4, HPCM_UNSHUFFLE8) && within(c->partial, 1, MAX_WIDTH) &&
               within(c->ratio, 1, MAX_WIDTH) && within(c->prior_width, 1, MAX_WIDTH) && within(c->levels, 1, 256) &&
               steps_fit(c->steps) && (!adapted || c->prior_width == 3 * c->M);
    for (int i = 0; fits && i < 3; i++)
        fits = within(c->adaptor_blocks[i], 0, MAX_BLOCKS) && within(c->prior_coarse[i], 0, MAX_BLOCKS) &&
               within(c->prior_fine[i], 0, MAX_BLOCKS);
    return fits && stages_fit(c) ? HPCM_OK : refuse(b, "the configuration has a field beyond its bounds");
}

static hpcm_status make_tables(const builder *b) {
    const hpcm_array *found[3] = {0};
    const char *names[3] = {"tables.scales", "tables.radius", "tables.frequencies"};
    const int types[3] = {HPCM_FLOAT32, HPCM_INT32, HPCM_INT32};
    for (int i = 0; i < 3; i++) {
        for (size_t a = 0; a < b->count; a++)
            if (!strcmp(b->arrays[a].name, names[i])) found[i] = &b->arrays[a];
        if (!found[i]) return refuse(b, "there is no %s", names[i]);
        ++*b->used;
        if (found[i]->dimensions != 1 || found[i]->type != types[i]) return refuse(b, "%s has a wrong type", names[i]);
    }
    int64_t count = found[0]->shape[0];
    if (count < 1 || count > HPCM_MAX_TABLES || found[1]->shape[0] != count || found[2]->shape[0] < 0)
        return refuse(b, "the entropy tables have wrong shapes");
    hpcm_status status = hpcm_tables_create(found[0]->data, found[1]->data, (int32_t)count, found[2]->data,
                                            (size_t)found[2]->shape[0], &b->model->tables);
    return status == HPCM_BAD_ARGUMENT ? refuse(b, "the entropy tables don't add up") : status;
}

static hpcm_status make_all(const builder *b) {
    hpcm_model *m = b->model;
    const hpcm_config *c = &m->config;
    HPCM_TRY(check_config(b));
    m->step_count = hpcm_step_count(c);
    HPCM_TRY(make_tables(b));
    HPCM_TRY(make_gains(b));
    HPCM_TRY(make_analysis(b));
    HPCM_TRY(make_synthesis(b));
    HPCM_TRY(make_hyper_analysis(b));
    HPCM_TRY(make_hyper_synthesis(b));
    HPCM_TRY(make_adaptors(b));
    HPCM_TRY(make_prior(b, 0, c->prior_coarse, &m->priors[0]));
    if (c->has_prior_fine) HPCM_TRY(make_prior(b, 1, c->prior_fine, &m->priors[1]));
    for (int i = 0; c->context_net && i < 2; i++) {
        char name[NAME];
        snprintf(name, sizeof name, "context_nets.%d", i);
        const geometry g = {name, 2 * c->M, 2 * c->M, 1, 1, 0, 0, PARAMETER_BOUND};
        HPCM_TRY(make_dense(b, &g, &m->context_nets[i]));
    }
    /* Each array is asked for once. */
    return *b->used == b->count ? HPCM_OK : refuse(b, "there are arrays that the configuration doesn't ask for");
}

hpcm_status hpcm_model_create(const hpcm_config *config, const hpcm_array *arrays, size_t count, int32_t threads,
                              const char *kernels, hpcm_model **made, char *message) {
    enum { MAX_THREADS = 256 };
    *made = 0;
    message[0] = 0;
    if (threads < 1 || threads > MAX_THREADS) return HPCM_BAD_ARGUMENT;
    const hpcm_kernel_set *chosen;
    HPCM_TRY(hpcm_choose_kernels(kernels, &chosen, message));
    hpcm_model *model = calloc(1, sizeof *model);
    if (!model) return HPCM_NO_MEMORY;
    model->config = *config;
    model->kernels = chosen;
    model->runtime = hpcm_runtime_create(threads);
    size_t used = 0;
    const builder b = {model, arrays, count, &used, message};
    uint64_t arithmetic = hpcm_enter_arithmetic(); /* gains are interpolated */
    hpcm_status status = model->runtime ? make_all(&b) : HPCM_NO_MEMORY;
    hpcm_leave_arithmetic(arithmetic);
    if (status != HPCM_OK) {
        hpcm_model_free(model);
        return status;
    }
    *made = model;
    return HPCM_OK;
}

const char *hpcm_model_kernels(const hpcm_model *model) {
    return model->kernels->name;
}

int hpcm_api_version(void) {
    return HPCM_API_VERSION;
}
