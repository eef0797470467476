/* What a fuzz target takes its choices from: the fuzzer's bytes, from the first to the last, and then zeros. */
#ifndef HPCM_INPUT_H
#define HPCM_INPUT_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const uint8_t *bytes;
    size_t left;
} input;

static void take(input *in, void *to, size_t size) {
    size_t there = size < in->left ? size : in->left;
    memset(to, 0, size);
    if (there) memcpy(to, in->bytes, there);
    in->bytes += there;
    in->left -= there;
}

/* A number below `end`, which is at most 256. */
static int32_t choose(input *in, int32_t end) {
    uint8_t byte;
    take(in, &byte, 1);
    return byte % end;
}

/* Any number, small ones as often as others. */
static inline int32_t any_number(input *in) {
    int32_t number;
    if (choose(in, 2)) return choose(in, 256) - 128;
    take(in, &number, sizeof number);
    return number;
}

/* Memory of exactly this size, so that the address sanitizer sees what lies beyond. */
static void *exactly(size_t size) {
    void *made = malloc(size ? size : 1);
    if (!made) abort();
    return made;
}

/* Floats of any bits; when the input ends they go on with those that it gave, so that short ones fill whole latents. */
static inline float *take_floats(input *in, size_t count) {
    float *made = exactly(count * sizeof *made);
    size_t given = in->left / sizeof *made;
    if (given > count) given = count;
    take(in, made, given * sizeof *made);
    for (size_t i = given; i < count; i++) made[i] = given ? made[i % given] : 0;
    return made;
}

/* Ends the program, as an error of memory does, where a promise is broken. */
static void expect(int holds, const char *what) {
    if (holds) return;
    fprintf(stderr, "broken: %s\n", what);
    abort();
}

static inline int has_nan(const float *values, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (values[i] != values[i]) return 1;
    return 0;
}

#endif
