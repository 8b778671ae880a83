/* SPDX-License-Identifier: MIT */
/* Files that options name. See heaps/text_file.h. */
#include "heaps/text_file.h"

#include <string.h>

#include "lib/bits.h"
#include "lib/os.h"

#define STANDARD_ERROR 2

static void flush(struct sh_text_file *file)
{
    sh_os_write(file->number, file->text, file->len);
    file->len = 0;
}

static void write_file(void *data, const char *text, size_t len)
{
    struct sh_text_file *file = data;
    while (len > 0) {
        if (file->len == sizeof file->text)
            flush(file);
        size_t n = sh_min(len, sizeof file->text - file->len);
        memcpy(file->text + file->len, text, n);
        file->len += n;
        text += n;
        len -= n;
    }
}

/* The option's text with the number of the process for each %p. */
static void make_path(char *path, size_t size, const char *from)
{
    size_t len = 0;
    while (*from && len + 1 < size) {
        if (from[0] == '%' && from[1] == 'p') {
            len += sh_format(path + len, size - len, "%u", sh_os_process_id());
            from += 2;
        } else {
            path[len++] = *from++;
        }
    }
    path[sh_min(len, size - 1)] = '\0';
}

int sh_text_file_open(struct sh_text_file *file, const char *option)
{
    file->sink = (struct sh_sink){.data = file, .write = write_file};
    file->number = STANDARD_ERROR;
    file->len = 0;
    make_path(file->path, sizeof file->path, option);
    if (!*option)
        return 0;
    int number = sh_os_append_open(file->path);
    if (number < 0)
        return -number;
    file->number = number;
    return 0;
}

void sh_text_file_close(struct sh_text_file *file)
{
    flush(file);
    if (file->number != STANDARD_ERROR)
        sh_os_close(file->number);
}
