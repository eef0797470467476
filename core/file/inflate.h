/* A zlib stream (RFC 1950) of deflated bytes (RFC 1951), decoded bit by bit in 42 kB of memory. */
#ifndef HPCM_INFLATE_H
#define HPCM_INFLATE_H

#include <stddef.h>
#include <stdint.h>

enum { HPCM_WINDOW = 1 << 15, HPCM_CODE_BITS = 15, HPCM_FAST_BITS = 10, HPCM_MOST_SYMBOLS = 288 };

/* Gives more of the stream; 0 where there is no more. Pieces may be empty. */
typedef int (*hpcm_more)(void *user, const uint8_t **data, size_t *size);

/* A Huffman code. */
typedef struct {
    uint16_t fast[1 << HPCM_FAST_BITS];   /* by the next bits: symbol * 16 + length of its code; 0 for longer codes */
    uint16_t counts[HPCM_CODE_BITS + 1];  /* of codes, by length */
    uint16_t symbols[HPCM_MOST_SYMBOLS];  /* in the order of their codes */
} hpcm_huffman;

typedef struct {
    hpcm_more more;
    void *user;
    const uint8_t *data;
    size_t left;       /* of `data` */
    uint64_t bits;     /* read, but not used, the lowest first */
    int32_t count;     /* how many */
    int is_broken;     /* what comes isn't such a stream, or it is cut */
    int is_last;       /* the block is */
    int is_fixed;      /* the codes are those that RFC 1951 fixes */
    enum { HPCM_BETWEEN, HPCM_STORED, HPCM_CODED } block;
    uint32_t repeated; /* bytes that are still to be copied from `distance` before */
    uint32_t distance;
    uint32_t stored;   /* bytes of a stored block that are still to come */
    uint32_t adler;
    uint64_t total;    /* bytes that came */
    hpcm_huffman literals, distances;
    uint8_t window[HPCM_WINDOW];
} hpcm_inflate;

void hpcm_inflate_begin(hpcm_inflate *stream, hpcm_more more, void *user);
/* The next `size` bytes; 0 where there aren't as many, or the stream is damaged. */
int hpcm_inflate_read(hpcm_inflate *stream, uint8_t *bytes, size_t size);
/* Whether the stream ends here, with the right checksum. */
int hpcm_inflate_end(hpcm_inflate *stream);

#endif
