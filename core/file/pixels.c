#include "pixels.h"

#include <stdlib.h>

#include "../model.h"
#include "depth.h"
#include "message.h"

/* Latents next to a box that its pixels can depend on: one place for each 3x3 convolution at its own stride, and two pixels
 * for a 4x4 stem. */
static int32_t halo_of(const hpcm_config *config) {
    enum { SYNTHESIS = 1 };
    int32_t stride = config->stem == HPCM_UNSHUFFLE8 ? HPCM_CELL : 2, reach = config->stem == HPCM_CONV4 ? 2 : 0;
    int32_t stages = config->stages[SYNTHESIS];
    for (int32_t stage = 0; stage < stages; stage++)
        reach += config->blocks[SYNTHESIS][stages - 1 - stage] * (stride << stage);
    return hpcm_divided_up(reach, HPCM_PIXELS_PER_LATENT);
}

static hpcm_status no_memory(const hpcm_synthesis *synthesis) {
    return hpcm_say(synthesis->latents.message, HPCM_NO_MEMORY, "no memory for the picture's latents");
}

hpcm_status hpcm_begin_synthesis(hpcm_synthesis *synthesis, hpcm_box box) {
    const hpcm_tiling *tiling = &synthesis->latents.tiling;
    synthesis->halo = halo_of(&synthesis->latents.model->config);
    hpcm_box outer = hpcm_widened(tiling, hpcm_cells_of(box), synthesis->halo);
    synthesis->needed = hpcm_touched(tiling, hpcm_pixels_of(outer));
    synthesis->rows = calloc((size_t)hpcm_rows(synthesis->needed), sizeof *synthesis->rows);
    return synthesis->rows ? HPCM_OK : no_memory(synthesis);
}

void hpcm_end_synthesis(hpcm_synthesis *synthesis) {
    for (int32_t i = 0; synthesis->rows && i < hpcm_rows(synthesis->needed); i++) free(synthesis->rows[i]);
    free(synthesis->rows);
    synthesis->rows = 0;
    hpcm_latents_free(&synthesis->latents);
}

/* The latents of the needed tiles of a row, counted from the first needed one. */
static hpcm_box cells_of_row(const hpcm_synthesis *synthesis, int32_t row) {
    hpcm_box needed = synthesis->needed;
    const hpcm_tiling *tiling = &synthesis->latents.tiling;
    hpcm_box first = hpcm_cells(hpcm_tile_box(tiling, needed.top + row, needed.left));
    hpcm_box last = hpcm_cells(hpcm_tile_box(tiling, needed.top + row, needed.right - 1));
    return (hpcm_box){first.left, first.top, last.right, first.bottom};
}

static size_t floats_in(const hpcm_synthesis *synthesis, hpcm_box cells) {
    return (size_t)hpcm_rows(cells) * (size_t)hpcm_columns(cells) * (size_t)synthesis->latents.model->config.M;
}

/* Decodes the tiles of the next row. */
static hpcm_status decode_row(hpcm_synthesis *synthesis) {
    int32_t row = synthesis->row_count, channels = synthesis->latents.model->config.M;
    hpcm_box all = cells_of_row(synthesis, row);
    float *joined = malloc(floats_in(synthesis, all) * sizeof *joined);
    synthesis->rows[row] = joined;
    if (!joined) return no_memory(synthesis);
    for (int32_t column = synthesis->needed.left; column < synthesis->needed.right; column++) {
        hpcm_box own = hpcm_cells(hpcm_tile_box(&synthesis->latents.tiling, synthesis->needed.top + row, column));
        float *y_hat = malloc(floats_in(synthesis, own) * sizeof *y_hat);
        if (!y_hat) return no_memory(synthesis);
        hpcm_status status = hpcm_latents_of(&synthesis->latents, synthesis->needed.top + row, column, y_hat);
        if (status == HPCM_OK) hpcm_copy_box(y_hat, own, joined, all, 1, channels);
        free(y_hat);
        if (status != HPCM_OK) return status;
    }
    synthesis->row_count++;
    return HPCM_OK;
}

/* Decodes what a box in latents needs, and gives up rows of tiles that lie above it. */
static hpcm_status reach(hpcm_synthesis *synthesis, hpcm_box outer) {
    while (synthesis->row_count < hpcm_rows(synthesis->needed) &&
           cells_of_row(synthesis, synthesis->row_count).top < outer.bottom)
        HPCM_TRY(decode_row(synthesis));
    for (int32_t row = 0; row < synthesis->row_count && cells_of_row(synthesis, row).bottom <= outer.top; row++) {
        free(synthesis->rows[row]);
        synthesis->rows[row] = 0;
    }
    return HPCM_OK;
}

hpcm_status hpcm_synthesise_piece(hpcm_synthesis *synthesis, hpcm_box piece, void *samples) {
    const hpcm_latents *latents = &synthesis->latents;
    const hpcm_header *header = &latents->container->header;
    int32_t channels = hpcm_colours(header), sample_bytes = (int32_t)hpcm_sample_bytes(header->bit_depth);
    hpcm_box outer = hpcm_widened(&latents->tiling, hpcm_cells_of(piece), synthesis->halo);
    HPCM_TRY(reach(synthesis, outer));
    float *y_hat = malloc(floats_in(synthesis, outer) * sizeof *y_hat);
    if (!y_hat) return no_memory(synthesis);
    for (int32_t row = 0; row < synthesis->row_count; row++)
        if (synthesis->rows[row])
            hpcm_copy_box(synthesis->rows[row], cells_of_row(synthesis, row), y_hat, outer, 1, latents->model->config.M);
    hpcm_box inside = hpcm_relative(piece, hpcm_pixels_of(outer));
    const int32_t box[4] = {inside.left, inside.top, inside.right, inside.bottom};
    hpcm_status status = hpcm_synthesise(latents->model, y_hat, hpcm_rows(outer), hpcm_columns(outer), box, sample_bytes,
                                         channels, samples, latents->check, latents->user);
    free(y_hat);
    if (status != HPCM_OK) return status;
    if (sample_bytes == 2) hpcm_rescale(samples, hpcm_samples_in(header, piece), 16, header->bit_depth);
    return HPCM_OK;
}
