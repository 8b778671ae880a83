/* SPDX-License-Identifier: MIT */
/*
 * Words that hide pointers: tag bits that are masked, and a decoder's answers, in roots,
 * in malloc'd memory and in objects. What the words hold lives while the program says how
 * they are read, and dies when it takes that back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "heaps/mark_team.h"
#include "tests/heap.h"

#define HIGH ((uintptr_t)0xfff9 << 48)
#define LOW ((uintptr_t)0x3f)

static struct batch batch;
static uintptr_t (*encode)(const void *p);
static uintptr_t *words;      /* that hold the batch */
static uintptr_t chain[1];    /* a list, each of whose links is hidden, too */
static uintptr_t held[BATCH]; /* words in a data segment */

/* ---- Ways to hide ---- */

static uintptr_t high_tag(const void *p)
{
    return (uintptr_t)p | HIGH;
}

/* Of an object that begins at a multiple of 64; what it leads to without a mask is
 * another. */
static uintptr_t low_tag(const void *p)
{
    return ((uintptr_t)p & ~LOW) | 0x35;
}

static uintptr_t both_tags(const void *p)
{
    return high_tag((const void *)low_tag(p));
}

static uintptr_t tag_of_four_bits(const void *p)
{
    return (uintptr_t)p | 0xf;
}

static uintptr_t boxed(const void *p)
{
    return ((uintptr_t)p ^ 0x5555555555) << 13 | 0x1abc;
}

static _Atomic uint32_t asked, asked_of_zero;

static void *unbox(uintptr_t word)
{
    sh_add_relaxed(&asked, 1u);
    if (word == 0)
        sh_add_relaxed(&asked_of_zero, 1u);
    if ((word & 0x1fff) != 0x1abc)
        return word & 1 ? (void *)word : (void *)~word;
    return (void *)((word >> 13) ^ 0x5555555555);
}

/* ---- Holding ---- */

/* Of 16 bytes, at a multiple of 64. */
static uintptr_t *new_object(void)
{
    for (;;) {
        uintptr_t *p = gc_alloc(16, 0);
        MUST(p);
        if ((uintptr_t)p % 64 == 0)
            return p;
    }
}

static void *make(void *unused)
{
    for (size_t i = 0; i < BATCH; i++) {
        void *p = new_object();
        batch.hidden[i] = hide(p);
        words[i] = encode(p);
    }
    return NULL;
}

static void *make_chain(void *unused)
{
    chain[0] = 0;
    for (size_t i = 0; i < BATCH; i++) {
        uintptr_t *p = new_object();
        batch.hidden[i] = hide(p);
        p[1] = chain[0];
        chain[0] = encode(p);
    }
    return NULL;
}

static size_t left(void *(*make_them)(void *))
{
    bool was = gc_set_auto_collect(false);
    in_thread(make_them, NULL);
    clear_stack();
    gc_collect();
    gc_collect();
    size_t live = count_live(&batch);
    gc_set_auto_collect(was);
    return live;
}

/* No frame that is there yet knows them. */
static SH_NOINLINE void words_in_an_object(size_t bytes)
{
    words = gc_alloc(bytes, 0);
    MUST(words);
}

static void forget(void)
{
    memset(held, 0, sizeof held);
    chain[0] = 0;
    words = NULL;
    clear_stack();
}

static void all_live(void)
{
    assert_int_equal(left(make_chain), BATCH);
    words = held;
    assert_int_equal(left(make), BATCH);
    words = sh_malloc(BATCH * sizeof *words);
    assert_int_equal(left(make), BATCH);
    sh_free(words);
    words_in_an_object(BATCH * sizeof *words);
    assert_int_equal(left(make), BATCH);
    words_in_an_object(100000);
    assert_int_equal(left(make), BATCH);
    forget();
    gc_collect();
    assert_in_range(count_live(&batch), 0, SLACK);
}

static void none_live(void)
{
    assert_in_range(left(make_chain), 0, SLACK);
    chain[0] = 0;
    words = held;
    assert_in_range(left(make), 0, SLACK);
    forget();
}

/* ---- Tests ---- */

static void tags_in_the_high_bits_are_masked(void **unused)
{
    encode = high_tag;
    none_live();
    assert_int_equal(gc_set_pointer_tags(HIGH), 0);
    all_live();
    assert_int_equal(gc_set_pointer_tags(0), HIGH);
    none_live();
}

static void tags_in_low_bits_are_masked(void **unused)
{
    encode = low_tag;
    none_live();
    gc_set_pointer_tags(HIGH | LOW);
    all_live();
    encode = both_tags;
    all_live();
    encode = high_tag;
    all_live();
    gc_set_pointer_tags(0);
}

/* Though the masked address of most is another object's. */
static void masking_takes_no_pointer_away(void **unused)
{
    gc_set_pointer_tags(0xfff);
    encode = tag_of_four_bits;
    all_live();
    gc_set_pointer_tags(0);
}

/* They are 0 to the collector: no word is looked up twice. */
static void tags_of_four_bits_need_not_be_said(void **unused)
{
    encode = tag_of_four_bits;
    all_live();
    gc_set_pointer_tags(0xf);
    all_live();
    assert_int_equal(gc_set_pointer_tags(0), 0xf);
}

static void a_decoder_says_what_words_hide(void **unused)
{
    encode = boxed;
    none_live();
    assert_null(gc_set_word_decoder(unbox));
    all_live();
    assert_true(sh_load_relaxed(&asked) > BATCH);
    assert_int_equal(sh_load_relaxed(&asked_of_zero), 0);
    /* Beside tags, and plain pointers. */
    gc_set_pointer_tags(HIGH);
    all_live();
    encode = high_tag;
    all_live();
    encode = tag_of_four_bits;
    all_live();
    gc_set_pointer_tags(0);
    assert_ptr_equal(gc_set_word_decoder(NULL), unbox);
    encode = boxed;
    none_live();
}

/* So much heap that helpers mark. */
static void several_markers_read_the_same(void **unused)
{
    enum { LARGE = 20 };
    static void *large[LARGE];
    gc_set_markers(3);
    for (int i = 0; i < LARGE; i++)
        MUST((large[i] = gc_alloc((size_t)1 << 20, 0)));
    encode = boxed;
    gc_set_word_decoder(unbox);
    all_live();
    gc_set_word_decoder(NULL);
    encode = high_tag;
    gc_set_pointer_tags(HIGH);
    all_live();
    gc_set_pointer_tags(0);
    memset(large, 0, sizeof large);
    gc_set_markers(1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tags_in_the_high_bits_are_masked),
        cmocka_unit_test(tags_in_low_bits_are_masked),
        cmocka_unit_test(masking_takes_no_pointer_away),
        cmocka_unit_test(tags_of_four_bits_need_not_be_said),
        cmocka_unit_test(a_decoder_says_what_words_hide),
        cmocka_unit_test(several_markers_read_the_same),
    };
    return run_on_clean_stack(tests, NULL, NULL);
}
