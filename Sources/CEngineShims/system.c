// System calls that need _GNU_SOURCE or are variadic.
#include "CEngineShims.h"

#include <errno.h>
#include <fcntl.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <sys/file.h>
#include <time.h>
#ifdef __linux__
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#else
#include <sched.h>
#endif

int martlet_open(const char *path, int flags, mode_t mode, int direct) {
    int extra = O_CLOEXEC;
#ifdef O_DIRECT
    if (direct) {
        extra |= O_DIRECT;
    }
#endif
    int fd;
    do {
        fd = open(path, flags | extra, mode);
    } while (fd < 0 && errno == EINTR);
    return fd;
}

int martlet_drop_cache(int fd, off_t offset, off_t length) {
    return posix_fadvise(fd, offset, length, POSIX_FADV_DONTNEED);
}

int martlet_lock_file(int fd) {
    return flock(fd, LOCK_EX | LOCK_NB) == 0 ? 0 : errno;
}

uint64_t martlet_boottime_ns(void) {
#ifdef CLOCK_BOOTTIME
    struct timespec now;
    if (clock_gettime(CLOCK_BOOTTIME, &now) == 0) {
        return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    }
#endif
    return 0;
}

void martlet_futex_wait(void *word, uint32_t expected) {
#ifdef __linux__
    (void)syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, NULL, NULL, 0);
#else
    (void)word;
    (void)expected;
    (void)sched_yield();
#endif
}

void martlet_futex_wake(void *word, int32_t count) {
#ifdef __linux__
    (void)syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
#else
    (void)word;
    (void)count;
#endif
}

void martlet_spin_hint(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

void martlet_prefetch(const void *address) { __builtin_prefetch(address, 0, 3); }

void martlet_set_allocator_thresholds(size_t mapped, size_t kept) {
#ifdef __GLIBC__
    (void)mallopt(M_MMAP_THRESHOLD, (int)mapped);
    (void)mallopt(M_TRIM_THRESHOLD, (int)kept);
#else
    (void)mapped;
    (void)kept;
#endif
}
