#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Every workload, done a little, reads back the same on our malloc and on the C library's.

    check_loads.py LOADS LIBSPLITHEAP
"""
import json
import os
import subprocess
import sys

LIMIT = 60  # seconds for all runs of one workload
THREADS = ("2", "7")


def start(loads, name, threads, library):
    env = {k: v for k, v in os.environ.items() if not k.startswith("LD_")}
    if library:
        env["LD_PRELOAD"] = library
    words = [loads, name, "1", threads]
    return subprocess.Popen(words, env=env, stdout=subprocess.PIPE, text=True)


def finish(process, name, library):
    out, _ = process.communicate(timeout=LIMIT)
    if process.returncode != 0:
        sys.exit("%s on %s ended with %d" % (name, library, process.returncode))
    result = json.loads(out)
    ours = os.path.realpath(result["malloc"]) == os.path.realpath(library or "")
    if ours != bool(library):
        sys.exit("%s on %s took malloc from %s" % (name, library, result["malloc"]))
    return result["checksum"]


def main():
    loads, library = map(os.path.abspath, sys.argv[1:])
    names = subprocess.run([loads, "--list"], stdout=subprocess.PIPE, text=True, check=True)
    for name in names.stdout.split():
        # One of them sleeps: at once they take no longer.
        pairs = [
            (start(loads, name, threads, None), start(loads, name, threads, library))
            for threads in THREADS
        ]
        for threads, (without, ours) in zip(THREADS, pairs):
            expected, found = finish(without, name, None), finish(ours, name, library)
            if expected != found:
                sys.exit("%s, %s threads: %s, on our malloc %s" % (name, threads, expected, found))
            print(name, threads, "threads:", found)


main()
