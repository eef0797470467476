/* Fuzzes what reads weights files and PNGs of strangers (core/file/weights.h, png.h); see `make fuzz`.
 *
 * Weights are those of a tiny model (tiny.h) with changes, or any header. Checksums of PNGs are 0 (blind.h) for half of the
 * inputs. Beyond the sanitizers it checks what always holds: every refusal has a reason, there is a model or none, no sample
 * is above the peak, and equal bytes are read alike. */
#include "../file/png.h"
#include "../file/weights.h"
#include "blind.h"
#include "failing.h"
#include "input.h"
#include "tiny.h"

enum { SIZE_BYTES = 8, MOST_SIDE = 40 };

static uint16_t take_place(input *in) {
    uint16_t place;
    take(in, &place, sizeof place);
    return place;
}

/* ---- weights ------------------------------------------------------------------------------------------------------------ */

/* end: where it is odd, an allocation fails. */
static void load(const uint8_t *bytes, size_t size, int32_t end) {
    char message[HPCM_MESSAGE];
    hpcm_model *model = 0;
    if (end % 2) allocations_left = end / 2;
    hpcm_status status = hpcm_load_weights(bytes, size, 1, &model, message);
    allocations_left = -1;
    expect(status == HPCM_OK || status == HPCM_BAD_MODEL || (end % 2 && status == HPCM_NO_MEMORY), "weights load or are refused");
    expect((status == HPCM_OK) == !!model, "there is a model or none");
    expect(status != HPCM_BAD_MODEL || message[0], "a refusal has a reason");
    hpcm_model_free(model);
}

/* The header's size, in front of it. */
static void put_size(uint8_t *bytes, size_t size) {
    for (int i = 0; i < SIZE_BYTES; i++) bytes[i] = (uint8_t)(size >> 8 * i);
}

static size_t get_size(const uint8_t *bytes) {
    size_t size = 0;
    for (int i = 0; i < SIZE_BYTES; i++) size |= (size_t)bytes[i] << 8 * i;
    return size;
}

/* Puts bytes of the input in place of some of the header. */
static void change_header(input *in, uint8_t *bytes, size_t *size) {
    enum { MOST = 8 };
    size_t header = get_size(bytes), place = take_place(in) % header, out = (size_t)choose(in, MOST), come = (size_t)choose(in, MOST);
    uint8_t *at = bytes + SIZE_BYTES + place;
    if (out > header - place) out = header - place;
    memmove(at + come, at + out, *size - SIZE_BYTES - place - out);
    take(in, at, come);
    *size += come - out;
    put_size(bytes, header + come - out);
}

static void fuzz_changed_weights(input *in) {
    enum { MOST_CHANGES = 8, ROOM = 8 * MOST_CHANGES };
    int32_t end = choose(in, 256);
    size_t size = tiny_size;
    uint8_t *changed = exactly(size + ROOM);
    memcpy(changed, tiny, size);
    for (int32_t changes = choose(in, MOST_CHANGES); changes > 0; changes--) {
        if (choose(in, 2)) changed[SIZE_BYTES + get_size(changed) + take_place(in)] = (uint8_t)choose(in, 256);
        else change_header(in, changed, &size);
    }
    if (choose(in, 4) == 3) size -= take_place(in);
    uint8_t *copy = exactly(size);
    memcpy(copy, changed, size);
    free(changed);
    load(copy, size, end);
    free(copy);
}

static void fuzz_header(input *in) {
    int32_t end = choose(in, 256);
    size_t data = (size_t)choose(in, 64), header = in->left, size = SIZE_BYTES + header + data;
    uint8_t *bytes = exactly(size);
    memset(bytes, 0, size);
    put_size(bytes, header);
    take(in, bytes + SIZE_BYTES, header);
    load(bytes, size, end);
    free(bytes);
}

/* ---- PNGs --------------------------------------------------------------------------------------------------------------- */

typedef struct {
    int32_t columns, rows, bit_depth;
    size_t bytes; /* of a plane */
} form;

static hpcm_status read_png(const form *f, const uint8_t *png, size_t size, void *plane) {
    char message[HPCM_MESSAGE];
    hpcm_status status = hpcm_read_png(png, size, f->columns, f->rows, f->bit_depth, plane, message);
    expect(status != HPCM_CORRUPT || message[0], "a refusal has a reason");
    return status;
}

static void expect_samples(const form *f, const void *plane) {
    int32_t peak = (1 << f->bit_depth) - 1;
    for (int32_t i = 0; i < f->columns * f->rows; i++) {
        int32_t sample = f->bit_depth == 8 ? ((const uint8_t *)plane)[i] : ((const uint16_t *)plane)[i];
        expect(sample <= peak, "no sample is above the peak");
    }
}

/* allocations: that succeed the first time. */
static void expect_read(const form *f, const uint8_t *png, size_t size, int32_t allocations) {
    void *plane = exactly(f->bytes), *again = exactly(f->bytes);
    memset(plane, 0, f->bytes);
    memset(again, 0xFF, f->bytes);
    allocations_left = allocations;
    hpcm_status status = read_png(f, png, size, plane);
    allocations_left = -1;
    expect(status == HPCM_OK || status == HPCM_CORRUPT || status == HPCM_NO_MEMORY, "a PNG is read or refused");
    hpcm_status status_again = read_png(f, png, size, again);
    expect(status == status_again || status == HPCM_NO_MEMORY, "equal bytes are read alike");
    if (status == HPCM_OK) expect(!memcmp(plane, again, f->bytes), "equal bytes give equal samples, and all of them");
    if (status_again == HPCM_OK) expect_samples(f, again);
    free(plane);
    free(again);
}

static uint8_t *put_chunk(uint8_t *to, const char *kind, const void *data, size_t size) {
    for (int i = 0; i < 4; i++) *to++ = (uint8_t)(size >> 8 * (3 - i));
    memcpy(to, kind, 4);
    if (size) memcpy(to + 4, data, size);
    memset(to + 4 + size, 0, 4); /* the CRC */
    return to + 4 + size + 4;
}

/* A PNG whose chunks IDAT are the input, in one or in two, and where there is little else to be wrong. */
static void fuzz_samples(input *in, const form *f, int32_t allocations) {
    enum { HEADER = 13, OF_CHUNK = 12, SIGNATURE = 8 };
    int is_interlaced = choose(in, 2), split = choose(in, 256);
    size_t data = in->left, one = (size_t)split < data ? (size_t)split : data;
    uint8_t header[HEADER] = {0, 0, 0, (uint8_t)f->columns, 0, 0, 0, (uint8_t)f->rows, f->bit_depth == 8 ? 8 : 16};
    header[HEADER - 1] = (uint8_t)is_interlaced;
    size_t size = SIGNATURE + HEADER + data + 4 * OF_CHUNK;
    uint8_t *png = exactly(size);
    memcpy(png, "\x89PNG\r\n\x1A\n", SIGNATURE);
    uint8_t *at = put_chunk(png + SIGNATURE, "IHDR", header, HEADER);
    at = put_chunk(at, "IDAT", in->bytes, one);
    at = put_chunk(at, "IDAT", in->bytes + one, data - one);
    put_chunk(at, "IEND", 0, 0);
    is_blind = 1;
    expect_read(f, png, size, allocations);
    free(png);
}

static void fuzz_png(input *in) {
    form f = {.columns = 1 + choose(in, MOST_SIDE), .rows = 1 + choose(in, MOST_SIDE), .bit_depth = 8 + choose(in, 9)};
    f.bytes = (size_t)f.columns * (size_t)f.rows * (f.bit_depth == 8 ? 1 : 2);
    int32_t kind = choose(in, 4), allocations = choose(in, 4) - 1;
    if (kind > 1) {
        fuzz_samples(in, &f, allocations);
        return;
    }
    is_blind = kind;
    uint8_t *png = exactly(in->left);
    size_t size = in->left;
    take(in, png, size);
    expect_read(&f, png, size, allocations);
    free(png);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static void (*const targets[])(input *in) = {fuzz_changed_weights, fuzz_header, fuzz_png, fuzz_png};
    input in = {data, size};
    is_blind = 0;
    if (!tiny_size) read_tiny();
    targets[choose(&in, sizeof targets / sizeof *targets)](&in);
    return 0;
}
