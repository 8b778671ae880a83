# SPDX-License-Identifier: MIT
"""Writes a history for git fast-import, the same every time: make(path, commits)."""
import random

FILES = 120
LINES = 200
CHANGED = 4  # files in a commit, some lines in each
BEGAN = 1_700_000_000  # seconds since 1970


def line(dice):
    words = ["%s%d" % (dice.choice("abcdefgh"), dice.randrange(500)) for _ in range(9)]
    return " ".join(words) + "\n"


def change(dice, text):
    for _ in range(dice.randrange(1, 12)):
        text[dice.randrange(len(text))] = line(dice)
    text.insert(dice.randrange(len(text)), line(dice))


def write_data(file, text):
    file.write("data %d\n%s\n" % (len(text), text))


def make(path, commits=400):
    dice = random.Random(5)
    texts = [[line(dice) for _ in range(LINES)] for _ in range(FILES)]
    with open(path, "w", encoding="ascii", newline="") as file:
        for number in range(commits):
            file.write("commit refs/heads/main\n")
            file.write("committer A <a@example.org> %d +0000\n" % (BEGAN + number * 60))
            write_data(file, "change %d\n" % number)
            changed = dice.sample(range(FILES), CHANGED) if number else range(FILES)
            for i in changed:
                change(dice, texts[i])
                file.write("M 100644 inline folder%d/file%d\n" % (i % 7, i))
                write_data(file, "".join(texts[i]))
