/* The functions of decode.h. */
#include "decode.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../model.h"
#include "cores.h"
#include "depth.h"
#include "find.h"
#include "layer.h"
#include "message.h"
#include "picture.h"
#include "png.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "weights, and the samples that checksums are of, are read as little-endian"
#endif

enum {
    MAX_REDUCTION = 256,
    COARSE = 8,            /* the reduction from which the lossy picture of a lossless file will do */
    MAX_TILE_SIDE = 4096,  /* pixels; a tile is decoded at once, so its size bounds the memory */
    MAX_THREADS = 256
};
#ifdef _WIN32
#define READING "rb"
#else
#define READING "rbe" /* programs that are started meanwhile don't inherit the file */
#endif
static const uint64_t MAX_DECODED = 1 << 28; /* pixels, unless the settings say otherwise */
static const uint64_t MAX_NARROW = 1 << 22;  /* pixels that a picture may have with its padding, whatever the settings say */

struct hpcm_file {
    hpcm_container container;
    char *weights;
    int32_t threads;
    uint64_t max_pixels;
    hpcm_model *model;     /* null before it is needed */
    hpcm_runtime *runtime; /* of residual layers; null before it is needed */
    void *alpha;           /* the plane; null before it is needed */
    char message[HPCM_MESSAGE];
};

/* ---- opening ---------------------------------------------------------------------------------------------------------- */

int hpcm_is_file(const void *start, size_t size) {
    return size >= HPCM_SIGNATURE_BYTES && !memcmp(start, HPCM_MAGIC, HPCM_SIGNATURE_BYTES);
}

const char *hpcm_version(void) {
    return HPCM_VERSION;
}

/* A struct of the caller's, whose size may be that of an earlier or a later release, over our defaults. */
static int take_struct(void *taken, size_t size, const void *given) {
    size_t given_size;
    if (!given) return 1;
    memcpy(&given_size, given, sizeof given_size);
    if (given_size < sizeof given_size) return 0;
    memcpy(taken, given, given_size < size ? given_size : size);
    return 1;
}

static hpcm_status set_up(hpcm_file *file, const hpcm_settings *settings) {
    hpcm_settings taken = HPCM_SETTINGS;
    if (!take_struct(&taken, sizeof taken, settings))
        return hpcm_say(file->message, HPCM_BAD_ARGUMENT, "hpcm_settings.size isn't set: begin with HPCM_SETTINGS");
    if (taken.threads < 0)
        return hpcm_say(file->message, HPCM_BAD_ARGUMENT, "threads is %d: it must be 0 or more", taken.threads);
    file->threads = hpcm_least(taken.threads ? taken.threads : hpcm_cores(), MAX_THREADS);
    file->max_pixels = taken.max_pixels ? taken.max_pixels : MAX_DECODED;
    if (!taken.weights) return HPCM_OK;
    size_t length = strlen(taken.weights) + 1;
    file->weights = malloc(length);
    if (!file->weights) return hpcm_say(file->message, HPCM_NO_MEMORY, "no memory");
    memcpy(file->weights, taken.weights, length);
    return HPCM_OK;
}

/* A status of the container, whose message becomes the file's. */
static hpcm_status tell(hpcm_file *file, hpcm_status status) {
    if (status == HPCM_OK) return HPCM_OK;
    if (status == HPCM_NO_MEMORY && !file->container.message[0])
        return hpcm_say(file->message, status, "no memory for the file's bytes");
    memcpy(file->message, file->container.message, sizeof file->message);
    return status;
}

hpcm_status hpcm_open_stream(const hpcm_settings *settings, hpcm_file **file) {
    *file = calloc(1, sizeof **file);
    return *file ? set_up(*file, settings) : HPCM_NO_MEMORY;
}

hpcm_status hpcm_append(hpcm_file *file, const void *data, size_t size) {
    return tell(file, hpcm_container_append(&file->container, data, size));
}

hpcm_status hpcm_open_memory(const void *data, size_t size, const hpcm_settings *settings, hpcm_file **file) {
    HPCM_TRY(hpcm_open_stream(settings, file));
    hpcm_container_append(&(*file)->container, data, size);
    return tell(*file, hpcm_container_finish(&(*file)->container));
}

static hpcm_status read_all(hpcm_file *file, FILE *from) {
    enum { BLOCK = 1 << 18 };
    size_t size;
    uint8_t *block = malloc(BLOCK);
    if (!block) return hpcm_say(file->message, HPCM_NO_MEMORY, "no memory for the file's bytes");
    do {
        size = fread(block, 1, BLOCK, from);
        hpcm_container_append(&file->container, block, size);
    } while (size == BLOCK && file->container.status != HPCM_BAD_FORMAT); /* a device may go on for ever */
    free(block);
    if (ferror(from)) return hpcm_say(file->message, HPCM_UNREADABLE, "the file can't be read: %s", strerror(errno));
    return tell(file, hpcm_container_finish(&file->container));
}

hpcm_status hpcm_open(const char *path, const hpcm_settings *settings, hpcm_file **file) {
    HPCM_TRY(hpcm_open_stream(settings, file));
    FILE *from = fopen(path, READING);
    if (!from) return hpcm_say((*file)->message, HPCM_UNREADABLE, "the file can't be opened: %s", strerror(errno));
    hpcm_status status = read_all(*file, from);
    fclose(from);
    return status;
}

void hpcm_close(hpcm_file *file) {
    if (!file) return;
    hpcm_container_free(&file->container);
    if (file->model) hpcm_put_model(file->model);
    if (file->runtime) hpcm_runtime_free(file->runtime);
    free(file->alpha);
    free(file->weights);
    free(file);
}

const char *hpcm_message(const hpcm_file *file) {
    return file ? file->message : "no memory";
}

/* ---- what a file says ------------------------------------------------------------------------------------------------- */

static hpcm_status no_head(hpcm_file *file) {
    if (file->container.status != HPCM_OK) return tell(file, file->container.status);
    return hpcm_say(file->message, HPCM_TRUNCATED, "the head of the file isn't there");
}

static int scales_there(const hpcm_container *container) {
    int least = container->has_table ? (int)(container->parts_there / (size_t)container->tiles) : 0;
    if (container->base_parts > 1) return hpcm_least(least, container->base_parts);
    return least > 0 ? HPCM_PASSES : 0;
}

static hpcm_loss loss_of(const hpcm_header *header) {
    if (!header->has_residual) return HPCM_LOSSY;
    if (header->residual == HPCM_COEFFICIENTS) return HPCM_REFINED;
    return header->residual_number ? HPCM_NEAR_LOSSLESS : HPCM_LOSSLESS;
}

static int has_alpha(const hpcm_file *file) {
    return hpcm_chunk_of(&file->container, 'A') != 0;
}

hpcm_status hpcm_get_info(hpcm_file *file, hpcm_info *info) {
    const hpcm_container *container = &file->container;
    const hpcm_header *header = &container->header;
    hpcm_info made = HPCM_INFO;
    size_t size = info->size;
    if (size < sizeof size) return hpcm_say(file->message, HPCM_BAD_ARGUMENT, "hpcm_info.size isn't set: begin with HPCM_INFO");
    if (!container->has_head) return no_head(file);
    made.width = header->width;
    made.height = header->height;
    made.channels = hpcm_colours(header) + has_alpha(file);
    made.bit_depth = header->bit_depth;
    made.is_progressive = header->passes > 1;
    made.loss = (int32_t)loss_of(header);
    made.max_error = made.loss < HPCM_NEAR_LOSSLESS ? -1 : header->residual_number;
    made.level = header->level;
    made.tile_side = header->tile_side;
    made.tiles = container->tiles;
    memcpy(made.model, header->model, sizeof made.model);
    memcpy(made.model_hash, header->model_hash, sizeof made.model_hash);
    made.parts = (int32_t)container->table_size;
    made.parts_there = (int32_t)container->parts_there;
    made.scales_there = scales_there(container);
    made.size = size;
    memcpy(info, &made, size < sizeof made ? size : sizeof made);
    return HPCM_OK;
}

const uint8_t *hpcm_get_metadata(const hpcm_file *file, char type, size_t *size) {
    const hpcm_range *chunk = hpcm_chunk_of(&file->container, type);
    *size = chunk ? chunk->size : 0;
    return chunk ? file->container.bytes + chunk->begin : 0;
}

int32_t hpcm_reduction_for(hpcm_file *file, int32_t columns, int32_t rows) {
    const hpcm_header *header = &file->container.header;
    int32_t reduction = 1;
    if (!file->container.has_head || columns < 1 || rows < 1) return 1;
    while (reduction < MAX_REDUCTION && header->width / (2 * reduction) >= columns && header->height / (2 * reduction) >= rows)
        reduction *= 2;
    return reduction;
}

/* ---- what is asked for ------------------------------------------------------------------------------------------------ */

/* A request that makes sense for a file whose head is there. */
typedef struct {
    hpcm_box area;
    int is_box;
    int32_t reduction, scale, partial, bit_depth, channels;
    hpcm_check check;
    void *user;
} wish;

static int is_inside(const hpcm_request *r, const hpcm_header *header) {
    return r->left >= 0 && r->left < r->right && r->right <= header->width && r->top >= 0 && r->top < r->bottom &&
           r->bottom <= header->height;
}

static hpcm_status take_request(hpcm_file *file, const hpcm_request *request, wish *w) {
    const hpcm_header *header = &file->container.header;
    hpcm_request r = HPCM_REQUEST;
    if (!take_struct(&r, sizeof r, request))
        return hpcm_say(file->message, HPCM_BAD_ARGUMENT, "hpcm_request.size isn't set: begin with HPCM_REQUEST");
    if (!file->container.has_head) return no_head(file);
    int is_box = r.left || r.top || r.right || r.bottom;
    if (is_box && !is_inside(&r, header))
        return hpcm_say(file->message, HPCM_BAD_ARGUMENT, "the box (%d, %d, %d, %d) isn't inside the picture of %d x %d pixels", r.left,
                        r.top, r.right, r.bottom, header->width, header->height);
    if (r.reduction == 0) r.reduction = 1;
    if (r.reduction < 1 || r.reduction > MAX_REDUCTION || (r.reduction & (r.reduction - 1)))
        return hpcm_say(file->message, HPCM_BAD_ARGUMENT, "reduction is %d: it must be a power of two, 1 to %d", r.reduction, MAX_REDUCTION);
    if (is_box && r.reduction > 1) return hpcm_say(file->message, HPCM_BAD_ARGUMENT, "a box can't be reduced");
    if (r.scale < 0 || r.scale > HPCM_PASSES)
        return hpcm_say(file->message, HPCM_BAD_ARGUMENT, "scale is %d: it must be 0 to %d", r.scale, HPCM_PASSES);
    if (r.bit_depth != 0 && (r.bit_depth < 8 || r.bit_depth > 16))
        return hpcm_say(file->message, HPCM_BAD_ARGUMENT, "bit_depth is %d: it must be 0 or 8 to 16", r.bit_depth);
    if (r.channels != 0 && r.channels != 3 && r.channels != 4)
        return hpcm_say(file->message, HPCM_BAD_ARGUMENT, "channels is %d: it must be 0, 3 or 4", r.channels);
    *w = (wish){{r.left, r.top, r.right, r.bottom}, is_box, r.reduction, r.scale, r.partial, r.bit_depth, r.channels, r.check, r.user};
    if (!is_box) w->area = (hpcm_box){0, 0, header->width, header->height};
    if (!w->bit_depth) w->bit_depth = header->bit_depth;
    if (!w->channels) w->channels = hpcm_colours(header) + has_alpha(file);
    return HPCM_OK;
}

hpcm_status hpcm_get_size(hpcm_file *file, const hpcm_request *request, int32_t *columns, int32_t *rows) {
    wish w = {0};
    HPCM_TRY(take_request(file, request, &w));
    *columns = hpcm_divided_up(hpcm_columns(w.area), w.reduction);
    *rows = hpcm_divided_up(hpcm_rows(w.area), w.reduction);
    return HPCM_OK;
}

/* Whether what is asked for takes the residual layer. Coarse pictures do without, and reduced ones, if the lossy picture is
 * good enough: that of a model's best level is. */
static int needs_layer(const hpcm_header *header, const wish *w) {
    if (!header->has_residual) return 0;
    if (header->residual == HPCM_BESIDE_GREY) return 1;
    return w->scale == 0 && w->reduction < (header->residual == HPCM_COEFFICIENTS ? 2 : COARSE);
}

/* A box of pixels, widened to the tiles that it touches. */
static hpcm_box of_whole_tiles(const hpcm_tiling *tiling, hpcm_box box) {
    return hpcm_of_tiles(tiling, hpcm_touched(tiling, box));
}

/* A file may claim more memory or time than is allowed. A picture that is narrower than the padding takes as long as one that
 * is so wide. */
static hpcm_status check_claims(hpcm_file *file, const hpcm_tiling *tiling, const wish *w) {
    const hpcm_header *header = &file->container.header;
    hpcm_box whole = {0, 0, header->width, header->height}, reach = whole;
    if (w->is_box && !has_alpha(file)) reach = header->has_residual ? of_whole_tiles(tiling, w->area) : w->area;
    uint64_t columns = (uint64_t)hpcm_columns(reach), rows = (uint64_t)hpcm_rows(reach);
    uint64_t padded = (columns < HPCM_MULTIPLE ? HPCM_MULTIPLE : columns) * (rows < HPCM_MULTIPLE ? HPCM_MULTIPLE : rows);
    if (columns * rows > file->max_pixels || (padded > file->max_pixels && padded > MAX_NARROW))
        return hpcm_say(file->message, HPCM_TOO_LARGE, "the file claims %d x %d pixels, over %llu: allow more if you trust it",
                        hpcm_columns(reach), hpcm_rows(reach), (unsigned long long)file->max_pixels);
    if (header->tile_side > MAX_TILE_SIDE)
        return hpcm_say(file->message, HPCM_BAD_FORMAT, "the file has tiles of %d pixels, this libhpcm reads %d", header->tile_side,
                        MAX_TILE_SIDE);
    return HPCM_OK;
}

static hpcm_status check_parts(hpcm_file *file, const wish *w) {
    const hpcm_container *container = &file->container;
    if (w->partial && container->parts_there) return HPCM_OK;
    if (!w->partial && hpcm_is_complete(container) && container->status == HPCM_OK) return HPCM_OK;
    if (container->status != HPCM_OK) return tell(file, container->status);
    if (w->partial) return hpcm_say(file->message, HPCM_TRUNCATED, "not even the first part of the picture is there");
    return hpcm_say(file->message, HPCM_TRUNCATED, "only %zu of %zu parts of the file are there", container->parts_there,
                    container->table_size);
}

static hpcm_status need_model(hpcm_file *file) {
    const hpcm_header *header = &file->container.header;
    if (!file->model)
        HPCM_TRY(hpcm_find_model(header->model, header->model_hash, file->weights, file->threads, &file->model, file->message));
    int32_t levels = file->model->config.levels;
    if (header->level < levels) return HPCM_OK;
    return hpcm_say(file->message, HPCM_BAD_FORMAT, "the file has quality level %d, the model only %d", header->level, levels);
}

static hpcm_status need_runtime(hpcm_file *file) {
    if (!file->runtime) file->runtime = hpcm_runtime_create(file->threads);
    return file->runtime ? HPCM_OK : hpcm_say(file->message, HPCM_NO_MEMORY, "no memory for threads");
}

static hpcm_status need_alpha(hpcm_file *file) {
    const hpcm_header *header = &file->container.header;
    const hpcm_range *chunk = hpcm_chunk_of(&file->container, 'A');
    if (file->alpha || !chunk) return HPCM_OK;
    uint64_t size = (uint64_t)header->width * (uint64_t)header->height * hpcm_sample_bytes(header->bit_depth); /* max_pixels may allow more than fits */
    void *plane = size < SIZE_MAX ? malloc((size_t)size) : 0;
    if (!plane) return hpcm_say(file->message, HPCM_NO_MEMORY, "no memory for the alpha plane");
    hpcm_status status = hpcm_read_png(file->container.bytes + chunk->begin, chunk->size, header->width, header->height,
                                       header->bit_depth, plane, file->message);
    if (status == HPCM_OK) file->alpha = plane;
    else free(plane);
    return status;
}

/* ---- decoding --------------------------------------------------------------------------------------------------------- */

/* What the pieces of one request are made with. */
typedef struct {
    hpcm_file *file;
    const wish *wish;
    int with_layer;
    hpcm_synthesis synthesis; /* unless there is no lossy picture */
    hpcm_canvas canvas;
} work;

static void *new_samples(const hpcm_header *header, hpcm_box box) {
    return malloc(hpcm_samples_in(header, box) * hpcm_sample_bytes(header->bit_depth));
}

static void make_grey(const hpcm_header *header, hpcm_box box, void *samples) {
    size_t count = hpcm_samples_in(header, box);
    uint32_t grey = 1u << (header->bit_depth - 1);
    for (size_t i = 0; i < count; i++) {
        if (header->bit_depth == 8) ((uint8_t *)samples)[i] = (uint8_t)grey;
        else ((uint16_t *)samples)[i] = (uint16_t)grey;
    }
}

/* The base of a piece, or all of it where there is no layer. */
static hpcm_status make_base(work *k, hpcm_piece *piece) {
    const hpcm_header *header = &k->file->container.header;
    piece->samples = new_samples(header, piece->box);
    if (!piece->samples) return hpcm_say(k->file->message, HPCM_NO_MEMORY, "no memory for the samples of a tile");
    if (k->file->container.base_parts) return hpcm_synthesise_piece(&k->synthesis, piece->box, piece->samples);
    make_grey(header, piece->box, piece->samples);
    return HPCM_OK;
}

/* Makes and draws the pieces of some neighbouring tiles of a row. */
static hpcm_status draw_pieces(work *k, hpcm_piece *pieces, int count) {
    const wish *w = k->wish;
    hpcm_status status = HPCM_OK;
    for (int i = 0; i < count && status == HPCM_OK; i++) status = make_base(k, &pieces[i]);
    if (status == HPCM_OK && k->with_layer)
        status = hpcm_refine(&k->file->container, k->file->runtime, pieces, count, w->check, w->user, k->file->message);
    for (int i = 0; i < count && status == HPCM_OK; i++)
        hpcm_draw(&k->canvas, hpcm_overlap(pieces[i].box, w->area), pieces[i].samples, pieces[i].box);
    for (int i = 0; i < count; i++) free(pieces[i].samples);
    return status;
}

static hpcm_status draw_row(work *k, const hpcm_tiling *tiling, hpcm_box tiles, int32_t row, hpcm_piece *pieces, int32_t most) {
    for (int32_t first = tiles.left; first < tiles.right; first += most) {
        int32_t count = hpcm_least(most, tiles.right - first);
        for (int32_t i = 0; i < count; i++) {
            hpcm_box box = hpcm_tile_box(tiling, row, first + i);
            if (!k->with_layer) box = hpcm_overlap(box, k->wish->area);
            pieces[i] = (hpcm_piece){.index = row * hpcm_tiles_across(tiling) + first + i, .box = box};
        }
        HPCM_TRY(draw_pieces(k, pieces, count));
    }
    return HPCM_OK;
}

/* Residuals of several tiles are decoded side by side; without them a tile's networks use all threads. */
static hpcm_status draw_all(work *k, const hpcm_tiling *tiling) {
    hpcm_box tiles = hpcm_touched(tiling, k->wish->area);
    int32_t most = k->with_layer ? hpcm_least(k->file->threads, hpcm_columns(tiles)) : 1;
    hpcm_piece *pieces = calloc((size_t)most, sizeof *pieces);
    hpcm_status status = HPCM_OK;
    if (!pieces) return hpcm_say(k->file->message, HPCM_NO_MEMORY, "no memory");
    for (int32_t row = tiles.top; row < tiles.bottom && status == HPCM_OK; row++)
        status = draw_row(k, tiling, tiles, row, pieces, most);
    free(pieces);
    return status;
}

static hpcm_status decode(hpcm_file *file, const hpcm_tiling *tiling, const wish *w, void *pixels, size_t stride) {
    const hpcm_header *header = &file->container.header;
    work k = {.file = file, .wish = w, .with_layer = needs_layer(header, w)};
    k.canvas = (hpcm_canvas){header, w->area, w->reduction, w->bit_depth, w->channels, file->alpha, pixels, stride};
    k.synthesis.latents = (hpcm_latents){.container = &file->container,
                                         .model = file->model,
                                         .tiling = *tiling,
                                         .scale = w->scale ? w->scale : HPCM_PASSES,
                                         .check = w->check,
                                         .user = w->user,
                                         .message = file->message};
    hpcm_status status = HPCM_OK;
    if (file->container.base_parts)
        status = hpcm_begin_synthesis(&k.synthesis, k.with_layer ? of_whole_tiles(tiling, w->area) : w->area);
    if (status == HPCM_OK) status = draw_all(&k, tiling);
    hpcm_end_synthesis(&k.synthesis);
    return status;
}

/* The reasons that have no words of their own. */
static hpcm_status named(hpcm_file *file, hpcm_status status) {
    if (status == HPCM_OK || file->message[0]) return status;
    if (status == HPCM_STOPPED) return hpcm_say(file->message, status, "stopped by the caller");
    if (status == HPCM_NO_MEMORY) return hpcm_say(file->message, status, "no memory");
    return hpcm_say(file->message, status, "libhpcm failed with status %d", (int)status);
}

/* All that decoding needs. */
static hpcm_status prepare(hpcm_file *file, const hpcm_tiling *tiling, const wish *w) {
    HPCM_TRY(check_parts(file, w));
    HPCM_TRY(check_claims(file, tiling, w));
    if (file->container.base_parts) HPCM_TRY(need_model(file));
    if (needs_layer(&file->container.header, w)) HPCM_TRY(need_runtime(file));
    return need_alpha(file);
}

hpcm_status hpcm_read(hpcm_file *file, const hpcm_request *request, void *pixels, size_t stride) {
    const hpcm_header *header = &file->container.header;
    wish w = {0};
    file->message[0] = 0; /* of an earlier call: not every reason has words */
    HPCM_TRY(take_request(file, request, &w));
    int32_t columns = hpcm_divided_up(hpcm_columns(w.area), w.reduction);
    if (!pixels) return hpcm_say(file->message, HPCM_BAD_ARGUMENT, "there is no place for pixels: it is null");
    if (stride < (size_t)columns * (size_t)w.channels * hpcm_sample_bytes(w.bit_depth))
        return hpcm_say(file->message, HPCM_BAD_ARGUMENT, "stride is %zu: too little for %d columns", stride, columns);
    const hpcm_tiling tiling = {header->width, header->height, header->tile_side};
    hpcm_status status = prepare(file, &tiling, &w);
    if (status == HPCM_OK) status = decode(file, &tiling, &w, pixels, stride);
    return named(file, status);
}
