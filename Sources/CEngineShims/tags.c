// SIMD search for a tag byte: sixteen tags a step where the processor has vectors.
#include "CEngineShims.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

size_t martlet_match_tag(const uint8_t *bytes, size_t from, size_t count, uint8_t tag) {
    size_t at = from;
#if defined(__SSE2__)
    const __m128i wanted = _mm_set1_epi8((char)tag);
    while (at + 16 <= count) {
        __m128i chunk = _mm_loadu_si128((const __m128i *)(bytes + at));
        int mask = _mm_movemask_epi8(_mm_cmpeq_epi8(chunk, wanted));
        if (mask != 0) {
            return at + (size_t)__builtin_ctz((unsigned)mask);
        }
        at += 16;
    }
#endif
    while (at < count && bytes[at] != tag) {
        at++;
    }
    return at;
}
