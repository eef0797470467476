/* The functions of hpcm.h that code tiles: checks of arguments, and memory. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "arithmetic.h"
#include "loop.h"

enum { LATENTS_PER_Z = 4, PICTURE_CHANNELS = 3 };

/* ---- a call ----------------------------------------------------------------------------------------------------------- */

typedef struct {
    hpcm_call call;
    uint64_t arithmetic; /* the caller's */
} session;

static hpcm_status open_session(const hpcm_model *model, hpcm_check check, void *user, session *s) {
    *s = (session){{model, hpcm_scratch_get(model->runtime), check, user}, 0};
    if (!s->call.scratch) return HPCM_NO_MEMORY;
    s->arithmetic = hpcm_enter_arithmetic();
    return HPCM_OK;
}

static hpcm_status close_session(session *s, hpcm_status status) {
    hpcm_leave_arithmetic(s->arithmetic);
    hpcm_scratch_put(s->call.model->runtime, s->call.scratch);
    return status;
}

static int size_fits(int32_t h, int32_t w) {
    return h > 0 && w > 0 && h <= HPCM_MAX_SIDE && w <= HPCM_MAX_SIDE;
}

static int coding_fits(const hpcm_model *model, int32_t h, int32_t w, int32_t level, int32_t rows, int32_t columns) {
    enum { MOST = 1 << 30 }; /* numbers of a latent, so that their counts fit int32 */
    int64_t places = (int64_t)h * w;
    int scheduled = size_fits(h, w) && h % LATENTS_PER_Z == 0 && w % LATENTS_PER_Z == 0;
    if (!scheduled || places * model->config.M > MOST || places * model->config.N > MOST) return 0;
    return level >= 0 && level < model->config.levels && rows > 0 && rows <= h && columns > 0 &&
           columns <= w;
}

/* ---- pixels ----------------------------------------------------------------------------------------------------------- */

typedef struct {
    const hpcm_pixels *pixels;
    const hpcm_map *map;
} reading;

/* Rows begin anywhere, so samples needn't be aligned. */
static float sample(const hpcm_pixels *pixels, const unsigned char *row, ptrdiff_t place) {
    uint16_t whole;
    float real;
    if (pixels->bytes == 1) return (float)row[place];
    if (pixels->bytes == 2) {
        memcpy(&whole, row + place * (ptrdiff_t)sizeof whole, sizeof whole);
        return (float)whole;
    }
    memcpy(&real, row + place * (ptrdiff_t)sizeof real, sizeof real);
    return real;
}

/* NaN is 0, and what is far out is no picture: sums stay bounded. */
static float bounded(float x) {
    const float far = 65536.0f;
    if (!(x > -far)) return x <= -far ? -far : 0;
    return x < far ? x : far;
}

static void read_row(void *context, int index, int thread) {
    const reading *job = context;
    const hpcm_pixels *pixels = job->pixels;
    int32_t row = index < pixels->rows ? index : pixels->rows - 1;
    const unsigned char *from = (const unsigned char *)pixels->data + row * pixels->stride;
    float *to = job->map->values + (ptrdiff_t)index * job->map->columns * PICTURE_CHANNELS;
    (void)thread;
    for (int32_t column = 0; column < job->map->columns; column++) {
        ptrdiff_t place = (ptrdiff_t)(column < pixels->columns ? column : pixels->columns - 1) * pixels->channels;
        for (int32_t c = 0; c < PICTURE_CHANNELS; c++) {
            float x = sample(pixels, from, place + (pixels->channels == 1 ? 0 : c)) / pixels->peak;
            to[column * PICTURE_CHANNELS + c] = bounded(x);
        }
    }
}

static int pixels_fit(const hpcm_pixels *p, int32_t h, int32_t w) {
    int types = p->bytes == 1 || p->bytes == 2 || p->bytes == 4;
    int shape = p->rows > 0 && p->columns > 0 && (p->channels == 1 || p->channels == PICTURE_CHANNELS) &&
                p->rows <= h * HPCM_LATENT_STRIDE && p->columns <= w * HPCM_LATENT_STRIDE;
    return p->data && types && shape && p->peak > 0 && p->stride >= (int64_t)p->columns * p->channels * p->bytes;
}

static hpcm_status analyse(const hpcm_call *call, const hpcm_pixels *pixels, int32_t h, int32_t w, float *y) {
    hpcm_map map;
    HPCM_TRY(hpcm_new_map(call, h * HPCM_LATENT_STRIDE, w * HPCM_LATENT_STRIDE, PICTURE_CHANNELS, &map));
    reading job = {pixels, &map};
    hpcm_share_out(call->model->runtime, read_row, &job, map.rows);
    HPCM_TRY(hpcm_apply(call, &call->model->analysis, &map));
    memcpy(y, map.values, (size_t)h * (size_t)w * (size_t)map.channels * sizeof *y);
    return HPCM_OK;
}

hpcm_status hpcm_analyse(hpcm_model *model, const hpcm_pixels *pixels, int32_t h, int32_t w, float *y, hpcm_check check,
                         void *user) {
    session s;
    if (!size_fits(h, w) || !pixels_fit(pixels, h, w)) return HPCM_BAD_ARGUMENT;
    HPCM_TRY(open_session(model, check, user, &s));
    return close_session(&s, analyse(&s.call, pixels, h, w, y));
}

typedef struct {
    const hpcm_map *map;
    const int32_t *box;
    int32_t bytes, channels;
    void *pixels;
} writing;

static void write_row(void *context, int index, int thread) {
    const writing *job = context;
    float peak = job->bytes == 1 ? 255.0f : 65535.0f;
    int32_t left = job->box[0], top = job->box[1], columns = job->box[2] - left;
    const float *from = job->map->values + ((ptrdiff_t)(top + index) * job->map->columns + left) * PICTURE_CHANNELS;
    ptrdiff_t begin = (ptrdiff_t)index * columns * job->channels;
    (void)thread;
    for (int32_t i = 0; i < columns * job->channels; i++) {
        float x = from[i];
        if (job->channels == 1) {
            const float *rgb = from + (ptrdiff_t)i * PICTURE_CHANNELS;
            x = ((rgb[0] + rgb[1]) + rgb[2]) / 3.0f;
        }
        float value = rintf(x * peak);
        value = value > 0 ? value : 0;
        value = value < peak ? value : peak;
        if (job->bytes == 1) ((uint8_t *)job->pixels)[begin + i] = (uint8_t)value;
        else ((uint16_t *)job->pixels)[begin + i] = (uint16_t)value;
    }
}

static hpcm_status synthesise(const hpcm_call *call, const float *y_hat, int32_t h, int32_t w, const int32_t box[4],
                              int32_t bytes, int32_t channels, void *pixels) {
    hpcm_map map;
    HPCM_TRY(hpcm_new_map(call, h, w, call->model->config.M, &map));
    memcpy(map.values, y_hat, (size_t)h * (size_t)w * (size_t)map.channels * sizeof *y_hat);
    HPCM_TRY(hpcm_apply(call, &call->model->synthesis, &map));
    writing job = {&map, box, bytes, channels, pixels};
    hpcm_share_out(call->model->runtime, write_row, &job, box[3] - box[1]);
    return HPCM_OK;
}

hpcm_status hpcm_synthesise(hpcm_model *model, const float *y_hat, int32_t h, int32_t w, const int32_t box[4],
                            int32_t bytes, int32_t channels, void *pixels, hpcm_check check, void *user) {
    session s;
    int inside = size_fits(h, w) && box[0] >= 0 && box[1] >= 0 && box[0] < box[2] && box[1] < box[3] &&
                 box[2] <= w * HPCM_LATENT_STRIDE && box[3] <= h * HPCM_LATENT_STRIDE;
    if (!inside || (bytes != 1 && bytes != 2) || (channels != 1 && channels != PICTURE_CHANNELS)) return HPCM_BAD_ARGUMENT;
    HPCM_TRY(open_session(model, check, user, &s));
    return close_session(&s, synthesise(&s.call, y_hat, h, w, box, bytes, channels, pixels));
}

/* ---- latents ---------------------------------------------------------------------------------------------------------- */

static hpcm_status encode(const hpcm_call *call, hpcm_driver *driver, int32_t h, int32_t w, float *y_hat,
                          hpcm_payload *payload) {
    const hpcm_model *model = call->model;
    size_t latents = (size_t)h * (size_t)w * (size_t)model->config.M, sizes[HPCM_PARTS], total = 0;
    const uint8_t *bytes;
    if (!driver->z) {
        hpcm_map map;
        HPCM_TRY(hpcm_new_map(call, h, w, model->config.M, &map));
        memcpy(map.values, driver->y, latents * sizeof(float));
        HPCM_TRY(hpcm_apply(call, &model->hyper_analysis, &map));
        driver->z = map.values;
    }
    HPCM_TRY(hpcm_code(call, driver, h, w, y_hat));
    HPCM_TRY(hpcm_encoder_finish(driver->encoder, &bytes, sizes));
    for (int part = 0; part < HPCM_PARTS; part++) total += sizes[part];
    payload->bytes = malloc(total + 1);
    if (!payload->bytes) return HPCM_NO_MEMORY;
    memcpy(payload->bytes, bytes, total);
    memcpy(payload->sizes, sizes, sizeof sizes);
    memcpy(payload->checksums, driver->checksums, sizeof driver->checksums);
    return HPCM_OK;
}

hpcm_status hpcm_encode(hpcm_model *model, const float *y, const float *z, int32_t h, int32_t w, int32_t level,
                        int32_t rows, int32_t columns, float *y_hat, hpcm_payload *payload, hpcm_check check,
                        void *user) {
    session s;
    *payload = (hpcm_payload){0};
    if (!coding_fits(model, h, w, level, rows, columns)) return HPCM_BAD_ARGUMENT;
    hpcm_driver driver = {.mode = HPCM_RECORD, .level = level, .rows = rows, .columns = columns, .y = y, .z = z,
                          .steps = model->step_count + 1};
    HPCM_TRY(hpcm_encoder_create(model->tables, &driver.encoder));
    hpcm_status status = open_session(model, check, user, &s);
    if (status == HPCM_OK) status = close_session(&s, encode(&s.call, &driver, h, w, y_hat, payload));
    hpcm_encoder_free(driver.encoder);
    return status;
}

void hpcm_payload_free(hpcm_payload *payload) {
    free(payload->bytes);
    payload->bytes = 0;
}

static hpcm_status replay(hpcm_model *model, hpcm_driver *driver, const uint8_t *bytes, size_t size, int32_t h, int32_t w,
                          float *y_hat, hpcm_decoded *decoded, hpcm_check check, void *user) {
    session s;
    HPCM_TRY(hpcm_decoder_create(model->tables, bytes, size, &driver->decoder));
    hpcm_status status = open_session(model, check, user, &s);
    if (status == HPCM_OK) status = close_session(&s, hpcm_code(&s.call, driver, h, w, y_hat));
    decoded->checksum = driver->checksum;
    decoded->words_left = hpcm_decoder_words_left(driver->decoder);
    hpcm_decoder_free(driver->decoder);
    return status;
}

hpcm_status hpcm_decode(hpcm_model *model, const uint8_t *payload, size_t size, int32_t steps, int32_t h, int32_t w,
                        int32_t level, int32_t rows, int32_t columns, float *y_hat, hpcm_decoded *decoded,
                        hpcm_check check, void *user) {
    if (!coding_fits(model, h, w, level, rows, columns) || steps < 0) return HPCM_BAD_ARGUMENT;
    hpcm_driver driver = {.mode = HPCM_REPLAY, .level = level, .rows = rows, .columns = columns, .to_read = steps,
                          .steps = model->step_count + 1};
    return replay(model, &driver, payload, size, h, w, y_hat, decoded, check, user);
}

hpcm_status hpcm_decode_known(hpcm_model *model, const uint8_t *payload, size_t size, int32_t steps, int32_t h,
                              int32_t w, int32_t level, int32_t rows, int32_t columns, float *z, float *const y[3],
                              hpcm_decoded *decoded, hpcm_check check, void *user) {
    if (!coding_fits(model, h, w, level, rows, columns) || steps < 1 || steps > model->step_count + 1)
        return HPCM_BAD_ARGUMENT;
    for (int32_t step = 0; step + 1 < steps; step++)
        if (!y[hpcm_scale_of_step(&model->config, step)]) return HPCM_BAD_ARGUMENT;
    hpcm_driver driver = {.mode = HPCM_REPLAY, .level = level, .rows = rows, .columns = columns, .to_read = steps,
                          .steps = steps, .keep_z = z, .keep_y = {y[0], y[1], y[2]}};
    return replay(model, &driver, payload, size, h, w, 0, decoded, check, user);
}

hpcm_status hpcm_fill(hpcm_model *model, const float *z, const float *const y[3], int32_t h, int32_t w, int32_t level,
                      float *y_hat, hpcm_check check, void *user) {
    session s;
    if (!coding_fits(model, h, w, level, h, w)) return HPCM_BAD_ARGUMENT;
    hpcm_driver driver = {.mode = HPCM_FILL, .level = level, .rows = h, .columns = w, .steps = model->step_count + 1,
                          .known_z = z, .known_y = {y[0], y[1], y[2]}};
    HPCM_TRY(open_session(model, check, user, &s));
    return close_session(&s, hpcm_code(&s.call, &driver, h, w, y_hat));
}
