/* SPDX-License-Identifier: MIT */
/*
 * Roots that the program names one by one: slots, which hold a pointer each, and
 * callbacks that say what is a root. Under SH_RANK_ROOTS, in any thread.
 */
#ifndef SH_THREADS_NAMED_ROOTS_H
#define SH_THREADS_NAMED_ROOTS_H

#include <splitheap/gc.h>

#include "threads/stop.h"

int sh_root_slot_add(void **slot);    /* 0, EINVAL, ENOMEM */
int sh_root_slot_remove(void **slot); /* 0, ENOENT */

int sh_root_callback_add(gc_root_callback_fn *callback, void *context);
int sh_root_callback_remove(gc_root_callback_fn *callback, void *context);

/* With the world stopped, under SH_RANK_ROOTS: visits the slots and calls the callbacks,
 * which report to `marker`. */
void sh_scan_named_roots(sh_range_fn *visit, void *context, struct gc_marker *marker);

#endif /* SH_THREADS_NAMED_ROOTS_H */
