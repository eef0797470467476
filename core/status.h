/* What the headers of libhpcm share. */
#ifndef HPCM_STATUS_H
#define HPCM_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

/* What the shared library shows; everything else in it is hidden. */
#if defined(_WIN32) && defined(HPCM_BUILD)
#define HPCM_API __declspec(dllexport)
#elif defined(__GNUC__)
#define HPCM_API __attribute__((visibility("default")))
#else
#define HPCM_API
#endif

#define HPCM_MESSAGE 1024 /* bytes of a message, with the zero at its end */

typedef enum {
    HPCM_OK = 0,
    HPCM_STOPPED,     /* the caller's check said so */
    HPCM_NO_MEMORY,
    HPCM_BAD_ARGUMENT,
    HPCM_BAD_MODEL,   /* a model's weights don't fit its configuration, break a bound, or aren't of a kind that runs here */
    HPCM_BAD_PAYLOAD,
    HPCM_BAD_KERNELS, /* kernels that this machine lacks, or that compute wrongly on it */
    /* Of files (file/decode.h). */
    HPCM_UNREADABLE,  /* the file can't be opened or read */
    HPCM_BAD_FORMAT,  /* no .hpcm file, one of another version, or a field is out of its bounds */
    HPCM_TRUNCATED,   /* it ends too early */
    HPCM_CORRUPT,     /* a CRC differs, or data can't be decoded */
    HPCM_TOO_LARGE,   /* it claims more pixels than are allowed */
    HPCM_NO_MODEL,    /* the weights of the file's model aren't found */
    HPCM_MISMATCH     /* the decoded symbols or samples aren't the encoder's */
} hpcm_status;

/* Is called several times a tile, in the thread that called; what isn't 0 ends the work with HPCM_STOPPED. */
typedef int (*hpcm_check)(void *user);

#ifdef __cplusplus
}
#endif
#endif
