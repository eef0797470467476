/* The PNG of an alpha plane. */
#ifndef HPCM_PNG_H
#define HPCM_PNG_H

#include "../status.h"

#include <stddef.h>
#include <stdint.h>

/* Decodes a PNG of grey samples, of 8 bits if `bit_depth` is 8, else of 16, none of them above 2^bit_depth - 1.
 *
 * plane: [rows][columns] of uint8_t or, for more than 8 bits, uint16_t.
 * HPCM_CORRUPT for anything else, and for a PNG of another size; the message of HPCM_MESSAGE bytes gets the reason.
 * Memory is taken in proportion to a row. */
hpcm_status hpcm_read_png(const uint8_t *data, size_t size, int32_t columns, int32_t rows, int32_t bit_depth, void *plane,
                          char *message);

#endif
