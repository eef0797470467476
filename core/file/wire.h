/* Reading the fields of a file without trust, as format/wire.py does. */
#ifndef HPCM_WIRE_H
#define HPCM_WIRE_H

#include <stddef.h>
#include <stdint.h>

#include "../status.h"

/* A place in a file's bytes. Once a status isn't HPCM_OK it stays, and nothing more is read: every function then gives 0. */
typedef struct {
    const uint8_t *bytes;
    size_t size, at;
    hpcm_status status;
    uint64_t required; /* bytes from the beginning, where the status is HPCM_TRUNCATED */
    char *message;     /* of HPCM_MESSAGE bytes */
} hpcm_wire;

/* Sets a status and its message, as printf does. Gives 0. */
int hpcm_refuse(hpcm_wire *wire, hpcm_status status, const char *format, ...)
#ifdef __GNUC__
    __attribute__((format(printf, 3, 4)))
#endif
    ;

/* Are there so many more bytes? */
int hpcm_require(hpcm_wire *wire, uint64_t size, const char *what);
/* The next bytes; null if they aren't there. */
const uint8_t *hpcm_take_bytes(hpcm_wire *wire, uint64_t size, const char *what);
uint8_t hpcm_take_byte(hpcm_wire *wire, const char *what);
/* LEB128 in the fewest bytes, at most 5. */
uint64_t hpcm_take_varint(hpcm_wire *wire, const char *what);
/* Little-endian; `size` is 2 or 4. */
uint32_t hpcm_take_number(hpcm_wire *wire, int size, const char *what);
int hpcm_check_range(hpcm_wire *wire, const char *what, uint64_t value, uint64_t low, uint64_t high);

#endif
