/* SPDX-License-Identifier: MIT */
/* Whose is this address? See shadow.h. */
#include "tests/harness/shadow.h"

#include "lib/bits.h"
#include "tests/harness/report.h"

#define GRANULE ((uintptr_t)16)
#define PAGE ((uintptr_t)4096)
#define PAGE_GRANULES (PAGE / GRANULE)
#define LEAF_BITS 26
#define LEAF_BYTES ((uintptr_t)1 << LEAF_BITS)
#define ADDRESS_BITS 47
#define LEAVES ((size_t)1 << (ADDRESS_BITS - LEAF_BITS))

/* Of objects beyond this, only each sixteenth page's granules are looked at. */
#define THOROUGH ((size_t)1 << 20)

typedef _Atomic uint32_t owner; /* an entry's number, 0: nobody's */

struct leaf {
    owner pages[LEAF_BYTES / PAGE];
    owner granules[LEAF_BYTES / GRANULE];
};

static _Atomic(struct leaf *) *leaves;

void shadow_init(void)
{
    leaves = own_map(LEAVES * sizeof *leaves);
}

static struct leaf *leaf_of(uintptr_t address)
{
    if (address >> ADDRESS_BITS)
        fail("address", NULL, "%p is beyond the addresses that there are",
            (void *)address);
    _Atomic(struct leaf *) *at = &leaves[address >> LEAF_BITS];
    struct leaf *leaf = sh_load_acquire(at);
    if (leaf)
        return leaf;
    struct leaf *made = own_map(sizeof *made);
    if (sh_cas_seq_cst(at, &leaf, made))
        return made;
    own_unmap(made, sizeof *made);
    return sh_load_acquire(at);
}

static owner *page_word(uintptr_t address)
{
    return &leaf_of(address)->pages[address % LEAF_BYTES / PAGE];
}

static owner *granule_word(uintptr_t address)
{
    return &leaf_of(address)->granules[address % LEAF_BYTES / GRANULE];
}

/* ---- Claiming ---- */

/*
 * What is seen of an entry counts only while the word still names it: it may have been
 * crossed out and used for another object in between.
 */
static bool still(owner *word, uint32_t id, struct entry *entry, uint64_t life)
{
    return sh_load_seq_cst(word) == id && sh_load_seq_cst(&entry->life) == life;
}

/* The object that had this memory is gone, or must be. False: look again. */
static bool evict(owner *word, uint32_t id, struct entry *entry)
{
    struct entry *other = ledger_entry(id);
    uint64_t life = sh_load_seq_cst(&other->life);
    uint32_t pending = sh_load_seq_cst(&other->pending);
    if (life_state(life) == LIVE) {
        if (still(word, id, other, life))
            fail_pair(
                "overlap", entry, other, "was handed out where another object is");
        return false;
    }
    if (life_state(life) != DROPPED)
        return true;
    if (!entry_try_state(other, life, COLLECTED))
        return false;
    if (pending && ledger_misses_callbacks())
        fail_pair("callback", entry, other,
            "was handed out the memory of one whose callback did not come");
    return true;
}

/* The word is nobody's, or `id`, afterwards. */
static void take_word(owner *word, uint32_t id, struct entry *entry)
{
    uint32_t seen = sh_load_seq_cst(word);
    while (seen != id) {
        if (seen && !evict(word, seen, entry))
            seen = sh_load_seq_cst(word);
        else if (sh_cas_seq_cst(word, &seen, id))
            return;
    }
}

static void empty_word(owner *word, uint32_t id, struct entry *entry)
{
    uint32_t seen = sh_load_seq_cst(word);
    while (seen && seen != id) {
        if (!evict(word, seen, entry))
            seen = sh_load_seq_cst(word);
        else if (sh_cas_seq_cst(word, &seen, 0u))
            return;
    }
}

static void give_word(owner *word, uint32_t id)
{
    sh_cas_seq_cst(word, &id, 0u);
}

/* Granules of a part of a page, then the page itself. */
static void claim_granules(
    struct entry *entry, uint32_t id, uintptr_t at, uintptr_t end)
{
    for (uintptr_t granule = at; granule < end; granule += GRANULE)
        take_word(granule_word(granule), id, entry);
    empty_word(page_word(at), id, entry);
}

static void claim_page(
    struct entry *entry, uint32_t id, uintptr_t page, bool thoroughly)
{
    take_word(page_word(page), id, entry);
    owner *granules = granule_word(page);
    for (size_t i = 0; thoroughly && i < PAGE_GRANULES; i++)
        if (sh_load_seq_cst(&granules[i]))
            empty_word(&granules[i], id, entry);
}

/* The end of what of [at, end) lies in the page of `at`. */
static uintptr_t in_page(uintptr_t at, uintptr_t end)
{
    return sh_min(sh_round_down(at, PAGE) + PAGE, end);
}

void shadow_claim(struct entry *entry)
{
    uint32_t id = entry->id;
    uintptr_t start = (uintptr_t)entry_address(entry);
    uintptr_t end = start + sh_max(entry->usable, 1), next;
    for (uintptr_t at = start; at < end; at = next) {
        next = in_page(at, end);
        bool thoroughly =
            entry->usable < THOROUGH || at == start || at / PAGE % 16 == 0;
        if (next - at == PAGE)
            claim_page(entry, id, at, thoroughly);
        else
            claim_granules(entry, id, at, next);
    }
}

void shadow_clear(struct entry *entry)
{
    uint32_t id = entry->id;
    uintptr_t start = (uintptr_t)entry_address(entry);
    uintptr_t end = start + sh_max(entry->usable, 1), next;
    for (uintptr_t at = start; at < end; at = next) {
        next = in_page(at, end);
        if (next - at == PAGE)
            give_word(page_word(at), id);
        else
            for (uintptr_t granule = at; granule < next; granule += GRANULE)
                give_word(granule_word(granule), id);
    }
}

struct entry *shadow_find(const void *p)
{
    uintptr_t address = (uintptr_t)p;
    uint32_t id = sh_load_seq_cst(granule_word(address));
    if (!id)
        id = sh_load_seq_cst(page_word(address));
    return id ? ledger_entry(id) : NULL;
}
