/* The networks on maps of floats: what is rounded to whole numbers, and which sums are made of them.
 *
 *     x --round(x * scale), clamp--> whole numbers --kernels--> sums --* unit--> floats
 *
 * Rows are shared out among the threads. A residual block goes through its layers a few rows at a time, so that what is
 * between them stays in the cache:
 *
 *     x (whole map) --round--> spatial's inputs (whole map)
 *     a few rows:  spatial, and x where it isn't convolved --> expand's inputs --> project's inputs --> + x
 */
#include "model.h"

#include <string.h>

enum { PLACES_AT_ONCE = 96 };

hpcm_status hpcm_check_stop(const hpcm_call *call) {
    return call->check && call->check(call->user) ? HPCM_STOPPED : HPCM_OK;
}

hpcm_status hpcm_new_map(const hpcm_call *call, int32_t rows, int32_t columns, int32_t channels, hpcm_map *map) {
    *map = (hpcm_map){rows, columns, channels, 0};
    map->values = hpcm_take(call->scratch, (uint64_t)rows * (uint64_t)columns * (uint64_t)channels, sizeof *map->values);
    return map->values ? HPCM_OK : HPCM_NO_MEMORY;
}

static float *place_of(const hpcm_map *map, int32_t row, int32_t column) {
    return map->values + ((ptrdiff_t)row * map->columns + column) * map->channels;
}

/* ---- dense layers ----------------------------------------------------------------------------------------------------- */

/* Whole numbers: `low`, and where they don't fit 16 bits, m = high * 2^15 + low. */
typedef struct {
    int16_t *low, *high;
    ptrdiff_t stride; /* between places */
} whole;

static whole whole_at(whole w, ptrdiff_t place) {
    w.low += place * w.stride;
    if (w.high) w.high += place * w.stride;
    return w;
}

/* Room for the inputs of a layer at so many places. */
static hpcm_status new_whole(const hpcm_call *call, const hpcm_dense *dense, uint64_t places, whole *made) {
    uint64_t count = places * (uint64_t)dense->channels;
    *made = (whole){hpcm_take(call->scratch, count, sizeof *made->low), 0, dense->channels};
    if (!made->low) return HPCM_NO_MEMORY;
    if (dense->wide) {
        made->high = hpcm_take(call->scratch, count, sizeof *made->high);
        if (!made->high) return HPCM_NO_MEMORY;
    }
    if (dense->channels != dense->inputs) { /* what evens them out is multiplied by 0 */
        memset(made->low, 0, (size_t)count * sizeof *made->low);
        if (made->high) memset(made->high, 0, (size_t)count * sizeof *made->high);
    }
    return HPCM_OK;
}

/* Floats to a layer's inputs; `first`: the input channel that x begins with. */
static void round_inputs(const hpcm_model *model, const hpcm_dense *dense, const float *x, ptrdiff_t stride,
                         int32_t first, int32_t channels, int32_t places, whole to) {
    model->kernels->round_inputs(x, stride, dense->scale + first, dense->limit, places, channels, to.low + first,
                                 to.high ? to.high + first : 0, to.stride);
}

static void add_high(int32_t *sums, const int32_t *high, int count) {
    for (int i = 0; i < count; i++) sums[i] = (int32_t)((uint32_t)sums[i] + ((uint32_t)high[i] << HPCM_HIGH_SHIFT));
}

/* What a layer makes of `places` neighbours, of which the first has its inputs at `from`. */
static void run_dense(const hpcm_model *model, const hpcm_dense *dense, whole from, ptrdiff_t stride,
                      ptrdiff_t segment_stride, int32_t places, hpcm_finish finish) {
    static const int32_t no_bias[HPCM_MAX_COLUMNS];
    const hpcm_kernel_set *k = model->kernels;
    int32_t sums[HPCM_MAX_PLACES * HPCM_MAX_COLUMNS], high[HPCM_MAX_PLACES * HPCM_MAX_COLUMNS];
    const int16_t *weights = dense->weights;
    size_t block = (size_t)dense->segments * (size_t)dense->length * (size_t)k->columns;
    for (int32_t o = 0; o < dense->outputs; o += k->columns, weights += block) {
        int32_t outputs = dense->outputs - o < k->columns ? dense->outputs - o : k->columns;
        for (int32_t p = 0; p < places; p += k->places) {
            int32_t count = places - p < k->places ? places - p : k->places;
            k->sums(from.low + p * stride, stride, count, dense->segments, segment_stride, dense->length, weights,
                    dense->bias + o, sums);
            if (from.high) {
                k->sums(from.high + p * stride, stride, count, dense->segments, segment_stride, dense->length, weights,
                        no_bias, high);
                add_high(sums, high, count * k->columns);
            }
            hpcm_finish own = finish;
            own.unit = dense->unit + o;
            if (own.added) own.added += p * own.added_stride + o;
            if (own.floats) own.floats += p * own.floats_stride + o;
            if (own.whole) own.whole += p * own.whole_stride + o;
            if (own.high) own.high += p * own.whole_stride + o;
            if (own.scale) own.scale += o;
            k->finish(sums, count, outputs, &own);
        }
    }
}

static hpcm_finish to_floats(float *floats, ptrdiff_t stride) {
    return (hpcm_finish){.floats = floats, .floats_stride = stride};
}

static hpcm_finish to_whole(const hpcm_dense *next, whole to, int activation) {
    return (hpcm_finish){.activation = activation, .whole = to.low, .high = to.high, .whole_stride = to.stride,
                         .scale = next->scale, .limit = next->limit};
}

/* ---- 1x1 convolutions ------------------------------------------------------------------------------------------------- */

/* One or two maps side by side -> a map, a run of places at a time. */
typedef struct {
    const hpcm_model *model;
    const hpcm_dense *dense;
    const hpcm_map *first, *second; /* second: whose channels come behind, or null */
    const hpcm_map *added;          /* or null */
    hpcm_map *result;
    whole inputs; /* room for PLACES_AT_ONCE of each thread */
} pointwise;

static void pointwise_run(void *context, int index, int thread) {
    const pointwise *job = context;
    const hpcm_map *result = job->result;
    int32_t all = result->rows * result->columns, from = index * PLACES_AT_ONCE;
    int32_t places = all - from < PLACES_AT_ONCE ? all - from : PLACES_AT_ONCE;
    int32_t channels = job->first->channels;
    whole inputs = whole_at(job->inputs, (ptrdiff_t)thread * PLACES_AT_ONCE);
    round_inputs(job->model, job->dense, place_of(job->first, 0, from), channels, 0, channels, places, inputs);
    if (job->second)
        round_inputs(job->model, job->dense, place_of(job->second, 0, from), job->second->channels, channels,
                     job->second->channels, places, inputs);
    hpcm_finish finish = to_floats(place_of(result, 0, from), result->channels);
    if (job->added) {
        finish.added = place_of(job->added, 0, from);
        finish.added_stride = job->added->channels;
    }
    run_dense(job->model, job->dense, inputs, inputs.stride, 0, places, finish);
}

static hpcm_status convolve_places(const hpcm_call *call, const hpcm_dense *dense, const hpcm_map *first,
                                   const hpcm_map *second, const hpcm_map *added, hpcm_map *result) {
    hpcm_runtime *runtime = call->model->runtime;
    size_t mark = hpcm_mark(call->scratch);
    pointwise job = {call->model, dense, first, second, added, result, {0}};
    HPCM_TRY(hpcm_check_stop(call));
    HPCM_TRY(new_whole(call, dense, (uint64_t)hpcm_runtime_threads(runtime) * PLACES_AT_ONCE, &job.inputs));
    int32_t places = result->rows * result->columns;
    hpcm_share_out(runtime, pointwise_run, &job, (places + PLACES_AT_ONCE - 1) / PLACES_AT_ONCE);
    hpcm_release(call->scratch, mark);
    return HPCM_OK;
}

hpcm_status hpcm_convolve_in_place(const hpcm_call *call, const hpcm_dense *dense, hpcm_map *map) {
    return convolve_places(call, dense, map, 0, 0, map); /* each run of places is rounded before it is written */
}

/* ---- convolutions with larger kernels --------------------------------------------------------------------------------- */

/* The inputs of a layer at all places, with as many around them as the kernel reaches beyond. */
typedef struct {
    const hpcm_model *model;
    const hpcm_dense *dense;
    const hpcm_map *map;
    int32_t padding, columns; /* columns: with padding */
    whole inputs;
} rounding;

static void clear_places(whole w, ptrdiff_t place, int32_t places) {
    whole from = whole_at(w, place);
    memset(from.low, 0, (size_t)(places * w.stride) * sizeof *from.low);
    if (from.high) memset(from.high, 0, (size_t)(places * w.stride) * sizeof *from.high);
}

static void round_row(void *context, int index, int thread) {
    const rounding *job = context;
    int32_t row = index - job->padding, columns = job->map->columns;
    ptrdiff_t begin = (ptrdiff_t)index * job->columns;
    (void)thread;
    if (row < 0 || row >= job->map->rows) {
        clear_places(job->inputs, begin, job->columns);
        return;
    }
    clear_places(job->inputs, begin, job->padding);
    clear_places(job->inputs, begin + job->padding + columns, job->padding);
    round_inputs(job->model, job->dense, place_of(job->map, row, 0), job->map->channels, 0, job->dense->inputs, columns,
                 whole_at(job->inputs, begin + job->padding));
}

static hpcm_status round_all(const hpcm_call *call, const hpcm_dense *dense, const hpcm_map *map, rounding *made) {
    int32_t padding = dense->padding, rows = map->rows + 2 * padding;
    *made = (rounding){call->model, dense, map, padding, map->columns + 2 * padding, {0}};
    HPCM_TRY(hpcm_check_stop(call));
    HPCM_TRY(new_whole(call, dense, (uint64_t)rows * (uint64_t)made->columns, &made->inputs));
    hpcm_share_out(call->model->runtime, round_row, made, rows);
    return HPCM_OK;
}

/* The sums of one output row. */
static void convolve_row(const rounding *from, int32_t row, int32_t places, hpcm_finish finish) {
    const hpcm_dense *dense = from->dense;
    ptrdiff_t stride = from->inputs.stride;
    whole begin = whole_at(from->inputs, (ptrdiff_t)row * dense->stride * from->columns);
    run_dense(from->model, dense, begin, stride * dense->stride, stride * from->columns, places, finish);
}

typedef struct {
    rounding inputs;
    hpcm_map *result;
    float *rows; /* of a doubling: four outputs for each place, room for a row of each thread */
} convolution;

static void convolution_row(void *context, int index, int thread) {
    const convolution *job = context;
    (void)thread;
    convolve_row(&job->inputs, index, job->result->columns, to_floats(place_of(job->result, index, 0), job->result->channels));
}

/* Four outputs of a place become a cell of 2x2. */
static void doubling_row(void *context, int index, int thread) {
    const convolution *job = context;
    const hpcm_map *result = job->result;
    int32_t places = result->columns / 2, channels = result->channels;
    float *row = job->rows + (ptrdiff_t)thread * places * 4 * channels;
    convolve_row(&job->inputs, index, places, to_floats(row, 4 * channels));
    for (int32_t p = 0; p < places; p++)
        for (int tap = 0; tap < 4; tap++)
            memcpy(place_of(result, 2 * index + tap / 2, 2 * p + tap % 2), row + ((ptrdiff_t)p * 4 + tap) * channels,
                   (size_t)channels * sizeof *row);
}

static hpcm_status apply_dense(const hpcm_call *call, const hpcm_dense *dense, hpcm_map *map) {
    convolution job = {{0}, 0, 0};
    hpcm_map result;
    HPCM_TRY(hpcm_new_map(call, map->rows / dense->stride, map->columns / dense->stride, dense->outputs, &result));
    if (dense->side == 1) {
        HPCM_TRY(convolve_places(call, dense, map, 0, 0, &result));
    } else {
        size_t mark = hpcm_mark(call->scratch);
        HPCM_TRY(round_all(call, dense, map, &job.inputs));
        job.result = &result;
        hpcm_share_out(call->model->runtime, convolution_row, &job, result.rows);
        hpcm_release(call->scratch, mark);
    }
    *map = result;
    return HPCM_OK;
}

static hpcm_status apply_doubling(const hpcm_call *call, const hpcm_dense *dense, hpcm_map *map) {
    convolution job = {{0}, 0, 0};
    hpcm_map result;
    HPCM_TRY(hpcm_new_map(call, 2 * map->rows, 2 * map->columns, dense->outputs / 4, &result));
    size_t mark = hpcm_mark(call->scratch);
    uint64_t threads = (uint64_t)hpcm_runtime_threads(call->model->runtime);
    HPCM_TRY(round_all(call, dense, map, &job.inputs));
    job.result = &result;
    job.rows = hpcm_take(call->scratch, threads * (uint64_t)map->columns * (uint64_t)dense->outputs, sizeof *job.rows);
    if (!job.rows) return HPCM_NO_MEMORY;
    hpcm_share_out(call->model->runtime, doubling_row, &job, map->rows);
    hpcm_release(call->scratch, mark);
    *map = result;
    return HPCM_OK;
}

/* ---- residual blocks -------------------------------------------------------------------------------------------------- */

typedef struct {
    const hpcm_model *model;
    const hpcm_block *block;
    hpcm_map *map;
    int32_t rows_at_once;
    rounding dense_inputs;   /* of a dense spatial layer */
    float *depthwise_inputs; /* of a depthwise one, with a place around */
    whole expand_inputs, project_inputs; /* room for the rows of each thread */
} residual;

static void round_depthwise_row(void *context, int index, int thread) {
    const residual *job = context;
    const hpcm_map *map = job->map;
    const hpcm_depthwise *layer = &job->block->depthwise;
    int32_t channels = map->channels, row = index - 1;
    float *to = job->depthwise_inputs + (ptrdiff_t)index * (map->columns + 2) * channels;
    size_t place = (size_t)channels * sizeof *to;
    (void)thread;
    if (row < 0 || row >= map->rows) {
        memset(to, 0, place * (size_t)(map->columns + 2));
        return;
    }
    memset(to, 0, place);
    memset(to + (ptrdiff_t)(map->columns + 1) * channels, 0, place);
    job->model->kernels->round(place_of(map, row, 0), layer->scale, layer->limit, map->columns, channels, to + channels);
}

static void spatial_row(const residual *job, int32_t row, whole to) {
    const hpcm_map *map = job->map;
    const hpcm_block *block = job->block;
    const hpcm_dense *next = &block->expand;
    int32_t convolved = block->convolved, columns = map->columns;
    if (block->is_depthwise) {
        const hpcm_depthwise *d = &block->depthwise;
        const float *rows[3];
        for (int i = 0; i < 3; i++)
            rows[i] = job->depthwise_inputs + (ptrdiff_t)(row + i) * (columns + 2) * map->channels;
        job->model->kernels->depthwise(rows, d->weights, d->bias, d->unit, columns, convolved, next->scale, next->limit,
                                       to.low, to.high, to.stride);
        return;
    }
    convolve_row(&job->dense_inputs, row, columns, to_whole(next, to, 0));
    if (convolved < block->width)
        round_inputs(job->model, next, place_of(map, row, 0) + convolved, map->channels, convolved,
                     block->width - convolved, columns, to);
}

static void residual_rows(void *context, int index, int thread) {
    const residual *job = context;
    const hpcm_map *map = job->map;
    const hpcm_block *block = job->block;
    int32_t columns = map->columns, first = index * job->rows_at_once;
    int32_t rows = map->rows - first < job->rows_at_once ? map->rows - first : job->rows_at_once;
    ptrdiff_t own = (ptrdiff_t)thread * job->rows_at_once * columns;
    whole inputs = whole_at(job->expand_inputs, own), inner = whole_at(job->project_inputs, own);
    for (int32_t row = 0; row < rows; row++)
        spatial_row(job, first + row, whole_at(inputs, (ptrdiff_t)row * columns));
    run_dense(job->model, &block->expand, inputs, inputs.stride, 0, rows * columns, to_whole(&block->project, inner, 1));
    float *x = place_of(map, first, 0);
    hpcm_finish finish = to_floats(x, map->channels);
    finish.added = x;
    finish.added_stride = map->channels;
    run_dense(job->model, &block->project, inner, inner.stride, 0, rows * columns, finish);
}

static hpcm_status apply_block(const hpcm_call *call, const hpcm_block *block, hpcm_map *map) {
    const hpcm_model *model = call->model;
    size_t mark = hpcm_mark(call->scratch);
    residual job = {.model = model, .block = block, .map = map};
    job.rows_at_once = map->columns < PLACES_AT_ONCE ? PLACES_AT_ONCE / map->columns : 1;
    HPCM_TRY(hpcm_check_stop(call));
    if (block->is_depthwise) {
        uint64_t places = (uint64_t)(map->rows + 2) * (uint64_t)(map->columns + 2);
        job.depthwise_inputs = hpcm_take(call->scratch, places * (uint64_t)map->channels, sizeof *job.depthwise_inputs);
        if (!job.depthwise_inputs) return HPCM_NO_MEMORY;
        hpcm_share_out(model->runtime, round_depthwise_row, &job, map->rows + 2);
    } else {
        HPCM_TRY(round_all(call, &block->spatial, map, &job.dense_inputs));
    }
    uint64_t places = (uint64_t)hpcm_runtime_threads(model->runtime) * (uint64_t)job.rows_at_once * (uint64_t)map->columns;
    HPCM_TRY(new_whole(call, &block->expand, places, &job.expand_inputs));
    HPCM_TRY(new_whole(call, &block->project, places, &job.project_inputs));
    hpcm_share_out(model->runtime, residual_rows, &job, (map->rows + job.rows_at_once - 1) / job.rows_at_once);
    hpcm_release(call->scratch, mark);
    return HPCM_OK;
}

/* ---- cells ------------------------------------------------------------------------------------------------------------ */

typedef struct {
    const hpcm_map *fine, *coarse;
    int to_coarse;
} cells;

/* Channel c of place (i, j) of a cell is channel (c * 8 + i) * 8 + j of the coarse map. */
static void cells_row(void *context, int index, int thread) {
    const cells *job = context;
    int32_t channels = job->fine->channels;
    (void)thread;
    for (int32_t column = 0; column < job->coarse->columns; column++)
        for (int i = 0; i < HPCM_CELL; i++)
            for (int j = 0; j < HPCM_CELL; j++) {
                float *fine = place_of(job->fine, index * HPCM_CELL + i, column * HPCM_CELL + j);
                float *coarse = place_of(job->coarse, index, column) + i * HPCM_CELL + j;
                for (int32_t c = 0; c < channels; c++) {
                    if (job->to_coarse) coarse[c * HPCM_CELL * HPCM_CELL] = fine[c];
                    else fine[c] = coarse[c * HPCM_CELL * HPCM_CELL];
                }
            }
}

static hpcm_status apply_unshuffle(const hpcm_call *call, hpcm_map *map) {
    hpcm_map result;
    HPCM_TRY(hpcm_new_map(call, map->rows / HPCM_CELL, map->columns / HPCM_CELL, map->channels * HPCM_CELL * HPCM_CELL,
                          &result));
    cells job = {map, &result, 1};
    hpcm_share_out(call->model->runtime, cells_row, &job, result.rows);
    *map = result;
    return HPCM_OK;
}

static hpcm_status apply_shuffle(const hpcm_call *call, hpcm_map *map) {
    hpcm_map result;
    HPCM_TRY(hpcm_new_map(call, map->rows * HPCM_CELL, map->columns * HPCM_CELL, map->channels / (HPCM_CELL * HPCM_CELL),
                          &result));
    cells job = {&result, map, 0};
    hpcm_share_out(call->model->runtime, cells_row, &job, map->rows);
    *map = result;
    return HPCM_OK;
}

/* ---- networks --------------------------------------------------------------------------------------------------------- */

static hpcm_status apply_operation(const hpcm_call *call, const hpcm_operation *operation, hpcm_map *map) {
    switch (operation->kind) {
    case HPCM_DENSE: return apply_dense(call, &operation->dense, map);
    case HPCM_DOUBLE: return apply_doubling(call, &operation->dense, map);
    case HPCM_BLOCK: return apply_block(call, &operation->block, map);
    case HPCM_UNSHUFFLE: return apply_unshuffle(call, map);
    default: return apply_shuffle(call, map);
    }
}

hpcm_status hpcm_apply(const hpcm_call *call, const hpcm_network *network, hpcm_map *map) {
    for (int32_t i = 0; i < network->count; i++) HPCM_TRY(apply_operation(call, &network->operations[i], map));
    return HPCM_OK;
}

/* ---- the parameters of a step ----------------------------------------------------------------------------------------- */

typedef struct {
    hpcm_map *map;
    const float *factors; /* [channels], or null */
    const hpcm_map *other; /* is added, if there are no factors */
} elementwise;

static void elementwise_row(void *context, int index, int thread) {
    const elementwise *job = context;
    int32_t channels = job->map->channels;
    (void)thread;
    for (int32_t column = 0; column < job->map->columns; column++) {
        float *x = place_of(job->map, index, column);
        if (job->factors) {
            for (int32_t c = 0; c < channels; c++) x[c] = x[c] * job->factors[c];
        } else {
            const float *other = place_of(job->other, index, column);
            for (int32_t c = 0; c < channels; c++) x[c] = other[c] + x[c];
        }
    }
}

static void multiply(const hpcm_call *call, hpcm_map *map, const float *factors) {
    elementwise job = {map, factors, 0};
    hpcm_share_out(call->model->runtime, elementwise_row, &job, map->rows);
}

static void add(const hpcm_call *call, hpcm_map *map, const hpcm_map *other) {
    elementwise job = {map, 0, other};
    hpcm_share_out(call->model->runtime, elementwise_row, &job, map->rows);
}

/* [context, y_hat], 3M channels -> the parameter network's width. */
static hpcm_status adapt(const hpcm_call *call, const hpcm_network *adaptor, const hpcm_map *context,
                         const hpcm_map *y_hat, hpcm_map *adapted) {
    const hpcm_operation *first = &adaptor->operations[0];
    int32_t rows = context->rows, columns = context->columns;
    if (first->kind == HPCM_DENSE) {
        HPCM_TRY(hpcm_new_map(call, rows, columns, first->dense.outputs, adapted));
        return convolve_places(call, &first->dense, context, y_hat, 0, adapted);
    }
    HPCM_TRY(hpcm_new_map(call, rows, columns, context->channels + y_hat->channels, adapted));
    for (int32_t place = 0; place < rows * columns; place++) {
        float *to = place_of(adapted, 0, place);
        memcpy(to, place_of(context, 0, place), (size_t)context->channels * sizeof *to);
        memcpy(to + context->channels, place_of(y_hat, 0, place), (size_t)y_hat->channels * sizeof *to);
    }
    return hpcm_apply(call, adaptor, adapted);
}

hpcm_status hpcm_parameters(const hpcm_call *call, int32_t step, int32_t scale, int32_t level, const hpcm_map *context,
                            const hpcm_map *y_hat, hpcm_map *psi) {
    const hpcm_model *model = call->model;
    const hpcm_config *config = &model->config;
    const hpcm_prior *prior = &model->priors[scale == 2 && config->has_prior_fine];
    size_t mark = hpcm_mark(call->scratch);
    hpcm_map adapted;
    HPCM_TRY(adapt(call, &model->adaptors[step], context, y_hat, &adapted));
    HPCM_TRY(hpcm_apply(call, &prior->before, &adapted));
    multiply(call, &adapted, model->step_gains[step] + (ptrdiff_t)level * config->prior_width);
    HPCM_TRY(hpcm_apply(call, &prior->after, &adapted));
    int add_at_once = config->refine && !prior->tail.count;
    HPCM_TRY(convolve_places(call, &prior->head, &adapted, 0, add_at_once ? context : 0, psi));
    HPCM_TRY(hpcm_apply(call, &prior->tail, psi));
    if (config->refine && prior->tail.count) add(call, psi, context);
    hpcm_release(call->scratch, mark);
    return HPCM_OK;
}
