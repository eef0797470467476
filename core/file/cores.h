/* How many processors this process may use. */
#ifndef HPCM_CORES_H
#define HPCM_CORES_H

#include <stdint.h>

int32_t hpcm_cores(void);

#endif
