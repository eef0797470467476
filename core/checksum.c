/* CRC-32 as zlib computes it, four bytes at a time (Kounavis and Berry, "Novel Table Lookup-Based Algorithms for
 * High-Performance CRC Generation", 2008). */
#include "checksum.h"

#include "hpcm.h"
#include "threading.h"

enum { ROWS = 4, BYTE_VALUES = 256 };

static uint32_t rows[ROWS][BYTE_VALUES]; /* what a byte contributes, `row` bytes before the last */
static hpcm_once once = HPCM_ONCE_INIT;

static void make_rows(void) {
    const uint32_t polynomial = 0xEDB88320;
    for (uint32_t byte = 0; byte < BYTE_VALUES; byte++) {
        uint32_t value = byte;
        for (int bit = 0; bit < 8; bit++) value = value >> 1 ^ (value & 1 ? polynomial : 0);
        rows[0][byte] = value;
    }
    for (int row = 1; row < ROWS; row++)
        for (int byte = 0; byte < BYTE_VALUES; byte++) {
            uint32_t before = rows[row - 1][byte];
            rows[row][byte] = before >> 8 ^ rows[0][before & 0xFF];
        }
}

static uint32_t add_word(uint32_t crc, uint32_t word) {
    word ^= crc;
    return rows[3][word & 0xFF] ^ rows[2][word >> 8 & 0xFF] ^ rows[1][word >> 16 & 0xFF] ^ rows[0][word >> 24];
}

uint32_t hpcm_checksum(const int32_t *symbols, size_t count, uint32_t start) {
    uint32_t crc = ~start;
    hpcm_call_once(&once, make_rows);
    for (size_t i = 0; i < count; i++) crc = add_word(crc, (uint32_t)symbols[i]);
    return ~crc;
}

uint32_t hpcm_crc32(const uint8_t *bytes, size_t size, uint32_t start) {
    uint32_t crc = ~start;
    size_t i = 0;
    hpcm_call_once(&once, make_rows);
    for (; i + ROWS <= size; i += ROWS) {
        uint32_t upper = (uint32_t)bytes[i + 2] << 16 | (uint32_t)bytes[i + 3] << 24;
        crc = add_word(crc, bytes[i] | (uint32_t)bytes[i + 1] << 8 | upper);
    }
    for (; i < size; i++) crc = crc >> 8 ^ rows[0][(crc ^ bytes[i]) & 0xFF];
    return ~crc;
}
