/* SPDX-License-Identifier: MIT */
/*
 * Runs a function in a child process and tells how it ended and what it wrote to
 * standard error: for what aborts, and for what must not outlive a test (limits).
 */
#ifndef SH_TESTS_CHILD_H
#define SH_TESTS_CHILD_H

#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHILD_RETURNED 0

struct child {
    pid_t pid;
    int status;      /* as waitpid gives it */
    unsigned writes; /* to standard error */
    char text[2048]; /* what they wrote */
};

/* The test program's own handlers would report the signal instead of dying of it. */
static inline void child_prepare(int stderr_fd)
{
    static const int signals[] = {SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS};
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++)
        signal(signals[i], SIG_DFL);
    struct rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    dup2(stderr_fd, STDERR_FILENO);
}

/* A pipe in packet mode: one read gives what one write wrote. */
static inline void child_run(struct child *child, void (*function)(void *), void *arg)
{
    memset(child, 0, sizeof *child);
    int fds[2];
    if (pipe2(fds, O_DIRECT) != 0)
        _exit(99);
    pid_t pid = fork();
    if (pid == 0) {
        child_prepare(fds[1]);
        function(arg);
        _exit(CHILD_RETURNED);
    }
    child->pid = pid;
    close(fds[1]);
    size_t len = 0;
    ssize_t n;
    while ((n = read(fds[0], child->text + len, sizeof child->text - 1 - len)) > 0) {
        len += (size_t)n;
        child->writes++;
    }
    close(fds[0]);
    waitpid(pid, &child->status, 0);
}

/* It aborted, with this and nothing else on standard error, in one write. */
static inline bool child_aborted_with(const struct child *child, const char *text)
{
    return WIFSIGNALED(child->status) && WTERMSIG(child->status) == SIGABRT &&
           child->writes == 1 && strcmp(child->text, text) == 0;
}

static inline bool child_returned(const struct child *child)
{
    return WIFEXITED(child->status) && WEXITSTATUS(child->status) == CHILD_RETURNED;
}

#endif /* SH_TESTS_CHILD_H */
