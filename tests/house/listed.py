#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""No source file is forgotten: each is named in its folder's meson.build.

    listed.py ROOT
"""
import pathlib
import re
import sys


def main():
    root = pathlib.Path(sys.argv[1])
    missing = []
    for folder in ("lib", "threads", "heaps", "tests", "tests/harness"):
        named = re.findall(r"'([\w.]+)'", (root / folder / "meson.build").read_text())
        for path in sorted((root / folder).glob("*.c")):
            # Meson picks os_<system>.c; tests are named without the .c.
            if path.name not in named and path.stem not in named and path.stem[:3] != "os_":
                missing.append(str(path.relative_to(root)))
    for name in missing:
        print(f"{name} is not in its folder's meson.build")
    sys.exit(1 if missing else 0)


main()
