/* Weights files, found and made into models. */
#ifndef HPCM_FIND_H
#define HPCM_FIND_H

#include "../hpcm.h"

enum { HPCM_HASH_BYTES = 8 };

/* The model that a .hpcm file names. It is shared, and may be used by several threads: give it back by hpcm_put_model.
 *
 * where: a folder or a weights file, or null; see decode.h for where else is looked.
 * threads: that compute, 1 or more.
 * message: HPCM_MESSAGE bytes, that get the reason of HPCM_NO_MODEL (with the places) and HPCM_BAD_MODEL. */
hpcm_status hpcm_find_model(const char *name, const uint8_t hash[HPCM_HASH_BYTES], const char *where, int32_t threads,
                            hpcm_model **model, char *message);
void hpcm_put_model(hpcm_model *model);

#endif
