/* SPDX-License-Identifier: MIT */
/*
 * strings: a hash table by chains, whose keys are strings of 8 to 71 bytes, which hold no
 * pointers. A word at random is looked for: if it is there it is compared, and then
 * removed every other time; if not, it is inserted.
 */
#include "bench/gc/collections.h"
#include "bench/gc/loads.h"
#include "bench/gc/memory.h"
#include "bench/measure.h"

#include <string.h>

enum { WORDS = 1 << 20, STEPS = 5000000, LEAST = 8, LETTERS = 64 };

struct entry {
    struct entry *next;
    char *word;
    uint64_t number;
};

struct table {
    struct entry **chains;
    uint64_t size; /* a power of two: of the chains, and of the words that there are */
    uint64_t entries;
};

static size_t length_of(uint64_t number)
{
    return LEAST + bench_seed(number) % LETTERS;
}

static void spell(char *word, uint64_t number)
{
    memset(word, 'a' + (int)(number % 26), length_of(number));
    memcpy(word, &number, sizeof(number));
}

/* What leads to the entry of the word, or to where it would be put. */
static struct entry **find(const struct table *table, uint64_t number)
{
    struct entry **place = &table->chains[bench_seed(number) >> 20 & (table->size - 1)];

    while (*place != NULL && (*place)->number != number)
        place = &(*place)->next;
    return place;
}

static void insert(struct table *table, struct entry **place, uint64_t number)
{
    struct entry *entry = mem_new(sizeof(*entry));

    *entry = (struct entry){.number = number};
    *place = entry;
    entry->word = mem_leaf(length_of(number));
    spell(entry->word, number);
    table->entries++;
}

static void check(const struct entry *entry)
{
    char word[LEAST + LETTERS];

    spell(word, entry->number);
    if (memcmp(word, entry->word, length_of(entry->number)) != 0)
        bench_fail("a string is damaged");
}

static void take_out(struct table *table, struct entry **place)
{
    struct entry *entry = *place;

    *place = entry->next;
    mem_free(entry->word);
    mem_free(entry);
    table->entries--;
}

static uint64_t check_all(const struct table *table)
{
    uint64_t sum = 0, entries = 0;

    for (uint64_t i = 0; i < table->size; i++) {
        for (const struct entry *entry = table->chains[i]; entry; entry = entry->next) {
            check(entry);
            sum += entry->number;
            entries++;
        }
    }
    if (entries != table->entries)
        bench_fail("the table has lost strings");
    return sum;
}

static void drop(struct table *table)
{
    for (uint64_t i = 0; MEM_FREES && i < table->size; i++) {
        while (table->chains[i] != NULL)
            take_out(table, &table->chains[i]);
    }
    mem_free(table->chains);
}

static uint64_t size_of(unsigned scale)
{
    uint64_t size = 64;

    while (size * 2 <= (uint64_t)WORDS * scale / 100)
        size *= 2;
    return size;
}

uint64_t load_strings(unsigned scale, unsigned threads)
{
    struct table table = {.size = size_of(scale)};
    uint64_t random = bench_seed(1), seen = 0;

    (void)threads;
    table.chains = mem_zeroed(table.size * sizeof(struct entry *));
    for (uint64_t step = 0; step < (uint64_t)STEPS * scale / 100; step++) {
        uint64_t draw = bench_random(&random), number = draw >> 8 & (table.size - 1);
        struct entry **place = find(&table, number);
        if (*place == NULL) {
            insert(&table, place, number);
        } else {
            check(*place);
            if (draw % 2 == 0)
                take_out(&table, place);
        }
        if (verify_due(&seen))
            check_all(&table);
    }
    verify_collect();
    uint64_t sum = check_all(&table);
    drop(&table);
    return sum;
}

/* At most about two words in three are in the table. */
uint64_t live_strings(unsigned scale, unsigned threads)
{
    uint64_t size = size_of(scale);

    (void)threads;
    return size * sizeof(struct entry *) +
           size * 2 / 3 * (mem_cost(sizeof(struct entry)) + LEAST + LETTERS / 2 + 8);
}
