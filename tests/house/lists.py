#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The lists of options and of statistics in docs/ are those that the library prints.

    lists.py [--write] ROOT LIBRARY.so

--write puts them there.
"""
import os
import pathlib
import re
import subprocess
import sys


def said(library, conf):
    env = dict(os.environ, LD_PRELOAD=library, SPLITHEAP_CONF=conf)
    command = [os.path.realpath(sys.executable), "-S", "-c", ""]
    done = subprocess.run(command, env=env, check=True, text=True, stderr=subprocess.PIPE)
    return done.stderr


def options(library):
    """(key, default, allowed, what it does), as help:true prints them."""
    text = said(library, "help:true")
    return re.findall(r"^  (\w+):(.*?)  \((.*)\)\n      (.*)$", text, re.M)


def statistics(library):
    """(name, what it is), as stats_at_exit:text prints them."""
    text = said(library, "stats_at_exit:text")
    return re.findall(r"^ +[0-9]+  (\w+) +([a-z].*)$", text, re.M)


def options_table(found):
    yield "| key | default | values | |"
    yield "|---|---|---|---|"
    for key, default, allowed, what in found:
        allowed = allowed.replace("|", ", ").replace("..", " to ")
        yield f"| `{key}` | {f'`{default}`' if default else 'none'} | {allowed} | {what} |"


def statistics_table(found):
    yield "| name | |"
    yield "|---|---|"
    for name, what in found:
        yield f"| `{name}` | {what} |"


def roff(text):
    return text.replace("\\", "\\e").replace("-", "\\-")


def options_manual(found):
    for key, default, allowed, what in found:
        yield ".TP"
        yield f'.BI {key}: "{roff(default)}"'
        yield roff(f"{what[0].upper()}{what[1:]}.")
        yield roff(f"Values: {allowed.replace('|', ', ').replace('..', ' to ')}.")


def statistics_manual(found):
    for name, what in found:
        yield ".TP"
        yield f".B {name}"
        yield roff(what)


# Each list stands between two lines, the first of which says that it is made.
LISTS = [
    ("docs/options.md", options, "<!--", options_table),
    ("docs/statistics.md", statistics, "<!--", statistics_table),
    ("docs/splitheap.7", options, '.\\"', options_manual),
    ("docs/splitheap.7", statistics, '.\\"', statistics_manual),
]


def made(text, comment, what, lines):
    begin, end = f"\n{comment} {what}: made by ", f"\n{comment} end of {what}"
    start = text.index("\n", text.index(begin) + 1)
    return "\n".join([text[:start], *lines]) + text[text.index(end) :]


def main():
    write = sys.argv[1] == "--write"
    root, library = sys.argv[1 + write :]
    stale = 0
    for name, source, comment, form in LISTS:
        path = pathlib.Path(root) / name
        text = path.read_text()
        found = source(os.path.abspath(library))
        wanted = made(text, comment, source.__name__, form(found))
        print(f"{name}: {len(found)} {source.__name__}")
        if wanted == text and found:
            continue
        if write:
            path.write_text(wanted)
            continue
        print(f"{name} lists others than the library: lists.py --write")
        stale += 1
    sys.exit(1 if stale else 0)


main()
