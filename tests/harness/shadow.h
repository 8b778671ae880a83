/* SPDX-License-Identifier: MIT */
/*
 * Whose is this address? For each granule of 16 bytes the entry of the object that has
 * it; of an object's whole pages one word for the page. So an object that is handed out
 * where another still is, be it in part, is found at once, and the other named.
 *
 *      address -> leaf of 64 MiB -> page word, and 256 granules' words a page
 *
 * Without locks. Granules first, then the page, for small objects; pages first, then
 * their granules, for large ones: of two that claim the same, one sees the other.
 */
#ifndef SH_HARNESS_SHADOW_H
#define SH_HARNESS_SHADOW_H

#include "tests/harness/ledger.h"

void shadow_init(void);

/*
 * [address, address + usable) is the entry's object's. Entries of what was dropped there
 * become COLLECTED; whatever else is there is a failure.
 */
void shadow_claim(struct entry *entry);

/* What of this is still the entry's is nobody's. */
void shadow_clear(struct entry *entry);

/* The entry of the object at the address, or NULL. */
struct entry *shadow_find(const void *p);

#endif /* SH_HARNESS_SHADOW_H */
