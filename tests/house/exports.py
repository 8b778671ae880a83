#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The libraries show exactly the listed names.

    exports.py ROOT LIBRARY.so LIBRARY.a LIBRARY-malloc.a

splitheap.map must list what the installed headers declare and the names replaced below; the shared
library must export what the map lists. The archives' other global names must begin with
sh_, since they share the name space of the program; the first has nothing of malloc's, and
no object of it defines two functions that a program may define itself.
"""
import pathlib
import re
import subprocess
import sys

MALLOC = """malloc calloc realloc free reallocarray posix_memalign aligned_alloc memalign
    valloc pvalloc malloc_usable_size free_sized free_aligned_sized cfree""".split()
NUMBERS = "mallinfo mallinfo2 malloc_info malloc_stats malloc_trim mallopt".split()
LIBC = [
    "__libc_" + n
    for n in "malloc calloc realloc free memalign valloc pvalloc mallinfo mallopt".split()
]
NOTHROW, ALIGNED = "RKSt9nothrow_t", "St11align_val_t"
CXX = [f"_Zn{k}m{s}" for k in "wa" for s in ("", NOTHROW, ALIGNED, ALIGNED + NOTHROW)] + [
    f"_Zd{k}Pv{s}"
    for k in "la"
    for s in ("", NOTHROW, "m", ALIGNED, "m" + ALIGNED, ALIGNED + NOTHROW)
]
THREADS = """pthread_create thrd_create pthread_sigmask sigprocmask sigsuspend sigwait
    sigwaitinfo sigtimedwait signalfd sigaction signal""".split()
OF_MALLOC = {*MALLOC, *NUMBERS, *LIBC, *CXX}
HOOKS = """gc_collect gc_finalise gc_get_max_new_split gc_weakref_about_to_be_freed
    gc_weakref_sweep""".split()
REPLACED = {*MALLOC, *NUMBERS, *LIBC, *CXX, *THREADS}


def run(*command):
    return subprocess.run(command, check=True, text=True, capture_output=True).stdout


def without_comments(path):
    return re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.S)


def declared(path):
    """The functions that a header of ours declares."""
    text = re.sub(r"^\s*#.*$", "", without_comments(path), flags=re.M)
    return set(re.findall(r"\b(?:GC|SPLITHEAP)_PUBLIC\b[^;{]*?(\w+)\s*\([^;{]*\)[\sA-Z_]*;", text))


def mapped(path):
    body = re.search(r"global:(.*)local:\s*\*;", without_comments(path), re.S).group(1)
    names = re.findall(r"([^\s;]+);", body)
    assert len(names) == len(set(names)), "splitheap.map lists a name twice"
    return set(names)


def defined(*nm):
    """The names that nm shows, without versions."""
    lines = (line.split() for line in run("nm", *nm).splitlines())
    return {words[0].split("@")[0] for words in lines if len(words) >= 2}


def members_defining(archive, hooks):
    """The hooks that share an object with another public function, with that."""
    objects = run("nm", "-g", "--defined-only", "--format=posix", archive).split("]:\n")
    for text in objects[1:]:
        names = [line.split()[0] for line in text.splitlines() if len(line.split()) >= 2]
        names = [n for n in names if not n.startswith("sh_") and ".o]" not in n]
        if len(names) > 1 and set(names) & set(hooks):
            yield names


def differ(what, one, other):
    for name in sorted(one - other):
        print(f"{what}: {name} is missing in the second")
    for name in sorted(other - one):
        print(f"{what}: {name} is missing in the first")
    return one != other


def main():
    root, (shared, static, with_malloc) = pathlib.Path(sys.argv[1]), sys.argv[2:]
    names = mapped(root / "splitheap.map")
    headers = root / "lib/include/splitheap"
    ours = set().union(*(declared(header) for header in headers.glob("*.h")))
    bad = differ("headers and the replaced names, splitheap.map", ours | REPLACED, names)
    bad |= differ(
        "splitheap.map, the shared library",
        names,
        defined("-D", "--defined-only", "--format=posix", shared),
    )
    # sys/sdt.h's own: weak, hidden, one for all probes of a program.
    names_of_headers = {"_.stapsdt.base"}
    for archive in static, with_malloc:
        inside = defined("-g", "--defined-only", "--format=posix", archive)
        for name in sorted(inside - names - names_of_headers):
            if not name.startswith("sh_") and ".o]" not in name:
                print(f"{archive}: {name} does not begin with sh_")
                bad = True
        wanted = names if archive == with_malloc else names - OF_MALLOC
        bad |= differ(f"splitheap.map, {archive}", wanted, inside & names)
    for members in members_defining(static, HOOKS):
        print(f"the static library: {' and '.join(members)} are defined by one object")
        bad = True
    dynamic = run("readelf", "-dW", shared)
    for sign, why in (
        ("[libsplitheap.so.0]", "its soname"),
        ("NODELETE", "so that it is never unloaded"),
        ("STATIC_TLS", "initial-exec thread-locals"),
    ):
        if sign not in dynamic:
            print(f"the shared library lacks {sign}: {why}")
            bad = True
    if "TEXTREL" in dynamic:
        print("the shared library has text relocations")
        bad = True
    print(f"{len(names)} names, {len(ours)} of them in our headers")
    sys.exit(1 if bad else 0)


main()
