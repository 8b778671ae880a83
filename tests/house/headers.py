#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Every header compiles alone, and twice: the installed ones as strict C11, C++11 and
C++17, the others as the library is compiled.

    headers.py ROOT INTERNAL_ARGS -- CC... [-- CXX...]
"""
import pathlib
import subprocess
import sys

WARNINGS = ["-Wall", "-Wextra", "-Wundef", "-Wshadow", "-Werror"]
FOLDERS = ("lib", "threads", "heaps")


def compiles(compiler, language, args, include):
    text = f"#include {include}\n#include {include}\nextern int something;\n"
    command = [*compiler, "-x", language, *args, *WARNINGS, "-fsyntax-only", "-"]
    done = subprocess.run(command, input=text, text=True, capture_output=True)
    if done.returncode != 0:
        print(f"{include} alone, {' '.join(args)}:\n{done.stderr}")
    return done.returncode == 0


def split(words):
    parts = [[]]
    for word in words:
        if word == "--":
            parts.append([])
        else:
            parts[-1].append(word)
    return parts


def main():
    (root, *internal), cc, *rest = split(sys.argv[1:])
    root = pathlib.Path(root)
    public = root / "lib/include"
    good = []
    for header in sorted(public.rglob("*.h")):
        include = f"<{header.relative_to(public)}>"
        path = [f"-I{public}"]
        good.append(
            compiles(cc, "c", ["-std=c11", "-pedantic", "-Wstrict-prototypes", *path], include)
        )
        for cxx in rest:
            for std in ("-std=c++11", "-std=c++17"):
                good.append(compiles(cxx, "c++", [std, "-pedantic", *path], include))
    for folder in FOLDERS:
        for header in sorted((root / folder).rglob("*.h")):
            if public in header.parents:
                continue
            args = ["-std=gnu11", *internal, f"-I{root}", f"-I{public}"]
            good.append(compiles(cc, "c", args, f'"{header.relative_to(root)}"'))
    print(f"{sum(good)} of {len(good)} compile alone")
    if not rest:
        print("no C++ compiler: C only")
    sys.exit(0 if good and all(good) else 1)


main()
