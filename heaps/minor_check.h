/* SPDX-License-Identifier: MIT */
/*
 * With checks=3: that what a minor collection leaves out was not written to. The guarded
 * parts of spans are summed up when a collection ends, and again when the next one has asked
 * which were written to. Without, both do nothing.
 *
 * The collector's, with the world stopped and the heap's lock held.
 */
#ifndef SH_HEAPS_MINOR_CHECK_H
#define SH_HEAPS_MINOR_CHECK_H

void sh_minor_check_guard(void);
void sh_minor_check_written(void);

#endif /* SH_HEAPS_MINOR_CHECK_H */
