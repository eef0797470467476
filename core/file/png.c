/* A PNG's rows as they come (PNG specification, third edition): a row, the one above it, and a window of what was
 * decompressed are all that is kept. */
#include "png.h"

#include <stdlib.h>
#include <string.h>

#include "../checksum.h"
#include "depth.h"
#include "inflate.h"
#include "message.h"

enum { SIGNATURE = 8, KIND = 4, LENGTH = 4, CRC = 4, HEADER = 13 };

typedef struct {
    const uint8_t *data; /* of the PNG */
    size_t size, at;
    char *message;
} reader;

/* Data that are cut at the end of the PNG, if it ends before them. */
typedef struct {
    const uint8_t *data;
    size_t size;
    char kind[KIND + 1];
} chunk;

static uint32_t big_endian(const uint8_t *bytes) {
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

/* ---- chunks ----------------------------------------------------------------------------------------------------------- */

/* 0 where there is none. */
static int next_chunk(reader *r, chunk *next) {
    if (r->size - r->at < LENGTH + KIND) return 0;
    const uint8_t *head = r->data + r->at;
    uint32_t claimed = big_endian(head);
    size_t there = r->size - r->at - LENGTH - KIND;
    memcpy(next->kind, head + LENGTH, KIND);
    next->kind[KIND] = 0;
    next->data = head + LENGTH + KIND;
    next->size = claimed < there ? claimed : there;
    r->at += LENGTH + KIND + next->size;
    r->at = r->size - r->at < CRC ? r->size : r->at + CRC;
    return 1;
}

static int is_whole(const reader *r, const chunk *c) {
    const uint8_t *end = c->data + c->size;
    if (r->data + r->size - end < CRC) return 0;
    return hpcm_crc32(c->data - KIND, KIND + c->size, 0) == big_endian(end);
}

/* As the inflater asks for it: the data of the chunks IDAT, which follow one another. */
static int more(void *user, const uint8_t **data, size_t *size) {
    chunk next;
    if (!next_chunk(user, &next) || memcmp(next.kind, "IDAT", KIND)) return 0;
    *data = next.data;
    *size = next.size;
    return 1;
}

static hpcm_status read_header(reader *r, int32_t columns, int32_t rows, int bits) {
    static const uint8_t signature[SIGNATURE] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};
    chunk header;
    if (r->size < SIGNATURE || memcmp(r->data, signature, SIGNATURE))
        return hpcm_say(r->message, HPCM_CORRUPT, "the alpha plane is no PNG");
    r->at = SIGNATURE;
    if (!next_chunk(r, &header) || memcmp(header.kind, "IHDR", KIND) || header.size != HEADER || !is_whole(r, &header))
        return hpcm_say(r->message, HPCM_CORRUPT, "the header of the alpha plane is damaged");
    uint32_t width = big_endian(header.data), height = big_endian(header.data + 4);
    if (width != (uint32_t)columns || height != (uint32_t)rows)
        return hpcm_say(r->message, HPCM_CORRUPT, "the alpha plane is %u x %u, not %d x %d", (unsigned)width,
                        (unsigned)height, (int)columns, (int)rows);
    const uint8_t *kind = header.data + 8; /* bits, colours, compression, filters, interlacing */
    if (kind[0] != bits || kind[1] || kind[2] || kind[3] || kind[4])
        return hpcm_say(r->message, HPCM_CORRUPT, "the alpha plane isn't grey of %d bits, without interlacing", bits);
    return HPCM_OK;
}

/* Up to the first IDAT, which stays to be read. */
static hpcm_status skip_others(reader *r) {
    for (;;) {
        chunk next;
        size_t begin = r->at;
        if (!next_chunk(r, &next)) return hpcm_say(r->message, HPCM_CORRUPT, "the alpha plane has no samples");
        if (!memcmp(next.kind, "IDAT", KIND)) {
            r->at = begin;
            return HPCM_OK;
        }
        if (!memcmp(next.kind, "IHDR", KIND) || !memcmp(next.kind, "IEND", KIND))
            return hpcm_say(r->message, HPCM_CORRUPT, "the alpha plane has no samples behind its header");
        if (!is_whole(r, &next)) return hpcm_say(r->message, HPCM_CORRUPT, "a chunk of the alpha plane is damaged");
    }
}

/* ---- rows ------------------------------------------------------------------------------------------------------------- */

/* The one of a, b, c that is nearest to a + b - c, in this order where two are as near. */
static uint8_t paeth(int a, int b, int c) {
    int to_a = abs(b - c), to_b = abs(a - c), to_c = abs(a + b - 2 * c);
    if (to_a <= to_b && to_a <= to_c) return (uint8_t)a;
    return (uint8_t)(to_b <= to_c ? b : c);
}

/* Undoes a row's filter, whose number is given; 0 for one that isn't known. `step`: bytes of a sample. */
static int undo_filter(int filter, uint8_t *row, const uint8_t *above, size_t size, size_t step) {
    if (filter > 4) return 0;
    for (size_t i = 0; filter && i < size; i++) {
        uint8_t a = i < step ? 0 : row[i - step], b = above[i], c = i < step ? 0 : above[i - step];
        const uint8_t predicted[5] = {0, a, b, (uint8_t)((a + b) / 2), filter == 4 ? paeth(a, b, c) : 0};
        row[i] = (uint8_t)(row[i] + predicted[filter]);
    }
    return 1;
}

typedef struct {
    hpcm_inflate *stream;
    int32_t columns, rows; /* of the plane */
    size_t step;           /* bytes of a sample */
    uint32_t peak;
    uint8_t *row, *above;  /* with the filter in front */
    void *plane;
    char *message;
} decoding;

/* 0 where a sample is above the peak. */
static int write_row(const decoding *d, int32_t y) {
    const uint8_t *from = d->row + 1;
    size_t to = (size_t)y * (size_t)d->columns;
    for (int32_t i = 0; i < d->columns; i++, to++, from += d->step) {
        uint32_t value = d->step == 1 ? *from : (uint32_t)from[0] << 8 | from[1];
        if (value > d->peak) return 0;
        if (d->step == 1) ((uint8_t *)d->plane)[to] = (uint8_t)value;
        else ((uint16_t *)d->plane)[to] = (uint16_t)value;
    }
    return 1;
}

static hpcm_status read_rows(decoding *d) {
    size_t size = (size_t)d->columns * d->step;
    memset(d->above, 0, 1 + size);
    for (int32_t y = 0; y < d->rows; y++) {
        if (!hpcm_inflate_read(d->stream, d->row, 1 + size))
            return hpcm_say(d->message, HPCM_CORRUPT, "the alpha plane is cut short or damaged");
        if (!undo_filter(d->row[0], d->row + 1, d->above + 1, size, d->step))
            return hpcm_say(d->message, HPCM_CORRUPT, "the alpha plane has a filter of number %d", d->row[0]);
        if (!write_row(d, y))
            return hpcm_say(d->message, HPCM_CORRUPT, "the alpha plane has a value above %u", (unsigned)d->peak);
        uint8_t *read = d->row;
        d->row = d->above;
        d->above = read;
    }
    if (hpcm_inflate_end(d->stream)) return HPCM_OK;
    return hpcm_say(d->message, HPCM_CORRUPT, "the alpha plane doesn't end where it should");
}

hpcm_status hpcm_read_png(const uint8_t *data, size_t size, int32_t columns, int32_t rows, int32_t bit_depth, void *plane,
                          char *message) {
    reader r = {data, size, 0, message};
    size_t step = hpcm_sample_bytes(bit_depth);
    message[0] = 0;
    hpcm_status status = read_header(&r, columns, rows, (int)(8 * step));
    if (status == HPCM_OK) status = skip_others(&r);
    if (status != HPCM_OK) return status;
    size_t row = 1 + (size_t)columns * step;
    uint8_t *kept = malloc(2 * row);
    hpcm_inflate *stream = malloc(sizeof *stream);
    if (kept && stream) {
        hpcm_inflate_begin(stream, more, &r);
        decoding d = {stream, columns, rows, step, (1u << bit_depth) - 1, kept, kept + row, plane, message};
        status = read_rows(&d);
    } else {
        status = hpcm_say(message, HPCM_NO_MEMORY, "no memory for rows of the alpha plane");
    }
    free(stream);
    free(kept);
    return status;
}
