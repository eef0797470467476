/* Threads that share out the rows of a tile, and memory that is used again from call to call. */
#ifndef HPCM_THREADS_H
#define HPCM_THREADS_H

#include <stddef.h>
#include <stdint.h>

#include "hpcm.h"

typedef struct hpcm_runtime hpcm_runtime;
typedef struct hpcm_scratch hpcm_scratch;

/* Null if there is no memory. Threads are started when they are first needed. */
hpcm_runtime *hpcm_runtime_create(int threads);
void hpcm_runtime_free(hpcm_runtime *runtime);
int hpcm_runtime_threads(const hpcm_runtime *runtime);

/* Calls task(context, index, thread) for each index below `count`, `thread` below the number of threads. If the threads
 * are busy for another caller, or can't be started, the caller does all by himself. */
typedef void (*hpcm_task)(void *context, int index, int thread);
void hpcm_share_out(hpcm_runtime *runtime, hpcm_task task, void *context, int count);

/* Memory of one call. What is taken lies on a stack: `release` gives back what was taken after `mark`. */
hpcm_scratch *hpcm_scratch_get(hpcm_runtime *runtime);
void hpcm_scratch_put(hpcm_runtime *runtime, hpcm_scratch *scratch);
/* `count` things of `size` bytes, aligned to 64 bytes and not cleared; null if there is no memory. */
void *hpcm_take(hpcm_scratch *scratch, uint64_t count, size_t size);
size_t hpcm_mark(const hpcm_scratch *scratch);
void hpcm_release(hpcm_scratch *scratch, size_t mark);

#endif
