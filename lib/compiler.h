/* SPDX-License-Identifier: MIT */
/* What we ask of the compiler: hints, attributes, barriers. GCC and Clang. */
#ifndef SH_LIB_COMPILER_H
#define SH_LIB_COMPILER_H

#define SH_LIKELY(x) __builtin_expect(!!(x), 1)
#define SH_UNLIKELY(x) __builtin_expect(!!(x), 0)

#define SH_INLINE static inline __attribute__((always_inline))
#define SH_NOINLINE __attribute__((noinline))
#define SH_COLD __attribute__((cold, noinline))
#define SH_PUBLIC __attribute__((visibility("default")))
#define SH_UNUSED __attribute__((unused))

/* Bytes that one core takes from another at once. */
#define SH_CACHE_LINE 64
#define SH_ALIGNED(n) __attribute__((aligned(n)))

/*
 * Thread-local, at a fixed offset from the thread pointer: one load, no call, and safe
 * in a signal handler. The library's thread-locals are few and small, so that they fit
 * the static TLS surplus when it is loaded by dlopen.
 */
#define SH_TLS __thread __attribute__((tls_model("initial-exec")))

/* Nothing moves across, as far as this thread and its own signal handlers can see. */
#define SH_BARRIER() __asm__ volatile("" ::: "memory")

/* `p` stays in a register or on the stack up to here, where a root scanner finds it. */
#define SH_KEEP(p) __asm__ volatile("" ::"r"(p) : "memory")

/* Between two looks at what another thread is about to change. */
SH_INLINE void sh_cpu_pause(void)
{
#if defined(__x86_64__)
    __asm__ volatile("pause" ::: "memory");
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory");
#else
    SH_BARRIER();
#endif
}

/*
 * For code that reads other threads' stacks and arbitrary memory, or that relies on
 * the world being stopped, an order that the sanitizers cannot follow.
 */
#define SH_NO_SANITIZE __attribute__((no_sanitize("address", "thread", "undefined")))

#if defined(__SANITIZE_THREAD__)
#define SH_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SH_TSAN 1
#endif
#endif
#ifndef SH_TSAN
#define SH_TSAN 0
#endif

/*
 * Say to the thread sanitizer what the atomic operation at `p` says anyhow. Those of a
 * signal's handler are ignored where the signal interrupted pthread_create; these are not.
 */
#if SH_TSAN
void __tsan_acquire(void *p);
void __tsan_release(void *p);
#define SH_TSAN_ACQUIRE(p) __tsan_acquire((void *)(p))
#define SH_TSAN_RELEASE(p) __tsan_release((void *)(p))
#else
#define SH_TSAN_ACQUIRE(p) ((void)0)
#define SH_TSAN_RELEASE(p) ((void)0)
#endif

#endif /* SH_LIB_COMPILER_H */
