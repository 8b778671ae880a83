/* SPDX-License-Identifier: MIT */
/* Bugs that are planted on purpose. See plant.h. */
#include "tests/harness/plant.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

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

/* ---- Writes ---- */

#define PAGE ((uintptr_t)4096)

/* As lib/os_linux_watch.c protects a page. */
struct scan {
    uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
    uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};

static bool forget_page(uintptr_t page)
{
    struct scan scan = {
        .size = sizeof scan,
        .flags = 1, /* protects */
        .start = page,
        .end = page + PAGE,
        .category_mask = 2, /* written to */
        .return_mask = 2,
    };
    int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    bool done = fd >= 0 && ioctl(fd, _IOWR('f', 16, struct scan), &scan) >= 0;
    close(fd);
    return done;
}

void plant_lose_write(void *at)
{
    if (plant_now(PLANT_LOST_WRITE))
        forget_page((uintptr_t)at & ~(PAGE - 1));
}

static bool system_watches(void)
{
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | 1); /* of user mode */
    bool done = fd >= 0 && forget_page((uintptr_t)plant_names & ~(PAGE - 1));
    close(fd);
    return done;
}

/* ---- Turns ---- */

/* See run_module, and run_stranger. */
bool plant_is_possible(enum plant plant)
{
    return !(SH_TSAN && plant == PLANT_LOST_MODULE) &&
           !(HELPER_SANITIZED && plant == PLANT_LOST_THREAD) &&
           (plant != PLANT_LOST_WRITE || system_watches());
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
