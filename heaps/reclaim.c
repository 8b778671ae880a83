/* SPDX-License-Identifier: MIT */
/*
 * What lies empty in caches. See heaps/reclaim.h.
 *
 * Threads that ended. A thread leaves its cache whole for the next one. If none comes
 * within a quarter of the decay, the cache is dissolved: its magazines are emptied, and
 * its spans become the shared cache's, which gives back the empty ones. What is freed
 * later in the shared cache's spans comes to its inbox, and stays there until somebody
 * looks.
 *
 * Threads that fell idle. What others free in a thread's spans waits in its inbox until
 * one of its bins runs dry; a thread that only waits, say for what it handed on, would
 * keep all of it. So a cache that its thread has not entered (sh_cache_enter) for a
 * while is visited: another thread does for it what it would do itself. It
 *
 *   - tidies, after a quarter of the decay: takes back what lies in the inbox, and gives
 *     up empty spans, current ones too;
 *   - trims, after the whole of it: purges, in spans that the cache would allocate from,
 *     pages without a cell that is LIVE or HELD. Malloc's spans alone: of the others
 *     sweeping decides. Not in the user's areas, which are never purged.
 *
 * What others free in a cache that was trimmed counts as if its thread had been there: it
 * is tidied and trimmed again a quarter of the decay and a decay later, not for each free.
 *
 * The thread may run all the time, but in fast paths only. These change cells from HELD
 * to LIVE and back, and its magazines; a visitor touches neither. From FREE, and from
 * REMOTE, a cell goes only in slow paths of its owner. So what is purged is nobody's as
 * long as the visit lasts. The slow paths keep out by a handshake:
 *
 *      thread     busy = 1                     |   visitor   visited = 1
 *                 (no fence)                   |             a fence in all threads
 *                 visited? wait, begin anew    |             busy? leave
 *                 ...                          |             ...
 *                 busy = 0          (release)  |             visited = 0    (release)
 *
 * Either the thread's store to `busy` was before the fence, then the visitor sees it; or
 * its load of `visited` comes after, then the thread sees the visitor. So the thread
 * pays for no fence of its own: it enters as often as its magazines run dry, visitors come
 * a few times in a decay. Who sees the other's 0 by an acquire load sees all that it did.
 *
 * Visits begin, and change lists, under SH_RANK_SHARED, as all that is done to several
 * caches: a thread that ends, the collector and a fork wait for that. The purging is
 * done without a lock. A thread that wants in meanwhile waits for one span's, whichever
 * of the visited caches that is of, and then is let in: it is not idle. One that ends
 * does so, too, before it leaves its cache. Nobody is waited for by a visitor, which
 * stays in a critical section from the first store of `visited` to the last: who waits
 * for it does so in one.
 *
 * A round goes over all caches, some of them at a time, and to each once: several rounds
 * may be under way, and the threads' doings must not keep them on for ever.
 */
#include "heaps/reclaim.h"

#include "heaps/area.h"
#include "heaps/background.h"
#include "heaps/cache.h"
#include "heaps/purge.h"
#include "lib/bits.h"
#include "lib/options.h"

/* What was done in a cache since its thread was there. */
enum { NOTHING, TIDIED, TRIMMED };

enum {
    VISITS = 16,            /* at once, for each fence */
    LEAST_BYTES = 16 << 10, /* that are purged inside a span */
};

static _Atomic uint64_t due;   /* when threads that come by look again */
static _Atomic bool unsettled; /* there are caches not idle yet, or not trimmed */

static uint64_t decay_ns(void)
{
    return (uint64_t)sh_options.decay_ms * 1000000;
}

/* ---- Pages inside spans ---- */

static void purge_gap(uintptr_t start, uintptr_t end)
{
    start = sh_round_up(start, SH_PAGE_SIZE);
    end = sh_round_down(end, SH_PAGE_SIZE);
    if (end > start && end - start >= LEAST_BYTES)
        sh_os_purge((void *)start, end - start);
}

/* All but what is FREE or REMOTE, and so stays nobody's. (Whoever asked for LIVE and for
 * HELD might twice miss a cell that changes between the two.) */
static uint64_t cells_to_keep(const struct sh_span *span, uint32_t w)
{
    uint64_t cells = sh_low_bits64((unsigned)sh_min(span->cell_count - w * 64, 64));
    return cells & ~(sh_span_word(span, w, SH_CELL_FREE) |
                       sh_span_word(span, w, SH_CELL_REMOTE));
}

static void purge_inside(const struct sh_span *span)
{
    uint32_t cells = (uint32_t)sh_min(span->touched * 64, span->cell_count);
    uintptr_t gap = span->base;
    for (uint32_t w = 0; w < span->touched; w++) {
        uint64_t keep = cells_to_keep(span, w);
        for (; keep; keep &= keep - 1) {
            uint32_t cell = w * 64 + sh_ctz64(keep);
            purge_gap(gap, sh_span_cell(span, cell));
            gap = sh_span_cell(span, cell + 1);
        }
    }
    purge_gap(gap, sh_span_cell(span, cells));
}

/* ---- Visits ---- */

struct visits {
    struct sh_cache *caches[VISITS]; /* NULL: its visit has ended */
    bool trim[VISITS];
    unsigned count;
    unsigned at; /* whose spans are being purged */
    struct sh_span *dead;
};

/* What there is to be done in caches that have been idle since then. */
struct round {
    enum sh_cache_round kind;
    uint64_t number; /* of its kind */
    uint64_t now, tidy_since, trim_since;
};

/* Under the shared lock, as the next ones. Notes whether anything happened since. */
static void look_at(struct sh_cache *cache, uint64_t now)
{
    uint32_t entered = sh_load_relaxed(&cache->entered);
    bool freed = cache->done == TRIMMED && sh_load_relaxed(&cache->inbox);
    if (entered == cache->seen && !freed)
        return;
    cache->seen = entered;
    cache->since = now;
    cache->done = NOTHING;
}

static uint8_t to_do(const struct sh_cache *cache, const struct round *round)
{
    if (cache->since <= round->trim_since)
        return TRIMMED;
    return cache->since <= round->tidy_since ? TIDIED : NOTHING;
}

static bool wants_visit(struct sh_cache *cache, const struct round *round)
{
    uint8_t most = to_do(cache, round);
    /* What the last visitor saw comes before what this one changes. */
    return !sh_load_acquire(&cache->visited) && most != NOTHING &&
           (cache->done < most || sh_load_relaxed(&cache->inbox));
}

/* Those that neither this round has seen yet nor a later one of its kind. */
static void choose(struct visits *visits, const struct round *round)
{
    struct sh_cache *cache = sh_cache_first();
    for (; cache && visits->count < VISITS; cache = cache->next) {
        if (cache->rounds[round->kind] >= round->number)
            continue;
        cache->rounds[round->kind] = round->number;
        look_at(cache, round->now);
        if (wants_visit(cache, round))
            visits->caches[visits->count++] = cache;
        if (to_do(cache, round) != TRIMMED)
            sh_store_relaxed(&unsettled, true);
    }
}

/* Leaves out those whose threads are in a slow path. */
static void begin(struct visits *visits)
{
    unsigned chosen = visits->count;
    visits->count = 0;
    for (unsigned i = 0; i < chosen; i++)
        sh_cache_visit(visits->caches[i]);
    bool fenced = sh_os_fence_threads();
    for (unsigned i = 0; i < chosen; i++) {
        struct sh_cache *cache = visits->caches[i];
        if (fenced && !sh_load_acquire(&cache->busy)) {
            visits->caches[visits->count++] = cache;
        } else {
            sh_store_relaxed(&unsettled, true);
            sh_cache_end_visit(cache);
        }
    }
}

static struct sh_span *joined(struct sh_span *dead, struct sh_span *more)
{
    struct sh_span **end = &dead;
    while (*end)
        end = &(*end)->next;
    *end = more;
    return dead;
}

static void tidy(struct visits *visits, const struct round *round)
{
    for (unsigned i = 0; i < visits->count; i++) {
        struct sh_cache *cache = visits->caches[i];
        sh_cache_tidy(cache);
        cache->done = to_do(cache, round);
        visits->trim[i] = cache->done == TRIMMED;
        visits->dead = joined(sh_cache_detach_dead(cache), visits->dead);
    }
}

static void end(struct visits *visits, unsigned i)
{
    if (visits->caches[i])
        sh_cache_end_visit(visits->caches[i]);
    visits->caches[i] = NULL;
}

static void let_in_who_waits(struct visits *visits)
{
    for (unsigned i = visits->at; i < visits->count; i++)
        if (visits->caches[i] && sh_cache_is_wanted(visits->caches[i]))
            end(visits, i);
}

static bool visit_span(void *context, struct sh_span *span)
{
    struct visits *visits = context;
    if (!span->area->from_user)
        purge_inside(span);
    let_in_who_waits(visits);
    return visits->caches[visits->at];
}

/* Without the lock. */
static void finish(struct visits *visits)
{
    for (unsigned i = 0; i < visits->count; i++)
        if (!visits->trim[i])
            end(visits, i);
    for (visits->at = 0; visits->at < visits->count; visits->at++) {
        if (visits->caches[visits->at])
            sh_cache_each_available(visits->caches[visits->at], visit_span, visits);
        end(visits, visits->at);
    }
    sh_cache_give_back(visits->dead);
}

/* False: there was none to visit. */
static bool visit_some(const struct round *round)
{
    struct visits visits = {.count = 0, .dead = NULL};
    sh_lock_acquire(&sh_shared_lock);
    choose(&visits, round);
    bool any = visits.count != 0;
    if (any) {
        begin(&visits);
        tidy(&visits, round);
    }
    sh_lock_release(&sh_shared_lock);
    finish(&visits);
    return any;
}

/* Who stops the world waits for some visits, not for all. */
static void visit_all(struct round round)
{
    static _Atomic uint64_t rounds[SH_CACHE_ROUNDS];
    round.number = sh_add_relaxed(&rounds[round.kind], 1u) + 1;
    if (!sh_os_fence_prepare())
        return;
    bool any;
    do {
        sh_critical_enter();
        any = visit_some(&round);
        sh_critical_leave();
    } while (any);
}

/* ---- When ---- */

static uint64_t before(uint64_t now, uint64_t ns)
{
    return now > ns ? now - ns : 0;
}

static bool shared_waits(void)
{
    return sh_load_seq_cst(&sh_shared_cache.inbox) || sh_cache_any_idle();
}

bool sh_reclaim_waits(void)
{
    return shared_waits() || sh_load_relaxed(&unsettled);
}

uint64_t sh_reclaim_by_time(void)
{
    uint64_t now = sh_purge_clock(), decay = decay_ns(), wait = decay / 4;
    struct round round = {
        .kind = SH_CACHE_ROUND_BY_TIME,
        .now = now,
        .tidy_since = before(now, wait),
        .trim_since = before(now, decay),
    };
    if (shared_waits())
        sh_cache_give_back(sh_cache_dissolve_idle_by(round.tidy_since));
    sh_store_relaxed(&unsettled, false);
    visit_all(round);
    return sh_cache_any_idle() || sh_load_relaxed(&unsettled) ? now + wait
                                                              : SH_PURGE_NEVER;
}

void sh_reclaim_idle(void)
{
    struct round round = {
        .kind = SH_CACHE_ROUND_AT_ONCE,
        .now = sh_purge_clock(),
        .tidy_since = UINT64_MAX,
        .trim_since = UINT64_MAX,
    };
    visit_all(round);
}

void sh_reclaim_tick(void)
{
    if (sh_options.decay_ms < 0 || sh_background_runs() || !shared_waits())
        return;
    uint64_t now = sh_purge_clock();
    if (now <= sh_load_relaxed(&due))
        return;
    uint64_t wait = decay_ns() / 4;
    sh_store_relaxed(&due, now + wait);
    sh_cache_give_back(sh_cache_dissolve_idle_by(before(now, wait)));
}
