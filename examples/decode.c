/* Writes the picture of a .hpcm file as PAM, which Netpbm, FFmpeg and ImageMagick read: decode photo.hpcm photo.pam
 *
 *     make core-install PREFIX=$HOME/.local
 *     export PKG_CONFIG_PATH=$HOME/.local/lib/pkgconfig LD_LIBRARY_PATH=$HOME/.local/lib
 *     cc examples/decode.c -o decode $(pkg-config --cflags --libs hpcm)
 */
#include <hpcm/decode.h>

#include <stdio.h>
#include <stdlib.h>

static const char *const KINDS[] = {"GRAYSCALE", "GRAYSCALE_ALPHA", "RGB", "RGB_ALPHA"}; /* by channels */

/* PAM has the high byte of a sample first. */
static void put_row(const uint16_t *samples, size_t count, FILE *out) {
    for (size_t i = 0; i < count; i++) {
        putc(samples[i] >> 8, out);
        putc(samples[i] & 255, out);
    }
}

static int write_pam(const hpcm_info *info, const uint8_t *pixels, size_t stride, const char *path) {
    FILE *out = fopen(path, "wb");
    if (!out) return 0;
    fprintf(out, "P7\nWIDTH %d\nHEIGHT %d\nDEPTH %d\nMAXVAL %d\nTUPLTYPE %s\nENDHDR\n", (int)info->width,
            (int)info->height, (int)info->channels, (1 << info->bit_depth) - 1, KINDS[info->channels - 1]);
    for (int32_t row = 0; row < info->height; row++) {
        const uint8_t *from = pixels + (size_t)row * stride;
        if (info->bit_depth == 8) fwrite(from, 1, stride, out);
        else put_row((const uint16_t *)(const void *)from, stride / 2, out);
    }
    int failed = ferror(out);
    return !fclose(out) && !failed;
}

/* A line for whoever called, or null. */
static const char *decode(hpcm_file *file, const char *to) {
    hpcm_info info = HPCM_INFO;
    if (hpcm_get_info(file, &info) != HPCM_OK) return hpcm_message(file);
    size_t stride = (size_t)info.width * (size_t)info.channels * (info.bit_depth > 8 ? 2 : 1);
    uint8_t *pixels = calloc((size_t)info.height, stride);
    if (!pixels) return "there is not enough memory";
    const char *wrong = NULL;
    if (hpcm_read(file, NULL, pixels, stride) != HPCM_OK) wrong = hpcm_message(file);
    else if (!write_pam(&info, pixels, stride, to)) wrong = "the picture can't be written";
    free(pixels);
    return wrong;
}

int main(int count, char **arguments) {
    if (count != 3) {
        fprintf(stderr, "usage: decode photo.hpcm photo.pam\n");
        return 2;
    }
    hpcm_file *file = NULL;
    hpcm_status status = hpcm_open(arguments[1], NULL, &file);
    const char *wrong = status == HPCM_OK ? decode(file, arguments[2]) : hpcm_message(file);
    if (wrong) fprintf(stderr, "%s: %s\n", arguments[1], wrong);
    hpcm_close(file);
    return wrong != NULL;
}
