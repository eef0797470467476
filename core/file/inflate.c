/* Names of fields are those of RFC 1951. What zlib refuses is refused. */
#include "inflate.h"

#include <string.h>

enum {
    END = 256,           /* the symbol that ends a block */
    FIRST_LENGTH = 257,  /* the first symbol of a length */
    MOST_LITERALS = 286, /* symbols of literals and lengths; two more only fill up the fixed code */
    MOST_DISTANCES = 30,
    LENGTH_CODES = 19,   /* symbols of the code in which the lengths of codes are */
    SHORTEST = 3,        /* bytes that are repeated */
    ADLER = 65521
};

/* ---- bits ------------------------------------------------------------------------------------------------------------- */

/* At least `wanted` bits, up to 32, where there are so many. */
static void fill(hpcm_inflate *s, int wanted) {
    while (s->count < wanted) {
        while (!s->left)
            if (!s->more(s->user, &s->data, &s->left)) return;
        s->bits |= (uint64_t)*s->data++ << s->count;
        s->left--;
        s->count += 8;
    }
}

/* The next bits, up to 32, as a number; 0 where the stream ends before. */
static uint32_t take(hpcm_inflate *s, int wanted) {
    fill(s, wanted);
    if (s->count < wanted) {
        s->is_broken = 1;
        return 0;
    }
    uint32_t value = (uint32_t)(s->bits & ((UINT64_C(1) << wanted) - 1));
    s->bits >>= wanted;
    s->count -= wanted;
    return value;
}

/* ---- codes ------------------------------------------------------------------------------------------------------------ */

static uint32_t reversed(uint32_t code, int length) {
    uint32_t made = 0;
    for (int i = 0; i < length; i++) made |= (code >> i & 1) << (length - 1 - i);
    return made;
}

/* The short codes, at all places that begin with them. */
static void fill_fast(hpcm_huffman *code) {
    uint32_t next = 0, place = 0;
    memset(code->fast, 0, sizeof code->fast);
    for (int length = 1; length <= HPCM_FAST_BITS; length++) {
        for (int i = 0; i < code->counts[length]; i++, next++, place++)
            for (uint32_t at = reversed(next, length); at < 1u << HPCM_FAST_BITS; at += 1u << length)
                code->fast[at] = (uint16_t)(code->symbols[place] << 4 | length);
        next <<= 1;
    }
}

/* A code of these lengths; 0 where there is no such code. One that has words left over is none, unless it `may_be_small`
 * and has at most one word, of one bit: some writers use no distances, or one only. */
static int make_code(hpcm_huffman *code, const uint8_t *lengths, int count, int may_be_small) {
    int32_t left = 1;
    uint16_t places[HPCM_CODE_BITS + 1] = {0};
    memset(code->counts, 0, sizeof code->counts);
    for (int i = 0; i < count; i++) code->counts[lengths[i]]++;
    int is_small = code->counts[0] == count || (code->counts[0] == count - 1 && code->counts[1] == 1);
    code->counts[0] = 0;
    for (int length = 1; length <= HPCM_CODE_BITS; length++) {
        left = 2 * left - code->counts[length];
        if (left < 0) return 0;
        places[length] = (uint16_t)(places[length - 1] + code->counts[length - 1]);
    }
    if (left && !(is_small && may_be_small)) return 0;
    for (int i = 0; i < count; i++)
        if (lengths[i]) code->symbols[places[lengths[i]]++] = (uint16_t)i;
    fill_fast(code);
    return 1;
}

static uint32_t take_symbol(hpcm_inflate *s, const hpcm_huffman *code) {
    fill(s, HPCM_CODE_BITS);
    uint16_t entry = code->fast[s->bits & ((1u << HPCM_FAST_BITS) - 1)];
    int length = entry & 15;
    if (entry && length <= s->count) {
        s->bits >>= length;
        s->count -= length;
        return entry >> 4;
    }
    /* Codes of a length follow one another, and those of the next begin behind them. */
    uint32_t word = 0, first = 0, place = 0;
    for (length = 1; length <= HPCM_CODE_BITS && length <= s->count; length++) {
        word = word << 1 | (uint32_t)(s->bits >> (length - 1) & 1);
        uint32_t count = code->counts[length];
        if (word - first < count) {
            s->bits >>= length;
            s->count -= length;
            return code->symbols[place + word - first];
        }
        first = (first + count) << 1;
        place += count;
    }
    s->is_broken = 1;
    return END;
}

/* ---- blocks ----------------------------------------------------------------------------------------------------------- */

static int fixed_codes(hpcm_inflate *s) {
    uint8_t lengths[HPCM_MOST_SYMBOLS];
    if (s->is_fixed) return 1; /* from the block before */
    memset(lengths, 8, 144);
    memset(lengths + 144, 9, 112);
    memset(lengths + 256, 7, 24);
    memset(lengths + 280, 8, 8);
    if (!make_code(&s->literals, lengths, HPCM_MOST_SYMBOLS, 0)) return 0;
    memset(lengths, 5, 32);
    s->is_fixed = make_code(&s->distances, lengths, 32, 0);
    return s->is_fixed;
}

/* The lengths of both codes, which are coded themselves; 0 where they can't be. */
static int take_lengths(hpcm_inflate *s, const hpcm_huffman *code, uint8_t *lengths, uint32_t count) {
    for (uint32_t i = 0; i < count;) {
        uint32_t symbol = take_symbol(s, code), times = 1;
        uint8_t value = (uint8_t)symbol;
        if (symbol == 16) { /* the one before again */
            if (!i) return 0;
            value = lengths[i - 1];
            times = 3 + take(s, 2);
        } else if (symbol > 16) { /* zeros */
            value = 0;
            times = symbol == 17 ? 3 + take(s, 3) : 11 + take(s, 7);
        }
        if (s->is_broken || times > count - i) return 0;
        memset(lengths + i, value, times);
        i += times;
    }
    return 1;
}

static int own_codes(hpcm_inflate *s) {
    static const uint8_t order[LENGTH_CODES] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
    uint32_t literals = 257 + take(s, 5), distances = 1 + take(s, 5), written = 4 + take(s, 4);
    uint8_t own[LENGTH_CODES] = {0}, lengths[MOST_LITERALS + MOST_DISTANCES];
    if (literals > MOST_LITERALS || distances > MOST_DISTANCES) return 0;
    for (uint32_t i = 0; i < written; i++) own[order[i]] = (uint8_t)take(s, 3);
    hpcm_huffman *code = &s->distances; /* made anew below */
    s->is_fixed = 0;
    if (s->is_broken || !make_code(code, own, LENGTH_CODES, 0)) return 0;
    if (!take_lengths(s, code, lengths, literals + distances) || !lengths[END]) return 0;
    return make_code(&s->literals, lengths, (int)literals, 1) &&
           make_code(&s->distances, lengths + literals, (int)distances, 1);
}

static int stored_block(hpcm_inflate *s) {
    take(s, s->count % 8); /* up to the next byte */
    uint32_t size = take(s, 16), complement = take(s, 16);
    s->stored = size;
    return (size ^ complement) == 0xFFFF;
}

static void begin_block(hpcm_inflate *s) {
    s->is_last = (int)take(s, 1);
    uint32_t kind = take(s, 2);
    s->block = kind ? HPCM_CODED : HPCM_STORED;
    int is_right = kind == 0 ? stored_block(s) : kind == 1 ? fixed_codes(s) : kind == 2 && own_codes(s);
    if (!is_right) s->is_broken = 1;
}

/* The bytes that a symbol of lengths and the next one, of distances, stand for. */
static void take_match(hpcm_inflate *s, uint32_t symbol) {
    static const uint16_t shortest[] = {3,  4,  5,  6,  7,  8,  9,  10, 11, 13,  15,  17,  19,  23, 27,
                                        31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258};
    static const uint16_t nearest[] = {1,   2,   3,   4,   5,   7,    9,    13,   17,   25,
                                       33,  49,  65,  97,  129, 193,  257,  385,  513,  769,
                                       1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577};
    uint32_t length = symbol - FIRST_LENGTH;
    if (symbol >= MOST_LITERALS) {
        s->is_broken = 1;
        return;
    }
    int is_longest = length == MOST_LITERALS - 1 - FIRST_LENGTH;
    s->repeated = shortest[length] + take(s, length < 8 || is_longest ? 0 : (int)length / 4 - 1);
    uint32_t distance = take_symbol(s, &s->distances);
    if (distance >= MOST_DISTANCES) {
        s->is_broken = 1;
        return;
    }
    s->distance = nearest[distance] + take(s, distance < 4 ? 0 : (int)distance / 2 - 1);
    if (s->distance > s->total) s->is_broken = 1;
}

/* ---- the stream ------------------------------------------------------------------------------------------------------- */

static void put(hpcm_inflate *s, uint8_t byte, uint8_t *to) {
    *to = byte;
    s->window[s->total++ % HPCM_WINDOW] = byte;
}

void hpcm_inflate_begin(hpcm_inflate *s, hpcm_more more, void *user) {
    enum { DEFLATE = 8, LARGEST_WINDOW = 7, HAS_DICTIONARY = 32 };
    memset(s, 0, sizeof *s);
    s->more = more;
    s->user = user;
    s->adler = 1;
    uint32_t method = take(s, 8), flags = take(s, 8);
    if (method % 16 != DEFLATE || method / 16 > LARGEST_WINDOW || (256 * method + flags) % 31 || flags & HAS_DICTIONARY)
        s->is_broken = 1;
}

static void add_to_checksum(hpcm_inflate *s, const uint8_t *bytes, size_t size) {
    enum { TURN = 5552 }; /* bytes after which both sums still fit 32 bits */
    uint32_t low = s->adler & 0xFFFF, high = s->adler >> 16;
    for (size_t i = 0; i < size;) {
        size_t stop = size - i > TURN ? i + TURN : size;
        for (; i < stop; i++) {
            low += bytes[i];
            high += low;
        }
        low %= ADLER;
        high %= ADLER;
    }
    s->adler = high << 16 | low;
}

/* Up to a symbol or block further; returns how many bytes came. */
static size_t step(hpcm_inflate *s, uint8_t *bytes, size_t room) {
    size_t made = 0;
    if (s->repeated) {
        for (; s->repeated && made < room; s->repeated--)
            put(s, s->window[(s->total - s->distance) % HPCM_WINDOW], bytes + made++);
    } else if (s->block == HPCM_BETWEEN) {
        if (s->is_last) s->is_broken = 1; /* it has ended */
        else begin_block(s);
    } else if (s->block == HPCM_STORED) {
        for (; s->stored && made < room && !s->is_broken; s->stored--) put(s, (uint8_t)take(s, 8), bytes + made++);
        if (!s->stored) s->block = HPCM_BETWEEN;
    } else {
        uint32_t symbol = take_symbol(s, &s->literals);
        if (symbol < END) put(s, (uint8_t)symbol, bytes + made++);
        else if (symbol == END) s->block = HPCM_BETWEEN;
        else take_match(s, symbol);
    }
    return made;
}

int hpcm_inflate_read(hpcm_inflate *s, uint8_t *bytes, size_t size) {
    size_t made = 0;
    while (made < size && !s->is_broken) made += step(s, bytes + made, size - made);
    if (s->is_broken) return 0;
    add_to_checksum(s, bytes, size);
    return 1;
}

int hpcm_inflate_end(hpcm_inflate *s) {
    uint8_t more;
    while (!s->is_broken && !(s->is_last && s->block == HPCM_BETWEEN && !s->repeated))
        if (step(s, &more, 1)) return 0;
    take(s, s->count % 8);
    uint32_t adler = 0;
    for (int i = 0; i < 4; i++) adler = adler << 8 | take(s, 8);
    return !s->is_broken && adler == s->adler;
}
