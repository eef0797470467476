/* What WebAssembly needs besides: memory and threads.
 *
 * A module can't start threads. The page lends it workers that share its memory: each calls hpcm_lend_thread, which
 * returns when the page shuts the worker down, never before. A started thread runs in one that waits.
 *
 * Only one thread calls the library's functions; the others compute what they are given. */
#ifdef __wasm__

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "hpcm.h"
#include "model.h"
#include "threading.h"
#include "threads.h"

/* ---- memory ----------------------------------------------------------------------------------------------------------- */

/* The libc's malloc gives blocks of 2^n bytes that it never joins, and twice as much memory is taken. This is the one of
 * Kernighan and Ritchie, "The C Programming Language", 1988, section 8.7: free blocks are on a list, by their places, and
 * neighbours are joined. */
typedef union block {
    struct {
        union block *next; /* on the list */
        size_t units;      /* of sizeof(block) bytes, with this head */
    };
    max_align_t alignment;
} block;

static block *first_free;
static hpcm_mutex memory_lock = HPCM_MUTEX_INIT; /* residuals of several tiles are coded at once, and each takes memory */

static void join_with_next(block *given) {
    if (!given->next || given + given->units != given->next) return;
    given->units += given->next->units;
    given->next = given->next->next;
}

static void put_on_list(block *given) {
    block **place = &first_free, *before = 0;
    while (*place && *place < given) {
        before = *place;
        place = &before->next;
    }
    given->next = *place;
    *place = given;
    join_with_next(given);
    if (before) join_with_next(before);
}

static int grow(size_t units) {
    enum { PAGE = 65536 };
    size_t pages = (units * sizeof(block) + PAGE - 1) / PAGE;
    size_t before = __builtin_wasm_memory_grow(0, pages);
    if (before == SIZE_MAX) return 0;
    block *made = (block *)(before * PAGE);
    made->units = pages * (PAGE / sizeof(block));
    put_on_list(made);
    return 1;
}

/* The end of the first block that is large enough, off the list. */
static block *take(size_t units) {
    for (block **place = &first_free; *place; place = &(*place)->next) {
        block *found = *place;
        if (found->units < units) continue;
        if (found->units == units) {
            *place = found->next;
            return found;
        }
        found->units -= units;
        found += found->units;
        found->units = units;
        return found;
    }
    return 0;
}

void *malloc(size_t size) {
    if (size > PTRDIFF_MAX) return 0;
    size_t units = (size + sizeof(block) - 1) / sizeof(block) + 1;
    hpcm_mutex_lock(&memory_lock);
    block *taken = take(units);
    if (!taken && grow(units)) taken = take(units);
    hpcm_mutex_unlock(&memory_lock);
    return taken ? taken + 1 : 0;
}

void free(void *allocated) {
    if (!allocated) return;
    hpcm_mutex_lock(&memory_lock);
    put_on_list((block *)allocated - 1);
    hpcm_mutex_unlock(&memory_lock);
}

void *calloc(size_t count, size_t size) {
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes)) return 0;
    void *made = malloc(bytes);
    return made ? memset(made, 0, bytes) : 0;
}

void *realloc(void *allocated, size_t size) {
    void *made = malloc(size);
    if (!made || !allocated) return made;
    size_t before = (((block *)allocated - 1)->units - 1) * sizeof(block);
    memcpy(made, allocated, before < size ? before : size);
    free(allocated);
    return made;
}

/* For the caller's numbers; null where there is no memory. hpcm_free frees it. */
HPCM_API void *hpcm_allocate(size_t size) {
    return malloc(size);
}

HPCM_API void hpcm_free(void *allocated) {
    free(allocated);
}

/* ---- threads ---------------------------------------------------------------------------------------------------------- */

#ifdef __wasm_atomics__

/* By itself, because the first compiler of V8 11 (Node.js 20) loses local variables in a function that waits. */
__attribute__((noinline)) static void sleep_while(atomic_int *word, int value) {
    __builtin_wasm_memory_atomic_wait32((int *)word, value, -1);
}

static void wake(atomic_int *word, unsigned count) {
    __builtin_wasm_memory_atomic_notify((int *)word, count);
}

/* 0: free, 1: locked, 2: locked and perhaps waited for. Drepper, "Futexes Are Tricky", 2011, section 5. */
void hpcm_mutex_lock(hpcm_mutex *mutex) {
    int before = 0;
    if (atomic_compare_exchange_strong(mutex, &before, 1)) return;
    while (atomic_exchange(mutex, 2)) sleep_while(mutex, 2);
}

void hpcm_mutex_unlock(hpcm_mutex *mutex) {
    if (atomic_exchange(mutex, 0) == 2) wake(mutex, 1);
}

/* A condition counts its signals. */
void hpcm_condition_wait(hpcm_condition *condition, hpcm_mutex *mutex) {
    int before = atomic_load(condition);
    hpcm_mutex_unlock(mutex);
    sleep_while(condition, before);
    hpcm_mutex_lock(mutex);
}

void hpcm_condition_signal(hpcm_condition *condition) {
    atomic_fetch_add(condition, 1);
    wake(condition, 1);
}

void hpcm_condition_broadcast(hpcm_condition *condition) {
    atomic_fetch_add(condition, 1);
    wake(condition, (unsigned)-1);
}

enum { MOST_THREADS = 64 };
enum { ABSENT, WAITING, RUNNING };

static struct {
    atomic_int state;
    hpcm_thread_result (*run)(void *);
    void *argument;
} lent[MOST_THREADS];

/* number: 0, 1, ..., each once. */
HPCM_API void hpcm_lend_thread(int32_t number) {
    if (number < 0 || number >= MOST_THREADS) return;
    for (;;) {
        atomic_store(&lent[number].state, WAITING);
        wake(&lent[number].state, 1);
        sleep_while(&lent[number].state, WAITING);
        if (atomic_load(&lent[number].state) == RUNNING) lent[number].run(lent[number].argument);
    }
}

int hpcm_thread_start(hpcm_thread *thread, hpcm_thread_result (*run)(void *), void *argument) {
    for (int number = 0; number < MOST_THREADS; number++) {
        if (atomic_load(&lent[number].state) != WAITING) continue;
        lent[number].run = run;
        lent[number].argument = argument;
        atomic_store(&lent[number].state, RUNNING);
        wake(&lent[number].state, 1);
        *thread = number;
        return 1;
    }
    return 0;
}

void hpcm_thread_join(hpcm_thread thread) {
    while (atomic_load(&lent[thread].state) == RUNNING) sleep_while(&lent[thread].state, RUNNING);
}

#else /* one thread */

void hpcm_mutex_lock(hpcm_mutex *mutex) {
    (void)mutex;
}

void hpcm_mutex_unlock(hpcm_mutex *mutex) {
    (void)mutex;
}

void hpcm_condition_wait(hpcm_condition *condition, hpcm_mutex *mutex) {
    (void)condition;
    (void)mutex;
}

void hpcm_condition_signal(hpcm_condition *condition) {
    (void)condition;
}

void hpcm_condition_broadcast(hpcm_condition *condition) {
    (void)condition;
}

int hpcm_thread_start(hpcm_thread *thread, hpcm_thread_result (*run)(void *), void *argument) {
    (void)thread;
    (void)run;
    (void)argument;
    return 0;
}

void hpcm_thread_join(hpcm_thread thread) {
    (void)thread;
}

#endif

/* ---- residuals of several tiles --------------------------------------------------------------------------------------- */

/* One of hpcm_residual_encode and _decode, or hpcm_dct_encode and _decode: their arguments, and what they give. */
typedef struct {
    const void *source; /* null: decodes */
    const void *base;
    int32_t rows, columns, channels, bit_depth;
    int32_t is_dct;
    int32_t number;   /* max_error, or the step of coefficients */
    uint8_t *payload; /* an encoded one is to be freed by hpcm_residual_free */
    size_t size;
    void *pixels;
    hpcm_status status;
} residual_job;

static void work_off(void *context, int index, int thread) {
    residual_job *job = (residual_job *)context + index;
    (void)thread;
    if (job->source) {
        job->status = (job->is_dct ? hpcm_dct_encode : hpcm_residual_encode)(
            job->source, job->base, job->rows, job->columns, job->channels, job->bit_depth, job->number, &job->payload,
            &job->size, 0, 0);
    } else {
        job->status = (job->is_dct ? hpcm_dct_decode : hpcm_residual_decode)(
            job->payload, job->size, job->base, job->rows, job->columns, job->channels, job->bit_depth, job->number,
            job->pixels, 0, 0);
    }
}

/* Codes each tile's residual in one thread. model: its threads compute, since a model keeps those that it has started, and
 * there may be no others. Null: so many are started for this call, as far as there are any. */
HPCM_API hpcm_status hpcm_residual_jobs(hpcm_model *model, int32_t threads, residual_job *jobs, int32_t count) {
    hpcm_runtime *runtime = model ? model->runtime : hpcm_runtime_create(threads);
    if (!runtime) return HPCM_NO_MEMORY;
    hpcm_share_out(runtime, work_off, jobs, count);
    if (!model) hpcm_runtime_free(runtime);
    return HPCM_OK;
}

#endif
