/* Fuzzes what reads payloads and floats of strangers, with small models made of random numbers, and with those of the
 * record of calls (tests/recorder.py) that the environment's HPCM_FUZZ_MODELS names; see `make fuzz`.
 *
 * Beyond the sanitizers it checks what always holds: equal calls give equal results, whatever the kernels; no result is
 * NaN; what is encoded decodes; and work that ended early changes nothing later. */
#include "failing.h"
#include "forge.h"
#include "input.h"
#include "recorded.h"

enum { PLACE = 16, MOST_MODELS = 8, MOST_KERNELS = 4 };

/* Of random numbers, and then those of the record that the environment names; each with all kernels of this machine. */
static hpcm_model *models[MOST_KERNELS][MOST_MODELS];
static hpcm_config configs[MOST_MODELS];
static int model_count, kernel_count;

static void make_models(hpcm_model **made, const char *kernels) {
    const char *record = getenv("HPCM_FUZZ_MODELS");
    for (model_count = 0; model_count < FORGE_CONFIGS; model_count++) {
        configs[model_count] = forge_configs[model_count];
        made[model_count] = forge_model(&configs[model_count], 1, (uint32_t)model_count + 1, kernels);
    }
    if (record)
        model_count += recorded_models(record, MOST_MODELS - model_count, kernels, made + model_count,
                                       configs + model_count);
}

static void make_all(void) {
    char names[64];
    snprintf(names, sizeof names, "%s", hpcm_kernels());
    for (char *name = strtok(names, " "); name; name = strtok(0, " ")) make_models(models[kernel_count++], name);
}

/* Where and how a tile is coded. What is done again is done by the same model with perhaps other kernels. */
typedef struct {
    hpcm_model *model, *other;
    const hpcm_config *config;
    int32_t h, w, level, rows, columns, steps; /* steps: all of them */
    size_t latents, hyper;                     /* numbers of y and z */
} tile;

static tile take_tile(input *in) {
    int i = choose(in, MOST_MODELS);
    if (i >= model_count) i %= FORGE_CONFIGS;
    tile t = {.config = &configs[i]};
    int32_t largest = i < FORGE_CONFIGS ? 3 : 1; /* real models take longer */
    t.h = 4 * (1 + choose(in, largest));
    t.w = 4 * (1 + choose(in, largest));
    t.level = choose(in, t.config->levels);
    t.rows = t.h - choose(in, t.h);
    t.columns = t.w - choose(in, t.w);
    t.model = models[t.rows % kernel_count][i];
    t.other = models[t.columns % kernel_count][i];
    t.steps = 1 + t.config->steps[0] + t.config->steps[1] + t.config->steps[2];
    t.latents = (size_t)(t.h * t.w * t.config->M);
    t.hyper = (size_t)(t.h / 4 * (t.w / 4) * t.config->N);
    return t;
}

static hpcm_status decode(const tile *t, hpcm_model *model, const input *in, int32_t steps, float *y_hat,
                          hpcm_decoded *decoded) {
    return hpcm_decode(model, in->bytes, in->left, steps, t->h, t->w, t->level, t->rows, t->columns, y_hat, decoded, 0, 0);
}

static void synthesise_twice(const tile *t, const float *y_hat, input *in) {
    int32_t box[4] = {choose(in, PLACE), choose(in, PLACE), PLACE * t->w - choose(in, PLACE),
                      PLACE * t->h - choose(in, PLACE)};
    int32_t bytes = 1 + choose(in, 2), channels = choose(in, 2) ? 3 : 1;
    size_t size = (size_t)(box[2] - box[0]) * (size_t)(box[3] - box[1]) * (size_t)(channels * bytes);
    uint8_t *pixels = exactly(size), *again = exactly(size);
    hpcm_status one = hpcm_synthesise(t->model, y_hat, t->h, t->w, box, bytes, channels, pixels, 0, 0);
    hpcm_status other = hpcm_synthesise(t->other, y_hat, t->h, t->w, box, bytes, channels, again, 0, 0);
    expect(one == HPCM_OK && other == HPCM_OK, "latents give pixels");
    expect(!memcmp(pixels, again, size), "equal latents give equal pixels");
    free(pixels);
    free(again);
}

/* ---- the targets ------------------------------------------------------------------------------------------------------ */

/* A check that ends the work at its (*left + 1)st call. */
static int stop(void *left) {
    return !(*(int32_t *)left)--;
}

/* Ends at a check or at an allocation. What it leaves behind is for the next call to use. */
static void decode_in_part(const tile *t, const input *in, int32_t steps, int32_t end, float *y_hat) {
    int32_t checks = end % 2 ? end / 2 : INT32_MAX;
    hpcm_decoded decoded;
    allocations_left = end % 2 ? -1 : end / 2;
    hpcm_status status = hpcm_decode(t->model, in->bytes, in->left, steps, t->h, t->w, t->level, t->rows, t->columns, y_hat,
                                     &decoded, stop, &checks);
    allocations_left = -1;
    expect((status == HPCM_STOPPED) == (checks < 0), "a check ends the work, and nothing else");
    if (end % 2) expect(status != HPCM_NO_MEMORY, "memory doesn't run out");
}

static void fuzz_decode(input *in) {
    tile t = take_tile(in);
    int32_t steps = choose(in, t.steps + 2), end = choose(in, 256);
    input pixels = *in;
    float *y_hat = exactly(t.latents * sizeof *y_hat), *again = exactly(t.latents * sizeof *again);
    hpcm_decoded decoded = {0}, decoded_again = {0};
    if (in->left % 4 == 0) decode_in_part(&t, in, steps, end, y_hat);
    hpcm_status status = decode(&t, t.model, in, steps, y_hat, &decoded);
    expect(status == HPCM_OK || status == HPCM_BAD_PAYLOAD, "a payload decodes or is refused");
    expect(decode(&t, t.other, in, steps, again, &decoded_again) == status, "equal payloads decode alike");
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
    expect(decode(&t, t.other, in, steps, y_hat, &decoded) == status, "what is known is refused like the payload");
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
    float *y_hat = exactly(t.latents * sizeof *y_hat), *again = exactly(t.latents * sizeof *again);
    float *known[3], *z = take_floats(in, t.hyper);
    for (int scale = 2; scale >= 0; scale--) {
        int32_t times = scale == 2 ? 1 : scale == 1 && coarsening > 1 ? 2 : coarsening;
        known[scale] = take_floats(in, t.latents / (size_t)(times * times));
    }
    hpcm_status status = hpcm_fill(t.model, z, (const float *const *)known, t.h, t.w, t.level, y_hat, 0, 0);
    expect(status == HPCM_OK, "any floats can be filled up");
    status = hpcm_fill(t.other, z, (const float *const *)known, t.h, t.w, t.level, again, 0, 0);
    expect(status == HPCM_OK && !memcmp(y_hat, again, t.latents * sizeof *y_hat), "equal floats are filled up alike");
    expect(!has_nan(y_hat, t.latents), "no latent that was filled up is NaN");
    for (int scale = 0; scale < 3; scale++) free(known[scale]);
    free(z);
    free(y_hat);
    free(again);
}

static void expect_coded(const tile *t, const float *y, const float *z) {
    float *y_hat = exactly(t->latents * sizeof *y_hat), *again = exactly(t->latents * sizeof *again);
    hpcm_payload payload;
    hpcm_decoded decoded = {0};
    hpcm_status status = hpcm_encode(t->model, y, z, t->h, t->w, t->level, t->rows, t->columns, y_hat, &payload, 0, 0);
    expect(status == HPCM_OK, "any floats are encoded");
    input coded = {payload.bytes, payload.sizes[0] + payload.sizes[1] + payload.sizes[2]};
    expect(decode(t, t->other, &coded, t->steps, again, &decoded) == HPCM_OK, "what was encoded decodes");
    expect(!memcmp(y_hat, again, t->latents * sizeof *y_hat), "the decoder gets the encoder's latent");
    expect(decoded.checksum == payload.checksums[2] && !decoded.words_left, "the decoder reads what was encoded");
    hpcm_payload_free(&payload);
    free(y_hat);
    free(again);
}

/* Ends at an allocation. */
static void encode_in_part(const tile *t, const float *y, const float *z, int32_t end) {
    hpcm_payload payload;
    allocations_left = end;
    hpcm_status status = hpcm_encode(t->model, y, z, t->h, t->w, t->level, t->rows, t->columns, 0, &payload, 0, 0);
    allocations_left = -1;
    expect(status == HPCM_OK || status == HPCM_NO_MEMORY, "floats are encoded, or memory runs out");
    hpcm_payload_free(&payload);
}

static void fuzz_encode(input *in) {
    tile t = take_tile(in);
    int32_t end = choose(in, 256), with_z = end % 2;
    float *y = take_floats(in, t.latents), *z = take_floats(in, t.hyper);
    encode_in_part(&t, y, with_z ? z : 0, end / 2);
    expect_coded(&t, y, with_z ? z : 0);
    free(y);
    free(z);
}

/* 255, or any float. */
static float take_peak(input *in) {
    float peak = 255;
    if (choose(in, 4) == 3) take(in, &peak, sizeof peak);
    return peak;
}

static void fuzz_pixels(input *in) {
    tile t = take_tile(in);
    hpcm_pixels pixels = {.bytes = 1 << choose(in, 3), .channels = choose(in, 2) ? 3 : 1};
    pixels.rows = 1 + choose(in, PLACE * t.h);
    pixels.columns = 1 + choose(in, PLACE * t.w);
    int32_t row = pixels.columns * pixels.channels * pixels.bytes, gap = choose(in, 4);
    pixels.stride = row + gap;
    pixels.peak = take_peak(in);
    size_t size = (size_t)pixels.stride * (size_t)(pixels.rows - 1) + (size_t)row;
    uint8_t *data = exactly(size);
    float *y = exactly(t.latents * sizeof *y), *again = exactly(t.latents * sizeof *again);
    size_t given = in->left;
    take(in, data, size);
    for (size_t i = given; given && i < size; i++) data[i] = data[i % given];
    pixels.data = data;
    hpcm_status status = hpcm_analyse(t.model, &pixels, t.h, t.w, y, 0, 0);
    expect(status == (pixels.peak > 0 ? HPCM_OK : HPCM_BAD_ARGUMENT), "any pixels are analysed, of a peak above 0");
    if (status == HPCM_OK) {
        expect(hpcm_analyse(t.other, &pixels, t.h, t.w, again, 0, 0) == HPCM_OK, "any pixels are analysed again");
        expect(!memcmp(y, again, t.latents * sizeof *y), "equal pixels give equal latents");
        expect(!has_nan(y, t.latents), "no latent of pixels is NaN");
        expect_coded(&t, y, 0);
    }
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
    static void (*const targets[])(input *in) = {fuzz_decode, fuzz_known,  fuzz_fill,
                                                 fuzz_encode, fuzz_pixels, fuzz_synthesise};
    input in = {data, size};
    if (!model_count) make_all();
    targets[choose(&in, sizeof targets / sizeof *targets)](&in);
    return 0;
}
