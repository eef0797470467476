/* Drives a fuzz target where the compiler has no libFuzzer: random changes to the inputs in a folder, or to one another.
 * It doesn't follow what code an input reaches, so it finds less.
 *
 *     fuzz_payload [-max_total_time=SECONDS] [-max_len=BYTES] [-artifact_prefix=FOLDER/] [-seed=N] [FOLDER or FILE ...]
 *
 * As with libFuzzer, files alone are run once each, and what fails is written to FOLDER/crash-input; other options are
 * ignored. */
#include <dirent.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MAX_INPUTS = 4096, MAX_BYTES = 1 << 16, MAX_CHANGES = 8, SECONDS_EACH = 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
void __sanitizer_set_death_callback(void (*callback)(void));

typedef struct {
    uint8_t *bytes;
    size_t size;
} input;

static input inputs[MAX_INPUTS];
static size_t input_count;
static uint8_t now[MAX_BYTES];
static size_t now_size, max_size = 4096;
static const char *prefix = "";
static uint64_t state = 1;

static uint32_t random_below(uint32_t end) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33) % end;
}

/* What is in `now` made the target fail: it is kept. */
static void keep(void) {
    char name[1024];
    snprintf(name, sizeof name, "%scrash-input", prefix);
    FILE *file = fopen(name, "wb");
    if (!file) return;
    fwrite(now, 1, now_size, file);
    fclose(file);
    fprintf(stderr, "the input is in %s\n", name);
}

static void on_signal(int number) {
    keep();
    signal(number, SIG_DFL);
    raise(number);
}

static void run(void) {
    /* An exact copy, so that reading beyond the end is noticed. */
    uint8_t *copy = malloc(now_size ? now_size : 1);
    if (!copy) abort();
    memcpy(copy, now, now_size);
    alarm(SECONDS_EACH);
    LLVMFuzzerTestOneInput(copy, now_size);
    alarm(0);
    free(copy);
}

static int read_file(const char *name) {
    FILE *file = fopen(name, "rb");
    if (!file) return 0;
    now_size = fread(now, 1, max_size, file);
    fclose(file);
    return 1;
}

static void add_input(void) {
    input *added = &inputs[input_count < MAX_INPUTS ? input_count++ : random_below(MAX_INPUTS)];
    free(added->bytes);
    added->bytes = malloc(now_size ? now_size : 1);
    if (!added->bytes) abort();
    memcpy(added->bytes, now, now_size);
    added->size = now_size;
}

static void add_folder(const char *name, DIR *folder) {
    struct dirent *entry;
    while ((entry = readdir(folder))) {
        char file[2048];
        snprintf(file, sizeof file, "%s/%s", name, entry->d_name);
        if (entry->d_name[0] != '.' && read_file(file)) add_input();
    }
}

static void change(void) {
    uint32_t place = now_size ? random_below((uint32_t)now_size) : 0, length;
    switch (random_below(6)) {
    case 0: /* one bit */
        if (now_size) now[place] ^= (uint8_t)(1 << random_below(8));
        break;
    case 1: /* one byte */
        if (now_size) now[place] = (uint8_t)random_below(256);
        break;
    case 2: /* extreme bytes */
        for (length = 1 + random_below(8); length && place < now_size; length--) now[place++] = random_below(2) ? 255 : 0;
        break;
    case 3: /* shorter */
        now_size = place;
        break;
    case 4: /* longer */
        for (length = 1 + random_below(64); length && now_size < max_size; length--)
            now[now_size++] = (uint8_t)random_below(256);
        break;
    default: { /* the end of another input */
        const input *other = &inputs[random_below((uint32_t)input_count)];
        size_t from = other->size ? random_below((uint32_t)other->size) : 0, size = other->size - from;
        if (size > max_size - place) size = max_size - place;
        memcpy(now + place, other->bytes + from, size);
        now_size = place + size;
    }
    }
}

static void fuzz(long seconds) {
    time_t end = time(0) + seconds;
    unsigned long runs = 0;
    for (; time(0) < end; runs++) {
        const input *chosen = &inputs[random_below((uint32_t)input_count)];
        memcpy(now, chosen->bytes, now_size = chosen->size);
        for (uint32_t changes = 1 + random_below(MAX_CHANGES); changes; changes--) change();
        run();
        if (!random_below(64)) add_input(); /* a walk away from the inputs that it began with */
    }
    printf("%lu inputs, nothing found\n", runs);
}

int main(int count, char **arguments) {
    long seconds = 60;
    int files = 0;
    signal(SIGABRT, on_signal);
    signal(SIGALRM, on_signal);
    __sanitizer_set_death_callback(keep);
    for (int i = 1; i < count; i++) {
        const char *value = strchr(arguments[i], '=');
        DIR *folder;
        if (value && !strncmp(arguments[i], "-max_total_time", 15)) seconds = atol(value + 1);
        else if (value && !strncmp(arguments[i], "-max_len", 8)) max_size = (size_t)atol(value + 1);
        else if (value && !strncmp(arguments[i], "-artifact_prefix", 16)) prefix = value + 1;
        else if (value && !strncmp(arguments[i], "-seed", 5)) state = (uint64_t)atol(value + 1);
        else if (arguments[i][0] == '-') continue;
        else if ((folder = opendir(arguments[i]))) {
            add_folder(arguments[i], folder);
            closedir(folder);
        } else if (read_file(arguments[i])) {
            run();
            files++;
        }
        if (max_size < 1 || max_size > MAX_BYTES) max_size = MAX_BYTES;
    }
    if (files) return 0;
    now_size = 0;
    add_input();
    for (size_t i = 0; i < input_count; i++) {
        memcpy(now, inputs[i].bytes, now_size = inputs[i].size);
        run();
    }
    fuzz(seconds);
    return 0;
}
