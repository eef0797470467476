#include "mixing.h"

#include <stdlib.h>

/* ---- the arithmetic coder ----------------------------------------------------------------------------------------------- */

static void put(arithmetic *a, uint8_t byte) {
    if (a->count == a->room) {
        size_t room = a->room ? a->room + a->room / 2 : 4096;
        uint8_t *bytes = realloc(a->bytes, room);
        if (!bytes) {
            a->no_memory = 1;
            return;
        }
        a->bytes = bytes;
        a->room = room;
    }
    a->bytes[a->count++] = byte;
}

void hpcm_shift_out(arithmetic *a) {
    if (a->low < 0xFF000000u || a->low > UINT32_MAX) {
        uint8_t carry = (uint8_t)(a->low >> 32);
        put(a, (uint8_t)(a->kept + carry));
        for (; a->waiting > 1; a->waiting--) put(a, (uint8_t)(0xFF + carry));
        a->waiting = 0;
        a->kept = (uint8_t)(a->low >> 24);
    }
    a->waiting++;
    a->low = (a->low & 0xFFFFFF) << 8;
}

void hpcm_begin_encoding(arithmetic *a) {
    *a = (arithmetic){.range = UINT32_MAX, .waiting = 1}; /* the coder's first byte is 0, and makes way for another */
}

hpcm_status hpcm_finish_encoding(arithmetic *a, uint8_t first, uint8_t **payload, size_t *size) {
    for (int i = 0; i < 5; i++) hpcm_shift_out(a);
    if (a->no_memory) {
        hpcm_drop_encoding(a);
        return HPCM_NO_MEMORY;
    }
    while (a->count > 1 && !a->bytes[a->count - 1]) a->count--;
    a->bytes[0] = first;
    *payload = a->bytes;
    *size = a->count;
    return HPCM_OK;
}

void hpcm_drop_encoding(arithmetic *a) {
    free(a->bytes);
    a->bytes = 0;
}

int hpcm_begin_decoding(arithmetic *a, const uint8_t *payload, size_t size) {
    if (!size || (size > 1 && !payload[size - 1])) return 0;
    *a = (arithmetic){.range = UINT32_MAX, .from = payload, .size = size, .next = 1};
    for (int i = 0; i < 4; i++) a->code = a->code << 8 | next_byte(a);
    return 1;
}

int hpcm_finish_decoding(const arithmetic *a) {
    return a->next >= a->size;
}

/* ---- decisions ------------------------------------------------------------------------------------------------------------ */

/* squash(x) = 2^16 / (1 + e^(-x/256)), and stretch is its inverse in the middle of each 4096th. */
void hpcm_make_tables(logistic *tables) {
    const uint64_t one = (uint64_t)1 << 40, ratio = 0xFF007F; /* e^(-1/256), of 2^24 */
    uint64_t power = one;
    int32_t x = 0;
    for (int32_t i = 0; i < SQUASHED / 2; i++) {
        uint64_t value = ((uint64_t)1 << 56) / (one + power);
        if (value > UINT16_MAX) value = UINT16_MAX;
        tables->squash[SQUASHED / 2 + i] = (uint16_t)value;
        tables->squash[SQUASHED / 2 - i] = (uint16_t)(65536 - value);
        power = (power >> 8) * ratio >> 16;
    }
    tables->squash[0] = tables->squash[1];
    for (int32_t i = 0; i < STRETCHED; i++) {
        while (x < SQUASHED - 1 && tables->squash[x] < 16 * i + 8) x++;
        tables->stretch[i] = (int16_t)(x - SQUASHED / 2);
    }
    for (int32_t n = 0; n <= PROBABILITY_COUNT; n++) tables->rate[n] = 65536 * 2 / (2 * n + 3);
}

void hpcm_reset_probabilities(uint32_t *probabilities, size_t count) {
    for (size_t i = 0; i < count; i++) probabilities[i] = 1u << 31;
}

void hpcm_reset_mixers(mixer *mixers, size_t count) {
    for (size_t i = 0; i < count; i++)
        for (int input = 0; input < INPUTS; input++) mixers[i][input] = 65536 * 3 / 2 / INPUTS;
}

void hpcm_reset_maps(const logistic *tables, knots *maps, size_t count) {
    for (size_t i = 0; i < count; i++)
        for (int32_t knot = 0; knot < KNOTS; knot++) {
            int32_t x = (knot - KNOTS / 2) * (SQUASHED / (KNOTS - 1));
            maps[i][knot] = (uint16_t)squash(tables, clamped(x, 1 - SQUASHED / 2, SQUASHED / 2 - 1));
        }
}
