#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The Lisp needs the seed's names only, and the switches that it takes instead of building
the library for itself.

    names.py SEED.h LISP.a

SEED.h: the seed's declarations; LISP.a: the Lisp's objects alone.
"""
import pathlib
import re
import subprocess
import sys

SWITCHES = {
    "gc_set_auto_collect",
    "gc_set_scan_data_segments",
    "gc_set_scan_malloc",
    "gc_set_scan_stacks",
    "gc_set_threshold",
}
HOOKS = {
    "gc_collect",
    "gc_finalise",
    "gc_get_max_new_split",
    "gc_weakref_about_to_be_freed",
    "gc_weakref_sweep",
}


def names(option, archive):
    listed = subprocess.run(
        ["nm", "-P", option, archive], check=True, capture_output=True, text=True
    ).stdout
    return set(re.findall(r"^((?:gc|sh|splitheap)_\w+) [A-Z]", listed, re.M))


def main():
    header, archive = sys.argv[1:]
    seed = set(re.findall(r"\b(gc_\w+)\(", pathlib.Path(header).read_text()))
    used, defined = names("-u", archive), names("--defined-only", archive)
    print("uses", *sorted(used), "\ndefines", *sorted(defined))
    strangers = used - seed - SWITCHES - defined
    assert len(used) > 10 and not strangers, strangers
    assert defined == HOOKS, defined


main()
