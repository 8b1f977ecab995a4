// XXH3 through libxxhash: its run-time dispatch picks AVX-512, AVX2 or SSE2 on x86-64.
#include "CEngineShims.h"

#include <xxhash.h>
#if defined(__x86_64__)
#include <xxh_x86dispatch.h>
#endif

martlet_hash128 martlet_xxh3_128(const void *bytes, size_t length) {
    XXH128_hash_t hash = XXH3_128bits(bytes, length);
    martlet_hash128 result = {hash.low64, hash.high64};
    return result;
}

uint64_t martlet_xxh3_64(const void *bytes, size_t length) {
    return XXH3_64bits(bytes, length);
}
