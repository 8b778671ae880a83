/* SPDX-License-Identifier: MIT */
/*
 * Options: the parser and the texts that the table makes. See lib/options.h.
 *
 *   "decay_ms:50,junk:true" --> struct piece, one a key --> the table's parser by type
 *
 * No lock, no memory but the stack and the environment: any thread.
 */
#include "lib/options.h"

#include <limits.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>

#include "lib/bits.h"
#include "lib/compiler.h"
#include "lib/os.h"

/* A longer value of the variable is not used at all. */
#define CONF_MAX 2048

/* What a complaint quotes of the user's text. */
#define QUOTED_MAX 80

struct sh_options sh_options = SH_OPTIONS_DEFAULT;
static const struct sh_options defaults = SH_OPTIONS_DEFAULT;

/* ---- The table ---- */

enum type { TYPE_flag, TYPE_choice, TYPE_number, TYPE_bytes, TYPE_signal, TYPE_text };

struct option {
    const char *key;
    enum type type;
    size_t at;         /* of the field, in struct sh_options */
    const char *words; /* of a choice; for people: what a text is */
    int low, high;     /* of a number */
    const char *what;
};

#define SH_BOOL .words = "false|true"
#define SH_WORDS(list) .words = (list)
#define SH_RANGE(lowest, highest) .low = (lowest), .high = (highest)
#define SH_BYTES .words = "bytes, or with k, m or g behind"
#define SH_SIGNAL .words = "a signal's name or number, 0: none"
#define SH_TEXT(description) .words = (description)

#define OPTION(key_, type_, initial, allowed, what_)                                   \
    {.key = #key_,                                                                     \
        .type = TYPE_##type_,                                                          \
        .at = offsetof(struct sh_options, key_),                                       \
        allowed,                                                                       \
        .what = (what_)},

static const struct option table[] = {SH_OPTIONS(OPTION)};

#define OPTION_COUNT (sizeof table / sizeof table[0])

static void *field(struct sh_options *options, const struct option *option)
{
    return (char *)options + option->at;
}

static const void *field_of(
    const struct sh_options *options, const struct option *option)
{
    return (const char *)options + option->at;
}

static void print_allowed(const struct sh_sink *sink, const struct option *option)
{
    if (option->type == TYPE_number)
        sh_print(sink, "%d..%d", option->low, option->high);
    else if (option->type == TYPE_text)
        sh_print(sink, "%s of at most %d bytes", option->words, SH_OPTION_TEXT_MAX - 1);
    else
        sh_print(sink, "%s", option->words);
}

/* ---- Pieces of text ---- */

struct piece {
    const char *text;
    size_t len;
};

static struct piece piece_of(const char *text)
{
    return (struct piece){.text = text, .len = strlen(text)};
}

static bool is_word(struct piece piece, const char *word)
{
    return strlen(word) == piece.len && memcmp(piece.text, word, piece.len) == 0;
}

/* Up to the first `end`, which it skips, or all of it. */
static struct piece cut(struct piece *rest, char end)
{
    const char *found = memchr(rest->text, end, rest->len);
    struct piece piece = *rest;
    piece.len = found ? (size_t)(found - rest->text) : rest->len;
    size_t skipped = piece.len + (found != NULL);
    rest->text += skipped;
    rest->len -= skipped;
    return piece;
}

/* False: it is no number, or none that an int holds. */
static bool number_of(struct piece piece, int *number)
{
    bool negative = piece.len > 0 && piece.text[0] == '-';
    int64_t n = 0;
    if (piece.len == (size_t)negative)
        return false;
    for (size_t i = negative; i < piece.len; i++) {
        if (piece.text[i] < '0' || piece.text[i] > '9' || n > INT_MAX)
            return false;
        n = n * 10 + (piece.text[i] - '0');
    }
    if (n > INT_MAX)
        return false;
    *number = (int)(negative ? -n : n);
    return true;
}

/* A number of bytes, of KiB, MiB or GiB. False: it is none, or none that a size_t holds. */
static bool bytes_of(struct piece piece, size_t *bytes)
{
    static const char units[] = "kmg";
    unsigned shift = 0;
    size_t n = 0;
    const char *unit = piece.len > 1 ? strchr(units, piece.text[piece.len - 1]) : NULL;
    if (unit && *unit) {
        shift = 10 * (unsigned)(unit - units + 1);
        piece.len--;
    }
    for (size_t i = 0; i < piece.len; i++) {
        size_t digit = (size_t)(piece.text[i] - '0');
        if (digit > 9 || n > (SIZE_MAX - digit) / 10)
            return false;
        n = n * 10 + digit;
    }
    if (piece.len == 0 || n > SIZE_MAX >> shift)
        return false;
    *bytes = n << shift;
    return true;
}

/* ---- Words and signals ---- */

/* The number of the word in the list; -1: it is none of them. */
static int number_of_word(const char *words, struct piece piece)
{
    struct piece rest = piece_of(words);
    for (int i = 0; rest.len > 0; i++) {
        struct piece word = cut(&rest, '|');
        if (word.len == piece.len && memcmp(word.text, piece.text, word.len) == 0)
            return i;
    }
    return -1;
}

static struct piece word_of_number(const char *words, int number)
{
    struct piece rest = piece_of(words), word;
    do {
        word = cut(&rest, '|');
    } while (number-- > 0);
    return word;
}

/* Those that are sent to ask a program for something. */
static const struct {
    const char *name;
    int number;
} signals[] = {
    {"HUP", SIGHUP},
    {"USR1", SIGUSR1},
    {"USR2", SIGUSR2},
    {"ALRM", SIGALRM},
    {"CONT", SIGCONT},
    {"VTALRM", SIGVTALRM},
    {"PROF", SIGPROF},
    {"WINCH", SIGWINCH},
};

#define SIGNAL_COUNT (sizeof signals / sizeof signals[0])

static bool is_named_signal(int number)
{
    for (size_t i = 0; i < SIGNAL_COUNT; i++)
        if (signals[i].number == number)
            return true;
    return false;
}

static bool signal_of(struct piece piece, int *number)
{
    if (number_of(piece, number))
        return *number == 0 || is_named_signal(*number) ||
               (*number >= SIGRTMIN && *number <= SIGRTMAX);
    if (piece.len > 3 && memcmp(piece.text, "SIG", 3) == 0)
        piece = (struct piece){piece.text + 3, piece.len - 3};
    for (size_t i = 0; i < SIGNAL_COUNT; i++) {
        if (is_word(piece, signals[i].name)) {
            *number = signals[i].number;
            return true;
        }
    }
    return false;
}

/* ---- Parsing ---- */

/* Lines are put together first, so that those of several processes do not mix. */
struct text {
    char *at;
    size_t left;
};

static void append(void *data, const char *piece, size_t len)
{
    struct text *text = data;
    len = sh_min(len, text->left);
    memcpy(text->at, piece, len);
    text->at += len;
    text->left -= len;
}

/* False: the value is not one that the option may have. */
static bool set_value(
    struct sh_options *options, const struct option *option, struct piece value)
{
    int n = 0;
    switch (option->type) {
    case TYPE_flag:
        n = number_of_word(option->words, value);
        if (n >= 0)
            *(bool *)field(options, option) = n;
        return n >= 0;
    case TYPE_choice:
        n = number_of_word(option->words, value);
        break;
    case TYPE_number:
        if (!number_of(value, &n) || n < option->low || n > option->high)
            return false;
        *(int *)field(options, option) = n;
        return true;
    case TYPE_bytes:
        return bytes_of(value, field(options, option));
    case TYPE_signal:
        n = signal_of(value, &n) ? n : -1;
        break;
    case TYPE_text:
        if (value.len >= SH_OPTION_TEXT_MAX)
            return false;
        memcpy(field(options, option), value.text, value.len);
        ((char *)field(options, option))[value.len] = '\0';
        return true;
    }
    if (n >= 0)
        *(int *)field(options, option) = n;
    return n >= 0;
}

static const struct option *find_option(struct piece key)
{
    for (size_t i = 0; i < OPTION_COUNT; i++)
        if (is_word(key, table[i].key))
            return &table[i];
    return NULL;
}

static int quoted(struct piece piece)
{
    return (int)sh_min(piece.len, QUOTED_MAX);
}

#define COMPLAINT "splitheap: " SH_OPTIONS_VARIABLE ": "

static void complain_value(
    const struct sh_sink *sink, const struct option *option, struct piece value)
{
    char line[CONF_MAX];
    struct text text = {.at = line, .left = sizeof line};
    struct sh_sink whole = {.data = &text, .write = append};
    sh_print(&whole, COMPLAINT "%s:%.*s is not used: allowed is ", option->key,
        quoted(value), value.text);
    print_allowed(&whole, option);
    sh_print(sink, "%.*s\n", (int)(sizeof line - text.left), line);
}

static void parse_entry(
    struct sh_options *options, struct piece entry, const struct sh_sink *complaints)
{
    struct piece value = entry;
    struct piece key = cut(&value, ':');
    const struct option *option = find_option(key);
    if (!option)
        sh_print(complaints,
            COMPLAINT "there is no option '%.*s'; " SH_OPTIONS_VARIABLE
                      "=help:true lists those that are\n",
            quoted(key), key.text);
    else if (key.len == entry.len)
        sh_print(complaints, COMPLAINT "%s has no value; write %s:value\n", option->key,
            option->key);
    else if (!set_value(options, option, value))
        complain_value(complaints, option, value);
}

void sh_options_parse(
    struct sh_options *options, const char *text, const struct sh_sink *complaints)
{
    struct piece rest = piece_of(text);
    while (rest.len > 0) {
        struct piece entry = cut(&rest, ',');
        if (entry.len > 0)
            parse_entry(options, entry, complaints);
    }
}

/* ---- For people ---- */

static void print_value(const struct sh_sink *sink, const struct sh_options *options,
    const struct option *option)
{
    const void *value = field_of(options, option);
    struct piece word;
    switch (option->type) {
    case TYPE_flag:
        sh_print(sink, "%s", *(const bool *)value ? "true" : "false");
        break;
    case TYPE_choice:
        word = word_of_number(option->words, *(const int *)value);
        sh_print(sink, "%.*s", (int)word.len, word.text);
        break;
    case TYPE_number:
    case TYPE_signal:
        sh_print(sink, "%d", *(const int *)value);
        break;
    case TYPE_bytes:
        sh_print(sink, "%zu", *(const size_t *)value);
        break;
    case TYPE_text:
        sh_print(sink, "%s", (const char *)value);
        break;
    }
}

/* One option in three lines: the key with its default, what is allowed, what it does. */
void sh_options_help(const struct sh_sink *sink)
{
    sh_print(sink,
        "splitheap: " SH_OPTIONS_VARIABLE "=key:value,key:value sets, each with its "
        "default here:\n");
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        sh_print(sink, "  %s:", table[i].key);
        print_value(sink, &defaults, &table[i]);
        sh_print(sink, "  (");
        print_allowed(sink, &table[i]);
        sh_print(sink, ")\n      %s\n", table[i].what);
    }
}

static bool same_value(const struct sh_options *one, const struct sh_options *other,
    const struct option *option)
{
    const void *a = field_of(one, option), *b = field_of(other, option);
    if (option->type == TYPE_text)
        return strcmp(a, b) == 0;
    if (option->type == TYPE_bytes)
        return *(const size_t *)a == *(const size_t *)b;
    if (option->type == TYPE_flag)
        return *(const bool *)a == *(const bool *)b;
    return *(const int *)a == *(const int *)b;
}

void sh_options_show(const struct sh_options *options, const struct sh_sink *sink)
{
    const char *before = "";
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        if (same_value(options, &defaults, &table[i]))
            continue;
        sh_print(sink, "%s%s:", before, table[i].key);
        print_value(sink, options, &table[i]);
        before = ",";
    }
}

/* ---- From the environment ---- */

static void say_nothing(
    SH_UNUSED void *data, SH_UNUSED const char *text, SH_UNUSED size_t len)
{
}

/* Not inline: its buffer is to be gone again. */
static SH_NOINLINE void parse_environment(
    struct sh_options *options, const struct sh_sink *complaints)
{
    char text[CONF_MAX];
    size_t len = sh_os_environment(SH_OPTIONS_VARIABLE, text, sizeof text);
    if (len >= sizeof text)
        sh_print(complaints, COMPLAINT "not used: it is longer than %zu bytes\n",
            sizeof text - 1);
    else if (len > 0)
        sh_options_parse(options, text, complaints);
}

void sh_options_read(struct sh_options *options)
{
    static const struct sh_sink nowhere = {.data = NULL, .write = say_nothing};
    *options = defaults;
    parse_environment(options, &nowhere);
}

static SH_NOINLINE void say_what_is_set(const struct sh_options *options)
{
    char line[CONF_MAX];
    struct text text = {.at = line, .left = sizeof line};
    struct sh_sink whole = {.data = &text, .write = append};
    sh_options_show(options, &whole);
    int len = (int)(sizeof line - text.left);
    sh_print(&sh_stderr_sink, "splitheap: in use; set: %.*s\n", len, line);
}

void sh_options_tell(void)
{
    struct sh_options options = defaults;
    parse_environment(&options, &sh_stderr_sink);
    if (options.help)
        sh_options_help(&sh_stderr_sink);
    if (options.verbose)
        say_what_is_set(&options);
}
