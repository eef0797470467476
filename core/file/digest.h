/* SHA-256 (FIPS 180-4). */
#ifndef HPCM_DIGEST_H
#define HPCM_DIGEST_H

#include <stddef.h>
#include <stdint.h>

void hpcm_sha256(const uint8_t *data, size_t size, uint8_t digest[32]);

#endif
