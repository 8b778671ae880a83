# SPDX-License-Identifier: MIT
"""The allocators that are compared, and whether a program really runs on one."""
import glob
import os
import subprocess

from harness.process import Failure, run

MALLOC_FAMILY = ("malloc", "calloc", "realloc", "free")

# Name, the preloaded library, the package that has it. None: nothing is preloaded.
TABLE = (
    ("splitheap", "libsplitheap.so", None),
    ("jemalloc", "libjemalloc.so.2", "libjemalloc2"),
    ("mimalloc", "libmimalloc.so.2*", "libmimalloc2.0"),
    ("tcmalloc", "libtcmalloc_minimal.so.4", "libtcmalloc-minimal4"),
    ("glibc", None, "libc6"),
)
OURS = "splitheap"
BASE = "jemalloc"


class Allocator:
    """A name, and the library that is preloaded for it; None preloads nothing."""

    def __init__(self, name, library, package=None):
        self.name = name
        self.library = library
        self.package = package

    def __repr__(self):
        return self.name

    def version(self):
        return package_version(self.package) if self.package else None


def package_version(package):
    """As dpkg has it, or None."""
    words = ["dpkg-query", "-W", "-f", "${Version}", package]
    try:
        found = subprocess.run(words, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return found.stdout or None


def find_library(name):
    """The path of an installed library, or None."""
    for folder in ("/usr/lib/*-linux-gnu", "/lib/*-linux-gnu", "/usr/lib64", "/usr/lib"):
        for path in sorted(glob.glob(os.path.join(folder, name))):
            return path
    return None


def find_ours(place):
    """The build's library, by a path that LD_PRELOAD takes for one."""
    library = os.path.realpath(os.path.join(place.build, "libsplitheap.so"))
    if not os.path.exists(library):
        raise Failure("there is no %s; ./dev build makes it" % library)
    if any(separator in library for separator in " :"):
        link = place.path(os.path.basename(library))
        if not os.path.lexists(link):
            os.symlink(library, link)
        library = link
    return library


def find_allocators(place, names=None):
    """Those that are installed, and what is missing, in words."""
    found, missing = [], []
    for name, pattern, package in TABLE:
        if names and name not in names:
            continue
        if name == OURS:
            found.append(Allocator(name, find_ours(place)))
        elif pattern is None or find_library(pattern):
            found.append(Allocator(name, pattern and find_library(pattern), package))
        else:
            missing.append("%s (%s)" % (name, package))
    return found, missing


def require_malloc_from(allocator, program, words, place, env=None):
    """
    Has the dynamic loader say where each object's malloc comes from, while `words`
    runs, and fails unless all of them, `program`'s own among them, come from the
    allocator's library.
    """
    log = place.path("bindings")
    asked = {"LD_DEBUG": "bindings", "LD_DEBUG_OUTPUT": log, "LD_BIND_NOW": "1"}
    run(words, place, allocator, dict(env or {}, **asked))
    expected = os.path.basename(allocator.library or "libc.so.6")
    seen = set()  # what the program itself takes from the library
    for path in glob.glob(log + ".*"):
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = [line for line in file if "binding file" in line]
        os.remove(path)
        for line in lines:
            user, provider, name = read_binding(line)
            if name not in MALLOC_FAMILY:
                continue
            if os.path.basename(provider).startswith(program):
                continue  # a stub of a program at a fixed address: it leads to `seen`
            if os.path.basename(provider) != expected:
                message = "%s of %s comes from %s, not from %s"
                raise Failure(message % (name, user, provider, expected))
            seen.update([name] if os.path.basename(user).startswith(program) else [])
    if not {"malloc", "free"} <= seen:
        raise Failure("the loader bound no malloc and free for %s" % program)


def read_binding(line):
    """binding file USER [0] to PROVIDER [0]: normal symbol `NAME' [VERSION]"""
    text = line.split("binding file ", 1)[1]
    user, text = text.split(" [", 1)
    provider, text = text.split("] to ", 1)[1].split(" [", 1)
    return user, provider, text.split("`", 1)[1].split("'", 1)[0]
