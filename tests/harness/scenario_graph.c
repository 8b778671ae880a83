/* SPDX-License-Identifier: MIT */
/*
 * Graphs: objects that hold objects, of which a slot holds the first. A node has up to
 * LINKS_MAX pointers, to the starts of others or into them; some nodes are malloc'd, and
 * what only they hold is held as well.
 *
 * The ledger knows all pointers, and lists the members by `next`, the first one first. So
 * it knows what a cut leaves unreachable.
 */
#include <string.h>

#include "lib/bits.h"
#include "tests/harness/object.h"
#include "tests/harness/plant.h"
#include "tests/harness/report.h"
#include "tests/harness/scenario.h"

#define MEMBERS_MAX 48

static void set_link(
    struct random *random, struct entry *from, unsigned i, struct entry *to)
{
    bool inside = random_once_in(random, 4);
    from->offset[i] = inside ? (uint32_t)random_below(random, sh_max(to->asked, 1)) : 0;
    from->link[i] = to->id;
    *entry_link(from, i) = (char *)entry_address(to) + from->offset[i];
    plant_lose_write(entry_link(from, i));
}

static void clear_link(struct entry *from, unsigned i)
{
    from->link[i] = 0;
    *entry_link(from, i) = NULL;
}

/* ---- Making ---- */

static struct wish wish_node(struct random *random, bool first)
{
    struct wish wish = wish_any(random);
    if (first && wish.kind == EXPLICIT)
        wish.kind = SCAN;
    wish.bytes = 1 + wish.bytes % 1000;
    if (wish.kind != LEAF)
        wish.links = 1 + (unsigned)random_below(random, LINKS_MAX);
    return wish;
}

/* Somewhere in the list an unused link, to make the new one a member by. */
static bool attach(
    struct random *random, struct entry *root, size_t count, struct entry *node)
{
    struct entry *from = root;
    for (size_t skip = random_below(random, count); skip && from->next; skip--)
        from = ledger_entry(from->next);
    for (struct entry *last = from;;) {
        for (unsigned i = 0; i < from->links; i++)
            if (!from->link[i]) {
                set_link(random, from, i, node);
                return true;
            }
        from = from->next ? ledger_entry(from->next) : root;
        if (from == last)
            return false;
    }
}

static void join(struct entry *root, struct entry *node)
{
    node->in_graph = true;
    if (node != root) {
        node->next = root->next;
        root->next = node->id;
    }
}

/* Cycles and second ways. */
static void add_links(struct random *random, struct entry *root, size_t count)
{
    for (struct entry *from = root; from;
         from = from->next ? ledger_entry(from->next) : NULL)
        for (unsigned i = 0; i < from->links; i++) {
            struct entry *to = root;
            for (size_t skip = random_below(random, count); skip && to->next; skip--)
                to = ledger_entry(to->next);
            if (!from->link[i] && random_once_in(random, 2))
                set_link(random, from, i, to);
        }
}

/* False: it cannot grow any more. */
static bool grow(struct worker *worker, struct entry *root, size_t count)
{
    void *p = object_make(worker, wish_node(&worker->random, false));
    if (!p)
        return false;
    struct entry *node = object_entry(p);
    bool attached = attach(&worker->random, root, count, node);
    if (attached)
        join(root, node);
    else
        object_free(worker, node);
    SH_KEEP(p);
    return attached;
}

void *graph_make(struct worker *worker)
{
    struct random *random = &worker->random;
    void *first = object_make(worker, wish_node(random, true));
    if (!first)
        return NULL;
    struct entry *root = object_entry(first);
    join(root, root);
    size_t wanted = random_below(random, MEMBERS_MAX), count = 1;
    for (size_t i = 0; i < wanted && grow(worker, root, count); i++)
        count++;
    add_links(random, root, count);
    SH_KEEP(first);
    return first;
}

static size_t count_members(const struct entry *root)
{
    size_t count = 1;
    for (; root->next; root = ledger_entry(root->next))
        count++;
    return count;
}

/* What is new is held by what may be old. */
void graph_grow(struct worker *worker, struct entry *root)
{
    size_t count = count_members(root);
    if (count < MEMBERS_MAX)
        grow(worker, root, count);
}

/* ---- Verifying ---- */

static void verify_links(struct entry *from)
{
    for (unsigned i = 0; i < from->links; i++) {
        void *found = *entry_link(from, i), *wanted = NULL;
        if (from->link[i])
            wanted =
                (char *)entry_address(ledger_entry(from->link[i])) + from->offset[i];
        if (wanted && plant_now(PLANT_CUT_LINK))
            found = *entry_link(from, i) = NULL;
        if (found != wanted)
            fail("link", from, "has the pointer %p for number %u, instead of %p", found,
                i, wanted);
    }
}

void graph_verify(struct entry *root)
{
    for (struct entry *at = root; at; at = at->next ? ledger_entry(at->next) : NULL) {
        if (entry_state(at) != LIVE)
            fail("state", at, "is a member of a graph, but was let go");
        object_verify(at);
        verify_links(at);
    }
}

/* ---- Letting go ---- */

static size_t list_members(struct entry *root, struct entry **members)
{
    size_t count = 0;
    for (struct entry *at = root; at; at = at->next ? ledger_entry(at->next) : NULL)
        members[count++] = at;
    return count;
}

/*
 * Nothing leads to malloc'd members, which are freed now: the finalisers of others may
 * look. Dropped are all before the first is freed, for a malloc'd one holds others.
 */
static void forget_explicit(struct entry **members, size_t count)
{
    for (size_t m = 0; m < count; m++)
        for (unsigned i = 0; i < members[m]->links; i++)
            if (members[m]->link[i] &&
                ledger_entry(members[m]->link[i])->kind == EXPLICIT)
                clear_link(members[m], i);
}

/* Whom the first one held, this holds while they are freed one by one. */
static void hold_members(struct entry **members, size_t count, void **held)
{
    for (size_t m = 0; m < count; m++)
        held[m] = entry_address(members[m]);
}

void graph_let_go(struct worker *worker, struct entry *root, bool drop)
{
    struct entry *members[MEMBERS_MAX + 1];
    void *held[MEMBERS_MAX + 1];
    size_t count = list_members(root, members);
    hold_members(members, count, held);
    if (drop) {
        forget_explicit(members, count);
        for (size_t m = 0; m < count; m++)
            if (members[m]->kind != EXPLICIT)
                object_drop(members[m]);
    }
    for (size_t m = 0; m < count; m++)
        if (!drop || members[m]->kind == EXPLICIT)
            object_free(worker, members[m]);
    SH_KEEP(held);
}
