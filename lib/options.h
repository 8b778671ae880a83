/* SPDX-License-Identifier: MIT */
/*
 * What a user may set, in one environment variable: SPLITHEAP_CONF=key:value,key:value.
 *
 * SH_OPTIONS is the one table. It makes the struct, the defaults, the parser and the
 * help text; the lists in docs/ are held to it by tests/house/lists.py.
 *
 * Options are read once, when the heap is first used, and no fast path asks for one:
 * those that change what an allocation does send allocations the slow way instead.
 */
#ifndef SH_LIB_OPTIONS_H
#define SH_LIB_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/print.h"

#define SH_OPTIONS_VARIABLE "SPLITHEAP_CONF"

/* The values of options with words, in the order of the words in the table. */
enum sh_thp { SH_THP_DEFAULT, SH_THP_ALWAYS, SH_THP_NEVER };
enum sh_stats_form { SH_STATS_NONE, SH_STATS_TEXT, SH_STATS_JSON };
enum sh_misuse { SH_MISUSE_ABORT, SH_MISUSE_REPORT };
enum sh_pace { SH_PACE_PROPORTIONAL, SH_PACE_BALANCE };
enum sh_generations {
    SH_GENERATIONS_FALSE,
    SH_GENERATIONS_TRUE,
    SH_GENERATIONS_ALWAYS,
};
enum sh_junk { SH_JUNK_NONE, SH_JUNK_ALL, SH_JUNK_ALLOC, SH_JUNK_FREE };

/* Of values that are texts, the terminating zero included. */
#define SH_OPTION_TEXT_MAX 256

/*
 * X(key, type, default, allowed, what it does), by key. Types and what `allowed` is:
 *   flag    bool                                  SH_BOOL
 *   choice  int, the number of the word           SH_WORDS("word|word")
 *   number  int                                   SH_RANGE(lowest, highest)
 *   bytes   size_t                                SH_BYTES
 *   signal  int, a signal's number, 0: none       SH_SIGNAL
 *   text    char[SH_OPTION_TEXT_MAX]              SH_TEXT("what it is")
 */
/* clang-format off */
#define SH_OPTIONS(X)                                                                  \
    X(background, flag, true, SH_BOOL,                                                 \
        "a thread of the library's own gives memory back while the program is idle")   \
    X(decay_ms, number, 1000, SH_RANGE(-1, 86400000),                                  \
        "milliseconds that freed memory is kept for reuse before it goes back to the " \
        "system; 0: it goes at once; -1: it stays")                                    \
    X(finalise, choice, 0, SH_WORDS("at_once|on_demand|in_thread"),                    \
        "who runs finalisers, unless the program says: the thread that collected, who "  \
        "calls gc_run_finalisers, or a thread of the library's own")                   \
    X(finalise_at_exit, flag, false, SH_BOOL,                                          \
        "runs the finalisers of all objects when the program exits")                   \
    X(gc_log, text, "", SH_TEXT("stderr or a path"),                                   \
        "writes a line of JSON after each collection; %p in the path is the number "   \
        "of the process")                                                              \
    X(generations, choice, SH_GENERATIONS_TRUE, SH_WORDS("false|true|always"),         \
        "collections that look at new objects only, where they pay and the system "    \
        "can tell which pages were written to (Linux 6.7); always: also where they "   \
        "do not pay, or a filter of system calls might object")                        \
    X(help, flag, false, SH_BOOL,                                                      \
        "prints this list to standard error")                                          \
    X(junk, choice, SH_JUNK_NONE, SH_WORDS("false|true|alloc|free"),                   \
        "fills what malloc returns with bytes a5, and what is freed with bytes 5a; "   \
        "slow, to find mistakes")                                                      \
    X(markers, number, 0, SH_RANGE(0, 16),                                             \
        "threads that mark in a collection; 0: as many as there are processors")       \
    X(max_heap, bytes, 0, SH_BYTES,                                                    \
        "the most that the heap may take, as by gc_set_max_heap; 0: no limit")         \
    X(misuse, choice, SH_MISUSE_ABORT, SH_WORDS("abort|report"),                       \
        "after the message about a misused pointer the program ends, or goes on as "   \
        "if the call had not been made")                                               \
    X(pace, choice, SH_PACE_BALANCE, SH_WORDS("proportional|balance"),            \
        "what may be allocated before the next collection: a share of what survived, " \
        "or by its square root, more where much is allocated and less where marking "  \
        "is quick")                                                                    \
    X(pace_floor, bytes, (size_t)4 << 20, SH_BYTES,                                   \
        "what may be allocated in any case before the next collection")                \
    X(pace_percent, number, 100, SH_RANGE(5, 10000),                                   \
        "this share, in per cent; beside balance the number 100 means its own")        \
    X(stats_at_exit, choice, SH_STATS_NONE, SH_WORDS("false|text|json"),               \
        "writes statistics when the program exits")                                    \
    X(stats_file, text, "", SH_TEXT("a path"),                                         \
        "the file to append statistics to, instead of standard error; %p in it is "    \
        "the number of the process")                                                   \
    X(stats_signal, signal, 0, SH_SIGNAL,                                              \
        "writes statistics when this signal comes, unless the program handles it")     \
    X(stats_signal_json, flag, false, SH_BOOL,                                         \
        "what the signal writes is JSON, not text for people")                         \
    X(stop_signal, signal, 0, SH_SIGNAL,                                               \
        "the signal that stops threads for a collection, unless the program chose one; "  \
        "0: SIGURG")                                                                   \
    X(thp, choice, SH_THP_DEFAULT, SH_WORDS("default|always|never"),                   \
        "transparent huge pages: as the system is set, or wanted, or not wanted")      \
    X(verbose, flag, false, SH_BOOL,                                                   \
        "says at the start that splitheap is in use, and what is set")                 \
    X(zero, flag, false, SH_BOOL,                                                      \
        "clears what malloc returns; slow, to make mistakes harmless")
/* clang-format on */

#define SH_OPTION_FIELD_flag(key) bool key
#define SH_OPTION_FIELD_choice(key) int key
#define SH_OPTION_FIELD_number(key) int key
#define SH_OPTION_FIELD_bytes(key) size_t key
#define SH_OPTION_FIELD_signal(key) int key
#define SH_OPTION_FIELD_text(key) char key[SH_OPTION_TEXT_MAX]
#define SH_OPTION_FIELD(key, type, ...) SH_OPTION_FIELD_##type(key);

struct sh_options {
    SH_OPTIONS(SH_OPTION_FIELD)
};

/* What holds. Its defaults until the heap is first used; from then on it stays. */
extern struct sh_options sh_options;

#define SH_OPTION_VALUE(key, type, initial, ...) .key = initial,
#define SH_OPTIONS_DEFAULT                                                             \
    {                                                                                  \
        SH_OPTIONS(SH_OPTION_VALUE)                                                    \
    }

/*
 * Sets in *options what `text` says. Each part of it that says nothing usable is told
 * to `complaints`, one line each, and leaves the option as it was.
 */
void sh_options_parse(
    struct sh_options *options, const char *text, const struct sh_sink *complaints);

/* The table, for people; and the options that are not at their default, as text that
 * could be parsed again. */
void sh_options_help(const struct sh_sink *sink);
void sh_options_show(const struct sh_options *options, const struct sh_sink *sink);

/*
 * What the environment sets, or the defaults; read reports nothing, so that it can be
 * done before who is first is known, and tell reports what is to be reported, to
 * standard error. Neither uses malloc or a lock. Both ignore the environment of a
 * process that was started with more rights than its user has.
 */
void sh_options_read(struct sh_options *options);
void sh_options_tell(void);

#endif /* SH_LIB_OPTIONS_H */
