/* SPDX-License-Identifier: MIT */
/* What a word may point to. See heaps/word.h. */
#include "heaps/word.h"

#include "heaps/size_class.h"
#include "lib/atomic.h"

struct sh_word_code sh_word_code;

static _Atomic uintptr_t tags;
static _Atomic(gc_word_decoder_fn *) decoder;

void sh_word_begin(void)
{
    sh_word_code.tags = sh_load_relaxed(&tags) & ~(SH_GRANULE - 1);
    sh_word_code.decoder = sh_load_relaxed(&decoder);
}

uintptr_t sh_word_set_tags(uintptr_t wanted)
{
    return sh_exchange_seq_cst(&tags, wanted);
}

gc_word_decoder_fn *sh_word_set_decoder(gc_word_decoder_fn *wanted)
{
    return sh_exchange_seq_cst(&decoder, wanted);
}
