# SPDX-License-Identifier: MIT
"""The workloads of the malloc suite: our own of `loads`, and real programs."""
import json
import os

from harness import programs
from harness.process import Failure, Usage, find_program, meter, run

# Name, threads where it has any number of them, what it does.
LOADS = (
    ("larson", True, "servers free what others made, and hand over to successors"),
    ("xmalloc-test", True, "half of the threads allocate, half free"),
    ("mstress", True, "phases of mixed lives, objects that migrate"),
    ("rptest", True, "8 B to 16 KB, a third freed by the next thread"),
    ("alloc-test", True, "sizes and places by Pareto's law in a large live set"),
    ("cache-scratch", True, "false sharing that main brought about"),
    ("cache-thrash", True, "false sharing that the allocator brings about"),
    ("glibc-simple", False, "25 to 1600 objects of one size, made and freed in order"),
    ("glibc-thread", True, "4 B to 32 KiB, replaced at random by all threads"),
    ("malloc-large", False, "5 to 25 MiB, cleared, and dropped at random"),
    ("mleak", True, "threads born and gone by the thousand"),
    ("growth", False, "vectors grown by realloc"),
    ("calloc", True, "objects of calloc, dirtied and replaced"),
    ("aligned", True, "objects aligned to 16 B ... 4 KiB, replaced"),
    ("cfrac-like", False, "arithmetic on numbers of a few digits, each an object"),
    ("espresso-like", False, "a live set of small objects that swells and shrinks"),
)
RELEASE = "release"
RELEASED = (RELEASE, True, "objects of mixed sizes are all freed; then two seconds of idleness")
NAMES = [name for name, _, _ in LOADS] + [program.name for program in programs.ALL]


class Load:
    """One of ours; it answers to what harness.programs.Program answers to."""

    LIMIT = 120  # seconds for one run
    alone = True

    def __init__(self, name, about, scale, threads):
        self.name = name
        self.about = about
        self.scale = scale
        self.threads = threads

    def weight(self):
        return self.scale * 0.05 + (10 if self.name == RELEASE else 0)

    def require_installed(self):
        pass

    def prepare(self, place):
        pass

    def check(self, place, allocator):
        """Each run tells where its malloc comes from."""

    def run(self, place, allocator, samples=None):
        words = [find_program(place.build, "loads"), self.name, str(self.scale)]
        words.append(str(self.threads))
        if samples:
            output = meter(words, place, allocator, samples=samples, limit=self.LIMIT).output
        else:
            output = run(words, place, allocator, limit=self.LIMIT)
        figures = json.loads(output)
        self.require_from(allocator, figures["malloc"])
        return Usage(figures, str(figures["checksum"]).encode())

    def require_from(self, allocator, found):
        expected = allocator.library
        if expected and os.path.realpath(found) != os.path.realpath(expected):
            message = "%s under %s took its malloc from %s"
            raise Failure(message % (self.name, allocator, found))


def make_load(name, scale, threads=2):
    entry = next(entry for entry in LOADS + (RELEASED,) if entry[0] == name)
    return Load(name, entry[2], scale, threads)


def make_workload(name, scale, percent):
    """One of NAMES: the scale is for loads, the percent for programs."""
    for program in programs.ALL:
        if program.name == name:
            return program(percent)
    return make_load(name, scale)
