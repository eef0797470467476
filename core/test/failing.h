/* Allocations that fail: core/build.py has the linker lead those of a fuzzer and of the library here. */
#ifndef HPCM_FAILING_H
#define HPCM_FAILING_H

#include <stddef.h>
#include <stdint.h>

static int32_t allocations_left = -1; /* that succeed before one fails; negative: none does */

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);

static int allocation_fails(void) {
    return allocations_left >= 0 && !allocations_left--;
}

void *__wrap_malloc(size_t size) {
    return allocation_fails() ? 0 : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size) {
    return allocation_fails() ? 0 : __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size) {
    return allocation_fails() ? 0 : __real_realloc(old, size);
}

#endif
