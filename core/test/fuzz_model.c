/* Fuzzes what makes models of the arrays and configurations of strangers; see `make fuzz`.
 *
 * A random configuration of few channels gets the arrays that it asks for; then both are changed in some places. If that
 * is still a model, a tile goes there and back with it. Beyond the sanitizers it checks what always holds: all kernels give
 * the same, and what is encoded decodes. */
#include "failing.h"
#include "forge.h"
#include "input.h"

enum { MOST_WIDTH = 10, MOST_BYTES = 1 << 16, H = 4, W = 4, PLACE = 16 };

static int32_t width(input *in) {
    return 1 + choose(in, MOST_WIDTH);
}

/* ---- configurations --------------------------------------------------------------------------------------------------- */

static void take_stages(input *in, hpcm_config *c, int transform, int32_t count) {
    c->stages[transform] = count;
    for (int32_t stage = 0; stage < count; stage++) {
        c->blocks[transform][stage] = choose(in, 2);
        c->widths[transform][stage] = c->partial + width(in);
    }
}

static hpcm_config take_config(input *in) {
    static const int32_t coarse[3] = {1, 2, 4}, middle[2] = {1, 3}, fine[6] = {1, 2, 3, 4, 6, 12}, levels[3] = {1, 2, 64};
    hpcm_config c = {.M = 8 * (1 + choose(in, 2)), .N = width(in), .stem = choose(in, 3), .partial = 1 + choose(in, 3),
                     .ratio = 1 + choose(in, 2), .prior_width = width(in), .has_prior_fine = choose(in, 2),
                     .hierarchy = choose(in, 2), .psi_is_context = choose(in, 2), .context_net = choose(in, 2),
                     .refine = choose(in, 2), .released_placement = choose(in, 2), .paired_gains = choose(in, 2)};
    int32_t stages = c.stem == HPCM_UNSHUFFLE8 ? 2 : 4;
    for (int transform = 0; transform < 4; transform++) take_stages(in, &c, transform, transform < 2 ? stages : 2);
    c.widths[0][stages - 1] = c.widths[1][0] = c.widths[2][0] = c.M;
    c.widths[3][1] = 2 * c.M;
    c.steps[0] = coarse[choose(in, 3)];
    c.steps[1] = middle[choose(in, 2)];
    c.steps[2] = fine[choose(in, 6)];
    c.levels = levels[choose(in, 3)];
    int adapted = choose(in, 4) == 0;
    if (adapted) c.prior_width = 3 * c.M;
    for (int i = 0; i < 3; i++) {
        c.prior_coarse[i] = choose(in, 2);
        c.prior_fine[i] = choose(in, 2);
        c.adaptor_blocks[i] = adapted && choose(in, 2);
    }
    return c;
}

/* ---- changes ---------------------------------------------------------------------------------------------------------- */

static const size_t SIZES[] = {1, 2, 4, 2, 4}; /* of an hpcm_type */

/* Bytes of an array; 0 if it has no numbers, or too many for a test. */
static size_t bytes_of(const hpcm_array *array) {
    size_t bytes = SIZES[array->type];
    for (int32_t d = 0; d < array->dimensions; d++) {
        if (array->shape[d] <= 0 || array->shape[d] > MOST_BYTES) return 0;
        bytes *= (size_t)array->shape[d];
        if (bytes > MOST_BYTES) return 0;
    }
    return bytes;
}

static void set_number(input *in, hpcm_array *array, size_t place) {
    uint8_t *to = (uint8_t *)array->data + place * SIZES[array->type];
    int32_t whole = any_number(in);
    float real = (float)whole / 16;
    if (array->type == HPCM_FLOAT32 && choose(in, 2)) memcpy(to, &real, sizeof real);
    else memcpy(to, &whole, SIZES[array->type]);
}

/* An array with another type or shape gets data of just that size: whoever reads more is caught. */
static void change_form(input *in, hpcm_array *array) {
    if (choose(in, 2)) array->type = choose(in, 5);
    else array->dimensions = choose(in, 5);
    if (choose(in, 2)) {
        int64_t *side = &array->shape[choose(in, 4)];
        *side = choose(in, 4) ? any_number(in) : (int64_t)any_number(in) * (INT64_C(1) << 32);
    }
    free((void *)array->data);
    size_t bytes = bytes_of(array);
    array->data = exactly(bytes);
    memset((void *)array->data, choose(in, 4), bytes ? bytes : 1);
}

/* The numbers of an array as another type: the same ones of integers, from 0.5 to 2 of floats. */
static void convert(input *in, hpcm_array *array) {
    const uint16_t half = 0x3800; /* as float16 */
    hpcm_array made = *array;
    size_t numbers = bytes_of(array) / SIZES[array->type];
    made.type = array->type == HPCM_FLOAT32 ? HPCM_FLOAT16 : array->type == HPCM_INT8 ? 1 + choose(in, 2) : array->type;
    if (made.type == array->type) return;
    uint8_t *data = exactly(numbers * SIZES[made.type]);
    for (size_t i = 0; i < numbers; i++) {
        int32_t whole = ((const int8_t *)array->data)[i];
        if (made.type == HPCM_FLOAT16) whole = half + (i * 37 & 0x7FF);
        memcpy(data + i * SIZES[made.type], &whole, SIZES[made.type]);
    }
    free((void *)array->data);
    made.data = data;
    *array = made;
}

/* A layer around an array gets weak weights and a large limit: inputs need more than 16 bits. */
static void widen(input *in, forge *f, size_t chosen) {
    enum { LIMIT = 4 }; /* where forge_layer puts it, behind the weights */
    int32_t shift = 4 + choose(in, 4), limit = 1 << (15 + choose(in, 8));
    for (size_t back = 0; back <= LIMIT && back <= chosen; back++) {
        size_t first = chosen - back;
        hpcm_array *weight = &f->arrays[first], *last = weight + LIMIT;
        int is_layer = weight->type == HPCM_INT8 && weight->dimensions == 4 && first + LIMIT < f->count &&
                       last->type == HPCM_INT32 && !last->dimensions;
        if (!is_layer) continue;
        int8_t *numbers = (int8_t *)weight->data;
        for (size_t i = 0; i < bytes_of(weight); i++) numbers[i] = (int8_t)(numbers[i] / (1 << shift));
        memcpy((void *)last->data, &limit, sizeof limit);
        return;
    }
}

static void change(input *in, forge *f, hpcm_config *config) {
    uint16_t which;
    take(in, &which, sizeof which);
    size_t chosen = which % f->count;
    hpcm_array *array = &f->arrays[chosen];
    size_t numbers = bytes_of(array) / SIZES[array->type], place = 0;
    if (numbers > 1) {
        uint16_t where;
        take(in, &where, sizeof where);
        place = where % numbers;
    }
    switch (choose(in, 10)) {
    case 0: change_form(in, array); break;
    case 1: { /* it is missing */
        free((void *)array->name);
        free((void *)array->data);
        *array = f->arrays[--f->count];
        break;
    }
    case 2: { /* a field of the configuration */
        int32_t *fields = (int32_t *)config;
        fields[choose(in, (int32_t)(sizeof *config / sizeof *fields))] = any_number(in);
        break;
    }
    case 3: convert(in, array); break;
    case 4:
    case 5: widen(in, f, chosen); break;
    case 6: { /* all numbers */
        input same = *in;
        for (size_t i = 0; i < numbers; i++) {
            *in = same;
            set_number(in, array, i);
        }
        break;
    }
    default:
        if (numbers) set_number(in, array, place);
    }
}

/* ---- what a model does ------------------------------------------------------------------------------------------------ */

/* What a tile becomes, there and back. */
typedef struct {
    float *y, *y_hat, *again;
    uint8_t pixels[PLACE * H * PLACE * W * 3];
    hpcm_payload payload;
} results;

static void run(hpcm_model *model, const hpcm_config *c, const uint8_t *picture, const uint8_t *forged, size_t size,
                results *r) {
    const int32_t box[4] = {0, 0, PLACE * W, PLACE * H};
    const hpcm_pixels pixels = {picture, PLACE * W * 3, 1, PLACE * H, PLACE * W, 3, 255};
    size_t latents = (size_t)(H * W * c->M);
    int32_t level = c->levels - 1, steps = 1 + c->steps[0] + c->steps[1] + c->steps[2];
    hpcm_decoded decoded;
    r->y = exactly(latents * sizeof *r->y);
    r->y_hat = exactly(latents * sizeof *r->y_hat);
    r->again = exactly(latents * sizeof *r->again);
    allocations_left = size ? forged[0] % 8 : -1; /* of a model that has no memory yet */
    hpcm_status status = hpcm_analyse(model, &pixels, H, W, r->y, 0, 0);
    allocations_left = -1;
    expect(status == HPCM_OK || status == HPCM_NO_MEMORY, "pixels are analysed, or memory runs out");
    expect(hpcm_analyse(model, &pixels, H, W, r->y, 0, 0) == HPCM_OK, "pixels are analysed");
    status = hpcm_encode(model, r->y, 0, H, W, level, H, W, r->y_hat, &r->payload, 0, 0);
    expect(status == HPCM_OK, "latents are encoded");
    size_t coded = r->payload.sizes[0] + r->payload.sizes[1] + r->payload.sizes[2];
    status = hpcm_decode(model, r->payload.bytes, coded, steps, H, W, level, H, W, r->again, &decoded, 0, 0);
    expect(status == HPCM_OK, "what was encoded decodes");
    expect(!memcmp(r->again, r->y_hat, latents * sizeof *r->y_hat), "the decoder gets the encoder's latent");
    expect(decoded.checksum == r->payload.checksums[2] && !decoded.words_left, "the decoder reads what was encoded");
    expect(hpcm_synthesise(model, r->y_hat, H, W, box, 1, 3, r->pixels, 0, 0) == HPCM_OK, "latents give pixels");
    status = hpcm_decode(model, forged, size / 4 * 4, steps, H, W, 0, H, W, r->again, &decoded, 0, 0);
    expect(status == HPCM_OK || status == HPCM_BAD_PAYLOAD, "a payload decodes or is refused");
    if (status == HPCM_OK) expect(!has_nan(r->again, latents), "no latent is NaN");
    else memset(r->again, 0, latents * sizeof *r->again);
}

static void expect_equal(const hpcm_config *c, const results *one, const results *other) {
    size_t latents = (size_t)(H * W * c->M) * sizeof(float), parts = sizeof one->payload.sizes;
    expect(!memcmp(one->y, other->y, latents), "all kernels give the same y");
    expect(!memcmp(one->payload.sizes, other->payload.sizes, parts), "all kernels give the same sizes");
    size_t coded = one->payload.sizes[0] + one->payload.sizes[1] + one->payload.sizes[2];
    expect(!memcmp(one->payload.bytes, other->payload.bytes, coded), "all kernels give the same payload");
    expect(!memcmp(one->y_hat, other->y_hat, latents), "all kernels give the same y_hat");
    expect(!memcmp(one->again, other->again, latents), "all kernels decode the same");
    expect(!memcmp(one->pixels, other->pixels, sizeof one->pixels), "all kernels give the same pixels");
}

static void free_results(results *r) {
    free(r->y);
    free(r->y_hat);
    free(r->again);
    hpcm_payload_free(&r->payload);
}

/* Perhaps memory runs out when the model is made. */
static void make_in_part(const hpcm_config *config, const forge *f, input in) {
    uint16_t end;
    char message[HPCM_MESSAGE];
    hpcm_model *model;
    take(&in, &end, sizeof end);
    if (end % 4) return;
    allocations_left = end / 4 % 1024;
    hpcm_status status = hpcm_model_create(config, f->arrays, f->count, 1, 0, &model, message);
    allocations_left = -1;
    expect(status == HPCM_OK || status == HPCM_BAD_MODEL || status == HPCM_NO_MEMORY, "a model is made or refused");
    expect((status == HPCM_OK) == !!model, "there is a model if it was made");
    hpcm_model_free(model);
}

/* Every kind of kernel that this machine has makes the model, or none does. */
static void run_all(const hpcm_config *config, const forge *f, const input *in) {
    static uint8_t picture[PLACE * H * PLACE * W * 3];
    static results all[4];
    char names[64], message[HPCM_MESSAGE];
    int made = 0, kinds = 0;
    forge noise = {.random = 7};
    for (size_t i = 0; i < sizeof picture; i++) picture[i] = (uint8_t)forge_random(&noise);
    snprintf(names, sizeof names, "%s", hpcm_kernels());
    for (char *name = strtok(names, " "); name; name = strtok(0, " "), kinds++) {
        hpcm_model *model;
        hpcm_status status = hpcm_model_create(config, f->arrays, f->count, 1, name, &model, message);
        expect(status == HPCM_OK || status == HPCM_BAD_MODEL, "a model is made or refused");
        expect((status == HPCM_OK) == !message[0], "a refusal has a reason");
        if (status != HPCM_OK) continue;
        run(model, config, picture, in->bytes, in->left, &all[made++]);
        hpcm_model_free(model);
    }
    expect(made == 0 || made == kinds, "a model is made with all kernels or with none");
    for (int i = 1; i < made; i++) expect_equal(config, &all[0], &all[i]);
    for (int i = 0; i < made; i++) free_results(&all[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    input in = {data, size};
    hpcm_config config = take_config(&in);
    forge *f = forge_arrays(&config, 1 + (uint32_t)choose(&in, 256));
    for (int32_t changes = choose(&in, 8); changes > 0 && f->count; changes--) change(&in, f, &config);
    make_in_part(&config, f, in);
    run_all(&config, f, &in);
    forge_free(f);
    return 0;
}
