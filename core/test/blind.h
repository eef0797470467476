/* Checksums that say nothing: core/build.py has the linker lead those of a fuzzer and of the library here. A fuzzer's
 * changes would break them, and what they guard would never be reached; where all of them are 0, none is broken. */
#ifndef HPCM_BLIND_H
#define HPCM_BLIND_H

#include <stddef.h>
#include <stdint.h>

static int is_blind; /* 1: every checksum is 0 */

uint32_t __real_hpcm_crc32(const uint8_t *bytes, size_t size, uint32_t start);
uint32_t __real_hpcm_checksum(const int32_t *symbols, size_t count, uint32_t start);
uint32_t __wrap_hpcm_crc32(const uint8_t *bytes, size_t size, uint32_t start);
uint32_t __wrap_hpcm_checksum(const int32_t *symbols, size_t count, uint32_t start);

/* It is computed all the same: the sanitizer sees what is read. */
uint32_t __wrap_hpcm_crc32(const uint8_t *bytes, size_t size, uint32_t start) {
    uint32_t crc = __real_hpcm_crc32(bytes, size, start);
    return is_blind ? 0 : crc;
}

uint32_t __wrap_hpcm_checksum(const int32_t *symbols, size_t count, uint32_t start) {
    uint32_t crc = __real_hpcm_checksum(symbols, count, start);
    return is_blind ? 0 : crc;
}

#endif
