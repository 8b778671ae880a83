/* SPDX-License-Identifier: MIT */
/* lib/print.h against the C library's printf, and what lib/check.h says at the end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "lib/check.h"
#include "lib/print.h"
#include "tests/child.h"

/* The same of both printers, cut at every size up to the whole. */
#define SAME(...)                                                                      \
    do {                                                                               \
        char expected[1024], got[1024];                                                \
        size_t len = (size_t)snprintf(expected, sizeof expected, __VA_ARGS__);         \
        assert_int_equal(sh_format(got, sizeof got, __VA_ARGS__), len);                \
        assert_string_equal(got, expected);                                            \
        for (size_t size_ = 1; size_ <= len; size_++) {                                \
            memset(got, '!', sizeof got);                                              \
            assert_int_equal(sh_format(got, size_, __VA_ARGS__), len);                 \
            assert_memory_equal(got, expected, size_ - 1);                             \
            assert_int_equal(got[size_ - 1], '\0');                                    \
            assert_int_equal(got[size_], '!');                                         \
        }                                                                              \
    } while (0)

static void plain(void **unused)
{
    SAME("%s", "");
    SAME("no conversion");
    SAME("100%% and %c%c", 'x', '\n');
}

static void integers(void **unused)
{
    SAME("%d %d %d %d", 0, -1, INT_MAX, INT_MIN);
    SAME("%ld %ld %ld", 7L, LONG_MAX, LONG_MIN);
    SAME("%lld %lld", LLONG_MAX, LLONG_MIN);
    SAME("%zd", (ssize_t)-5);
    SAME("%u %u %lu %llu %zu", 0u, UINT_MAX, ULONG_MAX, ULLONG_MAX, SIZE_MAX);
    SAME("%x %x %lx %llx %zx", 0u, 0xdeadbeefu, ULONG_MAX, ULLONG_MAX, SIZE_MAX);
}

static void widths(void **unused)
{
    SAME("[%5d][%-5d][%05d]", 42, 42, 42);
    SAME("[%5d][%-5d][%05d]", -42, -42, -42);
    SAME("[%2d][%-2d][%02d]", 12345, 12345, -12345);
    SAME("[%12lu][%-12zu][%012llx]", 9UL, (size_t)9, 9ULL);
    SAME("[%30d][%-30d][%030d]", INT_MIN, INT_MIN, INT_MIN);
    SAME("[%8s][%-8s][%2s]", "abc", "abc", "abc");
    SAME("[%300s]", "far");
}

static void strings(void **unused)
{
    const char unterminated[3] = {'a', 'b', 'c'};
    SAME("%.*s", 3, unterminated);
    SAME("[%.*s][%.*s][%.*s]", 0, "abc", 2, "abc", 9, "abc");
    SAME("[%.*s]", -1, "abc");
    SAME("[%.2s][%.s][%6.2s][%-6.2s]", "abc", "abc", "abc", "abc");

    char got[64];
    const char *volatile none = NULL;
    sh_format(got, sizeof got, "[%s][%8s]", none, none);
    assert_string_equal(got, "[(null)][  (null)]");
}

static void pointers(void **unused)
{
    char got[64];
    void *high = (void *)(uintptr_t)0x7fffdeadb000;
    sh_format(got, sizeof got, "%p %p [%-6p]", high, NULL, (void *)16);
    assert_string_equal(got, "0x7fffdeadb000 0x0 [0x10  ]");
}

/* Not to be checked by the compiler, for they are mistakes. */
static size_t unchecked(char *text, size_t size, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    size_t len = sh_vformat(text, size, format, args);
    va_end(args);
    return len;
}

static void mistakes(void **unused)
{
    char got[64];
    unchecked(got, sizeof got, "%d %5q %d", 1, 2);
    assert_string_equal(got, "1 %5q %d");
    unchecked(got, sizeof got, "cut %");
    assert_string_equal(got, "cut %");
    unchecked(got, sizeof got, "cut %-08l");
    assert_string_equal(got, "cut %-08l");
}

static void no_room(void **unused)
{
    char got = '!';
    assert_int_equal(sh_format(&got, 0, "%s", "text"), 4);
    assert_int_equal(got, '!');
    assert_int_equal(sh_format(NULL, 0, "%d", 12345), 5);
}

/* ---- Sinks ---- */

struct pieces {
    unsigned count;
    unsigned lines; /* those that end a line */
    size_t len;
    char text[4096];
};

static void collect(void *data, const char *text, size_t len)
{
    struct pieces *pieces = data;
    assert_true(len > 0);
    assert_true(pieces->len + len < sizeof pieces->text);
    memcpy(pieces->text + pieces->len, text, len);
    pieces->len += len;
    pieces->count++;
    pieces->lines += text[len - 1] == '\n';
}

static void short_text_is_one_piece(void **unused)
{
    struct pieces pieces = {0};
    struct sh_sink sink = {.data = &pieces, .write = collect};
    sh_print(&sink, "%s: %d of %zu\n", "area", 3, (size_t)7);
    assert_int_equal(pieces.count, 1);
    assert_string_equal(pieces.text, "area: 3 of 7\n");

    memset(&pieces, 0, sizeof pieces);
    sh_print(&sink, "%s", "");
    assert_int_equal(pieces.count, 0);
}

static void long_text_breaks_between_lines(void **unused)
{
    char line[101];
    memset(line, 'x', 100);
    line[100] = '\0';
    struct pieces pieces = {0};
    struct sh_sink sink = {.data = &pieces, .write = collect};
    sh_print(&sink, "%s\n%s\n%s\n%s\n%s\n", line, line, line, line, line);
    assert_true(pieces.count > 1);
    assert_int_equal(pieces.lines, pieces.count);
    assert_int_equal(pieces.len, 5 * 101);
    for (size_t i = 0; i < pieces.len; i++)
        assert_int_equal(pieces.text[i], i % 101 == 100 ? '\n' : 'x');
}

static void endless_line_is_whole(void **unused)
{
    struct pieces pieces = {0};
    struct sh_sink sink = {.data = &pieces, .write = collect};
    sh_print(&sink, "<%2000d>", 1);
    assert_int_equal(pieces.len, 2002);
    assert_int_equal(pieces.text[0], '<');
    assert_string_equal(pieces.text + 1999, " 1>");
}

static void print_line(void *unused)
{
    sh_print(&sh_stderr_sink, "pause %u us\n", 17u);
}

static void standard_error(void **unused)
{
    struct child child;
    child_run(&child, print_line, NULL);
    assert_true(child_returned(&child));
    assert_int_equal(child.writes, 1);
    assert_string_equal(child.text, "pause 17 us\n");
}

/* ---- The end of the program ---- */

static void die(void *unused)
{
    sh_fatal("free of %p: %s", (void *)0x1230, "no such cell");
}

static void fatal(void **unused)
{
    struct child child;
    child_run(&child, die, NULL);
    assert_true(
        child_aborted_with(&child, "splitheap: free of 0x1230: no such cell\n"));
}

static void die_at_length(void *arg)
{
    static char text[1000];
    memset(text, 'y', *(size_t *)arg);
    sh_fatal("%s", text);
}

/* Around the 512 bytes that a message may have: 11 before it, 1 after. */
static void long_message_is_cut(void **unused)
{
    for (size_t len = 495; len < 510; len++) {
        struct child child;
        child_run(&child, die_at_length, &len);
        size_t kept = len < 500 ? len : 500;
        char expected[600] = "splitheap: ";
        memset(expected + 11, 'y', kept);
        strcpy(expected + 11 + kept, "\n");
        assert_true(child_aborted_with(&child, expected));
    }
}

static void fail_check(void *unused)
{
    sh_check_failed("used <= cells", "../heaps/span.c", 42);
}

static void failed_check(void **unused)
{
    struct child child;
    child_run(&child, fail_check, NULL);
    assert_true(child_aborted_with(
        &child, "splitheap: span.c:42: check failed: used <= cells\n"));
}

static void try_levels(void *unused)
{
    SH_CHECK1(1 + 1 == 2);
    SH_CHECK_AT(SH_CHECKS + 1, 1 + 1 == 3);
    SH_CHECK_AT(SH_CHECKS, 1 + 1 == 3);
}

static void check_levels(void **unused)
{
    struct child child;
    child_run(&child, try_levels, NULL);
    assert_true(WIFSIGNALED(child.status));
    assert_non_null(strstr(child.text, "unit_print.c:"));
    assert_non_null(strstr(child.text, ": check failed: 1 + 1 == 3\n"));
}

static void *die_in_thread(void *unused)
{
    sh_fatal("%s %d", "a message that is long enough to be torn apart", 1);
}

static void die_together(void *unused)
{
    for (int i = 0; i < 4; i++) {
        pthread_t thread;
        pthread_create(&thread, NULL, die_in_thread, NULL);
    }
    pause();
}

/* However many get to write before the first abort ends all. */
static void messages_do_not_interleave(void **unused)
{
    static const char line[] =
        "splitheap: a message that is long enough to be torn apart 1\n";
    for (int i = 0; i < 10; i++) {
        struct child child;
        child_run(&child, die_together, NULL);
        assert_true(WIFSIGNALED(child.status));
        assert_true(child.writes >= 1);
        for (unsigned k = 0; k < child.writes; k++)
            assert_memory_equal(
                child.text + k * (sizeof line - 1), line, sizeof line - 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain),
        cmocka_unit_test(integers),
        cmocka_unit_test(widths),
        cmocka_unit_test(strings),
        cmocka_unit_test(pointers),
        cmocka_unit_test(mistakes),
        cmocka_unit_test(no_room),
        cmocka_unit_test(short_text_is_one_piece),
        cmocka_unit_test(long_text_breaks_between_lines),
        cmocka_unit_test(endless_line_is_whole),
        cmocka_unit_test(standard_error),
        cmocka_unit_test(fatal),
        cmocka_unit_test(long_message_is_cut),
        cmocka_unit_test(failed_check),
        cmocka_unit_test(check_levels),
        cmocka_unit_test(messages_do_not_interleave),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
