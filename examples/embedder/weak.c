/* SPDX-License-Identifier: MIT */
/*
 * Hash tables, and weak ones, whose entries go when their keys die.
 *
 * A weak table holds its keys as hidden pointers, which are not seen in marking, and has
 * each marked by gc_weakref_mark. The library then tells of those that died, and they
 * are taken out of all weak tables. These are known to the weak map by hidden pointers
 * too, and marked, so that a table nobody uses dies like any other object.
 *
 * The two hooks run while no other thread of the Lisp does. Nothing is allocated between
 * locking a table and unlocking it; so then nobody is in the middle of one.
 */
#include "lisp.h"

#include <splitheap/gc.h>
#include <stdlib.h>
#include <string.h>

/* ---- The weak map ---- */

static struct {
    pthread_mutex_t lock;
    uintptr_t *tables; /* hidden; from malloc; 0: it died */
    size_t count, room;
} map = {.lock = PTHREAD_MUTEX_INITIALIZER};

static uintptr_t hide(const void *p)
{
    return ~(uintptr_t)p;
}

static void *reveal(uintptr_t hidden)
{
    return (void *)~hidden;
}

static bool map_add(struct thread *t, struct table *table)
{
    lisp_lock(t, &map.lock);
    if (map.count == map.room) {
        size_t room = map.room ? map.room * 2 : 16;
        uintptr_t *tables = realloc(map.tables, room * sizeof *tables);
        if (!tables) {
            pthread_mutex_unlock(&map.lock);
            return false;
        }
        map.tables = tables;
        map.room = room;
    }
    map.tables[map.count++] = hide(table);
    pthread_mutex_unlock(&map.lock);
    gc_weakref_mark(table);
    return true;
}

/* ---- Keys ---- */

static bool is_weak(const struct table *table)
{
    return table->type->kind == WEAK_TABLE;
}

bool lisp_same(const struct value *a, const struct value *b)
{
    if (a == b)
        return true;
    if (is_number(a) || is_number(b))
        return false;
    if (is_kind(a, STRING) && is_kind(b, STRING)) {
        const struct string *x = (const void *)a, *y = (const void *)b;
        return x->length == y->length && memcmp(x->bytes, y->bytes, x->length) == 0;
    }
    return is_kind(a, REAL) && is_kind(b, REAL) &&
           ((const struct real *)a)->number == ((const struct real *)b)->number;
}

static size_t hash_bytes(const char *bytes, size_t length)
{
    size_t hash = 14695981039346656037u;
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)bytes[i]) * 1099511628211u;
    return hash;
}

static size_t hash_of(const struct value *key, bool weak)
{
    uintptr_t word = (uintptr_t)key;
    if (!weak && is_kind(key, STRING)) {
        const struct string *string = (const void *)key;
        return hash_bytes(string->bytes, string->length);
    }
    if (!weak && is_kind(key, REAL)) {
        const struct real *real = (const void *)key;
        return hash_bytes((const char *)&real->number, sizeof real->number);
    }
    return (word ^ word >> 17) * 0x9e3779b97f4a7c15u >> 7;
}

/* ---- Slots ---- */

static size_t places(const struct table *table)
{
    return table->slots->length / 2;
}

static struct value **key_at(struct table *table, size_t place)
{
    return &table->slots->items[2 * place];
}

static struct value *key_of(struct table *table, size_t place)
{
    struct value *key = *key_at(table, place);
    return key && is_weak(table) ? reveal((uintptr_t)key) : key;
}

static size_t home(struct table *table, const struct value *key)
{
    return hash_of(key, is_weak(table)) & (places(table) - 1);
}

/* Where the key is, or where it would go; there is always a free place. */
static size_t find(struct table *table, const struct value *key)
{
    size_t place = home(table, key);
    for (;; place = (place + 1) & (places(table) - 1)) {
        struct value *there = key_of(table, place);
        if (!there || there == key || (!is_weak(table) && lisp_same(there, key)))
            return place;
    }
}

/* Entries that the gap keeps from being found move into it. */
static void remove_at(struct table *table, size_t gap)
{
    size_t mask = places(table) - 1;
    for (size_t place = gap;;) {
        place = (place + 1) & mask;
        struct value *key = key_of(table, place);
        if (!key)
            break;
        if (((place - home(table, key)) & mask) < ((place - gap) & mask))
            continue;
        memcpy(key_at(table, gap), key_at(table, place), 2 * sizeof(struct value *));
        gap = place;
    }
    memset(key_at(table, gap), 0, 2 * sizeof(struct value *));
    table->count--;
}

static void put_at(
    struct table *table, size_t place, struct value *key, struct value *value)
{
    struct value **at = key_at(table, place);
    if (!*at)
        table->count++;
    at[0] = is_weak(table) ? (struct value *)hide(key) : key;
    at[1] = value;
}

static bool has_room(struct table *table)
{
    return (table->count + 1) * 4 <= places(table) * 3;
}

/* The old slots are the table's alone. */
static void move_to(struct table *table, struct vector *slots)
{
    struct table old = *table;
    table->slots = slots;
    table->count = 0;
    for (size_t place = 0; place < places(&old); place++) {
        struct value *key = key_of(&old, place);
        if (key)
            put_at(table, find(table, key), key, *(key_at(&old, place) + 1));
    }
    gc_free(old.slots);
}

/* Allocates with the table unlocked: meanwhile it may grow, shrink or be replaced. */
static void grow(struct thread *t, struct table *table)
{
    size_t top = t->top, length = table->slots->length * 2;
    pthread_mutex_unlock(&table->lock);
    struct value *slots = lisp_vector(t, length, NULL);
    lisp_keep(t, slots);
    lisp_lock(t, &table->lock);
    if (table->slots->length < length)
        move_to(table, (struct vector *)slots);
    t->top = top;
}

/* ---- The hooks ---- */

/* The library's: `ptr` died, or is being freed. */
void gc_weakref_about_to_be_freed(void *ptr)
{
    for (size_t i = 0; i < map.count; i++) {
        struct table *table = map.tables[i] ? reveal(map.tables[i]) : NULL;
        if (table == ptr) {
            map.tables[i] = 0;
        } else if (table) {
            size_t place = find(table, ptr);
            if (key_of(table, place)) {
                remove_at(table, place);
                lisp_counts.freed_keys++;
            }
        }
    }
}

/* The library's: all that died in this collection was told of. */
void gc_weakref_sweep(void)
{
    size_t kept = 0;
    for (size_t i = 0; i < map.count; i++)
        if (map.tables[i])
            map.tables[kept++] = map.tables[i];
    map.count = kept;
    lisp_counts.weak_sweeps++;
}

/* ---- Tables ---- */

struct value *lisp_table(struct thread *t, bool weak)
{
    size_t top = t->top;
    struct value *slots = lisp_vector(t, 2 * 8, NULL);
    lisp_keep(t, slots);
    struct table *table = lisp_new(t, weak ? WEAK_TABLE : TABLE, sizeof *table, PLAIN);
    t->top = top;
    table->slots = (struct vector *)slots;
    pthread_mutex_init(&table->lock, NULL);
    if (weak && !map_add(t, table))
        lisp_fail(t, "out of memory");
    return (struct value *)table;
}

struct value *lisp_table_get(
    struct thread *t, struct table *table, struct value *key, struct value *otherwise)
{
    lisp_lock(t, &table->lock);
    size_t place = find(table, key);
    struct value *value =
        *key_at(table, place) ? *(key_at(table, place) + 1) : otherwise;
    pthread_mutex_unlock(&table->lock);
    return value;
}

void lisp_table_put(
    struct thread *t, struct table *table, struct value *key, struct value *value)
{
    if (is_weak(table) && gc_nbytes(is_number(key) ? NULL : key) == 0)
        lisp_fail(t, "a weak table's keys are objects");
    lisp_lock(t, &table->lock);
    size_t place = find(table, key);
    while (!*key_at(table, place) && !has_room(table)) {
        grow(t, table);
        place = find(table, key);
    }
    if (is_weak(table) && !*key_at(table, place))
        gc_weakref_mark(key);
    put_at(table, place, key, value);
    pthread_mutex_unlock(&table->lock);
}

void lisp_table_remove(struct thread *t, struct table *table, struct value *key)
{
    lisp_lock(t, &table->lock);
    size_t place = find(table, key);
    if (*key_at(table, place))
        remove_at(table, place);
    pthread_mutex_unlock(&table->lock);
}

/* The keys in a vector, which holds them; false where it is too short. */
static bool copy_keys(struct thread *t, struct table *table, struct vector *keys)
{
    lisp_lock(t, &table->lock);
    bool fits = table->count <= keys->length;
    size_t n = 0;
    for (size_t place = 0; fits && place < places(table); place++)
        if (key_of(table, place))
            keys->items[n++] = key_of(table, place);
    pthread_mutex_unlock(&table->lock);
    keys->length = fits ? n : keys->length;
    return fits;
}

struct value *lisp_table_keys(struct thread *t, struct table *table)
{
    size_t top = t->top;
    struct vector *keys;
    do {
        t->top = top;
        keys = (struct vector *)lisp_vector(t, table->count + 1, NIL);
        lisp_keep(t, (struct value *)keys);
    } while (!copy_keys(t, table, keys));
    struct value *list = NIL;
    lisp_keep(t, list);
    for (size_t i = 0; i < keys->length; i++)
        t->stack[t->top - 1] = list = cons(t, keys->items[i], list);
    t->top = top;
    return list;
}

/* ---- What programs call ---- */

static struct table *table_argument(struct thread *t, struct value *v)
{
    if (is_kind(v, WEAK_TABLE))
        return (struct table *)v;
    return lisp_argument(t, v, TABLE);
}

static struct value *make_table(struct thread *t, int count, struct value **args)
{
    (void)count, (void)args;
    return lisp_table(t, false);
}

static struct value *make_weak_table(struct thread *t, int count, struct value **args)
{
    (void)count, (void)args;
    return lisp_table(t, true);
}

static struct value *table_ref(struct thread *t, int count, struct value **args)
{
    struct table *table = table_argument(t, args[0]);
    return lisp_table_get(t, table, args[1], count > 2 ? args[2] : FALSE);
}

static struct value *table_set(struct thread *t, int count, struct value **args)
{
    (void)count;
    lisp_table_put(t, table_argument(t, args[0]), args[1], args[2]);
    return NOTHING;
}

static struct value *table_remove(struct thread *t, int count, struct value **args)
{
    (void)count;
    lisp_table_remove(t, table_argument(t, args[0]), args[1]);
    return NOTHING;
}

static struct value *table_count(struct thread *t, int count, struct value **args)
{
    (void)count;
    struct table *table = table_argument(t, args[0]);
    lisp_lock(t, &table->lock);
    size_t entries = table->count;
    pthread_mutex_unlock(&table->lock);
    return number((intptr_t)entries);
}

static struct value *table_keys(struct thread *t, int count, struct value **args)
{
    (void)count;
    return lisp_table_keys(t, table_argument(t, args[0]));
}

void lisp_define_tables(struct thread *t)
{
    static const struct primitive primitives[] = {
        PRIMITIVE_OF("make-table", make_table, 0, 0),
        PRIMITIVE_OF("make-weak-table", make_weak_table, 0, 0),
        PRIMITIVE_OF("table-ref", table_ref, 2, 3),
        PRIMITIVE_OF("table-set!", table_set, 3, 3),
        PRIMITIVE_OF("table-remove!", table_remove, 2, 2),
        PRIMITIVE_OF("table-count", table_count, 1, 1),
        PRIMITIVE_OF("table-keys", table_keys, 1, 1),
    };
    lisp_define(t, primitives, sizeof primitives / sizeof primitives[0]);
}
