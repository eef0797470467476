/* parts of a tile --> y_hat. What isn't decoded takes its mean: from there on every symbol is 0. Of several tiles, the
 * latents that are known are put side by side first, so that the means on both sides of a border agree (codec/decoder.py):
 *
 *     parts of a tile --(steps as coded, the tile alone)--> its known latents --+
 *     parts of the tiles around it ----------------------> theirs, MARGIN wide -+--(all steps)--> y_hat of the tile */
#include "latents.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../model.h"
#include "../schedule.h"
#include "message.h"

enum { MARGIN = HPCM_PERIOD, LATTICES = 4 /* z, and y on three scales */ };

/* What a tile's parts tell, as hpcm_decode_known gives it. */
struct hpcm_known {
    float *lattices[LATTICES];
};

static hpcm_status no_memory(const hpcm_latents *latents) {
    return hpcm_say(latents->message, HPCM_NO_MEMORY, "no memory for the latents of a tile");
}

/* ---- a tile's parts --------------------------------------------------------------------------------------------------- */

typedef struct {
    int32_t row, column;
    hpcm_box box, cells;
    const hpcm_part *parts;
    int count;            /* of parts that are there and wanted */
    int is_whole;         /* all parts of the file's passes */
    int32_t rows, columns; /* of latents that touch the picture */
} tile;

static tile tile_at(const hpcm_latents *latents, int32_t row, int32_t column) {
    const hpcm_container *container = latents->container;
    tile t = {.row = row, .column = column, .box = hpcm_tile_box(&latents->tiling, row, column)};
    int32_t index = row * hpcm_tiles_across(&latents->tiling) + column;
    int passes = container->header.passes, wanted = passes > 1 ? latents->scale : 1;
    t.cells = hpcm_cells(t.box);
    t.parts = container->table + (size_t)index * (size_t)container->parts;
    t.count = hpcm_least(hpcm_parts_of(container, index), wanted);
    t.is_whole = t.count == passes;
    t.rows = hpcm_divided_up(hpcm_rows(t.box), HPCM_PIXELS_PER_LATENT);
    t.columns = hpcm_divided_up(hpcm_columns(t.box), HPCM_PIXELS_PER_LATENT);
    return t;
}

/* The bytes of a tile's parts, one behind the other; freed by the caller. Null if there is no memory. */
static uint8_t *payload_of(const hpcm_latents *latents, const tile *t, size_t *size) {
    *size = 0;
    for (int i = 0; i < t->count; i++) *size += t->parts[i].payload.size;
    uint8_t *joined = malloc(*size + 1), *at = joined;
    for (int i = 0; joined && i < t->count; i++) {
        hpcm_range part = t->parts[i].payload;
        memcpy(at, latents->container->bytes + part.begin, part.size);
        at += part.size;
    }
    return joined;
}

/* How many steps the parts hold, the hyper latent's among them. */
static int32_t steps_in(const hpcm_latents *latents, const tile *t) {
    int32_t ends[HPCM_PARTS];
    hpcm_part_ends(&latents->model->config, ends);
    if (latents->container->header.passes == 1) return ends[HPCM_PARTS - 1];
    return t->count ? ends[t->count - 1] : 0;
}

static hpcm_status mismatch(const hpcm_latents *latents, const tile *t) {
    return hpcm_say(latents->message, HPCM_MISMATCH,
                    "the decoded symbols of the tile at (%d, %d) differ from the encoded ones: the model's arithmetic gave other "
                    "numbers here; decode on the machine where the file was made",
                    t->box.left, t->box.top);
}

/* The payload's CRC is right: if it can't be decoded, it was asked for other symbols than those encoded. */
static hpcm_status checked(const hpcm_latents *latents, const tile *t, hpcm_status status, const hpcm_decoded *decoded) {
    if (status == HPCM_BAD_PAYLOAD) return mismatch(latents, t);
    if (status != HPCM_OK) return status;
    uint32_t mask = t->is_whole ? UINT32_MAX : 0xFFFF;
    if ((decoded->checksum & mask) != t->parts[t->count - 1].checksum) return mismatch(latents, t);
    if (t->is_whole && decoded->words_left)
        return hpcm_say(latents->message, HPCM_CORRUPT, "entropy-coded data go on after the last symbol: %zu words of 4 bytes are left",
                        decoded->words_left);
    return HPCM_OK;
}

/* ---- boxes ------------------------------------------------------------------------------------------------------------ */

void hpcm_copy_box(const float *from, hpcm_box from_box, float *to, hpcm_box to_box, int32_t stride, int32_t channels) {
    hpcm_box common = hpcm_overlap(from_box, to_box);
    if (hpcm_rows(common) <= 0 || hpcm_columns(common) <= 0) return;
    hpcm_box source = hpcm_relative(common, from_box), target = hpcm_relative(common, to_box);
    size_t bytes = (size_t)(hpcm_columns(common) / stride) * (size_t)channels * sizeof(float);
    ptrdiff_t from_row = (ptrdiff_t)(hpcm_columns(from_box) / stride) * channels;
    ptrdiff_t to_row = (ptrdiff_t)(hpcm_columns(to_box) / stride) * channels;
    from += source.top / stride * from_row + (ptrdiff_t)(source.left / stride) * channels;
    to += target.top / stride * to_row + (ptrdiff_t)(target.left / stride) * channels;
    for (int32_t row = 0; row < hpcm_rows(common) / stride; row++) memcpy(to + row * to_row, from + row * from_row, bytes);
}

/* ---- known latents ---------------------------------------------------------------------------------------------------- */

static void free_known(hpcm_known *known) {
    if (!known) return;
    for (int i = 0; i < LATTICES; i++) free(known->lattices[i]);
    free(known);
}

/* Places of latents for one of a lattice, in rows and in columns. */
static int32_t stride_of(const hpcm_latents *latents, int lattice) {
    const int32_t strides[LATTICES] = {HPCM_LATENTS_PER_Z, 4, 2, 1};
    return lattice == 0 || latents->model->config.hierarchy ? strides[lattice] : 1;
}

static int32_t channels_of(const hpcm_latents *latents, int lattice) {
    return lattice == 0 ? latents->model->config.N : latents->model->config.M;
}

/* Nothing is known of h x w latents. Null if there is no memory. */
static hpcm_known *unknown(const hpcm_latents *latents, int32_t h, int32_t w) {
    hpcm_known *known = calloc(1, sizeof *known);
    for (int i = 0; known && i < LATTICES; i++) {
        int32_t stride = stride_of(latents, i);
        size_t count = (size_t)(h / stride) * (size_t)(w / stride) * (size_t)channels_of(latents, i);
        known->lattices[i] = malloc(count * sizeof(float));
        if (!known->lattices[i]) {
            free_known(known);
            return 0;
        }
        for (size_t j = 0; j < count; j++) known->lattices[i][j] = NAN;
    }
    return known;
}

static hpcm_status decode_known(const hpcm_latents *latents, const tile *t, hpcm_known *known) {
    hpcm_decoded decoded;
    size_t size;
    uint8_t *payload = payload_of(latents, t, &size);
    if (!payload) return no_memory(latents);
    hpcm_status status =
        hpcm_decode_known(latents->model, payload, size, steps_in(latents, t), hpcm_rows(t->cells), hpcm_columns(t->cells),
                          latents->container->header.level, t->rows, t->columns, known->lattices[0], known->lattices + 1, &decoded,
                          latents->check, latents->user);
    free(payload);
    decoded.words_left = 0; /* not looked at here, as in Python */
    return checked(latents, t, status, &decoded);
}

/* What is known of a tile that has parts; it is kept for its neighbours. */
static hpcm_status known_of(hpcm_latents *latents, const tile *t, const hpcm_known **found) {
    hpcm_known **kept = &latents->known[t->row * hpcm_tiles_across(&latents->tiling) + t->column];
    if (!*kept) {
        hpcm_known *known = unknown(latents, hpcm_rows(t->cells), hpcm_columns(t->cells));
        if (!known) return no_memory(latents);
        hpcm_status status = decode_known(latents, t, known);
        if (status != HPCM_OK) {
            free_known(known);
            return status;
        }
        *kept = known;
    }
    *found = *kept;
    return HPCM_OK;
}

/* Gives up what no tile of this row or of later ones borders on. */
static void forget(hpcm_latents *latents, int32_t row) {
    int32_t across = hpcm_tiles_across(&latents->tiling);
    for (int32_t column = 0; row >= 2 && column < across; column++) {
        hpcm_known **kept = &latents->known[(row - 2) * across + column];
        free_known(*kept);
        *kept = 0;
    }
}

/* Puts what is known of the tiles that `around` touches into `whole`. */
static hpcm_status gather(hpcm_latents *latents, hpcm_box around, hpcm_known *whole) {
    hpcm_box tiles = hpcm_touched(&latents->tiling, hpcm_pixels_of(around));
    for (int32_t row = tiles.top; row < tiles.bottom; row++)
        for (int32_t column = tiles.left; column < tiles.right; column++) {
            tile t = tile_at(latents, row, column);
            const hpcm_known *known = 0;
            if (!t.count) continue;
            HPCM_TRY(known_of(latents, &t, &known));
            for (int i = 0; i < LATTICES; i++)
                hpcm_copy_box(known->lattices[i], t.cells, whole->lattices[i], around, stride_of(latents, i), channels_of(latents, i));
        }
    return HPCM_OK;
}

/* y_hat of a tile of which not all is known, given what is known in a box around it.
 *
 * Each tile's symbols were coded without its neighbours, so they are decoded without them. But what is missing may depend on
 * the neighbours, too: else it would differ on both sides of the tile's border, which would be seen. */
static hpcm_status fill(hpcm_latents *latents, const tile *t, hpcm_box around, float *y_hat) {
    int32_t h = hpcm_rows(around), w = hpcm_columns(around), channels = latents->model->config.M;
    float *filled = malloc((size_t)h * (size_t)w * (size_t)channels * sizeof *filled);
    hpcm_known *whole = unknown(latents, h, w);
    hpcm_status status = filled && whole ? gather(latents, around, whole) : no_memory(latents);
    if (status == HPCM_OK)
        status = hpcm_fill(latents->model, whole->lattices[0], (const float *const *)whole->lattices + 1, h, w,
                           latents->container->header.level, filled, latents->check, latents->user);
    if (status == HPCM_OK) hpcm_copy_box(filled, around, y_hat, t->cells, 1, channels);
    free_known(whole);
    free(filled);
    return status;
}

/* ---- y_hat ------------------------------------------------------------------------------------------------------------ */

static hpcm_status decode_alone(const hpcm_latents *latents, const tile *t, float *y_hat) {
    hpcm_decoded decoded;
    size_t size;
    uint8_t *payload = payload_of(latents, t, &size);
    if (!payload) return no_memory(latents);
    int32_t steps = t->count ? steps_in(latents, t) : 0;
    hpcm_status status = hpcm_decode(latents->model, payload, size, steps, hpcm_rows(t->cells), hpcm_columns(t->cells),
                                     latents->container->header.level, t->rows, t->columns, y_hat, &decoded, latents->check,
                                     latents->user);
    free(payload);
    return t->count ? checked(latents, t, status, &decoded) : status;
}

hpcm_status hpcm_latents_of(hpcm_latents *latents, int32_t row, int32_t column, float *y_hat) {
    tile t = tile_at(latents, row, column);
    hpcm_box around = hpcm_widened(&latents->tiling, t.cells, MARGIN);
    if (!t.count || t.is_whole || hpcm_are_equal(around, t.cells)) return decode_alone(latents, &t, y_hat);
    if (!latents->known) {
        latents->known = calloc((size_t)latents->container->tiles, sizeof(hpcm_known *));
        if (!latents->known) return no_memory(latents);
    }
    forget(latents, row);
    return fill(latents, &t, around, y_hat);
}

void hpcm_latents_free(hpcm_latents *latents) {
    for (int32_t i = 0; latents->known && i < latents->container->tiles; i++) free_known(latents->known[i]);
    free(latents->known);
    latents->known = 0;
}
