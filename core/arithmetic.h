/* What floats are computed with: rounding to nearest and no flush to zero, whatever the caller has set up. Functions that
 * compute with floats enter it, and leave it for what was set up before. Threads begin with what their maker has. */
#ifndef HPCM_ARITHMETIC_H
#define HPCM_ARITHMETIC_H

#include <stdint.h>

#if defined(__x86_64__) || defined(_M_X64)

#include <immintrin.h>

static inline uint64_t hpcm_enter_arithmetic(void) {
    enum { DEFAULT = 0x1F80 };
    unsigned before = _mm_getcsr();
    _mm_setcsr(DEFAULT);
    return before;
}

static inline void hpcm_leave_arithmetic(uint64_t before) {
    _mm_setcsr((unsigned)before);
}

#elif defined(__aarch64__)

static inline uint64_t hpcm_enter_arithmetic(void) {
    uint64_t before, standard = 0;
    __asm__ volatile("mrs %0, fpcr" : "=r"(before) : : "memory");
    __asm__ volatile("msr fpcr, %0" : : "r"(standard) : "memory");
    return before;
}

static inline void hpcm_leave_arithmetic(uint64_t before) {
    __asm__ volatile("msr fpcr, %0" : : "r"(before) : "memory");
}

#else

static inline uint64_t hpcm_enter_arithmetic(void) {
    return 0;
}

static inline void hpcm_leave_arithmetic(uint64_t before) {
    (void)before;
}

#endif

#endif
