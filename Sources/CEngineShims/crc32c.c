// CRC32C: the SSE4.2 or ARMv8 instruction where the processor has it, else
// slicing by eight over tables made once.
#include "CEngineShims.h"

#include <pthread.h>
#include <string.h>

#define POLYNOMIAL 0x82f63b78u

static uint32_t tables[8][256];
static pthread_once_t tables_once = PTHREAD_ONCE_INIT;

static void make_tables(void) {
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; bit++) {
            crc = (crc >> 1) ^ (POLYNOMIAL & (0u - (crc & 1)));
        }
        tables[0][byte] = crc;
    }
    for (uint32_t byte = 0; byte < 256; byte++) {
        for (int slice = 1; slice < 8; slice++) {
            uint32_t previous = tables[slice - 1][byte];
            tables[slice][byte] = (previous >> 8) ^ tables[0][previous & 0xff];
        }
    }
}

static uint32_t crc32c_tables(uint32_t crc, const uint8_t *bytes, size_t length) {
    pthread_once(&tables_once, make_tables);
    while (length >= 8) {
        uint32_t low = crc ^ ((uint32_t)bytes[0] | (uint32_t)bytes[1] << 8
                              | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24);
        crc = tables[7][low & 0xff] ^ tables[6][(low >> 8) & 0xff]
            ^ tables[5][(low >> 16) & 0xff] ^ tables[4][low >> 24]
            ^ tables[3][bytes[4]] ^ tables[2][bytes[5]]
            ^ tables[1][bytes[6]] ^ tables[0][bytes[7]];
        bytes += 8;
        length -= 8;
    }
    while (length--) {
        crc = (crc >> 8) ^ tables[0][(crc ^ *bytes++) & 0xff];
    }
    return crc;
}

#if defined(__x86_64__)
#include <immintrin.h>
// The instruction takes three cycles and one may start in each, so three runs of words go side by
// side and are joined by carry-less multiplication (Gopal et al., "Fast CRC Computation for iSCSI
// Polynomial Using CRC32 Instruction", Intel, 2011).
#define LANE_WORDS_MAX 512
#define LANE_WORDS_MIN 8

// [n]: what a checksum is multiplied by when n words follow, x^(64n - 33): the product is 33 bits
// further up after a carry-less multiplication of reflected words and the instruction's reduction.
static uint32_t word_powers[2 * LANE_WORDS_MAX + 1];
static pthread_once_t powers_once = PTHREAD_ONCE_INIT;

static uint32_t times_x(uint32_t value, int exponent) {
    while (exponent--) value = (value >> 1) ^ (POLYNOMIAL & (0u - (value & 1)));
    return value;
}

static void make_powers(void) {
    uint32_t power = times_x(0x80000000u, 64 - 33);
    for (int words = 1; words <= 2 * LANE_WORDS_MAX; words++) {
        word_powers[words] = power;
        power = times_x(power, 64);
    }
}

__attribute__((target("sse4.2,pclmul")))
static uint32_t followed_by(uint32_t crc, size_t words) {
    __m128i product = _mm_clmulepi64_si128(
        _mm_cvtsi32_si128((int)crc), _mm_cvtsi32_si128((int)word_powers[words]), 0);
    return (uint32_t)_mm_crc32_u64(0, (uint64_t)_mm_cvtsi128_si64(product));
}

__attribute__((target("sse4.2")))
static inline uint64_t crc_of_word(uint64_t crc, const uint8_t *bytes) {
    uint64_t word;
    memcpy(&word, bytes, 8);
    return _mm_crc32_u64(crc, word);
}

__attribute__((target("sse4.2,pclmul")))
static uint32_t crc32c_hardware(uint32_t crc, const uint8_t *bytes, size_t length) {
    if (length >= 24 * LANE_WORDS_MIN) pthread_once(&powers_once, make_powers);
    while (length >= 24 * LANE_WORDS_MIN) {
        size_t words = length / 24 < LANE_WORDS_MAX ? length / 24 : LANE_WORDS_MAX;
        size_t lane = 8 * words;
        uint64_t first = crc, second = 0, third = 0;
        for (const uint8_t *end = bytes + lane; bytes < end; bytes += 8) {
            first = crc_of_word(first, bytes);
            second = crc_of_word(second, bytes + lane);
            third = crc_of_word(third, bytes + 2 * lane);
        }
        crc = followed_by((uint32_t)first, 2 * words) ^ followed_by((uint32_t)second, words)
            ^ (uint32_t)third;
        bytes += 2 * lane;
        length -= 3 * lane;
    }
    uint64_t wide = crc;
    while (length >= 8) {
        wide = crc_of_word(wide, bytes);
        bytes += 8;
        length -= 8;
    }
    crc = (uint32_t)wide;
    while (length--) {
        crc = _mm_crc32_u8(crc, *bytes++);
    }
    return crc;
}
static int has_hardware(void) {
    return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul");
}
#elif defined(__aarch64__) && defined(__ARM_FEATURE_CRC32)
#include <arm_acle.h>
static uint32_t crc32c_hardware(uint32_t crc, const uint8_t *bytes, size_t length) {
    while (length >= 8) {
        uint64_t word;
        memcpy(&word, bytes, 8);
        crc = __crc32cd(crc, word);
        bytes += 8;
        length -= 8;
    }
    while (length--) {
        crc = __crc32cb(crc, *bytes++);
    }
    return crc;
}
static int has_hardware(void) { return 1; }
#else
static uint32_t crc32c_hardware(uint32_t crc, const uint8_t *bytes, size_t length) {
    return crc32c_tables(crc, bytes, length);
}
static int has_hardware(void) { return 0; }
#endif

uint32_t martlet_crc32c(uint32_t seed, const void *bytes, size_t length) {
    uint32_t crc = ~seed;
    crc = has_hardware() ? crc32c_hardware(crc, bytes, length)
                         : crc32c_tables(crc, bytes, length);
    return ~crc;
}
