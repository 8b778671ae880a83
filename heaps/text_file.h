/* SPDX-License-Identifier: MIT */
/*
 * A file that an option names, to append text to: without malloc, stdio or a lock, also
 * in a signal handler. In its path %p is the number of the process.
 *
 * It is opened for each text and closed again, since a program may close whatever
 * descriptor it finds.
 */
#ifndef SH_HEAPS_TEXT_FILE_H
#define SH_HEAPS_TEXT_FILE_H

#include <stddef.h>

#include "lib/options.h"
#include "lib/print.h"

struct sh_text_file {
    struct sh_sink sink; /* what is printed to it goes to the file */
    int number;
    char path[SH_OPTION_TEXT_MAX + 32];
    /* Much at a time, so that what several processes append to one file mixes little. */
    size_t len;
    char text[4096];
};

/* 0; or an errno, and the texts go to standard error. So they do where the option's
 * text is empty. */
int sh_text_file_open(struct sh_text_file *file, const char *option);
void sh_text_file_close(struct sh_text_file *file);

#endif /* SH_HEAPS_TEXT_FILE_H */
