/* Fuzzes what reads payloads and floats of strangers, with small models made of random numbers; see `make fuzz`.
 *
 * Beyond the sanitizers it checks what always holds: equal calls give equal results, no result is NaN, what is encoded
 * decodes, and symbols that were decoded are encoded and decoded again without loss. */
#include "forge.h"
#include "input.h"

enum { MODELS = 3, PLACE = 16 };

/* Nano's structure; the released one with everything that it lacks; one without hierarchy and with odd widths. */
static const hpcm_config CONFIGS[MODELS] = {
    {.M = 16, .N = 8, .stem = HPCM_UNSHUFFLE8, .stages = {2, 2, 2, 2}, .blocks = {{1, 0}, {0, 1}, {1, 0}, {1, 0}},
     .widths = {{16, 16}, {16, 16}, {16, 8}, {8, 32}}, .partial = 4, .ratio = 3, .prior_width = 16,
     .prior_coarse = {1, 0, 0}, .prior_fine = {1, 1, 0}, .has_prior_fine = 1, .steps = {2, 3, 6}, .hierarchy = 1,
     .psi_is_context = 1, .refine = 1, .paired_gains = 1, .levels = 64},
    {.M = 8, .N = 6, .stem = HPCM_CONV4, .stages = {4, 4, 2, 2},
     .blocks = {{1, 0, 0, 0}, {0, 0, 0, 1}, {0, 1}, {0, 1}},
     .widths = {{4, 6, 8, 8}, {8, 8, 6, 4}, {8, 8}, {8, 16}}, .partial = 2, .ratio = 2, .prior_width = 24,
     .prior_coarse = {0, 1, 1}, .adaptor_blocks = {1, 0, 1}, .steps = {4, 1, 12}, .hierarchy = 1, .context_net = 1,
     .released_placement = 1, .levels = 2},
    {.M = 8, .N = 5, .stem = HPCM_CONV2, .stages = {4, 4, 2, 2},
     .blocks = {{0, 1, 0, 0}, {0, 0, 1, 0}, {0, 0}, {1, 0}},
     .widths = {{3, 5, 7, 8}, {8, 7, 5, 3}, {8, 7}, {9, 16}}, .partial = 1, .ratio = 1, .prior_width = 11,
     .prior_coarse = {1, 0, 1}, .steps = {1, 1, 2}, .refine = 1, .levels = 1},
};

static hpcm_model *models[MODELS];
static hpcm_tables *tables;

static void make_all(void) {
    forge *f = calloc(1, sizeof *f);
    if (!f) abort();
    for (int i = 0; i < MODELS; i++) models[i] = forge_model(&CONFIGS[i], 1, (uint32_t)i + 1);
    f->random = 1;
    forge_tables(f);
    const hpcm_array *scales = &f->arrays[0], *radius = &f->arrays[1], *frequencies = &f->arrays[2];
    hpcm_status status = hpcm_tables_create(scales->data, radius->data, (int32_t)scales->shape[0], frequencies->data,
                                            (size_t)frequencies->shape[0], &tables);
    if (status != HPCM_OK) abort();
    forge_free(f);
}

/* Where and how a tile is coded. */
typedef struct {
    hpcm_model *model;
    const hpcm_config *config;
    int32_t h, w, level, rows, columns, steps; /* steps: all of them */
    size_t latents, hyper;                     /* numbers of y and z */
} tile;

static tile take_tile(input *in) {
    int i = choose(in, MODELS);
    tile t = {.model = models[i], .config = &CONFIGS[i]};
    t.h = 4 * (1 + choose(in, 3));
    t.w = 4 * (1 + choose(in, 3));
    t.level = choose(in, t.config->levels);
    t.rows = t.h - choose(in, t.h);
    t.columns = t.w - choose(in, t.w);
    t.steps = 1 + t.config->steps[0] + t.config->steps[1] + t.config->steps[2];
    t.latents = (size_t)(t.h * t.w * t.config->M);
    t.hyper = (size_t)(t.h / 4 * (t.w / 4) * t.config->N);
    return t;
}

static hpcm_status decode(const tile *t, const input *in, int32_t steps, float *y_hat, hpcm_decoded *decoded) {
    return hpcm_decode(t->model, in->bytes, in->left, steps, t->h, t->w, t->level, t->rows, t->columns, y_hat, decoded, 0,
                       0);
}

static void synthesise_twice(const tile *t, const float *y_hat, input *in) {
    int32_t box[4] = {choose(in, PLACE), choose(in, PLACE), PLACE * t->w - choose(in, PLACE),
                      PLACE * t->h - choose(in, PLACE)};
    int32_t bytes = 1 + choose(in, 2), channels = choose(in, 2) ? 3 : 1;
    size_t size = (size_t)(box[2] - box[0]) * (size_t)(box[3] - box[1]) * (size_t)(channels * bytes);
    uint8_t *pixels = exactly(size), *again = exactly(size);
    hpcm_status one = hpcm_synthesise(t->model, y_hat, t->h, t->w, box, bytes, channels, pixels, 0, 0);
    hpcm_status other = hpcm_synthesise(t->model, y_hat, t->h, t->w, box, bytes, channels, again, 0, 0);
    expect(one == HPCM_OK && other == HPCM_OK, "latents give pixels");
    expect(!memcmp(pixels, again, size), "equal latents give equal pixels");
    free(pixels);
    free(again);
}

/* ---- the targets ------------------------------------------------------------------------------------------------------ */

/* Pushes of any tables; the payload is the rest of the input. */
static void fuzz_coder(input *in) {
    enum { PUSHES = 4, MOST = 256 };
    static uint8_t indexes[PUSHES][MOST];
    static int32_t symbols[PUSHES][MOST], again[MOST];
    size_t counts[PUSHES], sizes[1], done = 0;
    hpcm_decoder *decoder;
    hpcm_encoder *encoder;
    const uint8_t *bytes;
    for (int p = 0; p < PUSHES; p++) {
        int32_t first = choose(in, FORGE_TABLES), step = choose(in, FORGE_TABLES);
        int32_t count = FORGE_TABLES + !choose(in, 16); /* one table more than there are */
        counts[p] = (size_t)choose(in, MOST);
        for (int i = 0; i < MOST; i++) indexes[p][i] = (uint8_t)((first + i * step) % count);
    }
    if (hpcm_decoder_create(tables, in->bytes, in->left, &decoder) != HPCM_OK) return;
    expect(hpcm_encoder_create(tables, &encoder) == HPCM_OK, "an encoder is made");
    while (done < PUSHES && hpcm_decoder_pop(decoder, indexes[done], counts[done], symbols[done]) == HPCM_OK) {
        hpcm_status status = hpcm_encoder_push(encoder, symbols[done], indexes[done], counts[done]);
        expect(status == HPCM_OK, "what was decoded is encoded");
        done++;
    }
    expect(hpcm_decoder_words_left(decoder) <= in->left / 4, "no more words are left than there were");
    hpcm_decoder_free(decoder);
    expect(hpcm_encoder_finish(encoder, &bytes, sizes) == HPCM_OK, "an encoder finishes");
    expect(hpcm_decoder_create(tables, bytes, sizes[0], &decoder) == HPCM_OK, "a stream is no impossible one");
    for (size_t p = 0; p < done; p++) {
        expect(hpcm_decoder_pop(decoder, indexes[p], counts[p], again) == HPCM_OK, "a stream decodes");
        expect(!memcmp(again, symbols[p], counts[p] * sizeof *again), "a stream decodes to what was encoded");
    }
    expect(!hpcm_decoder_words_left(decoder), "nothing of a stream is left");
    hpcm_decoder_free(decoder);
    hpcm_encoder_free(encoder);
}

static void fuzz_decode(input *in) {
    tile t = take_tile(in);
    int32_t steps = choose(in, t.steps + 2);
    input pixels = *in;
    float *y_hat = exactly(t.latents * sizeof *y_hat), *again = exactly(t.latents * sizeof *again);
    hpcm_decoded decoded = {0}, decoded_again = {0};
    hpcm_status status = decode(&t, in, steps, y_hat, &decoded);
    expect(status == HPCM_OK || status == HPCM_BAD_PAYLOAD, "a payload decodes or is refused");
    expect(decode(&t, in, steps, again, &decoded_again) == status, "equal payloads decode alike");
    if (status == HPCM_OK) {
        expect(!memcmp(y_hat, again, t.latents * sizeof *y_hat), "equal payloads give equal latents");
        expect(decoded.checksum == decoded_again.checksum, "equal payloads have equal checksums");
        expect(decoded.words_left <= in->left / 4, "no more words are left than there were");
        expect(!has_nan(y_hat, t.latents), "no latent is NaN");
        synthesise_twice(&t, y_hat, &pixels);
    }
    free(y_hat);
    free(again);
}

/* What is known after some steps, filled up, is what decoding so many steps gives: symbols of 0 are means. */
static void fuzz_known(input *in) {
    tile t = take_tile(in);
    int32_t steps = 1 + choose(in, t.steps), coarsening = t.config->hierarchy ? 4 : 1;
    float *z = exactly(t.hyper * sizeof *z), *y[3];
    float *y_hat = exactly(t.latents * sizeof *y_hat), *filled = exactly(t.latents * sizeof *filled);
    hpcm_decoded decoded = {0}, known = {0};
    for (int scale = 0; scale < 3; scale++, coarsening = coarsening > 1 ? coarsening / 2 : 1) {
        size_t count = t.latents / (size_t)(coarsening * coarsening);
        y[scale] = exactly(count * sizeof **y);
        memset(y[scale], 0xFF, count * sizeof **y); /* NaN */
    }
    hpcm_status status = hpcm_decode_known(t.model, in->bytes, in->left, steps, t.h, t.w, t.level, t.rows, t.columns, z, y,
                                           &known, 0, 0);
    expect(decode(&t, in, steps, y_hat, &decoded) == status, "what is known is refused like the payload");
    if (status == HPCM_OK) {
        expect(known.checksum == decoded.checksum && known.words_left == decoded.words_left, "both ways read the same");
        status = hpcm_fill(t.model, z, (const float *const *)y, t.h, t.w, t.level, filled, 0, 0);
        expect(status == HPCM_OK, "what is known can be filled up");
        expect(!memcmp(y_hat, filled, t.latents * sizeof *filled), "what is known, filled up, is what is decoded");
    }
    for (int scale = 0; scale < 3; scale++) free(y[scale]);
    free(z);
    free(y_hat);
    free(filled);
}

static void fuzz_fill(input *in) {
    tile t = take_tile(in);
    int32_t coarsening = t.config->hierarchy ? 4 : 1;
    float *known[3], *y_hat = exactly(t.latents * sizeof *y_hat), *z = take_floats(in, t.hyper);
    for (int scale = 2; scale >= 0; scale--) {
        int32_t times = scale == 2 ? 1 : scale == 1 && coarsening > 1 ? 2 : coarsening;
        known[scale] = take_floats(in, t.latents / (size_t)(times * times));
    }
    hpcm_status status = hpcm_fill(t.model, z, (const float *const *)known, t.h, t.w, t.level, y_hat, 0, 0);
    expect(status == HPCM_OK, "any floats can be filled up");
    expect(!has_nan(y_hat, t.latents), "no latent that was filled up is NaN");
    for (int scale = 0; scale < 3; scale++) free(known[scale]);
    free(z);
    free(y_hat);
}

static void fuzz_encode(input *in) {
    tile t = take_tile(in);
    int with_z = choose(in, 2);
    float *y = take_floats(in, t.latents), *z = take_floats(in, t.hyper);
    float *y_hat = exactly(t.latents * sizeof *y_hat), *again = exactly(t.latents * sizeof *again);
    hpcm_payload payload;
    hpcm_decoded decoded = {0};
    hpcm_status status = hpcm_encode(t.model, y, with_z ? z : 0, t.h, t.w, t.level, t.rows, t.columns, y_hat, &payload, 0, 0);
    expect(status == HPCM_OK, "any floats are encoded");
    input coded = {payload.bytes, payload.sizes[0] + payload.sizes[1] + payload.sizes[2]};
    expect(decode(&t, &coded, t.steps, again, &decoded) == HPCM_OK, "what was encoded decodes");
    expect(!memcmp(y_hat, again, t.latents * sizeof *y_hat), "the decoder gets the encoder's latent");
    expect(decoded.checksum == payload.checksums[2] && !decoded.words_left, "the decoder reads what was encoded");
    hpcm_payload_free(&payload);
    free(y);
    free(z);
    free(y_hat);
    free(again);
}

static void fuzz_pixels(input *in) {
    tile t = take_tile(in);
    hpcm_pixels pixels = {.bytes = 1 << choose(in, 3), .channels = choose(in, 2) ? 3 : 1, .peak = 255};
    pixels.rows = 1 + choose(in, PLACE * t.h);
    pixels.columns = 1 + choose(in, PLACE * t.w);
    int32_t row = pixels.columns * pixels.channels * pixels.bytes, gap = choose(in, 4);
    pixels.stride = row + gap;
    size_t size = (size_t)pixels.stride * (size_t)(pixels.rows - 1) + (size_t)row;
    uint8_t *data = exactly(size);
    float *y = exactly(t.latents * sizeof *y), *again = exactly(t.latents * sizeof *again);
    size_t given = in->left;
    take(in, data, size);
    for (size_t i = given; given && i < size; i++) data[i] = data[i % given];
    pixels.data = data;
    expect(hpcm_analyse(t.model, &pixels, t.h, t.w, y, 0, 0) == HPCM_OK, "any pixels are analysed");
    expect(hpcm_analyse(t.model, &pixels, t.h, t.w, again, 0, 0) == HPCM_OK, "any pixels are analysed");
    expect(!memcmp(y, again, t.latents * sizeof *y), "equal pixels give equal latents");
    expect(!has_nan(y, t.latents), "no latent of pixels is NaN");
    free(data);
    free(y);
    free(again);
}

static void fuzz_synthesise(input *in) {
    tile t = take_tile(in);
    input choices = *in;
    float *y_hat = take_floats(in, t.latents);
    synthesise_twice(&t, y_hat, &choices);
    free(y_hat);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static void (*const targets[])(input *in) = {fuzz_coder,  fuzz_decode, fuzz_known,     fuzz_fill,
                                                 fuzz_encode, fuzz_pixels, fuzz_synthesise};
    input in = {data, size};
    if (!models[0]) make_all();
    targets[choose(&in, sizeof targets / sizeof *targets)](&in);
    return 0;
}
