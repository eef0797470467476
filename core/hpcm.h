/* libhpcm: the exact codec. A tile's pixels <-> latents <-> bytes, the same integers on every machine.
 *
 *     encode:   pixels --hpcm_analyse--> y --hpcm_encode--> payload
 *     decode:   payload --hpcm_decode--> y_hat --hpcm_synthesise--> pixels
 *
 * The container, tiles and colours are the caller's. So is memory for results, unless a function says otherwise.
 *
 * Shapes are [rows][columns][channels], rows one after another without gaps. y [h][w][M] has one place for 16 x 16
 * pixels, z [h/4][w/4][N] one for 64 x 64. Where z takes part h and w must be multiples of 4.
 *
 * A model may be used by several threads at once. Every function that can fail gives a status.
 *
 * Any bytes may be a payload, and any numbers a model's arrays or configuration: they are refused, or give results that
 * are the same everywhere. So do any floats as pixels or latents. Pixels / peak are clamped to -65536 to 65536; NaN is 0.
 * Symbols to be encoded are clamped to -2^30 to 2^30, and what layers read to their limits; NaN is the lowest of them.
 */
#ifndef HPCM_H
#define HPCM_H

#include <stddef.h>
#include <stdint.h>

#include "status.h"

#ifdef __cplusplus
extern "C" {
#endif

#define HPCM_API_VERSION 2
#define HPCM_STAGES 4        /* of a transform, at most */
#define HPCM_PARTS 3         /* of a payload: one for each scale */
#define HPCM_MAX_SIDE 1024   /* of y, in places */

typedef enum { HPCM_INT8, HPCM_INT16, HPCM_INT32, HPCM_FLOAT16, HPCM_FLOAT32 } hpcm_type;

/* An array as it stands in a weights file. */
typedef struct {
    const char *name;
    const void *data; /* as many numbers as the shape has, aligned for their type */
    int64_t shape[4];
    int32_t dimensions; /* 0 to 4 */
    int32_t type;       /* an hpcm_type */
} hpcm_array;

typedef enum { HPCM_CONV4, HPCM_CONV2, HPCM_UNSHUFFLE8 } hpcm_stem;

/* The fields of Config (src/hpcm/model/config.py) that a model without attention has. Truth values are 0 or 1. */
typedef struct {
    int32_t M, N;
    int32_t stem; /* an hpcm_stem */
    int32_t stages[4];                   /* of analysis, synthesis, hyper_analysis, hyper_synthesis: how many */
    int32_t blocks[4][HPCM_STAGES];      /* of each stage */
    int32_t widths[4][HPCM_STAGES];
    int32_t partial, ratio;
    int32_t prior_width;
    int32_t prior_coarse[3], prior_fine[3]; /* blocks before, after, tail */
    int32_t has_prior_fine;
    int32_t adaptor_blocks[3];
    int32_t steps[3];
    int32_t hierarchy;
    int32_t psi_is_context;  /* fusion "psi"; else "none" */
    int32_t context_net, refine;
    int32_t released_placement;
    int32_t paired_gains;
    int32_t levels;
} hpcm_config;

typedef struct hpcm_model hpcm_model;

HPCM_API int hpcm_api_version(void);

/* The names of the kernels that this machine can run, best first, separated by spaces. */
HPCM_API const char *hpcm_kernels(void);

/* Makes a model of a weights file's arrays, which aren't needed afterwards. hpcm_model_free frees it.
 *
 * arrays: the parameters, by name as in the weights file, and the entropy coder's `tables.scales` [count],
 *   `tables.radius` [count] and `tables.frequencies` [sum of 2 * radius + 2].
 * threads: that compute, 1 or more. No thread is started for 1.
 * kernels: the name of those to use. If it is null the environment's HPCM_KERNELS chooses, else the best are used.
 *   Kernels are checked once in a process, by fixed inputs: those that give wrong results are refused.
 * message: HPCM_MESSAGE bytes that get the reason of HPCM_BAD_MODEL (with the name of the array) and HPCM_BAD_KERNELS. */
HPCM_API hpcm_status hpcm_model_create(const hpcm_config *config, const hpcm_array *arrays, size_t count,
                                       int32_t threads, const char *kernels, hpcm_model **model, char *message);
HPCM_API void hpcm_model_free(hpcm_model *model);

/* The name of the kernels that a model uses. */
HPCM_API const char *hpcm_model_kernels(const hpcm_model *model);

/* Pixels of `bytes` 1 (uint8), 2 (uint16) or 4 (float) each, [rows][columns][channels] with channels 1 or 3.
 * Rows begin `stride` bytes apart. x = pixel / peak; the last row and column are repeated up to 16 h x 16 w. */
typedef struct {
    const void *data;
    int64_t stride;
    int32_t bytes, rows, columns, channels;
    float peak;
} hpcm_pixels;

/* g_a: pixels -> y [h][w][M]. */
HPCM_API hpcm_status hpcm_analyse(hpcm_model *model, const hpcm_pixels *pixels, int32_t h, int32_t w, float *y,
                                  hpcm_check check, void *user);

/* What encoding a tile gives. `bytes` holds the parts, one after another; free it by hpcm_payload_free. */
typedef struct {
    uint8_t *bytes;
    size_t sizes[HPCM_PARTS];
    uint32_t checksums[HPCM_PARTS]; /* CRC-32 of all symbols up to the end of each part */
} hpcm_payload;

HPCM_API void hpcm_payload_free(hpcm_payload *payload);

/* y [h][w][M] -> payload, and y_hat [h][w][M] unless it is null.
 * z: [h/4][w/4][N], or null: then h_a makes it of y.
 * rows, columns: of y that touch the picture; what lies outside costs nothing and takes its mean. */
HPCM_API hpcm_status hpcm_encode(hpcm_model *model, const float *y, const float *z, int32_t h, int32_t w, int32_t level,
                                 int32_t rows, int32_t columns, float *y_hat, hpcm_payload *payload, hpcm_check check,
                                 void *user);

typedef struct {
    uint32_t checksum; /* CRC-32 of the symbols that were read */
    size_t words_left; /* of 4 bytes, in the payload */
} hpcm_decoded;

/* payload -> y_hat [h][w][M].
 * steps: how many are read, the hyper latent's counted; in the others every symbol is 0. */
HPCM_API hpcm_status hpcm_decode(hpcm_model *model, const uint8_t *payload, size_t size, int32_t steps, int32_t h,
                                 int32_t w, int32_t level, int32_t rows, int32_t columns, float *y_hat,
                                 hpcm_decoded *decoded, hpcm_check check, void *user);

/* payload -> what its first steps tell, in units of the quantisation step, not a number where nothing is known:
 * z [h/4][w/4][N], and y on the lattices of scales 1, 2, 3: [h/4][w/4][M], [h/2][w/2][M], [h][w][M] (without hierarchy
 * all [h][w][M]). Lattices of scales that the steps don't reach are left as they are, and may be null. */
HPCM_API hpcm_status hpcm_decode_known(hpcm_model *model, const uint8_t *payload, size_t size, int32_t steps, int32_t h,
                                       int32_t w, int32_t level, int32_t rows, int32_t columns, float *z,
                                       float *const y[3], hpcm_decoded *decoded, hpcm_check check, void *user);

/* y_hat [h][w][M] from what is known, as hpcm_decode_known gives it; what isn't takes its mean. */
HPCM_API hpcm_status hpcm_fill(hpcm_model *model, const float *z, const float *const y[3], int32_t h, int32_t w,
                               int32_t level, float *y_hat, hpcm_check check, void *user);

/* g_s: y_hat [h][w][M] -> the pixels of a box (left, top, right, bottom) of the 16 h x 16 w, [rows][columns][channels].
 * bytes: of a sample, 1 or 2. channels: 3, or 1 for the mean of the three. */
HPCM_API hpcm_status hpcm_synthesise(hpcm_model *model, const float *y_hat, int32_t h, int32_t w, const int32_t box[4],
                                     int32_t bytes, int32_t channels, void *pixels, hpcm_check check, void *user);

/* ---- residuals ---------------------------------------------------------------------------------------------------- */

/* The exact samples of a tile, or samples within a bound, beside a base that both sides know: the codec's own pixels.
 * core/residual.c describes the payload. Integers alone, in one thread; results are the same on every machine.
 *
 * source, base, pixels: [rows][columns][channels] of uint8 (bit_depth 8) or uint16 (9 to 16), without gaps, none above
 *   2^bit_depth - 1. rows, columns: 1 to 4096. channels: 1 or 3.
 * max_error: 0 is lossless; with more, below 2^(bit_depth - 1), no sample is off by more.
 * payload: of *size bytes, 1 or more; free it by hpcm_residual_free. Null unless the status is HPCM_OK.
 * check: is called for every row; may be null.
 *
 * A call takes 8 MB and 0.9 kB for each column of three channels, and the encoder its payload. A payload that
 * was damaged gives other pixels, or HPCM_BAD_PAYLOAD; then those of the rows that were decoded are there. */
HPCM_API hpcm_status hpcm_residual_encode(const void *source, const void *base, int32_t rows, int32_t columns,
                                          int32_t channels, int32_t bit_depth, int32_t max_error, uint8_t **payload,
                                          size_t *size, hpcm_check check, void *user);
HPCM_API void hpcm_residual_free(uint8_t *payload);
HPCM_API hpcm_status hpcm_residual_decode(const uint8_t *payload, size_t size, const void *base, int32_t rows,
                                          int32_t columns, int32_t channels, int32_t bit_depth, int32_t max_error,
                                          void *pixels, hpcm_check check, void *user);

/* Coefficients of a DCT of the residual, with loss, for the eye; core/residual_dct.c describes the payload. Arguments,
 * results and what holds for all machines as above, but
 *
 * step: 1 to 65535, of luma's lowest coefficients in flat blocks, in sixteenths of an 8-bit sample; for samples of more bits
 *   times 2^(bit_depth - 8).
 * check: is called for every 8 rows.
 *
 * A call takes 4 MB and 1.8 kB for each 8 columns of three channels, and the encoder its payload. */
HPCM_API hpcm_status hpcm_dct_encode(const void *source, const void *base, int32_t rows, int32_t columns, int32_t channels,
                                     int32_t bit_depth, int32_t step, uint8_t **payload, size_t *size, hpcm_check check,
                                     void *user);
HPCM_API hpcm_status hpcm_dct_decode(const uint8_t *payload, size_t size, const void *base, int32_t rows, int32_t columns,
                                     int32_t channels, int32_t bit_depth, int32_t step, void *pixels, hpcm_check check,
                                     void *user);

/* ---- the entropy coder by itself ---------------------------------------------------------------------------------- */

typedef struct hpcm_tables hpcm_tables;
typedef struct hpcm_encoder hpcm_encoder;
typedef struct hpcm_decoder hpcm_decoder;

/* scales are ascending. A table of radius r has 2 r + 2 frequencies, the last for escapes, that add up to 2^16. */
HPCM_API hpcm_status hpcm_tables_create(const float *scales, const int32_t *radius, int32_t count,
                                        const int32_t *frequencies, size_t total, hpcm_tables **tables);
HPCM_API void hpcm_tables_free(hpcm_tables *tables);

/* A stack: symbols are pushed in the order in which a decoder asks for them, and coded by hpcm_encoder_finish. */
HPCM_API hpcm_status hpcm_encoder_create(const hpcm_tables *tables, hpcm_encoder **encoder);
HPCM_API void hpcm_encoder_free(hpcm_encoder *encoder);
HPCM_API hpcm_status hpcm_encoder_push(hpcm_encoder *encoder, const int32_t *symbols, const uint8_t *indexes,
                                       size_t count);
/* A part ends after what was pushed so far. */
HPCM_API hpcm_status hpcm_encoder_cut(hpcm_encoder *encoder);
/* The bytes of all parts, one after another, one more than there are cuts; `sizes` has room for as many. They are the
 * encoder's, until it is freed. */
HPCM_API hpcm_status hpcm_encoder_finish(hpcm_encoder *encoder, const uint8_t **bytes, size_t *sizes);

/* The payload is copied. */
HPCM_API hpcm_status hpcm_decoder_create(const hpcm_tables *tables, const uint8_t *payload, size_t size,
                                         hpcm_decoder **decoder);
HPCM_API void hpcm_decoder_free(hpcm_decoder *decoder);
HPCM_API hpcm_status hpcm_decoder_pop(hpcm_decoder *decoder, const uint8_t *indexes, size_t count, int32_t *symbols);
HPCM_API size_t hpcm_decoder_words_left(const hpcm_decoder *decoder);

/* CRC-32 (that of zlib) of symbols as little-endian int32; `start` is that of those before, or 0. */
HPCM_API uint32_t hpcm_checksum(const int32_t *symbols, size_t count, uint32_t start);

#ifdef __cplusplus
}
#endif
#endif
