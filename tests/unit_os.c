/* SPDX-License-Identifier: MIT */
/* lib/os.h: what each function promises, at the edges where kernels say no. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>

#include <cmocka.h>

#include "lib/bits.h"
#include "lib/os.h"
#include "tests/child.h"

#define KIB ((size_t)1024)
#define MIB (KIB * KIB)
#define MS 1000000u
#define PAGE ((size_t)sysconf(_SC_PAGESIZE))
#define LEFT_MAX ((size_t)1 << 46)

static bool is_all(const void *start, unsigned char byte, size_t bytes)
{
    const unsigned char *p = start;
    for (size_t i = 0; i < bytes; i++) {
        if (p[i] != byte)
            return false;
    }
    return true;
}

/* Only where all of [start, start + bytes) is mapped does mincore succeed. */
static bool is_mapped(void *start, size_t bytes)
{
    unsigned char resident[64];
    return mincore(start, bytes, resident) == 0;
}

static bool is_resident(void *page)
{
    unsigned char resident;
    return mincore(page, PAGE, &resident) == 0 && (resident & 1);
}

/* A field of /proc/self/statm, in bytes. */
static size_t statm(int field)
{
    unsigned long values[7] = {0};
    FILE *file = fopen("/proc/self/statm", "re");
    for (int i = 0; i < 7; i++) {
        if (fscanf(file, "%lu", &values[i]) != 1)
            abort();
    }
    fclose(file);
    return values[field] * (size_t)sysconf(_SC_PAGESIZE);
}

/* ---- Mapping ---- */

static void mapped_is_zeroed_aligned_and_low(void **unused)
{
    errno = E2BIG;
    for (size_t align = PAGE; align <= 256 * MIB; align *= 2) {
        for (size_t bytes = PAGE; bytes <= 4 * MIB; bytes *= 8) {
            char *start = sh_os_map(bytes, align);
            assert_non_null(start);
            assert_int_equal((uintptr_t)start % align, 0);
            assert_true((uintptr_t)start + bytes <= (uintptr_t)1 << SH_ADDRESS_BITS);
            assert_true(is_all(start, 0, bytes));
            memset(start, 0xff, bytes);
            sh_os_unmap(start, bytes);
        }
    }
    assert_int_equal(errno, E2BIG);
}

/* What alignment makes the kernel map too much is given back. */
static void alignment_costs_nothing(void **unused)
{
    enum { COUNT = 16 };
    char *starts[COUNT];
    size_t before = statm(0);
    for (int i = 0; i < COUNT; i++) {
        starts[i] = sh_os_map(3 * PAGE, 4 * MIB);
        assert_non_null(starts[i]);
        assert_int_equal((uintptr_t)starts[i] % (4 * MIB), 0);
        assert_true(is_mapped(starts[i], 3 * PAGE));
    }
    assert_true(statm(0) < before + 4 * MIB);
    for (int i = 0; i < COUNT; i++)
        sh_os_unmap(starts[i], 3 * PAGE);
    for (int i = 0; i < COUNT; i++)
        assert_false(is_mapped(starts[i], PAGE));
}

static void unmapped_is_gone(void **unused)
{
    char *start = sh_os_map(8 * PAGE, PAGE);
    assert_true(is_mapped(start, 8 * PAGE));
    errno = E2BIG;
    sh_os_unmap(start, 8 * PAGE - 1);
    assert_int_equal(errno, E2BIG);
    assert_false(is_mapped(start + 7 * PAGE, PAGE));
}

static void too_much(void **unused)
{
    errno = E2BIG;
    assert_null(sh_os_map(SIZE_MAX, PAGE));
    assert_null(sh_os_map(SIZE_MAX - PAGE, PAGE));
    assert_null(sh_os_map((size_t)1 << SH_ADDRESS_BITS, PAGE));
    assert_null(sh_os_map(PAGE, (size_t)1 << SH_ADDRESS_BITS));
    assert_null(sh_os_map(PAGE, (size_t)1 << 63));
    assert_int_equal(errno, E2BIG);
}

/* ---- In children: limits ---- */

static void assert_child(void (*function)(void *))
{
    struct child child;
    child_run(&child, function, NULL);
    assert_string_equal(child.text, "");
    assert_true(child_returned(&child));
}

static void expect(bool condition, int line)
{
    if (!condition)
        dprintf(STDERR_FILENO, "line %d\n", line);
}
#define EXPECT(condition) expect((condition), __LINE__)

static void set_limit(int resource, size_t bytes)
{
    struct rlimit limit = {bytes, bytes};
    setrlimit((__rlimit_resource_t)resource, &limit);
}

static void without_address_space(void *unused)
{
    char *start = sh_os_map(4 * PAGE, PAGE);
    start[0] = 'a';
    set_limit(RLIMIT_AS, 0);
    errno = E2BIG;
    EXPECT(!sh_os_map(PAGE, PAGE));
    EXPECT(!sh_os_map(PAGE, 4 * MIB));
    EXPECT(!sh_os_remap(start, 4 * PAGE, 64 * MIB));
    EXPECT(start[0] == 'a');
    EXPECT(sh_os_memory_available() == 0);
    sh_os_unmap(start, 4 * PAGE);
    EXPECT(errno == E2BIG);
}

static void no_address_space_is_no_memory(void **unused)
{
    assert_child(without_address_space);
}

/* Of locked memory the kernel takes nothing back. */
static void with_locked_memory(void *unused)
{
    char *start = sh_os_map(4 * PAGE, PAGE);
    memset(start, 'a', 4 * PAGE);
    if (mlock(start, 2 * PAGE) != 0)
        return;
    sh_os_purge(start, 4 * PAGE);
    EXPECT(is_all(start, 0, 4 * PAGE));
}

static void locked_pages_are_purged(void **unused)
{
    assert_child(with_locked_memory);
}

/* Uses mappings up, until the kernel refuses to split another. */
static void exhaust_mappings(void)
{
    size_t bytes = 512 * MIB;
    char *start = sh_os_map(bytes, PAGE);
    for (size_t i = 0; i < bytes; i += 2 * PAGE) {
        if (mprotect(start + i, PAGE, PROT_READ) != 0)
            return;
    }
}

static void without_mappings(void *unused)
{
    char *start = sh_os_map(3 * PAGE, PAGE);
    memset(start, 'a', 3 * PAGE);
    exhaust_mappings();
    errno = E2BIG;
    sh_os_unmap(start + PAGE, PAGE);
    EXPECT(errno == E2BIG);
    EXPECT(start[0] == 'a' && start[2 * PAGE] == 'a');
    if (is_mapped(start + PAGE, PAGE))
        EXPECT(is_all(start + PAGE, 0, PAGE));
}

static void no_more_mappings_is_no_end(void **unused)
{
    assert_child(without_mappings);
}

static void unmap_nonsense(void *unused)
{
    sh_os_unmap((char *)sh_os_map(PAGE, PAGE) + 1, PAGE);
}

/* Any error but the want of memory is a mistake of ours, and says so. */
static void mistakes_end_the_program(void **unused)
{
    struct child child;
    child_run(&child, unmap_nonsense, NULL);
    assert_true(WIFSIGNALED(child.status) && WTERMSIG(child.status) == SIGABRT);
    assert_non_null(strstr(child.text, "splitheap: unmapping "));
    assert_non_null(strstr(child.text, " failed: error 22\n"));
}

/* ---- Purging ---- */

static void purged_is_zero_and_free(void **unused)
{
    char *start = sh_os_map(8 * PAGE, PAGE);
    memset(start, 'a', 8 * PAGE);
    assert_true(is_resident(start + 3 * PAGE));
    errno = E2BIG;
    sh_os_purge(start + 2 * PAGE, 4 * PAGE);
    assert_int_equal(errno, E2BIG);
    assert_false(is_resident(start + 3 * PAGE));
    assert_true(is_all(start, 'a', 2 * PAGE));
    assert_true(is_all(start + 2 * PAGE, 0, 4 * PAGE));
    assert_true(is_all(start + 6 * PAGE, 'a', 2 * PAGE));
    sh_os_unmap(start, 8 * PAGE);
}

/* Every cut of a range that begins or ends within a page. */
static void purge_is_exact(void **unused)
{
    const size_t edges[] = {
        0, 1, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE, 3 * PAGE - 16, 3 * PAGE, 4 * PAGE};
    const size_t count = sizeof edges / sizeof edges[0];
    char *start = sh_os_map(4 * PAGE, PAGE);
    for (size_t i = 0; i < count; i++) {
        for (size_t k = i; k < count; k++) {
            memset(start, 'a', 4 * PAGE);
            sh_os_purge(start + edges[i], edges[k] - edges[i]);
            assert_true(is_all(start, 'a', edges[i]));
            assert_true(is_all(start + edges[i], 0, edges[k] - edges[i]));
            assert_true(is_all(start + edges[k], 'a', 4 * PAGE - edges[k]));
        }
    }
    sh_os_unmap(start, 4 * PAGE);
}

/* ---- Remapping ---- */

static void remapped_keeps_contents(void **unused)
{
    char *start = sh_os_map(4 * PAGE, PAGE);
    memset(start, 'a', 4 * PAGE);
    size_t bytes = 4 * PAGE;
    errno = E2BIG;
    for (size_t next = 8 * PAGE; next <= 64 * MIB; next *= 4) {
        start = sh_os_remap(start, bytes, next);
        assert_non_null(start);
        assert_true(is_all(start, 'a', 4 * PAGE));
        assert_true(is_all(start + bytes, 0, next - bytes));
        bytes = next;
    }
    start = sh_os_remap(start, bytes, PAGE);
    assert_non_null(start);
    assert_int_equal(errno, E2BIG);
    assert_true(is_all(start, 'a', PAGE));
    assert_false(is_mapped(start + PAGE, PAGE));
    sh_os_unmap(start, PAGE);
}

static void remap_too_much(void **unused)
{
    char *start = sh_os_map(PAGE, PAGE);
    start[0] = 'a';
    errno = E2BIG;
    assert_null(sh_os_remap(start, PAGE, SIZE_MAX));
    assert_null(sh_os_remap(start, PAGE, (size_t)1 << SH_ADDRESS_BITS));
    assert_int_equal(errno, E2BIG);
    assert_int_equal(start[0], 'a');
    sh_os_unmap(start, PAGE);
}

/* A program may make a guard page in memory that we gave it, then ask for more. */
static void remap_of_a_split_mapping_fails(void **unused)
{
    char *start = sh_os_map(4 * PAGE, PAGE);
    memset(start, 'a', 4 * PAGE);
    assert_int_equal(mprotect(start + PAGE, PAGE, PROT_READ), 0);
    errno = E2BIG;
    char *moved = sh_os_remap(start, 4 * PAGE, 64 * MIB);
    assert_int_equal(errno, E2BIG);
    assert_null(moved);
    assert_true(is_all(start, 'a', 4 * PAGE));
    sh_os_unmap(start, 4 * PAGE);
}

/* ---- Memory that is left ---- */

static void available_is_sane(void **unused)
{
    errno = E2BIG;
    size_t left = sh_os_memory_available();
    assert_int_equal(errno, E2BIG);
    assert_in_range(left, MIB, LEFT_MAX);
    size_t machine = (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE);
    assert_true(left <= machine);
}

static void with_limits(void *unused)
{
    size_t before = sh_os_memory_available();
    size_t data = statm(5), all = statm(0);
    set_limit(RLIMIT_AS, all + 48 * MIB);
    size_t left = sh_os_memory_available();
    EXPECT(left <= 48 * MIB && (left > 40 * MIB || left >= before / 2));
    set_limit(RLIMIT_DATA, data + 16 * MIB);
    left = sh_os_memory_available();
    EXPECT(left <= 16 * MIB && (left > 8 * MIB || left >= before / 2));
    set_limit(RLIMIT_DATA, 0);
    EXPECT(sh_os_memory_available() == 0);
}

static void limits_count(void **unused)
{
    assert_child(with_limits);
}

/* Where much is left it is remembered, but for what is mapped; until it is forgotten, half
 * of it is mapped, or time passes. Nothing is said of how much the machine's others use. */
static void what_is_left_is_remembered(void *unused)
{
    enum { HOLDING = 1 << 20 };
    size_t left = 0, next = 0, read = sh_os_memory_available();
    if (read < 2048 * MIB) /* not remembered, or soon not to be */
        return;
    /* A pause of ours between the two is longer than it is remembered, but not often. */
    for (int i = 0; i < 1000 && (i == 0 || next != left); i++) {
        sh_os_memory_forget();
        left = sh_os_memory_lately();
        next = sh_os_memory_lately();
    }
    EXPECT(next == left && left <= 2 * read && left >= read / 2);
    EXPECT(sh_os_memory_forget());
    EXPECT(!sh_os_memory_forget());
    for (int i = 0; i < 1000 && (i == 0 || next != left - HOLDING); i++) {
        sh_os_memory_forget();
        left = sh_os_memory_lately();
        sh_os_unmap(sh_os_map(HOLDING, PAGE), HOLDING);
        next = sh_os_memory_lately();
    }
    EXPECT(next == left - HOLDING);
    /* Otherwise nothing would be left in the end. */
    for (int i = 0; i < 16; i++) {
        sh_os_unmap(sh_os_map(left / 8, PAGE), left / 8);
        EXPECT(sh_os_memory_lately() >= left / 4);
    }
    /* A limit is enforced by the system at once; where little is left, it is read. */
    set_limit(RLIMIT_AS, statm(0) + 48 * MIB);
    sh_os_memory_forget();
    left = sh_os_memory_lately();
    EXPECT(left <= 48 * MIB);
    void *held = sh_os_map(8 * MIB, PAGE);
    EXPECT(held && sh_os_memory_lately() <= left - 8 * MIB);
    EXPECT(!sh_os_memory_forget());
}

static void it_is_not_read_each_time(void **unused)
{
    assert_child(what_is_left_is_remembered);
}

/* A made-up /proc and /sys in a directory of its own. */
static char root[] = "/tmp/splitheap-unit-os-XXXXXX";

static int make_root(void **unused)
{
    strcpy(root + sizeof root - 7, "XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int remove_root(void **unused)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", root);
    return system(command);
}

static void write_file(const char *path, const char *text)
{
    char whole[2048];
    snprintf(whole, sizeof whole, "%s/%s", root, path);
    for (char *p = whole + sizeof root; *p; p++) {
        if (*p == '/') {
            *p = '\0';
            mkdir(whole, 0700);
            *p = '/';
        }
    }
    FILE *file = fopen(whole, "we");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static size_t available(void)
{
    return sh_os_memory_available_under(root);
}

static void nothing_known_is_unlimited(void **unused)
{
    struct rlimit limit;
    getrlimit(RLIMIT_AS, &limit);
    if (limit.rlim_cur != RLIM_INFINITY)
        skip();
    assert_int_equal(available(), LEFT_MAX);
    write_file("proc/meminfo", "");
    write_file("proc/self/cgroup", "");
    assert_int_equal(available(), LEFT_MAX);
    write_file("proc/meminfo", "MemAvailable:\nMemAvailable");
    write_file(
        "proc/self/cgroup", "0\n:\n0:\n\n::\n4:memory\n7:memory:/nowhere\n0::/a");
    assert_int_equal(available(), LEFT_MAX);
    write_file("proc/meminfo", "MemAvailable: 99999999999999999999999999 kB\n");
    assert_int_equal(available(), LEFT_MAX);
    assert_int_equal(sh_os_memory_available_under("/no/such/directory"), LEFT_MAX);
}

static void available_of_the_machine(void **unused)
{
    write_file("proc/meminfo", "MemTotal:       8000000 kB\nMemFree:  1000 kB\n"
                               "MemAvailable:     77777 kB\nBuffers:     5 kB\n");
    assert_int_equal(available(), 77777 * KIB);
    write_file("proc/meminfo", "MemAvailable: 0 kB\n");
    assert_int_equal(available(), 0);
}

static void free_swap_is_available(void **unused)
{
    write_file(
        "proc/meminfo", "MemAvailable: 100 kB\nSwapTotal: 99 kB\nSwapFree: 30 kB\n");
    assert_int_equal(available(), 130 * KIB);
}

/* Only in mode 2 does what is committed count. */
static void what_may_be_committed(void **unused)
{
    static const char meminfo[] = "MemAvailable: 1000 kB\nSwapFree: 10 kB\n"
                                  "CommitLimit: 500 kB\nCommitted_AS: 400 kB\n";
    write_file("proc/meminfo", meminfo);
    assert_int_equal(available(), 1010 * KIB);
    write_file("proc/sys/vm/overcommit_memory", "1\n");
    assert_int_equal(available(), 1010 * KIB);
    write_file("proc/sys/vm/overcommit_memory", "2\n");
    assert_int_equal(available(), 100 * KIB);
    write_file("proc/meminfo",
        "MemAvailable: 1000 kB\nCommitLimit: 500 kB\nCommitted_AS: 600 kB\n");
    assert_int_equal(available(), 0);
}

#define V2 "sys/fs/cgroup/"

static void groups_v2(void **unused)
{
    write_file("proc/self/cgroup", "0::/jobs/build/step\n");
    write_file(V2 "jobs/build/step/memory.max", "max\n");
    write_file(V2 "jobs/build/step/memory.current", "900\n");
    assert_int_equal(available(), LEFT_MAX);

    write_file(V2 "jobs/memory.max", "5000000\n");
    write_file(V2 "jobs/memory.current", "1000000\n");
    assert_int_equal(available(), 4000000);

    /* The least counts, wherever it is. */
    write_file(V2 "jobs/build/memory.max", "2000000\n");
    write_file(V2 "jobs/build/memory.current", "500000\n");
    assert_int_equal(available(), 1500000);
    write_file(V2 "jobs/memory.current", "4900000\n");
    assert_int_equal(available(), 100000);
    write_file(V2 "jobs/build/step/memory.max", "1000\n");
    assert_int_equal(available(), 100);
    write_file(V2 "jobs/build/step/memory.current", "1001\n");
    assert_int_equal(available(), 0);
}

/* What the kernel would take back on demand is not used up. */
static void page_cache_is_not_used(void **unused)
{
    write_file("proc/self/cgroup", "0::/\n");
    write_file(V2 "memory.max", "1000000\n");
    write_file(V2 "memory.current", "990000\n");
    assert_int_equal(available(), 10000);
    write_file(V2 "memory.stat", "anon 500000\nfile 300000\ninactive_anon 1\n"
                                 "inactive_file 200000\nactive_file 90000\n");
    assert_int_equal(available(), 300000);
    write_file(V2 "memory.stat", "inactive_file 2000000\n");
    assert_int_equal(available(), 1000000);
}

static void swap_of_groups_v2(void **unused)
{
    write_file("proc/meminfo", "MemAvailable: 8000000 kB\nSwapFree: 100 kB\n");
    write_file("proc/self/cgroup", "0::/\n");
    write_file(V2 "memory.max", "1000000\n");
    write_file(V2 "memory.current", "600000\n");
    assert_int_equal(available(), 400000 + 100 * KIB);
    write_file(V2 "memory.swap.max", "max\n");
    write_file(V2 "memory.swap.current", "5000\n");
    assert_int_equal(available(), 400000 + 100 * KIB);
    write_file(V2 "memory.swap.max", "25000\n");
    assert_int_equal(available(), 420000);
    write_file(V2 "memory.swap.max", "0\n");
    assert_int_equal(available(), 400000);
}

/* Version 1 counts memory and swap together. */
static void swap_of_groups_v1(void **unused)
{
    write_file("proc/meminfo", "MemAvailable: 8000000 kB\nSwapFree: 100 kB\n");
    write_file("proc/self/cgroup", "4:memory:/\n");
    write_file(V2 "memory/memory.limit_in_bytes", "1000000\n");
    write_file(V2 "memory/memory.usage_in_bytes", "600000\n");
    write_file(V2 "memory/memory.memsw.limit_in_bytes", "1050000\n");
    write_file(V2 "memory/memory.memsw.usage_in_bytes", "610000\n");
    assert_int_equal(available(), 440000);
}

static void groups_v1(void **unused)
{
    write_file("proc/self/cgroup",
        "9:name=systemd:/memory\n8:pids:/p\n"
        "4:cpu,memory,misc:/box/inner\n1:memory2:/x\n0::/\n");
    write_file(V2 "memory/box/memory.limit_in_bytes", "3000000\n");
    write_file(V2 "memory/box/memory.usage_in_bytes", "1000000\n");
    write_file(V2 "memory/memory.limit_in_bytes", "9223372036854771712\n");
    write_file(V2 "memory/memory.usage_in_bytes", "9000000000\n");
    assert_int_equal(available(), 2000000);
    write_file(V2 "memory/box/memory.stat", "active_file 7\ntotal_inactive_file 100\n"
                                            "total_active_file 23\n");
    assert_int_equal(available(), 2000123);
    write_file("proc/self/cgroup", "9:name=systemd:/memory\n1:memory2:/x\n");
    assert_int_equal(available(), LEFT_MAX);
}

/* The limit of the root, with a group whose name fills every buffer. */
static void long_paths_are_cut(void **unused)
{
    char line[6000] = "0::";
    for (int i = 0; i < 300; i++)
        strcat(line, "/group-of-programs");
    write_file("proc/self/cgroup", line);
    write_file(V2 "group-of-programs/memory.max", "4000\n");
    write_file(V2 "group-of-programs/memory.current", "1000\n");
    assert_int_equal(available(), 3000);
}

/* ---- Text ---- */

static void sleep_ms(unsigned ms)
{
    uint64_t end = sh_os_now_ns() + (uint64_t)ms * MS;
    while (sh_os_now_ns() < end)
        usleep(1000);
}

/* Lets the pipe be full for a while, so that the writer is interrupted empty-handed. */
static void *drain(void *arg)
{
    static char text[4096];
    size_t len = 0;
    ssize_t n;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGALRM);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    sleep_ms(20);
    while ((n = read(*(int *)arg, text, sizeof text)) > 0)
        len += (size_t)n;
    return (void *)len;
}

static void do_nothing(int signal)
{
}

/* More than a pipe holds, with signals that interrupt: nothing is lost. */
static void write_through_interruptions(void *unused)
{
    static char text[1 * 1024 * 1024];
    int fds[2];
    pthread_t thread;
    struct sigaction action = {.sa_handler = do_nothing};
    struct itimerval often = {{0, 500}, {0, 500}};
    if (pipe(fds) != 0)
        return;
    int report = dup(STDERR_FILENO);
    dup2(fds[1], STDERR_FILENO);
    close(fds[1]);
    sigaction(SIGALRM, &action, NULL);
    pthread_create(&thread, NULL, drain, &fds[0]);
    setitimer(ITIMER_REAL, &often, NULL);
    errno = E2BIG;
    sh_os_write_stderr(text, sizeof text);
    bool kept = errno == E2BIG;
    setitimer(ITIMER_REAL, &(struct itimerval){{0, 0}, {0, 0}}, NULL);
    dup2(report, STDERR_FILENO);
    void *len;
    pthread_join(thread, &len);
    EXPECT(kept);
    EXPECT((size_t)len == sizeof text);
}

static void write_nowhere(void *unused)
{
    close(STDERR_FILENO);
    errno = E2BIG;
    sh_os_write_stderr("lost\n", 5);
    if (errno != E2BIG)
        _exit(1);
}

static void text_is_written(void **unused)
{
    assert_child(write_through_interruptions);
    assert_child(write_nowhere);
}

static void end(void *unused)
{
    signal(SIGABRT, SIG_IGN);
    sh_os_abort();
}

static void abort_ends(void **unused)
{
    struct child child;
    child_run(&child, end, NULL);
    assert_true(WIFSIGNALED(child.status) && WTERMSIG(child.status) == SIGABRT);
}

/* ---- Time and waiting ---- */

static void time_goes_on(void **unused)
{
    uint64_t before = sh_os_now_ns();
    usleep(5000);
    uint64_t passed = sh_os_now_ns() - before;
    assert_in_range(passed, 5 * MS, 60000ull * MS);
}

static _Atomic uint32_t word;

static void wait_times_out(void **unused)
{
    sh_store_relaxed(&word, 7);
    errno = E2BIG;
    uint64_t before = sh_os_now_ns();
    sh_os_wait(&word, 7, 20 * MS);
    assert_true(sh_os_now_ns() - before >= 20 * MS);
    sh_os_wait(&word, 8, 0); /* not the value: returns at once */
    sh_os_yield();
    assert_int_equal(errno, E2BIG);
}

static void *wait_for_change(void *unused)
{
    errno = E2BIG;
    while (sh_load_acquire(&word) == 0)
        sh_os_wait(&word, 0, 0);
    return errno == E2BIG ? NULL : "errno has changed";
}

/* One call wakes all that it is told to, and UINT32_MAX means all. */
static void wake_all(void **unused)
{
    enum { THREADS = 4 };
    pthread_t threads[THREADS];
    sh_store_relaxed(&word, 0);
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, wait_for_change, NULL);
    sleep_ms(20);
    sh_store_release(&word, 1); /* pairs with the load in wait_for_change */
    errno = E2BIG;
    sh_os_wake(&word, UINT32_MAX);
    assert_int_equal(errno, E2BIG);
    for (int i = 0; i < THREADS; i++) {
        void *complaint;
        pthread_join(threads[i], &complaint);
        assert_null(complaint);
    }
}

/* Whoever was to be woken may have run, and its memory be gone. */
static void files_are_appended_to(void **unused)
{
    char path[] = "/tmp/splitheap-os-XXXXXX", text[16] = "";
    close(mkstemp(path));
    errno = EDOM;
    for (int i = 0; i < 2; i++) {
        int file = sh_os_append_open(path);
        assert_true(file > 2);
        assert_true(fcntl(file, F_GETFD) & FD_CLOEXEC);
        sh_os_write(file, "ab", 2);
        sh_os_write(file, "c\n", 2);
        sh_os_close(file);
        assert_int_equal(fcntl(file, F_GETFD), -1);
    }
    errno = EDOM;
    assert_int_equal(sh_os_append_open("/no such folder/file"), -ENOENT);
    assert_int_equal(sh_os_append_open("/"), -EISDIR);
    sh_os_write(-1, "text", 4);
    sh_os_close(-1);
    assert_int_equal(errno, EDOM);
    int file = open(path, O_RDONLY);
    assert_int_equal(read(file, text, sizeof text), 8);
    assert_string_equal(text, "abc\nabc\n");
    close(file);
    unlink(path);
    int made = sh_os_append_open(path);
    assert_true(made > 2);
    sh_os_close(made);
    assert_int_equal(unlink(path), 0);
}

static void the_process_has_a_number(void **unused)
{
    assert_int_equal(sh_os_process_id(), getpid());
}

static void wake_of_gone_memory(void **unused)
{
    _Atomic uint32_t *gone = sh_os_map(PAGE, PAGE);
    sh_os_unmap(gone, PAGE);
    errno = E2BIG;
    sh_os_wake(gone, 1);
    assert_int_equal(errno, E2BIG);
}

#define WITH_ROOT(test) cmocka_unit_test_setup_teardown(test, make_root, remove_root)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mapped_is_zeroed_aligned_and_low),
        cmocka_unit_test(alignment_costs_nothing),
        cmocka_unit_test(unmapped_is_gone),
        cmocka_unit_test(too_much),
        cmocka_unit_test(no_address_space_is_no_memory),
        cmocka_unit_test(locked_pages_are_purged),
        cmocka_unit_test(no_more_mappings_is_no_end),
        cmocka_unit_test(mistakes_end_the_program),
        cmocka_unit_test(purged_is_zero_and_free),
        cmocka_unit_test(purge_is_exact),
        cmocka_unit_test(remapped_keeps_contents),
        cmocka_unit_test(remap_too_much),
        cmocka_unit_test(remap_of_a_split_mapping_fails),
        cmocka_unit_test(available_is_sane),
        cmocka_unit_test(limits_count),
        cmocka_unit_test(it_is_not_read_each_time),
        WITH_ROOT(nothing_known_is_unlimited),
        WITH_ROOT(available_of_the_machine),
        WITH_ROOT(free_swap_is_available),
        WITH_ROOT(what_may_be_committed),
        WITH_ROOT(groups_v2),
        WITH_ROOT(swap_of_groups_v2),
        WITH_ROOT(swap_of_groups_v1),
        WITH_ROOT(page_cache_is_not_used),
        WITH_ROOT(groups_v1),
        WITH_ROOT(long_paths_are_cut),
        cmocka_unit_test(text_is_written),
        cmocka_unit_test(abort_ends),
        cmocka_unit_test(time_goes_on),
        cmocka_unit_test(wait_times_out),
        cmocka_unit_test(wake_all),
        cmocka_unit_test(wake_of_gone_memory),
        cmocka_unit_test(files_are_appended_to),
        cmocka_unit_test(the_process_has_a_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
