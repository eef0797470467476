/* Fuzzes the entropy coder by itself; see `make fuzz`.
 *
 * Beyond the sanitizers it checks what always holds: tables are made of just those numbers that hpcm.h allows; what is
 * encoded decodes, whole and up to each cut; a part ends with the last word that its symbols take; any bytes decode or
 * are refused, and symbols that take all of them are encoded to the same ones; a checksum is that of zlib. */
#include <float.h>
#include <math.h>

#include "../ans.h"
#include "failing.h"
#include "input.h"

enum { UNITS = 1 << 16, MAX_RADIUS = UNITS / 2 - 1, MOST_NUMBERS = 1 << 17, PUSHES = 6, MOST = 256, CUTS = 3 };

/* ---- tables ----------------------------------------------------------------------------------------------------------- */

typedef struct {
    int32_t count;
    size_t total;
    float *scales;
    int32_t *radius, *frequencies;
} numbers;

/* At least 1 each; the bytes of the input share out the rest, and one symbol gets what is left. */
static void share_out(input *in, int32_t *frequencies, int32_t symbols) {
    uint16_t place;
    int32_t left = UNITS - symbols;
    take(in, &place, sizeof place);
    for (int32_t s = 0; s < symbols; s++) {
        int32_t more = left / 256 * choose(in, 256);
        frequencies[s] = 1 + more;
        left -= more;
    }
    frequencies[place % symbols] += left;
}

static numbers take_numbers(input *in) {
    numbers n = {.count = 1 + (choose(in, 8) ? choose(in, 8) : choose(in, HPCM_MAX_TABLES))};
    int32_t *next;
    n.scales = exactly((size_t)n.count * sizeof *n.scales);
    n.radius = exactly((size_t)n.count * sizeof *n.radius);
    for (int32_t t = 0; t < n.count; t++) {
        uint16_t wide = choose(in, 4) ? (uint16_t)choose(in, 16) : 0;
        if (!choose(in, 8) && n.total < MOST_NUMBERS) take(in, &wide, sizeof wide);
        n.radius[t] = wide % (MAX_RADIUS + 1);
        n.scales[t] = (t ? n.scales[t - 1] : 0) + 0.01f + (float)choose(in, 256) / 16;
        n.total += 2 * (size_t)n.radius[t] + 2;
    }
    n.frequencies = next = exactly(n.total * sizeof *n.frequencies);
    for (int32_t t = 0; t < n.count; next += 2 * n.radius[t++] + 2) share_out(in, next, 2 * n.radius[t] + 2);
    return n;
}

static void free_numbers(numbers *n) {
    free(n->scales);
    free(n->radius);
    free(n->frequencies);
}

/* Of any bits, or at a limit. */
static float take_scale(input *in) {
    static const float limits[] = {0, FLT_TRUE_MIN, FLT_MIN, 3.0e38f, FLT_MAX, INFINITY, -1};
    float scale;
    take(in, &scale, sizeof scale);
    return choose(in, 2) ? scale : limits[choose(in, sizeof limits / sizeof *limits)];
}

/* Some numbers become others. */
static void change_numbers(input *in, numbers *n) {
    for (int32_t changes = choose(in, 4); changes > 0; changes--) {
        int32_t chosen = choose(in, n->count);
        uint16_t place;
        take(in, &place, sizeof place);
        switch (choose(in, 4)) {
        case 0: n->scales[chosen] = take_scale(in); break;
        case 1: n->radius[chosen] = any_number(in); break;
        case 2: n->frequencies[place % n->total] = any_number(in); break;
        default: { /* two that add up as before */
            int32_t more = any_number(in) % UNITS, *to = &n->frequencies[place % n->total];
            int32_t *from = &n->frequencies[(place + 1) % n->total];
            if (abs(*to) > UNITS || abs(*from) > UNITS) break;
            *to += more;
            *from -= more;
        }
        }
    }
}

/* As hpcm.h says it. */
static int are_allowed(const numbers *n) {
    int64_t total = 0;
    const int32_t *frequencies = n->frequencies;
    for (int32_t t = 0; t < n->count; t++) {
        if (!(n->scales[t] > 0 && n->scales[t] <= 3.0e38f) || (t && !(n->scales[t] > n->scales[t - 1]))) return 0;
        if (n->radius[t] < 0 || n->radius[t] > MAX_RADIUS) return 0;
        total += 2 * n->radius[t] + 2;
    }
    if (total != (int64_t)n->total) return 0;
    for (int32_t t = 0; t < n->count; frequencies += 2 * n->radius[t++] + 2) {
        int64_t sum = 0;
        for (int32_t s = 0; s < 2 * n->radius[t] + 2; s++) {
            if (frequencies[s] < 1) return 0;
            sum += frequencies[s];
        }
        if (sum != UNITS) return 0;
    }
    return 1;
}

static hpcm_tables *make_tables(const numbers *n) {
    hpcm_tables *tables;
    hpcm_status status = hpcm_tables_create(n->scales, n->radius, n->count, n->frequencies, n->total, &tables);
    expect(status == (are_allowed(n) ? HPCM_OK : HPCM_BAD_ARGUMENT), "just those tables are made that are allowed");
    expect((status == HPCM_OK) == !!tables, "tables are made or refused");
    return tables;
}

static void fuzz_tables(input *in) {
    numbers n = take_numbers(in);
    change_numbers(in, &n);
    hpcm_tables *tables = make_tables(&n);
    while (tables && in->left) {
        float scale = n.scales[choose(in, n.count)];
        int32_t smaller = 0, kind = choose(in, 4);
        if (kind) scale = kind == 1 ? nextafterf(scale, 0) : kind == 2 ? nextafterf(scale, INFINITY) : take_scale(in);
        for (int32_t t = 0; t < n.count - 1; t++) smaller += n.scales[t] < scale;
        expect(hpcm_table_of(tables, scale) == smaller, "a scale has the table of the next larger one");
    }
    hpcm_tables_free(tables);
    free_numbers(&n);
}

/* ---- pushes ----------------------------------------------------------------------------------------------------------- */

typedef struct {
    size_t count, cuts; /* cuts: behind it */
    int is_wrong;       /* it asks for a table that doesn't exist */
    uint8_t indexes[MOST];
    int32_t symbols[MOST];
} push;

static push pushes[PUSHES];

/* Small, around the radius of a table, or any at all. */
static int32_t take_symbol(input *in, const numbers *n) {
    int32_t kind = choose(in, 256), sign = kind % 2 ? -1 : 1;
    if (kind < 128) return sign * kind / 2;
    if (kind < 192) return sign * (n->radius[choose(in, n->count)] + choose(in, 4) - 1);
    if (kind < 208) return kind % 2 ? INT32_MIN : INT32_MAX;
    return any_number(in);
}

static void take_indexes(input *in, const numbers *n, push *p) {
    int32_t first = choose(in, n->count), step = choose(in, n->count);
    int32_t count = n->count + (n->count < HPCM_MAX_TABLES && !choose(in, 16)); /* perhaps one more than there are */
    p->count = (size_t)choose(in, MOST);
    p->is_wrong = 0;
    for (size_t i = 0; i < p->count; i++) {
        p->indexes[i] = (uint8_t)((first + (int32_t)i * step) % count);
        p->is_wrong |= p->indexes[i] >= n->count;
    }
}

/* When the input ends, symbols go on with those that it gave. */
static void take_pushes(input *in, const numbers *n) {
    for (push *p = pushes; p < pushes + PUSHES; p++) {
        size_t given = 0;
        take_indexes(in, n, p);
        p->cuts = (size_t)choose(in, CUTS);
        for (; given < p->count && in->left; given++) p->symbols[given] = take_symbol(in, n);
        for (size_t i = given; i < p->count; i++) p->symbols[i] = given ? p->symbols[i % given] : 0;
    }
}

static void expect_symbols(hpcm_decoder *decoder, const push *p) {
    int32_t *symbols = exactly(p->count * sizeof *symbols);
    expect(hpcm_decoder_pop(decoder, p->indexes, p->count, symbols) == HPCM_OK, "what was encoded decodes");
    expect(!memcmp(symbols, p->symbols, p->count * sizeof *symbols), "it decodes to what was encoded");
    free(symbols);
}

static hpcm_decoder *make_decoder(const hpcm_tables *tables, const uint8_t *bytes, size_t size) {
    hpcm_decoder *decoder;
    uint8_t *copy = exactly(size);
    int allowed = size % 4 == 0 && (!size || bytes[0] || bytes[1] || bytes[2] || bytes[3]);
    if (size) memcpy(copy, bytes, size);
    hpcm_status status = hpcm_decoder_create(tables, copy, size, &decoder);
    expect(status == (allowed ? HPCM_OK : HPCM_BAD_PAYLOAD), "just those bytes are refused that no encoder gives");
    free(copy);
    return decoder;
}

/* The words that a decoder has taken. Two of them are in its state, unless it has all. */
static size_t taken(const hpcm_decoder *decoder, size_t words) {
    size_t left = hpcm_decoder_words_left(decoder);
    return left > 2 ? words + 2 - left : words;
}

/* The pushes before `end`, of a payload's beginning. */
static void decode_beginning(const hpcm_tables *tables, const uint8_t *bytes, size_t size, const push *end) {
    hpcm_decoder *decoder = make_decoder(tables, bytes, size);
    for (const push *p = pushes; p < end; p++)
        if (!p->is_wrong) expect_symbols(decoder, p);
    expect(taken(decoder, size / 4) == size / 4, "a part has no word that its symbols don't take");
    hpcm_decoder_free(decoder);
}

static void decode_parts(const hpcm_tables *tables, const uint8_t *bytes, const size_t *sizes, size_t total) {
    hpcm_decoder *decoder = make_decoder(tables, bytes, total);
    size_t size = 0;
    for (const push *p = pushes; p < pushes + PUSHES; p++) {
        if (!p->is_wrong) expect_symbols(decoder, p);
        for (size_t cut = 0; cut < p->cuts; cut++) {
            size += *sizes++;
            expect(taken(decoder, total / 4) == size / 4, "a part ends with what its symbols take");
            decode_beginning(tables, bytes, size, p + 1);
        }
    }
    expect(size + *sizes == total, "parts are the whole");
    expect(!hpcm_decoder_words_left(decoder), "nothing is left");
    hpcm_decoder_free(decoder);
}

/* From the tables on, until memory runs out. */
static void encode_in_part(const numbers *n, int32_t end) {
    hpcm_tables *tables;
    hpcm_encoder *encoder = 0;
    size_t sizes[PUSHES * CUTS + 1];
    const uint8_t *bytes;
    allocations_left = end;
    hpcm_status status = hpcm_tables_create(n->scales, n->radius, n->count, n->frequencies, n->total, &tables);
    if (status == HPCM_OK) status = hpcm_encoder_create(tables, &encoder);
    for (const push *p = pushes; status == HPCM_OK && p < pushes + PUSHES; p++) {
        if (!p->is_wrong) status = hpcm_encoder_push(encoder, p->symbols, p->indexes, p->count);
        for (size_t cut = 0; status == HPCM_OK && cut < p->cuts; cut++) status = hpcm_encoder_cut(encoder);
    }
    if (status == HPCM_OK) status = hpcm_encoder_finish(encoder, &bytes, sizes);
    allocations_left = -1;
    expect(status == HPCM_OK || status == HPCM_NO_MEMORY, "symbols are encoded, or memory runs out");
    hpcm_encoder_free(encoder);
    hpcm_tables_free(tables);
}

static void fuzz_encoder(input *in) {
    int32_t end = choose(in, 256);
    numbers n = take_numbers(in);
    hpcm_tables *tables = make_tables(&n);
    hpcm_encoder *encoder;
    const uint8_t *bytes;
    size_t cuts = 0, total = 0, *sizes;
    expect(hpcm_encoder_create(tables, &encoder) == HPCM_OK, "an encoder is made");
    take_pushes(in, &n);
    for (push *p = pushes; p < pushes + PUSHES; p++) {
        hpcm_status status = hpcm_encoder_push(encoder, p->symbols, p->indexes, p->count);
        expect(status == (p->is_wrong ? HPCM_BAD_ARGUMENT : HPCM_OK), "any symbols are encoded with tables that exist");
        cuts += p->cuts;
        for (size_t cut = 0; cut < p->cuts; cut++) expect(hpcm_encoder_cut(encoder) == HPCM_OK, "a part ends");
    }
    sizes = exactly((cuts + 1) * sizeof *sizes);
    expect(hpcm_encoder_finish(encoder, &bytes, sizes) == HPCM_OK, "an encoder finishes");
    for (size_t part = 0; part <= cuts; part++) total += sizes[part];
    decode_parts(tables, bytes, sizes, total);
    encode_in_part(&n, end);
    hpcm_encoder_free(encoder);
    hpcm_tables_free(tables);
    free_numbers(&n);
    free(sizes);
}

/* ---- any bytes -------------------------------------------------------------------------------------------------------- */

/* The first `done` pushes, which `given` decoded to. */
static void encode_again(const hpcm_tables *tables, int done, const input *given, int is_whole) {
    hpcm_encoder *encoder;
    const uint8_t *bytes;
    size_t size;
    expect(hpcm_encoder_create(tables, &encoder) == HPCM_OK, "an encoder is made");
    for (const push *p = pushes; p < pushes + done; p++)
        expect(hpcm_encoder_push(encoder, p->symbols, p->indexes, p->count) == HPCM_OK, "what was decoded is encoded");
    expect(hpcm_encoder_finish(encoder, &bytes, &size) == HPCM_OK, "an encoder finishes");
    if (is_whole)
        expect(size == given->left && (!size || !memcmp(bytes, given->bytes, size)), "all bytes become the same again");
    hpcm_decoder *decoder = make_decoder(tables, bytes, size);
    for (const push *p = pushes; p < pushes + done; p++) expect_symbols(decoder, p);
    expect(!hpcm_decoder_words_left(decoder), "nothing is left");
    hpcm_decoder_free(decoder);
    hpcm_encoder_free(encoder);
}

static void fuzz_decoder(input *in) {
    numbers n = take_numbers(in);
    hpcm_tables *tables = make_tables(&n);
    int done = 0, is_whole = 0;
    for (push *p = pushes; p < pushes + PUSHES; p++) take_indexes(in, &n, p);
    hpcm_decoder *decoder = make_decoder(tables, in->bytes, in->left);
    while (decoder && done < PUSHES) {
        push *p = &pushes[done];
        int32_t *symbols = exactly(p->count * sizeof *symbols);
        hpcm_status status = hpcm_decoder_pop(decoder, p->indexes, p->count, symbols);
        if (p->is_wrong) expect(status == HPCM_BAD_ARGUMENT, "a table that doesn't exist is refused");
        else expect(status == HPCM_OK || status == HPCM_BAD_PAYLOAD, "bytes decode or are refused");
        if (status == HPCM_OK) memcpy(p->symbols, symbols, p->count * sizeof *symbols);
        free(symbols);
        expect(hpcm_decoder_words_left(decoder) <= in->left / 4, "no more words are left than there were");
        if (status != HPCM_OK) break;
        done++;
        is_whole = !hpcm_decoder_words_left(decoder);
    }
    if (decoder) encode_again(tables, done, in, is_whole);
    hpcm_decoder_free(decoder);
    hpcm_tables_free(tables);
    free_numbers(&n);
}

/* ---- checksums -------------------------------------------------------------------------------------------------------- */

/* As in the PNG specification: a bit at a time. */
static uint32_t checksum_of(const uint8_t *bytes, size_t count, uint32_t start) {
    uint32_t crc = ~start;
    for (size_t i = 0; i < count; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320 : 0);
    }
    return ~crc;
}

static void fuzz_checksum(input *in) {
    uint32_t start;
    size_t first = (size_t)choose(in, 256);
    take(in, &start, sizeof start);
    size_t count = in->left / 4;
    int32_t *symbols = exactly(count * sizeof *symbols);
    if (first > count) first = count;
    for (size_t i = 0; i < count; i++) {
        const uint8_t *b = in->bytes + 4 * i;
        symbols[i] = (int32_t)((uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24);
    }
    uint32_t whole = hpcm_checksum(symbols, count, start), part = hpcm_checksum(symbols, first, start);
    expect(whole == checksum_of(in->bytes, 4 * count, start), "a checksum is that of zlib");
    expect(whole == hpcm_checksum(symbols + first, count - first, part), "a checksum goes on with the one before");
    free(symbols);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static void (*const targets[])(input *in) = {fuzz_tables, fuzz_encoder, fuzz_decoder, fuzz_checksum};
    input in = {data, size};
    targets[choose(&in, sizeof targets / sizeof *targets)](&in);
    return 0;
}
