/* CRC-32, that of zlib and PNG. */
#ifndef HPCM_CHECKSUM_H
#define HPCM_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

/* Of bytes; `start` is the CRC-32 of those before, or 0. */
uint32_t hpcm_crc32(const uint8_t *bytes, size_t size, uint32_t start);

#endif
