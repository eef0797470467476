#include "config.h"

#include <float.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "container.h"

enum {
    MAX_WIDTH = 8192,
    MAX_BLOCKS = 64,
    MAX_WINDOW = 16,
    MAX_STEPS = 12,
    MAX_LEVELS = 64,
    MAX_PER_PIXEL = 512, /* numbers inside a block for each pixel */
    LATENT_STRIDE = 16
};
static const char *const TRANSFORMS[4] = {"analysis", "synthesis", "hyper_analysis", "hyper_synthesis"};

/* Reads field by field; after the first that is wrong it keeps that status. */
typedef struct {
    const hpcm_json_value *fields;
    char *message;
    hpcm_status status;
} reader;

static void refuse(reader *r, const char *format, ...) {
    va_list arguments;
    if (r->status != HPCM_OK) return;
    va_start(arguments, format);
    vsnprintf(r->message, HPCM_MESSAGE, format, arguments);
    va_end(arguments);
    r->status = HPCM_BAD_MODEL;
}

/* ---- kinds of fields -------------------------------------------------------------------------------------------------- */

static int is_whole(const hpcm_json_value *value, int32_t low, int32_t high) {
    return value && value->kind == HPCM_JSON_WHOLE && value->whole >= low && value->whole <= high;
}

/* A field that isn't there keeps its default, which `made` has; see check_names for those that must be there. */
static void whole(reader *r, const char *name, int32_t low, int32_t high, int32_t *made) {
    const hpcm_json_value *value = hpcm_json_member(r->fields, name);
    if (!value) return;
    if (is_whole(value, low, high)) *made = (int32_t)value->whole;
    else refuse(r, "%s of the configuration must be a whole number from %d to %d", name, (int)low, (int)high);
}

static void three(reader *r, const char *name, int32_t low, int32_t high, int32_t made[3]) {
    const hpcm_json_value *value = hpcm_json_member(r->fields, name), *item;
    if (!value) return;
    int fits = value->kind == HPCM_JSON_ARRAY && value->items.count == 3, i = 0;
    for (item = fits ? value->items.first : 0; item; item = item->next) {
        fits = fits && is_whole(item, low, high);
        made[i++] = fits ? (int32_t)item->whole : low;
    }
    if (!fits) refuse(r, "%s of the configuration must be three whole numbers from %d to %d", name, (int)low, (int)high);
}

static void truth(reader *r, const char *name, int32_t *made) {
    const hpcm_json_value *value = hpcm_json_member(r->fields, name);
    if (!value) return;
    if (value->kind == HPCM_JSON_TRUE || value->kind == HPCM_JSON_FALSE) *made = value->kind == HPCM_JSON_TRUE;
    else refuse(r, "%s of the configuration must be true or false", name);
}

/* The number of a choice; `choices` ends with null. */
static void choice(reader *r, const char *name, const char *const *choices, int32_t *made) {
    const hpcm_json_value *value = hpcm_json_member(r->fields, name);
    if (!value) return;
    for (int32_t i = 0; choices[i]; i++)
        if (hpcm_json_is(value, choices[i])) {
            *made = i;
            return;
        }
    refuse(r, "%s of the configuration is none of its choices", name);
}

static void positive(reader *r, const char *name) {
    const hpcm_json_value *value = hpcm_json_member(r->fields, name);
    if (!value) return;
    int is_positive = 0;
    if (value->kind == HPCM_JSON_WHOLE) is_positive = value->whole > 0;
    if (value->kind == HPCM_JSON_REAL) is_positive = value->real > 0 && value->real <= DBL_MAX;
    if (!is_positive) refuse(r, "%s of the configuration must be positive and finite", name);
}

static void stages(reader *r, int transform, hpcm_config *made) {
    const hpcm_json_value *value = hpcm_json_member(r->fields, TRANSFORMS[transform]), *stage;
    int fits = value->kind == HPCM_JSON_ARRAY && value->items.count >= 1 && value->items.count <= HPCM_STAGES, i = 0;
    for (stage = fits ? value->items.first : 0; stage; stage = stage->next, i++) {
        const hpcm_json_value *blocks = 0;
        if (stage->kind == HPCM_JSON_ARRAY && stage->items.count == 2) blocks = stage->items.first;
        fits = fits && blocks && is_whole(blocks, 0, MAX_BLOCKS) && is_whole(blocks->next, 1, MAX_WIDTH);
        if (!fits) break;
        made->blocks[transform][i] = (int32_t)blocks->whole;
        made->widths[transform][i] = (int32_t)blocks->next->whole;
    }
    made->stages[transform] = i;
    if (!fits) refuse(r, "%s of the configuration must be 1 to 4 pairs of blocks and width", TRANSFORMS[transform]);
}

/* Whether the names of an object's members are all among these; `names` ends with null. */
static int are_among(const char *const *names, const hpcm_json_value *object) {
    for (const hpcm_json_value *member = object->items.first; member; member = member->next) {
        int i = 0;
        while (names[i] && (strlen(names[i]) != member->name.size || strcmp(names[i], member->name.bytes))) i++;
        if (!names[i]) return 0;
    }
    return 1;
}

/* 0 where it is null. */
static int prior(reader *r, const char *name, int32_t made[3]) {
    static const char *const names[] = {"before", "after", "tail", 0};
    const hpcm_json_value *value = hpcm_json_member(r->fields, name);
    if (value->kind == HPCM_JSON_NULL) return 0;
    int fits = value->kind == HPCM_JSON_OBJECT && are_among(names, value);
    for (int i = 0; fits && i < 3; i++) {
        const hpcm_json_value *count = hpcm_json_member(value, names[i]);
        fits = count ? is_whole(count, 0, MAX_BLOCKS) : i == 2; /* there may be no tail */
        made[i] = fits && count ? (int32_t)count->whole : 0;
    }
    if (!fits) refuse(r, "%s of the configuration must be counts of blocks up to %d", name, MAX_BLOCKS);
    return 1;
}

/* ---- the whole -------------------------------------------------------------------------------------------------------- */

static void check_names(reader *r) {
    static const char *const names[] = {
        /* These must be there: */
        "name", "M", "N", "stem", "analysis", "synthesis", "hyper_analysis", "hyper_synthesis", "partial", "ratio",
        "prior_width", "prior_coarse", "prior_fine",
        /* These have defaults: */
        "adaptor_blocks", "steps", "hierarchy", "fusion", "windows", "heads", "context_net", "refine", "hyper_placement",
        "likelihood", "carrier", "transforms", "interpolation", "levels", "lambda_min", "lambda_max", 0};
    enum { REQUIRED = 13 };
    if (r->fields->kind != HPCM_JSON_OBJECT) {
        refuse(r, "the configuration isn't made of names and values");
        return;
    }
    for (int i = 0; i < REQUIRED; i++)
        if (!hpcm_json_member(r->fields, names[i])) refuse(r, "the configuration has no %s", names[i]);
    if (!are_among(names, r->fields)) refuse(r, "the configuration has a field that isn't known");
}

/* What the library doesn't compute; the words are those of codec/engine.py. */
static void check_kind(reader *r) {
    static const char *const fusions[] = {"attention", "psi", "none", 0};
    static const char *const carriers[] = {"", "float32", "split", "float64", 0};
    static const char *const transforms[] = {"float", "int32", 0}, *const likelihoods[] = {"tails", "cdf", 0};
    int32_t fusion = 1, carrier = 0, exact = 0, likelihood = 0;
    choice(r, "fusion", fusions, &fusion);
    choice(r, "carrier", carriers, &carrier);
    choice(r, "transforms", transforms, &exact);
    choice(r, "likelihood", likelihoods, &likelihood);
    if (!carrier) refuse(r, "it needs PyTorch: it isn't exact (`hpcm exact` makes it so)");
    else if (fusion == 0) refuse(r, "it needs PyTorch: it has attention");
    else if (carrier != 1) refuse(r, "it needs PyTorch: its sums are of the kind %s", carriers[carrier]);
    else if (!exact) refuse(r, "it needs PyTorch: its transforms are in floating point (`hpcm exact` makes them integers)");
}

static void read_numbers(reader *r, hpcm_config *made) {
    int32_t heads, windows[3];
    whole(r, "M", 1, MAX_WIDTH, &made->M);
    whole(r, "N", 1, MAX_WIDTH, &made->N);
    whole(r, "partial", 1, MAX_WIDTH, &made->partial);
    whole(r, "ratio", 1, MAX_WIDTH, &made->ratio);
    whole(r, "prior_width", 1, MAX_WIDTH, &made->prior_width);
    whole(r, "heads", 1, MAX_WIDTH, &heads);
    whole(r, "levels", 1, MAX_LEVELS, &made->levels);
    three(r, "adaptor_blocks", 0, MAX_BLOCKS, made->adaptor_blocks);
    three(r, "steps", 1, MAX_STEPS, made->steps);
    three(r, "windows", 1, MAX_WINDOW, windows);
    positive(r, "lambda_min");
    positive(r, "lambda_max");
    for (int transform = 0; transform < 4; transform++) stages(r, transform, made);
    if (!prior(r, "prior_coarse", made->prior_coarse)) refuse(r, "prior_coarse of the configuration must not be null");
    made->has_prior_fine = prior(r, "prior_fine", made->prior_fine);
}

static void read_choices(reader *r, hpcm_config *made) {
    static const char *const stems[] = {"conv4", "conv2", "unshuffle8", 0}; /* as hpcm_stem has them */
    static const char *const fusions[] = {"none", "psi", 0};
    static const char *const placements[] = {"aligned", "released", 0}, *const interpolations[] = {"separate", "paired", 0};
    const hpcm_json_value *name = hpcm_json_member(r->fields, "name");
    if (name->kind != HPCM_JSON_TEXT || !hpcm_is_model_name(name->text.bytes, name->text.size))
        refuse(r, "name of the configuration isn't 1 to 32 of a-z 0-9 ._- with no ._- in front");
    choice(r, "stem", stems, &made->stem);
    choice(r, "fusion", fusions, &made->psi_is_context);
    choice(r, "hyper_placement", placements, &made->released_placement);
    choice(r, "interpolation", interpolations, &made->paired_gains);
    truth(r, "hierarchy", &made->hierarchy);
    truth(r, "context_net", &made->context_net);
    truth(r, "refine", &made->refine);
}

/* Tiles take bounded memory for each pixel. */
static void check_memory(reader *r, const hpcm_config *c) {
    static const int strides[3] = {2, 2, 8}; /* of stems */
    for (int transform = 0; transform < 4; transform++) {
        int is_analysis = transform % 2 == 0, count = c->stages[transform];
        int side = transform < 2 ? strides[c->stem] : LATENT_STRIDE; /* pixels for each place, at the finest stage */
        for (int i = 0; i < count; i++, side *= 2) {
            int stage = is_analysis ? i : count - 1 - i;
            int64_t channels = (int64_t)c->widths[transform][stage] * (c->blocks[transform][stage] ? c->ratio : 1);
            if (channels > (int64_t)MAX_PER_PIXEL * side * side)
                refuse(r, "%s of the configuration has more than %d numbers for each pixel", TRANSFORMS[transform],
                       MAX_PER_PIXEL);
        }
    }
}

hpcm_status hpcm_read_config(const hpcm_json_value *fields, hpcm_config *config, char *message) {
    reader r = {fields, message, HPCM_OK};
    *config = (hpcm_config){.steps = {2, 3, 6}, .hierarchy = 1, .psi_is_context = 1, .context_net = 1, .levels = 1};
    message[0] = 0;
    check_names(&r);
    if (r.status == HPCM_OK) check_kind(&r);
    if (r.status == HPCM_OK) read_choices(&r, config);
    if (r.status == HPCM_OK) read_numbers(&r, config);
    if (r.status == HPCM_OK) check_memory(&r, config);
    return r.status;
}
