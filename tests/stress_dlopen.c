/* SPDX-License-Identifier: MIT */
/*
 * Threads load and unload a module and keep objects in its data and thread-locals,
 * others allocate, and one collects in a loop.
 *
 *   STRESS_SECONDS   how long (5)
 *
 * A module is loaded from copies of its file, so that each thread has its own.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/stress.h"

#define LOADERS 4
#define SLOTS 64
#define BYTES 100

static _Atomic size_t loads, collections, allocations;

typedef void keep_fn(size_t i, void *p);
typedef void *kept_fn(size_t i);

static int copy_of_module(void)
{
    char buffer[65536];
    int from = open(STRESS_MODULE, O_RDONLY | O_CLOEXEC),
        to = memfd_create("module", 0);
    MUST(from >= 0 && to >= 0);
    for (ssize_t n; (n = read(from, buffer, sizeof buffer)) > 0;)
        MUST(write(to, buffer, (size_t)n) == n);
    close(from);
    return to;
}

/* Only the module holds them. */
static SH_NOINLINE void keep_objects(keep_fn *keep)
{
    for (size_t i = 0; i < SLOTS; i++) {
        void *p = gc_alloc(BYTES, 0);
        MUST(p);
        fill(p, BYTES, (unsigned)i);
        keep(i, p);
    }
}

static SH_NOINLINE void check_objects(kept_fn *kept)
{
    for (size_t i = 0; i < SLOTS; i++) {
        MUST(gc_nbytes(kept(i)) >= BYTES);
        MUST(filled(kept(i), BYTES, (unsigned)i));
    }
}

static void *load_and_unload(void *unused)
{
    char path[64];
    int file = copy_of_module();
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    MUST(gc_thread_register() == 0);
    while (!sh_load_relaxed(&over)) {
        void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        if (!module)
            fprintf(stderr, "%s\n", dlerror());
        MUST(module);
        keep_fn *keep = (keep_fn *)dlsym(module, "module_keep");
        kept_fn *kept = (kept_fn *)dlsym(module, "module_kept");
        MUST(keep && kept);
        keep_objects(keep);
        clear_stack();
        size_t until = sh_load_relaxed(&collections) + 2;
        while (sh_load_relaxed(&collections) < until && !sh_load_relaxed(&over))
            sleep_us(500);
        check_objects(kept);
        dlclose(module);
        sh_add_relaxed(&loads, 1u);
    }
    close(file);
    return NULL;
}

static void *allocate(void *unused)
{
    void *own[100] = {NULL};
    for (size_t i = 0; !sh_load_relaxed(&over); i++) {
        own[i % 100] = gc_alloc(i % 1000 + 1, 0);
        MUST(own[i % 100]);
        sh_free(sh_malloc(i % 1000));
        sh_add_relaxed(&allocations, 1u);
    }
    return NULL;
}

static void *collect(void *unused)
{
    while (!sh_load_relaxed(&over)) {
        gc_collect();
        sh_add_relaxed(&collections, 1u);
    }
    return NULL;
}

static bool has_done_enough(void)
{
    return sh_load_relaxed(&loads) >= LOADERS && sh_load_relaxed(&collections) > 10;
}

/*
 * The thread sanitizer walks the loader's list in dlopen with a lock of its own held: a
 * collector, which has the loader's and waits for who wants it, would wait for ever.
 */
int main(void)
{
    if (SH_TSAN)
        return 77;
    pthread_t threads[LOADERS + 3];
    for (int i = 0; i < LOADERS; i++)
        threads[i] = start(load_and_unload, NULL);
    threads[LOADERS] = start(allocate, NULL);
    threads[LOADERS + 1] = start(allocate, NULL);
    threads[LOADERS + 2] = start(collect, NULL);
    run_until_over(setting("STRESS_SECONDS", 5), has_done_enough);
    for (int i = 0; i < LOADERS + 3; i++)
        join(threads[i]);
    printf("%zu loads, %zu collections, %zu allocations\n", loads, collections,
        allocations);
    MUST(has_done_enough());
    return 0;
}
