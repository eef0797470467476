#include "wire.h"

#include <stdarg.h>
#include <stdio.h>

int hpcm_refuse(hpcm_wire *wire, hpcm_status status, const char *format, ...) {
    va_list values;
    if (wire->status != HPCM_OK) return 0; /* the first reason counts */
    wire->status = status;
    va_start(values, format);
    vsnprintf(wire->message, HPCM_MESSAGE, format, values);
    va_end(values);
    return 0;
}

int hpcm_require(hpcm_wire *wire, uint64_t size, const char *what) {
    size_t left = wire->size - wire->at;
    if (wire->status != HPCM_OK) return 0;
    if (size <= left) return 1;
    wire->required = wire->at + size;
    return hpcm_refuse(wire, HPCM_TRUNCATED, "cut short or damaged: %llu bytes of %s expected, %zu left; fetch it again",
                       (unsigned long long)size, what, left);
}

const uint8_t *hpcm_take_bytes(hpcm_wire *wire, uint64_t size, const char *what) {
    const uint8_t *taken = wire->bytes + wire->at;
    if (!hpcm_require(wire, size, what)) return 0;
    wire->at += (size_t)size;
    return taken;
}

uint8_t hpcm_take_byte(hpcm_wire *wire, const char *what) {
    const uint8_t *taken = hpcm_take_bytes(wire, 1, what);
    return taken ? *taken : 0;
}

uint64_t hpcm_take_varint(hpcm_wire *wire, const char *what) {
    enum { MOST_BYTES = 5 };
    uint64_t value = 0;
    for (int i = 0; i < MOST_BYTES; i++) {
        uint8_t byte = hpcm_take_byte(wire, what);
        if (wire->status != HPCM_OK) return 0;
        value |= (uint64_t)(byte & 0x7F) << 7 * i;
        if (byte == 0 && i > 0) break;
        if (byte < 0x80) return value;
    }
    hpcm_refuse(wire, HPCM_BAD_FORMAT, "%s takes more bytes than a varint of its value; the file is damaged", what);
    return 0;
}

uint32_t hpcm_take_number(hpcm_wire *wire, int size, const char *what) {
    const uint8_t *taken = hpcm_take_bytes(wire, (uint64_t)size, what);
    uint32_t number = 0;
    for (int i = 0; taken && i < size; i++) number |= (uint32_t)taken[i] << 8 * i;
    return number;
}

int hpcm_check_range(hpcm_wire *wire, const char *what, uint64_t value, uint64_t low, uint64_t high) {
    if (wire->status != HPCM_OK) return 0;
    if (value >= low && value <= high) return 1;
    return hpcm_refuse(wire, HPCM_BAD_FORMAT, "%s is %llu; a .hpcm file allows %llu to %llu", what,
                       (unsigned long long)value, (unsigned long long)low, (unsigned long long)high);
}
