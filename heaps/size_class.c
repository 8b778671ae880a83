/* SPDX-License-Identifier: MIT */
/* The size class tables; written once, by sh_size_class_init, then only read. */
#include "heaps/size_class.h"

#include "lib/check.h"
#include "lib/os.h"

struct sh_size_class sh_size_classes[SH_CLASS_COUNT];
uint8_t sh_class_of_granules[SH_SMALL_MAX / SH_GRANULE + 1];

/* Of large cells a program has few of each size, and what a class keeps for itself costs
 * more than what a coarser step wastes in each cell. */
enum { STEPS = 8, COARSE_STEPS = 4, COARSE_MIN = 4096 };
enum { FIRST_STEPS_MAX = 128, SPAN_PAGES = 16 };

static uint32_t next_size(uint32_t size)
{
    if (size < FIRST_STEPS_MAX)
        return size + (uint32_t)SH_GRANULE;
    size_t steps = size < COARSE_MIN ? STEPS : COARSE_STEPS;
    return size + (uint32_t)(((size_t)1 << sh_log2_64(size)) / steps);
}

/* 64 KiB hold enough cells of up to 8 KiB; beyond, eight cells at least. */
static uint16_t ordinary_pages(uint32_t size)
{
    uint32_t pages = SPAN_PAGES;
    while (pages * SH_PAGE_SIZE < (size_t)size * 8)
        pages *= 2;
    return (uint16_t)pages;
}

/* The fewest pages of which at most a thirty-second is no cell. */
static uint16_t fewest_pages(uint32_t size)
{
    size_t pages = (size + SH_PAGE_SIZE - 1) / SH_PAGE_SIZE;
    while ((pages * SH_PAGE_SIZE) % size > pages * SH_PAGE_SIZE / 32)
        pages++;
    return (uint16_t)pages;
}

/* A magazine of up to 256 KiB, and of eight cells at least. */
static uint8_t magazine(uint32_t size)
{
    return (uint8_t)sh_min(192, sh_max(8, ((size_t)256 << 10) / size));
}

/* Half a magazine, but 32 KiB, so that a few large objects made and dropped again do not
 * touch a whole span. */
static uint8_t refill(uint32_t size)
{
    size_t cells = 8 * SH_PAGE_SIZE / size;
    return (uint8_t)sh_min(sh_min(64, magazine(size) / 2u), sh_max(1, cells));
}

void sh_size_class_init(void)
{
    uint32_t size = (uint32_t)SH_GRANULE;
    size_t granules = 0;
    for (unsigned c = 0; c < SH_CLASS_COUNT; c++, size = next_size(size)) {
        sh_size_classes[c] = (struct sh_size_class){
            .size = size,
            .reciprocal = UINT64_MAX / size + 1,
            .pages = ordinary_pages(size),
            .min_pages = fewest_pages(size),
            .magazine = magazine(size),
            .refill = refill(size),
        };
        for (; granules * SH_GRANULE <= size; granules++)
            sh_class_of_granules[granules] = (uint8_t)c;
    }
    SH_CHECK1(granules == SH_SMALL_MAX / SH_GRANULE + 1);
}
