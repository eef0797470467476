/* Weights files: safetensors whose metadata describe a model (docs/format.md). */
#ifndef HPCM_WEIGHTS_H
#define HPCM_WEIGHTS_H

#include "../hpcm.h"

/* The model of a weights file's bytes, which aren't needed afterwards; hpcm_model_free frees it.
 * message: HPCM_MESSAGE bytes that get the reason of HPCM_BAD_MODEL. */
hpcm_status hpcm_load_weights(const uint8_t *data, size_t size, int32_t threads, hpcm_model **model, char *message);

#endif
