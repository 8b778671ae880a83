/* SPDX-License-Identifier: MIT */
/* The library that the scenario `module` loads, and whose bytes the program carries. */
#ifndef SH_HARNESS_MODULE_H
#define SH_HARNESS_MODULE_H

#include <stddef.h>

enum module_place { MODULE_DATA, MODULE_CLEARED, MODULE_LOCAL, MODULE_PLACES };

/* How many slots there are in the place; the first of MODULE_DATA is no pointer yet. */
__attribute__((visibility("default"))) size_t module_slots(
    enum module_place place, void ***slots);

typedef size_t module_slots_fn(enum module_place place, void ***slots);

#endif /* SH_HARNESS_MODULE_H */
