/* SPDX-License-Identifier: MIT */
/* An object to dlopen, with data and thread-local data of its own. */
#include <stdint.h>

extern uintptr_t module_word;
void module_set(uintptr_t value);

uintptr_t module_word = 1;

static __thread volatile uintptr_t words[100];

void module_set(uintptr_t value)
{
    words[50] = value;
}
