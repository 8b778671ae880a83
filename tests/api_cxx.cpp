/* SPDX-License-Identifier: MIT */
/* The twenty operators of C++: ours, and what they do where there is no memory. */
#include <algorithm>
#include <cerrno>
#include <csetjmp>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <string>
#include <vector>

extern "C" {
#include <cmocka.h>
}

#include <splitheap/gc.h>
#include <splitheap/malloc.h>

namespace
{

const std::size_t sizes[] = {0, 1, 16, 100, 4096, 32768, 100000, std::size_t(40) << 20};
const std::size_t too_much[] = {SIZE_MAX, std::size_t(PTRDIFF_MAX) + 1, PTRDIFF_MAX};

void check(void *p, std::size_t size, std::size_t alignment = 16)
{
    assert_non_null(p);
    assert_int_equal(reinterpret_cast<std::uintptr_t>(p) % alignment, 0);
    assert_true(gc_nbytes(p) >= size && gc_nbytes(p) > 0);
    std::memset(p, 0x3c, std::min(size, std::size_t(65536)));
}

void gone(void *p)
{
    assert_int_equal(gc_nbytes(p), 0);
}

/* Each way to get memory with each way to give it back that the standard pairs. */
void plain(void **)
{
    for (std::size_t size : sizes) {
        void *p = ::operator new(size);
        check(p, size);
        ::operator delete(p);
        gone(p);
        p = ::operator new[](size);
        check(p, size);
        ::operator delete[](p);
        gone(p);
    }
}

void sized(void **)
{
    for (std::size_t size : sizes) {
        void *p = ::operator new(size);
        check(p, size);
        ::operator delete(p, size);
        gone(p);
        p = ::operator new[](size);
        check(p, size);
        ::operator delete[](p, size);
        gone(p);
    }
}

void nothrow(void **)
{
    for (std::size_t size : sizes) {
        void *p = ::operator new(size, std::nothrow);
        check(p, size);
        ::operator delete(p, std::nothrow);
        gone(p);
        p = ::operator new[](size, std::nothrow);
        check(p, size);
        ::operator delete[](p, std::nothrow);
        gone(p);
    }
}

void aligned(void **)
{
    for (std::size_t n = 16; n <= std::size_t(2) << 20; n *= 2) {
        auto alignment = static_cast<std::align_val_t>(n);
        for (std::size_t size : sizes) {
            void *p = ::operator new(size, alignment);
            check(p, size, n);
            ::operator delete(p, alignment);
            gone(p);
            p = ::operator new[](size, alignment);
            check(p, size, n);
            ::operator delete[](p, size, alignment);
            gone(p);
            p = ::operator new(size, alignment, std::nothrow);
            check(p, size, n);
            ::operator delete(p, alignment, std::nothrow);
            gone(p);
            p = ::operator new[](size, alignment, std::nothrow);
            check(p, size, n);
            ::operator delete[](p, alignment, std::nothrow);
            gone(p);
            p = ::operator new(size, alignment);
            check(p, size, n);
            ::operator delete(p, size, alignment);
            gone(p);
            p = ::operator new[](size, alignment);
            check(p, size, n);
            ::operator delete[](p, alignment);
            gone(p);
        }
    }
}

void deleting_null_does_nothing(void **)
{
    auto alignment = static_cast<std::align_val_t>(64);
    errno = EDOM;
    ::operator delete(nullptr);
    ::operator delete[](nullptr);
    ::operator delete(nullptr, std::size_t(8));
    ::operator delete[](nullptr, std::size_t(8));
    ::operator delete(nullptr, std::nothrow);
    ::operator delete[](nullptr, std::nothrow);
    ::operator delete(nullptr, alignment);
    ::operator delete[](nullptr, alignment);
    ::operator delete(nullptr, std::size_t(8), alignment);
    ::operator delete[](nullptr, std::size_t(8), alignment);
    ::operator delete(nullptr, alignment, std::nothrow);
    ::operator delete[](nullptr, alignment, std::nothrow);
    assert_int_equal(errno, EDOM);
}

template <typename Attempt> bool throws_bad_alloc(Attempt attempt)
{
    try {
        attempt();
    } catch (const std::bad_alloc &) {
        return true;
    }
    return false;
}

void no_memory_throws(void **)
{
    auto alignment = static_cast<std::align_val_t>(64);
    for (std::size_t size : too_much) {
        assert_true(throws_bad_alloc([=] { return ::operator new(size); }));
        assert_true(throws_bad_alloc([=] { return ::operator new[](size); }));
        assert_true(throws_bad_alloc([=] { return ::operator new(size, alignment); }));
        assert_true(
            throws_bad_alloc([=] { return ::operator new[](size, alignment); }));
    }
}

void no_memory_and_nothrow_gives_null(void **)
{
    auto alignment = static_cast<std::align_val_t>(64);
    for (std::size_t size : too_much) {
        assert_null(::operator new(size, std::nothrow));
        assert_null(::operator new[](size, std::nothrow));
        assert_null(::operator new(size, alignment, std::nothrow));
        assert_null(::operator new[](size, alignment, std::nothrow));
    }
}

int handled;

void give_up_at_three()
{
    if (++handled == 3)
        std::set_new_handler(nullptr);
}

struct of_handler {
};

void throw_something_else()
{
    throw of_handler();
}

void the_new_handler_is_asked(void **)
{
    handled = 0;
    std::set_new_handler(give_up_at_three);
    assert_true(throws_bad_alloc([] { return ::operator new(too_much[0]); }));
    assert_int_equal(handled, 3);
    handled = 0;
    std::set_new_handler(give_up_at_three);
    assert_null(::operator new(too_much[0], std::nothrow));
    assert_int_equal(handled, 3);
}

void what_the_new_handler_throws_passes(void **)
{
    bool caught = false;
    std::set_new_handler(throw_something_else);
    try {
        ::operator delete(::operator new(too_much[0]));
    } catch (const of_handler &) {
        caught = true;
    }
    std::set_new_handler(nullptr);
    assert_true(caught);
}

struct alignas(256) wide {
    char bytes[300];
};

void the_library_runs_on_it(void **)
{
    std::vector<std::string> strings;
    for (int i = 0; i < 10000; i++)
        strings.push_back(std::string(static_cast<std::size_t>(i % 100), 'x'));
    assert_true(gc_nbytes(strings.data()) >= strings.size() * sizeof strings[0]);
    for (std::size_t i = 0; i < 10000; i++)
        assert_int_equal(strings[i].size(), i % 100);
    auto p = std::make_unique<wide[]>(7);
    assert_int_equal(reinterpret_cast<std::uintptr_t>(p.get()) % 256, 0);
    assert_true(gc_nbytes(p.get()) >= 7 * sizeof(wide));
}

} // namespace

int main()
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain),
        cmocka_unit_test(sized),
        cmocka_unit_test(nothrow),
        cmocka_unit_test(aligned),
        cmocka_unit_test(deleting_null_does_nothing),
        cmocka_unit_test(no_memory_throws),
        cmocka_unit_test(no_memory_and_nothrow_gives_null),
        cmocka_unit_test(the_new_handler_is_asked),
        cmocka_unit_test(what_the_new_handler_throws_passes),
        cmocka_unit_test(the_library_runs_on_it),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
