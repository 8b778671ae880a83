# SPDX-License-Identifier: MIT
"""Four threads that make many objects of many sizes and hand them round in a ring.

Each thread builds documents, turns them into text and back, sorts and searches them,
and puts every one into its neighbour's queue: what one thread allocates another frees.
The output depends on nothing but this text and the number of rounds.

    churn.py [ROUNDS]
"""
import collections
import json
import queue
import re
import sys
import threading
import zlib

THREADS = 4
ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 40
RECORDS = 60
KEPT_DOCUMENTS = 25


def numbers(seed):
    while True:
        seed = (seed * 6364136223846793005 + 1442695040888963407) % 2**64
        yield seed >> 33


def make_document(random):
    records = []
    for _ in range(RECORDS):
        size = next(random) % 120 + 1
        records.append(
            {
                "id": next(random),
                "title": "%x" % next(random) * (size % 12 + 1),
                "tags": {"t%d" % (next(random) % 1000): i for i in range(size % 17)},
                "values": [next(random) / 7 for _ in range(size)],
                "body": " ".join("word%d" % (next(random) % 99) for _ in range(size)),
            }
        )
    return records


def digest(document):
    """A checksum that visits all of the document, through objects of its own."""
    text = json.dumps(document, sort_keys=True)
    copy = json.loads(text)
    copy.sort(key=lambda record: (record["title"], record["id"]))
    words = collections.Counter()
    for record in copy:
        words.update(re.findall(r"word(\d+)", record["body"]))
        record["values"].sort()
    rows = ["%s:%d" % pair for pair in sorted(words.items())]
    text += json.dumps(copy, indent=1) + ",".join(rows)
    return zlib.crc32(text.encode())


def work(number, inbox, outbox, results):
    random = numbers(number)
    kept = collections.deque(maxlen=KEPT_DOCUMENTS)
    total = 0
    for _ in range(ROUNDS):
        document = make_document(random)
        outbox.put((digest(document), document))
        expected, received = inbox.get()
        if digest(received) != expected:
            raise SystemExit("a document changed on its way")
        kept.append(received)
        total = zlib.crc32(b"%d" % expected, total)
    results[number] = (total, sum(len(record) for doc in kept for record in doc))


def main():
    queues = [queue.Queue(maxsize=4) for _ in range(THREADS)]
    results = [None] * THREADS
    threads = [
        threading.Thread(
            target=work, args=(i, queues[i], queues[(i + 1) % THREADS], results)
        )
        for i in range(THREADS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, result in enumerate(results):
        print("thread", number, *result)


main()
