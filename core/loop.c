/* The loop (paper, section 3.2 and figure 3): z in one step, then y, coarse to fine. Each step's scales and means follow
 * from the context and from what is decoded so far. `step` counts all steps, that of z as 0; `index` counts those of y,
 * as schedule.h does. */
#include "loop.h"

#include <math.h>
#include <string.h>

static const float MAX_SYMBOL = 1073741824.0f; /* 2^30: beyond it, which no sound model reaches, symbols are clamped */

/* Some numbers of a step: those of one group at one place of the lattice. */
typedef struct {
    int32_t place;   /* on the lattice, row by row */
    int32_t source;  /* of y or z, row by row */
    int32_t first;   /* of the step's symbols; -1 outside the picture, where none is coded */
    int32_t channel; /* where the group begins */
} run;

/* What a step's symbols are coded with: scales and means, `stride` numbers from place to place. */
typedef struct {
    const float *scales, *means;
    ptrdiff_t stride;
    const float *gain, *inverse; /* [channels] */
} parameters;

/* A latent's lattice at a step, and the arrays on it. */
typedef struct {
    const hpcm_lattice *lattice;
    int32_t index;            /* what the lattice's order has at the places of this step */
    int32_t groups, channels; /* channels: of all groups */
    int32_t rows, columns;    /* of the latent itself that touch the picture */
    int32_t source_columns;   /* of the latent itself */
    const float *source;      /* to record */
    float *keep;
    const float *known;
    float *decoded;
} latent;

/* The runs of a step, in the order of its symbols. */
static int32_t list_runs(const latent *l, run *runs, int32_t *symbols) {
    const hpcm_lattice *lattice = l->lattice;
    int32_t count = 0, size = l->channels / l->groups;
    *symbols = 0;
    for (int32_t i = 0; i < lattice->rows; i++)
        for (int32_t j = 0; j < lattice->columns; j++)
            for (int32_t g = 0; g < l->groups; g++) {
                if (lattice->order[g][i % lattice->period][j % lattice->period] != l->index) continue;
                int32_t row = lattice->stride * i + lattice->phase[g][0];
                int32_t column = lattice->stride * j + lattice->phase[g][1];
                int inside = row < l->rows && column < l->columns;
                runs[count++] = (run){i * lattice->columns + j, row * l->source_columns + column,
                                      inside ? *symbols : -1, g * size};
                if (inside) *symbols += size;
            }
    return count;
}

/* ---- a step's symbols ------------------------------------------------------------------------------------------------- */

/* What is done to the runs of a step, some of them at a time. */
typedef struct {
    const hpcm_model *model;
    const latent *l;
    const parameters *p;
    const run *runs;
    int32_t count, size; /* size: numbers of a run */
    int32_t *symbols;
    uint8_t *indexes;
    void (*each)(const void *step, const run *r);
} step_runs;

enum { RUNS_AT_ONCE = 128 };

static void some_runs(void *context, int index, int thread) {
    const step_runs *s = context;
    int32_t end = (index + 1) * RUNS_AT_ONCE;
    (void)thread;
    for (int32_t r = index * RUNS_AT_ONCE; r < end && r < s->count; r++) s->each(s, &s->runs[r]);
}

static void for_each_run(step_runs *s, void (*each)(const void *step, const run *r)) {
    s->each = each;
    hpcm_share_out(s->model->runtime, some_runs, s, (s->count + RUNS_AT_ONCE - 1) / RUNS_AT_ONCE);
}

/* The tables of a run's symbols. */
static void choose_tables(const void *step, const run *r) {
    const step_runs *s = step;
    if (r->first < 0) return;
    const float *scales = s->p->scales + r->place * s->p->stride + r->channel, *gain = s->p->gain + r->channel;
    uint8_t *indexes = s->indexes + r->first;
    for (int32_t c = 0; c < s->size; c++) indexes[c] = hpcm_table_of(s->model->tables, scales[c] * gain[c]);
}

/* symbol = round(y - mean) */
static void round_latent(const void *step, const run *r) {
    const step_runs *s = step;
    if (r->first < 0) return;
    const float *means = s->p->means + r->place * s->p->stride + r->channel, *gain = s->p->gain + r->channel;
    const float *source = s->l->source + (ptrdiff_t)r->source * s->l->channels + r->channel;
    int32_t *symbols = s->symbols + r->first;
    for (int32_t c = 0; c < s->size; c++) {
        float value = rintf(gain[c] * source[c] - means[c] * gain[c]);
        value = value > -MAX_SYMBOL ? value : -MAX_SYMBOL;
        value = value < MAX_SYMBOL ? value : MAX_SYMBOL;
        symbols[c] = (int32_t)value;
    }
}

/* y_hat = symbol + mean; outside the picture the symbol is 0. */
static void reconstruct(const void *step, const run *r) {
    const step_runs *s = step;
    const float *means = s->p->means + r->place * s->p->stride + r->channel;
    const float *gain = s->p->gain + r->channel, *inverse = s->p->inverse + r->channel;
    ptrdiff_t place = (ptrdiff_t)r->place * s->l->channels + r->channel;
    float *decoded = s->l->decoded + place;
    for (int32_t c = 0; c < s->size; c++) {
        float symbol = r->first < 0 ? 0.0f : (float)s->symbols[r->first + c];
        float value = symbol + means[c] * gain[c];
        if (s->l->keep) s->l->keep[place + c] = value;
        decoded[c] = value * inverse[c];
    }
}

/* y_hat is what is known, else the mean. */
static void fill_in(const void *step, const run *r) {
    const step_runs *s = step;
    const float *means = s->p->means + r->place * s->p->stride + r->channel;
    const float *gain = s->p->gain + r->channel, *inverse = s->p->inverse + r->channel;
    ptrdiff_t place = (ptrdiff_t)r->place * s->l->channels + r->channel;
    for (int32_t c = 0; c < s->size; c++) {
        float known = s->l->known[place + c], mean = means[c] * gain[c];
        s->l->decoded[place + c] = (isnan(known) ? mean : known) * inverse[c];
    }
}

/* The symbols of a step are coded, or come from the payload, or are zeros. */
static hpcm_status code_symbols(hpcm_driver *driver, step_runs *s, size_t coded, int32_t step) {
    if (driver->mode == HPCM_RECORD) {
        for_each_run(s, round_latent);
        for_each_run(s, choose_tables);
        HPCM_TRY(hpcm_encoder_push(driver->encoder, s->symbols, s->indexes, coded));
    } else if (step < driver->to_read) {
        for_each_run(s, choose_tables);
        HPCM_TRY(hpcm_decoder_pop(driver->decoder, s->indexes, coded, s->symbols));
    } else {
        memset(s->symbols, 0, coded * sizeof *s->symbols);
        return HPCM_OK;
    }
    driver->checksum = hpcm_checksum(s->symbols, coded, driver->checksum);
    return HPCM_OK;
}

/* One step. */
static hpcm_status drive(const hpcm_call *call, hpcm_driver *driver, const latent *l, const parameters *p,
                         int32_t step) {
    size_t mark = hpcm_mark(call->scratch);
    uint64_t places = (uint64_t)l->lattice->rows * (uint64_t)l->lattice->columns;
    run *runs = hpcm_take(call->scratch, places * (uint64_t)l->groups, sizeof *runs);
    if (!runs) return HPCM_NO_MEMORY;
    step_runs s = {.model = call->model, .l = l, .p = p, .runs = runs, .size = l->channels / l->groups};
    int32_t coded;
    s.count = list_runs(l, runs, &coded);
    if (driver->mode == HPCM_FILL) {
        for_each_run(&s, fill_in);
    } else {
        s.symbols = hpcm_take(call->scratch, (uint64_t)coded, sizeof *s.symbols);
        s.indexes = hpcm_take(call->scratch, (uint64_t)coded, sizeof *s.indexes);
        if (!s.symbols || !s.indexes) return HPCM_NO_MEMORY;
        HPCM_TRY(code_symbols(driver, &s, (size_t)coded, step));
        for_each_run(&s, reconstruct);
    }
    hpcm_release(call->scratch, mark);
    return HPCM_OK;
}

/* After a step, a part of the payload may end. */
static hpcm_status end_part(const hpcm_call *call, hpcm_driver *driver, int32_t step) {
    int32_t ends[HPCM_PARTS];
    if (driver->mode != HPCM_RECORD) return HPCM_OK;
    hpcm_part_ends(&call->model->config, ends);
    for (int part = 0; part < HPCM_PARTS; part++)
        if (step + 1 == ends[part]) {
            driver->checksums[part] = driver->checksum;
            if (part + 1 < HPCM_PARTS) HPCM_TRY(hpcm_encoder_cut(driver->encoder));
        }
    return HPCM_OK;
}

static void forget(float *values, uint64_t count) {
    if (!values) return;
    for (uint64_t i = 0; i < count; i++) values[i] = NAN;
}

/* ---- the hyper latent ------------------------------------------------------------------------------------------------- */

/* Codes z in one step; hyper [h][w][2M]. */
static hpcm_status code_hyper(const hpcm_call *call, hpcm_driver *driver, int32_t h, int32_t w, hpcm_map *hyper) {
    const hpcm_model *model = call->model;
    int32_t N = model->config.N, level = driver->level;
    int32_t rows = h / HPCM_LATENTS_PER_Z, columns = w / HPCM_LATENTS_PER_Z;
    hpcm_lattice lattice = {.rows = rows, .columns = columns, .period = 1, .stride = 1};
    HPCM_TRY(hpcm_new_map(call, rows, columns, N, hyper));
    const latent l = {
        .lattice = &lattice,
        .groups = 1,
        .channels = N,
        .rows = (driver->rows + HPCM_LATENTS_PER_Z - 1) / HPCM_LATENTS_PER_Z,
        .columns = (driver->columns + HPCM_LATENTS_PER_Z - 1) / HPCM_LATENTS_PER_Z,
        .source_columns = columns,
        .source = driver->z,
        .keep = driver->keep_z,
        .known = driver->known_z,
        .decoded = hyper->values,
    };
    const parameters p = {model->z_scales, model->z_means, 0, model->z_gain + (ptrdiff_t)level * N,
                          model->z_inverse + (ptrdiff_t)level * N};
    HPCM_TRY(drive(call, driver, &l, &p, 0));
    return hpcm_apply(call, &model->hyper_synthesis, hyper);
}

/* ---- between scales --------------------------------------------------------------------------------------------------- */

/* Where the place of a coarser lattice lies on a finer one, for a group. */
static void place_on(const hpcm_lattice *coarse, const hpcm_lattice *fine, int g, int32_t place[2]) {
    for (int axis = 0; axis < 2; axis++) place[axis] = (coarse->phase[g][axis] - fine->phase[g][axis]) / fine->stride;
}

/* 1 for y_hat, of M channels; 2 for scales and means. */
static int tensors_of(const hpcm_map *map, const hpcm_config *config) {
    return map->channels / config->M;
}

/* From a lattice to the coarser one. */
static void gather(const hpcm_config *config, const hpcm_lattice *fine, const hpcm_lattice *coarse, const hpcm_map *from,
                   hpcm_map *to) {
    int32_t size = config->M / HPCM_GROUPS, times = coarse->stride / fine->stride;
    for (int g = 0; g < HPCM_GROUPS; g++) {
        int32_t phase[2];
        place_on(coarse, fine, g, phase);
        for (int32_t i = 0; i < coarse->rows; i++)
            for (int32_t j = 0; j < coarse->columns; j++)
                for (int t = 0; t < tensors_of(from, config); t++) {
                    ptrdiff_t channel = t * config->M + g * size;
                    ptrdiff_t source = (ptrdiff_t)(times * i + phase[0]) * fine->columns + times * j + phase[1];
                    ptrdiff_t target = (ptrdiff_t)i * coarse->columns + j;
                    memcpy(to->values + target * to->channels + channel, from->values + source * from->channels + channel,
                           (size_t)size * sizeof(float));
                }
    }
}

/* From a lattice to the finer one: `fill`, or zeros, at the places that the coarser one doesn't see. */
static void scatter(const hpcm_config *config, const hpcm_lattice *coarse, const hpcm_lattice *fine, const hpcm_map *from,
                    const hpcm_map *fill, hpcm_map *to) {
    int32_t size = config->M / HPCM_GROUPS, times = coarse->stride / fine->stride;
    for (int32_t i = 0; i < fine->rows; i++)
        for (int32_t j = 0; j < fine->columns; j++)
            for (int g = 0; g < HPCM_GROUPS; g++) {
                int seen = fine->order[g][i % fine->period][j % fine->period] < fine->first;
                ptrdiff_t target = ((ptrdiff_t)i * fine->columns + j) * to->channels + g * size;
                ptrdiff_t source = ((ptrdiff_t)(i / times) * coarse->columns + j / times) * from->channels + g * size;
                for (int t = 0; t < tensors_of(to, config); t++) {
                    ptrdiff_t shift = t * config->M;
                    float *values = to->values + target + shift;
                    size_t bytes = (size_t)size * sizeof *values;
                    if (seen) memcpy(values, from->values + source + shift, bytes);
                    else if (fill) memcpy(values, fill->values + target + shift, bytes);
                    else memset(values, 0, bytes);
                }
            }
}

/* The places, in a cell of 2 x 2 on the half-resolution lattice, that the released code takes for "coded on scale 1", by
 * group; the ones that really are differ. So what it gives scale 2 is misplaced: the places that it believes to be free
 * are read row by row and written row by row into those that really are free. */
static const int8_t RELEASED_CODED[8][2] = {{0, 0}, {0, 0}, {0, 0}, {0, 0}, {0, 1}, {0, 1}, {0, 1}, {0, 1}};

static void misplace(const hpcm_config *config, const hpcm_lattice *lattice, const hpcm_map *from, hpcm_map *to) {
    int32_t size = config->M / HPCM_GROUPS, all = lattice->rows * lattice->columns;
    memcpy(to->values, from->values, (size_t)all * (size_t)from->channels * sizeof(float));
    for (int g = 0; g < HPCM_GROUPS; g++) {
        int32_t source = 0;
        for (int32_t target = 0; target < all; target++) {
            int32_t i = target / lattice->columns, j = target % lattice->columns;
            if (lattice->order[g][i % lattice->period][j % lattice->period] < lattice->first) continue;
            while (source / lattice->columns % 2 == RELEASED_CODED[g][0] &&
                   source % lattice->columns % 2 == RELEASED_CODED[g][1])
                source++;
            for (int t = 0; t < 2; t++) {
                ptrdiff_t channel = t * config->M + g * size;
                memcpy(to->values + (ptrdiff_t)target * to->channels + channel,
                       from->values + (ptrdiff_t)source * from->channels + channel, (size_t)size * sizeof(float));
            }
            source++;
        }
    }
}

/* The hyper parameters as each scale is given them. */
static hpcm_status hyper_pyramid(const hpcm_call *call, const hpcm_lattice lattices[3], const hpcm_map *hyper,
                                 hpcm_map pyramid[3]) {
    const hpcm_config *config = &call->model->config;
    pyramid[2] = *hyper;
    for (int scale = 1; scale >= 0; scale--) {
        const hpcm_lattice *lattice = &lattices[scale];
        if (!config->hierarchy) {
            pyramid[scale] = *hyper;
            continue;
        }
        HPCM_TRY(hpcm_new_map(call, lattice->rows, lattice->columns, hyper->channels, &pyramid[scale]));
        gather(config, &lattices[scale + 1], lattice, &pyramid[scale + 1], &pyramid[scale]);
    }
    if (config->released_placement && config->hierarchy) {
        hpcm_map moved;
        HPCM_TRY(hpcm_new_map(call, lattices[1].rows, lattices[1].columns, hyper->channels, &moved));
        misplace(config, &lattices[1], &pyramid[1], &moved);
        pyramid[1] = moved;
    }
    return HPCM_OK;
}

/* ---- the latent ------------------------------------------------------------------------------------------------------- */

typedef struct {
    hpcm_map context, other, y_hat; /* other: of the context's size, for the next psi */
} state;

/* What the loop goes on with on a scale's lattice: from the scale before, and from the hyper parameters. */
static hpcm_status enter_scale(const hpcm_call *call, const hpcm_lattice lattices[3], int scale, const hpcm_map *hyper,
                               state *s) {
    const hpcm_config *config = &call->model->config;
    const hpcm_lattice *lattice = &lattices[scale];
    state next;
    HPCM_TRY(hpcm_new_map(call, lattice->rows, lattice->columns, 2 * config->M, &next.context));
    HPCM_TRY(hpcm_new_map(call, lattice->rows, lattice->columns, 2 * config->M, &next.other));
    HPCM_TRY(hpcm_new_map(call, lattice->rows, lattice->columns, config->M, &next.y_hat));
    size_t places = (size_t)lattice->rows * (size_t)lattice->columns;
    if (scale == 0) {
        memcpy(next.context.values, hyper->values, places * (size_t)hyper->channels * sizeof(float));
        memset(next.y_hat.values, 0, places * (size_t)config->M * sizeof(float));
    } else {
        scatter(config, &lattices[scale - 1], lattice, &s->context, hyper, &next.context);
        scatter(config, &lattices[scale - 1], lattice, &s->y_hat, 0, &next.y_hat);
        if (config->context_net)
            HPCM_TRY(hpcm_convolve_in_place(call, &call->model->context_nets[scale - 1], &next.context));
    }
    *s = next;
    return HPCM_OK;
}

static latent latent_on(const hpcm_config *config, const hpcm_driver *driver, const hpcm_lattice lattices[3], int scale,
                        int32_t index, int32_t w, const state *s) {
    return (latent){
        .lattice = &lattices[scale],
        .index = index,
        .groups = HPCM_GROUPS,
        .channels = config->M,
        .rows = driver->rows,
        .columns = driver->columns,
        .source_columns = w,
        .source = driver->y,
        .keep = driver->keep_y[scale],
        .known = driver->known_y[scale],
        .decoded = s->y_hat.values,
    };
}

static hpcm_status code_latent(const hpcm_call *call, hpcm_driver *driver, int32_t h, int32_t w, const hpcm_map *hyper,
                               state *s) {
    const hpcm_model *model = call->model;
    const hpcm_config *config = &model->config;
    int32_t M = config->M, level = driver->level;
    hpcm_lattice lattices[3];
    hpcm_map pyramid[3];
    hpcm_make_lattices(config, h, w, lattices);
    HPCM_TRY(hyper_pyramid(call, lattices, hyper, pyramid));
    for (int32_t step = 1; step <= model->step_count && step < driver->steps; step++) {
        int32_t index = step - 1;
        int scale = hpcm_scale_of_step(config, index);
        const hpcm_map *psi = &s->context;
        if (index == lattices[scale].first) {
            HPCM_TRY(enter_scale(call, lattices, scale, &pyramid[scale], s));
            forget(driver->keep_y[scale],
                   (uint64_t)lattices[scale].rows * (uint64_t)lattices[scale].columns * (uint64_t)M);
        }
        if (index) { /* the first one takes the hyper parameters themselves */
            HPCM_TRY(hpcm_parameters(call, index, scale, level, &s->context, &s->y_hat, &s->other));
            psi = &s->other;
        }
        const latent l = latent_on(config, driver, lattices, scale, index, w, s);
        const parameters p = {psi->values, psi->values + M, 2 * M, model->y_gain + (ptrdiff_t)level * M,
                              model->y_inverse + (ptrdiff_t)level * M};
        HPCM_TRY(drive(call, driver, &l, &p, step));
        HPCM_TRY(end_part(call, driver, step));
        if (index && config->psi_is_context) {
            hpcm_map context = s->other;
            s->other = s->context;
            s->context = context;
        }
    }
    return HPCM_OK;
}

hpcm_status hpcm_code(const hpcm_call *call, hpcm_driver *driver, int32_t h, int32_t w, float *y_hat) {
    hpcm_map hyper;
    state s = {{0}, {0}, {0}};
    uint64_t z_places = (uint64_t)(h / HPCM_LATENTS_PER_Z) * (uint64_t)(w / HPCM_LATENTS_PER_Z);
    forget(driver->keep_z, z_places * (uint64_t)call->model->config.N);
    HPCM_TRY(code_hyper(call, driver, h, w, &hyper));
    HPCM_TRY(code_latent(call, driver, h, w, &hyper, &s));
    if (y_hat) memcpy(y_hat, s.y_hat.values, (size_t)h * (size_t)w * (size_t)call->model->config.M * sizeof *y_hat);
    return HPCM_OK;
}
