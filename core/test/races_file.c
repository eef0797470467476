/* Reads files from many threads at once, and compares what each call gives with what one thread gave:
 *
 *     python core/build.py --sanitize thread --reader --program core/test/races_file.c
 *     build/races_file 20 src/hpcm/model/assets tests/golden/nano-1.hpcm tests/golden/lossless.hpcm ...
 *
 * The arguments are rounds, the folder of the weights, and files. Callers share models, which they load and give up in
 * turn, as each asks for another number of threads. Some calls are stopped by their checks; a child of fork() reads on.
 * `make check-sanitized` runs it, also with a sanitizer of threads. */
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../file/decode.h"
#include "input.h"
#include "sanitized.h"

enum { CALLERS = 4, MOST_FILES = 16, MOST_THREADS = 3, MOST_CHECKS = 64, SECONDS_EACH = 600 };

typedef struct {
    const char *path;
    uint8_t *pixels; /* as one thread reads them */
    size_t size, stride;
} picture;

static picture pictures[MOST_FILES];
static int picture_count, rounds;
static const char *weights;

static hpcm_file *open_file(const picture *p, int32_t threads) {
    hpcm_settings settings = HPCM_SETTINGS;
    hpcm_file *file;
    settings.weights = weights;
    settings.threads = threads;
    expect(hpcm_open(p->path, &settings, &file) == HPCM_OK, "a file is opened");
    return file;
}

/* What all others are compared with. */
static void read_alone(picture *p) {
    hpcm_info info = HPCM_INFO;
    hpcm_file *file = open_file(p, 1);
    expect(hpcm_get_info(file, &info) == HPCM_OK, "a file has a head");
    p->stride = (size_t)info.width * (size_t)info.channels * (info.bit_depth == 8 ? 1 : 2);
    p->size = p->stride * (size_t)info.height;
    p->pixels = exactly(p->size);
    if (hpcm_read(file, 0, p->pixels, p->stride) != HPCM_OK) expect(0, hpcm_message(file));
    hpcm_close(file);
}

/* A check that ends the work at its (*left + 1)st call. */
static int stop(void *left) {
    return !(*(int32_t *)left)--;
}

static void read_again(const picture *p, int32_t threads, int32_t checks) {
    hpcm_request request = HPCM_REQUEST;
    hpcm_file *file = open_file(p, threads);
    uint8_t *pixels = exactly(p->size);
    request.check = stop;
    request.user = &checks;
    hpcm_status status = hpcm_read(file, &request, pixels, p->stride), wanted = checks < 0 ? HPCM_STOPPED : HPCM_OK;
    expect(status == wanted, "a call ends as its check says");
    if (status == HPCM_STOPPED) status = hpcm_read(file, 0, pixels, p->stride);
    expect(status == HPCM_OK && !memcmp(pixels, p->pixels, p->size), "a call gives what one thread gave");
    free(pixels);
    hpcm_close(file);
}

static void *use(void *number) {
    unsigned random = 1 + (unsigned)(uintptr_t)number;
    for (int round = 0; round < rounds; round++) {
        const picture *p = &pictures[rand_r(&random) % picture_count];
        int32_t threads = 1 + rand_r(&random) % MOST_THREADS;
        read_again(p, threads, rand_r(&random) % 2 ? rand_r(&random) % MOST_CHECKS : INT32_MAX);
    }
    return 0;
}

static void fork_often(void) {
    for (int round = 0; round < rounds; round++) {
        int status;
        pid_t child = fork();
        expect(child >= 0, "fork");
        if (!child) {
            alarm(SECONDS_EACH);
            read_again(&pictures[round % picture_count], 1 + round % MOST_THREADS, INT32_MAX);
            _exit(0);
        }
        while (waitpid(child, &status, 0) < 0) {}
        expect(WIFEXITED(status) && WEXITSTATUS(status) == 0, "a child ends well");
    }
}

int main(int count, char **arguments) {
    pthread_t threads[CALLERS];
    expect(count > 3 && count - 3 <= MOST_FILES, "there are rounds, a folder of weights, and files");
    rounds = atoi(arguments[1]);
    weights = arguments[2];
    for (; picture_count < count - 3; picture_count++) {
        pictures[picture_count].path = arguments[3 + picture_count];
        read_alone(&pictures[picture_count]);
    }
    for (uintptr_t i = 0; i < CALLERS; i++) expect(!pthread_create(&threads[i], 0, use, (void *)i), "a thread is started");
    if (FORKS) fork_often();
    for (int i = 0; i < CALLERS; i++) pthread_join(threads[i], 0);
    for (int i = 0; i < picture_count; i++) free(pictures[i].pixels);
    printf("%d rounds: all calls give what one thread gave\n", rounds);
    return 0;
}
