/* A safetensors file is the size of its header in 8 bytes, the header in JSON, and the tensors' bytes, one tensor after
 * another without gaps. src/hpcm/model/file.py says what the metadata are. */
#include "weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "container.h"
#include "json.h"
#include "message.h"

enum { SIZE_BYTES = 8, DIMENSIONS = 4 };
static const char FORMAT[] = "1";

typedef struct {
    const uint8_t *data; /* the tensors' bytes */
    size_t size;
    hpcm_json header;
    hpcm_config config;
    hpcm_array *arrays;
    void **copies; /* of tensors that don't lie as their type asks for; else null */
    size_t count;
    char *message;
} weights;

static hpcm_status refuse(const weights *w, const char *reason) {
    return hpcm_say(w->message, HPCM_BAD_MODEL, "%s", reason);
}

/* ---- metadata --------------------------------------------------------------------------------------------------------- */

static hpcm_status parse(const weights *w, const uint8_t *data, size_t size, hpcm_json *json, const char *reason) {
    hpcm_status status = hpcm_json_read(data, size, json);
    return status == HPCM_BAD_FORMAT ? refuse(w, reason) : status;
}

static hpcm_status read_header(weights *w, const uint8_t *data, size_t size) {
    uint64_t claimed = 0;
    if (size < SIZE_BYTES) return refuse(w, "it is no weights file");
    for (int i = 0; i < SIZE_BYTES; i++) claimed |= (uint64_t)data[i] << 8 * i;
    if (claimed > HPCM_JSON_BYTES || claimed > size - SIZE_BYTES) return refuse(w, "it is no weights file, or cut short");
    size_t header = (size_t)claimed;
    w->data = data + SIZE_BYTES + header;
    w->size = size - SIZE_BYTES - header;
    return parse(w, data + SIZE_BYTES, header, &w->header, "it is no weights file: its header isn't JSON");
}

/* JSON in a text of the metadata, which must hold names and values. */
static hpcm_status parse_member(const weights *w, const hpcm_json_value *metadata, const char *name, int is_needed,
                                hpcm_json *json) {
    char reason[HPCM_MESSAGE];
    const hpcm_json_value *text = hpcm_json_member(metadata, name);
    *json = (hpcm_json){0};
    if (!text && !is_needed) return HPCM_OK;
    snprintf(reason, sizeof reason, "its metadata have no %s", name);
    if (!text || text->kind != HPCM_JSON_TEXT) return refuse(w, reason);
    snprintf(reason, sizeof reason, "%s of its metadata isn't made of names and values", name);
    hpcm_status status = parse(w, (const uint8_t *)text->text.bytes, text->text.size, json, reason);
    if (status == HPCM_OK && json->root->kind != HPCM_JSON_OBJECT) {
        hpcm_json_free(json);
        status = refuse(w, reason);
    }
    return status;
}

/* What isn't needed to decode is looked at as well: other programs read it. */
static hpcm_status check_member(const weights *w, const hpcm_json_value *metadata, const char *name, int is_needed) {
    hpcm_json json;
    hpcm_status status = parse_member(w, metadata, name, is_needed, &json);
    if (status == HPCM_OK) hpcm_json_free(&json);
    return status;
}

static hpcm_status read_metadata(weights *w) {
    const hpcm_json_value *metadata = hpcm_json_member(w->header.root, "__metadata__");
    if (!metadata || metadata->kind != HPCM_JSON_OBJECT || !hpcm_json_is(hpcm_json_member(metadata, "hpcm"), FORMAT))
        return refuse(w, "it is no hpcm weights file of format 1");
    for (const hpcm_json_value *member = metadata->items.first; member; member = member->next)
        if (member->kind != HPCM_JSON_TEXT) return refuse(w, "its metadata aren't texts");
    const hpcm_json_value *name = hpcm_json_member(metadata, "name");
    if (name && name->text.size && !hpcm_is_model_name(name->text.bytes, name->text.size))
        return refuse(w, "its metadata have a name that no model can have");
    hpcm_status status = check_member(w, metadata, "provenance", 1);
    if (status == HPCM_OK) status = check_member(w, metadata, "layers", 0);
    if (status != HPCM_OK) return status;
    hpcm_json fields;
    status = parse_member(w, metadata, "config", 1, &fields);
    if (status != HPCM_OK) return status;
    status = hpcm_read_config(fields.root, &w->config, w->message);
    hpcm_json_free(&fields);
    return status;
}

/* ---- tensors ---------------------------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    size_t bytes;
} TYPES[] = {{"I8", 1}, {"I16", 2}, {"I32", 4}, {"F16", 2}, {"F32", 4}}; /* as hpcm_type has them */
enum { TYPE_COUNT = sizeof TYPES / sizeof *TYPES };

static hpcm_status read_type(const weights *w, const hpcm_json_value *type, hpcm_array *array) {
    array->type = 0;
    while (array->type < TYPE_COUNT && !hpcm_json_is(type, TYPES[array->type].name)) array->type++;
    return array->type < TYPE_COUNT ? HPCM_OK : refuse(w, "a tensor has a type that isn't known");
}

/* Numbers that a tensor has fit memory, as its bytes are there; `bytes` gets how many. */
static hpcm_status read_shape(const weights *w, const hpcm_json_value *shape, hpcm_array *array, uint64_t *bytes) {
    if (!shape || shape->kind != HPCM_JSON_ARRAY || shape->items.count > DIMENSIONS)
        return refuse(w, "a tensor has no shape, or more than 4 dimensions");
    *bytes = TYPES[array->type].bytes;
    array->dimensions = 0;
    for (const hpcm_json_value *side = shape->items.first; side; side = side->next) {
        if (side->kind != HPCM_JSON_WHOLE || side->whole < 0) return refuse(w, "a tensor has a shape that isn't known");
        if (side->whole && *bytes > w->size / (uint64_t)side->whole) return refuse(w, "a tensor is larger than the file");
        *bytes *= (uint64_t)side->whole;
        array->shape[array->dimensions++] = side->whole;
    }
    return HPCM_OK;
}

static hpcm_status read_place(const weights *w, const hpcm_json_value *offsets, uint64_t bytes, hpcm_array *array) {
    int fits = offsets && offsets->kind == HPCM_JSON_ARRAY && offsets->items.count == 2;
    const hpcm_json_value *begin = fits ? offsets->items.first : 0, *end = fits ? begin->next : 0;
    fits = fits && begin->kind == HPCM_JSON_WHOLE && end->kind == HPCM_JSON_WHOLE && begin->whole >= 0 &&
           begin->whole <= end->whole && (uint64_t)end->whole <= w->size && (uint64_t)(end->whole - begin->whole) == bytes;
    if (!fits) return refuse(w, "a tensor lies outside of the file, or has another size than its shape");
    array->data = w->data + begin->whole;
    return HPCM_OK;
}

/* As their bytes lie. Those without any come first where they meet others, whose order then is right as well. */
static int compare(const void *left, const void *right) {
    const hpcm_array *const a = left, *const b = right;
    const uint8_t *a_data = a->data, *b_data = b->data;
    if (a_data != b_data) return a_data < b_data ? -1 : 1;
    int a_empty = 0, b_empty = 0;
    for (int i = 0; i < a->dimensions; i++) a_empty |= !a->shape[i];
    for (int i = 0; i < b->dimensions; i++) b_empty |= !b->shape[i];
    return b_empty - a_empty;
}

static uint64_t bytes_of(const hpcm_array *array) {
    uint64_t bytes = TYPES[array->type].bytes;
    for (int i = 0; i < array->dimensions; i++) bytes *= (uint64_t)array->shape[i];
    return bytes;
}

/* Every byte belongs to one tensor. */
static hpcm_status check_places(weights *w) {
    const uint8_t *next = w->data;
    qsort(w->arrays, w->count, sizeof *w->arrays, compare);
    for (size_t i = 0; i < w->count; i++) {
        if (w->arrays[i].data != next) return refuse(w, "its tensors overlap, or there is something between them");
        next += bytes_of(&w->arrays[i]);
    }
    return next == w->data + w->size ? HPCM_OK : refuse(w, "there is something behind its tensors");
}

static hpcm_status align(weights *w, size_t index) {
    hpcm_array *array = &w->arrays[index];
    size_t bytes = (size_t)bytes_of(array);
    if ((uintptr_t)array->data % TYPES[array->type].bytes == 0) return HPCM_OK;
    w->copies[index] = malloc(bytes + 1);
    if (!w->copies[index]) return HPCM_NO_MEMORY;
    memcpy(w->copies[index], array->data, bytes);
    array->data = w->copies[index];
    return HPCM_OK;
}

static hpcm_status read_tensors(weights *w) {
    const hpcm_json_value *root = w->header.root;
    w->arrays = calloc(root->items.count, sizeof *w->arrays);
    w->copies = calloc(root->items.count, sizeof *w->copies);
    if (!w->arrays || !w->copies) return HPCM_NO_MEMORY;
    hpcm_status status = HPCM_OK;
    for (const hpcm_json_value *tensor = root->items.first; tensor && status == HPCM_OK; tensor = tensor->next) {
        hpcm_array *array = &w->arrays[w->count];
        uint64_t bytes = 0;
        if (!strcmp(tensor->name.bytes, "__metadata__")) continue;
        if (strlen(tensor->name.bytes) != tensor->name.size) return refuse(w, "a tensor's name has a zero in it");
        array->name = tensor->name.bytes;
        status = read_type(w, hpcm_json_member(tensor, "dtype"), array);
        if (status == HPCM_OK) status = read_shape(w, hpcm_json_member(tensor, "shape"), array, &bytes);
        if (status == HPCM_OK) status = read_place(w, hpcm_json_member(tensor, "data_offsets"), bytes, array);
        w->count++;
    }
    if (status == HPCM_OK) status = check_places(w);
    for (size_t i = 0; i < w->count && status == HPCM_OK; i++) status = align(w, i);
    return status;
}

/* ---- the whole -------------------------------------------------------------------------------------------------------- */

hpcm_status hpcm_load_weights(const uint8_t *data, size_t size, int32_t threads, hpcm_model **model, char *message) {
    weights w = {.message = message};
    *model = 0;
    message[0] = 0;
    hpcm_status status = read_header(&w, data, size);
    if (status == HPCM_OK) status = read_metadata(&w);
    if (status == HPCM_OK) status = read_tensors(&w);
    if (status == HPCM_OK) status = hpcm_model_create(&w.config, w.arrays, w.count, threads, 0, model, message);
    for (size_t i = 0; i < w.count; i++) free(w.copies[i]);
    free(w.copies);
    free(w.arrays);
    hpcm_json_free(&w.header);
    return status;
}
