/* SPDX-License-Identifier: MIT */
/* gc_realloc of what <splitheap/weakref.h> made. */
#include "tests/misuse.h"

#include <splitheap/weakref.h>

#include <errno.h>

#include "lib/options.h"

#define LINK                                                                           \
    "%s(%p): a reference, finalize or ephemeron, which cannot be resized; free it, "   \
    "and "                                                                             \
    "make another"

static void *object, *weak;

static void grow(void *unused)
{
    gc_realloc(weak, 1000, true);
}

static void shrink_in_place(void *unused)
{
    gc_realloc(weak, 1, false);
}

static void as_malloced(void *unused)
{
    sh_realloc(weak, 1000);
}

static void expect_each(void)
{
    assert_non_null(weak);
    expect_end(grow, NULL, LINK, "gc_realloc", weak);
    expect_end(shrink_in_place, NULL, LINK, "gc_realloc", weak);
    expect_end(as_malloced, NULL, LINK, "realloc", weak);
}

static void call_back(struct gc_weakref *ref, void *ctx)
{
    MUST(!ref || !ctx);
}

static void finalize(unsigned count, void *const args[])
{
    MUST(count == 0 || args);
}

static void what_leads_to_an_object(void **unused)
{
    object = gc_alloc(64, 0);
    weak = gc_weakref_new(object, NULL, NULL);
    expect_each();
    weak = gc_weakref_new_long(object, call_back, NULL);
    expect_each();
    weak = gc_finalize_new(object, finalize, 0);
    expect_each();
    weak = gc_ephemeron_new(object, NULL);
    expect_each();
}

static void what_waits_for_its_callback(void **unused)
{
    object = gc_alloc(64, 0);
    weak = gc_weakref_new(object, call_back, NULL);
    gc_free(object);
    expect_each();
}

/* They lead nowhere any more, in either place. */
static void those_that_lead_nowhere_are_as_others(void **unused)
{
    object = gc_alloc(64, 0);
    weak = gc_weakref_new(object, NULL, NULL);
    gc_free(object);
    weak = gc_realloc(weak, 1000, true);
    assert_non_null(weak);
    assert_null(gc_weakref_get(weak));
    gc_weakref_free(weak);
}

static void reported(void *unused)
{
    sh_options.misuse = SH_MISUSE_REPORT;
    errno = 0;
    MUST(!gc_realloc(weak, 1000, true) && errno == EINVAL);
    MUST(gc_weakref_get(weak) == object);
    gc_weakref_free(weak);
}

static void it_stays_where_misuse_is_reported(void **unused)
{
    object = gc_alloc(64, 0);
    weak = gc_weakref_new(object, NULL, NULL);
    expect_no_end(reported, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_leads_to_an_object),
        cmocka_unit_test(what_waits_for_its_callback),
        cmocka_unit_test(those_that_lead_nowhere_are_as_others),
        cmocka_unit_test(it_stays_where_misuse_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
