# SPDX-License-Identifier: MIT
"""Writes a large C file that is the same every time: make(path, functions)."""
import random

HEAD = """\
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct item {
    uint64_t key;
    double weight;
    struct item *next;
    char name[24];
};

"""

FUNCTION = """\
static uint64_t step_{n}(struct item *list, uint64_t x, double w)
{{
    uint64_t table[{size}];
    uint64_t sum = x ^ {c0}u;

    for (size_t i = 0; i < {size}; i++)
        table[i] = (x + i) * {c1}u % {c2}u;
    for (struct item *it = list; it != NULL; it = it->next) {{
        switch ((it->key + sum) % {cases}) {{
{switch}        default:
            it->weight = it->weight * {f0} + w;
            sum += strlen(it->name) + (uint64_t)it->weight;
        }}
        if (it->weight > {f1} && sum % {c3} == 0)
            snprintf(it->name, sizeof(it->name), "{name}-%u", (unsigned)sum);
        else if (memcmp(it->name, "{name}", {length}) == 0)
            table[sum % {size}] ^= it->key << {shift};
    }}
    for (size_t i = 1; i < {size}; i++)
        sum += table[i - 1] * table[i] + (sum >> {shift});
    return sum{call};
}}

"""

CASE = """\
        case {k}:
            sum = (sum << {a}) ^ (table[(it->key + {b}) % {size}] >> {c});
            it->key += sum & {d}u;
            {end};
"""

MAIN = """\
int main(void)
{{
    struct item last = {{1, 0.5, NULL, "last"}};
    struct item list = {{2, 1.5, &last, "first"}};
    uint64_t sum = 0;

{calls}    printf("%llu\\n", (unsigned long long)sum);
    return 0;
}}
"""


def make_function(dice, n):
    size = dice.randrange(8, 40)
    cases = dice.randrange(3, 9)
    switch = "".join(
        CASE.format(
            k=k,
            size=size,
            a=dice.randrange(1, 30),
            b=dice.randrange(100),
            c=dice.randrange(1, 30),
            d=dice.randrange(1, 2**16),
            end=dice.choice(["break", "break", "continue"]),
        )
        for k in range(cases - 1)
    )
    call = ""
    if n > 0 and dice.random() < 0.8:
        call = " + (x > %d ? step_%d(list, x / 2, w) : 0)" % (n, dice.randrange(n))
    name = "n%d" % dice.randrange(10**6)
    return FUNCTION.format(
        n=n,
        size=size,
        cases=cases,
        switch=switch,
        call=call,
        name=name,
        length=len(name),
        c0=dice.randrange(2**31),
        c1=dice.randrange(1, 2**31, 2),
        c2=dice.randrange(3, 2**31),
        c3=dice.randrange(2, 50),
        f0="%.4f" % dice.random(),
        f1="%.2f" % (dice.random() * 100),
        shift=dice.randrange(1, 40),
    )


def make(path, functions=170):
    dice = random.Random(7)
    with open(path, "w", encoding="ascii") as file:
        file.write(HEAD)
        for n in range(functions):
            file.write(make_function(dice, n))
        calls = "".join(
            "    sum += step_%d(&list, sum + %d, 0.25);\n" % (n, n)
            for n in range(functions)
        )
        file.write(MAIN.format(calls=calls))
