#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Includes point down the storeys, and only lib/os_*.c knows the operating system.

    includes.py ROOT
"""
import pathlib
import re
import sys

# Who sees whom. Folders that are not here (tests, bench, examples) see everything.
SEES = {
    "lib": {"lib"},
    "threads": {"lib", "threads"},
    "heaps": {"lib", "threads", "heaps"},
}
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
OS_MACRO = re.compile(
    r"^\s*#\s*(?:if|ifdef|ifndef|elif)\b.*\b_*"
    r"(?:linux|gnu_linux|ANDROID|APPLE|MACH|FreeBSD|NetBSD|OpenBSD|DragonFly|sun|WIN32)"
    r"(?:__)?\b"
)
OS_HEADERS = re.compile(r"^(?:linux/|asm/|sys/(?:mman|syscall|prctl|sysinfo)\.h)")


def complaints(root):
    for folder, seen in SEES.items():
        for path in sorted((root / folder).rglob("*.[ch]")):
            name = path.relative_to(root)
            installed = name.parts[:2] == ("lib", "include")
            may_know_os = name.match("lib/os_*.c")
            for number, line in enumerate(path.read_text().splitlines(), 1):
                where = f"{name}:{number}: "
                if OS_MACRO.match(line) and not may_know_os:
                    yield where + "asks which system this is; that is for lib/os_*.c"
                found = INCLUDE.match(line)
                if not found:
                    continue
                quote, target = found.groups()
                if quote == "<":
                    if OS_HEADERS.match(target) and not may_know_os:
                        yield where + f"<{target}> is for lib/os_*.c"
                elif installed:
                    yield where + "an installed header includes only <...>"
                elif not (root / target).is_file():
                    yield where + f'"{target}" is no path from the root'
                elif target.split("/")[0] not in seen:
                    yield where + f'{folder} must not see "{target}"'


def main():
    root = pathlib.Path(sys.argv[1])
    found = list(complaints(root))
    print("\n".join(found))
    if not any((root / folder).rglob("*.c") for folder in SEES):
        sys.exit("no sources found")
    sys.exit(1 if found else 0)


main()
