/* SPDX-License-Identifier: MIT */
/*
 * Memory that was freed goes back to the system: the options decay_ms and background,
 * and what the library's own thread does to the rest of a process.
 *
 * The program runs itself again for each scene, with options set as a user would. What
 * is there of what was freed is asked of the kernel by address, so that a sanitizer's
 * memory does not count. "In time" is seconds more than it ought to take.
 */
#include <dirent.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <cmocka.h>

#include "lib/options.h"
#include "lib/print.h"
#include "tests/child.h"
#include "tests/heap.h"

#define MIB ((size_t)1 << 20)
#define PATIENCE_MS 20000

/* ---- What is there ---- */

enum { SIZE = 1000, COUNT = 60000, LARGE = 20, LARGE_BYTES = 3 << 20 };

static void *objects[COUNT + LARGE];

static void build_some(size_t from, size_t to)
{
    for (size_t i = from; i < to; i++) {
        size_t bytes = i < COUNT ? SIZE : LARGE_BYTES;
        objects[i] = sh_malloc(bytes);
        MUST(objects[i]);
        memset(objects[i], 1, bytes);
    }
}

static void build(void)
{
    build_some(0, COUNT + LARGE);
}

static void free_all(void)
{
    for (size_t i = 0; i < COUNT + LARGE; i++)
        sh_free(objects[i]);
}

static bool is_resident(const void *p)
{
    unsigned char residence = 0;
    void *page = (void *)sh_round_down((uintptr_t)p, SH_PAGE_SIZE);
    return mincore(page, SH_PAGE_SIZE, &residence) == 0 && (residence & 1);
}

/* Of 120 MiB, so that it is as many percent, about. */
static unsigned percent_there(void)
{
    size_t there = 0, all = 0;
    for (size_t i = 0; i < COUNT + LARGE; i += i < COUNT ? 10 : 1) {
        size_t last = i < COUNT ? 0 : LARGE_BYTES - 1;
        for (size_t at = 0; at <= last; at += 10 * SH_PAGE_SIZE, all++)
            there += is_resident((char *)objects[i] + at);
    }
    return (unsigned)(there * 100 / all);
}

static bool falls_below(unsigned percent)
{
    for (unsigned waited = 0; waited < PATIENCE_MS; waited += 10) {
        if (percent_there() < percent)
            return true;
        sleep_us(10000);
    }
    fprintf(stderr, "%u %% are still there\n", percent_there());
    return false;
}

/* ---- The library's thread ---- */

/* A line of a thread's status, after its label; false: there is no such thread. Nothing
 * here allocates. */
static bool thread_says(const char *thread, const char *label, char *value, size_t size)
{
    static char text[4096];
    char path[64];
    sh_format(path, sizeof path, "/proc/self/task/%s/status", thread);
    int fd = open(path, O_RDONLY);
    ssize_t len = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    close(fd);
    if (len <= 0)
        return false;
    text[len] = '\0';
    const char *line = strstr(text, label);
    MUST(line);
    line += strlen(label);
    sh_format(value, size, "%.*s", (int)strcspn(line, "\n"), line);
    return true;
}

/* The number of threads called so, and the last of them. */
static unsigned find_helpers(char *thread, size_t size)
{
    unsigned count = 0;
    char name[64];
    DIR *threads = opendir("/proc/self/task");
    MUST(threads);
    for (struct dirent *entry; (entry = readdir(threads));) {
        if (entry->d_name[0] == '.' ||
            !thread_says(entry->d_name, "Name:\t", name, sizeof name) ||
            strcmp(name, "splitheap") != 0)
            continue;
        count++;
        sh_format(thread, size, "%s", entry->d_name);
    }
    closedir(threads);
    return count;
}

static unsigned helpers(void)
{
    char thread[16];
    return find_helpers(thread, sizeof thread);
}

/* Its name comes a moment after the thread. */
static bool helper_comes(void)
{
    for (unsigned waited = 0; waited < PATIENCE_MS && helpers() != 1; waited += 10)
        sleep_us(10000);
    return helpers() == 1;
}

/* ---- Scenes ---- */

/* Of a program that has one thread and waits. */
static void it_goes_without_being_asked(void)
{
    build();
    MUST(helpers() == 0);
    free_all();
    MUST(sh_options.decay_ms < 1000 || percent_there() > 50);
    MUST(falls_below(5));
    MUST(helpers() == 1);
}

static void *build_half(void *half)
{
    size_t middle = (COUNT + LARGE) / 2;
    build_some(half ? middle : 0, half ? COUNT + LARGE : middle);
    return NULL;
}

static void *free_each_second(void *unused)
{
    for (size_t i = 0; i < COUNT + LARGE; i += 2)
        sh_free(objects[i]);
    return NULL;
}

/* What ended threads left behind, freed by others. */
static void of_ended_threads_too(void)
{
    sh_free(
        sh_malloc(1)); /* where malloc is a sanitizer's, this one is not known yet */
    pthread_t one = start(build_half, NULL), two = start(build_half, &one);
    join(one);
    join(two);
    pthread_t other = start(free_each_second, NULL);
    for (size_t i = 1; i < COUNT + LARGE; i += 2)
        sh_free(objects[i]);
    join(other);
    MUST(falls_below(5));
    MUST(helpers() == 1);
}

static _Atomic uint32_t built, done;

static void *build_and_wait(void *unused)
{
    build();
    set_flag(&built, 1);
    await_flag(&done, 1);
    return NULL;
}

/* What a thread that only waits handed on, and others freed. */
static void of_waiting_threads_too(void)
{
    sh_free(sh_malloc(1));
    pthread_t other = start(build_and_wait, NULL);
    await_flag(&built, 1);
    free_all();
    MUST(falls_below(5));
    set_flag(&done, 1);
    join(other);
}

static void with_no_decay_at_once(void)
{
    build();
    MUST(percent_there() > 90);
    free_all();
    MUST(percent_there() < 5);
    MUST(helpers() == 0);
}

static void with_an_endless_one_never(void)
{
    build();
    free_all();
    sleep_us(300000);
    MUST(percent_there() > 90);
    MUST(helpers() == 0);
}

/* Who is busy does it on the way. */
static void busy_threads_do_it_themselves(void)
{
    build();
    free_all();
    for (unsigned waited = 0; waited < PATIENCE_MS && percent_there() >= 5;
         waited += 10) {
        errno = 77;
        for (int i = 0; i < 10; i++)
            sh_free(sh_malloc(100000));
        MUST(errno == 77);
        sleep_us(10000);
    }
    MUST(percent_there() < 5);
}

static void without_the_thread(void)
{
    busy_threads_do_it_themselves();
    MUST(helpers() == 0);
}

/* The kernel says no, whatever it is asked for; the program does not notice. */
static void forbid_threads(int error)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone3, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof filter / sizeof filter[0], filter};
    MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    MUST(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0);
}

static void where_threads_are_forbidden(void)
{
    forbid_threads(EAGAIN);
    busy_threads_do_it_themselves();
    MUST(helpers() == 0);
}

/* ---- What it does to the process ---- */

static void have_helper(void)
{
    build();
    free_all();
    MUST(helper_comes());
}

/* The C library's own signals reach it, no others: setgid waits for all threads. */
static void it_gets_no_signals(void)
{
    char thread[16], mask[64];
    have_helper();
    MUST(find_helpers(thread, sizeof thread) == 1);
    MUST(thread_says(thread, "SigBlk:\t", mask, sizeof mask));
    MUST(strtoull(mask, NULL, 16) ==
         (~0ull & ~(3ull << 31) & ~(1ull << 8 | 1ull << 18)));
    MUST(setgid(getgid()) == 0);
}

static void it_sleeps_where_there_is_nothing_to_do(void)
{
    static const char switches[] = "\nvoluntary_ctxt_switches:\t";
    char thread[16], before[64] = "", after[64] = "";
    have_helper();
    MUST(find_helpers(thread, sizeof thread) == 1);
    MUST(falls_below(1));
    for (unsigned waited = 0; waited < PATIENCE_MS; waited += 200) {
        thread_says(thread, switches, before, sizeof before);
        sleep_us(200000);
        thread_says(thread, switches, after, sizeof after);
        if (strcmp(before, after) == 0)
            break;
    }
    MUST(strcmp(before, after) == 0);
    /* And wakes up when there is. */
    build();
    free_all();
    MUST(falls_below(5));
}

static void in_the_child_of_a_fork(void)
{
    have_helper();
    MUST(falls_below(1));
    build();
    pid_t pid = fork();
    if (pid == 0) {
        free_all();
        MUST(falls_below(5));
        MUST(helpers() == 1);
        _exit(0);
    }
    int status = -1;
    free_all();
    MUST(falls_below(5));
    MUST(helpers() == 1);
    MUST(waitpid(pid, &status, 0) == pid && status == 0);
}

static void exec_takes_its_place(void)
{
    have_helper();
    build();
    free_all();
    execl("/bin/true", "true", NULL);
    _exit(98);
}

static void exit_while_it_works(void)
{
    have_helper();
    for (int i = 0; i < 3; i++) {
        build();
        free_all();
    }
    exit(0);
}

static void *end_last(void *unused)
{
    sleep_us(50000);
    have_helper();
    return NULL;
}

/* The process ends with the program's last thread; the thread sanitizer has one of its
 * own that keeps it. */
static void pthread_exit_of_all(void)
{
    if (SH_TSAN)
        return;
    alarm(60);
    have_helper();
    start(end_last, NULL);
    pthread_exit(NULL);
}

static void gc_collects_beside_it(void)
{
    have_helper();
    for (int round = 0; round < 5; round++) {
        build();
        for (int i = 1; i <= 1000; i++)
            MUST(gc_alloc((size_t)i * 10, 0));
        free_all();
        gc_collect();
    }
    MUST(falls_below(5));
}

#define FAST "decay_ms:50"

static const struct scene {
    const char *name, *conf;
    void (*play)(void);
    bool makes_threads; /* in the child of a fork, which sanitizers do not like */
} scenes[] = {
    {"default", "", it_goes_without_being_asked, false},
    {"decay", FAST, it_goes_without_being_asked, false},
    {"ended threads", FAST, of_ended_threads_too, false},
    {"waiting threads", FAST, of_waiting_threads_too, false},
    {"at once", "decay_ms:0", with_no_decay_at_once, false},
    {"never", "decay_ms:-1", with_an_endless_one_never, false},
    {"busy", FAST, busy_threads_do_it_themselves, false},
    {"no thread", FAST ",background:false", without_the_thread, false},
    {"forbidden", FAST, where_threads_are_forbidden, false},
    {"signals", FAST, it_gets_no_signals, false},
    {"sleep", FAST, it_sleeps_where_there_is_nothing_to_do, false},
    {"fork", FAST, in_the_child_of_a_fork, true},
    {"exec", FAST, exec_takes_its_place, false},
    {"exit", FAST, exit_while_it_works, false},
    {"pthread_exit", FAST, pthread_exit_of_all, false},
    {"collect", FAST, gc_collects_beside_it, false},
};

#define SCENES (sizeof scenes / sizeof scenes[0])

/* ---- Running them ---- */

static void run_with(void *arg)
{
    const struct scene *scene = arg;
    char number[8];
    sh_format(number, sizeof number, "%zu", (size_t)(scene - scenes));
    setenv("SPLITHEAP_CONF", scene->conf, 1);
    execl("/proc/self/exe", "api_decay", number, NULL);
    _exit(99);
}

static void play(void **state)
{
    const struct scene *scene = *state;
    struct child child;
    if (scene->makes_threads && !SH_INTERPOSE)
        skip();
    child_run(&child, run_with, (void *)(uintptr_t)scene);
    if (!child_returned(&child))
        fail_msg("%s: status %#x: %s", scene->name, child.status, child.text);
}

int main(int argc, char **argv)
{
    struct CMUnitTest tests[SCENES];
    if (argc > 1) {
        scenes[strtoul(argv[1], NULL, 10)].play();
        return 0;
    }
    for (size_t i = 0; i < SCENES; i++)
        tests[i] = (struct CMUnitTest){.name = scenes[i].name,
            .test_func = play,
            .initial_state = (void *)(uintptr_t)&scenes[i]};
    return run_on_clean_stack(tests, NULL, NULL);
}
