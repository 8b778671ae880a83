/* SPDX-License-Identifier: MIT */
/*
 * The two backends. See backend.h.
 *
 * Where malloc is ours, the C library's own is asked for by its library's name. Where it
 * is a sanitizer's, the library's malloc face is reached by its inner names, for which
 * the program is linked with the static core.
 */
#include "tests/harness/backend.h"

#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include <splitheap/gc.h>
#include <splitheap/malloc.h>

#include "tests/harness/report.h"
#include "tests/harness/settings.h"

#if SH_INTERPOSE
#define OURS(name) name
#else
#include "heaps/malloc.h"
#define OURS(name) sh_##name
#endif

static const struct backend splitheap_backend = {
    .name = "splitheap",
    .collects = true,
    .gc_alloc = gc_alloc,
    .gc_free = gc_free,
    .gc_nbytes = gc_nbytes,
    .gc_realloc = gc_realloc,
    .malloc = OURS(malloc),
    .calloc = OURS(calloc),
    .realloc = OURS(realloc),
    .reallocarray = OURS(reallocarray),
    .posix_memalign = OURS(posix_memalign),
    .aligned_alloc = OURS(aligned_alloc),
    .memalign = OURS(memalign),
    .valloc = OURS(valloc),
    .pvalloc = OURS(pvalloc),
    .malloc_usable_size = OURS(malloc_usable_size),
    .free = OURS(free),
    .free_sized = OURS(free_sized),
    .free_aligned_sized = OURS(free_aligned_sized),
};

static struct backend malloc_backend;

/* ---- Plain malloc ---- */

static void *plain_alloc(size_t bytes, unsigned flags)
{
    if (bytes == 0)
        return NULL;
    return flags & GC_ALLOC_FLAG_LEAF ? malloc_backend.malloc(bytes)
                                      : malloc_backend.calloc(1, bytes);
}

static size_t plain_nbytes(const void *p)
{
    return malloc_backend.malloc_usable_size((void *)(uintptr_t)p);
}

/* In place only where it need not grow; what gc_alloc'd memory grows by is cleared. */
static void *plain_realloc(void *p, size_t bytes, bool allow_move)
{
    size_t old = plain_nbytes(p);
    if (!allow_move)
        return bytes <= old ? p : NULL;
    char *moved = malloc_backend.realloc(p, bytes);
    if (moved && bytes > old)
        memset(moved + old, 0, bytes - old);
    return moved;
}

/* The C library's calls whatever realloc the program has. */
static void *plain_reallocarray(void *p, size_t count, size_t size)
{
    if (__builtin_mul_overflow(count, size, &size)) {
        errno = ENOMEM;
        return NULL;
    }
    return malloc_backend.realloc(p, size);
}

/* Some want the size to be a multiple of the alignment. */
static void *plain_aligned_alloc(size_t alignment, size_t size)
{
    return malloc_backend.memalign(alignment, size);
}

static void plain_free_sized(void *p, size_t size)
{
    (void)size;
    malloc_backend.free(p);
}

static void plain_free_aligned_sized(void *p, size_t alignment, size_t size)
{
    (void)alignment, (void)size;
    malloc_backend.free(p);
}

static void *library;

static void *find(const char *name)
{
#if SH_INTERPOSE
    void *address = dlsym(library, name);
#else
    void *address = dlsym(RTLD_DEFAULT, name);
#endif
    if (!address)
        give_up("the C library has no %s", name);
    return address;
}

static void prepare_plain(void)
{
    library = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
    if (!library)
        give_up(
            "no libc.so.6: --backend malloc takes the GNU C library, linked shared");
    malloc_backend = (struct backend){
        .name = "malloc",
        .gc_alloc = plain_alloc,
        .gc_nbytes = plain_nbytes,
        .gc_realloc = plain_realloc,
        .reallocarray = plain_reallocarray,
        .aligned_alloc = plain_aligned_alloc,
        .free_sized = plain_free_sized,
        .free_aligned_sized = plain_free_aligned_sized,
    };
    *(void **)&malloc_backend.malloc = find("malloc");
    *(void **)&malloc_backend.calloc = find("calloc");
    *(void **)&malloc_backend.realloc = find("realloc");
    *(void **)&malloc_backend.posix_memalign = find("posix_memalign");
    *(void **)&malloc_backend.memalign = find("memalign");
    *(void **)&malloc_backend.valloc = find("valloc");
    *(void **)&malloc_backend.pvalloc = find("pvalloc");
    *(void **)&malloc_backend.malloc_usable_size = find("malloc_usable_size");
    *(void **)&malloc_backend.free = find("free");
    malloc_backend.gc_free = malloc_backend.free;
}

const struct backend *backend = &splitheap_backend;

void backend_choose(void)
{
    if (!settings.plain_malloc)
        return;
    prepare_plain();
    backend = &malloc_backend;
}
