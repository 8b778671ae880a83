#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs the Lisp programs of this folder and compares what they print with NAME.out.

    run.py LISP fixed|auto|often|threads

In a heap of 1 MiB that cannot grow; in one that grows; in the first, with a collection every
few kilobytes and dead objects overwritten; and, of the program with threads, the first two
again and again.
"""
import os
import pathlib
import subprocess
import sys

FIXED = ["--heap", "1048576"]
AUTO = ["--auto", "33554432", "--threshold", "131072"]
OFTEN = [*FIXED, "--threshold", "4000"]
COUNTS_COLLECTIONS = {"churn"}
NEEDS_A_FIXED_HEAP = {"full", "memory"}
ROUNDS = 5


def runs(way, names):
    """(name, options) of each."""
    if way == "threads":
        return [("threads", heap) for _ in range(ROUNDS) for heap in (FIXED, AUTO)]
    if way == "often":
        return [(name, OFTEN) for name in names if name not in COUNTS_COLLECTIONS]
    if way == "fixed":
        return [(name, FIXED) for name in names]
    return [(name, AUTO) for name in names if name not in NEEDS_A_FIXED_HEAP]


def main():
    lisp, way = sys.argv[1:]
    environment = {**os.environ, "SPLITHEAP_CONF": "junk:true" if way == "often" else ""}
    here = pathlib.Path(__file__).parent
    names = sorted(path.stem for path in here.glob("*.out"))
    bad = 0
    for name, options in runs(way, names):
        command = [lisp, *options, here / f"{name}.lisp"]
        done = subprocess.run(command, text=True, capture_output=True, timeout=120, env=environment)
        wanted = (here / f"{name}.out").read_text()
        ok = done.stdout == wanted and not done.stderr and done.returncode == 0
        print("ok  " if ok else "FAIL", name, *options)
        if not ok:
            print(f"status {done.returncode}\n{done.stderr}got:\n{done.stdout}wanted:\n{wanted}")
            bad += 1
    sys.exit(1 if bad else 0)


main()
