/* SPDX-License-Identifier: MIT */
/* The command line. See settings.h. */
#include "tests/harness/settings.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/harness/helper.h"
#include "tests/harness/plant.h"
#include "tests/harness/report.h"
#include "tests/harness/scenario.h"

struct settings settings = {
    .threads = 8,
    .live = HELPER_SANITIZED ? (size_t)32 << 20 : (size_t)128 << 20,
    .progress = 10,
    .patience = 120,
};

const char *const fault_names[FAULTS] = {
    "mmap", "munmap", "madvise", "mremap", "thread"};
const char *const storm_names[STORMS] = {"signals", "pauses", "forks", "stops"};

/* The library asks for mappings rarely, for purges often. */
static const double fault_rates[FAULTS] = {20, 20, 2, 20, 10};
static const unsigned storm_rates[STORMS] = {200, 20, 5, 5};

bool settings_memory_is_short(void)
{
    if (settings.heap_limit)
        return true;
    for (int i = 0; i < FAULTS; i++)
        if (settings.faults[i] > 0)
            return true;
    return false;
}

/* ---- Help ---- */

static void print_list(void)
{
    printf("scenarios (weight):\n");
    for (unsigned i = 0; i < scenario_count; i++)
        printf("  %-10s %5u  %s\n", scenarios[i].name, scenarios[i].weight,
            scenarios[i].what);
    printf("\nfaults (per cent of calls): ");
    for (int i = 0; i < FAULTS; i++)
        printf(" %s (%.0f)", fault_names[i], fault_rates[i]);
    printf("\nstorms (a second): ");
    for (int i = 0; i < STORMS; i++)
        printf(" %s (%u)", storm_names[i], storm_rates[i]);
    printf("\n\nbugs to plant (* not on plain malloc):\n");
    for (int i = 0; i < PLANT_COUNT; i++)
        if (plant_is_possible((enum plant)i))
            printf("  %-15s %c %s\n", plant_names[i], plant_plain[i] ? ' ' : '*',
                plant_texts[i]);
}

static const char help[] =
    "splitheap-stress - random scenarios on splitheap, with every object accounted "
    "for\n"
    "\n"
    "  --threads N         threads at work at a time (8)\n"
    "  --seconds S         how long (10, unless --operations is given)\n"
    "  --operations N      how many operations of each thread\n"
    "  --seed N            where chance begins (the clock)\n"
    "  --replay N          the same seed, with one operation at a time, in an order "
    "that\n"
    "                      the seed decides\n"
    "  --weights LIST      name:weight,... of scenarios; all:0 clears those before\n"
    "  --minor             no typed objects, boxed words or thresholds, and seldom a\n"
    "                      gc_collect: so collections may be minor ones\n"
    "  --live BYTES        how much to have at once, about (k, m, g)\n"
    "  --heap-limit BYTES  the heap may not grow beyond; allocations fail\n"
    "  --faults LIST       name[:percent],... or all[:percent] of calls that fail\n"
    "  --storm LIST        name[:rate],... or all, so often a second\n"
    "  --backend NAME      splitheap, or malloc: the C library's, to test this "
    "program\n"
    "  --plant BUG         makes this mistake on purpose, to see it found\n"
    "  --progress S        a line every so many seconds; 0: none (10)\n"
    "  --patience S        a thread that stands for so long is a failure (120)\n"
    "  --json FILE         the summary as JSON; -: on standard output, without the "
    "text\n"
    "  --core              end by abort where something failed\n"
    "  --list              scenarios, faults, storms, and bugs that can be planted\n"
    "  --help              this\n"
    "\n"
    "Exit status: 0 nothing was found; 1 a failure, told on standard error; 2 usage.\n"
    "See splitheap-stress(1).\n";

/* ---- Values ---- */

static _Noreturn void refuse(const char *what, const char *value)
{
    say(STDERR_FILENO, "splitheap-stress: %s: %s; --help tells more\n", value, what);
    exit(EXIT_USAGE);
}

static double number(const char *text)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || !(value >= 0) || value > 1e12)
        refuse("not a number", text);
    return value;
}

static uint64_t whole(const char *text)
{
    char *end;
    errno = 0;
    uint64_t value = strtoull(text, &end, 0);
    if (end == text || *end || errno || *text == '-')
        refuse("not a whole number", text);
    return value;
}

static size_t bytes(const char *text)
{
    static const char units[] = "kmgt";
    char *end;
    errno = 0;
    uint64_t value = strtoull(text, &end, 0);
    const char *unit = *end ? strchr(units, *end | 0x20) : NULL;
    unsigned shift = unit ? 10 * (unsigned)(unit - units + 1) : 0;
    if (end == text || errno || *text == '-' || (*end && (!unit || end[1])) ||
        value > (SIZE_MAX >> shift))
        refuse("not a number of bytes", text);
    return (size_t)value << shift;
}

/* ---- Lists ---- */

typedef void set_fn(size_t i, const char *value);

/* name[:value],...; `all` is every one. */
static void parse_list(
    char *text, const char *(*name_of)(size_t i), size_t count, set_fn *set)
{
    char *rest;
    for (char *word = strtok_r(text, ",", &rest); word;
         word = strtok_r(NULL, ",", &rest)) {
        char *value = strchr(word, ':');
        bool known = false;
        if (value)
            *value++ = '\0';
        for (size_t i = 0; i < count; i++)
            if (strcmp(word, "all") == 0 || strcmp(word, name_of(i)) == 0) {
                set(i, value);
                known = true;
            }
        if (!known)
            refuse("no such name", word);
    }
}

const char *scenario_name(size_t i)
{
    return scenarios[i].name;
}

const char *fault_name(size_t i)
{
    return fault_names[i];
}

const char *storm_name(size_t i)
{
    return storm_names[i];
}

static void set_weight(size_t i, const char *value)
{
    uint64_t weight = value ? whole(value) : scenarios[i].weight;
    if (weight > 1000000)
        refuse("too large a weight", value);
    settings.weights[i] = (unsigned)weight;
}

/* Scenarios that collect by themselves, or have the library try before it refuses. */
static void set_minor(void)
{
    static const char *const full[] = {"edges", "collect", "phases"};
    settings.minor = true;
    for (size_t i = 0; i < scenario_count; i++)
        for (size_t k = 0; k < sizeof full / sizeof full[0]; k++)
            if (strcmp(scenarios[i].name, full[k]) == 0)
                settings.weights[i] = k > 0;
}

static void set_fault(size_t i, const char *value)
{
    settings.faults[i] = value ? number(value) : fault_rates[i];
    if (settings.faults[i] > 50)
        refuse("more than half of the calls", value);
}

static void set_storm(size_t i, const char *value)
{
    double rate = value ? number(value) : storm_rates[i];
    if (rate > 100000)
        refuse("too often", value);
    settings.storms[i] = (unsigned)rate;
}

static void set_plant(const char *name)
{
    for (int i = 0; i < PLANT_COUNT; i++)
        if (strcmp(name, plant_names[i]) == 0 && plant_is_possible((enum plant)i)) {
            settings.plant = i;
            return;
        }
    refuse("no such bug", name);
}

static void set_backend(const char *name)
{
    settings.plain_malloc = strcmp(name, "malloc") == 0;
    if (!settings.plain_malloc && strcmp(name, "splitheap") != 0)
        refuse("no such backend", name);
}

static void set_threads(const char *text)
{
    uint64_t n = whole(text);
    if (n < 1 || n > LANES_MAX)
        refuse("not a number of threads from 1 to 1024", text);
    settings.threads = (unsigned)n;
}

/* ---- All of it ---- */

static const struct option options[] = {
    {"threads", required_argument, NULL, 't'},
    {"seconds", required_argument, NULL, 's'},
    {"operations", required_argument, NULL, 'o'},
    {"seed", required_argument, NULL, 'r'},
    {"replay", required_argument, NULL, 'R'},
    {"weights", required_argument, NULL, 'w'},
    {"minor", no_argument, NULL, 'M'},
    {"live", required_argument, NULL, 'l'},
    {"heap-limit", required_argument, NULL, 'm'},
    {"faults", required_argument, NULL, 'f'},
    {"storm", required_argument, NULL, 'S'},
    {"backend", required_argument, NULL, 'b'},
    {"plant", required_argument, NULL, 'p'},
    {"progress", required_argument, NULL, 'P'},
    {"patience", required_argument, NULL, 'a'},
    {"json", required_argument, NULL, 'j'},
    {"core", no_argument, NULL, 'c'},
    {"list", no_argument, NULL, 'L'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

static void set(int option, char *value)
{
    switch (option) {
    case 't':
        set_threads(value);
        break;
    case 's':
        settings.seconds = number(value);
        break;
    case 'o':
        settings.operations = whole(value);
        break;
    case 'R':
        settings.replay = true;
        settings.seed = whole(value);
        break;
    case 'r':
        settings.seed = whole(value);
        break;
    case 'w':
        parse_list(value, scenario_name, scenario_count, set_weight);
        break;
    case 'M':
        set_minor();
        break;
    case 'l':
        settings.live = bytes(value);
        break;
    case 'm':
        settings.heap_limit = bytes(value);
        break;
    case 'f':
        parse_list(value, fault_name, FAULTS, set_fault);
        break;
    case 'S':
        parse_list(value, storm_name, STORMS, set_storm);
        break;
    case 'b':
        set_backend(value);
        break;
    case 'p':
        set_plant(value);
        break;
    case 'P':
        settings.progress = number(value);
        break;
    case 'a':
        settings.patience = number(value);
        break;
    case 'j':
        settings.json = value;
        break;
    case 'c':
        settings.core = true;
        break;
    case 'L':
        print_list();
        exit(0);
    case 'h':
        printf("%s", help);
        exit(0);
    default:
        exit(EXIT_USAGE);
    }
}

/* What one backend has not, another setting cannot ask for. */
static void reconcile(void)
{
    size_t sum = 0;
    for (unsigned i = 0; i < scenario_count; i++) {
        if (settings.plain_malloc && scenarios[i].library)
            settings.weights[i] = 0;
        sum += settings.weights[i];
    }
    if (sum == 0)
        refuse("no scenario has a weight", "--weights");
    if (settings.plain_malloc && !plant_plain[settings.plant])
        refuse("not on plain malloc", plant_names[settings.plant]);
    if (settings.plain_malloc && settings.heap_limit)
        refuse("not on plain malloc", "--heap-limit");
    if (settings.seconds <= 0 && settings.operations == 0)
        settings.seconds = 10;
}

void settings_parse(int argc, char **argv)
{
    int option;
    settings.seed = (uint64_t)time(NULL) * 1000003u ^ (uint64_t)getpid();
    for (unsigned i = 0; i < scenario_count; i++)
        settings.weights[i] = scenarios[i].weight;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
        set(option, optarg);
    if (optind < argc)
        refuse("what is this", argv[optind]);
    reconcile();
}
