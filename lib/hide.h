/* SPDX-License-Identifier: MIT */
/*
 * Hidden addresses, for words that the root scanner reads and that shall hold nothing: the
 * statics and thread-local words of the library, which lie beside the program's.
 */
#ifndef SH_LIB_HIDE_H
#define SH_LIB_HIDE_H

#include <stddef.h>
#include <stdint.h>

#include "lib/compiler.h"

/* The complement, which no root scanner takes for a pointer. Of NULL not 0. */
SH_INLINE uintptr_t sh_hide(const void *p)
{
    return ~(uintptr_t)p;
}

/* Of 0: NULL. */
SH_INLINE void *sh_reveal(uintptr_t hidden)
{
    return hidden ? (void *)~hidden : NULL;
}

#endif /* SH_LIB_HIDE_H */
