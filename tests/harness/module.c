/* SPDX-License-Identifier: MIT */
/* What the scenario `module` loads and unloads: a library with slots in its data. */
#include <stddef.h>

#include "tests/harness/module.h"

#define SLOTS 16

static void *data[SLOTS] = {(void *)1}; /* a value, so that it lies in the file */
static void *cleared[SLOTS];
static __thread void *local[SLOTS];

size_t module_slots(enum module_place place, void ***slots)
{
    *slots = place == MODULE_DATA ? data : place == MODULE_CLEARED ? cleared : local;
    return SLOTS;
}
