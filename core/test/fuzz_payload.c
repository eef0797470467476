/* A fuzz target: bytes as the payload of a tile, and as symbols for the entropy coder.
 *
 *     python core/build.py --fuzz && build/fuzz_payload -max_total_time=60 FOLDER
 *
 * The functions may refuse payloads; they may not crash, hang, give a latent that isn't finite, or decode other latents
 * than they encoded, whatever floats those were. The models are random (forge.h) and differ in structure, threads and
 * kernels. The first bytes choose a model and the arguments. */
#include <math.h>

#include "forge.h"

enum { MODELS = 4, MAX_SIDE = 8, HEAD = 8, LEVELS = 4 };

static const hpcm_config SMALL = {
    .M = 16,
    .N = 8,
    .stem = HPCM_UNSHUFFLE8,
    .stages = {2, 2, 2, 2},
    .blocks = {{1, 0}, {0, 1}, {0, 0}, {1, 0}},
    .widths = {{8, 16}, {16, 8}, {16, 8}, {8, 32}},
    .partial = 2,
    .ratio = 1,
    .prior_width = 8,
    .prior_coarse = {0, 1, 0},
    .prior_fine = {1, 0, 0},
    .has_prior_fine = 1,
    .steps = {2, 3, 6},
    .hierarchy = 1,
    .psi_is_context = 1,
    .refine = 1,
    .paired_gains = 1,
    .levels = LEVELS,
};

static hpcm_model *models[MODELS];
static hpcm_config configs[MODELS];

static void make_models(void) {
    for (int i = 0; i < MODELS; i++) configs[i] = SMALL;
    configs[1].hierarchy = 0;
    configs[1].has_prior_fine = 0;
    configs[1].refine = 0;
    configs[2].psi_is_context = 0;
    configs[2].context_net = 1;
    configs[2].released_placement = 1;
    configs[2].refine = 0;
    configs[3].steps[0] = 4;
    configs[3].steps[1] = 1;
    configs[3].steps[2] = 12;
    configs[3].paired_gains = 0;
    for (int i = 0; i < MODELS; i++) {
        if (i == 2) setenv("HPCM_KERNELS", "generic", 1);
        models[i] = forge_model(&configs[i], 1 + i % 2, 7 + (uint32_t)i);
    }
}

static void expect(int truth, const char *what) {
    if (truth) return;
    fprintf(stderr, "%s\n", what);
    abort();
}

static void expect_finite(const float *values, size_t count) {
    for (size_t i = 0; i < count; i++) expect(isfinite(values[i]), "a latent isn't finite");
}

static void *room(size_t count, size_t size) {
    void *made = malloc(count * size + 1);
    expect(made != 0, "there is no memory");
    return made;
}

/* Decodes all, then what is known after some steps, and fills up from that. */
static void decode(const uint8_t *head, const uint8_t *payload, size_t size) {
    int which = head[0] % MODELS;
    const hpcm_config *c = &configs[which];
    int32_t h = 4 * (1 + head[1] % (MAX_SIDE / 4)), w = 4 * (1 + head[2] % (MAX_SIDE / 4));
    int32_t rows = 1 + head[3] % h, columns = 1 + head[4] % w, level = head[5] % LEVELS;
    int32_t all = 1 + c->steps[0] + c->steps[1] + c->steps[2], steps = 1 + head[6] % all;
    size_t places = (size_t)h * (size_t)w, latents = places * (size_t)c->M;
    float *y_hat = room(latents, sizeof *y_hat), *z = room(places / 16 * (size_t)c->N, sizeof *z), *y[3];
    hpcm_decoded decoded;
    hpcm_status status = hpcm_decode(models[which], payload, size, all, h, w, level, rows, columns, y_hat, &decoded, 0, 0);
    expect(status == HPCM_OK || status == HPCM_BAD_PAYLOAD, "hpcm_decode gives another status");
    if (status == HPCM_OK) expect_finite(y_hat, latents);
    if (status == HPCM_OK) expect(decoded.words_left <= size / 4, "more words are left than there were");
    for (int scale = 0; scale < 3; scale++) {
        int stride = c->hierarchy ? 4 >> scale : 1;
        size_t count = latents / (size_t)(stride * stride);
        y[scale] = room(count, sizeof *y[scale]);
        for (size_t i = 0; i < count; i++) y[scale][i] = NAN;
    }
    status = hpcm_decode_known(models[which], payload, size, steps, h, w, level, rows, columns, z, y, &decoded, 0, 0);
    expect(status == HPCM_OK || status == HPCM_BAD_PAYLOAD, "hpcm_decode_known gives another status");
    if (status == HPCM_OK) {
        const float *const known[3] = {y[0], y[1], y[2]};
        expect(hpcm_fill(models[which], z, known, h, w, level, y_hat, 0, 0) == HPCM_OK, "hpcm_fill fails");
        expect_finite(y_hat, latents);
    }
    for (int scale = 0; scale < 3; scale++) free(y[scale]);
    free(y_hat);
    free(z);
}

/* Numbers of moderate size, or any floats, also those that are none. */
static void fill(float *values, size_t count, const uint8_t *head, const uint8_t *bytes, size_t size) {
    memset(values, 0, count * sizeof *values);
    if (head[1] & 1) {
        memcpy(values, bytes, size < count * sizeof *values ? size : count * sizeof *values);
        return;
    }
    for (size_t i = 0; i < count && size; i++) values[i] = (float)(int8_t)bytes[i % size] * (float)(1 + head[7]) / 8;
}

/* Pixels -> y -> pixels; the results are any, but inside their bounds. */
static void transform(const uint8_t *head, const uint8_t *bytes, size_t size) {
    enum { SIDE = 4, PIXELS = 16 * SIDE * 16 * SIDE * 3 };
    const int32_t box[4] = {head[2] % 8, head[3] % 8, 16 * SIDE - head[4] % 8, 16 * SIDE - head[5] % 8};
    int which = head[0] % MODELS, channels = head[6] % 2 ? 3 : 1;
    size_t latents = SIDE * SIDE * (size_t)configs[which].M;
    float *pixels = room(PIXELS, sizeof *pixels), *y = room(latents, sizeof *y);
    size_t count = (size_t)(box[2] - box[0]) * (size_t)(box[3] - box[1]) * (size_t)channels;
    uint8_t *result = room(count, 1);
    fill(pixels, PIXELS, head, bytes, size);
    const hpcm_pixels picture = {pixels, 16 * SIDE * channels * 4, 4, 16 * SIDE, 16 * SIDE, channels, 255};
    expect(hpcm_analyse(models[which], &picture, SIDE, SIDE, y, 0, 0) == HPCM_OK, "hpcm_analyse fails");
    expect_finite(y, latents);
    fill(y, latents, head, bytes, size);
    expect(hpcm_synthesise(models[which], y, SIDE, SIDE, box, 1, channels, result, 0, 0) == HPCM_OK,
           "hpcm_synthesise fails");
    free(pixels);
    free(y);
    free(result);
}

/* y -> payload -> y_hat. */
static void there_and_back(const uint8_t *head, const uint8_t *bytes, size_t size) {
    enum { SIDE = 4 };
    int which = head[0] % MODELS;
    const hpcm_config *c = &configs[which];
    int32_t level = head[5] % LEVELS, all = 1 + c->steps[0] + c->steps[1] + c->steps[2];
    size_t latents = SIDE * SIDE * (size_t)c->M;
    float *y = room(latents, sizeof *y), *encoded = room(latents, sizeof *y), *back = room(latents, sizeof *y);
    hpcm_payload payload;
    hpcm_decoded decoded;
    fill(y, latents, head, bytes, size);
    hpcm_status status = hpcm_encode(models[which], y, 0, SIDE, SIDE, level, SIDE, SIDE, encoded, &payload, 0, 0);
    expect(status == HPCM_OK, "hpcm_encode fails");
    size_t total = payload.sizes[0] + payload.sizes[1] + payload.sizes[2];
    status = hpcm_decode(models[which], payload.bytes, total, all, SIDE, SIDE, level, SIDE, SIDE, back, &decoded, 0, 0);
    expect(status == HPCM_OK && decoded.words_left == 0, "what was encoded doesn't decode");
    expect(decoded.checksum == payload.checksums[2], "other symbols are decoded than were encoded");
    expect(!memcmp(encoded, back, latents * sizeof *back), "decoding gives another latent than encoding");
    hpcm_payload_free(&payload);
    free(y);
    free(encoded);
    free(back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint8_t head[HEAD] = {0};
    size_t taken = size < HEAD ? size : HEAD;
    if (!models[0]) make_models();
    memcpy(head, data, taken);
    size -= taken;
    if (head[7] != 255) size -= size % 4; /* other payloads are refused at once */
    if ((head[0] & 0xC0) == 0xC0) transform(head, data + taken, size);
    else if (head[0] & 0x80) there_and_back(head, data + taken, size);
    else decode(head, data + taken, size);
    return 0;
}
