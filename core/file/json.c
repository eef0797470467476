#include "json.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_DEPTH = 64 };

typedef struct {
    const uint8_t *at, *end;
    hpcm_json_value *next; /* the first value that isn't used */
    char *texts;           /* where the next text goes */
} parser;

static int parse_value(parser *p, int depth, hpcm_json_value **made);

static void skip_space(parser *p) {
    while (p->at < p->end && (*p->at == ' ' || *p->at == '\t' || *p->at == '\n' || *p->at == '\r')) p->at++;
}

/* Whether this byte comes next, which is passed then. */
static int pass(parser *p, char byte) {
    if (p->at == p->end || *p->at != (uint8_t)byte) return 0;
    p->at++;
    return 1;
}

/* ---- texts ------------------------------------------------------------------------------------------------------------ */

/* Four hexadecimal digits; -1 for anything else. */
static int32_t parse_unit(parser *p) {
    int32_t unit = 0;
    if (p->end - p->at < 4) return -1;
    for (int i = 0; i < 4; i++) {
        int byte = *p->at++;
        int digit = byte >= '0' && byte <= '9' ? byte - '0' : byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
        if (byte >= 'A' && byte <= 'F') digit = byte - 'A' + 10;
        if (digit < 0) return -1;
        unit = unit << 4 | digit;
    }
    return unit;
}

static int is_between(int32_t value, int32_t low, int32_t high) {
    return low <= value && value <= high;
}

static void put_code_point(parser *p, int32_t point) {
    if (point < 0x80) {
        *p->texts++ = (char)point;
        return;
    }
    int following = point < 0x800 ? 1 : point < 0x10000 ? 2 : 3; /* bytes of 6 bits each */
    const int32_t marks[4] = {0, 0xC0, 0xE0, 0xF0};
    *p->texts++ = (char)(marks[following] | point >> 6 * following);
    while (following--) *p->texts++ = (char)(0x80 | (point >> 6 * following & 0x3F));
}

/* Behind \u: a unit of UTF-16, or a pair of them. */
static int parse_code_point(parser *p) {
    int32_t unit = parse_unit(p);
    if (unit < 0 || is_between(unit, 0xDC00, 0xDFFF)) return 0;
    if (is_between(unit, 0xD800, 0xDBFF)) {
        if (!pass(p, '\\') || !pass(p, 'u')) return 0;
        int32_t low = parse_unit(p);
        if (!is_between(low, 0xDC00, 0xDFFF)) return 0;
        unit = 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
    }
    put_code_point(p, unit);
    return 1;
}

/* Behind a backslash. */
static int parse_escape(parser *p) {
    static const char written[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    if (p->at == p->end) return 0;
    if (pass(p, 'u')) return parse_code_point(p);
    const char *found = *p->at ? strchr(written, *p->at) : 0;
    if (!found) return 0;
    *p->texts++ = meant[found - written];
    p->at++;
    return 1;
}

/* A character of more than one byte, in its shortest form, and no half of a surrogate pair. */
static int parse_long_character(parser *p) {
    int first = *p->at;
    int following = first >= 0xF0 ? 3 : first >= 0xE0 ? 2 : 1;
    const int32_t smallest[4] = {0, 0x80, 0x800, 0x10000};
    if (first < 0xC2 || first > 0xF4 || p->end - p->at <= following) return 0;
    int32_t point = first & (0x3F >> following);
    for (int i = 1; i <= following; i++) {
        if ((p->at[i] & 0xC0) != 0x80) return 0;
        point = point << 6 | (p->at[i] & 0x3F);
    }
    if (!is_between(point, smallest[following], 0x10FFFF) || is_between(point, 0xD800, 0xDFFF)) return 0;
    memcpy(p->texts, p->at, (size_t)following + 1);
    p->texts += following + 1;
    p->at += following + 1;
    return 1;
}

static int parse_text(parser *p, hpcm_json_text *made) {
    made->bytes = p->texts;
    if (!pass(p, '"')) return 0;
    while (p->at < p->end && *p->at != '"') {
        if (*p->at < ' ') return 0;
        if (pass(p, '\\')) {
            if (!parse_escape(p)) return 0;
        } else if (*p->at >= 0x80) {
            if (!parse_long_character(p)) return 0;
        } else {
            *p->texts++ = (char)*p->at++;
        }
    }
    made->size = (size_t)(p->texts - made->bytes);
    *p->texts++ = 0;
    return pass(p, '"');
}

/* ---- numbers ---------------------------------------------------------------------------------------------------------- */

/* x * 10^power. Not by strtod, whose decimal point the program's locale chooses. */
static double scaled(double x, int32_t power) {
    double factor = 10;
    int32_t left = power < 0 ? -power : power;
    for (; left && x != 0; left /= 2, factor *= factor)
        if (left % 2) x = power < 0 ? x / factor : x * factor;
    return x;
}

typedef struct {
    size_t count;     /* of digits */
    double first;     /* of them, as many as a double holds */
    int32_t left_out; /* those that follow */
    uint64_t whole;   /* all, where it `fits` */
    int fits;
} decimal;

static void parse_digits(parser *p, decimal *d) {
    const double enough = 1e17;
    for (; p->at < p->end && is_between(*p->at, '0', '9'); p->at++, d->count++) {
        unsigned digit = (unsigned)(*p->at - '0');
        d->fits = d->fits && d->whole <= (UINT64_MAX - digit) / 10;
        d->whole = d->fits ? d->whole * 10 + digit : 0;
        if (d->first < enough) d->first = d->first * 10 + digit;
        else d->left_out++;
    }
}

/* Bounded far beyond what a double holds. */
static int32_t parse_exponent(parser *p) {
    enum { MOST = 100000 };
    int32_t exponent = 0;
    int is_negative = pass(p, '-');
    if (!is_negative) pass(p, '+');
    if (p->at == p->end || !is_between(*p->at, '0', '9')) return INT32_MAX;
    for (; p->at < p->end && is_between(*p->at, '0', '9'); p->at++)
        if (exponent < MOST) exponent = exponent * 10 + (*p->at - '0');
    return is_negative ? -exponent : exponent;
}

static int parse_number(parser *p, hpcm_json_value *value) {
    decimal d = {.fits = 1};
    int is_negative = pass(p, '-'), is_whole = 1;
    int32_t exponent = 0;
    const uint8_t *begin = p->at;
    parse_digits(p, &d);
    if (!d.count || (d.count > 1 && *begin == '0')) return 0;
    if (pass(p, '.')) {
        size_t before = d.count;
        parse_digits(p, &d);
        if (d.count == before) return 0;
        exponent = (int32_t)(before - d.count);
        is_whole = 0;
    }
    if (pass(p, 'e') || pass(p, 'E')) {
        int32_t written = parse_exponent(p);
        if (written == INT32_MAX) return 0;
        exponent += written;
        is_whole = 0;
    }
    value->kind = is_whole && d.fits && d.whole <= INT64_MAX ? HPCM_JSON_WHOLE : HPCM_JSON_REAL;
    if (value->kind == HPCM_JSON_WHOLE) value->whole = is_negative ? -(int64_t)d.whole : (int64_t)d.whole;
    else value->real = scaled(is_negative ? -d.first : d.first, exponent + d.left_out);
    return 1;
}

/* ---- values ----------------------------------------------------------------------------------------------------------- */

static int parse_word(parser *p, const char *word) {
    size_t size = strlen(word);
    if ((size_t)(p->end - p->at) < size || memcmp(p->at, word, size)) return 0;
    p->at += size;
    return 1;
}

/* Behind the opening bracket. `depth`: of brackets, this one counted. */
static int parse_items(parser *p, int depth, hpcm_json_value *value) {
    if (depth > MOST_DEPTH) return 0;
    int is_object = value->kind == HPCM_JSON_OBJECT;
    char closing = is_object ? '}' : ']';
    hpcm_json_value **link = &value->items.first;
    skip_space(p);
    if (pass(p, closing)) return 1;
    do {
        hpcm_json_text name = {"", 0};
        skip_space(p);
        if (is_object) {
            if (!parse_text(p, &name)) return 0;
            skip_space(p);
            if (!pass(p, ':')) return 0;
        }
        if (!parse_value(p, depth, link)) return 0;
        (*link)->name = name;
        link = &(*link)->next;
        value->items.count++;
        skip_space(p);
    } while (pass(p, ','));
    return pass(p, closing);
}

static int parse_value(parser *p, int depth, hpcm_json_value **made) {
    hpcm_json_value *value = p->next++;
    *made = value;
    memset(value, 0, sizeof *value);
    skip_space(p);
    if (p->at == p->end) return 0;
    switch (*p->at) {
    case '{':
    case '[':
        value->kind = *p->at++ == '{' ? HPCM_JSON_OBJECT : HPCM_JSON_ARRAY;
        return parse_items(p, depth + 1, value);
    case '"':
        value->kind = HPCM_JSON_TEXT;
        return parse_text(p, &value->text);
    case 't': value->kind = HPCM_JSON_TRUE; return parse_word(p, "true");
    case 'f': value->kind = HPCM_JSON_FALSE; return parse_word(p, "false");
    case 'n': return parse_word(p, "null");
    default: return parse_number(p, value);
    }
}

/* Every value but the first follows a bracket or a comma. */
static size_t most_values(const uint8_t *data, size_t size) {
    size_t count = 1;
    for (size_t i = 0; i < size; i++) count += data[i] == ',' || data[i] == '[' || data[i] == '{';
    return count;
}

hpcm_status hpcm_json_read(const uint8_t *data, size_t size, hpcm_json *json) {
    *json = (hpcm_json){0};
    if (size > HPCM_JSON_BYTES) return HPCM_BAD_FORMAT;
    size_t values = most_values(data, size);
    json->root = malloc(values * sizeof *json->root);
    json->texts = malloc(size + 1); /* a text is shorter than what is written: it has no quotes, but a zero */
    if (!json->root || !json->texts) {
        hpcm_json_free(json);
        return HPCM_NO_MEMORY;
    }
    parser p = {data, data + size, json->root, json->texts};
    int is_right = parse_value(&p, 0, &json->root);
    skip_space(&p);
    if (is_right && p.at == p.end) return HPCM_OK;
    hpcm_json_free(json);
    return HPCM_BAD_FORMAT;
}

void hpcm_json_free(hpcm_json *json) {
    free(json->root);
    free(json->texts);
    *json = (hpcm_json){0};
}

static int is_text(const hpcm_json_text *text, const char *expected) {
    return text->size == strlen(expected) && !memcmp(text->bytes, expected, text->size);
}

const hpcm_json_value *hpcm_json_member(const hpcm_json_value *object, const char *name) {
    const hpcm_json_value *found = 0;
    if (object->kind != HPCM_JSON_OBJECT) return 0;
    for (const hpcm_json_value *member = object->items.first; member; member = member->next)
        if (is_text(&member->name, name)) found = member;
    return found;
}

int hpcm_json_is(const hpcm_json_value *value, const char *text) {
    return value && value->kind == HPCM_JSON_TEXT && is_text(&value->text, text);
}
