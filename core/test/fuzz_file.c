/* Fuzzes the reader of files (core/file/decode.h) with any bytes and any requests; see `make fuzz`. The weights are those
 * of a tiny model (tiny.h).
 *
 * An input is CHOICES bytes that say what is done, and a file. Where the first one is odd, checksums are 0 (blind.h); the
 * last one says whether there is a second thread.
 *
 * Beyond the sanitizers it checks what always holds: bytes say the same in one piece and in many; a box is what the whole
 * picture has there; equal requests give equal pixels, none above the peak; nothing is written beside them; every refusal
 * has a reason; and work that ended early, at a check or without memory, changes nothing later. */
#include "../file/decode.h"
#include "blind.h"
#include "failing.h"
#include "input.h"
#include "tiny.h"

enum { CHOICES = 24, MAX_PIXELS = 8192, MOST_GAP = 4, UNTOUCHED = 0xA5 };

static hpcm_settings settings = HPCM_SETTINGS;
static int32_t read_allocations = -1; /* that succeed in hpcm_read */

/* A number below `end`, which is at most 65536. */
static int32_t choose_far(input *in, int32_t end) {
    uint16_t number;
    take(in, &number, sizeof number);
    return number % end;
}

static void expect_reason(const hpcm_file *file, hpcm_status status) {
    expect(status >= HPCM_OK && status <= HPCM_MISMATCH, "a status is one of those that there are");
    expect(status == HPCM_OK || hpcm_message(file)[0], "a refusal has a reason");
    expect(strlen(hpcm_message(file)) < HPCM_MESSAGE, "a reason isn't too long");
}

/* ---- requests ----------------------------------------------------------------------------------------------------------- */

static void take_box(input *in, const hpcm_info *info, hpcm_request *r) {
    int32_t width = info->width < 65536 ? info->width : 65536, height = info->height < 65536 ? info->height : 65536;
    r->left = choose_far(in, width);
    r->top = choose_far(in, height);
    r->right = r->left + 1 + choose_far(in, width - r->left);
    r->bottom = r->top + 1 + choose_far(in, height - r->top);
}

/* Mostly one that makes sense. */
static hpcm_request take_request(input *in, const hpcm_info *info) {
    hpcm_request r = HPCM_REQUEST;
    int32_t *numbers[] = {&r.left, &r.top, &r.right, &r.bottom, &r.reduction, &r.scale, &r.partial, &r.bit_depth, &r.channels};
    int kind = choose(in, 8);
    r.partial = choose(in, 2);
    r.scale = choose(in, 4);
    r.bit_depth = choose(in, 2) ? 8 + choose(in, 9) : 0;
    r.channels = choose(in, 2) ? 3 + choose(in, 2) : 0;
    if (kind < 3) r.reduction = 1 << choose(in, 9);
    else if (kind < 6 && info->width > 0) take_box(in, info, &r);
    if (kind == 7) *numbers[choose(in, 9)] = any_number(in);
    return r;
}

/* ---- pictures ----------------------------------------------------------------------------------------------------------- */

typedef struct {
    hpcm_status status;
    int32_t columns, rows;
    size_t pixel, stride; /* bytes */
    int32_t peak;
    uint8_t *pixels;
} picture;

static void expect_samples(const picture *p, int32_t bytes) {
    size_t row = (size_t)p->columns * p->pixel;
    for (int32_t y = 0; y < p->rows; y++) {
        const uint8_t *samples = p->pixels + (size_t)y * p->stride;
        for (size_t i = 0; i < row; i += (size_t)bytes) {
            int32_t sample = bytes == 1 ? samples[i] : samples[i] | samples[i + 1] << 8;
            expect(sample <= p->peak, "no sample is above the peak");
        }
        for (size_t i = row; i < p->stride; i++) expect(samples[i] == UNTOUCHED, "nothing is written between rows");
    }
}

/* What a request gives. Memory is there for as many pixels as are allowed: more must not be written. */
static picture read_picture(hpcm_file *file, const hpcm_request *r, int32_t gap) {
    hpcm_info info = HPCM_INFO;
    picture p = {.status = hpcm_get_size(file, r, &p.columns, &p.rows)};
    expect_reason(file, p.status);
    if (p.status != HPCM_OK) return p;
    expect(hpcm_get_info(file, &info) == HPCM_OK, "whoever knows a size knows the picture");
    expect(p.columns > 0 && p.rows > 0 && p.columns <= info.width && p.rows <= info.height, "sizes are in the picture");
    int32_t depth = r->bit_depth ? r->bit_depth : info.bit_depth, channels = r->channels ? r->channels : info.channels;
    int32_t bytes = depth == 8 ? 1 : 2;
    p.peak = (1 << depth) - 1;
    p.pixel = (size_t)(channels * bytes);
    p.stride = (size_t)p.columns * p.pixel + (size_t)gap;
    int is_allowed = (int64_t)p.columns * p.rows <= MAX_PIXELS;
    size_t size = is_allowed ? p.stride * (size_t)p.rows : 1;
    p.pixels = exactly(size);
    memset(p.pixels, UNTOUCHED, size);
    allocations_left = read_allocations;
    p.status = hpcm_read(file, r, p.pixels, p.stride);
    allocations_left = -1;
    expect_reason(file, p.status);
    expect(p.status != HPCM_OK || is_allowed, "no more pixels are decoded than are allowed");
    if (p.status == HPCM_OK) expect_samples(&p, bytes);
    return p;
}

/* `part` is what `whole` has from a place on. */
static void expect_part(const picture *part, const picture *whole, int32_t left, int32_t top, const char *what) {
    for (int32_t y = 0; y < part->rows; y++) {
        const uint8_t *from = whole->pixels + (size_t)(top + y) * whole->stride + (size_t)left * whole->pixel;
        expect(!memcmp(part->pixels + (size_t)y * part->stride, from, (size_t)part->columns * part->pixel), what);
    }
}

/* ---- what is tried ------------------------------------------------------------------------------------------------------ */

/* A check that ends the work at its (*left + 1)st call. */
static int stop(void *left) {
    return !(*(int32_t *)left)--;
}

/* Memory runs out. */
static void open_in_part(input *in, const uint8_t *bytes, size_t size) {
    hpcm_file *file = 0;
    allocations_left = choose(in, 8);
    hpcm_status status = hpcm_open_memory(bytes, size, &settings, &file);
    allocations_left = -1;
    if (file) expect_reason(file, status);
    else expect(status == HPCM_NO_MEMORY, "there is an object unless there is no memory");
    hpcm_close(file);
}

/* Ends at a check or at an allocation. What it leaves behind is for the next call to use. */
static void read_in_part(input *in, hpcm_file *file, hpcm_request r) {
    int32_t end = choose(in, 256), checks = end / 2;
    if (end % 2) {
        r.check = stop;
        r.user = &checks;
    } else {
        read_allocations = end / 2;
    }
    picture p = read_picture(file, &r, 0);
    read_allocations = -1;
    expect((p.status == HPCM_STOPPED) == (end % 2 && checks < 0), "a check ends the work, and nothing else");
    if (end % 2) expect(p.status != HPCM_NO_MEMORY, "memory doesn't run out");
    free(p.pixels);
}

static hpcm_file *open_in_pieces(input *in, const uint8_t *bytes, size_t size, hpcm_status *status) {
    hpcm_file *file;
    *status = hpcm_open_stream(&settings, &file);
    expect(*status == HPCM_OK, "a stream is opened");
    size_t piece = 1 + (size_t)choose(in, 256);
    for (size_t at = 0; at < size && *status == HPCM_OK; at += piece) {
        if (piece > size - at) piece = size - at;
        uint8_t *copy = exactly(piece);
        memcpy(copy, bytes + at, piece);
        *status = hpcm_append(file, copy, piece);
        expect_reason(file, *status);
        free(copy);
    }
    return file;
}

static void expect_same_info(hpcm_file *one, hpcm_file *other, hpcm_info *info) {
    hpcm_info again = HPCM_INFO;
    hpcm_status status = hpcm_get_info(one, info), status_again = hpcm_get_info(other, &again);
    expect_reason(one, status);
    expect((status == HPCM_OK) == (status_again == HPCM_OK), "bytes in pieces have a head where bytes in one have");
    size_t before_parts = offsetof(hpcm_info, model_hash) + sizeof again.model_hash; /* then there is a gap */
    expect(!memcmp(info, &again, before_parts) && info->parts == again.parts && info->parts_there == again.parts_there &&
               info->scales_there == again.scales_there,
           "bytes in pieces tell the same");
    if (status != HPCM_OK) return;
    int32_t reduction = hpcm_reduction_for(one, info->width / 3, info->height / 3);
    expect(reduction >= 1 && reduction <= 256 && info->width / reduction >= info->width / 3, "reductions aren't too small");
}

/* Every byte is looked at. */
static void read_metadata(hpcm_file *file) {
    for (int type = 0; type < 256; type++) {
        size_t size = 1;
        const uint8_t *data = hpcm_get_metadata(file, (char)type, &size);
        uint8_t *copy = exactly(size);
        expect(data || !size, "no metadata have no size");
        if (size) memcpy(copy, data, size);
        free(copy);
    }
}

static void fuzz_file(input *in, const uint8_t *bytes, size_t size) {
    hpcm_file *file, *stream;
    hpcm_info info = HPCM_INFO;
    hpcm_status streamed, status = hpcm_open_memory(bytes, size, &settings, &file);
    expect_reason(file, status);
    open_in_part(in, bytes, size);
    stream = open_in_pieces(in, bytes, size, &streamed);
    if (status == HPCM_OK) expect(streamed == HPCM_OK, "a file that is right comes in pieces, too");
    if (streamed == HPCM_OK) expect(status == HPCM_OK || status == HPCM_TRUNCATED, "what isn't wrong in pieces is right or short");
    expect_same_info(file, stream, &info);
    read_metadata(file);
    hpcm_request r = take_request(in, &info), all = r;
    int is_box = r.left || r.top || r.right || r.bottom;
    if (choose(in, 4) == 3) read_in_part(in, file, r);
    picture one = read_picture(file, &r, choose(in, MOST_GAP)), other = read_picture(stream, &r, 0);
    expect((one.status == HPCM_OK) == (other.status == HPCM_OK), "bytes in pieces are decoded where bytes in one are");
    if (one.status == HPCM_OK) expect_part(&one, &other, 0, 0, "equal requests give equal pixels");
    if (is_box && one.status == HPCM_OK) {
        all.left = all.top = all.right = all.bottom = 0;
        picture whole = read_picture(stream, &all, 0);
        if (whole.status == HPCM_OK) expect_part(&one, &whole, r.left, r.top, "a box is what the whole picture has there");
        free(whole.pixels);
    }
    free(one.pixels);
    free(other.pixels);
    hpcm_close(file);
    hpcm_close(stream);
}

static void set_up(void) {
    read_tiny();
    settings.weights = tiny_folder();
    settings.max_pixels = MAX_PIXELS;
    setenv("HPCM_WEIGHTS", "/nonexistent", 1); /* weights are looked for nowhere else */
    setenv("XDG_DATA_DIRS", "/nonexistent", 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    input in = {data, size};
    uint8_t choices[CHOICES];
    if (!settings.weights) set_up();
    take(&in, choices, sizeof choices);
    input chosen = {choices, sizeof choices};
    is_blind = choose(&chosen, 2);
    settings.threads = choices[CHOICES - 1] % 8 == 7 ? 2 : 1; /* seldom: the model has to be loaded anew */
    uint8_t *file = exactly(in.left);
    if (in.left) memcpy(file, in.bytes, in.left);
    fuzz_file(&chosen, file, in.left);
    free(file);
    return 0;
}
