/* gdk-pixbuf's loader of .hpcm files.
 *
 * Bytes are given to libhpcm as they come. Once the head is there the caller is asked for the size, and a picture that
 * may be smaller is decoded smaller. The pixbuf is prepared with the first pixels, so memory is taken only for a head
 * that a CRC confirms. Where bytes come slowly, what is there is shown before the end. A file that is cut short shows
 * what it holds, without an error, as gdk-pixbuf's own loaders do. */
#include <string.h>

#define GDK_PIXBUF_ENABLE_BACKEND
#include <gdk-pixbuf/gdk-pixbuf.h>
#include <hpcm/decode.h>

enum {
    PATIENCE = 100000,      /* microseconds before something is shown. The bytes of a local file are there sooner */
    MOST_COMMENTS = 100,    /* gdk_pixbuf_set_option compares with all that are there */
    PHYS_BYTES = 9          /* of PNG's pHYs */
};

static const double METRES_PER_INCH = 0.0254;

typedef struct {
    GdkPixbufModuleSizeFunc size_func;
    GdkPixbufModulePreparedFunc prepared_func;
    GdkPixbufModuleUpdatedFunc updated_func;
    gpointer user_data;
    hpcm_file *file;
    hpcm_request request;
    gboolean has_size;   /* the caller was asked for it */
    gboolean is_resized; /* gdk-pixbuf will scale the whole picture, and show nothing before */
    gboolean has_failed;
    GdkPixbuf *pixbuf;   /* null before the first pixels */
    int32_t parts_shown, scales_shown;
    gint64 next_show;    /* microseconds */
} loading;

/* ---- errors ------------------------------------------------------------------------------------------------------ */

static GdkPixbufError code_of(hpcm_status status) {
    switch (status) {
    case HPCM_NO_MEMORY:
    case HPCM_TOO_LARGE: return GDK_PIXBUF_ERROR_INSUFFICIENT_MEMORY;
    case HPCM_BAD_PAYLOAD:
    case HPCM_BAD_FORMAT:
    case HPCM_TRUNCATED:
    case HPCM_CORRUPT:
    case HPCM_MISMATCH: return GDK_PIXBUF_ERROR_CORRUPT_IMAGE;
    default: return GDK_PIXBUF_ERROR_FAILED;
    }
}

static gboolean fail(loading *l, GdkPixbufError code, const char *message, GError **error) {
    char *text = g_utf8_make_valid(message, -1); /* names of folders may be anything */
    g_set_error_literal(error, GDK_PIXBUF_ERROR, (gint)code, text);
    g_free(text);
    l->has_failed = TRUE;
    return FALSE;
}

static gboolean fail_as(loading *l, hpcm_status status, GError **error) {
    return fail(l, code_of(status), hpcm_message(l->file), error);
}

/* ---- options of the pixbuf, named as by the loaders of PNG and JPEG ---------------------------------------------- */

static void set_profile(GdkPixbuf *pixbuf, const uint8_t *data, size_t size) {
    char *text = g_base64_encode(data, size);
    gdk_pixbuf_set_option(pixbuf, "icc-profile", text);
    g_free(text);
}

static void set_density(GdkPixbuf *pixbuf, const char *option, const uint8_t *field) {
    uint32_t per_metre = (uint32_t)field[0] << 24 | (uint32_t)field[1] << 16 | (uint32_t)field[2] << 8 | field[3];
    char *text = g_strdup_printf("%.0f", per_metre * METRES_PER_INCH);
    gdk_pixbuf_set_option(pixbuf, option, text);
    g_free(text);
}

static void set_comment(GdkPixbuf *pixbuf, const char *keyword, const char *text) {
    char *option = g_strconcat("tEXt::", keyword, NULL);
    char *valid_option = g_utf8_make_valid(option, -1);
    char *valid_text = g_utf8_make_valid(text, -1);
    gdk_pixbuf_set_option(pixbuf, valid_option, valid_text);
    g_free(valid_text);
    g_free(valid_option);
    g_free(option);
}

/* Keyword, zero, text, zero, keyword and so on. Behind the last text there is no zero. */
static void set_comments(GdkPixbuf *pixbuf, const uint8_t *data, size_t size) {
    char *strings = g_malloc0(size + 1);
    const char *end = strings + size, *keyword = strings;
    memcpy(strings, data, size);
    for (int i = 0; i < MOST_COMMENTS && keyword < end; i++) {
        const char *text = keyword + strlen(keyword) + 1;
        if (text > end) break;
        set_comment(pixbuf, keyword, text);
        keyword = text + strlen(text) + 1;
    }
    g_free(strings);
}

static void set_options(GdkPixbuf *pixbuf, const hpcm_file *file) {
    size_t size;
    const uint8_t *data = hpcm_get_metadata(file, 'I', &size);
    if (data) set_profile(pixbuf, data, size);
    data = hpcm_get_metadata(file, 't', &size);
    if (data) set_comments(pixbuf, data, size);
    data = hpcm_get_metadata(file, 'd', &size);
    if (data && size == PHYS_BYTES && data[8] == 1) {
        set_density(pixbuf, "x-dpi", data);
        set_density(pixbuf, "y-dpi", data + 4);
    }
}

/* ---- a picture --------------------------------------------------------------------------------------------------- */

/* Asks the caller for the size, and chooses what is decoded. */
static gboolean choose_size(loading *l, const hpcm_info *info, GError **error) {
    int columns = info->width, rows = info->height;
    l->size_func(&columns, &rows, l->user_data);
    /* Who wants to know no more than the size, as gdk_pixbuf_get_file_info does, asks for a picture without pixels. */
    if (columns <= 0 || rows <= 0) return fail(l, GDK_PIXBUF_ERROR_FAILED, "a size of 0 was asked for", error);
    l->has_size = TRUE;
    l->is_resized = columns != info->width || rows != info->height;
    l->request.reduction = hpcm_reduction_for(l->file, columns, rows);
    l->request.partial = 1;
    l->request.bit_depth = 8;
    l->request.channels = info->channels == 2 || info->channels == 4 ? 4 : 3;
    return TRUE;
}

static gboolean make_pixbuf(loading *l, GError **error) {
    int32_t columns, rows;
    hpcm_status status = hpcm_get_size(l->file, &l->request, &columns, &rows);
    if (status != HPCM_OK) return fail_as(l, status, error);
    l->pixbuf = gdk_pixbuf_new(GDK_COLORSPACE_RGB, l->request.channels == 4, 8, columns, rows);
    if (!l->pixbuf) return fail(l, GDK_PIXBUF_ERROR_INSUFFICIENT_MEMORY, "there is no memory for the pixels", error);
    set_options(l->pixbuf, l->file);
    return TRUE;
}

/* Decodes what is there. */
static gboolean show(loading *l, const hpcm_info *info, GError **error) {
    gboolean is_first = !l->pixbuf;
    gint64 start = g_get_monotonic_time(), end;
    if (is_first && !make_pixbuf(l, error)) return FALSE;
    guchar *pixels = gdk_pixbuf_get_pixels(l->pixbuf);
    hpcm_status status = hpcm_read(l->file, &l->request, pixels, (size_t)gdk_pixbuf_get_rowstride(l->pixbuf));
    if (status != HPCM_OK) return fail_as(l, status, error);
    l->parts_shown = info->parts_there;
    l->scales_shown = info->scales_there;
    if (is_first) l->prepared_func(l->pixbuf, NULL, l->user_data);
    l->updated_func(l->pixbuf, 0, 0, gdk_pixbuf_get_width(l->pixbuf), gdk_pixbuf_get_height(l->pixbuf), l->user_data);
    end = g_get_monotonic_time();
    l->next_show = end + MAX(end - start, PATIENCE); /* at most half of the time goes into what is shown early */
    return TRUE;
}

static gboolean should_show(const loading *l, const hpcm_info *info) {
    if (info->parts_there == l->parts_shown) return FALSE;
    if (info->parts_there == info->parts) return TRUE;
    if (l->is_resized || g_get_monotonic_time() < l->next_show) return FALSE;
    return !info->is_progressive || info->scales_there > l->scales_shown;
}

/* ---- the module -------------------------------------------------------------------------------------------------- */

static gpointer begin_load(GdkPixbufModuleSizeFunc size_func, GdkPixbufModulePreparedFunc prepared_func,
                           GdkPixbufModuleUpdatedFunc updated_func, gpointer user_data, GError **error) {
    loading *l = g_new0(loading, 1);
    *l = (loading){.size_func = size_func,
                   .prepared_func = prepared_func,
                   .updated_func = updated_func,
                   .user_data = user_data,
                   .request = HPCM_REQUEST,
                   .next_show = g_get_monotonic_time() + PATIENCE};
    if (hpcm_open_stream(NULL, &l->file) == HPCM_OK) return l;
    fail(l, GDK_PIXBUF_ERROR_INSUFFICIENT_MEMORY, "there is no memory to read a file", error);
    hpcm_close(l->file);
    g_free(l);
    return NULL;
}

static gboolean load_increment(gpointer context, const guchar *bytes, guint size, GError **error) {
    loading *l = context;
    hpcm_info info = HPCM_INFO;
    hpcm_status status = hpcm_append(l->file, bytes, size);
    if (status != HPCM_OK) return fail_as(l, status, error);
    status = hpcm_get_info(l->file, &info);
    if (status == HPCM_TRUNCATED) return TRUE;
    if (status != HPCM_OK) return fail_as(l, status, error);
    if (!l->has_size && !choose_size(l, &info, error)) return FALSE;
    return !should_show(l, &info) || show(l, &info, error);
}

/* Shows what wasn't yet shown of a file that is cut short. */
static gboolean show_rest(loading *l, GError **error) {
    hpcm_info info = HPCM_INFO;
    hpcm_status status = hpcm_get_info(l->file, &info);
    if (status != HPCM_OK) return fail_as(l, status, error);
    if (info.parts_there > 0 && info.parts_there == l->parts_shown) return TRUE;
    return show(l, &info, error);
}

/* Is called after a failure, too, which has been reported. */
static gboolean stop_load(gpointer context, GError **error) {
    loading *l = context;
    gboolean is_well = !l->has_failed && show_rest(l, error);
    g_clear_object(&l->pixbuf);
    hpcm_close(l->file);
    g_free(l);
    return is_well;
}

/* gdk-pixbuf's headers don't declare what it calls. */
G_MODULE_EXPORT void fill_vtable(GdkPixbufModule *module);
G_MODULE_EXPORT void fill_info(GdkPixbufFormat *info);

void fill_vtable(GdkPixbufModule *module) {
    module->begin_load = begin_load;
    module->load_increment = load_increment;
    module->stop_load = stop_load;
}

void fill_info(GdkPixbufFormat *info) {
    static GdkPixbufModulePattern signature[] = {{"\x89HPC", NULL, 100}, {NULL, NULL, 0}};
    static gchar *mime_types[] = {"image/x-hpcm", NULL};
    static gchar *extensions[] = {"hpcm", NULL};
    info->name = "hpcm";
    info->signature = signature;
    info->description = "HPCM image";
    info->mime_types = mime_types;
    info->extensions = extensions;
    info->flags = GDK_PIXBUF_FORMAT_THREADSAFE;
    info->license = "MIT";
}
