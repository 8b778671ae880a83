#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""How much live data of the Lisp a small heap holds, beside a heap of 16-byte blocks.

    fits.py LISP LISP_ON_BLOCKS

Both run fill.lisp in heaps of the same size until they are full, and say how many records
there were; and fill_wide.lisp, with objects of very many sizes, for which nothing is asked.
"""
import pathlib
import subprocess
import sys

KIB = [100, 256, 512, 1024, 2048]
LEAST = 0.85


def records(lisp, kib, name):
    program = pathlib.Path(__file__).parent / name
    command = [lisp, "--heap", str(kib * 1024), program]
    done = subprocess.run(command, text=True, capture_output=True, timeout=120, check=True)
    return int(done.stdout)


def main():
    ours, blocks = sys.argv[1:]
    bad = False
    for name, least in ("fill.lisp", LEAST), ("fill_wide.lisp", 0):
        print(name)
        for kib in KIB:
            n, model = records(ours, kib, name), records(blocks, kib, name)
            bad |= model < 50 or n < least * model
            print(f"{kib:5} KiB: {n:5} records, on 16-byte blocks {model:5}: {n / model:.2f}")
    sys.exit(1 if bad else 0)


main()
