/* JSON (RFC 8259) as a tree. */
#ifndef HPCM_JSON_H
#define HPCM_JSON_H

#include <stddef.h>
#include <stdint.h>

#include "../status.h"

typedef enum {
    HPCM_JSON_NULL,
    HPCM_JSON_FALSE,
    HPCM_JSON_TRUE,
    HPCM_JSON_WHOLE, /* a number without a fraction and exponent that an int64 holds */
    HPCM_JSON_REAL,  /* any other */
    HPCM_JSON_TEXT,
    HPCM_JSON_ARRAY,
    HPCM_JSON_OBJECT
} hpcm_json_kind;

/* UTF-8 with a zero at its end; there may be others inside. */
typedef struct {
    const char *bytes;
    size_t size;
} hpcm_json_text;

typedef struct hpcm_json_value {
    hpcm_json_kind kind;
    union {
        int64_t whole;
        double real; /* to about 15 digits, and up to 10^308 */
        hpcm_json_text text;
        struct {
            struct hpcm_json_value *first; /* null if there are none */
            size_t count;
        } items; /* of an array or object */
    };
    hpcm_json_text name; /* of an object's member */
    struct hpcm_json_value *next; /* of the same array or object, in the order of the text */
} hpcm_json_value;

typedef struct {
    hpcm_json_value *root; /* the first of all values, in one block of memory */
    char *texts;
} hpcm_json;

enum { HPCM_JSON_BYTES = 1 << 24 }; /* that are read, at most */

/* HPCM_BAD_FORMAT where the bytes are too many, aren't JSON in UTF-8, nest more than 64 deep, or have half of a surrogate pair.
 * Takes time and memory in proportion to the size. hpcm_json_free frees what HPCM_OK gives. */
hpcm_status hpcm_json_read(const uint8_t *data, size_t size, hpcm_json *json);
void hpcm_json_free(hpcm_json *json);

/* A member of an object, of several with this name the last; null where there is none, or it is no object. */
const hpcm_json_value *hpcm_json_member(const hpcm_json_value *object, const char *name);
/* Whether a value is this text. */
int hpcm_json_is(const hpcm_json_value *value, const char *text);

#endif
