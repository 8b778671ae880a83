/* SPDX-License-Identifier: MIT */
/*
 * What the process was started with, and files that it writes to, of lib/os.h on Linux.
 *
 * The first malloc of a process may come from the loader, before the C library was told
 * where the environment is: then the kernel's own record of it is read.
 *
 * Locks: none. Any thread, signal handlers included.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include "lib/os.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/os_linux_call.h"

/* ---- The environment ---- */

/* A text whose end may be cut off. */
struct cut {
    char *text;
    size_t size;
    size_t len; /* of all of it */
};

static void put(struct cut *cut, char c)
{
    if (cut->len + 1 < cut->size)
        cut->text[cut->len] = c;
    cut->len++;
}

static void from_memory(char **entries, const char *name, struct cut *value)
{
    size_t len = strlen(name);
    for (; *entries; entries++) {
        if (strncmp(*entries, name, len) != 0 || (*entries)[len] != '=')
            continue;
        for (const char *at = *entries + len + 1; *at; at++)
            put(value, *at);
        return;
    }
}

struct file {
    long fd;
    long at, len; /* of `chunk` */
    char chunk[1024];
};

/* -1: the end. */
static int next_byte(struct file *file)
{
    if (file->at == file->len) {
        do {
            file->len = sh_os_call4(
                SYS_read, file->fd, (long)file->chunk, (long)sizeof file->chunk, 0);
        } while (file->len == -EINTR);
        file->at = 0;
        if (file->len <= 0) {
            file->len = 0;
            return -1;
        }
    }
    return (unsigned char)file->chunk[file->at++];
}

/* Entries end with a zero each. */
static void from_file(struct file *file, const char *name, struct cut *value)
{
    int c;
    do {
        const char *expected = name;
        while ((c = next_byte(file)) > 0 && *expected && c == *expected)
            expected++;
        if (c == '=' && !*expected) {
            while ((c = next_byte(file)) > 0)
                put(value, (char)c);
            return;
        }
        while (c > 0)
            c = next_byte(file);
    } while (c == 0);
}

static SH_NOINLINE void from_kernel(const char *name, struct cut *value)
{
    static const char path[] = "/proc/self/environ";
    struct file file = {.at = 0, .len = 0};
    file.fd = sh_os_call4(SYS_openat, AT_FDCWD, (long)path, O_RDONLY | O_CLOEXEC, 0);
    if (file.fd < 0)
        return;
    from_file(&file, name, value);
    sh_os_call4(SYS_close, file.fd, 0, 0, 0);
}

static bool has_more_rights(void)
{
    int error = errno;
    bool more = getauxval(AT_SECURE) != 0;
    errno = error;
    return more;
}

size_t sh_os_environment(const char *name, char *text, size_t size)
{
    struct cut value = {.text = text, .size = size, .len = 0};
    bool trusted = !has_more_rights();
    if (trusted && environ)
        from_memory(environ, name, &value);
    else if (trusted)
        from_kernel(name, &value);
    text[value.len < size ? value.len : size - 1] = '\0';
    return value.len;
}

/* ---- Files ---- */

uint32_t sh_os_process_id(void)
{
    return (uint32_t)sh_os_call4(SYS_getpid, 0, 0, 0, 0);
}

int sh_os_append_open(const char *path)
{
    int flags = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY;
    return (int)sh_os_call4(SYS_openat, AT_FDCWD, (long)path, flags, 0666);
}

void sh_os_write(int file, const char *text, size_t len)
{
    while (len > 0) {
        long n = sh_os_call4(SYS_write, file, (long)text, (long)len, 0);
        if (n == -EINTR)
            continue;
        if (n <= 0)
            break;
        text += n;
        len -= (size_t)n;
    }
}

void sh_os_close(int file)
{
    sh_os_call4(SYS_close, file, 0, 0, 0);
}

/* ---- Events ---- */

int sh_os_event_make(int *event)
{
    long made = sh_os_call4(SYS_eventfd2, 0, EFD_CLOEXEC | EFD_NONBLOCK, 0, 0);
    if (made < 0)
        return (int)-made;
    *event = (int)made;
    return 0;
}

void sh_os_event_raise(int event)
{
    uint64_t one = 1;
    sh_os_call4(SYS_write, event, (long)&one, sizeof one, 0);
}

void sh_os_event_lower(int event)
{
    uint64_t times;
    sh_os_call4(SYS_read, event, (long)&times, sizeof times, 0);
}
