/* Where tiles lie, in pixels and in latents, of which one stands for 16 x 16 pixels; as codec/tiles.py has it. */
#ifndef HPCM_GEOMETRY_H
#define HPCM_GEOMETRY_H

#include <stdint.h>

/* In pixels or in latents; right and bottom are exclusive. */
typedef struct {
    int32_t left, top, right, bottom;
} hpcm_box;

typedef struct {
    int32_t width, height; /* of the picture, in pixels */
    int32_t side;          /* of a tile */
} hpcm_tiling;

enum { HPCM_PIXELS_PER_LATENT = 16, HPCM_MULTIPLE = 64 /* of pixels, to which pictures are padded */ };

static inline int32_t hpcm_least(int32_t a, int32_t b) {
    return a < b ? a : b;
}

static inline int32_t hpcm_most(int32_t a, int32_t b) {
    return a > b ? a : b;
}

static inline int32_t hpcm_divided_up(int32_t a, int32_t by) {
    return a / by + (a % by > 0);
}

static inline int32_t hpcm_tiles_across(const hpcm_tiling *tiling) {
    return hpcm_divided_up(tiling->width, tiling->side);
}

static inline int32_t hpcm_tiles_down(const hpcm_tiling *tiling) {
    return hpcm_divided_up(tiling->height, tiling->side);
}

static inline hpcm_box hpcm_overlap(hpcm_box a, hpcm_box b) {
    return (hpcm_box){hpcm_most(a.left, b.left), hpcm_most(a.top, b.top), hpcm_least(a.right, b.right),
                      hpcm_least(a.bottom, b.bottom)};
}

/* The box as it lies in another one. */
static inline hpcm_box hpcm_relative(hpcm_box box, hpcm_box inside) {
    return (hpcm_box){box.left - inside.left, box.top - inside.top, box.right - inside.left, box.bottom - inside.top};
}

static inline int hpcm_are_equal(hpcm_box a, hpcm_box b) {
    return a.left == b.left && a.top == b.top && a.right == b.right && a.bottom == b.bottom;
}

static inline int32_t hpcm_columns(hpcm_box box) {
    return box.right - box.left;
}

static inline int32_t hpcm_rows(hpcm_box box) {
    return box.bottom - box.top;
}

static inline hpcm_box hpcm_tile_box(const hpcm_tiling *tiling, int32_t row, int32_t column) {
    int32_t left = column * tiling->side, top = row * tiling->side;
    return (hpcm_box){left, top, hpcm_least(left + tiling->side, tiling->width),
                      hpcm_least(top + tiling->side, tiling->height)};
}

/* The columns and rows of tiles that a box of pixels touches. */
static inline hpcm_box hpcm_touched(const hpcm_tiling *tiling, hpcm_box box) {
    return (hpcm_box){box.left / tiling->side, box.top / tiling->side,
                      hpcm_least(hpcm_divided_up(box.right, tiling->side), hpcm_tiles_across(tiling)),
                      hpcm_least(hpcm_divided_up(box.bottom, tiling->side), hpcm_tiles_down(tiling))};
}

/* The pixels of whole tiles, given by their columns and rows. */
static inline hpcm_box hpcm_of_tiles(const hpcm_tiling *tiling, hpcm_box tiles) {
    hpcm_box first = hpcm_tile_box(tiling, tiles.top, tiles.left);
    hpcm_box last = hpcm_tile_box(tiling, tiles.bottom - 1, tiles.right - 1);
    return (hpcm_box){first.left, first.top, last.right, last.bottom};
}

/* Rows or columns of latents of so many pixels, padded. */
static inline int32_t hpcm_padded(int32_t pixels) {
    return hpcm_divided_up(pixels, HPCM_MULTIPLE) * (HPCM_MULTIPLE / HPCM_PIXELS_PER_LATENT);
}

/* The latents of a tile, padded. */
static inline hpcm_box hpcm_cells(hpcm_box tile) {
    int32_t left = tile.left / HPCM_PIXELS_PER_LATENT, top = tile.top / HPCM_PIXELS_PER_LATENT;
    return (hpcm_box){left, top, left + hpcm_padded(hpcm_columns(tile)), top + hpcm_padded(hpcm_rows(tile))};
}

/* The latents that a box of pixels touches. */
static inline hpcm_box hpcm_cells_of(hpcm_box box) {
    return (hpcm_box){box.left / HPCM_PIXELS_PER_LATENT, box.top / HPCM_PIXELS_PER_LATENT,
                      hpcm_divided_up(box.right, HPCM_PIXELS_PER_LATENT),
                      hpcm_divided_up(box.bottom, HPCM_PIXELS_PER_LATENT)};
}

static inline hpcm_box hpcm_pixels_of(hpcm_box cells) {
    return (hpcm_box){cells.left * HPCM_PIXELS_PER_LATENT, cells.top * HPCM_PIXELS_PER_LATENT,
                      cells.right * HPCM_PIXELS_PER_LATENT, cells.bottom * HPCM_PIXELS_PER_LATENT};
}

/* A box in latents, wider by so many on each side, as far as there are latents. */
static inline hpcm_box hpcm_widened(const hpcm_tiling *tiling, hpcm_box cells, int32_t by) {
    return (hpcm_box){hpcm_most(cells.left - by, 0), hpcm_most(cells.top - by, 0),
                      hpcm_least(cells.right + by, hpcm_padded(tiling->width)),
                      hpcm_least(cells.bottom + by, hpcm_padded(tiling->height))};
}

#endif
