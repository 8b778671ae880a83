#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The probes that docs/collector.md lists are in the library, and no others.

    probes.py ROOT LIBRARY.so
"""
import pathlib
import re
import subprocess
import sys


def main():
    root, library = sys.argv[1:]
    text = (pathlib.Path(root) / "docs/collector.md").read_text()
    listed = {
        (name, arguments.count(",") + 1)
        for name, arguments in re.findall(r"^\| `(collection_\w+)` \| (.*?) \|", text, re.M)
    }
    command = ["readelf", "-n", "-W", library]
    notes = subprocess.run(command, check=True, text=True, capture_output=True).stdout
    found = {
        (name, len(arguments.split()))
        for name, arguments in re.findall(
            r"Provider: splitheap\n +Name: (\w+)\n.*\n +Arguments: (.*)", notes
        )
    }
    for name, arguments in sorted(listed ^ found):
        where = "the library" if (name, arguments) in listed else "docs/collector.md"
        print(f"{name} with {arguments} arguments is missing in {where}")
    print(f"{len(found)} probes")
    sys.exit(0 if found and listed == found else 1)


main()
