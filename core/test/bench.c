/* How long each function takes for a picture of 768 x 512, with a random model of LITE's shape: bench [threads]
 *
 *     python core/build.py --program core/test/bench.c && build/bench
 *
 * Times are the best of several runs. They compare compilers and kernels (HPCM_KERNELS=avx2); speed doesn't depend on
 * what the weights are. */
#include <time.h>

#include "forge.h"

static const hpcm_config LITE = {
    .M = 256,
    .N = 128,
    .stem = HPCM_UNSHUFFLE8,
    .stages = {2, 2, 2, 2},
    .blocks = {{4, 0}, {0, 4}, {1, 1}, {2, 0}},
    .widths = {{256, 256}, {256, 256}, {256, 128}, {128, 512}},
    .partial = 4,
    .ratio = 3,
    .prior_width = 256,
    .prior_coarse = {1, 1, 0},
    .prior_fine = {2, 1, 0},
    .has_prior_fine = 1,
    .steps = {2, 3, 6},
    .hierarchy = 1,
    .psi_is_context = 1,
    .refine = 1,
    .paired_gains = 1,
    .levels = 64,
};

enum { H = 32, W = 48, RUNS = 7, LEVEL = 32, STEPS = 12 };

static double now(void) {
    struct timespec t;
    timespec_get(&t, TIME_UTC);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void expect(hpcm_status status) {
    if (status == HPCM_OK) return;
    fprintf(stderr, "status %d\n", (int)status);
    exit(1);
}

static void *room(size_t count, size_t size) {
    void *made = calloc(count, size);
    if (!made) exit(1);
    return made;
}

int main(int count, char **arguments) {
    const char *names[4] = {"analyse", "encode", "decode", "synthesise"};
    const int32_t box[4] = {0, 0, 16 * W, 16 * H};
    double best[4] = {1e9, 1e9, 1e9, 1e9};
    hpcm_model *model = forge_model(&LITE, count > 1 ? atoi(arguments[1]) : 1, 1, 0);
    uint8_t *pixels = room((size_t)(16 * H) * (16 * W) * 3, 1);
    float *y = room((size_t)H * W * (size_t)LITE.M, sizeof *y), *y_hat = room((size_t)H * W * (size_t)LITE.M, sizeof *y);
    const hpcm_pixels picture = {pixels, 16 * W * 3, 1, 16 * H, 16 * W, 3, 255};
    forge f = {.random = 2};
    for (size_t i = 0; i < (size_t)(16 * H) * (16 * W) * 3; i++) pixels[i] = (uint8_t)forge_random(&f);
    for (int run = 0; run < RUNS; run++) {
        hpcm_payload payload;
        hpcm_decoded decoded;
        double times[5];
        times[0] = now();
        expect(hpcm_analyse(model, &picture, H, W, y, 0, 0));
        times[1] = now();
        expect(hpcm_encode(model, y, 0, H, W, LEVEL, H, W, y_hat, &payload, 0, 0));
        times[2] = now();
        size_t size = payload.sizes[0] + payload.sizes[1] + payload.sizes[2];
        expect(hpcm_decode(model, payload.bytes, size, STEPS, H, W, LEVEL, H, W, y_hat, &decoded, 0, 0));
        times[3] = now();
        expect(hpcm_synthesise(model, y_hat, H, W, box, 1, 3, pixels, 0, 0));
        times[4] = now();
        if (decoded.checksum != payload.checksums[2]) {
            fprintf(stderr, "decoding gives other symbols than encoding\n");
            return 1;
        }
        for (int i = 0; i < 4; i++)
            if (times[i + 1] - times[i] < best[i]) best[i] = times[i + 1] - times[i];
        if (run == RUNS - 1) printf("%s, %zu bytes, checksum %08x:", hpcm_model_kernels(model), size, decoded.checksum);
        hpcm_payload_free(&payload);
    }
    for (int i = 0; i < 4; i++) printf(" %s %.0f ms%s", names[i], 1000 * best[i], i < 3 ? "," : "\n");
    hpcm_model_free(model);
    free(pixels);
    free(y);
    free(y_hat);
    return 0;
}
