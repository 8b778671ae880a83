/* SPDX-License-Identifier: MIT */
/*
 * Metadata memory.
 *
 *   chunk   | piece | piece | nodes | piece | ...           |    untouched    |
 *           chunk                                           + chunk_used      + chunk_bytes
 *
 * Fresh pieces are cut from the current chunk; big ones are mappings of their own. A
 * freed piece is remembered by a node outside of it, for its contents are still read,
 * and even changed, by threads that hold a stale pointer. A node is made beforehand for
 * every piece, so that sh_meta_free cannot fail:
 *
 *   nodes on all lists == nodes_made >= pieces_made >= pieces free
 *
 * Memory comes only from sh_os_map and is never unmapped. Lock: SH_RANK_META. Any
 * thread, in a critical section.
 */
#include "lib/meta.h"

#include <stdbool.h>
#include <stdint.h>

#include "lib/atomic.h"
#include "lib/bits.h"
#include "lib/check.h"
#include "lib/lock.h"
#include "lib/os.h"

#define GRAIN ((size_t)64)
#define CHUNK_FIRST ((size_t)256 << 10)
#define CHUNK_MAX ((size_t)1 << 20)
#define OWN_MAPPING (CHUNK_FIRST / 2) /* pieces larger than this */
#define LISTED ((size_t)64 << 10)     /* pieces up to this have a list a size */
#define PIECE_MAX ((size_t)1 << SH_ADDRESS_BITS)
#define NODES_AT_ONCE 64

struct node {
    struct node *next;
    void *piece;  /* free; NULL in a spare node */
    size_t bytes; /* of the piece */
};

static struct sh_lock lock = SH_LOCK_INIT(SH_RANK_META);

/*
 * All under the lock. These words are roots where the program's are, so none is the address
 * of a chunk's end: that may be where an area begins, and its first object would stay.
 */
static char *chunk;
static size_t chunk_used;
static size_t chunk_bytes; /* of the current chunk; the next is twice as large */
static struct node *spare;
/* lists[stable][n]: n * GRAIN bytes */
static struct node *lists[2][LISTED / GRAIN + 1];
static struct node *large; /* of any size above LISTED */
static size_t nodes_made, pieces_made;

static _Atomic size_t mapped; /* written under the lock, read without */

/* ---- Fresh memory ---- */

static void *map(size_t bytes)
{
    void *start = sh_os_map(bytes, SH_PAGE_SIZE);
    if (start)
        sh_add_relaxed(&mapped, bytes);
    return start;
}

/* The rest of the old chunk is given up; it was never touched and costs no memory. */
static bool start_chunk(void)
{
    size_t bytes = chunk_bytes ? sh_min(2 * chunk_bytes, CHUNK_MAX) : CHUNK_FIRST;
    char *start = map(bytes);
    if (!start)
        return false;
    chunk = start;
    chunk_used = 0;
    chunk_bytes = bytes;
    return true;
}

static void *cut(size_t bytes)
{
    if (chunk_bytes - chunk_used < bytes && !start_chunk())
        return NULL;
    char *piece = chunk + chunk_used;
    chunk_used += bytes;
    return piece;
}

/* ---- Nodes ---- */

static bool make_nodes(void)
{
    struct node *nodes = cut(NODES_AT_ONCE * sizeof *nodes);
    if (!nodes)
        return false;
    for (size_t i = 0; i < NODES_AT_ONCE; i++) {
        nodes[i].next = spare;
        spare = &nodes[i];
    }
    nodes_made += NODES_AT_ONCE;
    return true;
}

static struct node *pop(struct node **list)
{
    struct node *node = *list;
    *list = node->next;
    return node;
}

static void push(struct node **list, struct node *node)
{
    node->next = *list;
    *list = node;
}

/* ---- Pieces ---- */

static void *make_piece(size_t bytes)
{
    if (pieces_made == nodes_made && !make_nodes())
        return NULL;
    void *piece =
        bytes > OWN_MAPPING ? map(sh_round_up(bytes, SH_PAGE_SIZE)) : cut(bytes);
    if (piece)
        pieces_made++;
    return piece;
}

/* The link that leads to a free piece of exactly this size, or to NULL. */
static struct node **find(size_t bytes, bool stable)
{
    if (bytes <= LISTED)
        return &lists[stable][bytes / GRAIN];
    struct node **link = &large;
    while (*link && (*link)->bytes != bytes)
        link = &(*link)->next;
    return link;
}

static void *take_piece(size_t bytes, bool stable)
{
    struct node **link = find(bytes, stable);
    if (!*link)
        return make_piece(bytes);
    struct node *node = pop(link);
    void *piece = node->piece;
    node->piece = NULL;
    push(&spare, node);
    return piece;
}

static size_t piece_bytes(size_t bytes)
{
    return sh_round_up(sh_max(bytes, 1), GRAIN);
}

static void *alloc(size_t bytes, bool stable)
{
    if (bytes > (stable ? LISTED : PIECE_MAX))
        return NULL;
    sh_lock_acquire(&lock);
    void *piece = take_piece(piece_bytes(bytes), stable);
    sh_lock_release(&lock);
    return piece;
}

static void give(void *piece, size_t bytes, bool stable)
{
    SH_CHECK1(piece);
    bytes = piece_bytes(bytes);
    sh_lock_acquire(&lock);
    SH_CHECK1(spare);
    struct node *node = pop(&spare);
    node->piece = piece;
    node->bytes = bytes;
    push(bytes <= LISTED ? &lists[stable][bytes / GRAIN] : &large, node);
    sh_lock_release(&lock);
}

void *sh_meta_alloc(size_t bytes)
{
    return alloc(bytes, false);
}

void sh_meta_free(void *piece, size_t bytes)
{
    give(piece, bytes, false);
}

void *sh_meta_alloc_stable(size_t bytes)
{
    return alloc(bytes, true);
}

void sh_meta_free_stable(void *piece, size_t bytes)
{
    give(piece, bytes, true);
}

size_t sh_meta_bytes(void)
{
    return sh_load_relaxed(&mapped);
}

/* ---- Fork ---- */

void sh_meta_fork_prepare(void)
{
    sh_lock_acquire(&lock);
}

void sh_meta_fork_parent(void)
{
    sh_lock_release(&lock);
}

void sh_meta_fork_child(void)
{
    sh_lock_reset(&lock);
}
