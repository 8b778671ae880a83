/* SPDX-License-Identifier: MIT */
/*
 * The end of the program: one message, written at once so that those of threads that
 * fail together do not interleave, and an abort.
 *
 * Any thread, anywhere, signal handlers included: no lock, no memory but the stack.
 */
#include "lib/check.h"

#include <stdarg.h>
#include <stddef.h>

#include "lib/bits.h"
#include "lib/options.h"
#include "lib/os.h"
#include "lib/print.h"

#define MESSAGE_MAX 512

static void say(const char *format, va_list args)
{
    char message[MESSAGE_MAX];
    size_t len = sh_format(message, sizeof message, "splitheap: ");
    len += sh_vformat(message + len, sizeof message - len, format, args);

    /* A message that was cut gives its last byte for the newline. */
    len = sh_min(len, sizeof message - 1);
    message[len] = '\n';
    sh_os_write_stderr(message, len + 1);
}

void sh_fatal(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say(format, args);
    va_end(args);
    sh_os_abort();
}

void sh_misused(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say(format, args);
    va_end(args);
    if (sh_options.misuse == SH_MISUSE_ABORT)
        sh_os_abort();
}

static const char *base_name(const char *path)
{
    const char *name = path;
    for (const char *p = path; *p; p++) {
        if (*p == '/')
            name = p + 1;
    }
    return name;
}

void sh_check_failed(const char *what, const char *file, int line)
{
    sh_fatal("%s:%d: check failed: %s", base_name(file), line, what);
}
