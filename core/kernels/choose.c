/* Which kernels this machine can run. cpuid is read here: __builtin_cpu_supports finds nothing in some static builds. */
#include "kernels.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "../hpcm.h"

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
static int available(const hpcm_kernel_set *sets[MOST_SETS]) {
    int count = 0, avx2, avx512;
    detect(&avx2, &avx512);
    if (avx512) sets[count++] = &hpcm_avx512_kernels;
    if (avx2) sets[count++] = &hpcm_avx2_kernels;
    sets[count++] = &hpcm_generic_kernels;
    return count;
}

#else /* other processors have no kernels of their own yet */

static int available(const hpcm_kernel_set *sets[MOST_SETS]) {
    sets[0] = &hpcm_generic_kernels;
    return 1;
}

#endif

const hpcm_kernel_set *hpcm_choose_kernels(void) {
    const hpcm_kernel_set *sets[MOST_SETS];
    int count = available(sets);
    const char *wanted = getenv("HPCM_KERNELS");
    if (!wanted || !*wanted) return sets[0];
    for (int i = 0; i < count; i++)
        if (!strcmp(sets[i]->name, wanted)) return sets[i];
    return 0;
}

enum { LONGEST_NAME = 16 };
static char names[MOST_SETS * (LONGEST_NAME + 1)];

static void list_names(void) {
    const hpcm_kernel_set *sets[MOST_SETS];
    int count = available(sets);
    for (int i = 0; i < count; i++) {
        if (i) strcat(names, " ");
        strncat(names, sets[i]->name, LONGEST_NAME);
    }
}

const char *hpcm_kernels(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, list_names);
    return names;
}
