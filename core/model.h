/* A model in memory: layers ready for the kernels, in the order in which networks apply them. */
#ifndef HPCM_MODEL_H
#define HPCM_MODEL_H

#include "ans.h"
#include "hpcm.h"
#include "kernels/kernels.h"
#include "threads.h"

enum { HPCM_GROUPS = 8, HPCM_MAX_STEPS = 20, HPCM_CELL = 8 };

/* Pixels for each place of y, and places of y for each of z, in either direction. */
enum { HPCM_LATENT_STRIDE = 16, HPCM_LATENTS_PER_Z = 4 };

/* A dense convolution: what of an input place goes into which sums; see kernels/kernels.h. */
typedef struct {
    int32_t inputs, outputs;
    int32_t side, stride, padding; /* of the kernel */
    int32_t channels;              /* inputs, made even: of a place of whole numbers */
    int32_t segments, length;
    int16_t *weights; /* in blocks */
    int32_t *bias;    /* [outputs, filled up to whole blocks] */
    float *unit;      /* [outputs] 2^exponent */
    float *scale;     /* [inputs] 2^input_bits */
    float limit;
    /* Inputs don't fit int16: they are split into low and high halves, whose sums are put together. A weights file may
     * ask for it, though `hpcm exact` makes no such layers for this library. */
    int wide;
} hpcm_dense;

typedef struct {
    int32_t channels;
    float *weights; /* [9][channels] */
    float *bias, *unit, *scale;
    float limit;
} hpcm_depthwise;

/* x + project(LeakyReLU(expand(spatial(x)))): PConvRB, whose 3x3 convolution is dense on the first channels, or
 * DWConvRB, where it is depthwise on all. */
typedef struct {
    int32_t width, convolved;
    int is_depthwise;
    hpcm_dense spatial, expand, project;
    hpcm_depthwise depthwise;
} hpcm_block;

typedef enum {
    HPCM_DENSE,     /* a convolution, of stride 1 or 2 */
    HPCM_DOUBLE,    /* a transposed convolution of stride 2: four outputs of `dense` for each place */
    HPCM_BLOCK,
    HPCM_UNSHUFFLE, /* cells of 8 x 8 pixels become channels */
    HPCM_SHUFFLE    /* and back */
} hpcm_kind;

typedef struct {
    hpcm_kind kind;
    hpcm_dense dense;
    hpcm_block block;
} hpcm_operation;

typedef struct {
    int32_t count;
    hpcm_operation *operations;
} hpcm_network;

typedef struct {
    hpcm_network before, after, tail;
    hpcm_dense head;
} hpcm_prior;

/* Factors at a quality level. */
typedef struct {
    const float *y, *y_inverse, *z, *z_inverse; /* [M], [N] */
} hpcm_gains;

struct hpcm_model {
    hpcm_config config;
    const hpcm_kernel_set *kernels;
    hpcm_runtime *runtime;
    hpcm_tables *tables;
    hpcm_network analysis, synthesis, hyper_analysis, hyper_synthesis;
    int32_t step_count;
    hpcm_network adaptors[HPCM_MAX_STEPS]; /* of steps 1, 2, ... */
    float *step_gains[HPCM_MAX_STEPS];     /* [levels][prior_width] */
    hpcm_prior priors[2];
    hpcm_dense context_nets[2];
    float *z_means, *z_scales;                                /* [N] */
    float *y_gain, *y_inverse, *z_gain, *z_inverse;           /* [levels][M], [levels][N] */
    void **owned; /* all memory above, for hpcm_model_free */
    size_t owned_count, owned_room;
};

/* What one call works with. */
typedef struct {
    const hpcm_model *model;
    hpcm_scratch *scratch;
    hpcm_check check;
    void *user;
} hpcm_call;

#define HPCM_TRY(expression)                     \
    do {                                         \
        hpcm_status tried = (expression);        \
        if (tried != HPCM_OK) return tried;      \
    } while (0)

/* A map of floats [rows][columns][channels] on a call's scratch. */
typedef struct {
    int32_t rows, columns, channels;
    float *values;
} hpcm_map;

hpcm_status hpcm_check_stop(const hpcm_call *call);
hpcm_status hpcm_new_map(const hpcm_call *call, int32_t rows, int32_t columns, int32_t channels, hpcm_map *map);
/* Applies a network; the map, whose values it may change, is replaced by the result. */
hpcm_status hpcm_apply(const hpcm_call *call, const hpcm_network *network, hpcm_map *map);
/* psi of a step, [rows][columns][2M]: after(before(adaptor([context, y_hat])) * gain), and with `refine` the context added. */
hpcm_status hpcm_parameters(const hpcm_call *call, int32_t step, int32_t scale, int32_t level, const hpcm_map *context,
                            const hpcm_map *y_hat, hpcm_map *psi);
/* A 1x1 convolution of a map in place. */
hpcm_status hpcm_convolve_in_place(const hpcm_call *call, const hpcm_dense *dense, hpcm_map *map);

#endif
