#!/bin/sh
# SPDX-License-Identifier: MIT
# Every C and C++ file is as clang-format leaves it.
#
#     format.sh ROOT
cd "$1" || exit 1
if ! command -v clang-format >/dev/null; then
    echo "clang-format is missing; ./dev test installs it"
    exit 77
fi
find lib threads heaps tests bench examples -name '*.[ch]' -o -name '*.cpp' -o -name '*.cc' |
    sort | xargs clang-format --dry-run -Werror --style=file
