/* What a weights file says of the network: the fields of Config (src/hpcm/model/config.py). */
#ifndef HPCM_CONFIG_H
#define HPCM_CONFIG_H

#include "../hpcm.h"
#include "json.h"

/* HPCM_BAD_MODEL where a field is missing, unknown, of another type or out of its bounds, and where the library can't
 * compute such a network: the message of HPCM_MESSAGE bytes says which and why. hpcm_model_create checks what remains:
 * how fields fit together. */
hpcm_status hpcm_read_config(const hpcm_json_value *fields, hpcm_config *config, char *message);

#endif
