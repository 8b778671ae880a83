/* SPDX-License-Identifier: MIT */
/* Bugs that are planted on purpose. See plant.h. */
#include "tests/harness/plant.h"

#include "lib/atomic.h"
#include "lib/compiler.h"
#include "tests/harness/helper.h"
#include "tests/harness/settings.h"

#define PLANT_NAME(name, text, what, plain) text,
#define PLANT_TEXT(name, text, what, plain) what,
#define PLANT_PLAIN(name, text, what, plain) plain,

const char *const plant_names[PLANT_COUNT] = {PLANTS(PLANT_NAME)};
const char *const plant_texts[PLANT_COUNT] = {PLANTS(PLANT_TEXT)};
const bool plant_plain[PLANT_COUNT] = {PLANTS(PLANT_PLAIN)};

/* See run_module, and run_stranger. */
bool plant_is_possible(enum plant plant)
{
    return !(SH_TSAN && plant == PLANT_LOST_MODULE) &&
           !(HELPER_SANITIZED && plant == PLANT_LOST_THREAD);
}

#define FIRST 32 /* chances that pass before */
#define EVERY 8

bool plant_now(enum plant plant)
{
    static _Atomic unsigned chances;
    if (settings.plant != (int)plant)
        return false;
    unsigned n = sh_add_relaxed(&chances, 1u);
    return n >= FIRST && n % EVERY == 0;
}
