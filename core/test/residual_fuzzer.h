/* What the fuzzers of both coders of residuals have in common; see `make fuzz`.
 *
 * Beyond the sanitizers they check what always holds: what is encoded decodes, near to the source; equal calls give equal
 * bytes; a payload with zeros at its end is refused; any bytes decode to samples of the depth, or are refused; just those
 * arguments are taken that hpcm.h allows; calls end at checks and at allocations that fail. */
#include "../hpcm.h"
#include "failing.h"
#include "input.h"

enum { MOST = 40 };

typedef struct {
    int32_t rows, columns, channels, bit_depth;
    int32_t number; /* of the coder: its largest error, or its step */
    size_t count;   /* of samples */
    void *base;
} tile;

/* ---- the coder, which includes this file -------------------------------------------------------------------------------- */

static int32_t usual_number(void);
static int32_t take_number(input *in);
static int allows_number(const tile *t); /* of a depth that is allowed */
static hpcm_status encode(const tile *t, const void *source, uint8_t **payload, size_t *size);
static hpcm_status decode(const tile *t, const uint8_t *payload, size_t size, void *pixels);
static void expect_near(const tile *t, const void *source, const void *pixels);

/* ---- tiles ------------------------------------------------------------------------------------------------------------------ */

static size_t bytes_of(const tile *t) {
    return t->bit_depth > 8 ? 2 : 1;
}

static int32_t sample_at(const tile *t, const void *samples, size_t place) {
    return bytes_of(t) == 1 ? ((const uint8_t *)samples)[place] : ((const uint16_t *)samples)[place];
}

/* Of few values, or of any, or as others with small changes. When the input ends, samples go on with those it gave. */
static void *take_samples(input *in, const tile *t, const void *others) {
    void *made = exactly(t->count * bytes_of(t));
    int32_t kind = choose(in, 3), peak = (1 << t->bit_depth) - 1, given[MOST];
    size_t count = 1 + (size_t)choose(in, MOST);
    for (size_t i = 0; i < count; i++) given[i] = any_number(in);
    for (size_t i = 0; i < t->count; i++) {
        int32_t number = in->left ? choose(in, 256) : given[i % count] & 255, value = given[(size_t)number % count];
        if (kind == 1) value = number << (t->bit_depth - 8);
        if (kind == 2 && others) value = sample_at(t, others, i) + number % 8 - 4;
        value = value < 0 ? 0 : value & peak;
        if (bytes_of(t) == 1) ((uint8_t *)made)[i] = (uint8_t)value;
        else ((uint16_t *)made)[i] = (uint16_t)value;
    }
    return made;
}

static tile take_tile(input *in) {
    tile t = {.rows = 1 + choose(in, MOST), .columns = 1 + choose(in, MOST), .channels = choose(in, 2) ? 3 : 1};
    t.bit_depth = choose(in, 2) ? 8 : 8 + choose(in, 9);
    t.number = take_number(in);
    t.count = (size_t)t.rows * (size_t)t.columns * (size_t)t.channels;
    t.base = take_samples(in, &t, 0);
    return t;
}

static int32_t checks_left = -1; /* negative: none ends the work */

static int check(void *user) {
    (void)user;
    return checks_left >= 0 && !checks_left--;
}

/* ---- what is tried ---------------------------------------------------------------------------------------------------------- */

/* A call that a check or an allocation ends. */
static void interrupt(input *in, const tile *t, const void *source) {
    uint8_t *payload;
    size_t size;
    int is_check = choose(in, 2);
    *(is_check ? &checks_left : &allocations_left) = choose(in, MOST);
    hpcm_status status = encode(t, source, &payload, &size), wanted = is_check ? HPCM_STOPPED : HPCM_NO_MEMORY;
    checks_left = allocations_left = -1;
    expect(status == HPCM_OK || status == wanted, "a call ends as it was told");
    expect((status == HPCM_OK) == !!payload, "there is a payload or none");
    hpcm_residual_free(payload);
}

static void fuzz_round_trip(input *in) {
    tile t = take_tile(in);
    void *source = take_samples(in, &t, t.base), *pixels = exactly(t.count * bytes_of(&t));
    uint8_t *payload, *again, *longer;
    size_t size, size_again;
    interrupt(in, &t, source);
    expect(encode(&t, source, &payload, &size) == HPCM_OK, "samples are encoded");
    expect(encode(&t, source, &again, &size_again) == HPCM_OK && size == size_again, "equal calls give equal sizes");
    expect(!memcmp(payload, again, size), "equal calls give equal bytes");
    expect(decode(&t, payload, size, pixels) == HPCM_OK, "what was encoded decodes");
    expect_near(&t, source, pixels);
    longer = exactly(size + 8);
    memcpy(longer, payload, size);
    memset(longer + size, 0, 8);
    expect(decode(&t, longer, size + 8, pixels) == HPCM_BAD_PAYLOAD, "zeros at the end are refused");
    free(longer);
    hpcm_residual_free(payload);
    hpcm_residual_free(again);
    free(source);
    free(pixels);
    free(t.base);
}

static void fuzz_decoder(input *in) {
    tile t = take_tile(in);
    void *pixels = exactly(t.count * bytes_of(&t));
    uint8_t *copy = exactly(in->left);
    if (in->left) memcpy(copy, in->bytes, in->left);
    hpcm_status status = decode(&t, copy, in->left, pixels);
    expect(status == HPCM_OK || status == HPCM_BAD_PAYLOAD, "bytes decode or are refused");
    for (size_t i = 0; status == HPCM_OK && i < t.count; i++)
        expect(sample_at(&t, pixels, i) >> t.bit_depth == 0, "samples have the depth");
    free(copy);
    free(pixels);
    free(t.base);
}

static void fuzz_arguments(input *in) {
    enum { SAMPLES = 64 };
    uint16_t samples[SAMPLES] = {0}, pixels[SAMPLES];
    tile t = {.base = samples};
    int32_t *numbers[] = {&t.rows, &t.columns, &t.channels, &t.bit_depth, &t.number};
    const int32_t usual[] = {4, 5, 3, 12, usual_number()};
    for (int i = 0; i < 5; i++) *numbers[i] = choose(in, 4) ? usual[i] : any_number(in);
    int allowed = t.rows > 0 && t.rows <= 4096 && t.columns > 0 && t.columns <= 4096 &&
                  (t.channels == 1 || t.channels == 3) && t.bit_depth >= 8 && t.bit_depth <= 16 && allows_number(&t);
    if (allowed && (int64_t)t.rows * t.columns * t.channels > SAMPLES) return; /* they would have to be there */
    hpcm_status status = decode(&t, (const uint8_t *)"", 1, pixels);
    expect((status == HPCM_BAD_ARGUMENT) == !allowed, "just those arguments are taken that are allowed");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static void (*const targets[])(input *in) = {fuzz_round_trip, fuzz_decoder, fuzz_arguments};
    input in = {data, size};
    targets[choose(&in, sizeof targets / sizeof *targets)](&in);
    return 0;
}
