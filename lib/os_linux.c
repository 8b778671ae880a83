/* SPDX-License-Identifier: MIT */
/*
 * lib/os.h on Linux.
 *
 * Everything leaves errno as it was. Calls that POSIX makes cancellation points (open,
 * read, write) go to the kernel directly, for malloc is none; mmap and its like go
 * through the C library, where sanitizers and tracers follow them.
 *
 * Locks: none. Any thread, signal handlers included.
 */
#define _GNU_SOURCE 1
#include "lib/os.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "lib/bits.h"
#include "lib/check.h"
#include "lib/print.h"

#define PROCESSORS_MAX 8192 /* that the kernel is ever built for */

#define ADDRESS_END ((uintptr_t)1 << SH_ADDRESS_BITS)

/* EAGAIN: mlockall is on, and RLIMIT_MEMLOCK reached. */
static bool means_no_memory(int error)
{
    return error == ENOMEM || error == EAGAIN;
}

static size_t page_size(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

/* ---- Mapping ---- */

/*
 * Kernels that prefer addresses above ADDRESS_END are asked for lower ones by hints
 * that walk down from LOW_TOP, and begin again at LOW_BOTTOM.
 */
#define LOW_TOP (ADDRESS_END / 2)
#define LOW_BOTTOM ((uintptr_t)1 << 32)
#define LOW_TRIES 64

static _Atomic bool kernel_prefers_high;
/* The last hint's distance from LOW_TOP: the address would be a root of what lies there. */
static _Atomic uintptr_t low_used;

static bool is_low(const void *start, size_t bytes)
{
    return (uintptr_t)start <= ADDRESS_END - bytes;
}

static void *map_at(uintptr_t hint, size_t bytes)
{
    void *start = mmap((void *)hint, bytes, PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (start != MAP_FAILED)
        return start;
    if (!means_no_memory(errno))
        sh_fatal("mapping %zu bytes failed: error %d", bytes, errno);
    return NULL;
}

/* ENOMEM: the kernel allows no more mappings, and a hole would make one more. */
static void unmap(void *start, size_t bytes)
{
    if (bytes == 0 || munmap(start, bytes) == 0)
        return;
    if (errno != ENOMEM)
        sh_fatal("unmapping %zu bytes at %p failed: error %d", bytes, start, errno);
    sh_os_purge(start, bytes);
}

/* Two threads may get the same hint: one of them tries again. */
static uintptr_t next_low_hint(size_t bytes)
{
    uintptr_t low = sh_load_relaxed(&low_used) + bytes;
    if (low > LOW_TOP - LOW_BOTTOM)
        low = bytes;
    sh_store_relaxed(&low_used, low);
    return LOW_TOP - low;
}

static void *map_low(size_t bytes)
{
    for (int i = 0; i < LOW_TRIES; i++) {
        void *start = map_at(next_low_hint(bytes), bytes);
        if (!start || is_low(start, bytes))
            return start;
        unmap(start, bytes);
    }
    return NULL;
}

static void *map_anywhere(size_t bytes)
{
    if (bytes > LOW_TOP - LOW_BOTTOM)
        return NULL;
    if (sh_load_relaxed(&kernel_prefers_high))
        return map_low(bytes);
    void *start = map_at(0, bytes);
    if (!start || is_low(start, bytes))
        return start;
    unmap(start, bytes);
    sh_store_relaxed(&kernel_prefers_high, true);
    return map_low(bytes);
}

static void *map_and_trim(size_t bytes, size_t align)
{
    size_t whole = bytes + align - page_size();
    char *start = map_anywhere(whole);
    if (!start)
        return NULL;
    size_t before = sh_round_up((uintptr_t)start, align) - (uintptr_t)start;
    unmap(start + before + bytes, whole - before - bytes);
    unmap(start, before);
    return start + before;
}

/* Mappings of one size lie side by side, so that the first try is mostly aligned. */
static void *map_aligned(size_t bytes, size_t align)
{
    void *start = map_anywhere(bytes);
    if (!start || ((uintptr_t)start & (align - 1)) == 0)
        return start;
    unmap(start, bytes);
    return map_and_trim(bytes, align);
}

/* By us, so far; not less for what was unmapped. */
static _Atomic size_t mapped_bytes;

void *sh_os_map(size_t bytes, size_t align)
{
    if (bytes > ADDRESS_END || align > ADDRESS_END)
        return NULL;
    int error = errno;
    size_t page = page_size();
    void *start = map_aligned(sh_round_up(bytes, page), sh_max(align, page));
    if (start)
        sh_add_relaxed(&mapped_bytes, bytes);
    errno = error;
    return start;
}

void sh_os_unmap(void *start, size_t bytes)
{
    int error = errno;
    unmap(start, sh_round_up(bytes, page_size()));
    errno = error;
}

/* A sandbox that forbids the call (seccomp): there are other ways to go. */
static bool means_forbidden(int error)
{
    return error == EPERM || error == EACCES || error == ENOSYS;
}

/* EINVAL: the program locked these pages into memory, where only clearing helps. */
static void purge_pages(void *start, size_t bytes)
{
    int result;
    do {
        result = madvise(start, bytes, MADV_DONTNEED);
    } while (result != 0 && errno == EAGAIN);
    if (result == 0)
        return;
    if (errno != EINVAL && !means_forbidden(errno))
        sh_fatal("purging %zu bytes at %p failed: error %d", bytes, start, errno);
    memset(start, 0, bytes);
}

/* What shares a page of the system's with other memory is cleared by hand. */
void sh_os_huge_pages(void *start, size_t bytes, bool wanted)
{
    int error = errno;
    madvise(start, bytes, wanted ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    errno = error;
}

void sh_os_purge(void *start, size_t bytes)
{
    int error = errno;
    size_t page = page_size();
    char *end = (char *)start + bytes;
    char *first = (char *)sh_round_up((uintptr_t)start, page);
    char *last = (char *)sh_round_down((uintptr_t)end, page);
    if (first >= last) {
        memset(start, 0, bytes);
    } else {
        memset(start, 0, (size_t)(first - (char *)start));
        purge_pages(first, (size_t)(last - first));
        memset(last, 0, (size_t)(end - last));
    }
    errno = error;
}

/*
 * EFAULT, EINVAL: the program split the mapping or changed its nature (mprotect of a
 * guard page, mlock, madvise of a part); it can still be copied.
 */
static void *remapped(void *start, size_t bytes)
{
    if (start != MAP_FAILED)
        return start;
    if (!means_no_memory(errno) && !means_forbidden(errno) && errno != EFAULT &&
        errno != EINVAL)
        sh_fatal("remapping to %zu bytes failed: error %d", bytes, errno);
    return NULL;
}

static void *remap_anywhere(void *start, size_t old_bytes, size_t new_bytes)
{
    return remapped(mremap(start, old_bytes, new_bytes, MREMAP_MAYMOVE), new_bytes);
}

/*
 * In place; else to a place of our choice, where the kernel's might be too high. Where
 * that fails the target is given up: the kernel may have unmapped it already, and
 * another thread have mapped something there.
 */
static void *remap_low(void *start, size_t old_bytes, size_t new_bytes)
{
    void *moved = mremap(start, old_bytes, new_bytes, 0);
    if (moved != MAP_FAILED)
        return moved;
    void *target = map_low(new_bytes);
    if (!target)
        return NULL;
    moved = mremap(start, old_bytes, new_bytes, MREMAP_MAYMOVE | MREMAP_FIXED, target);
    return remapped(moved, new_bytes);
}

void *sh_os_remap(void *start, size_t old_bytes, size_t new_bytes)
{
    if (new_bytes > LOW_TOP - LOW_BOTTOM)
        return NULL;
    int error = errno;
    old_bytes = sh_round_up(old_bytes, page_size());
    new_bytes = sh_round_up(new_bytes, page_size());
    void *moved = sh_load_relaxed(&kernel_prefers_high)
                      ? remap_low(start, old_bytes, new_bytes)
                      : remap_anywhere(start, old_bytes, new_bytes);
    if (moved && !is_low(moved, new_bytes))
        sh_fatal("the system moved memory to %p, out of reach", moved);
    if (moved && new_bytes > old_bytes)
        sh_add_relaxed(&mapped_bytes, new_bytes - old_bytes);
    errno = error;
    return moved;
}

/* ---- Memory that is left ---- */

/* More than any machine has: the answer where nothing sets a limit. */
#define LEFT_MAX ((size_t)1 << 46)

/* Stands for "no limit"; what address space is used may exceed LEFT_MAX, hence more. */
#define UNLIMITED ((size_t)1 << 62)

/* Files are read up to this; what is asked of them stands near their start. */
#define FILE_MAX 4096
#define PATH_LEN 512

/* What a version of control groups calls its files. */
struct cgroup_names {
    const char *mount, *limit, *used;
    const char *swap_limit, *swap_used;
    bool swap_is_sum;              /* they are of memory and swap together */
    const char *active, *inactive; /* page cache, in memory.stat */
};

static const struct cgroup_names cgroup_v2 = {
    .mount = "/sys/fs/cgroup",
    .limit = "memory.max",
    .used = "memory.current",
    .swap_limit = "memory.swap.max",
    .swap_used = "memory.swap.current",
    .active = "active_file",
    .inactive = "inactive_file",
};

static const struct cgroup_names cgroup_v1 = {
    .mount = "/sys/fs/cgroup/memory",
    .limit = "memory.limit_in_bytes",
    .used = "memory.usage_in_bytes",
    .swap_limit = "memory.memsw.limit_in_bytes",
    .swap_used = "memory.memsw.usage_in_bytes",
    .swap_is_sum = true,
    .active = "total_active_file",
    .inactive = "total_inactive_file",
};

static size_t read_all(int fd, char *text, size_t size)
{
    size_t len = 0;
    while (len < size) {
        long n = syscall(SYS_read, fd, text + len, size - len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        len += (size_t)n;
    }
    return len;
}

/* Of root/path; terminated, and empty where the file cannot be read. */
static void read_file(const char *root, const char *name, char *text, size_t size)
{
    char path[PATH_LEN + 32];
    sh_format(path, sizeof path, "%s/%s", root, name);
    text[0] = '\0';
    long fd = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    text[read_all((int)fd, text, size - 1)] = '\0';
    syscall(SYS_close, fd);
}

static const char *skip_spaces(const char *at)
{
    return at + strspn(at, " \t");
}

/* Saturated; UNLIMITED where there is no number ("max", an empty file). */
static size_t number_at(const char *at)
{
    at = skip_spaces(at);
    if (*at < '0' || *at > '9')
        return UNLIMITED;
    size_t n = 0;
    for (; *at >= '0' && *at <= '9'; at++) {
        if (n >= UNLIMITED / 10)
            return UNLIMITED;
        n = n * 10 + (size_t)(*at - '0');
    }
    return n;
}

static const char *next_line(const char *at)
{
    at += strcspn(at, "\n");
    return *at ? at + 1 : at;
}

/* The number after `key` at the start of a line; UNLIMITED where there is none. */
static size_t number_of(const char *text, const char *key)
{
    size_t len = strlen(key);
    for (; *text; text = next_line(text)) {
        if (strncmp(text, key, len) == 0 && strchr(": ", text[len]))
            return number_at(text + len + (text[len] == ':'));
    }
    return UNLIMITED;
}

static size_t less(size_t limit, size_t used)
{
    return limit > used ? limit - used : 0;
}

/* ---- Of the process ---- */

static size_t rlimit_less(int resource, size_t used)
{
    struct rlimit limit;
    if (getrlimit((__rlimit_resource_t)resource, &limit) != 0 ||
        limit.rlim_cur >= UNLIMITED)
        return UNLIMITED;
    return less((size_t)limit.rlim_cur, used);
}

/* Field n of /proc/self/statm, in bytes; 0 where unknown. */
static size_t statm_field(const char *text, int n)
{
    while (n-- > 0 && *text) {
        text += strcspn(text, " ");
        text = skip_spaces(text);
    }
    size_t pages = number_at(text);
    return pages < UNLIMITED / page_size() ? pages * page_size() : 0;
}

static SH_NOINLINE size_t left_of_rlimits(const char *root)
{
    char text[256];
    read_file(root, "proc/self/statm", text, sizeof text);
    size_t address_space = rlimit_less(RLIMIT_AS, statm_field(text, 0));
    size_t data = rlimit_less(RLIMIT_DATA, statm_field(text, 5));
    return sh_min(address_space, data);
}

/* ---- Of the control groups ---- */

static size_t number_in(const char *directory, const char *name)
{
    char text[32];
    read_file(directory, name, text, sizeof text);
    return number_at(text);
}

/* Page cache is counted as used, but goes when memory is wanted. */
static SH_NOINLINE size_t page_cache_in(
    const char *directory, const struct cgroup_names *names)
{
    char text[FILE_MAX];
    read_file(directory, "memory.stat", text, sizeof text);
    size_t active = number_of(text, names->active);
    size_t inactive = number_of(text, names->inactive);
    return (active < UNLIMITED ? active : 0) + (inactive < UNLIMITED ? inactive : 0);
}

/* Of the machine's free swap; `left` is what is left of the group's memory. */
static size_t swap_left(
    const char *directory, const struct cgroup_names *names, size_t left, size_t swap)
{
    size_t limit = number_in(directory, names->swap_limit);
    size_t used = number_in(directory, names->swap_used);
    if (limit == UNLIMITED || used == UNLIMITED)
        return swap;
    size_t rest = less(limit, used);
    return sh_min(swap, names->swap_is_sum ? less(rest, left) : rest);
}

/* What it may use and what of that can be swapped out. */
static size_t left_of_cgroup(
    const char *directory, const struct cgroup_names *names, size_t swap)
{
    size_t limit = number_in(directory, names->limit);
    if (limit == UNLIMITED)
        return UNLIMITED;
    size_t used = number_in(directory, names->used);
    if (used == UNLIMITED)
        return limit;
    if (swap)
        swap = swap_left(directory, names, less(limit, used), swap);
    return swap + less(limit, less(used, page_cache_in(directory, names)));
}

/* A group's limit holds for all below it: the least from `path` up to the mount. */
static size_t left_up_from(
    char *path, size_t mount_len, const struct cgroup_names *names, size_t swap)
{
    size_t left = left_of_cgroup(path, names, swap);
    for (size_t len = strlen(path); len > mount_len;) {
        do {
            len--;
        } while (len > mount_len && path[len] != '/');
        path[len] = '\0';
        left = sh_min(left, left_of_cgroup(path, names, swap));
    }
    return left;
}

static bool names_memory(const char *controllers, const char *end)
{
    while (controllers < end) {
        size_t len = strcspn(controllers, ",:");
        if (len == strlen("memory") && strncmp(controllers, "memory", len) == 0)
            return true;
        controllers += len + 1;
    }
    return false;
}

/*
 * One line of /proc/self/cgroup: "id:controllers:path", where version 2 has no
 * controllers. NULL where it limits no memory.
 */
static const struct cgroup_names *parse_cgroup(const char *line, const char **path)
{
    const char *controllers = strchr(line, ':');
    const char *end = controllers ? strchr(controllers + 1, ':') : NULL;
    if (!end)
        return NULL;
    *path = end + 1;
    if (end == ++controllers)
        return &cgroup_v2;
    return names_memory(controllers, end) ? &cgroup_v1 : NULL;
}

/* A path that is too long is cut: its groups are not found, those above them are. */
static size_t left_of_cgroup_line(const char *root, const char *line, size_t swap)
{
    const char *group;
    const struct cgroup_names *names = parse_cgroup(line, &group);
    if (!names)
        return UNLIMITED;
    char path[PATH_LEN];
    size_t mount_len = sh_format(path, sizeof path, "%s%s", root, names->mount);
    if (mount_len >= sizeof path)
        return UNLIMITED;
    sh_format(path + mount_len, sizeof path - mount_len, "%.*s",
        (int)strcspn(group, "\n"), group);
    return left_up_from(path, mount_len, names, swap);
}

static SH_NOINLINE size_t left_of_cgroups(const char *root, size_t swap)
{
    size_t left = UNLIMITED;
    char text[FILE_MAX];
    read_file(root, "proc/self/cgroup", text, sizeof text);
    for (const char *line = text; *line; line = next_line(line))
        left = sh_min(left, left_of_cgroup_line(root, line, swap));
    return left;
}

/* ---- Of the machine ---- */

/* A line of /proc/meminfo in bytes; UNLIMITED where there is none. */
static size_t meminfo(const char *text, const char *key)
{
    size_t kib = number_of(text, key);
    return kib < UNLIMITED / 1024 ? kib * 1024 : UNLIMITED;
}

/* With vm.overcommit_memory 2 all that is mapped counts, touched or not. */
static size_t left_of_commitment(const char *root, const char *text)
{
    char mode[16];
    read_file(root, "proc/sys/vm/overcommit_memory", mode, sizeof mode);
    size_t committed = meminfo(text, "Committed_AS");
    if (number_at(mode) != 2 || committed == UNLIMITED)
        return UNLIMITED;
    return less(meminfo(text, "CommitLimit"), committed);
}

/* Memory, and in *swap free swap, that it does not count. */
static SH_NOINLINE size_t left_of_machine(const char *root, size_t *swap)
{
    char text[FILE_MAX];
    read_file(root, "proc/meminfo", text, sizeof text);
    *swap = meminfo(text, "SwapFree");
    if (*swap >= LEFT_MAX)
        *swap = 0;
    size_t memory = meminfo(text, "MemAvailable");
    if (memory < UNLIMITED)
        memory += *swap;
    return sh_min(memory, left_of_commitment(root, text));
}

size_t sh_os_memory_available_under(const char *root)
{
    int error = errno;
    size_t swap;
    size_t left = sh_min(LEFT_MAX, left_of_machine(root, &swap));
    left = sh_min(left, left_of_rlimits(root));
    left = sh_min(left, left_of_cgroups(root, swap));
    errno = error;
    return left;
}

size_t sh_os_memory_available(void)
{
    return sh_os_memory_available_under("");
}

/*
 * Reading all that takes longer than mapping. So what is left is remembered for a while,
 * as the `mapped_bytes` at which nothing would be, and for as long as we map less than
 * half of it. Not where little is left: others may have that in no time.
 */
#define REMEMBER_NS ((uint64_t)20000000)
#define REMEMBER_LEAST ((size_t)1 << 30)

/* Each is one thread's, perhaps not the same one's; the first alone is the answer. */
static _Atomic size_t remembered_end;
static _Atomic size_t remembered_to; /* as mapped_bytes; 0: nothing is remembered */
static _Atomic uint64_t remembered_until;

static bool is_remembered(size_t mapped)
{
    return mapped < sh_load_relaxed(&remembered_to) &&
           sh_os_now_coarse_ns() < sh_load_relaxed(&remembered_until);
}

size_t sh_os_memory_lately(void)
{
    size_t mapped = sh_load_relaxed(&mapped_bytes);
    size_t end = sh_load_relaxed(&remembered_end);
    if (end > mapped && is_remembered(mapped))
        return end - mapped;
    size_t left = sh_os_memory_available();
    if (left >= REMEMBER_LEAST) {
        sh_store_relaxed(&remembered_end, mapped + left);
        sh_store_relaxed(&remembered_until, sh_os_now_coarse_ns() + REMEMBER_NS);
        sh_store_relaxed(&remembered_to, mapped + left / 2);
    }
    return left;
}

bool sh_os_memory_forget(void)
{
    return sh_exchange_seq_cst(&remembered_to, (size_t)0) != 0;
}

/* ---- Text and the end ---- */

void sh_os_write_stderr(const char *text, size_t len)
{
    sh_os_write(STDERR_FILENO, text, len);
}

void sh_os_abort(void)
{
    abort();
}

/* ---- Time and waiting ---- */

#define NS_PER_S 1000000000u

static uint64_t read_clock(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

uint64_t sh_os_now_ns(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

/* By hand: the C library's set is too small for some machines. */
unsigned sh_os_processors(void)
{
    uint64_t set[PROCESSORS_MAX / 64];
    int saved = errno;
    long bytes = syscall(SYS_sched_getaffinity, 0, sizeof set, set);
    errno = saved;
    unsigned count = 0;
    for (long i = 0; i < bytes / (long)sizeof set[0]; i++)
        count += sh_popcount64(set[i]);
    return count ? count : 1;
}

uint64_t sh_os_now_coarse_ns(void)
{
    return read_clock(CLOCK_MONOTONIC_COARSE);
}

void sh_os_wait(_Atomic uint32_t *word, uint32_t value, uint64_t ns)
{
    int error = errno;
    struct timespec timeout = {
        .tv_sec = (time_t)(ns / NS_PER_S),
        .tv_nsec = (long)(ns % NS_PER_S),
    };
    long result = syscall(
        SYS_futex, word, FUTEX_WAIT_PRIVATE, value, ns ? &timeout : NULL, NULL, 0);
    if (result != 0 && errno != EAGAIN && errno != EINTR && errno != ETIMEDOUT)
        sh_fatal("waiting failed: error %d", errno);
    errno = error;
}

/*
 * No error is checked: the word's memory may be gone, where the thread that slept on it
 * was quick.
 */
void sh_os_wake(_Atomic uint32_t *word, uint32_t how_many)
{
    int error = errno;
    int count = how_many > INT_MAX ? INT_MAX : (int)how_many;
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
    errno = error;
}

void sh_os_yield(void)
{
    int error = errno;
    sched_yield();
    errno = error;
}

static bool membarrier(int command)
{
    int error = errno;
    long result = syscall(SYS_membarrier, command, 0, 0);
    errno = error;
    return result == 0;
}

bool sh_os_fence_prepare(void)
{
    return membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED);
}

bool sh_os_fence_threads(void)
{
    return membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED);
}
