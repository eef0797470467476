#include "container.h"

#include <stdlib.h>
#include <string.h>

#include "../checksum.h"
#include "decode.h"
#include "depth.h"
#include "wire.h"

enum {
    VERSION = 2,
    MAX_SIDE = 1 << 24,
    LEAST_BITS = 8,
    MOST_BITS = 16,
    MAX_LEVEL = 63,
    MAX_METADATA = 1 << 24,
    MAX_ANCILLARY = 26,
    MAX_RESIDUAL_BYTES = 4,
    MAX_RESIDUAL_STEP = 65535,
    ALPHA_SLACK = 1024,
    LEAST_TILE = 8, /* exponents of a tile's side */
    MOST_TILE = 16,
    CRC_BYTES = 4,
    SHORT_CRC_BYTES = 2
};

enum { GREY = 1, PROGRESSIVE = 2, ICC = 4, EXIF = 8, ALPHA = 16, ANCILLARY = 32, RESIDUAL = 64, KNOWN_FLAGS = 127 };
enum { QUALITY_MAP = 128 }; /* reserved */

static const uint64_t MAX_PIXELS = (uint64_t)1 << 32;

/* ---- head ------------------------------------------------------------------------------------------------------------- */

static void read_magic(hpcm_wire *wire) {
    size_t there = wire->size < HPCM_SIGNATURE_BYTES ? wire->size : HPCM_SIGNATURE_BYTES;
    if (memcmp(wire->bytes, HPCM_MAGIC, there)) {
        hpcm_refuse(wire, HPCM_BAD_FORMAT, "no .hpcm file: it begins with other bytes than 89 48 50 43");
        return;
    }
    hpcm_take_bytes(wire, HPCM_SIGNATURE_BYTES, "magic");
}

static uint64_t read_flags(hpcm_wire *wire) {
    uint8_t version = hpcm_take_byte(wire, "version");
    if (wire->status == HPCM_OK && version != VERSION)
        hpcm_refuse(wire, HPCM_BAD_FORMAT, "format version %d found, this libhpcm reads version %d; try a newer one", version,
                    VERSION);
    uint64_t flags = hpcm_take_varint(wire, "flags");
    if (flags & QUALITY_MAP)
        hpcm_refuse(wire, HPCM_BAD_FORMAT, "the file has a quality map, which this libhpcm doesn't read; try a newer one");
    if (flags & ~(uint64_t)KNOWN_FLAGS)
        hpcm_refuse(wire, HPCM_BAD_FORMAT, "flags are %#llx; version %d of the .hpcm format has %#x", (unsigned long long)flags,
                    VERSION, KNOWN_FLAGS);
    return flags;
}

static int is_small(char letter) {
    return letter >= 'a' && letter <= 'z';
}

static int is_digit(char letter) {
    return letter >= '0' && letter <= '9';
}

int hpcm_is_model_name(const char *name, size_t length) {
    for (size_t i = 0; i < length; i++) {
        int is_sign = name[i] == '.' || name[i] == '_' || name[i] == '-';
        if (!is_small(name[i]) && !is_digit(name[i]) && !(is_sign && i > 0)) return 0;
    }
    return length > 0 && length <= HPCM_MAX_NAME;
}

static void read_name(hpcm_wire *wire, hpcm_header *header) {
    size_t length = hpcm_take_byte(wire, "length of the model name");
    const char *name = (const char *)hpcm_take_bytes(wire, length, "model name");
    if (!name) return;
    if (!hpcm_is_model_name(name, length)) {
        hpcm_refuse(wire, HPCM_BAD_FORMAT, "the model's name isn't 1 to 32 of a-z 0-9 ._- and no ._- in front");
        return;
    }
    memcpy(header->model, name, length);
}

static void read_fields(hpcm_wire *wire, hpcm_header *header) {
    uint64_t width = hpcm_take_varint(wire, "width");
    hpcm_check_range(wire, "width", width, 1, MAX_SIDE);
    uint64_t height = hpcm_take_varint(wire, "height");
    hpcm_check_range(wire, "height", height, 1, MAX_SIDE);
    header->bit_depth = hpcm_take_byte(wire, "bit depth");
    hpcm_check_range(wire, "bit depth", (uint64_t)header->bit_depth, LEAST_BITS, MOST_BITS);
    read_name(wire, header);
    const uint8_t *hash = hpcm_take_bytes(wire, sizeof header->model_hash, "model hash");
    if (hash) memcpy(header->model_hash, hash, sizeof header->model_hash);
    header->level = hpcm_take_byte(wire, "quality level");
    hpcm_check_range(wire, "quality level", (uint64_t)header->level, 0, MAX_LEVEL);
    int exponent = hpcm_take_byte(wire, "tile side");
    hpcm_check_range(wire, "exponent of the tile side", (uint64_t)exponent, LEAST_TILE, MOST_TILE);
    hpcm_check_range(wire, "number of pixels", width * height, 1, MAX_PIXELS);
    if (wire->status != HPCM_OK) return;
    header->width = (int32_t)width;
    header->height = (int32_t)height;
    header->tile_side = 1 << exponent;
}

/* The data of a chunk whose type, at `start`, has been read. */
static void read_data(hpcm_wire *wire, hpcm_header *header, size_t start, char type, uint64_t limit) {
    uint64_t size = hpcm_take_varint(wire, "length of a chunk");
    hpcm_check_range(wire, "length of a chunk", size, 0, limit);
    const uint8_t *data = hpcm_take_bytes(wire, size, "a chunk");
    size_t end = wire->at;
    uint32_t crc = hpcm_take_number(wire, CRC_BYTES, "CRC of a chunk");
    if (wire->status != HPCM_OK) return;
    if (hpcm_crc32(wire->bytes + start, end - start, 0) != crc) {
        hpcm_refuse(wire, HPCM_CORRUPT, "the chunk \"%c\" was changed: its CRC differs; fetch the file again", type);
        return;
    }
    header->chunk_types[header->chunk_count] = type;
    header->chunks[header->chunk_count++] = (hpcm_range){(size_t)(data - wire->bytes), (size_t)size};
}

static void read_chunk(hpcm_wire *wire, hpcm_header *header, char type, uint64_t limit) {
    size_t start = wire->at;
    uint8_t found = hpcm_take_byte(wire, "type of a chunk");
    if (wire->status == HPCM_OK && found != (uint8_t)type)
        hpcm_refuse(wire, HPCM_BAD_FORMAT, "a chunk begins with the byte %#x instead of \"%c\"; the file is damaged", found, type);
    read_data(wire, header, start, type, limit);
}

static uint64_t alpha_limit(const hpcm_header *header) {
    return 2 * hpcm_sample_bytes(header->bit_depth) * (uint64_t)header->width * (uint64_t)header->height + ALPHA_SLACK;
}

/* What the chunk that was read last says of the residual layer. */
static void read_residual(hpcm_wire *wire, hpcm_header *header) {
    if (wire->status != HPCM_OK) return;
    hpcm_range data = header->chunks[header->chunk_count - 1];
    hpcm_wire inside = {.bytes = wire->bytes + data.begin, .size = data.size, .message = wire->message};
    uint8_t kind = hpcm_take_byte(&inside, "kind of the residual layer");
    uint64_t number = hpcm_take_varint(&inside, "number of the residual layer");
    if (inside.status == HPCM_TRUNCATED) {
        hpcm_refuse(wire, HPCM_BAD_FORMAT, "the residual chunk has %zu bytes, which is too short", data.size);
        return;
    }
    if (inside.status == HPCM_OK && inside.at < inside.size)
        hpcm_refuse(&inside, HPCM_BAD_FORMAT, "the residual chunk has %zu bytes, which is too long", data.size);
    hpcm_check_range(&inside, "kind of the residual layer", kind, HPCM_SAMPLES, HPCM_COEFFICIENTS);
    if (kind == HPCM_COEFFICIENTS) hpcm_check_range(&inside, "step of the residual layer", number, 1, MAX_RESIDUAL_STEP);
    else hpcm_check_range(&inside, "largest error of the residual layer", number, 0, (1u << (header->bit_depth - 1)) - 1);
    if (kind == HPCM_BESIDE_GREY && header->passes > 1)
        hpcm_refuse(&inside, HPCM_BAD_FORMAT, "the file has a residual layer beside grey and is progressive; it can't be both");
    wire->status = inside.status;
    header->has_residual = 1;
    header->residual = (hpcm_residual)kind;
    header->residual_number = (int32_t)number;
}

static void read_ancillary(hpcm_wire *wire, hpcm_header *header) {
    uint8_t count = hpcm_take_byte(wire, "number of ancillary chunks");
    hpcm_check_range(wire, "number of ancillary chunks", count, 1, MAX_ANCILLARY);
    char before = 0;
    for (int i = 0; i < count && wire->status == HPCM_OK; i++) {
        size_t start = wire->at;
        char type = (char)hpcm_take_byte(wire, "type of an ancillary chunk");
        if (wire->status == HPCM_OK && (!is_small(type) || type <= before))
            hpcm_refuse(wire, HPCM_BAD_FORMAT, "an ancillary chunk is of type %#x; allowed is each of a to z once, in this order",
                        (unsigned)(uint8_t)type);
        read_data(wire, header, start, type, MAX_METADATA);
        before = type;
    }
}

static void read_head(hpcm_wire *wire, hpcm_header *header) {
    *header = (hpcm_header){0};
    read_magic(wire);
    uint64_t flags = read_flags(wire);
    header->is_grey = (flags & GREY) != 0;
    header->passes = flags & PROGRESSIVE ? HPCM_PASSES : 1;
    read_fields(wire, header);
    if (wire->status != HPCM_OK) return;
    if (flags & ICC) read_chunk(wire, header, 'I', MAX_METADATA);
    if (flags & EXIF) read_chunk(wire, header, 'E', MAX_METADATA);
    if (flags & ALPHA) read_chunk(wire, header, 'A', alpha_limit(header));
    if (flags & RESIDUAL) {
        read_chunk(wire, header, 'R', MAX_RESIDUAL_BYTES);
        read_residual(wire, header);
    }
    if (flags & ANCILLARY) read_ancillary(wire, header);
}

/* ---- table ------------------------------------------------------------------------------------------------------------ */

/* Of a part's checksum and of its CRC: half of a CRC-32 before the last pass, then all. */
static int crc_size(const hpcm_container *container, size_t part) {
    return part + 1 < (size_t)container->base_parts ? SHORT_CRC_BYTES : CRC_BYTES;
}

static uint64_t crc_sizes(const hpcm_container *container) {
    uint64_t sum = 0;
    for (int part = 0; part < container->parts; part++) sum += (uint64_t)crc_size(container, (size_t)part);
    return sum;
}

/* Bytes that all entries have at least: a length of 0 takes one. */
static uint64_t least_table(const hpcm_container *container) {
    return (uint64_t)container->tiles * ((uint64_t)container->parts + crc_sizes(container));
}

/* Bytes of the CRCs behind the parts of all tiles. */
static uint64_t all_crcs(const hpcm_container *container) {
    return (uint64_t)container->tiles * crc_sizes(container);
}

static void begin_table(hpcm_container *container) {
    const hpcm_header *header = &container->header;
    const hpcm_tiling tiling = {header->width, header->height, header->tile_side};
    int is_beside_grey = header->has_residual && header->residual == HPCM_BESIDE_GREY;
    container->tiles = hpcm_tiles_across(&tiling) * hpcm_tiles_down(&tiling);
    container->base_parts = is_beside_grey ? 0 : header->passes;
    container->parts = container->base_parts + header->has_residual;
    container->table_size = (size_t)container->tiles * (size_t)container->parts;
}

static void read_entries(hpcm_wire *wire, hpcm_container *container) {
    if (!container->table) {
        if (!hpcm_require(wire, least_table(container), "the table of tiles")) return;
        container->table = calloc(container->table_size, sizeof *container->table);
        container->crcs = calloc((size_t)container->tiles, sizeof *container->crcs);
        if (!container->table || !container->crcs) {
            hpcm_refuse(wire, HPCM_NO_MEMORY, "no memory for the table of tiles");
            return;
        }
    }
    while (container->entries < container->table_size) {
        hpcm_part *entry = &container->table[container->entries];
        uint64_t size = hpcm_take_varint(wire, "length of a part");
        int bytes = crc_size(container, container->entries % (size_t)container->parts);
        entry->checksum = hpcm_take_number(wire, bytes, "checksum of a part");
        if (wire->status != HPCM_OK) return;
        if (size > SIZE_MAX / 2) {
            hpcm_refuse(wire, HPCM_NO_MEMORY, "a part is longer than this machine's memory");
            return;
        }
        entry->payload.size = (size_t)size;
        container->payloads += size;
        container->entries++;
        container->at = wire->at; /* entries that have come as a whole aren't read again */
    }
}

/* ---- parts ------------------------------------------------------------------------------------------------------------ */

static void read_parts(hpcm_wire *wire, hpcm_container *container) {
    size_t tiles = (size_t)container->tiles;
    while (container->parts_there < container->table_size) {
        size_t tile = container->parts_there % tiles, part = container->parts_there / tiles;
        hpcm_part *entry = &container->table[tile * (size_t)container->parts + part];
        int bytes = crc_size(container, part);
        if (!hpcm_require(wire, (uint64_t)entry->payload.size + (uint64_t)bytes, "a part")) return;
        entry->payload.begin = wire->at;
        const uint8_t *payload = hpcm_take_bytes(wire, entry->payload.size, "a part");
        uint32_t crc = hpcm_crc32(payload, entry->payload.size, container->crcs[tile]);
        uint32_t mask = bytes == CRC_BYTES ? UINT32_MAX : 0xFFFF;
        if (hpcm_take_number(wire, bytes, "CRC of a part") != (crc & mask)) {
            hpcm_refuse(wire, HPCM_CORRUPT, "tile %zu of %zu or the header was changed: a CRC differs; fetch the file again", tile,
                        tiles);
            return;
        }
        container->crcs[tile] = crc;
        container->parts_there++;
        container->at = wire->at;
    }
    if (wire->at < wire->size)
        hpcm_refuse(wire, HPCM_BAD_FORMAT, "%zu bytes follow the end of the file; cut them off", wire->size - wire->at);
}

/* ---- the whole -------------------------------------------------------------------------------------------------------- */

static void read_more(hpcm_wire *wire, hpcm_container *container) {
    if (!container->has_head) {
        read_head(wire, &container->header);
        if (wire->status != HPCM_OK) return;
        container->has_head = 1;
        container->at = container->table_begin = wire->at;
        begin_table(container);
    }
    if (!container->has_table) {
        read_entries(wire, container);
        if (wire->status != HPCM_OK) return;
        container->has_table = 1;
        container->table_end = container->at;
        uint32_t crc = hpcm_crc32(container->bytes, container->at, 0);
        for (int32_t tile = 0; tile < container->tiles; tile++) container->crcs[tile] = crc;
    }
    read_parts(wire, container);
}

static hpcm_status keep(hpcm_container *container, const uint8_t *bytes, size_t size) {
    if (size > SIZE_MAX / 2 - container->size) return HPCM_NO_MEMORY;
    size_t needed = container->size + size;
    if (needed > container->room) {
        size_t room = container->room ? 2 * container->room : 4096;
        if (room < needed) room = needed;
        uint8_t *grown = realloc(container->bytes, room);
        if (!grown) return HPCM_NO_MEMORY;
        container->bytes = grown;
        container->room = room;
    }
    memcpy(container->bytes + container->size, bytes, size);
    container->size = needed;
    return HPCM_OK;
}

hpcm_status hpcm_container_append(hpcm_container *container, const uint8_t *bytes, size_t size) {
    container->received += size;
    if (container->status != HPCM_OK || size == 0) return container->status;
    container->status = keep(container, bytes, size);
    if (container->status != HPCM_OK) container->message[0] = 0; /* it may say what is still missing */
    if (container->status != HPCM_OK || container->size < container->required) return container->status;
    hpcm_wire wire = {.bytes = container->bytes, .size = container->size, .at = container->at, .message = container->message};
    read_more(&wire, container);
    container->required = wire.required;
    container->status = wire.status == HPCM_TRUNCATED ? HPCM_OK : wire.status;
    return container->status;
}

/* container.py asks for the whole table and all parts before it reads them: where they aren't there, that is said first. */
static int is_short(const hpcm_container *container) {
    if (!container->has_head) return container->status == HPCM_OK;
    if (container->received - container->table_begin < least_table(container) + all_crcs(container)) return 1;
    if (!container->has_table) return container->status == HPCM_OK;
    return container->received - container->table_end < container->payloads + all_crcs(container);
}

hpcm_status hpcm_container_finish(hpcm_container *container) {
    if (!is_short(container)) return container->status;
    hpcm_wire wire = {.message = container->message};
    hpcm_refuse(&wire, HPCM_TRUNCATED, "cut short or damaged: the file ends after %llu bytes; fetch it again",
                (unsigned long long)container->received);
    container->status = HPCM_TRUNCATED;
    return HPCM_TRUNCATED;
}

int hpcm_parts_of(const hpcm_container *container, int32_t tile) {
    size_t tiles = (size_t)container->tiles;
    if (!container->has_table) return 0;
    return (int)(container->parts_there / tiles) + ((size_t)tile < container->parts_there % tiles);
}

int hpcm_is_complete(const hpcm_container *container) {
    return container->has_table && container->parts_there == container->table_size;
}

const hpcm_range *hpcm_chunk_of(const hpcm_container *container, char type) {
    if (!container->has_head) return 0;
    for (int32_t i = 0; i < container->header.chunk_count; i++)
        if (container->header.chunk_types[i] == type) return &container->header.chunks[i];
    return 0;
}

void hpcm_container_free(hpcm_container *container) {
    free(container->bytes);
    free(container->table);
    free(container->crcs);
    *container = (hpcm_container){0};
}
