#include "find.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "../threading.h"
#include "container.h"
#include "digest.h"
#include "weights.h"

static const char SUFFIX[] = ".safetensors";
#ifdef _WIN32
static const char SEPARATOR = ';'; /* of the folders in an environment variable */
#else
static const char SEPARATOR = ':';
#endif

/* ---- models in use ---------------------------------------------------------------------------------------------------- */

typedef struct loaded {
    hpcm_model *model;
    uint8_t hash[HPCM_HASH_BYTES];
    int32_t threads;
    size_t users;
    struct loaded *next;
} loaded;

/* Nothing that takes long or another lock is done with this one held: a child of fork() would wait for ever. */
static hpcm_mutex lock = HPCM_MUTEX_INIT;
static hpcm_once once = HPCM_ONCE_INIT;
static loaded *all;
static loaded *last; /* of them that was asked for; kept also when nobody uses it */

#if defined(_WIN32) || defined(__wasm__)

static void register_at_fork(void) {} /* there is no fork */

#else

static void before_fork(void) {
    hpcm_mutex_lock(&lock);
}

static void after_fork(void) {
    hpcm_mutex_unlock(&lock);
}

static void in_child(void) {
    hpcm_mutex_init(&lock);
}

static void register_at_fork(void) {
    pthread_atfork(before_fork, after_fork, in_child);
}

#endif

/* Takes out of the list what nobody uses and needn't be kept; at most one, as this is done after each change. */
static loaded *take_unused(void) {
    for (loaded **link = &all; *link; link = &(*link)->next) {
        loaded *unused = *link;
        if (unused->users || unused == last) continue;
        *link = unused->next;
        return unused;
    }
    return 0;
}

static void free_loaded(loaded *unused) {
    if (!unused) return;
    hpcm_model_free(unused->model);
    free(unused);
}

/* With the lock held: the model, which has one user more; null where it isn't loaded. */
static hpcm_model *use(const uint8_t *hash, int32_t threads) {
    for (loaded *each = all; each; each = each->next)
        if (!memcmp(each->hash, hash, HPCM_HASH_BYTES) && each->threads == threads) {
            each->users++;
            last = each;
            return each->model;
        }
    return 0;
}

static hpcm_model *find_loaded(const uint8_t *hash, int32_t threads) {
    hpcm_call_once(&once, register_at_fork);
    hpcm_mutex_lock(&lock);
    hpcm_model *model = use(hash, threads);
    loaded *unused = take_unused();
    hpcm_mutex_unlock(&lock);
    free_loaded(unused);
    return model;
}

/* Gives the model to the list. If another thread was quicker, its model is used and this one freed. */
static hpcm_status share(hpcm_model **model, const uint8_t *hash, int32_t threads) {
    loaded *made = malloc(sizeof *made);
    if (!made) {
        hpcm_model_free(*model);
        *model = 0;
        return HPCM_NO_MEMORY;
    }
    *made = (loaded){.model = *model, .threads = threads, .users = 1};
    memcpy(made->hash, hash, HPCM_HASH_BYTES);
    hpcm_mutex_lock(&lock);
    hpcm_model *quicker = use(hash, threads);
    if (!quicker) {
        made->next = all;
        all = last = made;
    }
    loaded *unused = take_unused();
    hpcm_mutex_unlock(&lock);
    free_loaded(unused);
    if (quicker) {
        free_loaded(made);
        *model = quicker;
    }
    return HPCM_OK;
}

void hpcm_put_model(hpcm_model *model) {
    if (!model) return;
    hpcm_mutex_lock(&lock);
    for (loaded *each = all; each; each = each->next)
        if (each->model == model) each->users--;
    loaded *unused = take_unused();
    hpcm_mutex_unlock(&lock);
    free_loaded(unused);
}

/* ---- places ----------------------------------------------------------------------------------------------------------- */

/* Folders, or weights files, in the order in which they are looked at. */
typedef struct {
    char **paths;
    size_t count;
} places;

static hpcm_status add(places *all_places, const char *folder, size_t size, const char *below) {
    char **paths = realloc(all_places->paths, (all_places->count + 1) * sizeof *paths);
    if (!paths) return HPCM_NO_MEMORY;
    all_places->paths = paths;
    char *path = malloc(size + strlen(below) + 1);
    if (!path) return HPCM_NO_MEMORY;
    memcpy(path, folder, size);
    strcpy(path + size, below);
    for (size_t i = 0; i < all_places->count; i++)
        if (!strcmp(paths[i], path)) { /* once is enough */
            free(path);
            return HPCM_OK;
        }
    paths[all_places->count++] = path;
    return HPCM_OK;
}

/* Null where it isn't set, or empty, which counts as that. */
static const char *environment(const char *name) {
    const char *value = getenv(name);
    return value && *value ? value : 0;
}

static hpcm_status add_own_folder(places *p) {
    const char *weights = environment("HPCM_WEIGHTS"), *data = environment("XDG_DATA_HOME"), *home = environment("HOME");
    if (weights) return add(p, weights, strlen(weights), "");
    if (data) return add(p, data, strlen(data), "/hpcm");
    return home ? add(p, home, strlen(home), "/.local/share/hpcm") : HPCM_OK;
}

static hpcm_status add_system_folders(places *p) {
    const char *folders = environment("XDG_DATA_DIRS");
    hpcm_status status = HPCM_OK;
    if (!folders) folders = "/usr/local/share:/usr/share";
    while (status == HPCM_OK) {
        const char *end = strchr(folders, SEPARATOR);
        size_t size = end ? (size_t)(end - folders) : strlen(folders);
        if (size) status = add(p, folders, size, "/hpcm");
        if (!end) break;
        folders = end + 1;
    }
#ifdef HPCM_DATA_FOLDER
    if (status == HPCM_OK) status = add(p, HPCM_DATA_FOLDER, sizeof HPCM_DATA_FOLDER - 1, "");
#endif
    return status;
}

static hpcm_status gather(places *p, const char *where) {
    hpcm_status status = HPCM_OK;
    if (where && *where) status = add(p, where, strlen(where), "");
    if (status == HPCM_OK) status = add_own_folder(p);
    return status == HPCM_OK ? add_system_folders(p) : status;
}

/* ---- files ------------------------------------------------------------------------------------------------------------ */

typedef struct {
    const char *name;
    const uint8_t *hash;
    uint8_t *data; /* of the right file, once it is found */
    size_t size;
    char *message; /* of HPCM_MESSAGE bytes, which tells more with each place */
    size_t told;
} search;

/* Appends to the message. What doesn't fit becomes "...", and no character is left in half. */
static void say_more(search *s, const char *text) {
    static const char dots[] = "...";
    size_t size = strlen(text), room = HPCM_MESSAGE - sizeof dots;
    if (s->told > room) return; /* it ends with dots */
    size_t fits = size < room - s->told ? size : room - s->told;
    while (fits < size && fits && (text[fits] & 0xC0) == 0x80) fits--; /* further bytes of a character in UTF-8 */
    memcpy(s->message + s->told, text, fits);
    strcpy(s->message + s->told + fits, fits < size ? dots : "");
    s->told = fits < size ? HPCM_MESSAGE : s->told + fits;
}

static int is_file(const char *path) {
    struct stat status;
    return stat(path, &status) == 0 && (status.st_mode & S_IFMT) == S_IFREG;
}

/* All of a file; null where it can't be read. */
static uint8_t *read_file(const char *path, size_t *size) {
    struct stat status;
    FILE *file = fopen(path, "rb");
    if (!file) return 0;
    uint8_t *data = 0;
    if (stat(path, &status) == 0 && status.st_size > 0 && (uint64_t)status.st_size < SIZE_MAX) {
        *size = (size_t)status.st_size;
        data = malloc(*size);
    }
    if (data && fread(data, 1, *size, file) != *size) {
        free(data);
        data = 0;
    }
    fclose(file);
    return data;
}

/* Looks at one weights file; the search has its data if it is the right one. */
static void look_at(search *s, const char *path) {
    uint8_t digest[32];
    if (!is_file(path)) return;
    s->data = read_file(path, &s->size);
    if (!s->data) {
        say_more(s, " (the file there can't be read)");
        return;
    }
    hpcm_sha256(s->data, s->size, digest);
    if (!memcmp(digest, s->hash, HPCM_HASH_BYTES)) return;
    say_more(s, " (the file there has another hash)");
    free(s->data);
    s->data = 0;
}

static hpcm_status look_into(search *s, const char *place) {
    say_more(s, place);
    if (is_file(place)) {
        look_at(s, place);
        return HPCM_OK;
    }
    size_t size = strlen(place) + 1 + strlen(s->name) + sizeof SUFFIX;
    char *path = malloc(size);
    if (!path) return HPCM_NO_MEMORY;
    snprintf(path, size, "%s/%s%s", place, s->name, SUFFIX);
    look_at(s, path);
    free(path);
    return HPCM_OK;
}

/* Reads the right file. Also the message is made on the way, as only the search knows it. */
static hpcm_status find_file(search *s, const places *p) {
    char start[HPCM_MESSAGE], hash[2 * HPCM_HASH_BYTES + 1];
    for (int i = 0; i < HPCM_HASH_BYTES; i++) snprintf(hash + 2 * i, 3, "%02x", s->hash[i]);
    snprintf(start, sizeof start, "the weights of model %s (hash %s) aren't found: looked for in ", s->name, hash);
    say_more(s, start);
    for (size_t i = 0; i < p->count; i++) {
        if (i) say_more(s, ", ");
        hpcm_status status = look_into(s, p->paths[i]);
        if (status != HPCM_OK || s->data) return status;
    }
    return HPCM_NO_MODEL;
}

static hpcm_status load(search *s, int32_t threads, hpcm_model **model) {
    char reason[HPCM_MESSAGE];
    hpcm_status status = hpcm_load_weights(s->data, s->size, threads, model, reason);
    s->message[0] = 0;
    s->told = 0;
    if (!*reason) return status;
    say_more(s, "model ");
    say_more(s, s->name);
    say_more(s, " can't be used: ");
    say_more(s, reason);
    return status;
}

hpcm_status hpcm_find_model(const char *name, const uint8_t hash[HPCM_HASH_BYTES], const char *where, int32_t threads,
                            hpcm_model **model, char *message) {
    places p = {0};
    search s = {.name = name, .hash = hash, .message = message};
    message[0] = 0;
    *model = 0;
    if (!hpcm_is_model_name(name, strlen(name))) { /* it becomes a part of paths */
        say_more(&s, "no model can have that name");
        return HPCM_BAD_ARGUMENT;
    }
    *model = find_loaded(hash, threads);
    if (*model) return HPCM_OK;
    hpcm_status status = gather(&p, where);
    if (status == HPCM_OK) status = find_file(&s, &p);
    if (status == HPCM_OK) status = load(&s, threads, model);
    if (status == HPCM_OK) status = share(model, hash, threads);
    free(s.data);
    for (size_t i = 0; i < p.count; i++) free(p.paths[i]);
    free(p.paths);
    return status;
}
