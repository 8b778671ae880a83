/* SPDX-License-Identifier: MIT */
/*
 * Free runs by size: exact up to fifteen pages, then four buckets per doubling, apart
 * for clean and dirty runs. Under SH_RANK_HEAP.
 */
#ifndef SH_HEAPS_BUCKET_H
#define SH_HEAPS_BUCKET_H

#include <stddef.h>

#include "heaps/span.h"

void sh_bucket_insert(struct sh_span *run);
void sh_bucket_remove(struct sh_span *run);

/* From here on the run that fits best is looked for, below any that fits. */
#define SH_RUN_PICKY_PAGES 65

/* A run with room for `pages` from an address aligned to `align`, or NULL. */
struct sh_span *sh_bucket_find_dirty(size_t pages, size_t align);
struct sh_span *sh_bucket_find_clean(size_t pages, size_t align);

/* From the largest dirty run on, about by size, to the smallest and NULL. */
struct sh_span *sh_bucket_smaller_dirty(const struct sh_span *run);

/* The run with the most pages, or about; `dirty_only` looks at those alone. */
struct sh_span *sh_bucket_largest(bool dirty_only);

/* Where in the run pages aligned to `align` begin. */
SH_INLINE uintptr_t sh_run_aligned_start(const struct sh_span *run, size_t align)
{
    return sh_round_up(run->base, align);
}

SH_INLINE bool sh_run_fits(const struct sh_span *run, size_t pages, size_t align)
{
    size_t skipped = sh_run_aligned_start(run, align) - run->base;
    return run->pages >= pages + skipped / SH_PAGE_SIZE;
}

#endif /* SH_HEAPS_BUCKET_H */
