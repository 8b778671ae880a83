/* SPDX-License-Identifier: MIT */
/* lib/options.h: what is understood, what is complained of, and where it is read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/auxv.h>

#include <cmocka.h>

#include "lib/options.h"
#include "lib/os.h"
#include "tests/child.h"
#include "tests/heap.h"

#define CONF "splitheap: SPLITHEAP_CONF: "

struct heard {
    char text[8192];
    size_t len;
};

static void hear(void *data, const char *text, size_t len)
{
    struct heard *heard = data;
    assert_true(heard->len + len < sizeof heard->text);
    memcpy(heard->text + heard->len, text, len);
    heard->len += len;
    heard->text[heard->len] = '\0';
}

static struct sh_sink ear(struct heard *heard)
{
    heard->len = 0;
    heard->text[0] = '\0';
    return (struct sh_sink){.data = heard, .write = hear};
}

static struct sh_options parse(const char *text, const char *complaints)
{
    struct sh_options options = SH_OPTIONS_DEFAULT;
    struct heard heard;
    struct sh_sink sink = ear(&heard);
    sh_options_parse(&options, text, &sink);
    assert_string_equal(heard.text, complaints);
    return options;
}

static bool shows(const struct sh_options *options, const char *text)
{
    struct heard heard;
    struct sh_sink sink = ear(&heard);
    sh_options_show(options, &sink);
    return strcmp(heard.text, text) == 0;
}

/* ---- What is understood ---- */

static void defaults_are_as_documented(void **unused)
{
    struct sh_options options = parse("", "");
    assert_int_equal(options.decay_ms, 1000);
    assert_true(options.background);
    assert_int_equal(options.thp, SH_THP_DEFAULT);
    assert_int_equal(options.stats_at_exit, SH_STATS_NONE);
    assert_int_equal(options.stats_signal, 0);
    assert_false(options.stats_signal_json);
    assert_string_equal(options.stats_file, "");
    assert_string_equal(options.gc_log, "");
    assert_int_equal(options.max_heap, 0);
    assert_int_equal(options.junk, SH_JUNK_NONE);
    assert_int_equal(options.misuse, SH_MISUSE_ABORT);
    assert_false(options.zero);
    assert_false(options.verbose);
    assert_false(options.help);
    assert_true(shows(&options, ""));
}

static const char *const understood[] = {
    "background:false",
    "decay_ms:0",
    "decay_ms:-1",
    "decay_ms:86400000",
    "gc_log:/tmp/a.%p",
    "gc_log:stderr",
    "help:true",
    "junk:true",
    "junk:alloc",
    "junk:free",
    "max_heap:1",
    "max_heap:18446744073709551615",
    "misuse:report",
    "pace:proportional",
    "pace_floor:1048576",
    "pace_percent:5",
    "stats_at_exit:text",
    "stats_at_exit:json",
    "stats_file:/tmp/a:b %p",
    "stats_signal:10",
    "stats_signal_json:true",
    "stats_signal:64",
    "thp:always",
    "thp:never",
    "verbose:true",
    "zero:true",
    "background:false,decay_ms:5,junk:free,zero:true",
};

/* What is parsed is shown as it was written. */
static void every_value_is_understood(void **unused)
{
    for (size_t i = 0; i < sizeof understood / sizeof understood[0]; i++) {
        struct sh_options options = parse(understood[i], "");
        if (!shows(&options, understood[i]))
            fail_msg("%s", understood[i]);
    }
}

static void bytes_may_have_a_unit(void **unused)
{
    assert_int_equal(parse("max_heap:4096", "").max_heap, 4096);
    assert_int_equal(parse("max_heap:64k", "").max_heap, 64 << 10);
    assert_int_equal(parse("max_heap:300m", "").max_heap, 300 << 20);
    assert_int_equal(parse("max_heap:3g", "").max_heap, (size_t)3 << 30);
    assert_int_equal(
        parse("max_heap:17179869183g", "").max_heap, SIZE_MAX - (1 << 30) + 1);
    assert_true(shows(&(struct sh_options)SH_OPTIONS_DEFAULT, ""));
    static const char *const wrong[] = {"17179869184g", "18446744073709551616", "-1",
        "", "k", "1kk", "1 k", "0x10", "1K"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        char text[64], complaint[160];
        sh_format(text, sizeof text, "max_heap:%s", wrong[i]);
        sh_format(complaint, sizeof complaint,
            CONF
            "max_heap:%s is not used: allowed is bytes, or with k, m or g behind\n",
            wrong[i]);
        assert_int_equal(parse(text, complaint).max_heap, 0);
    }
}

static void words_have_their_numbers(void **unused)
{
    assert_int_equal(parse("thp:always", "").thp, SH_THP_ALWAYS);
    assert_int_equal(parse("thp:never", "").thp, SH_THP_NEVER);
    assert_int_equal(parse("stats_at_exit:text", "").stats_at_exit, SH_STATS_TEXT);
    assert_int_equal(parse("stats_at_exit:json", "").stats_at_exit, SH_STATS_JSON);
    assert_int_equal(parse("misuse:report", "").misuse, SH_MISUSE_REPORT);
    assert_int_equal(parse("junk:true", "").junk, SH_JUNK_ALL);
    assert_int_equal(parse("junk:alloc", "").junk, SH_JUNK_ALLOC);
    assert_int_equal(parse("junk:free", "").junk, SH_JUNK_FREE);
}

static void signals_have_names(void **unused)
{
    assert_int_equal(parse("stats_signal:USR1", "").stats_signal, SIGUSR1);
    assert_int_equal(parse("stats_signal:SIGUSR2", "").stats_signal, SIGUSR2);
    assert_int_equal(parse("stats_signal:SIGPROF", "").stats_signal, SIGPROF);
    assert_int_equal(parse("stats_signal:0", "").stats_signal, 0);
}

static void the_last_of_a_key_holds(void **unused)
{
    assert_int_equal(parse("decay_ms:5,zero:true,decay_ms:7", "").decay_ms, 7);
    struct sh_options options = parse(",,decay_ms:5,,", "");
    assert_int_equal(options.decay_ms, 5);
}

/* ---- What is complained of ---- */

#define ANY_255                                                                        \
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"                 \
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"                 \
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"                 \
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde"
#define FIRST_80                                                                       \
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define NO_OPTION(key)                                                                 \
    CONF "there is no option '" key "'; SPLITHEAP_CONF=help:true lists those that "    \
         "are\n"
#define NOT_USED(entry, allowed) CONF entry " is not used: allowed is " allowed "\n"
#define NO_VALUE(key) CONF key " has no value; write " key ":value\n"

static const struct {
    const char *text, *complaint;
} refused[] = {
    {"decoy_ms:5", NO_OPTION("decoy_ms")},
    {"decay_m:5", NO_OPTION("decay_m")},
    {"decay_ms_:5", NO_OPTION("decay_ms_")},
    {"Decay_ms:5", NO_OPTION("Decay_ms")},
    {" decay_ms:5", NO_OPTION(" decay_ms")},
    {":5", NO_OPTION("")},
    {"decoy", NO_OPTION("decoy")},
    {ANY_255 ":1", NO_OPTION(FIRST_80)},
    {"decay_ms", NO_VALUE("decay_ms")},
    {"zero", NO_VALUE("zero")},
    {"decay_ms:", NOT_USED("decay_ms:", "-1..86400000")},
    {"decay_ms:-", NOT_USED("decay_ms:-", "-1..86400000")},
    {"decay_ms:-2", NOT_USED("decay_ms:-2", "-1..86400000")},
    {"decay_ms:86400001", NOT_USED("decay_ms:86400001", "-1..86400000")},
    {"decay_ms:1 ", NOT_USED("decay_ms:1 ", "-1..86400000")},
    {"decay_ms:+1", NOT_USED("decay_ms:+1", "-1..86400000")},
    {"decay_ms:0x1", NOT_USED("decay_ms:0x1", "-1..86400000")},
    {"decay_ms:1s", NOT_USED("decay_ms:1s", "-1..86400000")},
    {"decay_ms:1:2", NOT_USED("decay_ms:1:2", "-1..86400000")},
    {"decay_ms:2147483648", NOT_USED("decay_ms:2147483648", "-1..86400000")},
    {"decay_ms:-2147483649", NOT_USED("decay_ms:-2147483649", "-1..86400000")},
    {"decay_ms:18446744073709551617",
        NOT_USED("decay_ms:18446744073709551617", "-1..86400000")},
    {"zero:yes", NOT_USED("zero:yes", "false|true")},
    {"zero:1", NOT_USED("zero:1", "false|true")},
    {"zero:True", NOT_USED("zero:True", "false|true")},
    {"zero:tru", NOT_USED("zero:tru", "false|true")},
    {"zero:", NOT_USED("zero:", "false|true")},
    {"zero:false|true", NOT_USED("zero:false|true", "false|true")},
    {"background:no", NOT_USED("background:no", "false|true")},
    {"help:x", NOT_USED("help:x", "false|true")},
    {"verbose:x", NOT_USED("verbose:x", "false|true")},
    {"thp:maybe", NOT_USED("thp:maybe", "default|always|never")},
    {"misuse:ignore", NOT_USED("misuse:ignore", "abort|report")},
    {"junk:a5", NOT_USED("junk:a5", "false|true|alloc|free")},
    {"stats_at_exit:xml", NOT_USED("stats_at_exit:xml", "false|text|json")},
    {"stats_signal:KILL",
        NOT_USED("stats_signal:KILL", "a signal's name or number, 0: none")},
    {"stats_signal:9",
        NOT_USED("stats_signal:9", "a signal's name or number, 0: none")},
    {"stats_signal:32",
        NOT_USED("stats_signal:32", "a signal's name or number, 0: none")},
    {"stats_signal:65",
        NOT_USED("stats_signal:65", "a signal's name or number, 0: none")},
    {"stats_signal:-1",
        NOT_USED("stats_signal:-1", "a signal's name or number, 0: none")},
    {"stats_signal:SIG",
        NOT_USED("stats_signal:SIG", "a signal's name or number, 0: none")},
    {"stats_file:" ANY_255 "f",
        NOT_USED("stats_file:" FIRST_80, "a path of at most 255 bytes")},
};

static void what_cannot_be_used_is_reported(void **unused)
{
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        struct sh_options options = parse(refused[i].text, refused[i].complaint);
        assert_true(shows(&options, ""));
    }
}

static void the_rest_holds_beside_it(void **unused)
{
    struct sh_options options = parse("decay_ms:5,oops:1,decay_ms:x,zero:true",
        NO_OPTION("oops") NOT_USED("decay_ms:x", "-1..86400000"));
    assert_true(shows(&options, "decay_ms:5,zero:true"));
}

static void the_longest_path_fits(void **unused)
{
    struct sh_options options = parse("stats_file:" ANY_255, "");
    assert_string_equal(options.stats_file, ANY_255);
}

/* ---- For people ---- */

static void help_names_every_option(void **unused)
{
    struct heard heard;
    struct sh_sink sink = ear(&heard);
    sh_options_help(&sink);
#define IS_NAMED(key, ...) assert_non_null(strstr(heard.text, "\n  " #key ":"));
    SH_OPTIONS(IS_NAMED)
    assert_non_null(
        strstr(heard.text, "\n  decay_ms:1000  (-1..86400000)\n      mill"));
    assert_non_null(strstr(heard.text, "\n  zero:false  (false|true)\n      clears"));
    assert_non_null(strstr(heard.text, "\n  thp:default  (default|always|never)\n"));
}

/* ---- From the environment ---- */

/* As the kernel would say it to a setuid program. */
static unsigned long more_rights;

unsigned long __getauxval(unsigned long type); /* the C library's, by its other name */

unsigned long getauxval(unsigned long type)
{
    return type == AT_SECURE ? more_rights : __getauxval(type);
}

static const char *variable(const char *name)
{
    static char text[64];
    size_t len = sh_os_environment(name, text, sizeof text);
    assert_int_equal(len, strlen(text));
    return text;
}

static void the_environment_is_read(void **unused)
{
    assert_int_equal(setenv("SH_TEST", "some:thing=else", 1), 0);
    assert_int_equal(setenv("SH_TEST_2", "2", 1), 0);
    assert_string_equal(variable("SH_TEST"), "some:thing=else");
    assert_string_equal(variable("SH_TEST_2"), "2");
    assert_string_equal(variable("SH_TES"), "");
    assert_string_equal(variable("SH_TEST_"), "");
    char text[5];
    assert_int_equal(sh_os_environment("SH_TEST", text, sizeof text), 15);
    assert_string_equal(text, "some");
}

static void without_rights_of_its_own_it_is_not(void **unused)
{
    assert_int_equal(setenv("SH_TEST", "something", 1), 0);
    more_rights = 1;
    assert_string_equal(variable("SH_TEST"), "");
    assert_int_equal(setenv("SPLITHEAP_CONF", "zero:true", 1), 0);
    struct sh_options options;
    sh_options_read(&options);
    assert_false(options.zero);
    more_rights = 0;
    sh_options_read(&options);
    assert_true(options.zero);
    unsetenv("SPLITHEAP_CONF");
    sh_options_read(&options);
    assert_false(options.zero);
}

static void too_long_a_value_is_not_used(void **unused)
{
    char text[3000];
    memset(text, ',', sizeof text);
    text[sizeof text - 1] = '\0';
    memcpy(text, "zero:true", 9);
    assert_int_equal(setenv("SPLITHEAP_CONF", text, 1), 0);
    struct sh_options options;
    sh_options_read(&options);
    assert_false(options.zero);
    text[2047] = '\0';
    assert_int_equal(setenv("SPLITHEAP_CONF", text, 1), 0);
    sh_options_read(&options);
    assert_true(options.zero);
    unsetenv("SPLITHEAP_CONF");
}

/* This program again, which then does only this, with an environment of which
 * next to nothing fits the buffer that it is read through. */
static char big[5000];

static void before_the_c_library_the_kernel_is_asked(void **unused)
{
    memset(big, 'x', sizeof big - 1);
    memcpy(big, "SH_TEST=", 5); /* SH_TEx... */
    char *environment[] = {
        "A=1",
        big,
        "SH_TEST_2=2",
        "XSH_TEST=no",
        "SH_TESTX=no",
        "=SH_TEST=no",
        "",
        "SH_TEST=right",
        "SH_TEST=late",
        NULL,
    };
    pid_t pid = fork();
    if (pid == 0) {
        execle("/proc/self/exe", "unit_options", "early", NULL, environment);
        _exit(99);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static int early(void)
{
    environ = NULL;
    return strcmp(variable("SH_TEST"), "right") || strcmp(variable("SH_TEST_2"), "2") ||
           strcmp(variable("SH_TES"), "") || strcmp(variable("SH_TEST_"), "");
}

/* ---- In the heap ---- */

static void begin_heap(void *conf)
{
    setenv("SPLITHEAP_CONF", conf, 1);
    sh_free(sh_malloc(1));
    setenv("SPLITHEAP_CONF", "decay_ms:9", 1);
    sh_free(sh_malloc(100000));
    if (sh_options.decay_ms != 77)
        _exit(1);
}

static void the_heap_reads_them_once(void **unused)
{
    struct child child;
    child_run(&child, begin_heap, "decay_ms:77");
    assert_true(child_returned(&child));
    assert_string_equal(child.text, "");
    child_run(&child, begin_heap, "zero:maybe,decay_ms:77,hum:1");
    assert_true(child_returned(&child));
    assert_string_equal(
        child.text, NOT_USED("zero:maybe", "false|true") NO_OPTION("hum"));
    child_run(&child, begin_heap, "verbose:true,decay_ms:77");
    assert_true(child_returned(&child));
    assert_string_equal(
        child.text, "splitheap: in use; set: decay_ms:77,verbose:true\n");
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "early") == 0)
        return early();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_as_documented),
        cmocka_unit_test(every_value_is_understood),
        cmocka_unit_test(bytes_may_have_a_unit),
        cmocka_unit_test(words_have_their_numbers),
        cmocka_unit_test(signals_have_names),
        cmocka_unit_test(the_last_of_a_key_holds),
        cmocka_unit_test(what_cannot_be_used_is_reported),
        cmocka_unit_test(the_rest_holds_beside_it),
        cmocka_unit_test(the_longest_path_fits),
        cmocka_unit_test(help_names_every_option),
        cmocka_unit_test(the_environment_is_read),
        cmocka_unit_test(without_rights_of_its_own_it_is_not),
        cmocka_unit_test(too_long_a_value_is_not_used),
        cmocka_unit_test(before_the_c_library_the_kernel_is_asked),
        cmocka_unit_test(the_heap_reads_them_once),
    };
    return run_on_clean_stack(tests, NULL, NULL);
}
