/* SPDX-License-Identifier: MIT */
/* Free runs by size. Under SH_RANK_HEAP. */
#include "heaps/bucket.h"

#include "heaps/run.h"

enum {
    EXACT = 16,           /* pages below this have a bucket each */
    PER_DOUBLING_LOG = 2, /* beyond: four a doubling */
    BUCKETS = 192,
    WORDS = BUCKETS / 64,
    LOOKS = 16, /* runs tried in a bucket */
};

struct bucket_set {
    uint64_t filled[WORDS];
    struct sh_span *head[BUCKETS];
};

static struct bucket_set sets[2]; /* dirty, clean */

/* A user's memory is never purged, so it counts as clean. */
static struct bucket_set *set_of(const struct sh_span *run)
{
    return &sets[run->zeroed || run->area->from_user];
}

static unsigned bucket_of(size_t pages)
{
    if (pages < EXACT)
        return (unsigned)pages;
    unsigned log = sh_log2_64(pages);
    unsigned step = (unsigned)(pages >> (log - PER_DOUBLING_LOG)) & 3;
    return EXACT + ((log - 4) << PER_DOUBLING_LOG) + step;
}

void sh_bucket_insert(struct sh_span *run)
{
    struct bucket_set *set = set_of(run);
    unsigned b = bucket_of(run->pages);
    run->bucket = (uint8_t)b;
    run->prev = NULL;
    run->next = set->head[b];
    if (run->next)
        run->next->prev = run;
    set->head[b] = run;
    set->filled[b / 64] |= (uint64_t)1 << (b % 64);
}

void sh_bucket_remove(struct sh_span *run)
{
    struct bucket_set *set = set_of(run);
    unsigned b = run->bucket;
    if (run->next)
        run->next->prev = run->prev;
    if (run->prev)
        run->prev->next = run->next;
    else
        set->head[b] = run->next;
    if (!set->head[b])
        set->filled[b / 64] &= ~((uint64_t)1 << (b % 64));
}

/* The first filled bucket from b on, or BUCKETS. */
static unsigned next_filled(const struct bucket_set *set, unsigned b)
{
    for (unsigned w = b / 64; w < WORDS; w++) {
        uint64_t bits = set->filled[w];
        if (w == b / 64)
            bits &= ~sh_low_bits64(b % 64);
        if (bits)
            return w * 64 + sh_ctz64(bits);
    }
    return BUCKETS;
}

/* The lower of two of a size: what is high is left for what is larger. */
static bool fits_better(const struct sh_span *run, const struct sh_span *best)
{
    return !best || run->pages < best->pages ||
           (run->pages == best->pages && run->base < best->base);
}

/* Small runs are much alike: the one that came last is warm. */
static struct sh_span *choose(struct sh_span *run, size_t pages, size_t align)
{
    struct sh_span *best = NULL;
    for (unsigned looks = 0; run && looks < LOOKS; run = run->next, looks++) {
        if (!sh_run_fits(run, pages, align))
            continue;
        if (pages < SH_RUN_PICKY_PAGES)
            return run;
        if (fits_better(run, best))
            best = run;
    }
    return best;
}

static struct sh_span *find_in(struct bucket_set *set, size_t pages, size_t align)
{
    struct sh_span *run = NULL;
    for (unsigned b = next_filled(set, bucket_of(pages)); !run && b < BUCKETS;
         b = next_filled(set, b + 1))
        run = choose(set->head[b], pages, align);
    return run;
}

struct sh_span *sh_bucket_find_dirty(size_t pages, size_t align)
{
    return find_in(&sets[0], pages, align);
}

struct sh_span *sh_bucket_find_clean(size_t pages, size_t align)
{
    return find_in(&sets[1], pages, align);
}

static struct sh_span *largest_in(struct bucket_set *set)
{
    for (unsigned w = WORDS; w-- > 0;)
        if (set->filled[w])
            return set->head[w * 64 + sh_log2_64(set->filled[w])];
    return NULL;
}

struct sh_span *sh_bucket_smaller_dirty(const struct sh_span *run)
{
    if (run->next)
        return run->next;
    for (unsigned b = run->bucket; b-- > 0;)
        if (sets[0].head[b])
            return sets[0].head[b];
    return NULL;
}

struct sh_span *sh_bucket_largest(bool dirty_only)
{
    struct sh_span *dirty = largest_in(&sets[0]);
    struct sh_span *clean = dirty_only ? NULL : largest_in(&sets[1]);
    if (!clean || (dirty && dirty->pages >= clean->pages))
        return dirty;
    return clean;
}
