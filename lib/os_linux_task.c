/* SPDX-License-Identifier: MIT */
/*
 * The process's threads as the kernel knows them, of lib/os_thread.h on Linux: how many
 * there are, which, and what one of them is doing, from /proc/self/task.
 *
 * Locks: none. Any thread, while the world is stopped, too.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include "lib/os_thread.h"

#include <asm/prctl.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "lib/bits.h"
#include "lib/os_linux_call.h"
#include "lib/print.h"

#define TASKS "/proc/self/task"

/* ---- How many, and which ---- */

/* The directory's link count: two, and one a thread. */
SH_NO_SANITIZE size_t sh_os_thread_count(void)
{
    struct stat status;
    long error = sh_os_call4(SYS_newfstatat, AT_FDCWD, (long)TASKS, (long)&status, 0);
    return error == 0 && status.st_nlink > 2 ? (size_t)status.st_nlink - 2 : 0;
}

struct entry {
    uint64_t inode, offset;
    uint16_t length;
    uint8_t type;
    char name[];
};

/* 0 of "." and "..". */
SH_NO_SANITIZE static uint32_t number_at(const char *text)
{
    uint32_t number = 0;
    for (; *text >= '0' && *text <= '9'; text++)
        number = number * 10 + (uint32_t)(*text - '0');
    return number;
}

SH_NO_SANITIZE static void visit_entries(
    const char *at, const char *end, sh_os_tid_fn *visit, void *context)
{
    while (at < end) {
        const struct entry *entry = (const struct entry *)(const void *)at;
        uint32_t tid = number_at(entry->name);
        if (tid)
            visit(context, tid);
        at += entry->length;
    }
}

SH_NO_SANITIZE int sh_os_each_thread(sh_os_tid_fn *visit, void *context)
{
    char chunk[4096] SH_ALIGNED(8);
    long got, dir = sh_os_call4(SYS_openat, AT_FDCWD, (long)TASKS,
                  O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (dir < 0)
        return (int)-dir;
    while ((got = sh_os_call4(
                SYS_getdents64, dir, (long)chunk, (long)sizeof chunk, 0)) > 0)
        visit_entries(chunk, chunk + got, visit, context);
    sh_os_call4(SYS_close, dir, 0, 0, 0);
    return (int)-got;
}

/* ---- What one is doing ---- */

SH_NO_SANITIZE static long open_file(uint32_t tid, const char *name)
{
    char path[64];
    sh_format(path, sizeof path, TASKS "/%u/%s", (unsigned)tid, name);
    return sh_os_call4(SYS_openat, AT_FDCWD, (long)path, O_RDONLY | O_CLOEXEC, 0);
}

/* The file `name` of the thread as a string; "" where it cannot be read. */
SH_NO_SANITIZE static void read_file(
    uint32_t tid, const char *name, char *text, size_t size)
{
    text[0] = '\0';
    long file = open_file(tid, name);
    if (file < 0)
        return;
    long got = sh_os_call4(SYS_read, file, (long)text, (long)size - 1, 0);
    sh_os_call4(SYS_close, file, 0, 0, 0);
    text[got > 0 ? got : 0] = '\0';
}

/* What follows `key` in a line "Key:\tvalue"; NULL: it is another line. */
static const char *value_of(const char *line, const char *key)
{
    size_t length = strlen(key);
    if (strncmp(line, key, length) != 0)
        return NULL;
    for (line += length; *line == '\t' || *line == ' ';)
        line++;
    return line;
}

static uint64_t hex_of(const char *text)
{
    uint64_t value = 0;
    for (;; text++) {
        unsigned digit = (unsigned)*text - '0';
        if (digit > 9)
            digit = ((unsigned)*text | 0x20) - 'a' + 10;
        if (digit > 15 || (digit > 9 && ((unsigned)*text | 0x20) < 'a'))
            return value;
        value = value << 4 | digit;
    }
}

/* As much of a line as tells what is wanted of it. */
struct line {
    char text[64];
    size_t length;
};

static void take_line(const char *line, struct sh_os_task *task)
{
    const char *value;
    if ((value = value_of(line, "State:")))
        task->state = *value;
    else if ((value = value_of(line, "SigBlk:")))
        task->blocked = hex_of(value);
    else if ((value = value_of(line, "SigPnd:")))
        task->pending = hex_of(value);
}

static void take_piece(
    struct line *line, const char *piece, size_t size, struct sh_os_task *task)
{
    for (size_t i = 0; i < size; i++) {
        if (piece[i] == '\n') {
            line->text[line->length] = '\0';
            take_line(line->text, task);
            line->length = 0;
        } else if (line->length < sizeof line->text - 1) {
            line->text[line->length++] = piece[i];
        }
    }
}

/* Some lines may be of any length: the groups of its user. */
bool sh_os_thread_look(uint32_t tid, struct sh_os_task *task)
{
    char piece[512];
    struct line line = {.length = 0};
    *task = (struct sh_os_task){.state = '?'};
    long got, file = open_file(tid, "status");
    if (file < 0)
        return false;
    while ((got = sh_os_call4(SYS_read, file, (long)piece, (long)sizeof piece, 0)) > 0)
        take_piece(&line, piece, (size_t)got, task);
    sh_os_call4(SYS_close, file, 0, 0, 0);
    return task->state != '?';
}

static void cut_at_newline(char *text)
{
    char *end = strchr(text, '\n');
    if (end)
        *end = '\0';
}

/* "running", or the number of a system call in decimals, its arguments, sp and pc, each
 * in hexadecimals. */
static void parse_call(const char *text, struct sh_os_place *place)
{
    place->call = -1;
    if (*text < '0' || *text > '9')
        return;
    place->call = (long)number_at(text);
    const char *words[8] = {NULL};
    size_t count = 0;
    for (const char *at = strchr(text, ' '); at && count < 8; at = strchr(at + 1, ' '))
        words[count++] = at + 3; /* " 0x" */
    if (count == 8)
        place->pc = (uintptr_t)hex_of(words[7]);
}

void sh_os_thread_where(uint32_t tid, struct sh_os_place *place)
{
    char text[256];
    read_file(tid, "comm", place->name, sizeof place->name);
    cut_at_newline(place->name);
    read_file(tid, "wchan", place->wait, sizeof place->wait);
    read_file(tid, "syscall", text, sizeof text);
    place->pc = 0;
    parse_call(text, place);
}

/* ---- Its thread-local storage ---- */

/* The C library's descriptor, where the thread pointer leads, begins with that. Where the
 * system does not tell, the thread is taken for one of the C library's. */
SH_NO_SANITIZE bool sh_os_has_thread_locals(void)
{
    uintptr_t pointer = 0;
    if (sh_os_call4(SYS_arch_prctl, ARCH_GET_FS, (long)&pointer, 0, 0) != 0)
        return true;
    return pointer && *(const uintptr_t *)pointer == pointer;
}
