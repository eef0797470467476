/* Models from a record of calls, as tests/recorder.py describes it: those that it begins with. */
#ifndef HPCM_RECORDED_H
#define HPCM_RECORDED_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../hpcm.h"

enum { RECORDED_MOST = 4096, RECORDED_FIELDS = sizeof(hpcm_config) / sizeof(int32_t) };

typedef struct {
    FILE *file;
    void *data[RECORDED_MOST]; /* data[0] is none */
    int64_t count;
} record;

static void recorded_fail(const char *why) {
    fprintf(stderr, "the record of models: %s\n", why);
    exit(2);
}

static void recorded_bytes(record *r, void *to, size_t size) {
    if (fread(to, 1, size, r->file) != size) recorded_fail("it ends too early, or can't be read");
}

/* A number from `low` to `high`. */
static int64_t recorded_number(record *r, int64_t low, int64_t high) {
    unsigned char bytes[8];
    uint64_t value = 0;
    recorded_bytes(r, bytes, sizeof bytes);
    for (int i = 7; i >= 0; i--) value = value << 8 | bytes[i];
    if ((int64_t)value < low || (int64_t)value > high) recorded_fail("it is none, or of another version");
    return (int64_t)value;
}

static void *recorded_data(record *r) {
    return r->data[recorded_number(r, 0, r->count - 1)];
}

/* Data up to the next call. 0 at the end of the file. */
static int recorded_call(record *r) {
    for (;;) {
        int next = getc(r->file);
        if (next == EOF) return 0;
        ungetc(next, r->file);
        int64_t kind = recorded_number(r, 0, 1 << 16);
        if (kind) return kind == 1;
        int64_t size = recorded_number(r, 0, INT32_MAX);
        void *data = malloc((size_t)size + 1);
        if (!data || r->count == RECORDED_MOST) recorded_fail("there is no room");
        recorded_bytes(r, data, (size_t)size);
        r->data[r->count++] = data;
    }
}

static hpcm_model *recorded_model(record *r, const char *kernels, hpcm_config *config) {
    hpcm_array *arrays;
    hpcm_model *model;
    char message[HPCM_MESSAGE];
    recorded_number(r, RECORDED_FIELDS, RECORDED_FIELDS);
    for (int i = 0; i < RECORDED_FIELDS; i++) ((int32_t *)config)[i] = (int32_t)recorded_number(r, INT32_MIN, INT32_MAX);
    recorded_number(r, 1, INT32_MAX); /* threads */
    int64_t count = recorded_number(r, 0, RECORDED_MOST);
    arrays = calloc((size_t)count + 1, sizeof *arrays);
    if (!arrays) recorded_fail("there is no memory");
    for (hpcm_array *array = arrays; array < arrays + count; array++) {
        array->name = recorded_data(r);
        array->type = (int32_t)recorded_number(r, HPCM_INT8, HPCM_FLOAT32);
        array->dimensions = (int32_t)recorded_number(r, 0, 4);
        for (int d = 0; d < 4; d++) array->shape[d] = recorded_number(r, INT64_MIN, INT64_MAX);
        array->data = recorded_data(r);
    }
    recorded_number(r, HPCM_OK, HPCM_OK);
    recorded_number(r, 0, 0); /* no message */
    hpcm_status status = hpcm_model_create(config, arrays, (size_t)count, 1, kernels, &model, message);
    free(arrays);
    if (status != HPCM_OK) recorded_fail(message);
    return model;
}

/* Up to `most` models, of one thread each, and their configurations: how many. The program ends if the file is no record.
 * kernels: as for hpcm_model_create. */
static int recorded_models(const char *path, int most, const char *kernels, hpcm_model **models, hpcm_config *configs) {
    char magic[8];
    int count = 0;
    record *r = calloc(1, sizeof *r);
    if (!r || !(r->file = fopen(path, "rb"))) recorded_fail("it can't be opened");
    recorded_bytes(r, magic, sizeof magic);
    if (memcmp(magic, "HPCMCALL", sizeof magic)) recorded_fail("it is none");
    recorded_number(r, 1, 1); /* version */
    for (r->count = 1; count < most && recorded_call(r); count++) models[count] = recorded_model(r, kernels, &configs[count]);
    for (int64_t i = 0; i < r->count; i++) free(r->data[i]);
    fclose(r->file);
    free(r);
    return count;
}

#endif
