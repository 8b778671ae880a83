/* SPDX-License-Identifier: MIT */
/* What the harness says. See report.h. */
#include "tests/harness/report.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <splitheap/gc.h>

#include "lib/bits.h"
#include "tests/harness/backend.h"
#include "tests/harness/fault.h"
#include "tests/harness/lane.h"
#include "tests/harness/plant.h"
#include "tests/harness/scenario.h"
#include "tests/harness/settings.h"
#include "tests/harness/stats.h"

#define SAY_MAX 1024

static void write_all(int fd, const char *text, size_t len)
{
    while (len) {
        ssize_t n = write(fd, text, len);
        if (n < 0 && errno != EINTR)
            return;
        text += n > 0 ? n : 0;
        len -= n > 0 ? (size_t)n : 0;
    }
}

static void say_list(int fd, const char *format, va_list args)
{
    char text[SAY_MAX];
    int len = vsnprintf(text, sizeof text, format, args);
    if (len > 0)
        write_all(fd, text, sh_min((size_t)len, sizeof text - 1));
}

void say(int fd, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say_list(fd, format, args);
    va_end(args);
}

void give_up(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say(STDERR_FILENO, "splitheap-stress: ");
    say_list(STDERR_FILENO, format, args);
    say(STDERR_FILENO, "\n");
    va_end(args);
    _exit(EXIT_USAGE);
}

/* ---- Failures ---- */

#define TELLING 20 /* seconds that a failure may take to be told */

static _Atomic uint32_t failing;
static SH_TLS bool telling; /* it is this thread that fails */
static bool in_child;

/* A child does not outlive a run that failed: whoever reads its output waits for both. */
void report_fork_child(pid_t parent)
{
    in_child = true;
    telling = false;
    sh_store_relaxed(&failing, 0u);
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (getppid() != parent)
        _exit(EXIT_FAILED);
    report_expect_end("the end of this process", settings.patience / 2);
}

/* ---- Whatever happens, a failed run ends ---- */

/*
 * Telling of a failure looks at objects and at the heap, which may be broken, and takes
 * the heap's locks, which another thread may have when it fails as well, and stands. What
 * comes of that ends the program: a signal, or the alarm.
 */
static void stop_telling(int signal)
{
    if (!telling && signal != SIGALRM)
        for (;;)
            own_sleep_us(1000000);
    static const char text[] = "  (the rest could not be told)\n";
    write_all(STDERR_FILENO, text, sizeof text - 1);
    _exit(EXIT_FAILED);
}

static void begin_telling(void)
{
    static const int signals[] = {SIGALRM, SIGSEGV, SIGBUS, SIGABRT};
    sigset_t set;
    telling = true;
    sigemptyset(&set);
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++) {
        signal(signals[i], stop_telling);
        sigaddset(&set, signals[i]);
    }
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    alarm(TELLING);
}

static const char *state_name(struct entry *entry)
{
    static const char *const names[] = {
        "in nobody's hands", "held", "being freed", "dropped", "collected"};
    return names[entry_state(entry)];
}

static const char *kind_name(const struct entry *entry)
{
    static const char *const names[KINDS] = {"scanned", "leaf", "malloc'd"};
    return names[entry->kind];
}

static void print_entry(struct entry *entry)
{
    uint32_t pending = sh_load_relaxed(&entry->pending);
    say(STDERR_FILENO,
        "  object %llu: %s, %s%s%s%s%s\n"
        "    at %p, %zu bytes asked for, %zu of its cell, aligned to %zu, %u pointers\n"
        "    made by thread %u in operation %llu (%s)\n"
        "    last used by thread %u in operation %llu (%s)\n",
        (unsigned long long)entry_serial(entry), kind_name(entry), state_name(entry),
        entry->typed ? ", typed" : "", entry->in_graph ? ", in a graph" : "",
        pending & PENDING_FINALISER ? ", with a finaliser" : "",
        pending & PENDING_WEAK ? ", weakly referenced" : "", entry_address(entry),
        entry->asked, entry->usable, entry->alignment, entry->links, entry->made_by,
        (unsigned long long)entry->made_at, entry->made_in, entry->used_by,
        (unsigned long long)entry->used_at, entry->used_in);
}

static void print_memory(const char *p, size_t bytes)
{
    for (size_t at = 0; at < sh_min(bytes, 64); at += 16) {
        char line[16 * 3 + 1] = "";
        for (size_t i = at; i < sh_min(at + 16, bytes); i++)
            sprintf(line + (i - at) * 3, " %02x", (unsigned)(unsigned char)p[i]);
        say(STDERR_FILENO, "    +%zu:%s\n", at, line);
    }
}

/* Lines of the heap's map: those about the address, and the headings of its area. */
struct map_view {
    uintptr_t from, to;
    char line[160];
    size_t len;
};

static void print_map_line(struct map_view *view)
{
    uintptr_t low = 0, high = 0;
    bool heading =
        sscanf(view->line, "GC memory area %lx to %lx", &low, &high) == 2 ||
        sscanf(view->line, "GC memory area 0x%lx to 0x%lx", &low, &high) == 2;
    if (heading ? low <= view->from && view->from < high
                : sscanf(view->line, "%lx:", &low) == 1 && low >= view->from &&
                      low < view->to)
        say(STDERR_FILENO, "    %s\n", view->line);
}

static void take_map(void *data, const char *text, size_t len)
{
    struct map_view *view = data;
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '\n') {
            view->line[view->len] = '\0';
            print_map_line(view);
            view->len = 0;
        } else if (view->len < sizeof view->line - 1) {
            view->line[view->len++] = text[i];
        }
    }
}

#define MAP_LINE ((uintptr_t)1024)
#define MAP_LINES 4 /* before and after */

static void print_map(struct entry *entry)
{
    uintptr_t at = (uintptr_t)entry_address(entry) & ~(MAP_LINE - 1);
    static struct map_view view;
    view.from = at - MAP_LINES * MAP_LINE;
    view.to = at + (MAP_LINES + 1) * MAP_LINE;
    gc_print_t print = {.data = &view, .print_strn = take_map};
    say(STDERR_FILENO, "  the heap there, a character for 16 bytes:\n");
    gc_dump_alloc_table(&print);
}

/* Of several threads that fail at once the first is heard, the others wait for the end. */
static void begin_failure(const char *kind)
{
    if (telling)
        _exit(EXIT_FAILED);
    if (sh_exchange_acquire(&failing, 1u))
        for (;;)
            own_sleep_us(1000000);
    begin_telling();
    faults_off();
    say(STDERR_FILENO,
        "\nsplitheap-stress: FAILED: %s\n"
        "  seed %llu, %u threads, backend %s%s; run it again with --seed %llu, or one "
        "operation at a time with --replay %llu\n"
        "  thread %u, operation %llu, scenario %s%s\n",
        kind, (unsigned long long)settings.seed, settings.threads, backend->name,
        settings.plant ? ", with a bug planted" : "", (unsigned long long)settings.seed,
        (unsigned long long)settings.seed, my_number(),
        (unsigned long long)my_operation(), my_scenario(),
        in_child ? ", in the child of a fork" : "");
}

static _Noreturn void end_failure(struct entry *entry)
{
    if (entry && backend->collects)
        print_map(entry);
    alarm(0);
    signal(SIGABRT, SIG_DFL);
    if (settings.core)
        abort();
    _exit(EXIT_FAILED);
}

void fail(const char *kind, struct entry *entry, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    begin_failure(kind);
    say(STDERR_FILENO, "  %s", entry ? "the object " : "");
    say_list(STDERR_FILENO, format, args);
    say(STDERR_FILENO, "\n");
    va_end(args);
    if (entry) {
        print_entry(entry);
        if (entry_state(entry) == LIVE)
            print_memory(entry_address(entry), entry->bytes);
    }
    end_failure(entry);
}

void fail_pair(
    const char *kind, struct entry *entry, struct entry *other, const char *what)
{
    begin_failure(kind);
    say(STDERR_FILENO, "  the first object %s, the second\n", what);
    print_entry(entry);
    print_entry(other);
    end_failure(other);
}

/* ---- Signals ---- */

static void die(int number, siginfo_t *info, void *context)
{
    (void)context;
    begin_failure("crash");
    say(STDERR_FILENO, "  signal %d, address %p\n", number, info->si_addr);
    for (unsigned i = 0; i < settings.threads; i++)
        say(STDERR_FILENO, "  thread %u: operation %llu, %s\n", i,
            (unsigned long long)sh_load_relaxed(&lanes[i].operation),
            sh_load_relaxed(&lanes[i].scenario));
    if (!settings.core)
        _exit(EXIT_FAILED);
    signal(number, SIG_DFL);
    alarm(0);
    raise(number);
}

static const char *expected;

static void end_is_late(int signal)
{
    (void)signal;
    begin_failure("hang");
    say(STDERR_FILENO, "  %s is waited for in vain\n", expected);
    end_failure(NULL);
}

void report_expect_end(const char *of_what, double patience)
{
    expected = of_what;
    signal(SIGALRM, end_is_late);
    alarm(patience < 1e6 ? (unsigned)patience + 1 : 1000000);
}

static void catch (int number)
{
    struct sigaction action = {
        .sa_sigaction = die, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigfillset(&action.sa_mask);
    sigaction(number, &action, NULL);
}

/* A sanitizer reports in its own way, and then says that it is about to end. */
void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

static void say_seed(void)
{
    say(STDERR_FILENO,
        "splitheap-stress: FAILED: sanitizer; seed %llu, thread %u, operation "
        "%llu, scenario %s\n",
        (unsigned long long)settings.seed, my_number(),
        (unsigned long long)my_operation(), my_scenario());
}

void report_init(void)
{
    catch (SIGABRT);
    if (__sanitizer_set_death_callback) {
        __sanitizer_set_death_callback(say_seed);
        return;
    }
    catch (SIGSEGV);
    catch (SIGBUS);
    catch (SIGILL);
    catch (SIGFPE);
}

/* ---- Progress ---- */

#define MIB (1024.0 * 1024.0)

static double peak_resident(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)usage.ru_maxrss / 1024;
}

void report_progress(double seconds)
{
    static uint64_t operations, collected, minor;
    static double before;
    uint64_t now = sh_load_relaxed(&operations_done);
    uint64_t collections_now = sh_load_relaxed(&collections.count);
    uint64_t minor_now = sh_load_relaxed(&collections.minor);
    double past = seconds > before ? seconds - before : 1;
    say(STDERR_FILENO,
        "%6.0f s: %8.0f operations/s, %5.1f collections/s, %.1f of them minor, "
        "longest %.1f ms; %zu objects, "
        "%.0f MiB held, %.0f MiB resident; %llu threads so far\n",
        seconds, (double)(now - operations) / past,
        (double)(collections_now - collected) / past,
        (double)(minor_now - minor) / past,
        (double)sh_exchange_acquire(&collections.longest_late_ns, (uint64_t)0) / 1e6,
        sh_load_relaxed(&counts.live_objects),
        (double)sh_load_relaxed(&counts.live_bytes) / MIB,
        (double)stats_resident() / MIB,
        (unsigned long long)sh_load_relaxed(&threads_created));
    operations = now;
    collected = collections_now;
    minor = minor_now;
    before = seconds;
}

/* ---- Summary ---- */

/* One table for the text and the JSON. */
struct figure {
    const char *name, *unit;
    double value;
};

#define FIGURES_MAX 96

struct figures {
    struct figure list[FIGURES_MAX];
    size_t count;
};

static void add(
    struct figures *figures, const char *name, const char *unit, double value)
{
    if (figures->count < FIGURES_MAX)
        figures->list[figures->count++] = (struct figure){name, unit, value};
}

static void add_run(struct figures *figures, double seconds)
{
    add(figures, "threads", "", settings.threads);
    add(figures, "seconds", "", seconds);
    add(figures, "operations", "", (double)sh_load_relaxed(&operations_done));
    add(figures, "threads_created", "", (double)sh_load_relaxed(&threads_created));
    add(figures, "collections", "", (double)sh_load_relaxed(&collections.count));
    add(figures, "minor_ones", "", (double)sh_load_relaxed(&collections.minor));
    add(figures, "longest_pause", "ms",
        (double)sh_load_relaxed(&collections.longest_ns) / 1e6);
    add(figures, "all_pauses", "ms",
        (double)sh_load_relaxed(&collections.total_ns) / 1e6);
    add(figures, "peak_resident", "MiB", peak_resident());
}

static void add_objects(struct figures *figures)
{
    add(figures, "made", "", (double)sh_load_relaxed(&counts.made));
    add(figures, "verified", "", (double)sh_load_relaxed(&counts.verified));
    add(figures, "resized", "", (double)sh_load_relaxed(&counts.resized));
    add(figures, "moved", "", (double)sh_load_relaxed(&counts.moved));
    add(figures, "freed", "", (double)sh_load_relaxed(&counts.freed));
    add(figures, "dropped", "", (double)sh_load_relaxed(&counts.dropped));
    add(figures, "collected", "", (double)sh_load_relaxed(&counts.collected));
    add(figures, "finalised", "", (double)sh_load_relaxed(&counts.finalised));
    add(figures, "brought_back", "", (double)sh_load_relaxed(&counts.resurrected));
    add(figures, "weak_hooks", "", (double)sh_load_relaxed(&counts.weak));
    add(figures, "refused", "", (double)sh_load_relaxed(&counts.refused));
}

static void print_text(const struct figures *figures)
{
    say(STDOUT_FILENO, "splitheap-stress: no failure; seed %llu, backend %s\n",
        (unsigned long long)settings.seed, backend->name);
    for (size_t i = 0; i < figures->count; i++)
        say(STDOUT_FILENO, "  %-16s %14.*f %s\n", figures->list[i].name,
            figures->list[i].unit[0] || figures->list[i].value < 1000 ? 1 : 0,
            figures->list[i].value, figures->list[i].unit);
    say(STDOUT_FILENO, "  scenarios       ");
    for (unsigned i = 0; i < scenario_count; i++)
        say(STDOUT_FILENO, " %s %llu", scenarios[i].name,
            (unsigned long long)sh_load_relaxed(&scenario_runs[i]));
    say(STDOUT_FILENO, "\n  faults          ");
    for (int i = 0; i < FAULTS; i++)
        say(STDOUT_FILENO, " %s %llu", fault_names[i],
            (unsigned long long)sh_load_relaxed(&faults_injected[i]));
    say(STDOUT_FILENO, "\n  storms          ");
    for (int i = 0; i < STORMS; i++)
        say(STDOUT_FILENO, " %s %llu", storm_names[i],
            (unsigned long long)sh_load_relaxed(&storm_events[i]));
    say(STDOUT_FILENO, "\n");
}

static void print_group(int fd, const char *name, size_t count,
    const char *(*name_of)(size_t i), const _Atomic uint64_t *values)
{
    say(fd, ",\n  \"%s\": {", name);
    for (size_t i = 0; i < count; i++)
        say(fd, "%s\"%s\": %llu", i ? ", " : "", name_of(i),
            (unsigned long long)sh_load_relaxed(&values[i]));
    say(fd, "}");
}

static void print_json(const struct figures *figures)
{
    bool standard = strcmp(settings.json, "-") == 0;
    int fd = standard
                 ? STDOUT_FILENO
                 : open(settings.json, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0)
        give_up("%s cannot be written: %m", settings.json);
    say(fd, "{\n  \"seed\": %llu,\n  \"backend\": \"%s\"",
        (unsigned long long)settings.seed, backend->name);
    for (size_t i = 0; i < figures->count; i++)
        say(fd, ",\n  \"%s%s%s\": %.15g", figures->list[i].name,
            figures->list[i].unit[0] ? "_" : "", figures->list[i].unit,
            figures->list[i].value);
    print_group(fd, "scenarios", scenario_count, scenario_name, scenario_runs);
    print_group(fd, "faults", FAULTS, fault_name, faults_injected);
    print_group(fd, "storms", STORMS, storm_name, storm_events);
    say(fd, "\n}\n");
    if (!standard)
        close(fd);
}

void report_summary(double seconds)
{
    static struct figures figures;
    add_run(&figures, seconds);
    add_objects(&figures);
    if (!settings.json || strcmp(settings.json, "-") != 0)
        print_text(&figures);
    if (settings.json)
        print_json(&figures);
}
