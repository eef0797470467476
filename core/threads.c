/* A pool of threads for each model. Waiting threads sleep: others share the machine.
 *
 * A child of fork() has none of its parent's threads, and locks that they held stay locked. So every runtime is on a
 * list, and is made new in the child before anything else runs there. */
#include "threads.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "threading.h"

enum { ALIGNMENT = 64, KEPT = 8 }; /* KEPT: memories that are kept for later calls */

/* The address sanitizer is told what of a block is taken. It sees reads and writes beyond the ends, and after release. */
#ifdef __has_feature
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1 /* as gcc has it */
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
enum { GAP = ALIGNMENT, LEAST_BLOCK = 1 << 12 }; /* GAP: between neighbours. Small tiles take several blocks, too */
#else
#define ASAN_POISON_MEMORY_REGION(begin, size) ((void)(begin), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(begin, size) ((void)(begin), (void)(size))
enum { GAP = 0, LEAST_BLOCK = 1 << 20 };
#endif

typedef struct block {
    struct block *below;
    size_t size, used;
    size_t before; /* the size of all blocks below */
    unsigned char *bytes;
} block;

struct hpcm_scratch {
    block *top;
    size_t peak;
};

typedef struct {
    hpcm_runtime *runtime;
    int number;
    unsigned round; /* the last one when it was started */
    hpcm_thread handle;
} worker;

struct hpcm_runtime {
    int threads, started;
    worker *workers;
    hpcm_mutex lock;
    hpcm_condition work, done;
    int busy; /* for one caller at a time */
    int ending;
    unsigned round; /* counts the calls of hpcm_share_out */
    int working;    /* threads that are not done with this round */
    hpcm_task task;
    void *context;
    int count;
    atomic_int next;
    hpcm_scratch *kept[KEPT];
    int kept_count;
    hpcm_runtime *following, **link; /* on the list of all; link: what points here */
};

/* ---- fork ------------------------------------------------------------------------------------------------------------- */

static hpcm_mutex all_lock = HPCM_MUTEX_INIT;
static hpcm_once once = HPCM_ONCE_INIT;
static hpcm_runtime *all;

#if defined(_WIN32) || defined(__wasm__)

static void register_at_fork(void) {} /* there is no fork */

#else

static void before_fork(void) {
    hpcm_mutex_lock(&all_lock);
}

static void after_fork(void) {
    hpcm_mutex_unlock(&all_lock);
}

static void in_child(void) {
    hpcm_mutex_init(&all_lock);
    for (hpcm_runtime *runtime = all; runtime; runtime = runtime->following) {
        hpcm_mutex_init(&runtime->lock);
        hpcm_condition_init(&runtime->work);
        hpcm_condition_init(&runtime->done);
        runtime->started = runtime->busy = runtime->working = 0;
        runtime->kept_count = 0; /* another thread may have been changing them: they are lost */
    }
}

static void register_at_fork(void) {
    pthread_atfork(before_fork, after_fork, in_child);
}

#endif

/* ---- threads ---------------------------------------------------------------------------------------------------------- */

static void work_off(hpcm_runtime *runtime, int thread) {
    int index;
    while ((index = atomic_fetch_add(&runtime->next, 1)) < runtime->count) runtime->task(runtime->context, index, thread);
}

static hpcm_thread_result run_worker(void *argument) {
    worker *self = argument;
    hpcm_runtime *runtime = self->runtime;
    hpcm_mutex_lock(&runtime->lock);
    for (;;) {
        while (runtime->round == self->round && !runtime->ending) hpcm_condition_wait(&runtime->work, &runtime->lock);
        if (runtime->ending) break;
        self->round = runtime->round;
        hpcm_mutex_unlock(&runtime->lock);
        work_off(runtime, self->number);
        hpcm_mutex_lock(&runtime->lock);
        if (!--runtime->working) hpcm_condition_signal(&runtime->done);
    }
    hpcm_mutex_unlock(&runtime->lock);
    return 0;
}

/* Called with the lock held. Fewer may start than are asked for. */
static void start_threads(hpcm_runtime *runtime) {
    while (runtime->started < runtime->threads - 1) {
        worker *next = &runtime->workers[runtime->started];
        *next = (worker){.runtime = runtime, .number = runtime->started + 1, .round = runtime->round};
        if (!hpcm_thread_start(&next->handle, run_worker, next)) return;
        runtime->started++;
    }
}

void hpcm_share_out(hpcm_runtime *runtime, hpcm_task task, void *context, int count) {
    int alone = runtime->threads == 1 || count < 2;
    if (!alone) {
        hpcm_mutex_lock(&runtime->lock);
        alone = runtime->busy;
        if (!alone) {
            start_threads(runtime);
            runtime->busy = 1;
            runtime->task = task;
            runtime->context = context;
            runtime->count = count;
            atomic_store(&runtime->next, 0);
            runtime->working = runtime->started;
            runtime->round++;
            hpcm_condition_broadcast(&runtime->work);
        }
        hpcm_mutex_unlock(&runtime->lock);
    }
    if (alone) {
        for (int index = 0; index < count; index++) task(context, index, 0);
        return;
    }
    work_off(runtime, 0);
    hpcm_mutex_lock(&runtime->lock);
    while (runtime->working) hpcm_condition_wait(&runtime->done, &runtime->lock);
    runtime->busy = 0;
    hpcm_mutex_unlock(&runtime->lock);
}

hpcm_runtime *hpcm_runtime_create(int threads) {
    hpcm_runtime *runtime = calloc(1, sizeof *runtime);
    if (!runtime) return 0;
    runtime->threads = threads;
    runtime->workers = calloc((size_t)threads, sizeof *runtime->workers);
    if (!runtime->workers) {
        free(runtime);
        return 0;
    }
    hpcm_mutex_init(&runtime->lock);
    hpcm_condition_init(&runtime->work);
    hpcm_condition_init(&runtime->done);
    hpcm_call_once(&once, register_at_fork);
    hpcm_mutex_lock(&all_lock);
    runtime->following = all;
    runtime->link = &all;
    if (all) all->link = &runtime->following;
    all = runtime;
    hpcm_mutex_unlock(&all_lock);
    return runtime;
}

int hpcm_runtime_threads(const hpcm_runtime *runtime) {
    return runtime->threads;
}

static void free_scratch(hpcm_scratch *scratch) {
    while (scratch->top) {
        block *below = scratch->top->below;
        free(scratch->top);
        scratch->top = below;
    }
    free(scratch);
}

void hpcm_runtime_free(hpcm_runtime *runtime) {
    if (!runtime) return;
    hpcm_mutex_lock(&all_lock);
    *runtime->link = runtime->following;
    if (runtime->following) runtime->following->link = runtime->link;
    hpcm_mutex_unlock(&all_lock);
    hpcm_mutex_lock(&runtime->lock);
    runtime->ending = 1;
    hpcm_condition_broadcast(&runtime->work);
    hpcm_mutex_unlock(&runtime->lock);
    for (int i = 0; i < runtime->started; i++) hpcm_thread_join(runtime->workers[i].handle);
    for (int i = 0; i < runtime->kept_count; i++) free_scratch(runtime->kept[i]);
    hpcm_mutex_destroy(&runtime->lock);
    hpcm_condition_destroy(&runtime->work);
    hpcm_condition_destroy(&runtime->done);
    free(runtime->workers);
    free(runtime);
}

/* ---- memory ----------------------------------------------------------------------------------------------------------- */

hpcm_scratch *hpcm_scratch_get(hpcm_runtime *runtime) {
    hpcm_scratch *scratch = 0;
    hpcm_mutex_lock(&runtime->lock);
    if (runtime->kept_count) scratch = runtime->kept[--runtime->kept_count];
    hpcm_mutex_unlock(&runtime->lock);
    return scratch ? scratch : calloc(1, sizeof *scratch);
}

static block *new_block(block *below, size_t size) {
    if (size > SIZE_MAX - sizeof(block) - ALIGNMENT) return 0;
    block *made = malloc(sizeof(block) + ALIGNMENT + size);
    if (!made) return 0;
    uintptr_t begin = ((uintptr_t)(made + 1) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    *made = (block){below, size, 0, below ? below->before + below->size : 0, (unsigned char *)begin};
    ASAN_POISON_MEMORY_REGION(made->bytes, size);
    return made;
}

void hpcm_scratch_put(hpcm_runtime *runtime, hpcm_scratch *scratch) {
    hpcm_release(scratch, 0);
    if (scratch->top && scratch->top->size < scratch->peak) { /* one block next time, as large as all were together */
        free(scratch->top);
        scratch->top = new_block(0, scratch->peak);
    }
    int kept = 0;
    hpcm_mutex_lock(&runtime->lock);
    if (runtime->kept_count < KEPT) {
        runtime->kept[runtime->kept_count++] = scratch;
        kept = 1;
    }
    hpcm_mutex_unlock(&runtime->lock);
    if (!kept) free_scratch(scratch);
}

void *hpcm_take(hpcm_scratch *scratch, uint64_t count, size_t size) {
    if (count > (SIZE_MAX - 2 * ALIGNMENT) / size) return 0;
    size_t wanted = (size_t)count * size, bytes = (wanted + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT + GAP;
    block *top = scratch->top;
    if (!top || top->size - top->used < bytes) {
        block *made = new_block(top, bytes > LEAST_BLOCK ? bytes : LEAST_BLOCK);
        if (!made) return 0;
        top = scratch->top = made;
    }
    void *taken = top->bytes + top->used;
    ASAN_UNPOISON_MEMORY_REGION(taken, wanted);
    top->used += bytes;
    if (top->before + top->used > scratch->peak) scratch->peak = top->before + top->used;
    return taken;
}

size_t hpcm_mark(const hpcm_scratch *scratch) {
    return scratch->top ? scratch->top->before + scratch->top->used : 0;
}

void hpcm_release(hpcm_scratch *scratch, size_t mark) {
    while (scratch->top && scratch->top->below && scratch->top->before >= mark) {
        block *below = scratch->top->below;
        free(scratch->top);
        scratch->top = below;
    }
    if (!scratch->top) return;
    block *top = scratch->top;
    top->used = mark - top->before;
    ASAN_POISON_MEMORY_REGION(top->bytes + top->used, top->size - top->used);
}
