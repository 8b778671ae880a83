/* SPDX-License-Identifier: MIT */
/* lib/os_watch.h: what was written to is found, whoever wrote it; and nothing else is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <cmocka.h>

#include "lib/bits.h"
#include "lib/os.h"
#include "lib/os_watch.h"
#include "tests/child.h"

#define PAGES ((size_t)256)
#define MIB ((size_t)1 << 20)

/* What a test maps, and which of its pages were found. */
static char *memory;
static bool found[PAGES];

static char *page(size_t i)
{
    return memory + i * SH_PAGE_SIZE;
}

/* ---- Rounds ---- */

static bool protect(size_t from, size_t to)
{
    int round = sh_os_watch_open();
    assert_true(round >= 0);
    bool done = sh_os_watch_protect(round, (uintptr_t)page(from), (uintptr_t)page(to));
    sh_os_close(round);
    return done;
}

/* In order, apart, and within. */
static void note(
    const struct sh_os_pages *ranges, int count, uintptr_t from, uintptr_t to)
{
    for (int i = 0; i < count; i++) {
        assert_true(from <= ranges[i].start && ranges[i].start < ranges[i].end);
        assert_true(ranges[i].end <= to);
        assert_int_equal((ranges[i].start | ranges[i].end) % SH_PAGE_SIZE, 0);
        from = ranges[i].end;
        for (uintptr_t at = ranges[i].start; at < from; at += SH_PAGE_SIZE)
            found[(at - (uintptr_t)memory) / SH_PAGE_SIZE] = true;
    }
}

/* How many pages are found in [from, to), `most` ranges at a time; -1: it is not known. */
static int look(size_t from, size_t to, int most)
{
    struct sh_os_pages ranges[PAGES];
    uintptr_t at = (uintptr_t)page(from), end = (uintptr_t)page(to);
    int round = sh_os_watch_open(), pages = 0;
    memset(found, 0, sizeof found);
    assert_true(round >= 0);
    while (at < end) {
        uintptr_t before = at;
        int count = sh_os_watch_written(round, &at, end, ranges, most);
        if (count < 0) {
            sh_os_close(round);
            return -1;
        }
        assert_true(count <= most && at > before && at <= end);
        note(ranges, count, before, at);
    }
    sh_os_close(round);
    for (size_t i = 0; i < PAGES; i++)
        pages += found[i];
    return pages;
}

static int look_everywhere(void)
{
    return look(0, PAGES, 64);
}

static void only_page_is_found(size_t i)
{
    assert_int_equal(look_everywhere(), 1);
    assert_true(found[i]);
}

/* ---- Memory ---- */

static int map(void **unused)
{
    memory = sh_os_map(PAGES * SH_PAGE_SIZE, SH_PAGE_SIZE);
    errno = E2BIG;
    return memory && sh_os_watch_prepare() &&
                   sh_os_watch_add((uintptr_t)memory, PAGES * SH_PAGE_SIZE)
               ? 0
               : -1;
}

static int unmap(void **unused)
{
    int changed = errno != E2BIG;
    sh_os_unmap(memory, PAGES * SH_PAGE_SIZE);
    return changed;
}

/* All of it written to, and protected then. */
static int map_clean(void **unused)
{
    if (map(NULL) != 0)
        return -1;
    memset(memory, 1, PAGES * SH_PAGE_SIZE);
    return protect(0, PAGES) ? 0 : -1;
}

#define WATCH_TEST(function) cmocka_unit_test_setup_teardown(function, map_clean, unmap)
#define FRESH_TEST(function) cmocka_unit_test_setup_teardown(function, map, unmap)

/* ---- Who writes ---- */

static void what_is_protected_is_clean(void **unused)
{
    assert_int_equal(look_everywhere(), 0);
    assert_int_equal(look_everywhere(), 0);
}

static void what_is_not_protected_is_written(void **unused)
{
    assert_true(sh_os_watch_drop((uintptr_t)memory, PAGES * SH_PAGE_SIZE));
    assert_int_equal(look_everywhere(), PAGES);
    assert_true(sh_os_watch_add((uintptr_t)memory, PAGES * SH_PAGE_SIZE));
    assert_int_equal(look_everywhere(), PAGES);
}

static void a_store_is_found(void **unused)
{
    page(3)[SH_PAGE_SIZE - 1] = 2;
    only_page_is_found(3);
    page(3)[0] = 2;
    only_page_is_found(3);
    assert_true(protect(3, 4));
    assert_int_equal(look_everywhere(), 0);
    page(3)[0] = 2; /* the same again */
    only_page_is_found(3);
}

static void a_read_is_no_write(void **unused)
{
    unsigned sum = 0;
    for (size_t i = 0; i < PAGES; i++)
        sum += (unsigned char)page(i)[i];
    assert_int_equal(sum, PAGES);
    assert_int_equal(look_everywhere(), 0);
}

static void a_write_of_the_system_is_found(void **unused)
{
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(write(fds[1], "12345678", 8), 8);
    assert_int_equal(read(fds[0], page(5) + 8, 8), 8); /* none of ours */
    close(fds[0]);
    close(fds[1]);
    only_page_is_found(5);
    assert_memory_equal(page(5),
        "\1\1\1\1\1\1\1\1"
        "12345678",
        16);
}

static void *store_at(void *at)
{
    *(char *)at = 3;
    return NULL;
}

static void a_write_of_another_thread_is_found(void **unused)
{
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, store_at, page(200)), 0);
    pthread_join(thread, NULL);
    only_page_is_found(200);
}

/* ---- Which pages ---- */

static void pages_are_told_one_by_one(void **unused)
{
    for (size_t i = 1; i < PAGES; i += 2)
        page(i)[i] = 2;
    assert_int_equal(look_everywhere(), PAGES / 2);
    for (size_t i = 0; i < PAGES; i++)
        assert_int_equal(found[i], i % 2);
}

static void more_ranges_than_fit_are_told_in_turns(void **unused)
{
    static const int most[] = {1, 3, 63, 64, 65, PAGES};
    for (size_t i = 1; i < PAGES; i += 2)
        page(i)[i] = 2;
    page(100)[0] = 2; /* a longer one */
    for (size_t m = 0; m < sizeof most / sizeof most[0]; m++) {
        assert_int_equal(look(0, PAGES, most[m]), PAGES / 2 + 1);
        for (size_t i = 0; i < PAGES; i++)
            assert_int_equal(found[i], i % 2 || i == 100);
    }
}

static void a_part_is_looked_at_by_itself(void **unused)
{
    page(9)[0] = page(10)[0] = page(19)[0] = page(20)[0] = 2;
    assert_int_equal(look(10, 20, 64), 2);
    assert_true(found[10] && found[19]);
    assert_int_equal(look(11, 19, 64), 0);
}

static void a_part_is_protected_by_itself(void **unused)
{
    memset(memory, 2, PAGES * SH_PAGE_SIZE);
    assert_int_equal(look_everywhere(), PAGES);
    assert_true(protect(16, 32));
    assert_int_equal(look_everywhere(), PAGES - 16);
    for (size_t i = 0; i < PAGES; i++)
        assert_int_equal(found[i], i < 16 || i >= 32);
    page(31)[0] = page(32)[0] = 3;
    assert_int_equal(look_everywhere(), PAGES - 15);
    assert_true(found[31]);
}

/* Pages that are large for the system are told one by one, too. */
static void within_a_large_page_a_store_is_found(void **unused)
{
    char *before = memory, *large = sh_os_map(4 * MIB, 2 * MIB);
    assert_non_null(large);
    madvise(large, 4 * MIB, MADV_HUGEPAGE);
    errno = E2BIG;
    assert_true(sh_os_watch_add((uintptr_t)large, 4 * MIB));
    memset(large, 1, 4 * MIB);
    for (size_t at = 0; at < 4 * MIB; at += PAGES * SH_PAGE_SIZE) {
        memory = large + at;
        assert_true(protect(0, PAGES));
        assert_int_equal(look_everywhere(), 0);
        page(77)[5] = 2;
        only_page_is_found(77);
    }
    memory = large;
    assert_int_equal(look_everywhere(), 1);
    memory = before;
    sh_os_unmap(large, 4 * MIB);
}

/* ---- Never touched, given back ---- */

static void what_was_never_touched_is_found_once_it_is(void **unused)
{
    page(40)[0] = 1; /* the page table is there */
    assert_true(protect(0, PAGES));
    assert_int_equal(look_everywhere(), 0);
    page(41)[0] = 1;
    only_page_is_found(41);
    assert_true(protect(0, PAGES));
    page(41)[0] = page(42)[0] = 1;
    assert_int_equal(look_everywhere(), 2);
    assert_true(found[41] && found[42]);
}

static void nothing_was_ever_touched(void **unused)
{
    assert_true(protect(0, PAGES));
    assert_in_range(look_everywhere(), 0, PAGES);
    page(7)[0] = 1;
    look_everywhere();
    assert_true(found[7]);
    assert_true(protect(0, PAGES));
    page(9)[0] = 1;
    look_everywhere();
    assert_true(found[9] && !found[7]);
}

static void found_after(int advice)
{
    assert_int_equal(madvise(page(50), 8 * SH_PAGE_SIZE, advice), 0);
    page(52)[0] = 2;
    look_everywhere();
    assert_true(found[52]);
    assert_true(!found[49] && !found[58]);
    assert_true(protect(0, PAGES));
    assert_int_equal(look_everywhere(), 0);
    page(52)[0] = page(54)[0] = 2;
    assert_int_equal(look_everywhere(), 2);
    assert_true(found[52] && found[54]);
}

static void what_was_given_back_is_found_when_written_to(void **unused)
{
    found_after(MADV_DONTNEED);
}

static void what_may_be_taken_is_found_when_written_to(void **unused)
{
    found_after(MADV_FREE);
}

/* ---- Moving ---- */

static void what_is_dropped_may_move_and_be_watched_again(void **unused)
{
    size_t bytes = PAGES * SH_PAGE_SIZE;
    char *in_the_way = sh_os_map(bytes, SH_PAGE_SIZE);
    assert_non_null(in_the_way);
    assert_true(sh_os_watch_drop((uintptr_t)memory, bytes));
    char *moved = sh_os_remap(memory, bytes, 4 * bytes);
    assert_non_null(moved);
    memory = moved;
    assert_int_equal(look_everywhere(), PAGES);
    assert_true(sh_os_watch_add((uintptr_t)memory, 4 * bytes));
    assert_true(protect(0, PAGES));
    assert_int_equal(look_everywhere(), 0);
    assert_int_equal(page(PAGES - 1)[9], 1);
    page(12)[0] = 2;
    only_page_is_found(12);
    sh_os_unmap(memory + bytes, 3 * bytes);
    sh_os_unmap(in_the_way, bytes);
}

static void what_is_no_memory_is_not_watched(void **unused)
{
    sh_os_unmap(memory, PAGES * SH_PAGE_SIZE);
    assert_false(sh_os_watch_add((uintptr_t)memory, PAGES * SH_PAGE_SIZE));
    assert_in_range(look_everywhere() + 1, 0, 1);
    assert_int_equal(map(NULL), 0);
}

/* ---- Processes ---- */

#define MUST(what) ((what) ? (void)0 : (dprintf(2, "%s\n", #what), _exit(1)))

static int in_child(void (*function)(void *), void *arg)
{
    struct child child;
    child_run(&child, function, arg);
    if (!child_returned(&child))
        print_error("the child: status %#x: %s\n", (unsigned)child.status, child.text);
    errno = E2BIG;
    return child_returned(&child);
}

/* `told`: by sh_os_watch_fork_child; otherwise it finds out. */
static void watch_in_child(void *told)
{
    if (told)
        sh_os_watch_fork_child();
    MUST(sh_os_watch_prepare());
    page(60)[0] = 4;
    look_everywhere();
    MUST(found[60]);
    MUST(sh_os_watch_add((uintptr_t)memory, PAGES * SH_PAGE_SIZE));
    MUST(protect(0, PAGES) && look_everywhere() == 0);
    page(61)[0] = 4;
    MUST(look_everywhere() == 1 && found[61]);
}

static void a_child_has_a_watch_of_its_own(void **told)
{
    assert_true(in_child(watch_in_child, memory));
    assert_int_equal(look_everywhere(), 0);
    page(62)[0] = 2;
    only_page_is_found(62);
    assert_true(in_child(watch_in_child, NULL));
    only_page_is_found(62);
}

/* What is shared with a child is copied when it is written to. */
static void a_store_beside_a_child_is_found(void **unused)
{
    int fds[2];
    char byte;
    assert_int_equal(pipe(fds), 0);
    pid_t child = fork();
    if (child == 0) {
        close(fds[1]);
        _exit(read(fds[0], &byte, 1) != 0);
    }
    close(fds[0]);
    page(70)[0] = 2;
    only_page_is_found(70);
    close(fds[1]);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    page(71)[0] = 2;
    assert_int_equal(look_everywhere(), 2);
}

/* ---- Descriptors ---- */

static void close_them_all(void *unused)
{
    for (int fd = 3; fd < 1024; fd++)
        close(fd);
}

/* All is found, or nothing is known. */
static void watch_without_descriptor(void *unused)
{
    watch_in_child(NULL);
    MUST(protect(0, PAGES));
    page(5)[0] = 2;
    close_them_all(NULL);
    int pages = look_everywhere();
    MUST(pages < 0 || pages == (int)PAGES);
    sh_os_watch_prepare();
    MUST(!sh_os_watch_add((uintptr_t)memory, PAGES * SH_PAGE_SIZE));
    protect(0, PAGES);
    pages = look_everywhere();
    MUST(pages < 0 || pages == (int)PAGES);
    MUST(!sh_os_watch_drop((uintptr_t)memory, PAGES * SH_PAGE_SIZE));
}

static void a_closed_descriptor_leaves_nothing_clean(void **unused)
{
    assert_true(in_child(watch_without_descriptor, NULL));
}

#define FILES 200

static bool are_open(void)
{
    for (int fd = 3; fd < FILES; fd++)
        if (fcntl(fd, F_GETFD) < 0)
            return false;
    return true;
}

/* Of the program's, one is there where the watch was. */
static void have_other_files(void *unused)
{
    MUST(sh_os_watch_prepare());
    MUST(sh_os_watch_add((uintptr_t)memory, PAGES * SH_PAGE_SIZE));
    for (int fd = 3; fd < FILES; fd++)
        dup2(STDIN_FILENO, fd);
    MUST(!sh_os_watch_prepare());
    MUST(!sh_os_watch_add((uintptr_t)memory, PAGES * SH_PAGE_SIZE));
    MUST(!sh_os_watch_drop((uintptr_t)memory, PAGES * SH_PAGE_SIZE));
    sh_os_watch_fork_child();
    MUST(are_open());
}

static void files_in_the_place_of_the_watch_stay_open(void **unused)
{
    assert_true(in_child(have_other_files, NULL));
}

/* Whose parent's memory is where its own is, and who was not told. */
static void move_in_child(void *unused)
{
    sh_os_watch_drop((uintptr_t)memory, PAGES * SH_PAGE_SIZE);
}

static void a_child_drops_nothing_of_its_parents(void **unused)
{
    assert_true(in_child(move_in_child, NULL));
    assert_int_equal(look_everywhere(), 0);
}

static void filter(unsigned call)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof code[0], code};
    MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    MUST(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

static void have_calls_filtered(void *unused)
{
    filter(SYS_userfaultfd);
    sh_os_watch_fork_child();
    MUST(!sh_os_watch_prepare());
    MUST(!sh_os_watch_add((uintptr_t)memory, PAGES * SH_PAGE_SIZE));
}

static void have_calls_filtered_later(void *unused)
{
    watch_in_child(NULL);
    filter(SYS_ioctl);
    MUST(!sh_os_watch_prepare());
    MUST(!sh_os_watch_drop((uintptr_t)memory, PAGES * SH_PAGE_SIZE));
}

static void a_filter_that_ends_who_watches_is_not_asked(void **unused)
{
    assert_true(in_child(have_calls_filtered, NULL));
    assert_true(in_child(have_calls_filtered_later, NULL));
}

static void *look_later(void *initial)
{
    pthread_join(*(pthread_t *)initial, NULL);
    page(5)[0] = 2;
    MUST(look_everywhere() == 1 && found[5]);
    _exit(CHILD_RETURNED);
}

static void end_the_initial_thread(void *unused)
{
    static pthread_t initial;
    pthread_t thread;
    initial = pthread_self();
    watch_in_child(NULL);
    MUST(protect(0, PAGES));
    MUST(pthread_create(&thread, NULL, look_later, &initial) == 0);
    pthread_exit(NULL);
}

static void it_goes_on_when_the_initial_thread_has_ended(void **unused)
{
    assert_true(in_child(end_the_initial_thread, NULL));
}

static void have_no_descriptors(void *unused)
{
    struct rlimit none = {3, 3};
    MUST(setrlimit(RLIMIT_NOFILE, &none) == 0);
    errno = E2BIG;
    MUST(sh_os_watch_open() < 0);
    MUST(!sh_os_watch_prepare());
    MUST(!sh_os_watch_add((uintptr_t)memory, PAGES * SH_PAGE_SIZE));
    MUST(errno == E2BIG);
}

static void where_there_are_no_descriptors_it_says_so(void **unused)
{
    assert_true(in_child(have_no_descriptors, NULL));
}

static unsigned watches_open(void)
{
    unsigned count = 0;
    DIR *fds = opendir("/proc/self/fd");
    assert_non_null(fds);
    for (struct dirent *entry; (entry = readdir(fds));) {
        char target[64] = "";
        if (readlinkat(dirfd(fds), entry->d_name, target, sizeof target - 1) > 0 &&
            strstr(target, "userfaultfd")) {
            count++;
            assert_true(fcntl(atoi(entry->d_name), F_GETFD) & FD_CLOEXEC);
        }
    }
    closedir(fds);
    return count;
}

static void one_descriptor_is_kept_and_not_passed_on(void **unused)
{
    for (int i = 0; i < 3; i++) {
        assert_true(sh_os_watch_prepare());
        assert_int_equal(watches_open(), 1);
    }
    errno = E2BIG;
}

int main(void)
{
    if (!sh_os_watch_prepare()) {
        print_message("[  SKIPPED ] this system cannot watch memory for writes\n");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        WATCH_TEST(what_is_protected_is_clean),
        WATCH_TEST(what_is_not_protected_is_written),
        WATCH_TEST(a_store_is_found),
        WATCH_TEST(a_read_is_no_write),
        WATCH_TEST(a_write_of_the_system_is_found),
        WATCH_TEST(a_write_of_another_thread_is_found),
        WATCH_TEST(pages_are_told_one_by_one),
        WATCH_TEST(more_ranges_than_fit_are_told_in_turns),
        WATCH_TEST(a_part_is_looked_at_by_itself),
        WATCH_TEST(a_part_is_protected_by_itself),
        WATCH_TEST(within_a_large_page_a_store_is_found),
        FRESH_TEST(what_was_never_touched_is_found_once_it_is),
        FRESH_TEST(nothing_was_ever_touched),
        WATCH_TEST(what_was_given_back_is_found_when_written_to),
        WATCH_TEST(what_may_be_taken_is_found_when_written_to),
        WATCH_TEST(what_is_dropped_may_move_and_be_watched_again),
        FRESH_TEST(what_is_no_memory_is_not_watched),
        WATCH_TEST(a_child_has_a_watch_of_its_own),
        WATCH_TEST(a_store_beside_a_child_is_found),
        WATCH_TEST(a_closed_descriptor_leaves_nothing_clean),
        WATCH_TEST(files_in_the_place_of_the_watch_stay_open),
        WATCH_TEST(a_child_drops_nothing_of_its_parents),
        WATCH_TEST(a_filter_that_ends_who_watches_is_not_asked),
        WATCH_TEST(it_goes_on_when_the_initial_thread_has_ended),
        WATCH_TEST(where_there_are_no_descriptors_it_says_so),
        WATCH_TEST(one_descriptor_is_kept_and_not_passed_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
