/* What WebAssembly needs besides: memory for the caller's numbers, and threads.
 *
 * A module can't start threads. The page lends it workers that share its memory: each calls hpcm_lend_thread, which
 * returns when the page shuts the worker down, never before. A started thread runs in one that waits.
 *
 * Only one thread calls the library's functions and takes memory; the others compute what they are given. */
#ifdef __wasm__

#include <stdint.h>
#include <stdlib.h>

#include "hpcm.h"
#include "threading.h"

/* For the caller's numbers; null where there is no memory. hpcm_free frees it. */
HPCM_API void *hpcm_allocate(size_t size) {
    return size <= PTRDIFF_MAX ? malloc(size) : 0; /* this libc's malloc gives too little for sizes near 2^32 */
}

HPCM_API void hpcm_free(void *allocated) {
    free(allocated);
}

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

/* ---- threads ---------------------------------------------------------------------------------------------------------- */

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

#endif
