// XXH3 through libxxhash: its run-time dispatch picks AVX-512, AVX2 or SSE2 on x86-64.
#include "CEngineShims.h"

#include <xxhash.h>
#if defined(__x86_64__)
#include <cpuid.h>
#include <xxh_x86dispatch.h>

// The library's AVX code, as Debian builds it, returns with the upper halves of the vector registers
// in use. Whatever the thread runs next then pays for each change between old and new vector
// instructions, as at every memmove: up to 240 ns on some processors of 2023.
__attribute__((target("avx"))) static void clear_upper_halves(void) {
    __builtin_ia32_vzeroupper();
}

/// Shorter input is hashed without AVX (`XXH3_MIDSIZE_MAX`).
#define SHORT_BYTES 240

static inline void leave(size_t length) {
    if (length > SHORT_BYTES && __builtin_cpu_supports("avx")) clear_upper_halves();
}

/// Whether a YMM register's upper half is not in its initial state.
static int upper_halves_in_use(void) {
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(1));
    return (low & 4u) != 0;
}

int martlet_hash_leaves_upper_halves(const void *bytes, size_t length) {
    unsigned a, b, c, d;
    if (!__builtin_cpu_supports("avx") || !__get_cpuid_count(13, 1, &a, &b, &c, &d) || !(a & 4u)) {
        return -1;
    }
    clear_upper_halves();
    if (upper_halves_in_use()) return -1;
    volatile uint64_t hash = martlet_xxh3_64(bytes, length);
    (void)hash;
    return upper_halves_in_use();
}
#else
static inline void leave(size_t length) { (void)length; }
int martlet_hash_leaves_upper_halves(const void *bytes, size_t length) {
    (void)bytes;
    (void)length;
    return -1;
}
#endif

martlet_hash128 martlet_xxh3_128(const void *bytes, size_t length) {
    XXH128_hash_t hash = XXH3_128bits(bytes, length);
    leave(length);
    martlet_hash128 result = {hash.low64, hash.high64};
    return result;
}

uint64_t martlet_xxh3_64(const void *bytes, size_t length) {
    uint64_t hash = XXH3_64bits(bytes, length);
    leave(length);
    return hash;
}
