#include "layer.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "../checksum.h"
#include "depth.h"
#include "message.h"

enum { RESULT_BYTES = 4 }; /* of a part, behind its coder's: the CRC-32 of the samples with the layer */

typedef struct {
    const hpcm_container *container;
    hpcm_piece *pieces;
    hpcm_check check;
    void *user;
    atomic_int stopped;
} job;

typedef struct {
    job *job;
    int thread;
} checker;

/* The caller's check is asked in the caller's thread alone. */
static int check_stopped(void *context) {
    const checker *c = context;
    if (c->thread == 0 && c->job->check && c->job->check(c->job->user)) atomic_store(&c->job->stopped, 1);
    return atomic_load(&c->job->stopped);
}

static hpcm_status decode(const hpcm_header *header, const uint8_t *payload, size_t size, hpcm_box box, const void *base,
                          void *samples, checker *c) {
    int32_t rows = hpcm_rows(box), columns = hpcm_columns(box), channels = hpcm_colours(header);
    int32_t number = header->residual_number;
    if (header->residual == HPCM_COEFFICIENTS)
        return hpcm_dct_decode(payload, size, base, rows, columns, channels, header->bit_depth, number, samples, check_stopped, c);
    return hpcm_residual_decode(payload, size, base, rows, columns, channels, header->bit_depth, number, samples, check_stopped, c);
}

static uint32_t number_at(const uint8_t *bytes) {
    return bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

static hpcm_status mismatch(hpcm_piece *piece, const char *what) {
    return hpcm_say(piece->message, HPCM_MISMATCH,
                    "%s of the tile at (%d, %d): this machine computes other samples than the encoder's; HPCM_KERNELS chooses other "
                    "kernels",
                    what, piece->box.left, piece->box.top);
}

static hpcm_status corrupt(hpcm_piece *piece) {
    return hpcm_say(piece->message, HPCM_CORRUPT, "the residual of the tile at (%d, %d) can't be decoded", piece->box.left,
                    piece->box.top);
}

static hpcm_status refine(const hpcm_container *container, hpcm_piece *piece, checker *c) {
    const hpcm_header *header = &container->header;
    const hpcm_part *part = &container->table[(size_t)(piece->index + 1) * (size_t)container->parts - 1];
    size_t bytes = hpcm_samples_in(header, piece->box) * hpcm_sample_bytes(header->bit_depth);
    if (hpcm_parts_of(container, piece->index) < container->parts) return HPCM_OK;
    if (hpcm_crc32(piece->samples, bytes, 0) != part->checksum)
        return mismatch(piece, "the decoded picture isn't the one that the residual was made for");
    if (part->payload.size <= RESULT_BYTES) return corrupt(piece);
    void *refined = malloc(bytes);
    if (!refined) return hpcm_say(piece->message, HPCM_NO_MEMORY, "no memory for the samples of a tile");
    const uint8_t *payload = container->bytes + part->payload.begin;
    size_t size = part->payload.size - RESULT_BYTES;
    hpcm_status status = decode(header, payload, size, piece->box, piece->samples, refined, c);
    if (status == HPCM_BAD_PAYLOAD) status = corrupt(piece);
    if (status == HPCM_OK && hpcm_crc32(refined, bytes, 0) != number_at(payload + size))
        status = mismatch(piece, "the residual decodes to other samples than it was made of");
    free(piece->samples);
    piece->samples = refined;
    return status;
}

static void refine_piece(void *context, int index, int thread) {
    job *j = context;
    checker c = {j, thread};
    hpcm_piece *piece = &j->pieces[index];
    if (atomic_load(&j->stopped)) {
        piece->status = HPCM_STOPPED;
        return;
    }
    piece->status = refine(j->container, piece, &c);
    if (piece->status != HPCM_OK) atomic_store(&j->stopped, 1);
}

hpcm_status hpcm_refine(const hpcm_container *container, hpcm_runtime *runtime, hpcm_piece *pieces, int count,
                        hpcm_check check, void *user, char *message) {
    job j = {.container = container, .pieces = pieces, .check = check, .user = user};
    hpcm_status status = HPCM_OK;
    hpcm_share_out(runtime, refine_piece, &j, count);
    for (int i = 0; i < count; i++) {
        /* Pieces were stopped where another one is wrong: that one says why. */
        if (pieces[i].status == HPCM_OK || (status != HPCM_OK && status != HPCM_STOPPED)) continue;
        if (pieces[i].status == HPCM_STOPPED && status == HPCM_STOPPED) continue;
        status = pieces[i].status;
        memcpy(message, pieces[i].message, HPCM_MESSAGE);
    }
    return status;
}
