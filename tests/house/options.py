#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The lists of options in docs/ are those that the library prints.

    options.py [--write] ROOT LIBRARY.so

--write puts them there.
"""
import os
import pathlib
import re
import subprocess
import sys


def options(library):
    """(key, default, allowed, what it does), as help:true prints them."""
    env = dict(os.environ, LD_PRELOAD=library, SPLITHEAP_CONF="help:true")
    done = subprocess.run(
        ["sh", "-c", ":"], env=env, check=True, text=True, stderr=subprocess.PIPE
    )
    return re.findall(r"^  (\w+):(.*?)  \((.*)\)\n      (.*)$", done.stderr, re.M)


def markdown(found):
    yield "| key | default | values | |"
    yield "|---|---|---|---|"
    for key, default, allowed, what in found:
        allowed = allowed.replace("|", ", ").replace("..", " to ")
        yield f"| `{key}` | {f'`{default}`' if default else 'none'} | {allowed} | {what} |"


# Each list stands between two lines, the first of which says that it is made.
LISTS = {
    "docs/options.md": ("<!-- options: ", "<!-- end of options", markdown),
}


def made(text, begin, end, lines):
    head, rest = re.split(f"(?<=\n)(?={re.escape(begin)})", text)
    first, rest = rest.split("\n", 1)
    _, tail = re.split(f"^(?={re.escape(end)})", rest, flags=re.M)
    return head + "\n".join([first, *lines, tail])


def main():
    write = sys.argv[1] == "--write"
    root, library = sys.argv[1 + write :]
    found = options(os.path.abspath(library))
    stale = 0
    for name, (begin, end, form) in LISTS.items():
        path = pathlib.Path(root) / name
        text = path.read_text()
        wanted = made(text, begin, end, form(found))
        if wanted == text:
            continue
        if write:
            path.write_text(wanted)
            continue
        print(f"{name} lists other options than the library: options.py --write")
        stale += 1
    print(f"{len(found)} options in {len(LISTS)} lists")
    sys.exit(1 if stale or not found else 0)


main()
