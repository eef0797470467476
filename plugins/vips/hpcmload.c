/* libvips' loader of .hpcm files, from a file, a buffer or a source.
 *
 * The header needs no weights, and not the whole file. The picture is decoded whole, into memory, when its first pixels
 * are asked for. A file that is cut short or damaged gives what was right before, unless fail_on forbids it. */
#include <stdint.h>

#include <glib.h>
#include <gmodule.h>
#include <hpcm/decode.h>
#include <vips/vips.h>

enum {
    BLOCK = 4096,     /* bytes that are read at a time */
    MAX_SHRINK = 256,
    PHYS_BYTES = 9,   /* of PNG's pHYs: pixels per unit in x and in y, big-endian, and a unit, 1 for the metre */
};

static const double MILLIMETRES_PER_METRE = 1000;

/* ---- the base of the three --------------------------------------------------------------------------------------- */

typedef struct {
    VipsForeignLoad parent_object;
    VipsSource *source; /* set by the others */
    int shrink;
} VipsForeignLoadHpcm;

typedef VipsForeignLoadClass VipsForeignLoadHpcmClass;

G_DEFINE_ABSTRACT_TYPE(VipsForeignLoadHpcm, vips_foreign_load_hpcm, VIPS_TYPE_FOREIGN_LOAD)

static int refuse(VipsForeignLoadHpcm *hpcm, const char *message) {
    char *text = g_utf8_make_valid(message, -1); /* names of folders may be anything */
    vips_error(VIPS_OBJECT_GET_CLASS(hpcm)->nickname, "%s", text);
    g_free(text);
    return -1;
}

static void warn(const char *message) {
    char *text = g_utf8_make_valid(message, -1);
    g_warning("%s", text);
    g_free(text);
}

/* A file without any bytes yet, null where there is no memory. */
static hpcm_file *opened(VipsForeignLoadHpcm *hpcm) {
    hpcm_settings settings = HPCM_SETTINGS;
    hpcm_file *file = NULL;
    settings.threads = vips_concurrency_get();
    if (hpcm_open_stream(&settings, &file) == HPCM_OK) return file;
    refuse(hpcm, file ? hpcm_message(file) : "no memory");
    hpcm_close(file);
    return NULL;
}

/* Gives the next bytes to a file. 1 if there were some, 0 at the end of the source, -1 with an error of vips. */
static int give(VipsForeignLoadHpcm *hpcm, hpcm_file *file, hpcm_status *status) {
    uint8_t block[BLOCK];
    gint64 size = vips_source_read(hpcm->source, block, sizeof block);
    if (size <= 0) return (int)size;
    *status = hpcm_append(file, block, (size_t)size);
    return 1;
}

/* ---- the header -------------------------------------------------------------------------------------------------- */

static VipsInterpretation interpretation_of(const hpcm_info *info) {
    if (info->channels < 3) return info->bit_depth > 8 ? VIPS_INTERPRETATION_GREY16 : VIPS_INTERPRETATION_B_W;
    return info->bit_depth > 8 ? VIPS_INTERPRETATION_RGB16 : VIPS_INTERPRETATION_sRGB;
}

static double big_endian(const uint8_t *field) {
    return (uint32_t)field[0] << 24 | (uint32_t)field[1] << 16 | (uint32_t)field[2] << 8 | field[3];
}

static void set_blob(const hpcm_file *file, char type, const char *name, VipsImage *out) {
    size_t size;
    const uint8_t *data = hpcm_get_metadata(file, type, &size);
    if (data && size) vips_image_set_blob_copy(out, name, data, size);
}

static void set_density(const hpcm_file *file, VipsImage *out, int shrink) {
    size_t size;
    const uint8_t *data = hpcm_get_metadata(file, 'd', &size);
    if (!data || size != PHYS_BYTES || data[8] != 1) return;
    out->Xres = big_endian(data) / MILLIMETRES_PER_METRE / shrink;
    out->Yres = big_endian(data + 4) / MILLIMETRES_PER_METRE / shrink;
}

static hpcm_request requested(const VipsForeignLoadHpcm *hpcm, const hpcm_info *info) {
    hpcm_request request = HPCM_REQUEST;
    request.reduction = hpcm->shrink;
    request.bit_depth = info->bit_depth > 8 ? 16 : 8;
    return request;
}

static int set_header(VipsForeignLoadHpcm *hpcm, hpcm_file *file, VipsImage *out) {
    hpcm_info info = HPCM_INFO;
    if (hpcm_get_info(file, &info) != HPCM_OK) return refuse(hpcm, hpcm_message(file));
    hpcm_request request = requested(hpcm, &info);
    int32_t columns, rows;
    if (hpcm_get_size(file, &request, &columns, &rows) != HPCM_OK) return refuse(hpcm, hpcm_message(file));
    if (columns > VIPS_MAX_COORD || rows > VIPS_MAX_COORD) return refuse(hpcm, "too many pixels a side");
    VipsBandFormat format = info.bit_depth > 8 ? VIPS_FORMAT_USHORT : VIPS_FORMAT_UCHAR;
    vips_image_init_fields(out, columns, rows, info.channels, format, VIPS_CODING_NONE, interpretation_of(&info), 1, 1);
    if (vips_image_pipelinev(out, VIPS_DEMAND_STYLE_THINSTRIP, NULL)) return -1;
    set_density(file, out, hpcm->shrink);
    set_blob(file, 'I', VIPS_META_ICC_NAME, out);
    set_blob(file, 'E', VIPS_META_EXIF_NAME, out); /* libvips makes its own fields of it */
    set_blob(file, 'x', VIPS_META_XMP_NAME, out);
    vips_image_set_int(out, "bits-per-sample", info.bit_depth);
    vips_image_set_string(out, "hpcm-model", info.model);
    return 0;
}

static int vips_foreign_load_hpcm_header(VipsForeignLoad *load) {
    VipsForeignLoadHpcm *hpcm = (VipsForeignLoadHpcm *)load;
    if (vips_source_rewind(hpcm->source)) return -1;
    hpcm_file *file = opened(hpcm);
    if (!file) return -1;
    hpcm_info info = HPCM_INFO;
    hpcm_status status = HPCM_OK;
    int more = 1;
    while (more > 0 && status == HPCM_OK && hpcm_get_info(file, &info) != HPCM_OK) more = give(hpcm, file, &status);
    int result = more < 0 ? -1 : set_header(hpcm, file, load->out);
    hpcm_close(file);
    vips_source_minimise(hpcm->source);
    VIPS_SETSTR(load->out->filename, vips_connection_filename(VIPS_CONNECTION(hpcm->source)));
    return result;
}

/* ---- the picture ------------------------------------------------------------------------------------------------- */

static int is_stopped(void *image) {
    return vips_image_iskilled(image);
}

/* All of the source. Where fail_on allows that less than a whole file is there, *partial is set if so. */
static int read_source(VipsForeignLoadHpcm *hpcm, hpcm_file *file, int *partial) {
    VipsFailOn fail_on = ((VipsForeignLoad *)hpcm)->fail_on;
    hpcm_info info = HPCM_INFO;
    hpcm_status status = HPCM_OK;
    int more = 1;
    while (more > 0 && status == HPCM_OK) more = give(hpcm, file, &status);
    if (more < 0) return -1;
    int is_damaged = status == HPCM_CORRUPT && fail_on < VIPS_FAIL_ON_ERROR;
    if (status != HPCM_OK && !is_damaged) return refuse(hpcm, hpcm_message(file));
    if (hpcm_get_info(file, &info) != HPCM_OK) return refuse(hpcm, hpcm_message(file));
    if (is_damaged) warn(hpcm_message(file));
    if (info.parts_there == 0) return refuse(hpcm, "no part of the picture is there");
    int is_whole = info.parts_there == info.parts;
    *partial = !is_whole && (is_damaged || fail_on < VIPS_FAIL_ON_TRUNCATED);
    if (*partial) g_warning("%d of %d parts of the file are there", (int)info.parts_there, (int)info.parts);
    return 0;
}

/* Pixels into an image in memory, which is taken only now: a CRC has confirmed the head. */
static int decode(VipsForeignLoadHpcm *hpcm, hpcm_file *file, VipsImage *image, int partial) {
    hpcm_info info = HPCM_INFO;
    if (hpcm_get_info(file, &info) != HPCM_OK) return refuse(hpcm, hpcm_message(file));
    if (vips_image_write_prepare(image)) return -1;
    hpcm_request request = requested(hpcm, &info);
    request.partial = partial;
    request.check = is_stopped;
    request.user = image;
    if (hpcm_read(file, &request, VIPS_IMAGE_ADDR(image, 0, 0), VIPS_IMAGE_SIZEOF_LINE(image)) == HPCM_OK) return 0;
    return refuse(hpcm, hpcm_message(file));
}

static int vips_foreign_load_hpcm_load(VipsForeignLoad *load) {
    VipsForeignLoadHpcm *hpcm = (VipsForeignLoadHpcm *)load;
    VipsImage **image = (VipsImage **)vips_object_local_array(VIPS_OBJECT(load), 1);
    /* From the beginning again: others may have read the source meanwhile. */
    if (vips_source_rewind(hpcm->source)) return -1;
    hpcm_file *file = opened(hpcm);
    if (!file) return -1;
    int partial, result = read_source(hpcm, file, &partial);
    if (!result) {
        image[0] = vips_image_new_memory();
        result = set_header(hpcm, file, image[0]);
    }
    if (!result) result = decode(hpcm, file, image[0], partial);
    hpcm_close(file);
    if (result || vips_source_decode(hpcm->source)) return -1;
    return vips_image_write(image[0], load->real);
}

/* ---- the class --------------------------------------------------------------------------------------------------- */

static gboolean is_a_source(VipsSource *source) {
    const unsigned char *start = vips_source_sniff(source, HPCM_SIGNATURE_BYTES);
    return start && hpcm_is_file(start, HPCM_SIGNATURE_BYTES);
}

static VipsForeignFlags get_flags(VipsForeignLoad *load) {
    (void)load;
    return VIPS_FOREIGN_PARTIAL;
}

static void vips_foreign_load_hpcm_dispose(GObject *object) {
    VIPS_UNREF(((VipsForeignLoadHpcm *)object)->source);
    G_OBJECT_CLASS(vips_foreign_load_hpcm_parent_class)->dispose(object);
}

static void set_properties(VipsForeignLoadHpcmClass *class) {
    G_OBJECT_CLASS(class)->set_property = vips_object_set_property;
    G_OBJECT_CLASS(class)->get_property = vips_object_get_property;
}

static void vips_foreign_load_hpcm_class_init(VipsForeignLoadHpcmClass *class) {
    set_properties(class);
    G_OBJECT_CLASS(class)->dispose = vips_foreign_load_hpcm_dispose;
    VIPS_OBJECT_CLASS(class)->nickname = "hpcmload_base";
    VIPS_OBJECT_CLASS(class)->description = "load HPCM image";
    VIPS_OPERATION_CLASS(class)->flags |= VIPS_OPERATION_UNTRUSTED; /* as libvips marks what is young */
    class->get_flags = get_flags;
    class->header = vips_foreign_load_hpcm_header;
    class->load = vips_foreign_load_hpcm_load;
    VIPS_ARG_INT(class, "shrink", 20, "Shrink", "Shrink factor on load, a power of two", VIPS_ARGUMENT_OPTIONAL_INPUT,
                 G_STRUCT_OFFSET(VipsForeignLoadHpcm, shrink), 1, MAX_SHRINK, 1);
}

static void vips_foreign_load_hpcm_init(VipsForeignLoadHpcm *hpcm) {
    hpcm->shrink = 1;
}

/* ---- from a file ------------------------------------------------------------------------------------------------- */

typedef struct {
    VipsForeignLoadHpcm parent_object;
    char *filename;
} VipsForeignLoadHpcmFile;

typedef VipsForeignLoadHpcmClass VipsForeignLoadHpcmFileClass;

G_DEFINE_TYPE(VipsForeignLoadHpcmFile, vips_foreign_load_hpcm_file, vips_foreign_load_hpcm_get_type())

static int file_build(VipsObject *object) {
    VipsForeignLoadHpcmFile *file = (VipsForeignLoadHpcmFile *)object;
    VipsForeignLoadHpcm *hpcm = (VipsForeignLoadHpcm *)object;
    if (file->filename && !(hpcm->source = vips_source_new_from_file(file->filename))) return -1;
    return VIPS_OBJECT_CLASS(vips_foreign_load_hpcm_file_parent_class)->build(object);
}

static gboolean is_a_file(const char *filename) {
    VipsSource *source = vips_source_new_from_file(filename);
    gboolean result = source && is_a_source(source);
    VIPS_UNREF(source);
    return result;
}

static void vips_foreign_load_hpcm_file_class_init(VipsForeignLoadHpcmFileClass *class) {
    static const char *suffixes[] = {".hpcm", NULL};
    set_properties(class);
    VIPS_OBJECT_CLASS(class)->nickname = "hpcmload";
    VIPS_OBJECT_CLASS(class)->build = file_build;
    VIPS_FOREIGN_CLASS(class)->suffs = suffixes;
    class->is_a = is_a_file;
    VIPS_ARG_STRING(class, "filename", 1, "Filename", "Filename to load from", VIPS_ARGUMENT_REQUIRED_INPUT,
                    G_STRUCT_OFFSET(VipsForeignLoadHpcmFile, filename), NULL);
}

static void vips_foreign_load_hpcm_file_init(VipsForeignLoadHpcmFile *file) {
    (void)file;
}

/* ---- from a buffer ----------------------------------------------------------------------------------------------- */

typedef struct {
    VipsForeignLoadHpcm parent_object;
    VipsArea *buffer;
} VipsForeignLoadHpcmBuffer;

typedef VipsForeignLoadHpcmClass VipsForeignLoadHpcmBufferClass;

G_DEFINE_TYPE(VipsForeignLoadHpcmBuffer, vips_foreign_load_hpcm_buffer, vips_foreign_load_hpcm_get_type())

static int buffer_build(VipsObject *object) {
    VipsArea *area = ((VipsForeignLoadHpcmBuffer *)object)->buffer;
    VipsForeignLoadHpcm *hpcm = (VipsForeignLoadHpcm *)object;
    if (area && !(hpcm->source = vips_source_new_from_memory(area->data, area->length))) return -1;
    return VIPS_OBJECT_CLASS(vips_foreign_load_hpcm_buffer_parent_class)->build(object);
}

static gboolean is_a_buffer(const void *data, size_t size) {
    return hpcm_is_file(data, size);
}

static void vips_foreign_load_hpcm_buffer_class_init(VipsForeignLoadHpcmBufferClass *class) {
    set_properties(class);
    VIPS_OBJECT_CLASS(class)->nickname = "hpcmload_buffer";
    VIPS_OBJECT_CLASS(class)->build = buffer_build;
    class->is_a_buffer = is_a_buffer;
    VIPS_ARG_BOXED(class, "buffer", 1, "Buffer", "Buffer to load from", VIPS_ARGUMENT_REQUIRED_INPUT,
                   G_STRUCT_OFFSET(VipsForeignLoadHpcmBuffer, buffer), VIPS_TYPE_BLOB);
}

static void vips_foreign_load_hpcm_buffer_init(VipsForeignLoadHpcmBuffer *buffer) {
    (void)buffer;
}

/* ---- from a source ----------------------------------------------------------------------------------------------- */

typedef struct {
    VipsForeignLoadHpcm parent_object;
    VipsSource *source;
} VipsForeignLoadHpcmSource;

typedef VipsForeignLoadHpcmClass VipsForeignLoadHpcmSourceClass;

G_DEFINE_TYPE(VipsForeignLoadHpcmSource, vips_foreign_load_hpcm_source, vips_foreign_load_hpcm_get_type())

static int source_build(VipsObject *object) {
    VipsSource *source = ((VipsForeignLoadHpcmSource *)object)->source;
    if (source) ((VipsForeignLoadHpcm *)object)->source = g_object_ref(source);
    return VIPS_OBJECT_CLASS(vips_foreign_load_hpcm_source_parent_class)->build(object);
}

static void vips_foreign_load_hpcm_source_class_init(VipsForeignLoadHpcmSourceClass *class) {
    set_properties(class);
    VIPS_OBJECT_CLASS(class)->nickname = "hpcmload_source";
    VIPS_OBJECT_CLASS(class)->build = source_build;
    VIPS_OPERATION_CLASS(class)->flags |= VIPS_OPERATION_NOCACHE;
    class->is_a_source = is_a_source;
    VIPS_ARG_OBJECT(class, "source", 1, "Source", "Source to load from", VIPS_ARGUMENT_REQUIRED_INPUT,
                    G_STRUCT_OFFSET(VipsForeignLoadHpcmSource, source), VIPS_TYPE_SOURCE);
}

static void vips_foreign_load_hpcm_source_init(VipsForeignLoadHpcmSource *source) {
    (void)source;
}

/* ---- the module -------------------------------------------------------------------------------------------------- */

G_MODULE_EXPORT const char *g_module_check_init(GModule *module);

const char *g_module_check_init(GModule *module) {
    vips_foreign_load_hpcm_file_get_type();
    vips_foreign_load_hpcm_buffer_get_type();
    vips_foreign_load_hpcm_source_get_type();
    g_module_make_resident(module); /* types can't be taken back */
    return NULL;
}
