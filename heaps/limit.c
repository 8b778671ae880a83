/* SPDX-License-Identifier: MIT */
/* The heap's limit. See heaps/limit.h. */
#include "heaps/limit.h"

#include "lib/atomic.h"
#include "lib/os.h"

static _Atomic size_t used;
static _Atomic size_t most_bytes; /* as the program set it; 0: no limit */

size_t sh_limit_used(void)
{
    return sh_load_relaxed(&used);
}

size_t sh_limit_most(void)
{
    size_t bytes = sh_load_relaxed(&most_bytes);
    return bytes ? bytes / SH_PAGE_SIZE : SH_NO_LIMIT;
}

size_t sh_limit_left(void)
{
    size_t limit = sh_limit_most(), now = sh_limit_used();
    return now < limit ? limit - now : 0;
}

bool sh_limit_take(size_t pages)
{
    size_t now = sh_limit_used(), limit;
    do {
        limit = sh_limit_most();
        if (now > limit || pages > limit - now)
            return false;
    } while (!sh_cas_weak_seq_cst(&used, &now, now + pages));
    return true;
}

void sh_limit_give(size_t pages)
{
    sh_sub_seq_cst(&used, pages);
}

void sh_limit_recount(size_t pages)
{
    sh_store_relaxed(&used, pages);
}

size_t sh_limit_set(size_t bytes)
{
    return sh_exchange_seq_cst(&most_bytes, bytes);
}
