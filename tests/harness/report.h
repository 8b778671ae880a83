/* SPDX-License-Identifier: MIT */
/*
 * What the harness says: failures, which end the program, progress, and the summary.
 * Written by hand, past stdio, whose locks a child of a fork may find taken.
 */
#ifndef SH_HARNESS_REPORT_H
#define SH_HARNESS_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "lib/compiler.h"

#define PRINTS(text, first) __attribute__((format(printf, text, first)))

struct entry;

#define EXIT_FAILED 1
#define EXIT_USAGE 2

/* Signals that end the program are reported as failures. */
void report_init(void);

/*
 * The library did wrong. Says so, with the seed, the scenario, the ledger's entry (NULL:
 * none) and the heap's map there, and ends the program. `kind` is a word for it.
 */
_Noreturn void fail(const char *kind, struct entry *entry, const char *format, ...)
    PRINTS(3, 4) SH_COLD;

/* The same, about two objects. */
_Noreturn void fail_pair(const char *kind, struct entry *entry, struct entry *other,
    const char *what) SH_COLD;

/* The harness cannot go on, for no fault of the library's. */
_Noreturn void give_up(const char *format, ...) PRINTS(1, 2) SH_COLD;

void say(int fd, const char *format, ...) PRINTS(2, 3);

/* One line, now and then. */
void report_progress(double seconds);

/* At the end of a run without failures: text, and JSON where settings.json says. */
void report_summary(double seconds);

/* From here on the end comes within so many seconds, or that is a failure. */
void report_expect_end(const char *of_what, double patience);

/* In the child of a fork, whose failures are told by its parent too. */
void report_fork_child(pid_t parent);

#endif /* SH_HARNESS_REPORT_H */
