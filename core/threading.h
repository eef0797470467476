/* Mutexes, conditions, threads, and what is done once: POSIX threads, Windows' own, or those that a web page lends.
 * Functions that can't fail where they are used return nothing. */
#ifndef HPCM_THREADING_H
#define HPCM_THREADING_H

#ifdef _WIN32

#define WIN32_LEAN_AND_MEAN
#include <process.h>
#include <stdint.h>
#include <windows.h>

typedef SRWLOCK hpcm_mutex;
typedef CONDITION_VARIABLE hpcm_condition;
typedef INIT_ONCE hpcm_once;
typedef HANDLE hpcm_thread;
typedef unsigned hpcm_thread_result; /* of a thread's function, which returns 0 */

#define HPCM_MUTEX_INIT SRWLOCK_INIT
#define HPCM_ONCE_INIT INIT_ONCE_STATIC_INIT

static inline void hpcm_mutex_init(hpcm_mutex *mutex) {
    InitializeSRWLock(mutex);
}

static inline void hpcm_mutex_destroy(hpcm_mutex *mutex) {
    (void)mutex; /* it owns nothing */
}

static inline void hpcm_mutex_lock(hpcm_mutex *mutex) {
    AcquireSRWLockExclusive(mutex);
}

static inline void hpcm_mutex_unlock(hpcm_mutex *mutex) {
    ReleaseSRWLockExclusive(mutex);
}

static inline void hpcm_condition_init(hpcm_condition *condition) {
    InitializeConditionVariable(condition);
}

static inline void hpcm_condition_destroy(hpcm_condition *condition) {
    (void)condition; /* it owns nothing */
}

static inline void hpcm_condition_wait(hpcm_condition *condition, hpcm_mutex *mutex) {
    SleepConditionVariableSRW(condition, mutex, INFINITE, 0);
}

static inline void hpcm_condition_signal(hpcm_condition *condition) {
    WakeConditionVariable(condition);
}

static inline void hpcm_condition_broadcast(hpcm_condition *condition) {
    WakeAllConditionVariable(condition);
}

static inline BOOL CALLBACK hpcm_run_once(INIT_ONCE *once, void *run, void **result) {
    (void)once;
    (void)result;
    ((void (*)(void))(uintptr_t)run)();
    return TRUE;
}

static inline void hpcm_call_once(hpcm_once *once, void (*run)(void)) {
    InitOnceExecuteOnce(once, hpcm_run_once, (void *)(uintptr_t)run, 0);
}

/* Whether it was started. */
static inline int hpcm_thread_start(hpcm_thread *thread, hpcm_thread_result (*run)(void *), void *argument) {
    *thread = (HANDLE)_beginthreadex(0, 0, run, argument, 0, 0);
    return *thread != 0;
}

static inline void hpcm_thread_join(hpcm_thread thread) {
    WaitForSingleObject(thread, INFINITE);
    CloseHandle(thread);
}

#elif defined(__wasm__)

#include <stdatomic.h>

typedef atomic_int hpcm_mutex, hpcm_condition; /* wasm.c says what the numbers mean */
typedef int hpcm_once;
typedef int hpcm_thread;
typedef int hpcm_thread_result;

#define HPCM_MUTEX_INIT 0
#define HPCM_ONCE_INIT 0

void hpcm_mutex_lock(hpcm_mutex *mutex);
void hpcm_mutex_unlock(hpcm_mutex *mutex);
void hpcm_condition_wait(hpcm_condition *condition, hpcm_mutex *mutex);
void hpcm_condition_signal(hpcm_condition *condition);
void hpcm_condition_broadcast(hpcm_condition *condition);
int hpcm_thread_start(hpcm_thread *thread, hpcm_thread_result (*run)(void *), void *argument);
void hpcm_thread_join(hpcm_thread thread);

static inline void hpcm_mutex_init(hpcm_mutex *mutex) {
    atomic_init(mutex, 0);
}

static inline void hpcm_mutex_destroy(hpcm_mutex *mutex) {
    (void)mutex;
}

static inline void hpcm_condition_init(hpcm_condition *condition) {
    atomic_init(condition, 0);
}

static inline void hpcm_condition_destroy(hpcm_condition *condition) {
    (void)condition;
}

/* All calls of the library come from one thread. */
static inline void hpcm_call_once(hpcm_once *once, void (*run)(void)) {
    if (!*once) run();
    *once = 1;
}

#else

#include <pthread.h>
#include <signal.h>

typedef pthread_mutex_t hpcm_mutex;
typedef pthread_cond_t hpcm_condition;
typedef pthread_once_t hpcm_once;
typedef pthread_t hpcm_thread;
typedef void *hpcm_thread_result;

#define HPCM_MUTEX_INIT PTHREAD_MUTEX_INITIALIZER
#define HPCM_ONCE_INIT PTHREAD_ONCE_INIT

static inline void hpcm_mutex_init(hpcm_mutex *mutex) {
    pthread_mutex_init(mutex, 0);
}

static inline void hpcm_mutex_destroy(hpcm_mutex *mutex) {
    pthread_mutex_destroy(mutex);
}

static inline void hpcm_mutex_lock(hpcm_mutex *mutex) {
    pthread_mutex_lock(mutex);
}

static inline void hpcm_mutex_unlock(hpcm_mutex *mutex) {
    pthread_mutex_unlock(mutex);
}

static inline void hpcm_condition_init(hpcm_condition *condition) {
    pthread_cond_init(condition, 0);
}

static inline void hpcm_condition_destroy(hpcm_condition *condition) {
    pthread_cond_destroy(condition);
}

static inline void hpcm_condition_wait(hpcm_condition *condition, hpcm_mutex *mutex) {
    pthread_cond_wait(condition, mutex);
}

static inline void hpcm_condition_signal(hpcm_condition *condition) {
    pthread_cond_signal(condition);
}

static inline void hpcm_condition_broadcast(hpcm_condition *condition) {
    pthread_cond_broadcast(condition);
}

static inline void hpcm_call_once(hpcm_once *once, void (*run)(void)) {
    pthread_once(once, run);
}

/* Whether it was started. A program's signals are handled by its own threads: a handler may expect to run in one of those.
 * Only what a thread's own fault raises isn't kept from it. */
static inline int hpcm_thread_start(hpcm_thread *thread, hpcm_thread_result (*run)(void *), void *argument) {
    sigset_t kept, before;
    sigfillset(&kept);
    sigdelset(&kept, SIGSEGV);
    sigdelset(&kept, SIGBUS);
    sigdelset(&kept, SIGFPE);
    sigdelset(&kept, SIGILL);
    pthread_sigmask(SIG_SETMASK, &kept, &before); /* which the thread begins with */
    int is_started = pthread_create(thread, 0, run, argument) == 0;
    pthread_sigmask(SIG_SETMASK, &before, 0);
    return is_started;
}

static inline void hpcm_thread_join(hpcm_thread thread) {
    pthread_join(thread, 0);
}

#endif

#endif
