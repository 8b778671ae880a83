/* SPDX-License-Identifier: MIT */
/* Tables of finalisers. See heaps/finaliser.h. Takes SH_RANK_META. */
#include "heaps/finaliser.h"

#include <string.h>

#include "heaps/mark_team.h"
#include "heaps/run.h"
#include "lib/meta.h"

#define LEAST 4u /* places, where the span has so many cells */

struct sh_finalisers {
    uint32_t capacity, count;
    uint32_t contexts; /* that are not NULL */
    struct sh_finaliser slots[];
    /* Behind them: uint32_t cells[capacity]. */
};

static _Atomic size_t all_contexts; /* of all tables */

static uint32_t *cells_of(struct sh_finalisers *table)
{
    return (uint32_t *)(void *)&table->slots[table->capacity];
}

static size_t bytes_for(uint32_t capacity)
{
    struct sh_finalisers *table;
    return sizeof *table + capacity * (sizeof *table->slots + sizeof(uint32_t));
}

/* Where the cell is, or the free place at which the search for it ended. */
static uint32_t place_of(struct sh_finalisers *table, uint32_t cell)
{
    const uint32_t *cells = cells_of(table);
    uint32_t mask = table->capacity - 1, place = cell & mask;
    while (cells[place] && cells[place] != cell + 1)
        place = (place + 1) & mask;
    return place;
}

static bool has(struct sh_finalisers *table, uint32_t cell, uint32_t *place)
{
    if (!table)
        return false;
    *place = place_of(table, cell);
    return cells_of(table)[*place] != 0;
}

/* ---- Size ---- */

static struct sh_finalisers *new_table(uint32_t capacity)
{
    struct sh_finalisers *table = sh_meta_alloc(bytes_for(capacity));
    if (!table)
        return NULL;
    memset(table, 0, bytes_for(capacity));
    table->capacity = capacity;
    return table;
}

static void delete_table(struct sh_finalisers *table)
{
    sh_meta_free(table, bytes_for(table->capacity));
}

/* False: no memory, and it stays as it was. */
static bool move_to(struct sh_span *span, uint32_t capacity)
{
    struct sh_finalisers *old = span->finalisers, *table = new_table(capacity);
    if (!table)
        return false;
    for (uint32_t from = 0; old && from < old->capacity; from++) {
        if (!cells_of(old)[from])
            continue;
        uint32_t place = place_of(table, cells_of(old)[from] - 1);
        cells_of(table)[place] = cells_of(old)[from];
        table->slots[place] = old->slots[from];
    }
    if (old) {
        table->count = old->count;
        table->contexts = old->contexts;
        delete_table(old);
    }
    span->finalisers = table;
    return true;
}

static bool has_room(struct sh_span *span)
{
    struct sh_finalisers *table = span->finalisers;
    return table &&
           (table->capacity >= span->cell_count ||
               table->count < table->capacity - sh_max(1, table->capacity / 8));
}

static bool grow(struct sh_span *span)
{
    if (span->finalisers)
        return move_to(span, span->finalisers->capacity * 2);
    uint32_t capacity = 1;
    while (capacity < LEAST && capacity < span->cell_count)
        capacity *= 2;
    return move_to(span, capacity);
}

/* Where memory for the smaller one is lacking, the large one serves. */
static void shrink(struct sh_span *span)
{
    struct sh_finalisers *table = span->finalisers;
    if (table->count == 0)
        sh_finaliser_drop(span);
    else if (table->capacity > LEAST && table->count < table->capacity / 8)
        move_to(span, table->capacity / 4);
}

/* ---- Places ---- */

static void count_context(struct sh_finalisers *table, const void *context, bool more)
{
    if (!context)
        return;
    table->contexts += more ? 1u : -1u;
    sh_add_relaxed(&all_contexts, more ? (size_t)1 : (size_t)-1);
}

/* Who was pushed on from there by what is taken out moves up. Where all have their own
 * place nobody was. */
static void take_out(struct sh_finalisers *table, uint32_t place, bool own_places)
{
    uint32_t *cells = cells_of(table), mask = table->capacity - 1, next = place;
    while (!own_places) {
        next = (next + 1) & mask;
        if (next == place || !cells[next])
            break;
        uint32_t home = (cells[next] - 1) & mask;
        if (((next - home) & mask) < ((next - place) & mask))
            continue;
        cells[place] = cells[next];
        table->slots[place] = table->slots[next];
        place = next;
    }
    cells[place] = 0;
    table->slots[place] = (struct sh_finaliser){NULL, NULL};
    table->count--;
}

bool sh_finaliser_set(struct sh_cell cell, struct sh_finaliser finaliser)
{
    struct sh_span *span = cell.span;
    uint32_t place;
    bool there = has(span->finalisers, cell.index, &place);
    if (!there && !has_room(span) && !grow(span))
        return false;
    struct sh_finalisers *table = span->finalisers;
    if (there) {
        count_context(table, table->slots[place].context, false);
    } else {
        place = place_of(table, cell.index);
        cells_of(table)[place] = cell.index + 1;
        table->count++;
    }
    table->slots[place] = finaliser;
    count_context(table, finaliser.context, true);
    return true;
}

struct sh_finaliser sh_finaliser_of(struct sh_cell cell)
{
    uint32_t place;
    if (!has(cell.span->finalisers, cell.index, &place))
        return (struct sh_finaliser){NULL, NULL};
    return cell.span->finalisers->slots[place];
}

struct sh_finaliser sh_finaliser_take(struct sh_cell cell)
{
    struct sh_finalisers *table = cell.span->finalisers;
    uint32_t place;
    if (!has(table, cell.index, &place))
        return (struct sh_finaliser){NULL, NULL};
    struct sh_finaliser taken = table->slots[place];
    count_context(table, taken.context, false);
    take_out(table, place, table->capacity >= cell.span->cell_count);
    shrink(cell.span);
    return taken;
}

/* ---- All of them ---- */

void sh_finaliser_add_roots(void)
{
    if (!sh_load_relaxed(&all_contexts))
        return;
    for (struct sh_span *span = sh_span_first(); span; span = span->all_next) {
        struct sh_finalisers *table = span->finalisers;
        if (!table || !table->contexts)
            continue;
        const void *end = table->slots + table->capacity;
        if (!sh_mark_add_root(table->slots, end))
            sh_mark_root_now(table->slots, end);
    }
}

void sh_finaliser_drop(struct sh_span *span)
{
    struct sh_finalisers *table = span->finalisers;
    if (!table)
        return;
    span->finalisers = NULL;
    sh_sub_relaxed(&all_contexts, (size_t)table->contexts);
    delete_table(table);
}
