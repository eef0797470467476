/* Fuzzes the coder of coefficients, which is near to the source if the step is small. */
#include "residual_fuzzer.h"

static int32_t usual_number(void) {
    return 30;
}

static int32_t take_number(input *in) {
    return choose(in, 2) ? 1 + choose(in, 64) : 1 + (choose(in, 256) << 8 | choose(in, 256)) % 65535;
}

static int allows_number(const tile *t) {
    return t->number > 0 && t->number <= 65535;
}

static hpcm_status encode(const tile *t, const void *source, uint8_t **payload, size_t *size) {
    return hpcm_dct_encode(source, t->base, t->rows, t->columns, t->channels, t->bit_depth, t->number, payload,
                           size, check, 0);
}

static hpcm_status decode(const tile *t, const uint8_t *payload, size_t size, void *pixels) {
    return hpcm_dct_decode(payload, size, t->base, t->rows, t->columns, t->channels, t->bit_depth, t->number, pixels,
                           check, 0);
}

/* The sum of squared errors. In 8 bits the mean over the samples of whole blocks is at most 10 step^2 where all of a block is
 * rounded the furthest and has the widest steps (11/16 of them, times 3.7), and a rest of rounded numbers. */
static double largest_error(const tile *t) {
    double sample = 1 << (t->bit_depth - 8), samples = (double)(t->rows + 7) * (t->columns + 7) * t->channels;
    return (10. * t->number * t->number + 1) * sample * sample * samples;
}

static void expect_near(const tile *t, const void *source, const void *pixels) {
    double error = 0;
    for (size_t i = 0; i < t->count; i++) {
        double away = sample_at(t, pixels, i) - sample_at(t, source, i);
        error += away * away;
    }
    expect(error <= largest_error(t), "samples are near the source's");
}
