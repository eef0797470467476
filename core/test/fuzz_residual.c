/* Fuzzes the coder of samples, whose largest error holds. */
#include "residual_fuzzer.h"

static int32_t usual_number(void) {
    return 0;
}

static int32_t take_number(input *in) {
    return choose(in, 2) ? 0 : choose(in, 128);
}

static int allows_number(const tile *t) {
    return t->number >= 0 && t->number < 1 << (t->bit_depth - 1);
}

static hpcm_status encode(const tile *t, const void *source, uint8_t **payload, size_t *size) {
    return hpcm_residual_encode(source, t->base, t->rows, t->columns, t->channels, t->bit_depth, t->number, payload,
                                size, check, 0);
}

static hpcm_status decode(const tile *t, const uint8_t *payload, size_t size, void *pixels) {
    return hpcm_residual_decode(payload, size, t->base, t->rows, t->columns, t->channels, t->bit_depth, t->number,
                                pixels, check, 0);
}

static void expect_near(const tile *t, const void *source, const void *pixels) {
    for (size_t i = 0; i < t->count; i++)
        expect(abs(sample_at(t, pixels, i) - sample_at(t, source, i)) <= t->number, "the bound of errors holds");
}
