/* libhpcm reads .hpcm files: <hpcm/decode.h>.
 *
 *     hpcm_file *file;
 *     hpcm_info info = HPCM_INFO;
 *     hpcm_status status = hpcm_open("photo.hpcm", NULL, &file);
 *     if (status == HPCM_OK) status = hpcm_get_info(file, &info);
 *     uint8_t *pixels = malloc((size_t)info.width * info.height * 3);
 *     hpcm_request request = HPCM_REQUEST;
 *     request.bit_depth = 8;
 *     request.channels = 3;
 *     if (status == HPCM_OK) status = hpcm_read(file, &request, pixels, (size_t)info.width * 3);
 *     if (status != HPCM_OK) fprintf(stderr, "%s\n", hpcm_message(file));
 *     hpcm_close(file);
 *
 * A file object belongs to one thread at a time; several may be used at once. Structs begin with their size, which the
 * macros HPCM_... set: later releases add fields at the end. Any bytes may be a file: they are refused, or decoded to
 * the same pixels on every CPU. Memory is taken for what was found right, not for what a file claims.
 *
 * ---- weights ----
 *
 * A .hpcm file names its model, and needs its weights to be decoded, not for what hpcm_get_info and hpcm_get_metadata
 * tell. They are NAME.safetensors, NAME being the model's, in the first of these folders where that file has the hash
 * that the .hpcm file says:
 *
 *     1. hpcm_settings.weights
 *     2. $HPCM_WEIGHTS, or if it isn't set $XDG_DATA_HOME/hpcm, by default ~/.local/share/hpcm
 *     3. hpcm in each folder of $XDG_DATA_DIRS, by default /usr/local/share and /usr/share
 *     4. hpcm in the data folder of the prefix that the library was installed to
 *
 * A process keeps the model that it used last, also between files. */
#ifndef HPCM_DECODE_H
#define HPCM_DECODE_H

#include <stddef.h>
#include <stdint.h>

#include "status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes from the beginning of a file that tell whether it is a .hpcm file, of any version. */
#define HPCM_SIGNATURE_BYTES 4
HPCM_API int hpcm_is_file(const void *start, size_t size);

/* The release of the library, "1.2.3". */
HPCM_API const char *hpcm_version(void);

typedef struct hpcm_file hpcm_file;

typedef struct {
    size_t size;
    const char *weights; /* a folder that is looked into first, or a weights file; may be null */
    int32_t threads;     /* that compute, of which 256 are used at most; 0: one for each core */
    uint64_t max_pixels; /* of what is decoded; files that claim more are refused. 0: 2^28 */
} hpcm_settings;
#define HPCM_SETTINGS {sizeof(hpcm_settings), 0, 0, 0}

/* Opens a file: all of it is read and checked, none of it decoded. `settings` may be null.
 *
 * Unless there is no memory, *file is an object also where the status isn't HPCM_OK: hpcm_message says what is wrong, and
 * hpcm_close frees it. Of a file that is cut short (HPCM_TRUNCATED) it knows what is there, as hpcm_append does. */
HPCM_API hpcm_status hpcm_open(const char *path, const hpcm_settings *settings, hpcm_file **file);
/* The same of bytes in memory, which are copied. */
HPCM_API hpcm_status hpcm_open_memory(const void *data, size_t size, const hpcm_settings *settings, hpcm_file **file);

/* A file of which the bytes come bit by bit: hpcm_append gives them. */
HPCM_API hpcm_status hpcm_open_stream(const hpcm_settings *settings, hpcm_file **file);
/* More bytes, any number. HPCM_OK where they are right as far as can be told, whatever is still missing. After an error
 * no more are taken; what was right before can still be read. */
HPCM_API hpcm_status hpcm_append(hpcm_file *file, const void *data, size_t size);

HPCM_API void hpcm_close(hpcm_file *file); /* may be null */

/* What the last status that wasn't HPCM_OK means, as a line; "" if all were. Valid until the next call, or hpcm_close. */
HPCM_API const char *hpcm_message(const hpcm_file *file);

typedef enum {
    HPCM_LOSSY = 0,
    HPCM_REFINED, /* lossy, with a residual layer of coefficients */
    HPCM_NEAR_LOSSLESS,
    HPCM_LOSSLESS
} hpcm_loss;

typedef struct {
    size_t size;
    int32_t width, height;  /* pixels */
    int32_t channels;       /* 1: grey, 2: grey and alpha, 3: RGB, 4: RGB and alpha; alpha isn't premultiplied */
    int32_t bit_depth;      /* of a sample, 8 to 16 */
    int32_t is_progressive; /* 1 or 0 */
    int32_t loss;           /* an hpcm_loss */
    int32_t max_error;      /* the largest error of a sample; -1: unknown */
    int32_t level;          /* of the model's quality, 0 to 63 */
    int32_t tile_side, tiles;
    char model[33];
    uint8_t model_hash[8];
    /* How much has come: */
    int32_t parts;          /* of all tiles, if the whole file is there */
    int32_t parts_there;
    int32_t scales_there;   /* of the three of a progressive file, those that all tiles have; else 3 where all are there */
} hpcm_info;
#define HPCM_INFO {sizeof(hpcm_info), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, {0}, {0}, 0, 0, 0}

/* HPCM_TRUNCATED until the head is there: header, metadata and alpha. */
HPCM_API hpcm_status hpcm_get_info(hpcm_file *file, hpcm_info *info);

/* The data of a chunk by its type (docs/format.md): 'I' the ICC profile, 'E' EXIF ("Exif\0\0" and TIFF, without
 * orientation), 'x' XMP, 'c' cICP, ... Null, and *size 0, if the file has none or its head isn't there. It is
 * the file's, until hpcm_append or hpcm_close is called. */
HPCM_API const uint8_t *hpcm_get_metadata(const hpcm_file *file, char type, size_t *size);

/* What hpcm_read is asked for. */
typedef struct {
    size_t size;
    int32_t left, top, right, bottom; /* a box of the picture in pixels, right and bottom exclusive; all 0: the whole */
    int32_t reduction;  /* one pixel for each n x n, their mean: 1, 2, 4 ... 256; 0 is 1. More than 1 without a box only */
    int32_t scale;      /* of a progressive file 1 or 2: a coarse picture; 3: without a residual layer; 0: all there is */
    int32_t partial;    /* 1: what is missing of a file that was cut short is guessed, from the first part on */
    int32_t bit_depth;  /* of the samples that are wanted, 8 to 16; 0: the file's */
    int32_t channels;   /* 3: RGB, alpha is dropped; 4: RGB and alpha; 0: the file's */
    hpcm_check check;   /* may be null */
    void *user;
} hpcm_request;
#define HPCM_REQUEST {sizeof(hpcm_request), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}

/* Columns and rows of what is asked for. HPCM_BAD_ARGUMENT where that isn't in the picture, or can't be. */
HPCM_API hpcm_status hpcm_get_size(hpcm_file *file, const hpcm_request *request, int32_t *columns, int32_t *rows);

/* Decodes. `request` may be null: the whole picture as the file has it.
 *
 * pixels: [rows][columns][channels], uint8_t if the bit depth that is wanted is 8, else uint16_t. Rows begin `stride`
 *   bytes apart. Where the status isn't HPCM_OK some may have been written.
 *
 * HPCM_TRUNCATED: not all of the file is there, and `partial` is 0; or not even the first part is. */
HPCM_API hpcm_status hpcm_read(hpcm_file *file, const hpcm_request *request, void *pixels, size_t stride);

/* The largest reduction that leaves the picture no smaller than this, for thumbnails; 1 or more. */
HPCM_API int32_t hpcm_reduction_for(hpcm_file *file, int32_t columns, int32_t rows);

#ifdef __cplusplus
}
#endif
#endif
