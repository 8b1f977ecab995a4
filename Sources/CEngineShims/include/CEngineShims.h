// C entry points of the engine: hashing, checksums, SIMD tag match and the few
// system calls that Swift's importer hides behind _GNU_SOURCE or variadics.
//
// Hashes of blocks live in a .c file on purpose: the importer compiles inlined
// headers without optimisation, which costs three times the time.
#ifndef MARTLET_ENGINE_SHIMS_H
#define MARTLET_ENGINE_SHIMS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

typedef struct {
    uint64_t low;
    uint64_t high;
} martlet_hash128;

/// XXH3, 128 bits, of `length` bytes.
martlet_hash128 martlet_xxh3_128(const void *_Nullable bytes, size_t length);

/// XXH3, 64 bits, of `length` bytes.
uint64_t martlet_xxh3_64(const void *_Nullable bytes, size_t length);

/// For a test: 1 if a hash of `length` bytes leaves upper halves of vector registers in use, which
/// slows down all that follows on the thread; 0 if not, -1 if the processor does not tell.
int martlet_hash_leaves_upper_halves(const void *_Nullable bytes, size_t length);

/// CRC32C (Castagnoli) of `length` bytes, continuing from `seed` (0 to start).
uint32_t martlet_crc32c(uint32_t seed, const void *_Nullable bytes, size_t length);

/// Index of the first byte equal to `tag` in bytes[from..<count], or `count`.
/// Reads only bytes below `count`.
size_t martlet_match_tag(
    const uint8_t *_Nonnull bytes, size_t from, size_t count, uint8_t tag);

/// open(2) with O_CLOEXEC; `direct` adds O_DIRECT where the platform has it.
int martlet_open(const char *_Nonnull path, int flags, mode_t mode, int direct);

/// Drops cached pages of the range. Returns 0 or an errno.
int martlet_drop_cache(int fd, off_t offset, off_t length);

/// Takes an exclusive, non-blocking lock that dies with the descriptor.
/// Returns 0 or an errno (EWOULDBLOCK: somebody else holds it).
int martlet_lock_file(int fd);

/// CLOCK_BOOTTIME in nanoseconds; 0 where it does not exist.
uint64_t martlet_boottime_ns(void);

/// malloc: blocks of `mapped` bytes and more are mappings of their own; at most
/// `kept` free bytes stay at the end of an arena. Without effect outside of glibc.
void martlet_set_allocator_thresholds(size_t mapped, size_t kept);

/// Sleeps while the 32 bits at `word` are `expected`, until a wake; may return without a reason.
void martlet_futex_wait(void *_Nonnull word, uint32_t expected);

/// Wakes up to `count` threads of this process that sleep on `word`.
void martlet_futex_wake(void *_Nonnull word, int32_t count);

/// Hints the processor that this thread spins.
void martlet_spin_hint(void);

/// Brings the cache line at `address` closer, for reading.
void martlet_prefetch(const void *_Nonnull address);

#endif
