/* Uses models from many threads at once, and compares what each call gives with what one thread gave: races [rounds]
 *
 *     python core/build.py --sanitize thread --program core/test/races.c && build/races
 *
 * Callers share models that have threads of their own. Meanwhile calls are stopped by their checks, models are made and
 * freed, and the process forks, also in a check: the child goes on with what it was computing. Before that, the first
 * calls of a process come from several threads, and processes end while their threads compute. `make check-sanitized`
 * runs it, also with a sanitizer of threads. */
#include <fenv.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

#include "forge.h"
#include "input.h"
#include "sanitized.h"

enum { H = 8, W = 12, PLACE = 16, LEVEL = 0, MOST_M = 16, CALLERS = 4, THREADS = 3, PROCESSES = 3, SECONDS_EACH = 600 };
enum { ROWS = PLACE * H, COLUMNS = PLACE * W, SAMPLES = ROWS * COLUMNS * 3, MOST_CHECKS = 256 };
enum { CODERS = 2, RESIDUAL_ROWS = 12, RESIDUAL_SAMPLES = RESIDUAL_ROWS * COLUMNS * 3 };

/* What one thread makes of a picture with the model of a configuration. */
typedef struct {
    uint8_t picture[SAMPLES], pixels[SAMPLES];
    float y[H * W * MOST_M], y_hat[H * W * MOST_M];
    hpcm_payload payload;
    size_t latent_size, payload_size;
    uint8_t *residuals[CODERS], refined[CODERS][RESIDUAL_SAMPLES]; /* of the first rows, beside `pixels` */
    size_t residual_sizes[CODERS];
    int32_t steps;
} tile;

static tile tiles[FORGE_CONFIGS];
static hpcm_model *models[FORGE_CONFIGS]; /* that all callers share */
static int rounds = 100;

/* ---- calls ------------------------------------------------------------------------------------------------------------ */

/* What happens at one of a call's checks. */
typedef struct {
    int left; /* until then */
    enum { NOTHING, STOP, FORK } what;
    pid_t child; /* FORK: as fork() gave it */
    hpcm_status status;
} event;

static int check(void *user) {
    event *e = user;
    if (e->left-- != 0) return 0;
    if (e->what == STOP) {
        e->status = HPCM_STOPPED;
        return 1;
    }
    if (e->what == FORK) {
        e->child = fork();
        expect(e->child >= 0, "fork");
        if (!e->child) alarm(SECONDS_EACH);
    }
    return 0;
}

static void expect_equal(event *e, hpcm_status status, const void *one, const void *other, size_t size) {
    expect(status == e->status, "a call ends as its check says");
    if (status == HPCM_OK) expect(!memcmp(one, other, size), "a call gives what one thread gave");
}

static void analyse(hpcm_model *model, const tile *t, event *e) {
    const hpcm_pixels pixels = {t->picture, COLUMNS * 3, 1, ROWS, COLUMNS, 3, 255};
    float *y = exactly(t->latent_size);
    hpcm_status status = hpcm_analyse(model, &pixels, H, W, y, check, e);
    expect_equal(e, status, y, t->y, t->latent_size);
    free(y);
}

static void encode(hpcm_model *model, const tile *t, event *e) {
    hpcm_payload payload;
    float *y_hat = exactly(t->latent_size);
    hpcm_status status = hpcm_encode(model, t->y, 0, H, W, LEVEL, H, W, y_hat, &payload, check, e);
    expect_equal(e, status, y_hat, t->y_hat, t->latent_size);
    if (status == HPCM_OK) {
        expect(!memcmp(payload.sizes, t->payload.sizes, sizeof payload.sizes), "parts have the same sizes");
        expect(!memcmp(payload.bytes, t->payload.bytes, t->payload_size), "payloads are equal");
    }
    hpcm_payload_free(&payload);
    free(y_hat);
}

static void decode(hpcm_model *model, const tile *t, event *e) {
    hpcm_decoded decoded;
    float *y_hat = exactly(t->latent_size);
    hpcm_status status = hpcm_decode(model, t->payload.bytes, t->payload_size, t->steps, H, W, LEVEL, H, W, y_hat,
                                     &decoded, check, e);
    expect_equal(e, status, y_hat, t->y_hat, t->latent_size);
    free(y_hat);
}

static void synthesise(hpcm_model *model, const tile *t, event *e) {
    const int32_t box[4] = {0, 0, COLUMNS, ROWS};
    uint8_t *pixels = exactly(SAMPLES);
    hpcm_status status = hpcm_synthesise(model, t->y_hat, H, W, box, 1, 3, pixels, check, e);
    expect_equal(e, status, pixels, t->pixels, SAMPLES);
    free(pixels);
}

/* Both coders of residuals, and the number that each is given. */
static const struct {
    __typeof__(hpcm_residual_encode) *encode;
    __typeof__(hpcm_residual_decode) *decode;
    int32_t number;
} RESIDUALS[CODERS] = {{hpcm_residual_encode, hpcm_residual_decode, 3}, {hpcm_dct_encode, hpcm_dct_decode, 90}};

static void encode_residual(const tile *t, event *e, int coder) {
    uint8_t *payload;
    size_t size;
    hpcm_status status = RESIDUALS[coder].encode(t->picture, t->pixels, RESIDUAL_ROWS, COLUMNS, 3, 8,
                                                 RESIDUALS[coder].number, &payload, &size, check, e);
    expect(status != HPCM_OK || size == t->residual_sizes[coder], "payloads have the same size");
    expect_equal(e, status, payload, t->residuals[coder], size);
    hpcm_residual_free(payload);
}

static void decode_residual(const tile *t, event *e, int coder) {
    uint8_t *pixels = exactly(RESIDUAL_SAMPLES);
    hpcm_status status = RESIDUALS[coder].decode(t->residuals[coder], t->residual_sizes[coder], t->pixels, RESIDUAL_ROWS,
                                                 COLUMNS, 3, 8, RESIDUALS[coder].number, pixels, check, e);
    expect_equal(e, status, pixels, t->refined[coder], RESIDUAL_SAMPLES);
    free(pixels);
}

/* They know no models. A second call would have no checks left. */
static void code_residuals(hpcm_model *model, const tile *t, event *e) {
    (void)model;
    int coder = e->left % CODERS != 0;
    if (e->left / CODERS % 2) encode_residual(t, e, coder);
    else decode_residual(t, e, coder);
}

static void (*const CALLS[])(hpcm_model *, const tile *, event *) = {analyse, encode, decode, synthesise, code_residuals};
enum { CALL_KINDS = sizeof CALLS / sizeof *CALLS };

static void call_all(hpcm_model *model, const tile *t) {
    event nothing = {0};
    for (int i = 0; i < CALL_KINDS; i++) CALLS[i](model, t, &nothing);
}

/* What all others are compared with. */
static void make_tile(tile *t, const hpcm_config *config, uint32_t seed) {
    const int32_t box[4] = {0, 0, COLUMNS, ROWS};
    const hpcm_pixels pixels = {t->picture, COLUMNS * 3, 1, ROWS, COLUMNS, 3, 255};
    forge noise = {.random = seed};
    hpcm_model *model = forge_model(config, 1, seed, 0);
    for (int i = 0; i < SAMPLES; i++) t->picture[i] = (uint8_t)forge_random(&noise);
    t->latent_size = (size_t)(H * W * config->M) * sizeof *t->y;
    t->steps = 1 + config->steps[0] + config->steps[1] + config->steps[2];
    expect(hpcm_analyse(model, &pixels, H, W, t->y, 0, 0) == HPCM_OK, "pixels are analysed");
    hpcm_status status = hpcm_encode(model, t->y, 0, H, W, LEVEL, H, W, t->y_hat, &t->payload, 0, 0);
    expect(status == HPCM_OK, "latents are encoded");
    for (int part = 0; part < HPCM_PARTS; part++) t->payload_size += t->payload.sizes[part];
    expect(hpcm_synthesise(model, t->y_hat, H, W, box, 1, 3, t->pixels, 0, 0) == HPCM_OK, "latents give pixels");
    for (int i = 0; i < CODERS; i++) {
        status = RESIDUALS[i].encode(t->picture, t->pixels, RESIDUAL_ROWS, COLUMNS, 3, 8, RESIDUALS[i].number,
                                     &t->residuals[i], &t->residual_sizes[i], 0, 0);
        expect(status == HPCM_OK, "residuals are encoded");
        status = RESIDUALS[i].decode(t->residuals[i], t->residual_sizes[i], t->pixels, RESIDUAL_ROWS, COLUMNS, 3, 8,
                                     RESIDUALS[i].number, t->refined[i], 0, 0);
        expect(status == HPCM_OK, "residuals are decoded");
    }
    hpcm_model_free(model);
}

/* ---- threads ---------------------------------------------------------------------------------------------------------- */

static void free_tile(tile *t) {
    hpcm_payload_free(&t->payload);
    for (int i = 0; i < CODERS; i++) hpcm_residual_free(t->residuals[i]);
}

static void start(pthread_t *thread, void *(*run)(void *), uintptr_t number) {
    expect(!pthread_create(thread, 0, run, (void *)number), "a thread is started");
}

static void finish(pid_t child) {
    int status;
    while (waitpid(child, &status, 0) < 0) {}
    expect(WIFEXITED(status) && WEXITSTATUS(status) == 0, "a child ends well");
}

/* More than 1 where sums are rounded up. fegetround() asks for another unit of the processor. */
static float sum_of_one(void) {
    volatile float one = 1, little = 1e-10f;
    return one + little;
}

/* Some callers have set up another rounding mode. */
static void *use(void *number) {
    forge f = {.random = 1 + (uint32_t)(uintptr_t)number};
    fesetround(f.random % 2 ? FE_TONEAREST : FE_UPWARD);
    float sum = sum_of_one();
    for (int round = 0; round < rounds; round++) {
        uint32_t chosen = forge_random(&f) % FORGE_CONFIGS;
        event e = {.left = (int)(forge_random(&f) % MOST_CHECKS), .child = -1};
        uint32_t kind = forge_random(&f) % 16;
        e.what = kind < 6 ? STOP : FORKS && kind == 6 ? FORK : NOTHING;
        CALLS[forge_random(&f) % CALL_KINDS](models[chosen], &tiles[chosen], &e);
        if (!e.child) _exit(0);
        if (e.child > 0) finish(e.child);
        expect(sum_of_one() == sum, "a call leaves the rounding mode as it was");
    }
    return 0;
}

static void *make_and_free(void *number) {
    forge f = {.random = 1 + (uint32_t)(uintptr_t)number};
    for (int round = 0; round < rounds; round++) {
        uint32_t chosen = forge_random(&f) % FORGE_CONFIGS;
        hpcm_model *model = forge_model(&forge_configs[chosen], 1 + (int32_t)(forge_random(&f) % THREADS), 1 + chosen, 0);
        if (forge_random(&f) % 2) call_all(model, &tiles[chosen]);
        hpcm_model_free(model);
    }
    return 0;
}

/* A child computes with its parent's models and with its own. */
static void fork_often(void) {
    for (int round = 0; round < rounds; round++) {
        int chosen = round % FORGE_CONFIGS;
        pid_t child = fork();
        expect(child >= 0, "fork");
        if (child) {
            finish(child);
            continue;
        }
        alarm(SECONDS_EACH);
        call_all(models[chosen], &tiles[chosen]);
        hpcm_model *own = forge_model(&forge_configs[chosen], THREADS, 1 + (uint32_t)chosen, 0);
        call_all(own, &tiles[chosen]);
        hpcm_model_free(own);
        hpcm_model_free(models[chosen]);
        _exit(0);
    }
}

static atomic_int begun;

static void *use_for_ever(void *number) {
    int chosen = (int)((uintptr_t)number % FORGE_CONFIGS);
    for (;; atomic_fetch_add(&begun, 1)) call_all(models[chosen], &tiles[chosen]);
    return 0;
}

/* A child without threads: 1 there, and 0 in the parent when the child has ended. */
static int in_child(void) {
    pid_t child = fork();
    expect(child >= 0, "fork");
    if (child) finish(child);
    else alarm(SECONDS_EACH);
    return !child;
}

static void *make_first(void *number) {
    static tile first[CALLERS];
    tile *t = &first[(uintptr_t)number];
    const int32_t one = 1;
    expect(hpcm_checksum(&one, 1, 0) == 0x99F8B879, "the first checksums are right");
    make_tile(t, &forge_configs[0], 1);
    return t;
}

/* The first calls of a process, all at once. */
static void begin_together(void) {
    pthread_t threads[CALLERS];
    void *made[CALLERS];
    for (int i = 0; i < CALLERS; i++) start(&threads[i], make_first, (uintptr_t)i);
    for (int i = 0; i < CALLERS; i++) {
        pthread_join(threads[i], &made[i]);
        const tile *one = made[0], *other = made[i];
        expect(!memcmp(one->pixels, other->pixels, SAMPLES), "the first calls give the same pixels");
        expect(!memcmp(one->refined, other->refined, sizeof one->refined), "the first calls give the same residuals");
        expect(one->payload.checksums[2] == other->payload.checksums[2], "the first calls give the same checksums");
    }
    for (int i = 0; i < CALLERS; i++) free_tile(made[i]);
    exit(0);
}

/* A process ends while its threads compute. */
static void end_early(void) {
    pthread_t threads[CALLERS];
    for (int i = 0; i < CALLERS; i++) start(&threads[i], use_for_ever, (uintptr_t)i);
    while (atomic_load(&begun) < 2 * CALLERS) usleep(1000);
    exit(0);
}

int main(int count, char **arguments) {
    pthread_t threads[CALLERS + 2];
    if (count > 1) rounds = atoi(arguments[1]);
    for (int i = 0; i < PROCESSES; i++)
        if (in_child()) begin_together();
    for (int i = 0; i < FORGE_CONFIGS; i++) {
        make_tile(&tiles[i], &forge_configs[i], 1 + (uint32_t)i);
        models[i] = forge_model(&forge_configs[i], THREADS, 1 + (uint32_t)i, 0);
    }
    for (int i = 0; i < PROCESSES; i++)
        if (in_child()) end_early();
    for (int i = 0; i < CALLERS; i++) start(&threads[i], use, (uintptr_t)i);
    for (int i = CALLERS; i < CALLERS + 2; i++) start(&threads[i], make_and_free, (uintptr_t)i);
    if (FORKS) fork_often();
    for (int i = 0; i < CALLERS + 2; i++) pthread_join(threads[i], 0);
    for (int i = 0; i < FORGE_CONFIGS; i++) {
        hpcm_model_free(models[i]);
        free_tile(&tiles[i]);
    }
    printf("%d rounds: all calls give what one thread gave\n", rounds);
    return 0;
}
