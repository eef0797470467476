/* The weights of a tiny model, for the fuzzers of what reads files: tests/golden/tiny.safetensors, from the folder that the
 * environment's HPCM_FUZZ_WEIGHTS names, or from the root of the checkout. */
#ifndef HPCM_TINY_H
#define HPCM_TINY_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "../file/weights.h"

enum { TINY_MOST_BYTES = 1 << 18 };

static uint8_t tiny[TINY_MOST_BYTES];
static size_t tiny_size;

static const char *tiny_folder(void) {
    const char *folder = getenv("HPCM_FUZZ_WEIGHTS");
    return folder ? folder : "tests/golden";
}

/* Reads them, and makes a model once: kernels are checked with the first one, by checksums (blind.h). */
static void read_tiny(void) {
    char path[1024], message[HPCM_MESSAGE] = "it can't be read";
    hpcm_model *model = 0;
    snprintf(path, sizeof path, "%s/tiny.safetensors", tiny_folder());
    FILE *file = fopen(path, "rb");
    if (file) {
        tiny_size = fread(tiny, 1, sizeof tiny, file);
        fclose(file);
    }
    if (file && hpcm_load_weights(tiny, tiny_size, 1, &model, message) == HPCM_OK) {
        hpcm_model_free(model);
        return;
    }
    fprintf(stderr, "%s: %s\n", path, message);
    abort();
}

#endif
