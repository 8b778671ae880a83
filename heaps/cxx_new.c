/* SPDX-License-Identifier: MIT */
/*
 * The twenty C++ operators, by their mangled names (Itanium C++ ABI; m: size_t is
 * unsigned long).
 *
 * Where there is no memory, operator new calls the program's new_handler until there
 * is, or it throws std::bad_alloc. Both are libstdc++'s (or libc++'s), which a C
 * program does not have: they are looked for weakly. Frames here are built with
 * -fexceptions, so that what the handler throws passes through.
 */
#include <stddef.h>

#include "heaps/malloc.h"
#include "lib/check.h"

typedef void new_handler(void);
extern new_handler *std_get_new_handler(void) __asm__("_ZSt15get_new_handlerv")
    __attribute__((weak));
extern _Noreturn void std_throw_bad_alloc(void) __asm__("_ZSt17__throw_bad_allocv")
    __attribute__((weak));

static void *allocate(size_t size, size_t alignment)
{
    return alignment ? sh_memalign(alignment, size) : sh_malloc(size);
}

/* Asks the program's handler for memory; false: there is none, or it gave up. */
static bool ask_handler(void)
{
    new_handler *handler = std_get_new_handler ? std_get_new_handler() : NULL;
    if (!handler)
        return false;
    handler();
    return true;
}

static SH_NOINLINE void *new_slow(size_t size, size_t alignment, bool nothrow)
{
    void *p;
    while (!(p = allocate(size, alignment)))
        if (!ask_handler())
            break;
    if (p || nothrow)
        return p;
    if (std_throw_bad_alloc)
        std_throw_bad_alloc();
    sh_fatal("operator new(%zu): no memory, and no C++ runtime to throw bad_alloc with",
        size);
}

static inline void *new_plain(size_t size, bool nothrow)
{
    void *p = sh_malloc(size);
    return SH_LIKELY(p != NULL) ? p : new_slow(size, 0, nothrow);
}

static inline void *new_aligned(size_t size, size_t alignment, bool nothrow)
{
    void *p = sh_memalign(alignment, size);
    return SH_LIKELY(p != NULL) ? p : new_slow(size, alignment, nothrow);
}

#define NEW(mangled)                                                                   \
    SH_PUBLIC void *mangled(size_t size);                                              \
    SH_PUBLIC void *mangled(size_t size)                                               \
    {                                                                                  \
        return new_plain(size, false);                                                 \
    }
#define NEW_NOTHROW(mangled)                                                           \
    SH_PUBLIC void *mangled(size_t size, const void *nothrow);                         \
    SH_PUBLIC void *mangled(size_t size, const void *nothrow)                          \
    {                                                                                  \
        (void)nothrow;                                                                 \
        return new_plain(size, true);                                                  \
    }
#define NEW_ALIGNED(mangled)                                                           \
    SH_PUBLIC void *mangled(size_t size, size_t alignment);                            \
    SH_PUBLIC void *mangled(size_t size, size_t alignment)                             \
    {                                                                                  \
        return new_aligned(size, alignment, false);                                    \
    }
#define NEW_ALIGNED_NOTHROW(mangled)                                                   \
    SH_PUBLIC void *mangled(size_t size, size_t alignment, const void *nothrow);       \
    SH_PUBLIC void *mangled(size_t size, size_t alignment, const void *nothrow)        \
    {                                                                                  \
        (void)nothrow;                                                                 \
        return new_aligned(size, alignment, true);                                     \
    }
/* Whatever else they are told, they free; `...` stands for the rest, which differs. */
#define DELETE(mangled, ...)                                                           \
    SH_PUBLIC void mangled(void *p, ##__VA_ARGS__);                                    \
    SH_PUBLIC void mangled(void *p, ##__VA_ARGS__)                                     \
    {                                                                                  \
        sh_free(p);                                                                    \
    }

#pragma GCC diagnostic ignored "-Wunused-parameter"

NEW(_Znwm)
NEW(_Znam)
NEW_NOTHROW(_ZnwmRKSt9nothrow_t)
NEW_NOTHROW(_ZnamRKSt9nothrow_t)
NEW_ALIGNED(_ZnwmSt11align_val_t)
NEW_ALIGNED(_ZnamSt11align_val_t)
NEW_ALIGNED_NOTHROW(_ZnwmSt11align_val_tRKSt9nothrow_t)
NEW_ALIGNED_NOTHROW(_ZnamSt11align_val_tRKSt9nothrow_t)
DELETE(_ZdlPv)
DELETE(_ZdaPv)
DELETE(_ZdlPvRKSt9nothrow_t, const void *nothrow)
DELETE(_ZdaPvRKSt9nothrow_t, const void *nothrow)
DELETE(_ZdlPvm, size_t size)
DELETE(_ZdaPvm, size_t size)
DELETE(_ZdlPvSt11align_val_t, size_t alignment)
DELETE(_ZdaPvSt11align_val_t, size_t alignment)
DELETE(_ZdlPvmSt11align_val_t, size_t size, size_t alignment)
DELETE(_ZdaPvmSt11align_val_t, size_t size, size_t alignment)
DELETE(_ZdlPvSt11align_val_tRKSt9nothrow_t, size_t alignment, const void *nothrow)
DELETE(_ZdaPvSt11align_val_tRKSt9nothrow_t, size_t alignment, const void *nothrow)
