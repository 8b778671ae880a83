/* SPDX-License-Identifier: MIT */
/* Objects, by way of the ledger. See object.h. */
#include "tests/harness/object.h"

#include <errno.h>
#include <string.h>

#include "lib/bits.h"
#include "tests/harness/backend.h"
#include "tests/harness/content.h"
#include "tests/harness/hooks.h"
#include "tests/harness/plant.h"
#include "tests/harness/report.h"
#include "tests/harness/settings.h"
#include "tests/harness/shadow.h"
#include "tests/harness/stats.h"

#define GRANULE 16

/* An allocation of less may not fail where nothing makes memory short. */
#define SURELY ((size_t)16 << 20)

#define ERRNO_BEFORE 4321 /* no error's number */

/* ---- What to make ---- */

/* Where classes, pages, spans and mappings begin and end. */
static size_t size_near_edge(struct random *random)
{
    size_t edge = (size_t)1 << random_below(random, 22);
    if (random_below(random, 2))
        edge += edge / 8 * random_below(random, 8);
    size_t shift = random_below(random, 5);
    return edge + 2 > shift ? edge + 2 - shift : 1;
}

static size_t size_any(struct random *random)
{
    size_t dice = random_below(random, 10000);
    if (dice < 6000)
        return 1 + random_below(random, 256);
    if (dice < 8500)
        return 1 + random_below(random, 4096);
    if (dice < 9500)
        return 1 + random_below(random, 40000);
    if (dice < 9800)
        return size_near_edge(random);
    if (dice < 9970)
        return 1 + random_below(random, (size_t)512 << 10);
    if (dice < 9990)
        return 1 + random_below(random, (size_t)4 << 20);
    return 1 + random_below(random, (size_t)40 << 20);
}

struct wish wish_any(struct random *random)
{
    size_t dice = random_below(random, 10);
    struct wish wish = {.bytes = size_any(random)};
    if (settings.minor) /* malloc'd memory is looked at each time */
        wish.kind = dice < 6 ? SCAN : dice < 9 ? LEAF : EXPLICIT;
    else
        wish.kind = dice < 4 ? SCAN : dice < 6 ? LEAF : EXPLICIT;
    wish.finaliser = wish.kind != EXPLICIT && random_once_in(random, 6);
    wish.typed = random_once_in(random, 4) && !settings.minor;
    size_t live = sh_load_relaxed(&counts.live_bytes);
    if (live > settings.live)
        wish.bytes = 1 + wish.bytes % 128;
    else if (wish.bytes > settings.live / 2)
        wish.bytes = 1 + wish.bytes % (settings.live / 2 + 1);
    return wish;
}

/* ---- Making ---- */

/* What an EXPLICIT object is made with; the contents of `cleared` must be zero. */
static void *allocate_explicit(
    struct random *random, struct entry *entry, size_t bytes, bool *cleared)
{
    size_t alignment = (size_t)GRANULE << random_below(random, 9);
    void *p = NULL;
    switch (random_below(random, 16)) {
    case 0:
    case 1:
        *cleared = true;
        return backend->calloc(1, bytes);
    case 2:
        *cleared = true;
        return backend->calloc(bytes, 1);
    case 3:
        return backend->realloc(NULL, bytes);
    case 4:
        return backend->reallocarray(NULL, bytes, 1);
    case 5:
        entry->alignment = alignment;
        return backend->posix_memalign(&p, alignment, bytes) == 0
                   ? p
                   : (errno = ENOMEM, NULL);
    case 6:
        entry->alignment = alignment;
        entry->origin = OF_ALIGNED_ALLOC;
        return backend->aligned_alloc(alignment, bytes);
    case 7:
        entry->alignment = alignment;
        return backend->memalign(alignment, bytes);
    case 8:
        entry->alignment = 4096;
        return random_below(random, 2) ? backend->valloc(bytes)
                                       : backend->pvalloc(bytes);
    default:
        entry->origin = OF_MALLOC;
        return backend->malloc(bytes);
    }
}

static void *allocate(
    struct random *random, struct entry *entry, struct wish wish, bool *cleared)
{
    size_t bytes = wish.bytes;
    if (bytes >= 64 && plant_now(PLANT_WRONG_SIZE))
        bytes /= 2;
    if (wish.kind == EXPLICIT)
        return allocate_explicit(random, entry, bytes, cleared);
    *cleared = wish.kind == SCAN;
    return backend->gc_alloc(
        bytes, (wish.kind == LEAF ? GC_ALLOC_FLAG_LEAF : 0u) |
                   (wish.finaliser ? GC_ALLOC_FLAG_HAS_FINALISER : 0u) |
                   (wish.typed ? GC_ALLOC_FLAG_TYPED : 0u));
}

static size_t usable_bytes(const struct entry *entry, const void *p)
{
    return entry->kind == EXPLICIT ? backend->malloc_usable_size((void *)(uintptr_t)p)
                                   : backend->gc_nbytes(p);
}

/* Errors of plain pointers, planted. */
static void *bend(struct worker *worker, struct entry *entry, void *p, bool cleared)
{
    if (plant_now(PLANT_MISALIGNED))
        return (char *)p + GRANULE / 2;
    if (cleared || entry->alignment > GRANULE || !plant_now(PLANT_OVERLAP))
        return p;
    struct place *place = &worker->places[PLACE_STACK];
    for (size_t i = 0; i < place->count; i++)
        if (place->slots[i] && object_entry(place->slots[i])->usable >= entry->asked)
            return place->slots[i];
    return p;
}

static void check_new(struct entry *entry, void *p, bool cleared)
{
    size_t at;
    sh_store_relaxed(&entry->hidden, hide(p));
    if ((uintptr_t)p % sh_max(entry->alignment, GRANULE) != 0)
        fail("alignment", entry, "is not aligned to %zu bytes",
            sh_max(entry->alignment, GRANULE));
    entry->usable = usable_bytes(entry, p);
    if (entry->usable < entry->asked)
        fail(
            "size", entry, "has %zu bytes instead of %zu", entry->usable, entry->asked);
    if (cleared && plant_now(PLANT_DIRTY))
        *(char *)p = 1;
    if (cleared && !content_is_zero(p, entry->asked, &at))
        fail("dirty", entry, "is not cleared at byte %zu", at);
}

/* The entry's object begins to live: from here on it must be whole. */
static void fill_in(struct entry *entry, struct wish wish, void *p)
{
    if (wish.finaliser || wish.typed)
        *(const struct gc_type **)p = hooks_type(wish.typed, entry->links);
    if (wish.finaliser)
        sh_store_release(&entry->pending, PENDING_FINALISER); /* pairs with is_gone */
    if (entry->links)
        memset((char *)p + entry->head - entry->links * sizeof(void *), 0,
            entry->links * sizeof(void *));
    content_fill(p, entry->head, entry->bytes, entry_serial(entry));
    entry_set_state(entry, LIVE);
    shadow_claim(entry);
    sh_add_relaxed(&counts.live_bytes, entry->usable);
    sh_add_relaxed(&counts.live_objects, (size_t)1);
    sh_add_relaxed(&counts.made, (uint64_t)1);
}

static void refused(struct entry *entry, int error)
{
    if (error != ENOMEM)
        fail("errno", entry, "was refused with errno %d", error);
    if (!settings_memory_is_short() && entry->asked < SURELY)
        fail("refused", entry, "was refused %zu bytes", entry->asked);
    sh_add_relaxed(&counts.refused, (uint64_t)1);
    ledger_put(entry);
}

/* An object that only the ledger knows: to the library, one that nothing holds. */
static struct entry *lost[64];

static bool lose(struct entry *entry)
{
    static _Atomic unsigned count;
    if (entry->kind == EXPLICIT || !plant_now(PLANT_LOST_ROOT))
        return false;
    unsigned n = sh_add_relaxed(&count, 1u);
    if (n >= sizeof lost / sizeof lost[0])
        return false;
    lost[n] = entry;
    return true;
}

static void verify_lost(void)
{
    for (size_t i = 0; settings.plant == PLANT_LOST_ROOT && i < 64 && lost[i]; i++)
        object_verify(lost[i]);
}

void *object_make(struct worker *worker, struct wish wish)
{
    struct entry *entry = ledger_take();
    bool cleared = false;
    entry->kind = (uint8_t)wish.kind;
    entry->links = (uint8_t)wish.links;
    wish.typed = wish.typed && wish.kind == SCAN;
    entry->typed = wish.typed;
    entry->head = ((wish.finaliser || wish.typed) + wish.links) * sizeof(void *);
    wish.bytes = sh_max(wish.bytes, entry->head);
    entry->asked = wish.bytes;
    errno = 0;
    void *p = allocate(&worker->random, entry, wish, &cleared);
    if (!p) {
        refused(entry, errno);
        return NULL;
    }
    p = bend(worker, entry, p, cleared);
    check_new(entry, p, cleared);
    entry->bytes = random_once_in(&worker->random, 4) ? entry->usable : entry->asked;
    fill_in(entry, wish, p);
    return lose(entry) ? NULL : p;
}

/* ---- Verifying ---- */

struct entry *object_entry(const void *p)
{
    struct entry *entry = shadow_find(p);
    if (!entry)
        fail("unknown", NULL, "no object is known at %p, which a root holds", p);
    if (entry_address(entry) != p)
        fail("unknown", entry, "a root holds %p, where this is not", p);
    if (entry_state(entry) != LIVE)
        fail("state", entry, "is held by a root, but was let go");
    return entry;
}

/* What of it was found where, and whose that may be. */
static _Noreturn void fail_content(
    struct entry *entry, const char *p, size_t at, size_t bytes)
{
    uint64_t word = 0;
    size_t place = 0;
    memcpy(&word, p + at, sh_min(8, bytes - at));
    uint64_t serial = content_serial(word, &place);
    if (serial)
        fail("content", entry,
            "has at byte %zu the word %#llx, which is of object %llu, byte %zu", at,
            (unsigned long long)word, (unsigned long long)serial, place);
    fail("content", entry, "has at byte %zu the word %#llx", at,
        (unsigned long long)word);
}

static void verify_content(
    struct entry *entry, const char *p, size_t kept, size_t bytes)
{
    size_t at;
    if (!content_is(p, entry->head, kept, bytes, entry_serial(entry), &at))
        fail_content(entry, p, at, bytes);
}

static void plant_in(struct entry *entry, char *p)
{
    if (entry->bytes > entry->head && plant_now(PLANT_FLIP))
        p[entry->head] ^= 4;
    if (plant_now(PLANT_EARLY_SWEEP))
        backend->gc_free(p);
    if ((sh_load_relaxed(&entry->pending) & PENDING_FINALISER) &&
        !sh_load_relaxed(&entry->finalisers) && plant_now(PLANT_EARLY_FINALISER))
        gc_finalise(p);
}

void object_verify(struct entry *entry)
{
    plant_in(entry, entry_address(entry));
    object_look_at(entry);
    entry_touch(entry);
}

void object_look_at(struct entry *entry)
{
    char *p = entry_address(entry);
    size_t usable = usable_bytes(entry, p);
    if (usable != entry->usable)
        fail("size", entry, "has %zu bytes, and had %zu", usable, entry->usable);
    verify_content(entry, p, entry->bytes, entry->bytes);
    sh_add_relaxed(&counts.verified, (uint64_t)1);
}

/* ---- Freeing ---- */

/* Writes into what was freed and is another's now. */
static void write_stale(uintptr_t hidden)
{
    static _Atomic uintptr_t stale[16];
    static _Atomic unsigned next;
    if (settings.plant != PLANT_STALE_WRITE)
        return;
    sh_store_relaxed(&stale[sh_add_relaxed(&next, 1u) % 16], hidden);
    for (unsigned i = 0; plant_now(PLANT_STALE_WRITE) && i < 16; i++) {
        uintptr_t at = sh_load_relaxed(&stale[i]);
        struct entry *entry = at ? shadow_find(reveal(at)) : NULL;
        if (entry && entry_state(entry) == LIVE && hide(entry_address(entry)) == at &&
            entry->bytes >= entry->head + 8)
            memset((char *)reveal(at) + entry->head, 0x77, 8);
    }
}

static void free_somehow(struct random *random, struct entry *entry, void *p)
{
    bool ours = entry->kind == EXPLICIT;
    size_t dice = random_below(random, 8);
    if (ours && entry->origin == OF_MALLOC && dice < 3)
        backend->free_sized(p, entry->asked);
    else if (ours && entry->origin == OF_ALIGNED_ALLOC && dice < 3)
        backend->free_aligned_sized(p, entry->alignment, entry->asked);
    else if (dice < 5)
        backend->free(p);
    else
        backend->gc_free(p);
}

/* Where nothing collects, a weak reference's hook is ours to call. */
static void tell_weak(struct entry *entry)
{
    if (!backend->collects && (sh_load_relaxed(&entry->pending) & PENDING_WEAK))
        gc_weakref_about_to_be_freed(entry_address(entry));
}

static void free_now(struct random *random, struct entry *entry)
{
    void *p = entry_address(entry);
    tell_weak(entry);
    errno = ERRNO_BEFORE;
    free_somehow(random, entry, p);
    if (plant_now(PLANT_ERRNO))
        errno = 0;
    if (errno != ERRNO_BEFORE)
        fail("errno", entry, "a free changed errno to %d", errno);
    if (plant_now(PLANT_DOUBLE_FREE))
        backend->free(p);
}

static void begin_free(struct entry *entry)
{
    entry_touch(entry);
    sh_sub_relaxed(&counts.live_bytes, entry->usable);
    sh_sub_relaxed(&counts.live_objects, (size_t)1);
    sh_add_relaxed(&counts.freed, (uint64_t)1);
    entry_set_state(entry, FREEING);
}

void object_freed_by_unlock(struct entry *entry)
{
    uintptr_t hidden = sh_load_relaxed(&entry->hidden);
    if ((sh_load_acquire(&entry->pending) & PENDING_WEAK) && ledger_misses_callbacks())
        fail(
            "callback", entry, "was freed, and its weak reference's hook did not come");
    shadow_clear(entry);
    ledger_put(entry);
    write_stale(hidden);
}

void object_free(struct worker *worker, struct entry *entry)
{
    begin_free(entry);
    free_now(&worker->random, entry);
    object_freed_by_unlock(entry);
}

void object_free_locked(struct worker *worker, struct entry *entry)
{
    begin_free(entry);
    free_now(&worker->random, entry);
}

/* ---- Dropping ---- */

/*
 * What the thread did to the object comes before its reuse: for the collector it is
 * stopping that says so, which the thread sanitizer sees in critical sections only.
 */
#if SH_TSAN
#include "threads/thread.h"
static void let_go(void)
{
    sh_critical_enter();
    sh_critical_leave();
}
#else
static void let_go(void)
{
}
#endif

/* A root that the ledger knows nothing of; volatile, since nothing reads it. */
static void *volatile leaked[4096];

static void leak(struct entry *entry)
{
    static _Atomic unsigned count;
    if (!plant_now(PLANT_LEAK))
        return;
    unsigned n = sh_add_relaxed(&count, 1u);
    if (n < sizeof leaked / sizeof leaked[0])
        leaked[n] = entry_address(entry);
    entry->leaked = true;
}

void object_drop(struct entry *entry)
{
    void *p = entry_address(entry);
    entry_touch(entry);
    leak(entry);
    if ((sh_load_relaxed(&entry->pending) & PENDING_FINALISER) &&
        !sh_load_relaxed(&entry->finalisers) && plant_now(PLANT_NO_FINALISER))
        *(void **)p = NULL;
    ledger_drop(&my_lane()->dropped, entry);
    let_go();
    SH_KEEP(p);
}

/* ---- Resizing ---- */

static void *resize_somehow(
    struct random *random, struct entry *entry, void *p, size_t bytes, bool *may_move)
{
    *may_move = random_below(random, 3) != 0;
    if (!*may_move || entry->kind != EXPLICIT)
        return backend->gc_realloc(p, bytes, *may_move);
    switch (random_below(random, 3)) {
    case 0:
        return backend->gc_realloc(p, bytes, true);
    case 1:
        return backend->reallocarray(p, bytes, 1);
    default:
        return backend->realloc(p, bytes);
    }
}

static void settle(struct entry *entry, char *moved, size_t bytes)
{
    size_t old = entry->asked, filled = entry->bytes;
    shadow_clear(entry);
    sh_store_relaxed(&entry->hidden, hide(moved));
    entry->asked = entry->bytes = bytes;
    if (entry->origin == OF_ALIGNED_ALLOC)
        entry->origin = OF_ANY;
    entry->alignment = 0;
    if (moved && plant_now(PLANT_SHORT_COPY) && sh_min(old, bytes) > entry->head)
        moved[sh_min(old, bytes) - 1] ^= 1;
    check_new(entry, moved, false);
    verify_content(entry, moved, sh_min(old, bytes), filled);
    content_fill(moved, entry->head, bytes, entry_serial(entry));
    entry_set_state(entry, LIVE);
    shadow_claim(entry);
}

void *object_resize(struct worker *worker, struct entry *entry)
{
    struct wish wish = wish_any(&worker->random);
    char *p = entry_address(entry);
    size_t bytes = sh_max(sh_max(wish.bytes, entry->head), 1), before = entry->usable;
    bool may_move;
    entry_touch(entry);
    entry_set_state(entry, FREEING);
    errno = ENOMEM; /* where it may not move, it says nothing */
    if (!backend->collects)
        tell_weak(entry);
    char *moved = resize_somehow(&worker->random, entry, p, bytes, &may_move);
    if (!may_move && moved && plant_now(PLANT_MOVED))
        moved += GRANULE;
    if (moved && moved != p && !may_move)
        fail("moved", entry, "was moved to %p, and might not", (void *)moved);
    if (!moved) {
        if (may_move && !settings_memory_is_short() && bytes < SURELY)
            fail("refused", entry, "was refused to be resized to %zu bytes", bytes);
        entry_set_state(entry, LIVE);
        object_verify(entry);
        return p;
    }
    if (moved != p && (sh_load_acquire(&entry->pending) & PENDING_WEAK))
        fail(
            "callback", entry, "was moved, and its weak reference's hook did not come");
    settle(entry, moved, bytes);
    sh_add_relaxed(&counts.live_bytes, entry->usable - before);
    sh_add_relaxed(&counts.resized, (uint64_t)1);
    sh_add_relaxed(&counts.moved, (uint64_t)(moved != p));
    return moved;
}

/* ---- Weak references ---- */

void object_mark_weak(struct entry *entry)
{
    sh_or_seq_cst(&entry->pending, (uint32_t)PENDING_WEAK);
    if (backend->collects && !plant_now(PLANT_NO_WEAK))
        hooks_mark_weak(entry_address(entry));
}

/* ---- Finalisers ---- */

void object_change_finaliser(struct worker *worker, struct entry *entry)
{
    if (!backend->collects || entry->kind == EXPLICIT)
        return;
    if (random_below(&worker->random, 3) == 0)
        hooks_remove_finaliser(entry);
    else if (!hooks_set_finaliser(entry) && !settings_memory_is_short())
        fail("finaliser", entry, "was given no finaliser");
}

/* ---- Collecting ---- */

/* As a collection would: all callbacks, then all memory. */
void object_free_dropped(struct lane *lane)
{
    struct dropped_list *list = &lane->dropped;
    for (size_t i = 0; i < list->count; i++) {
        struct entry *entry = ledger_entry(list->items[i].id);
        if (sh_load_relaxed(&entry->life) != list->items[i].life || entry->leaked)
            continue;
        if (settings.plant != PLANT_NO_WEAK)
            tell_weak(entry);
        if (sh_load_relaxed(&entry->pending) & PENDING_FINALISER)
            gc_finalise(entry_address(entry));
    }
    for (size_t i = 0; i < list->count; i++) {
        struct entry *entry = ledger_entry(list->items[i].id);
        uint64_t life = list->items[i].life;
        if (sh_load_relaxed(&entry->life) != life || entry->leaked)
            continue;
        if (sh_load_relaxed(&entry->pending))
            fail("callback", entry, "was collected, and a callback did not come");
        entry_try_state(entry, life, COLLECTED);
        backend->free(entry_address(entry));
    }
    stats_count_collection();
}

void collect(void)
{
    if (backend->collects)
        gc_collect();
    else
        object_free_dropped(my_lane());
}

#define COLLECT_ONCE_IN 128
#define COLLECT_SELDOM 32 /* times less often, where what pacing does is wanted */

size_t collect_once_in(size_t n)
{
    return settings.minor ? n * COLLECT_SELDOM : n;
}

void collect_sometimes(struct random *random)
{
    if (random_once_in(random, collect_once_in(COLLECT_ONCE_IN)))
        collect();
}

void object_audit(struct lane *lane)
{
    verify_lost();
    if (ledger_audit(&lane->dropped) < DROPPED_MAX / 2)
        return;
    for (int i = 0; i < 3 && lane->dropped.count >= DROPPED_MAX / 4; i++) {
        collect();
        if (backend->collects)
            gc_run_finalisers(SIZE_MAX);
        ledger_audit(&lane->dropped);
    }
}
