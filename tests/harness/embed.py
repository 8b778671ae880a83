#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A file as the initialiser of an array of bytes.

    embed.py FILE OUTPUT
"""
import sys

with open(sys.argv[1], "rb") as file:
    content = file.read()
with open(sys.argv[2], "w", encoding="ascii") as output:
    for at in range(0, len(content), 16):
        print(*(f"{byte}," for byte in content[at:at + 16]), file=output)
