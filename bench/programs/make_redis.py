# SPDX-License-Identifier: MIT
"""Writes redis commands, the same every time, in redis's own protocol: make(path, percent)."""
import random


def text(dice, most):
    size = dice.randrange(1, most)
    return ("%016x" % dice.getrandbits(64) * (size // 16 + 1))[:size]


def commands(dice, percent):
    strings, hashes, others = 900 * percent, 60 * percent, 20 * percent
    for i in range(strings):
        yield "SET", "string:%d" % i, text(dice, 1000 if i % 8 == 0 else 120)
    for i in range(hashes):
        fields = [text(dice, 60) for _ in range(2 * dice.randrange(2, 24))]
        yield "HSET", "hash:%d" % i, *fields
    for i in range(others):
        yield "RPUSH", "list:%d" % i, *[text(dice, 90) for _ in range(30)]
    for i in range(others):
        yield "SADD", "set:%d" % i, *[text(dice, 40) for _ in range(30)]
    for i in range(others):
        pairs = [x for j in range(30) for x in (str(j * i % 97), text(dice, 40))]
        yield "ZADD", "sorted:%d" % i, *pairs
    for i in range(0, strings, 3):
        yield "APPEND", "string:%d" % i, text(dice, 300)
    for i in range(1, strings, 3):
        yield ("UNLINK" if i % 2 else "DEL"), "string:%d" % i
    for i in range(0, hashes, 5):
        yield "UNLINK", "hash:%d" % i
    for i in range(0, others, 2):
        yield "LTRIM", "list:%d" % i, "5", "19"
    for i in range(0, others, 2):
        yield "SUNIONSTORE", "union:%d" % i, "set:%d" % i, "set:%d" % (i + 1)
    for i in range(2, strings, 3):
        yield "SET", "string:%d" % i, text(dice, 700)


def make(path, percent=100):
    dice = random.Random(11)
    with open(path, "w", encoding="ascii", newline="") as file:
        for command in commands(dice, percent):
            file.write("*%d\r\n" % len(command))
            for word in command:
                file.write("$%d\r\n%s\r\n" % (len(word), word))
