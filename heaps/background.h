/* SPDX-License-Identifier: MIT */
/*
 * The background thread: gives memory back while the program is idle.
 *
 * It is no thread of the heap's: it has no record and no cache, is not stopped by
 * collections, and works under the same locks as any thread without a record. See
 * heaps/background.c for when it is there.
 */
#ifndef SH_HEAPS_BACKGROUND_H
#define SH_HEAPS_BACKGROUND_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/atomic.h"
#include "lib/compiler.h"

/* It is there, and sees to the decay: others need not. */
bool sh_background_runs(void);

/* There are more dirty pages or more in use: it is woken, or found to be wanted. Takes
 * no lock; any may be held, but it calls the system. */
void sh_background_consider(void);

/* Something waits in the shared cache's inbox. As consider. */
void sh_background_notice(void);

/* Starts it. Outside critical sections and locks. `freeing`: called by free, where the
 * C library may hold a lock that making a thread takes. */
void sh_background_start(bool freeing);

extern _Atomic bool sh_background_wanted;

SH_INLINE void sh_background_start_if_wanted(bool freeing)
{
    if (SH_UNLIKELY(sh_load_relaxed(&sh_background_wanted)))
        sh_background_start(freeing);
}

/* No thread of the program's is registered any more: it ends, lest it keep the process.
 * Outside critical sections. */
void sh_background_end(void);

/* In the child of a fork. */
void sh_background_fork_child(void);

#endif /* SH_HEAPS_BACKGROUND_H */
