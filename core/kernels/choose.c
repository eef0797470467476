/* Which kernels this machine can run. cpuid is read here: __builtin_cpu_supports finds nothing in some static builds. */
#include "kernels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../arithmetic.h"
#include "../threading.h"

enum { MOST_SETS = 3 }; /* of one architecture */

#if defined(__x86_64__) || defined(_M_X64)

#include <cpuid.h>

static unsigned bit(unsigned word, int place) {
    return word >> place & 1;
}

/* The registers that the operating system saves when it changes threads. */
static uint64_t saved_registers(void) {
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

static void detect(int *avx2, int *avx512) {
    enum { YMM = 0x06, ZMM = 0xE6 };
    unsigned a, b, c, d;
    *avx2 = *avx512 = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !bit(c, 27) || !bit(c, 28)) return; /* OSXSAVE, AVX */
    uint64_t saved = saved_registers();
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return;
    *avx2 = (saved & YMM) == YMM && bit(b, 5);
    *avx512 = (saved & ZMM) == ZMM && bit(b, 16) && bit(b, 17) && bit(b, 30) && bit(b, 31) && bit(c, 11);
}

/* Best first. */
static int available(const hpcm_kernel_set *found[MOST_SETS]) {
    int count = 0, avx2, avx512;
    detect(&avx2, &avx512);
    if (avx512) found[count++] = &hpcm_avx512_kernels;
    if (avx2) found[count++] = &hpcm_avx2_kernels;
    found[count++] = &hpcm_generic_kernels;
    return count;
}

#elif defined(__aarch64__)

static int available(const hpcm_kernel_set *found[MOST_SETS]) {
    found[0] = &hpcm_neon_kernels;
    found[1] = &hpcm_generic_kernels;
    return 2;
}

#elif defined(__wasm_simd128__)

static int available(const hpcm_kernel_set *found[MOST_SETS]) {
    found[0] = &hpcm_simd128_kernels;
    found[1] = &hpcm_generic_kernels;
    return 2;
}

#else /* other processors have no kernels of their own */

static int available(const hpcm_kernel_set *found[MOST_SETS]) {
    found[0] = &hpcm_generic_kernels;
    return 1;
}

#endif

/* ---- what was found, once in a process -------------------------------------------------------------------------------- */

enum { LONGEST_NAME = 16 };
static const hpcm_kernel_set *sets[MOST_SETS];
static int set_count, is_right[MOST_SETS];
static char names[MOST_SETS * (LONGEST_NAME + 1)];

static void look_around(void) {
    uint64_t arithmetic = hpcm_enter_arithmetic();
    set_count = available(sets);
    for (int i = 0; i < set_count; i++) {
        is_right[i] = hpcm_kernels_are_right(sets[i]);
        if (i) strcat(names, " ");
        strncat(names, sets[i]->name, LONGEST_NAME);
    }
    hpcm_leave_arithmetic(arithmetic);
}

const char *hpcm_kernels(void) {
    static hpcm_once once = HPCM_ONCE_INIT;
    hpcm_call_once(&once, look_around);
    return names;
}

static hpcm_status refuse(char *message, int index) {
    const char *wrong = sets[index]->name;
    for (int other = 0; other < set_count; other++)
        if (is_right[other]) {
            snprintf(message, HPCM_MESSAGE, "the kernels %s compute wrongly on this machine: set HPCM_KERNELS=%s", wrong,
                     sets[other]->name);
            return HPCM_BAD_KERNELS;
        }
    snprintf(message, HPCM_MESSAGE, "the kernels %s compute wrongly on this machine, as all others do", wrong);
    return HPCM_BAD_KERNELS;
}

hpcm_status hpcm_choose_kernels(const char *name, const hpcm_kernel_set **chosen, char *message) {
    const char *all = hpcm_kernels();
    int index = 0;
#ifndef __wasm__ /* which has no environment */
    if (!name) name = getenv("HPCM_KERNELS");
#endif
    if (name && *name)
        while (index < set_count && strcmp(sets[index]->name, name)) index++;
    if (index == set_count) {
        snprintf(message, HPCM_MESSAGE, "HPCM_KERNELS is '%.64s': this machine has the kernels %s", name, all);
        return HPCM_BAD_KERNELS;
    }
    *chosen = sets[index];
    return is_right[index] ? HPCM_OK : refuse(message, index);
}
