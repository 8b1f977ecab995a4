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
__attribute__((target("sse4.2")))
static uint32_t crc32c_hardware(uint32_t crc, const uint8_t *bytes, size_t length) {
    uint64_t wide = crc;
    while (length >= 8) {
        uint64_t word;
        memcpy(&word, bytes, 8);
        wide = _mm_crc32_u64(wide, word);
        bytes += 8;
        length -= 8;
    }
    crc = (uint32_t)wide;
    while (length--) {
        crc = _mm_crc32_u8(crc, *bytes++);
    }
    return crc;
}
static int has_hardware(void) { return __builtin_cpu_supports("sse4.2"); }
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
