/* SPDX-License-Identifier: MIT */
/*
 * Where finalisers run; and gc_finalize of <splitheap/weakref.h>, whose callback comes
 * once, be the object collected or freed, or it called by hand; or not at all.
 */
#include <errno.h>
#include <poll.h>

#include <splitheap/weakref.h>

#include "lib/bits.h"
#include "tests/harness/backend.h"
#include "tests/harness/hooks.h"
#include "tests/harness/object.h"
#include "tests/harness/own.h"
#include "tests/harness/plant.h"
#include "tests/harness/report.h"
#include "tests/harness/scenario.h"
#include "tests/harness/settings.h"

/* ---- Where finalisers run ---- */

static void set_mode(enum gc_finaliser_mode mode)
{
    if (gc_set_finaliser_mode(mode) != 0)
        fail("finaliser", NULL, "gc_set_finaliser_mode refuses %d", (int)mode);
}

/* The library's thread comes when it likes: not where turns are taken. */
static void change_mode(struct random *random)
{
    set_mode((enum gc_finaliser_mode)random_below(random, settings.replay ? 2 : 3));
}

static _Atomic uint64_t notified;

static void notify(void *unused)
{
    (void)unused;
    sh_add_relaxed(&notified, (uint64_t)1);
}

static void use_descriptor(void)
{
    struct pollfd fd = {.fd = gc_finaliser_fd(), .events = POLLIN};
    if (fd.fd >= 0 && poll(&fd, 1, 0) < 0 && errno != EINTR)
        fail("finaliser", NULL, "gc_finaliser_fd gives %d, no descriptor", fd.fd);
}

void run_finalise(struct worker *worker)
{
    struct random *random = &worker->random;
    switch (random_below(random, 8)) {
    case 0:
        change_mode(random);
        break;
    case 1:
        gc_set_finaliser_notifier(random_below(random, 2) ? notify : NULL, NULL);
        break;
    case 2:
        use_descriptor();
        break;
    default: {
        size_t most = random_below(random, 2) ? SIZE_MAX : random_below(random, 20);
        size_t ran = gc_run_finalisers(most);
        if (ran > most)
            fail("finaliser", NULL, "gc_run_finalisers(%zu) ran %zu", most, ran);
    }
    }
}

void finalisers_finish(void)
{
    if (!backend->collects)
        return;
    set_mode(GC_FINALISE_AT_ONCE);
    gc_run_finalisers(SIZE_MAX);
}

/* ---- gc_finalize ---- */

enum watch_state { HELD, LET_GO, CALLED_OFF };

/* What a callback is told; used again long after it can come. */
struct watch {
    _Atomic uint32_t calls;
    _Atomic uint32_t state;
};

#define WATCHES 65536
#define WORD 0x5bd1e995u

static struct watch *watches;
static _Atomic uint64_t due, came;

void finalizes_init(void)
{
    watches = own_map(WATCHES * sizeof *watches);
}

static struct watch *next_watch(void)
{
    static _Atomic unsigned next;
    struct watch *watch = &watches[sh_add_relaxed(&next, 1u) % WATCHES];
    sh_store_relaxed(&watch->calls, 0u);
    sh_store_seq_cst(&watch->state, (uint32_t)HELD);
    return watch;
}

/* Children of a fork hear of what other threads of the parent's had, too. */
static void hear(unsigned count, void *const args[])
{
    if (hooks_are_off() || !ledger_misses_callbacks())
        return;
    struct watch *watch = args[0];
    const uint64_t *held = args[1];
    if (count != 2 || *held != (WORD ^ (uintptr_t)hide(watch)))
        fail("finalize", NULL, "a gc_finalize's arguments are not whole");
    if (sh_load_seq_cst(&watch->state) != LET_GO)
        fail("finalize", NULL, "a gc_finalize's callback came for what is held");
    if (sh_add_relaxed(&watch->calls, 1u))
        fail("finalize", NULL, "a gc_finalize's callback came twice");
    sh_add_relaxed(&came, (uint64_t)1);
    if (plant_now(PLANT_TWO_FINALIZES))
        hear(count, args);
}

/* Its second argument nothing else holds. */
static SH_NOINLINE struct gc_finalize *attach(void *p, struct watch *watch)
{
    uint64_t *held = gc_alloc(sizeof *held, GC_ALLOC_FLAG_LEAF);
    if (!held)
        return NULL;
    *held = WORD ^ (uintptr_t)hide(watch);
    return gc_finalize_new(p, hear, 2, (void *)watch, (void *)held);
}

static void check_alive(
    struct gc_finalize *finalize, struct entry *entry, const struct watch *watch)
{
    struct gc_finalize_info info;
    if (!gc_finalize_alive(finalize))
        fail("finalize", entry, "is held, and its gc_finalize is not alive");
    if (gc_finalize_peek(finalize, &info) != entry_address(entry))
        fail("finalize", entry, "is not what its gc_finalize gives");
    if (info.callback != hear || info.count != 2 || info.args[0] != watch)
        fail("finalize", entry, "has a gc_finalize of other arguments");
}

static void call_off(
    struct gc_finalize *finalize, struct entry *entry, struct watch *watch)
{
    sh_store_seq_cst(&watch->state, (uint32_t)CALLED_OFF);
    if (gc_finalize_detach(finalize, NULL) != entry_address(entry))
        fail("finalize", entry, "is not what gc_finalize_detach gives");
    if (gc_finalize_alive(finalize) || gc_finalize_call(finalize))
        fail("finalize", entry, "has a gc_finalize that was called off, and lives");
}

static void call_now(
    struct gc_finalize *finalize, struct entry *entry, struct watch *watch)
{
    sh_store_seq_cst(&watch->state, (uint32_t)LET_GO);
    sh_add_relaxed(&due, (uint64_t)1);
    if (!gc_finalize_call(finalize) || sh_load_relaxed(&watch->calls) != 1)
        fail("finalize", entry, "has a gc_finalize that gc_finalize_call did not call");
    if (gc_finalize_alive(finalize) || gc_finalize_call(finalize))
        fail("finalize", entry, "has a gc_finalize that was called, and lives");
}

void run_finalize(struct worker *worker)
{
    struct random *random = &worker->random;
    struct wish wish = wish_any(random);
    void *p = object_make(worker, wish);
    if (!p)
        return;
    struct entry *entry = object_entry(p);
    struct watch *watch = next_watch();
    struct gc_finalize *finalize = attach(p, watch);
    if (!finalize && !settings_memory_is_short())
        fail("finalize", entry, "was given no gc_finalize");
    collect_sometimes(random);
    object_verify(entry);
    if (finalize) {
        check_alive(finalize, entry, watch);
        gc_finalize_set_at_exit(finalize, random_below(random, 2));
        size_t dice = random_below(random, 4);
        if (dice == 0)
            call_off(finalize, entry, watch);
        else if (dice == 1)
            call_now(finalize, entry, watch);
        else
            sh_add_relaxed(&due, (uint64_t)1);
        if (dice > 1)
            sh_store_seq_cst(&watch->state, (uint32_t)LET_GO);
    }
    SH_KEEP(p);
    p = NULL;
    if (wish.kind != EXPLICIT && random_below(random, 3))
        object_drop(entry);
    else
        object_free(worker, entry);
}

/* After gc_sweep_all, which calls all back. */
void finalizes_finish(void)
{
    uint64_t wanted = sh_load_relaxed(&due), seen = sh_load_relaxed(&came);
    if (wanted != seen)
        fail("finalize", NULL, "%llu callbacks of gc_finalize came instead of %llu",
            (unsigned long long)seen, (unsigned long long)wanted);
}
