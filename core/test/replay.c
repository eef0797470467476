/* Repeats recorded calls with a library, and compares what they give: replay LIBRARY RECORD
 *
 *     HPCM_TEST_RECORD=build/calls python -m pytest tests/test_core.py -k "not signal and not forked"
 *     python core/build.py --alone --program core/test/replay.c     for another platform: --target TAG --output FILE
 *     build/replay src/hpcm/core/libhpcm.so build/calls             HPCM_KERNELS=NAME chooses the kernels
 *
 * A record is what a library was asked and what it gave on another processor; tests/recorder.py writes it and says what
 * it consists of. The first differences are printed, and the status is 1. Two of three calls come with another
 * rounding mode than the usual one, which they have to leave as it was. */
#include <fenv.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../hpcm.h"

#ifdef _WIN32
#include <windows.h>
#else
#include <dlfcn.h>
#endif

enum { MOST_PRINTED = 10 };

static void fail(const char *why, const char *what) {
    fflush(stdout);
    fprintf(stderr, "replay: %s%s\n", why, what);
    exit(2);
}

static void *room(size_t size) {
    void *made = malloc(size ? size : 1);
    if (!made) fail("there is no memory", "");
    return made;
}

/* ---- the library ------------------------------------------------------------------------------------------------------ */

#define FUNCTIONS(F) \
    F(kernels) F(model_create) F(model_free) F(model_kernels) F(analyse) F(encode) F(payload_free) F(decode) \
    F(decode_known) F(fill) F(synthesise) F(residual_encode) F(residual_free) F(residual_decode) F(dct_encode) \
    F(dct_decode) F(tables_create) F(tables_free) F(encoder_create) F(encoder_free) \
    F(encoder_push) F(encoder_cut) F(encoder_finish) F(decoder_create) F(decoder_free) F(decoder_pop) \
    F(decoder_words_left) F(checksum)
#define DECLARE(name) __typeof__(hpcm_##name) *name;
#define LOAD(name) *(void **)&hpcm.name = symbol(loaded, "hpcm_" #name);

static struct {
    int (*api_version)(void);
    FUNCTIONS(DECLARE)
} hpcm;

#ifdef _WIN32

static void *open_library(const char *path) {
    HMODULE loaded = LoadLibraryA(path);
    if (!loaded) fail("the library can't be loaded: ", path);
    return (void *)loaded;
}

static void *symbol(void *loaded, const char *name) {
    void *found = (void *)GetProcAddress((HMODULE)loaded, name);
    if (!found) fail("the library lacks ", name);
    return found;
}

#else

static void *open_library(const char *path) {
    void *loaded = dlopen(path, RTLD_NOW);
    if (!loaded) fail("the library can't be loaded: ", dlerror());
    return loaded;
}

static void *symbol(void *loaded, const char *name) {
    void *found = dlsym(loaded, name);
    if (!found) fail("the library lacks ", name);
    return found;
}

#endif

static void load_library(const char *path) {
    void *loaded = open_library(path);
    LOAD(api_version)
    if (hpcm.api_version() != HPCM_API_VERSION) fail("the library has another version", "");
    FUNCTIONS(LOAD)
}

/* ---- the record ------------------------------------------------------------------------------------------------------- */

typedef struct {
    void *bytes;
    size_t size;
} data;

static FILE *record;
static data *stored; /* all data so far; stored[0] is none */
static size_t stored_count;

static int read_number(int64_t *number) {
    unsigned char bytes[8];
    uint64_t value = 0;
    if (fread(bytes, 1, sizeof bytes, record) != sizeof bytes) return 0;
    for (int i = 7; i >= 0; i--) value = value << 8 | bytes[i];
    *number = (int64_t)value;
    return 1;
}

static int64_t next(void) {
    int64_t number;
    if (!read_number(&number)) fail("the record ends too early", "");
    return number;
}

static int32_t next_int(void) {
    return (int32_t)next();
}

static void *grown(void *array, size_t count, size_t size) {
    void *made = count & (count - 1) ? array : realloc(array, 2 * (count ? count : 1) * size);
    if (!made) fail("there is no memory", "");
    return made;
}

static void store_data(void *bytes, size_t size) {
    stored = grown(stored, stored_count, sizeof *stored);
    stored[stored_count++] = (data){bytes, size};
}

static void read_data(void) {
    size_t size = (size_t)next();
    void *bytes = room(size);
    if (fread(bytes, 1, size, record) != size) fail("the record ends too early", "");
    store_data(bytes, size);
}

static data next_data(void) {
    int64_t number = next();
    if (number < 0 || (size_t)number >= stored_count) fail("the record is no record, or damaged", "");
    return stored[number];
}

static void open_record(const char *path) {
    char magic[8];
    record = fopen(path, "rb");
    if (!record) fail("the record can't be read: ", path);
    if (fread(magic, 1, sizeof magic, record) != sizeof magic || memcmp(magic, "HPCMCALL", sizeof magic) || next() != 1)
        fail("this is no record, or one of another version: ", path);
    store_data(0, 0);
}

/* ---- handles ---------------------------------------------------------------------------------------------------------- */

typedef void (*freeing)(void *);

typedef struct {
    void *made; /* null after it was freed */
    freeing release;
} handle;

static handle *handles;
static size_t handle_count;

static void store_handle(void *made, freeing release) {
    if (!made) fail("what the record goes on with isn't there", "");
    handles = grown(handles, handle_count, sizeof *handles);
    handles[handle_count++] = (handle){made, release};
}

static handle *next_handle(void) {
    int64_t number = next();
    if (number < 1 || (size_t)number > handle_count) fail("the record is no record, or damaged", "");
    return &handles[number - 1];
}

static void release(handle *h) {
    if (h->made) h->release(h->made);
    h->made = 0;
}

#define RELEASE(name, type) \
    static void release_##name(void *made) { \
        hpcm.name##_free((type *)made); \
    }
RELEASE(model, hpcm_model)
RELEASE(tables, hpcm_tables)
RELEASE(encoder, hpcm_encoder)
RELEASE(decoder, hpcm_decoder)

/* ---- comparing -------------------------------------------------------------------------------------------------------- */

static const char *function; /* of this call */
static int is_different;
static int64_t calls, different_calls, refused_calls; /* so far */

/* Begins a line about a difference, if not too many were printed. */
static int differs(void) {
    different_calls += !is_different;
    int print = different_calls <= MOST_PRINTED;
    is_different = 1;
    if (print) printf("call %" PRId64 " (hpcm_%s): ", calls, function);
    return print;
}

static void compare(const char *what, int64_t found, int64_t recorded) {
    if (found != recorded && differs()) printf("%s is %" PRId64 " instead of %" PRId64 "\n", what, found, recorded);
}

/* Whether there are results to compare. */
static int compare_status(hpcm_status found, int64_t recorded) {
    refused_calls += recorded != HPCM_OK;
    compare("the status", (int64_t)found, recorded);
    return found == HPCM_OK && recorded == HPCM_OK;
}

static size_t first_difference(const unsigned char *one, const unsigned char *other, size_t size) {
    for (size_t i = 0; i < size; i++)
        if (one[i] != other[i]) return i;
    return size;
}

/* A sample, symbol or whole byte as it is printed. */
static double value_at(const void *bytes, size_t place, char kind) {
    float real;
    int32_t symbol;
    uint16_t sample;
    const char *from = bytes;
    switch (kind) {
    case 'f': memcpy(&real, from + place * sizeof real, sizeof real); return (double)real;
    case 'i': memcpy(&symbol, from + place * sizeof symbol, sizeof symbol); return symbol;
    case 'h': memcpy(&sample, from + place * sizeof sample, sizeof sample); return sample;
    default: return *((const unsigned char *)bytes + place);
    }
}

/* kind: f for floats, i for int32, h for uint16, b for bytes. */
static void compare_data(const char *what, char kind, const void *found, size_t size, data recorded) {
    size_t number = kind == 'b' ? 1 : kind == 'h' ? 2 : 4, place, count = 0;
    if (size != recorded.size) {
        compare(what, (int64_t)size, (int64_t)recorded.size);
        return;
    }
    place = first_difference(found, recorded.bytes, size) / number;
    if (place * number >= size || !differs()) return;
    for (size_t i = place; i < size / number; i++)
        count += memcmp((const char *)found + i * number, (const char *)recorded.bytes + i * number, number) != 0;
    printf("%s[%zu] is %.9g instead of %.9g; %zu of %zu differ\n", what, place, value_at(found, place, kind),
           value_at(recorded.bytes, place, kind), count, size / number);
}

/* Where a call writes floats, symbols, samples. `recorded` is what it has to write; without bytes if it has to fail. */
typedef struct {
    void *bytes;
    data recorded;
} result;

static result next_result(void) {
    const uint32_t untouched = 0x7FC00000; /* numpy's NaN, which the binding fills y with */
    int64_t size = next();
    result r = {0, next_data()};
    if (size < 0) return r;
    r.bytes = room((size_t)size);
    for (int64_t i = 0; i + (int64_t)sizeof untouched <= size; i += (int64_t)sizeof untouched)
        memcpy((char *)r.bytes + i, &untouched, sizeof untouched);
    return r;
}

static void close_result(const char *what, char kind, result *r, int compared) {
    if (compared && r->recorded.bytes) compare_data(what, kind, r->bytes, r->recorded.size, r->recorded);
    free(r->bytes);
}

/* ---- the calls -------------------------------------------------------------------------------------------------------- */

static char kernels[64]; /* of all models so far */

static int go_on(void *count) {
    (*(int64_t *)count)++;
    return 0;
}

static int64_t checks; /* how often the library called go_on */

static void see_kernels(const hpcm_model *model) {
    const char *used = hpcm.model_kernels(model);
    if (*kernels && strcmp(used, kernels) && differs()) printf("the kernels are %s instead of %s\n", used, kernels);
    snprintf(kernels, sizeof kernels, "%s", used);
}

static void read_config(hpcm_config *config) {
    int32_t numbers[sizeof *config / sizeof(int32_t)];
    size_t count = (size_t)next();
    if (count * sizeof *numbers != sizeof *config) fail("the record is of another hpcm_config", "");
    for (size_t i = 0; i < count; i++) numbers[i] = next_int();
    memcpy(config, numbers, sizeof *config);
}

static void read_array(hpcm_array *array) {
    array->name = next_data().bytes;
    array->type = next_int();
    array->dimensions = next_int();
    for (int i = 0; i < 4; i++) array->shape[i] = next();
    array->data = next_data().bytes;
}

static void call_model_create(void) {
    hpcm_config config;
    hpcm_model *model = 0;
    char message[HPCM_MESSAGE] = "";
    read_config(&config);
    int32_t threads = next_int();
    size_t count = (size_t)next();
    hpcm_array *arrays = room(count * sizeof *arrays);
    for (size_t i = 0; i < count; i++) read_array(&arrays[i]);
    int64_t status = next();
    data recorded = next_data();
    hpcm_status found = hpcm.model_create(&config, arrays, count, threads, 0, &model, message);
    if (compare_status(found, status)) see_kernels(model);
    else if (found != HPCM_OK && (!recorded.bytes || strcmp(message, recorded.bytes)) && differs())
        printf("the message is \"%s\" instead of \"%s\"\n", message,
               recorded.bytes ? (const char *)recorded.bytes : "");
    if (status == HPCM_OK) store_handle(model, release_model);
    free(arrays);
}

typedef struct {
    int32_t h, w, level, rows, columns;
} coding;

static coding next_coding(void) {
    coding c;
    c.h = next_int();
    c.w = next_int();
    c.level = next_int();
    c.rows = next_int();
    c.columns = next_int();
    return c;
}

static float next_float(void) {
    uint32_t bits = (uint32_t)next();
    float number;
    memcpy(&number, &bits, sizeof number);
    return number;
}

static void call_analyse(void) {
    hpcm_pixels pixels;
    hpcm_model *model = next_handle()->made;
    pixels.data = next_data().bytes;
    pixels.stride = next();
    pixels.bytes = next_int();
    pixels.rows = next_int();
    pixels.columns = next_int();
    pixels.channels = next_int();
    pixels.peak = next_float();
    int32_t h = next_int(), w = next_int();
    int64_t status = next();
    result y = next_result();
    int same = compare_status(hpcm.analyse(model, &pixels, h, w, y.bytes, go_on, &checks), status);
    close_result("y", 'f', &y, same);
}

static void call_encode(void) {
    hpcm_model *model = next_handle()->made;
    hpcm_payload payload = {0};
    const float *y = next_data().bytes, *z = next_data().bytes;
    coding c = next_coding();
    int64_t status = next();
    result y_hat = next_result();
    hpcm_status found = hpcm.encode(model, y, z, c.h, c.w, c.level, c.rows, c.columns, y_hat.bytes, &payload, go_on,
                                    &checks);
    int same = compare_status(found, status);
    close_result("y_hat", 'f', &y_hat, same);
    if (status == HPCM_OK) {
        int64_t sizes[HPCM_PARTS], checksums[HPCM_PARTS];
        size_t size = 0;
        for (int i = 0; i < HPCM_PARTS; i++) sizes[i] = next();
        for (int i = 0; i < HPCM_PARTS; i++) checksums[i] = next();
        data bytes = next_data();
        for (int i = 0; same && i < HPCM_PARTS; i++) {
            compare("the size of a part", (int64_t)payload.sizes[i], sizes[i]);
            compare("the checksum of a part", payload.checksums[i], checksums[i]);
            size += payload.sizes[i];
        }
        if (same) compare_data("payload", 'b', payload.bytes, size, bytes);
    }
    if (found == HPCM_OK) hpcm.payload_free(&payload);
}

static void compare_decoded(const hpcm_decoded *decoded, int64_t status, int same) {
    if (status != HPCM_OK) return;
    int64_t checksum = next(), words_left = next();
    if (!same) return;
    compare("the checksum", decoded->checksum, checksum);
    compare("words_left", (int64_t)decoded->words_left, words_left);
}

static void call_decode(void) {
    hpcm_decoded decoded;
    hpcm_model *model = next_handle()->made;
    data payload = next_data();
    int32_t steps = next_int();
    coding c = next_coding();
    int64_t status = next();
    result y_hat = next_result();
    hpcm_status found = hpcm.decode(model, payload.bytes, payload.size, steps, c.h, c.w, c.level, c.rows, c.columns,
                                    y_hat.bytes, &decoded, go_on, &checks);
    int same = compare_status(found, status);
    close_result("y_hat", 'f', &y_hat, same);
    compare_decoded(&decoded, status, same);
}

static void call_decode_known(void) {
    const char *names[3] = {"y of scale 1", "y of scale 2", "y of scale 3"};
    hpcm_decoded decoded;
    hpcm_model *model = next_handle()->made;
    data payload = next_data();
    int32_t steps = next_int();
    coding c = next_coding();
    int64_t status = next();
    result z = next_result(), y[3];
    for (int i = 0; i < 3; i++) y[i] = next_result();
    float *const lattices[3] = {y[0].bytes, y[1].bytes, y[2].bytes};
    hpcm_status found = hpcm.decode_known(model, payload.bytes, payload.size, steps, c.h, c.w, c.level, c.rows,
                                          c.columns, z.bytes, lattices, &decoded, go_on, &checks);
    int same = compare_status(found, status);
    close_result("z", 'f', &z, same);
    for (int i = 0; i < 3; i++) close_result(names[i], 'f', &y[i], same);
    compare_decoded(&decoded, status, same);
}

static void call_fill(void) {
    hpcm_model *model = next_handle()->made;
    const float *z = next_data().bytes, *y[3];
    for (int i = 0; i < 3; i++) y[i] = next_data().bytes;
    int32_t h = next_int(), w = next_int(), level = next_int();
    int64_t status = next();
    result y_hat = next_result();
    int same = compare_status(hpcm.fill(model, z, y, h, w, level, y_hat.bytes, go_on, &checks), status);
    close_result("y_hat", 'f', &y_hat, same);
}

static void call_synthesise(void) {
    int32_t box[4];
    hpcm_model *model = next_handle()->made;
    const float *y_hat = next_data().bytes;
    int32_t h = next_int(), w = next_int();
    for (int i = 0; i < 4; i++) box[i] = next_int();
    int32_t bytes = next_int(), channels = next_int();
    int64_t status = next();
    result pixels = next_result();
    hpcm_status found = hpcm.synthesise(model, y_hat, h, w, box, bytes, channels, pixels.bytes, go_on, &checks);
    close_result("pixels", bytes == 2 ? 'h' : 'b', &pixels, compare_status(found, status));
}

/* Of both coders of residuals: they have the same arguments, but for one number. */
typedef __typeof__(hpcm_residual_encode) *residual_encode;
typedef __typeof__(hpcm_residual_decode) *residual_decode;

typedef struct {
    const void *base;
    int32_t rows, columns, channels, bit_depth, number;
} tile;

static tile next_tile(void) {
    tile t;
    t.base = next_data().bytes;
    t.rows = next_int();
    t.columns = next_int();
    t.channels = next_int();
    t.bit_depth = next_int();
    t.number = next_int();
    return t;
}

static void encode_residual(residual_encode encode) {
    uint8_t *payload = 0;
    size_t size = 0;
    const void *source = next_data().bytes;
    tile t = next_tile();
    int64_t status = next();
    hpcm_status found = encode(source, t.base, t.rows, t.columns, t.channels, t.bit_depth, t.number, &payload, &size, go_on,
                               &checks);
    int same = compare_status(found, status);
    if (status == HPCM_OK) {
        data recorded = next_data();
        if (same) compare_data("payload", 'b', payload, size, recorded);
    }
    hpcm.residual_free(payload);
}

static void decode_residual(residual_decode decode) {
    data payload = next_data();
    tile t = next_tile();
    int64_t status = next();
    result pixels = next_result();
    hpcm_status found = decode(payload.bytes, payload.size, t.base, t.rows, t.columns, t.channels, t.bit_depth, t.number,
                               pixels.bytes, go_on, &checks);
    close_result("pixels", t.bit_depth > 8 ? 'h' : 'b', &pixels, compare_status(found, status));
}

static void call_residual_encode(void) {
    encode_residual(hpcm.residual_encode);
}

static void call_residual_decode(void) {
    decode_residual(hpcm.residual_decode);
}

static void call_dct_encode(void) {
    encode_residual(hpcm.dct_encode);
}

static void call_dct_decode(void) {
    decode_residual(hpcm.dct_decode);
}

static void call_tables_create(void) {
    hpcm_tables *tables = 0;
    const float *scales = next_data().bytes;
    const int32_t *radius = next_data().bytes;
    int32_t count = next_int();
    const int32_t *frequencies = next_data().bytes;
    size_t total = (size_t)next();
    int64_t status = next();
    compare_status(hpcm.tables_create(scales, radius, count, frequencies, total, &tables), status);
    if (status == HPCM_OK) store_handle(tables, release_tables);
}

static void call_encoder_create(void) {
    hpcm_encoder *encoder = 0;
    const hpcm_tables *tables = next_handle()->made;
    int64_t status = next();
    compare_status(hpcm.encoder_create(tables, &encoder), status);
    if (status == HPCM_OK) store_handle(encoder, release_encoder);
}

static void call_encoder_push(void) {
    hpcm_encoder *encoder = next_handle()->made;
    const int32_t *symbols = next_data().bytes;
    const uint8_t *indexes = next_data().bytes;
    size_t count = (size_t)next();
    compare_status(hpcm.encoder_push(encoder, symbols, indexes, count), next());
}

static void call_encoder_cut(void) {
    hpcm_encoder *encoder = next_handle()->made;
    compare_status(hpcm.encoder_cut(encoder), next());
}

static void call_encoder_finish(void) {
    hpcm_encoder *encoder = next_handle()->made;
    const uint8_t *bytes = 0;
    size_t parts = (size_t)next(), size = 0, *sizes = room(parts * sizeof *sizes);
    int64_t status = next();
    int same = compare_status(hpcm.encoder_finish(encoder, &bytes, sizes), status);
    if (status == HPCM_OK) {
        for (size_t i = 0; i < parts; i++) {
            int64_t recorded = next();
            if (!same) continue;
            compare("the size of a part", (int64_t)sizes[i], recorded);
            size += sizes[i];
        }
        data recorded = next_data();
        if (same) compare_data("payload", 'b', bytes, size, recorded);
    }
    free(sizes);
}

static void call_decoder_create(void) {
    hpcm_decoder *decoder = 0;
    const hpcm_tables *tables = next_handle()->made;
    data payload = next_data();
    int64_t status = next();
    compare_status(hpcm.decoder_create(tables, payload.bytes, payload.size, &decoder), status);
    if (status == HPCM_OK) store_handle(decoder, release_decoder);
}

static void call_decoder_pop(void) {
    hpcm_decoder *decoder = next_handle()->made;
    const uint8_t *indexes = next_data().bytes;
    size_t count = (size_t)next();
    int64_t status = next();
    result symbols = next_result();
    int same = compare_status(hpcm.decoder_pop(decoder, indexes, count, symbols.bytes), status);
    close_result("symbols", 'i', &symbols, same);
}

static void call_decoder_words_left(void) {
    const hpcm_decoder *decoder = next_handle()->made;
    compare("words_left", (int64_t)hpcm.decoder_words_left(decoder), next());
}

static void call_checksum(void) {
    const int32_t *symbols = next_data().bytes;
    size_t count = (size_t)next();
    uint32_t start = (uint32_t)next();
    compare("the checksum", hpcm.checksum(symbols, count, start), next());
}

static void call_free(void) {
    release(next_handle());
}

static const struct {
    const char *name;
    void (*call)(void);
} CALLS[] = {
    /* FUNCTIONS of tests/recorder.py */
    {"model_create", call_model_create},
    {"analyse", call_analyse},
    {"encode", call_encode},
    {"decode", call_decode},
    {"decode_known", call_decode_known},
    {"fill", call_fill},
    {"synthesise", call_synthesise},
    {"tables_create", call_tables_create},
    {"encoder_create", call_encoder_create},
    {"encoder_push", call_encoder_push},
    {"encoder_cut", call_encoder_cut},
    {"encoder_finish", call_encoder_finish},
    {"decoder_create", call_decoder_create},
    {"decoder_pop", call_decoder_pop},
    {"decoder_words_left", call_decoder_words_left},
    {"checksum", call_checksum},
    {"tables_free", call_free},
    {"encoder_free", call_free},
    {"decoder_free", call_free},
    {"residual_encode", call_residual_encode},
    {"residual_decode", call_residual_decode},
    {"dct_encode", call_dct_encode},
    {"dct_decode", call_dct_decode},
};

enum { FUNCTION_COUNT = sizeof CALLS / sizeof *CALLS };
static int64_t calls_of[FUNCTION_COUNT];

static void repeat(int64_t number) {
    const int modes[3] = {FE_TONEAREST, FE_UPWARD, FE_DOWNWARD};
    int mode = modes[++calls % 3];
    if (number < 1 || number > FUNCTION_COUNT) fail("the record is no record, or damaged", "");
    function = CALLS[number - 1].name;
    is_different = 0;
    calls_of[number - 1]++;
    fesetround(mode);
    CALLS[number - 1].call();
    int left = fegetround();
    fesetround(FE_TONEAREST);
    if (left != mode && differs()) printf("the rounding mode is changed\n");
}

static int summary(void) {
    printf("kernels: %s, of %s\n", *kernels ? kernels : "none", hpcm.kernels());
    for (int i = 0; i < FUNCTION_COUNT; i++)
        printf("%s%" PRId64 " %s", i ? ", " : "", calls_of[i], CALLS[i].name);
    printf("\n");
    printf("%" PRId64 " calls, of which %" PRId64 " are refused", calls, refused_calls);
    if (different_calls) printf(": %" PRId64 " give something else\n", different_calls);
    else printf(": all give the same\n");
    return different_calls || !calls;
}

int main(int count, char **arguments) {
    int64_t number;
    if (count != 3) fail("how it is called: replay LIBRARY RECORD", "");
    load_library(arguments[1]);
    open_record(arguments[2]);
    while (read_number(&number)) {
        if (number) repeat(number);
        else read_data();
    }
    int status = summary();
    for (size_t i = 0; i < handle_count; i++) release(&handles[i]);
    for (size_t i = 0; i < stored_count; i++) free(stored[i].bytes);
    free(handles);
    free(stored);
    fclose(record);
    return status;
}
