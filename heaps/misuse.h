/* SPDX-License-Identifier: MIT */
/* Messages for misused pointers: each names the call, the pointer, what it is and what
 * to do, and ends the program; but with the option misuse:report it returns, and the
 * call is to do nothing. */
#ifndef SH_HEAPS_MISUSE_H
#define SH_HEAPS_MISUSE_H

#include "heaps/heap.h"

/* `p` was given to `call`, which wants the start of a live cell. */
SH_COLD void sh_misuse_pointer(const char *call, const void *p, enum sh_found found);

/* Two threads freed the cell at p in the same instant. Whoever finds that may hold locks:
 * it is told later, by the next who comes by without; of several at once one is. */
SH_COLD void sh_misuse_race(const void *p);
SH_COLD void sh_misuse_tell_race(void);
extern _Atomic uintptr_t sh_misuse_untold; /* the address, or 0 */

/* The object at p holds an area of the heap. */
SH_COLD void sh_misuse_pinned(const char *call, const void *p);

/* The object at p is a link of heaps/weak_link.h that leads somewhere. */
SH_COLD void sh_misuse_link(const char *call, const void *p);

/* The size or alignment given to a sized free is not that of the cell. */
SH_COLD void sh_misuse_size(
    const char *call, const void *p, size_t given, size_t usable);
SH_COLD void sh_misuse_alignment(const char *call, const void *p, size_t given);

#endif /* SH_HEAPS_MISUSE_H */
