/* SPDX-License-Identifier: MIT */
/*
 * meter - runs a program, measures it, and writes what it found as a line of JSON.
 *
 *     meter [-p LIBRARY] [-s SAMPLES] REPORT COMMAND [ARGUMENT...]
 *
 *     seconds    wall time
 *     peak_kib   the largest resident memory of the program, or of one of its children
 *     end_kib    its resident memory when it was last seen, at most SAMPLE_MS before its end
 *     faults     page faults of it and its children
 *
 * The kernel counts towards a program's peak what its parent had when it started it. A
 * large parent would hide a small program; this one has little more than a MiB. With -p
 * the library is preloaded into the program, and not into this one. With -s the resident
 * memory is written to SAMPLES as it goes: seconds and KiB, a line each.
 *
 * It ends as the program does: with its exit status, or by the same signal.
 */
#include "bench/measure.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SAMPLE_MS = 10 };

extern char **environ;

struct run {
    pid_t pid;
    int status;
    double started;
    double seconds;
    long end_kib;
    struct rusage usage; /* its children's, too */
    FILE *samples;       /* or NULL */
};

static void start(struct run *run, char **words, const sigset_t *mask)
{
    posix_spawnattr_t attributes;

    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigmask(&attributes, mask);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    run->started = bench_now();
    if (posix_spawnp(&run->pid, words[0], NULL, &attributes, words, environ) != 0)
        bench_fail("cannot start the program");
    posix_spawnattr_destroy(&attributes);
}

/* Its resident memory; 0 once it has given it up. */
static long resident_kib(pid_t pid)
{
    char path[64], text[128];
    long size, resident;

    snprintf(path, sizeof(path), "/proc/%ld/statm", (long)pid);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = file < 0 ? -1 : read(file, text, sizeof(text) - 1);
    if (file >= 0)
        close(file);
    if (length <= 0)
        return 0;
    text[length] = '\0';
    if (sscanf(text, "%ld %ld", &size, &resident) != 2)
        return 0;
    return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

static void sample(struct run *run)
{
    long kib = resident_kib(run->pid);

    if (kib == 0)
        return;
    run->end_kib = kib;
    if (run->samples != NULL)
        fprintf(run->samples, "%.3f %ld\n", bench_now() - run->started, kib);
}

/* SIGCHLD is blocked, and waited for. */
static void watch(struct run *run, const sigset_t *child)
{
    const struct timespec pause = {.tv_nsec = SAMPLE_MS * 1000000L};

    while (wait4(run->pid, &run->status, WNOHANG, &run->usage) == 0) {
        sample(run);
        sigtimedwait(child, NULL, &pause);
    }
    run->seconds = bench_now() - run->started;
}

static void report(const struct run *run, const char *path)
{
    FILE *file = fopen(path, "w");

    if (file == NULL)
        bench_fail("cannot write the report");
    fprintf(file,
        "{\"seconds\": %.6f, \"peak_kib\": %ld, \"end_kib\": %ld, \"faults\": %ld}\n",
        run->seconds, run->usage.ru_maxrss, run->end_kib, run->usage.ru_minflt);
    if (fclose(file) != 0 || (run->samples != NULL && fclose(run->samples) != 0))
        bench_fail("cannot write the report");
}

static int end_alike(int status)
{
    const struct rlimit no_core = {0, 0};

    if (WIFEXITED(status))
        return WEXITSTATUS(status);
    setrlimit(RLIMIT_CORE, &no_core);
    signal(WTERMSIG(status), SIG_DFL);
    raise(WTERMSIG(status));
    return 128 + WTERMSIG(status);
}

static _Noreturn void usage(void)
{
    fprintf(stderr,
        "usage: meter [-p LIBRARY] [-s SAMPLES] REPORT COMMAND [ARGUMENT...]\n");
    exit(2);
}

int main(int argc, char **argv)
{
    struct run run = {0};
    sigset_t child, mask;
    int option;

    while ((option = getopt(argc, argv, "+p:s:")) != -1) {
        if (option == 'p')
            setenv("LD_PRELOAD", optarg, 1);
        else if (option != 's')
            usage();
        else if ((run.samples = fopen(optarg, "we")) == NULL)
            bench_fail("cannot write the samples");
    }
    if (argc < optind + 2)
        usage();
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, &mask);
    start(&run, argv + optind + 1, &mask);
    watch(&run, &child);
    report(&run, argv[optind]);
    return end_alike(run.status);
}
