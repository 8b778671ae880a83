/* SPDX-License-Identifier: MIT */
/*
 * Threads have 10 GiB of small, large and huge objects, some hundreds of MiB at a time,
 * while memory decays. The kernel allows a process 65,530 mappings by default, and a
 * program has others: we promise to stay below two thousand, and have about fifty. Were
 * what is purged a mapping of its own, there would be nine hundred here.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "heaps/area.h"
#include "heaps/heap.h"
#include "lib/options.h"
#include "tests/heap.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define ENOUGH ((size_t)10 << 30)

enum { THREADS = 4, SLOTS = 4096, ROUND = 1024, MOST = 500 };

static _Atomic size_t volume, peak;

static size_t mappings(void)
{
    static char text[16 << 10];
    int file = open("/proc/self/maps", O_RDONLY);
    size_t count = 0;
    for (ssize_t len; (len = read(file, text, sizeof text)) > 0;)
        for (ssize_t i = 0; i < len; i++)
            count += text[i] == '\n';
    close(file);
    assert_true(count > 0);
    return count;
}

static size_t in_use(void)
{
    size_t total = sh_load_relaxed(&sh_heap_counts.total_pages);
    size_t free = sh_load_relaxed(&sh_heap_counts.free_pages);
    return total > free ? (total - free) * SH_PAGE_SIZE : 0;
}

/* Mostly small; of the bytes about a third are, and a seventh huge. */
static size_t any_size(struct random *random)
{
    size_t kind = random_below(random, 20000);
    if (kind == 0)
        return 32 * MIB + random_below(random, 16 * MIB);
    if (kind < 200)
        return 33 * KIB + random_below(random, random_below(random, 4) ? MIB : 4 * MIB);
    return 1 + random_below(random, 8 * KIB);
}

/* The first bytes of what may be many pages. */
static void *allocate(size_t size)
{
    char *p = sh_malloc(size);
    MUST(p);
    for (size_t i = 0; i < size; i += 256 * KIB)
        p[i] = 1;
    p[size - 1] = 1;
    sh_add_relaxed(&volume, size);
    return p;
}

static void note_peak(void)
{
    size_t now = in_use(), most = sh_load_relaxed(&peak);
    while (now > most && !sh_cas_weak_seq_cst(&peak, &most, now))
        ;
}

static void *churn(void *number)
{
    struct random random = {.state = (uintptr_t)number};
    void *slots[SLOTS] = {NULL};
    while (sh_load_relaxed(&volume) < ENOUGH) {
        for (int i = 0; i < ROUND; i++) {
            size_t slot = random_below(&random, SLOTS), size = any_size(&random);
            sh_free(slots[slot]);
            slots[slot] = allocate(size);
        }
        note_peak();
    }
    for (int i = 0; i < SLOTS; i++)
        sh_free(slots[i]);
    return NULL;
}

static void mappings_stay_few(void **unused)
{
    pthread_t threads[THREADS];
    size_t most = 0, before = mappings();
    sh_heap_init();
    sh_options.decay_ms = 40;
    for (int i = 0; i < THREADS; i++)
        threads[i] = start(churn, (void *)(uintptr_t)(i + 1));
    while (sh_load_relaxed(&volume) < ENOUGH) {
        sleep_us(5000);
        most = sh_max(most, mappings());
    }
    for (int i = 0; i < THREADS; i++)
        join(threads[i]);
    most = sh_max(most, mappings());
    printf("%zu mappings at most, %zu of them before; %zu MiB at most in use, %zu "
           "purges\n",
        most, before, sh_load_relaxed(&peak) / MIB,
        sh_load_relaxed(&sh_heap_counts.purges));
    assert_true(sh_load_relaxed(&peak) > 100 * MIB);
    assert_true(sh_load_relaxed(&sh_heap_counts.purges) > 0);
    assert_true(most < MOST);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mappings_stay_few),
    };
    return run_on_clean_stack(tests, NULL, NULL);
}
