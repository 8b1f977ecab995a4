// zstd and its dictionary builder. Training with fixed parameters is declared only under this macro
// (and exported by the shared library all the same).
#ifndef ZDICT_STATIC_LINKING_ONLY
#define ZDICT_STATIC_LINKING_ONLY
#endif
#include <string.h>
#include <zdict.h>
#include <zstd.h>

/// Trains a dictionary from `count` samples that lie one behind the other, with segments of
/// `segment` bytes. ZDICT_trainFromBuffer tries a dozen sets of parameters and takes that many times
/// longer for a gain of one percent. Returns its size, or an error of ZDICT.
static inline size_t martlet_zdict_train(
    void *dictionary, size_t capacity, const void *samples, const size_t *sizes, unsigned count,
    unsigned segment, int level) {
    ZDICT_fastCover_params_t parameters;
    memset(&parameters, 0, sizeof parameters);
    parameters.k = segment;
    parameters.d = 8;
    parameters.f = 18;
    parameters.splitPoint = 1.0;
    parameters.accel = 1;
    parameters.zParams.compressionLevel = level;
    return ZDICT_trainFromBuffer_fastCover(
        dictionary, capacity, samples, sizes, count, parameters);
}
