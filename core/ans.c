/* The entropy coder: a stack of asymmetric numeral systems (ANS).
 *
 * ANS keeps a whole message in one big number, the state x. A symbol of frequency f of 2^24, with the frequencies of the
 * symbols before it adding up to c, goes onto the state and comes off again like this:
 *
 *     push   x <- (x div f) * 2^24 + c + x mod f                 grows by log2(2^24 / f) bits, the symbol's information
 *     pop    q <- x mod 2^24; the symbol is the one with c <= q < c + f;   x <- f * (x div 2^24) + q - c
 *
 * The two undo each other exactly. Only the top 64 bits of x are at hand: before a push that would overflow them the lower
 * 32 bits move to a list of words, and come back when a pop leaves x below 2^32. The bytes are words of 32 bits, each
 * little-endian, in the order in which a decoder needs them: x itself, upper word first, without zero words in front, then
 * the words of the list, the newest first. An empty state has no bytes.
 *
 * The trap: a stack is last in, first out. The decoder pops first what was pushed last. So hpcm_encoder_push only
 * collects, in the order in which the decoder will ask, and hpcm_encoder_finish codes everything from the last symbol to
 * the first.
 *
 * A beginning of the bytes decodes to a beginning of the symbols: hpcm_encoder_cut marks where a part ends, and the words
 * that a decoder has taken by then are the bytes of the parts so far. Parts cost nothing.
 *
 * One push is laid out like this, in decoding order:
 *
 *     symbols of table 0 | symbols of table 1 | ... | excess of the escapes
 *                                                     number of bits of each | their low bits | their high bits
 *
 * A symbol beyond the radius of its table goes into its group as an escape; the distance follows after all groups, when
 * the decoder knows how many there are: n = 2 (|s| - radius) + (1 if s < 0 else 0) >= 2 has k + 1 binary digits, of which
 * the first is a one; k - 1 is coded with 5 bits, then for k = 1, 2, ... the other k digits of all n of that length, the
 * low 16 and then the rest. Any int32 is codable.
 *
 * Tables count in units of 2^-16. The stream is that of constriction's AnsCoder with 32-bit words, a 64-bit state and
 * probabilities of 24 bits. */
#include "ans.h"

#include <stdlib.h>
#include <string.h>

enum {
    PRECISION = 24,
    TABLE_PRECISION = 16,
    UNIT_SHIFT = PRECISION - TABLE_PRECISION,
    LENGTH_BITS = 5, /* an excess has 1 to 32 digits after its first */
    CHUNK_BITS = 16, /* so many digits of an excess are coded at once */
    MAX_DIGITS = 32,
    SLOT_BITS = 8, /* of a frequency's place, by which the search for a symbol begins */
    SCALE_SHIFT = 18 /* what stays of a float's 32 bits tells the table, up to a few */
};

typedef struct {
    int32_t radius, symbols; /* 2 radius + 2: the last is the escape */
    const uint32_t *starts;  /* [symbols + 1], of 2^16 */
    uint16_t slots[1 << SLOT_BITS]; /* the symbol in which each 256th of 2^16 begins */
} table;

struct hpcm_tables {
    int32_t count;
    float scales[HPCM_MAX_TABLES];
    uint8_t first[1 << (31 - SCALE_SHIFT)]; /* the table of the smallest positive float with these leading bits */
    uint32_t *starts;
    table tables[HPCM_MAX_TABLES];
};

/* ---- tables ----------------------------------------------------------------------------------------------------------- */

static uint8_t searched(const hpcm_tables *tables, float scale) {
    int index = 0;
    while (index < tables->count - 1 && tables->scales[index] < scale) index++;
    return (uint8_t)index;
}

uint8_t hpcm_table_of(const hpcm_tables *tables, float scale) {
    uint32_t bits;
    if (!(scale > tables->scales[0])) return 0;
    memcpy(&bits, &scale, sizeof bits);
    int index = tables->first[bits >> SCALE_SHIFT];
    while (index < tables->count - 1 && tables->scales[index] < scale) index++;
    return (uint8_t)index;
}

static int fill_table(table *t, int32_t radius, const int32_t *frequencies, uint32_t *starts) {
    uint32_t sum = 0;
    t->radius = radius;
    t->symbols = 2 * radius + 2;
    t->starts = starts;
    for (int32_t s = 0; s < t->symbols; s++) {
        if (frequencies[s] < 1 || frequencies[s] > (1 << TABLE_PRECISION)) return 0;
        starts[s] = sum;
        sum += (uint32_t)frequencies[s];
        if (sum > 1 << TABLE_PRECISION) return 0;
    }
    starts[t->symbols] = sum;
    if (sum != 1 << TABLE_PRECISION) return 0;
    int32_t symbol = 0;
    for (uint32_t slot = 0; slot < 1 << SLOT_BITS; slot++) {
        uint32_t begin = slot << (TABLE_PRECISION - SLOT_BITS);
        while (starts[symbol + 1] <= begin) symbol++;
        t->slots[slot] = (uint16_t)symbol;
    }
    return 1;
}

hpcm_status hpcm_tables_create(const float *scales, const int32_t *radius, int32_t count, const int32_t *frequencies,
                               size_t total, hpcm_tables **made) {
    enum { MAX_RADIUS = (1 << TABLE_PRECISION) / 2 - 1 };
    size_t symbols = 0;
    *made = 0;
    if (count < 1 || count > HPCM_MAX_TABLES) return HPCM_BAD_ARGUMENT;
    for (int32_t t = 0; t < count; t++) {
        int ascends = scales[t] > (t ? scales[t - 1] : 0) && scales[t] <= 3.0e38f;
        if (!ascends || radius[t] < 0 || radius[t] > MAX_RADIUS) return HPCM_BAD_ARGUMENT;
        symbols += 2 * (size_t)radius[t] + 2;
    }
    if (symbols != total) return HPCM_BAD_ARGUMENT;
    hpcm_tables *tables = calloc(1, sizeof *tables);
    uint32_t *starts = malloc((total + (size_t)count) * sizeof *starts);
    if (!tables || !starts) {
        free(tables);
        free(starts);
        return HPCM_NO_MEMORY;
    }
    tables->count = count;
    tables->starts = starts;
    memcpy(tables->scales, scales, (size_t)count * sizeof *scales);
    for (int32_t t = 0; t < count; t++) {
        if (!fill_table(&tables->tables[t], radius[t], frequencies, starts)) {
            hpcm_tables_free(tables);
            return HPCM_BAD_ARGUMENT;
        }
        frequencies += 2 * radius[t] + 2;
        starts += 2 * radius[t] + 3;
    }
    for (uint32_t leading = 0; leading < 1u << (31 - SCALE_SHIFT); leading++) {
        uint32_t bits = leading << SCALE_SHIFT;
        float smallest;
        memcpy(&smallest, &bits, sizeof smallest);
        tables->first[leading] = searched(tables, smallest);
    }
    *made = tables;
    return HPCM_OK;
}

void hpcm_tables_free(hpcm_tables *tables) {
    if (tables) free(tables->starts);
    free(tables);
}

/* ---- grouping --------------------------------------------------------------------------------------------------------- */

/* Where each table's group begins, [tables + 1], in an order that is stable. 0 for an index beyond the tables. */
static int group(const hpcm_tables *tables, const uint8_t *indexes, size_t count, size_t *begins) {
    size_t counts[HPCM_MAX_TABLES] = {0};
    for (size_t i = 0; i < count; i++) counts[indexes[i]]++;
    begins[0] = 0;
    for (int t = 0; t < HPCM_MAX_TABLES; t++) {
        if (t >= tables->count && counts[t]) return 0;
        if (t < tables->count) begins[t + 1] = begins[t] + counts[t];
    }
    return 1;
}

/* order[place in the groups] = place in the push. */
static void place_all(const uint8_t *indexes, size_t count, const size_t *begins, int32_t tables, uint32_t *order) {
    size_t next[HPCM_MAX_TABLES];
    memcpy(next, begins, (size_t)tables * sizeof *next);
    for (size_t i = 0; i < count; i++) order[next[indexes[i]]++] = (uint32_t)i;
}

/* ---- encoder ---------------------------------------------------------------------------------------------------------- */

typedef struct {
    uint32_t start, frequency; /* of 2^24 */
} slice;

typedef struct {
    size_t count, room;
    slice *items;
} slices;

struct hpcm_encoder {
    const hpcm_tables *tables;
    slices runs;
    size_t *cuts, cut_count;
    uint8_t *bytes;
};

static int reserve(slices *list, size_t more) {
    if (list->room - list->count >= more) return 1;
    size_t room = list->count + more;
    room += room / 2;
    if (room > SIZE_MAX / sizeof(slice)) return 0;
    slice *items = realloc(list->items, room * sizeof(slice));
    if (!items) return 0;
    list->items = items;
    list->room = room;
    return 1;
}

static void add_bits(slices *list, uint32_t value, int bits) {
    uint32_t frequency = 1u << (PRECISION - bits);
    list->items[list->count++] = (slice){value * frequency, frequency};
}

hpcm_status hpcm_encoder_create(const hpcm_tables *tables, hpcm_encoder **encoder) {
    *encoder = calloc(1, sizeof **encoder);
    if (!*encoder) return HPCM_NO_MEMORY;
    (*encoder)->tables = tables;
    return HPCM_OK;
}

void hpcm_encoder_free(hpcm_encoder *encoder) {
    if (!encoder) return;
    free(encoder->runs.items);
    free(encoder->cuts);
    free(encoder->bytes);
    free(encoder);
}

/* After the first. */
static int digits_of(uint64_t excess) {
    return 63 - __builtin_clzll(excess);
}

/* The numbers >= 2 that say how far escaped symbols lie beyond their tables. */
static int push_excess(slices *runs, const uint64_t *excess, size_t count) {
    if (!reserve(runs, 3 * count)) return 0; /* a length and up to two chunks */
    for (size_t i = 0; i < count; i++) add_bits(runs, (uint32_t)digits_of(excess[i]) - 1, LENGTH_BITS);
    for (int digits = 1; digits <= MAX_DIGITS; digits++)
        for (int shift = 0; shift < digits; shift += CHUNK_BITS) {
            int bits = digits - shift < CHUNK_BITS ? digits - shift : CHUNK_BITS;
            for (size_t i = 0; i < count; i++)
                if (digits_of(excess[i]) == digits)
                    add_bits(runs, (uint32_t)(excess[i] >> shift) & ((1u << bits) - 1), bits);
        }
    return 1;
}

hpcm_status hpcm_encoder_push(hpcm_encoder *encoder, const int32_t *symbols, const uint8_t *indexes, size_t count) {
    const hpcm_tables *tables = encoder->tables;
    slices *runs = &encoder->runs;
    size_t begins[HPCM_MAX_TABLES + 1], escapes = 0;
    if (count > UINT32_MAX || !group(tables, indexes, count, begins)) return HPCM_BAD_ARGUMENT;
    uint32_t *order = malloc((count + 1) * sizeof *order);
    uint64_t *excess = 0;
    hpcm_status status = HPCM_NO_MEMORY;
    if (!order || !reserve(runs, count)) goto end;
    place_all(indexes, count, begins, tables->count, order);
    for (int32_t t = 0; t < tables->count; t++) {
        const table *own = &tables->tables[t];
        for (size_t i = begins[t]; i < begins[t + 1]; i++) {
            int64_t code = (int64_t)symbols[order[i]] + own->radius;
            int escaped = code < 0 || code > 2 * own->radius;
            if (escaped) code = 2 * own->radius + 1;
            escapes += (size_t)escaped;
            uint32_t start = own->starts[code];
            runs->items[runs->count++] = (slice){start << UNIT_SHIFT, (own->starts[code + 1] - start) << UNIT_SHIFT};
        }
    }
    if (escapes) {
        size_t found = 0;
        excess = malloc(escapes * sizeof *excess);
        if (!excess) goto end;
        for (int32_t t = 0; t < tables->count; t++)
            for (size_t i = begins[t]; i < begins[t + 1]; i++) {
                int64_t symbol = symbols[order[i]], magnitude = symbol < 0 ? -symbol : symbol;
                int64_t beyond = magnitude - tables->tables[t].radius;
                if (beyond > 0) excess[found++] = (uint64_t)(2 * beyond + (symbol < 0));
            }
        if (!push_excess(runs, excess, escapes)) goto end;
    }
    status = HPCM_OK;
end:
    free(order);
    free(excess);
    return status;
}

hpcm_status hpcm_encoder_cut(hpcm_encoder *encoder) {
    size_t *cuts = realloc(encoder->cuts, (encoder->cut_count + 1) * sizeof *cuts);
    if (!cuts) return HPCM_NO_MEMORY;
    encoder->cuts = cuts;
    cuts[encoder->cut_count++] = encoder->runs.count;
    return HPCM_OK;
}

static void put_word(uint8_t *bytes, uint32_t word) {
    for (int i = 0; i < 4; i++) bytes[i] = (uint8_t)(word >> 8 * i);
}

hpcm_status hpcm_encoder_finish(hpcm_encoder *encoder, const uint8_t **bytes, size_t *sizes) {
    const slices *runs = &encoder->runs;
    if (runs->count > SIZE_MAX / 4 - 2) return HPCM_NO_MEMORY;
    size_t room = runs->count + 2; /* a symbol adds a word at most */
    free(encoder->bytes);
    encoder->bytes = malloc(4 * room);
    if (!encoder->bytes) return HPCM_NO_MEMORY;
    uint64_t state = 0;
    size_t free_words = room, cut = encoder->cut_count; /* words are written from the end of the room to its beginning */
    for (size_t i = runs->count;;) {
        while (cut && encoder->cuts[cut - 1] == i) sizes[cut--] = room - free_words; /* what is needed only after it */
        if (!i) break;
        slice run = runs->items[--i];
        if (state >> (64 - PRECISION) >= run.frequency) {
            put_word(encoder->bytes + 4 * --free_words, (uint32_t)state);
            state >>= 32;
        }
        state = (state / run.frequency << PRECISION) + run.start + state % run.frequency;
    }
    if (state) put_word(encoder->bytes + 4 * --free_words, (uint32_t)state);
    if (state >> 32) put_word(encoder->bytes + 4 * --free_words, (uint32_t)(state >> 32));
    size_t words = room - free_words, begin = 0;
    for (size_t part = 0; part <= encoder->cut_count; part++) {
        size_t later = part < encoder->cut_count ? sizes[part + 1] : 0;
        size_t stop = words - later;
        sizes[part] = 4 * (stop - begin);
        begin = stop;
    }
    *bytes = encoder->bytes + 4 * free_words;
    return HPCM_OK;
}

/* ---- decoder ---------------------------------------------------------------------------------------------------------- */

struct hpcm_decoder {
    const hpcm_tables *tables;
    uint64_t state;
    size_t next, words; /* next: of the payload's words */
    uint8_t *bytes;
    uint32_t *order;
    size_t room; /* of order */
};

static uint32_t word_at(const hpcm_decoder *decoder, size_t place) {
    const uint8_t *b = decoder->bytes + 4 * place;
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

hpcm_status hpcm_decoder_create(const hpcm_tables *tables, const uint8_t *payload, size_t size, hpcm_decoder **made) {
    *made = 0;
    if (size % 4) return HPCM_BAD_PAYLOAD;
    hpcm_decoder *decoder = calloc(1, sizeof *decoder);
    if (!decoder) return HPCM_NO_MEMORY;
    decoder->tables = tables;
    decoder->words = size / 4;
    decoder->bytes = malloc(size + 1);
    if (!decoder->bytes) {
        free(decoder);
        return HPCM_NO_MEMORY;
    }
    if (size) memcpy(decoder->bytes, payload, size);
    if (size && !word_at(decoder, 0)) { /* never begins with a zero word */
        hpcm_decoder_free(decoder);
        return HPCM_BAD_PAYLOAD;
    }
    while (decoder->next < decoder->words && decoder->next < 2)
        decoder->state = decoder->state << 32 | word_at(decoder, decoder->next++);
    *made = decoder;
    return HPCM_OK;
}

void hpcm_decoder_free(hpcm_decoder *decoder) {
    if (!decoder) return;
    free(decoder->bytes);
    free(decoder->order);
    free(decoder);
}

static inline void advance(hpcm_decoder *decoder, uint32_t start, uint32_t frequency) {
    uint64_t quantile = decoder->state & ((1u << PRECISION) - 1);
    decoder->state = (decoder->state >> PRECISION) * frequency + (quantile - start);
    if (decoder->state < (uint64_t)1 << 32 && decoder->next < decoder->words)
        decoder->state = decoder->state << 32 | word_at(decoder, decoder->next++);
}

static inline int32_t pop_code(hpcm_decoder *decoder, const table *own) {
    uint32_t place = (uint32_t)(decoder->state >> UNIT_SHIFT) & ((1u << TABLE_PRECISION) - 1);
    int32_t code = own->slots[place >> (TABLE_PRECISION - SLOT_BITS)];
    while (own->starts[code + 1] <= place) code++;
    uint32_t start = own->starts[code];
    advance(decoder, start << UNIT_SHIFT, (own->starts[code + 1] - start) << UNIT_SHIFT);
    return code;
}

static uint32_t pop_bits(hpcm_decoder *decoder, int bits) {
    uint32_t quantile = (uint32_t)decoder->state & ((1u << PRECISION) - 1), frequency = 1u << (PRECISION - bits);
    uint32_t value = quantile / frequency;
    advance(decoder, value * frequency, frequency);
    return value;
}

/* Replaces escapes, which stand in `symbols` as radius + 1, by the symbols meant. */
static hpcm_status pop_excess(hpcm_decoder *decoder, const size_t *begins, size_t escapes, int32_t *symbols) {
    typedef struct {
        uint64_t excess;
        uint32_t place;
        int32_t radius, digits;
    } escape;
    escape *list = malloc(escapes * sizeof *list);
    if (!list) return HPCM_NO_MEMORY;
    size_t found = 0;
    for (int32_t t = 0; t < decoder->tables->count; t++)
        for (size_t i = begins[t]; i < begins[t + 1]; i++) {
            int32_t radius = decoder->tables->tables[t].radius;
            if (symbols[decoder->order[i]] == radius + 1)
                list[found++] = (escape){0, decoder->order[i], radius, 0};
        }
    for (size_t i = 0; i < escapes; i++) {
        list[i].digits = (int32_t)pop_bits(decoder, LENGTH_BITS) + 1;
        list[i].excess = (uint64_t)1 << list[i].digits;
    }
    for (int digits = 1; digits <= MAX_DIGITS; digits++)
        for (int shift = 0; shift < digits; shift += CHUNK_BITS) {
            int bits = digits - shift < CHUNK_BITS ? digits - shift : CHUNK_BITS;
            for (size_t i = 0; i < escapes; i++)
                if (list[i].digits == digits) list[i].excess += (uint64_t)pop_bits(decoder, bits) << shift;
        }
    hpcm_status status = HPCM_OK;
    for (size_t i = 0; i < escapes; i++) {
        int64_t magnitude = (int64_t)(list[i].excess >> 1) + list[i].radius;
        int64_t symbol = list[i].excess & 1 ? -magnitude : magnitude;
        if (symbol < INT32_MIN || symbol > INT32_MAX) status = HPCM_BAD_PAYLOAD;
        else symbols[list[i].place] = (int32_t)symbol;
    }
    free(list);
    return status;
}

hpcm_status hpcm_decoder_pop(hpcm_decoder *decoder, const uint8_t *indexes, size_t count, int32_t *symbols) {
    size_t begins[HPCM_MAX_TABLES + 1], escapes = 0;
    const hpcm_tables *tables = decoder->tables;
    if (count > UINT32_MAX || !group(tables, indexes, count, begins)) return HPCM_BAD_ARGUMENT;
    if (decoder->room < count) {
        uint32_t *order = realloc(decoder->order, count * sizeof *order);
        if (!order) return HPCM_NO_MEMORY;
        decoder->order = order;
        decoder->room = count;
    }
    place_all(indexes, count, begins, tables->count, decoder->order);
    for (int32_t t = 0; t < tables->count; t++) {
        const table *own = &tables->tables[t];
        for (size_t i = begins[t]; i < begins[t + 1]; i++) {
            int32_t symbol = pop_code(decoder, own) - own->radius;
            symbols[decoder->order[i]] = symbol;
            escapes += symbol == own->radius + 1;
        }
    }
    return escapes ? pop_excess(decoder, begins, escapes, symbols) : HPCM_OK;
}

size_t hpcm_decoder_words_left(const hpcm_decoder *decoder) {
    return decoder->words - decoder->next + (decoder->state != 0) + (decoder->state >> 32 != 0);
}
