/* The bytes of a .hpcm file: header, chunks, table of tiles and parts, as they come. src/hpcm/format/container.py specifies
 * the format, and is what this reader is tested against. */
#ifndef HPCM_CONTAINER_H
#define HPCM_CONTAINER_H

#include <stddef.h>
#include <stdint.h>

#include "../status.h"
#include "geometry.h"

enum {
    HPCM_PASSES = 3,                 /* of progressive files */
    HPCM_MAX_NAME = 32,              /* letters of a model's name */
    HPCM_MAX_CHUNKS = 4 + 26         /* ICC profile, EXIF, alpha, residual; ancillary ones, a letter each */
};

typedef enum { HPCM_SAMPLES, HPCM_BESIDE_GREY, HPCM_COEFFICIENTS } hpcm_residual;

#define HPCM_MAGIC "\x89HPC" /* the first HPCM_SIGNATURE_BYTES of decode.h */

/* 1 to 32 of a-z 0-9 ._- and no ._- in front: what a file can call a model, and safe in a path. */
int hpcm_is_model_name(const char *name, size_t length);

/* Where something lies in the file. */
typedef struct {
    size_t begin, size;
} hpcm_range;

typedef struct {
    int is_grey, passes;
    int32_t width, height, bit_depth, level, tile_side;
    char model[HPCM_MAX_NAME + 1];
    uint8_t model_hash[8];
    int has_residual;
    hpcm_residual residual;
    int32_t residual_number; /* the largest error of a sample, or the step of coefficients */
    int32_t chunk_count;
    char chunk_types[HPCM_MAX_CHUNKS];
    hpcm_range chunks[HPCM_MAX_CHUNKS];
} hpcm_header;

/* Without alpha. */
static inline int32_t hpcm_colours(const hpcm_header *header) {
    return header->is_grey ? 1 : 3;
}

/* Of the colours, in a box of pixels. */
static inline size_t hpcm_samples_in(const hpcm_header *header, hpcm_box box) {
    return (size_t)hpcm_rows(box) * (size_t)hpcm_columns(box) * (size_t)hpcm_colours(header);
}

typedef struct {
    hpcm_range payload;
    uint32_t checksum;
} hpcm_part;

typedef struct {
    uint8_t *bytes;
    size_t size, room;
    uint64_t received;  /* bytes, also those that came after an error and aren't kept */
    uint64_t required;  /* until so many bytes are there, nothing more can be read */
    hpcm_status status;
    char message[HPCM_MESSAGE];
    int has_head, has_table;
    hpcm_header header; /* if the head is there */
    int parts, base_parts; /* of a tile; those before the residual layer's */
    int32_t tiles;
    size_t at;             /* what comes next */
    size_t table_begin, table_end;
    size_t table_size;     /* entries, of which so many have been read: */
    size_t entries;
    uint64_t payloads;     /* bytes of all parts, by the table */
    hpcm_part *table;      /* [tiles][parts] */
    uint32_t *crcs;        /* [tiles], each goes on over the parts of its tile */
    size_t parts_there;    /* in their order in the file: pass by pass, and in each tile by tile */
} hpcm_container;

/* A container is zeros before its first bytes. */
void hpcm_container_free(hpcm_container *container);

/* More bytes. Gives the status: HPCM_OK as long as what is there is right. */
hpcm_status hpcm_container_append(hpcm_container *container, const uint8_t *bytes, size_t size);

/* What is to be said of the file if no more bytes come: as `unpack` in container.py without `partial`. */
hpcm_status hpcm_container_finish(hpcm_container *container);

/* How many parts of a tile are there. */
int hpcm_parts_of(const hpcm_container *container, int32_t tile);
int hpcm_is_complete(const hpcm_container *container);

/* A chunk by its type; null if there is none. */
const hpcm_range *hpcm_chunk_of(const hpcm_container *container, char type);

#endif
