/* SPDX-License-Identifier: MIT */
/*
 * Libraries that are loaded and unloaded: one of the program's own, whose data holds
 * objects, and some of the system's. The program carries the bytes of its own, and each
 * use is of another file, so that threads have them side by side.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/harness/helper.h"
#include "tests/harness/module.h"
#include "tests/harness/object.h"
#include "tests/harness/plant.h"
#include "tests/harness/report.h"
#include "tests/harness/scenario.h"
#include "tests/harness/settings.h"

static const unsigned char module_bytes[] = {
#include "module_bytes.h"
};

/* Libraries that every GNU system has, and few programs have loaded. */
static const char *const systems[] = {"libresolv.so.2", "libthread_db.so.1",
    "libBrokenLocale.so.1", "libutil.so.1", "libanl.so.1", "libnss_files.so.2"};

static void load_system(struct worker *worker)
{
    size_t i = random_below(&worker->random, sizeof systems / sizeof systems[0]);
    void *module = dlopen(systems[i], RTLD_NOW | RTLD_LOCAL);
    if (!module)
        return;
    own_slot_use(worker, &worker->places[PLACE_STACK].slots[0]);
    dlclose(module);
}

/* ---- Our own ---- */

/* -1: there are no files in memory here, or no more. */
static int module_file(void)
{
    int file = memfd_create("splitheap-stress", MFD_CLOEXEC);
    if (file >= 0 && write(file, module_bytes, sizeof module_bytes) !=
                         (ssize_t)sizeof module_bytes) {
        close(file);
        file = -1;
    }
    return file;
}

static void use_places(struct worker *worker, struct place *places, size_t count)
{
    struct random *random = &worker->random;
    for (size_t i = random_below(random, 40); i; i--) {
        struct place *place = &places[random_below(random, count)];
        own_slot_use(worker, &place->slots[random_below(random, place->count)]);
    }
    if (random_once_in(random, collect_once_in(2)))
        collect();
    if (plant_now(PLANT_LOST_MODULE))
        place_lose(&places[MODULE_DATA]);
    for (size_t k = 0; k < count; k++)
        for (size_t i = 0; i < places[k].count; i++)
            slot_verify(places[k].slots[i]);
    for (size_t k = 0; k < count; k++)
        places_finish(worker, &places[k], random_below(random, 2));
}

/* Thread-local variables of a library that was loaded lie in memory of whose malloc it
 * is: where that is a sanitizer's, they are no roots. */
static void use_module(struct worker *worker, module_slots_fn *slots_of)
{
    struct place places[MODULE_PLACES];
    size_t count = HELPER_SANITIZED ? MODULE_LOCAL : MODULE_PLACES;
    for (size_t i = 0; i < count; i++)
        places[i].count = slots_of((enum module_place)i, &places[i].slots);
    places[MODULE_DATA].slots[0] = NULL;
    use_places(worker, places, count);
}

static void load_own(struct worker *worker)
{
    int file = module_file();
    if (file < 0)
        return;
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    module_slots_fn *slots_of = NULL;
    if (module)
        *(void **)(void *)&slots_of = dlsym(module, "module_slots");
    if (slots_of)
        use_module(worker, slots_of);
    else if (!settings_memory_is_short())
        fail("module", NULL, "dlopen failed: %s", dlerror());
    if (module)
        dlclose(module);
    close(file); /* not before: the loader knows the module by this name */
}

void run_module(struct worker *worker)
{
    if (SH_TSAN) /* whose allocator fails on what the loader frees for it */
        return;
    if (random_once_in(&worker->random, 4))
        load_system(worker);
    else
        load_own(worker);
}
