/* SPDX-License-Identifier: MIT */
/*
 * The oracle of checks=3: whether what a collection marked is closed, and every span's
 * tables agree, asked in the plainest way, by the page map alone.
 */
#ifndef SH_HEAPS_MARK_CHECK_H
#define SH_HEAPS_MARK_CHECK_H

#include <stdint.h>

/* All is marked. The world is stopped, and the shared and the heap's lock are held; ends
 * the program where a marked cell leads to one that is live and not marked. */
void sh_mark_check(void);

/* What a typed object reports to a marker that is checking. */
void sh_mark_check_words(uintptr_t start, uintptr_t end);

#endif /* SH_HEAPS_MARK_CHECK_H */
