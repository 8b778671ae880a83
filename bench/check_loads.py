#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Every workload, done a little, reads back the same whatever it runs on.

    check_loads.py [--scale N] [--verify] PROGRAM[,LIBRARY]...

The programs run those workloads that they list; a LIBRARY is preloaded, and malloc must be
its own. With --verify they look at their live data after each collection.
"""
import argparse
import json
import os
import subprocess
import sys

LIMIT = 100  # seconds for one run
THREADS = ("2", "7")


class Variant:
    """A program, and what is preloaded; the workloads that it lists."""

    def __init__(self, words):
        self.name = os.path.basename(words)
        self.program, _, library = words.partition(",")
        self.library = os.path.realpath(library) if library else None
        listed = subprocess.run(
            [self.program, "--list"], stdout=subprocess.PIPE, text=True, check=True
        )
        self.loads = listed.stdout.split()

    def start(self, load, threads, scale, options):
        env = {k: v for k, v in os.environ.items() if not k.startswith("LD_")}
        if self.library:
            env["LD_PRELOAD"] = self.library
        words = [self.program, *options, load, scale, threads]
        return subprocess.Popen(words, env=env, stdout=subprocess.PIPE, text=True)

    def finish(self, process, load, libraries):
        """The checksum; `libraries` are those of all variants."""
        out, _ = process.communicate(timeout=LIMIT)
        if process.returncode != 0:
            sys.exit("%s on %s ended with %d" % (load, self.name, process.returncode))
        told = json.loads(out)
        found = os.path.realpath(told["malloc"])
        if libraries and (found if found in libraries else None) != self.library:
            sys.exit("%s on %s took malloc from %s" % (load, self.name, found))
        return told["checksum"]


def parse():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", default="1")
    parser.add_argument("--verify", action="store_true")
    parser.add_argument("variants", nargs="+", type=Variant)
    return parser.parse_args()


def check(load, threads, arguments, libraries):
    """All at once: some sleep, and then they take no longer."""
    variants = [variant for variant in arguments.variants if load in variant.loads]
    options = ["--verify"] if arguments.verify else []
    started = [v.start(load, threads, arguments.scale, options) for v in variants]
    found = {
        variant.name: variant.finish(process, load, libraries)
        for variant, process in zip(variants, started)
    }
    if len(set(found.values())) != 1:
        sys.exit("%s, %s threads, read back different contents: %s" % (load, threads, found))
    print(load, threads, "threads:", ", ".join(found), "read back", found.popitem()[1])


def main():
    arguments = parse()
    libraries = {variant.library for variant in arguments.variants if variant.library}
    loads = [load for variant in arguments.variants for load in variant.loads]
    for load in dict.fromkeys(loads):
        for threads in THREADS:
            check(load, threads, arguments, libraries)


main()
