"""A process that uses a spool until it is told to end or killed: `python -m tests.delivery.spool.writer DIRECTORY`.

It adopts what is there, then appends and delivers in turns. A line on standard output for each acknowledged append
(`A number items digest`), each delivery (`D number items digest`), and each loss (`L items reason`); at its end one
with its books.
"""

from __future__ import annotations

import json
import os
import random
import sys
from pathlib import Path

from otelagent.delivery import Payload
from otelagent.delivery.spool.spool import SpoolLimits
from tests.delivery.spool.disk import Disk, digest, number


class Telling(Disk):
    def accepted(self, payload: Payload) -> None:
        say("D", number(payload), payload.items, digest(payload.body))

    def lost(self, signal: str, items: int, reason: str) -> None:
        super().lost(signal, items, reason)
        say("L", items, reason)


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def main() -> None:
    directory, first, appends, share, size = Path(sys.argv[1]), *map(float, sys.argv[2:6])
    random.seed(first)  # What it does is always the same; when it is killed isn't.
    disk = Telling(directory, SpoolLimits(max_bytes=256 * 1024 * 1024))
    disk.adopt()
    say("R")
    count = 0
    while count < appends:
        if random.random() < share:
            disk.take()
        else:
            which = int(first) + count
            count += 1
            items = random.randint(0, 9)
            body = which.to_bytes(8, "big") + os.urandom(random.randint(0, int(size)))
            if disk.append(body, items):
                say("A", which, items, digest(body))
            else:
                say("N", which)
        disk.spool.maintain()
    disk.spool.close()
    say("B", json.dumps({**disk.ledger.snapshot().to_dict(), "failures": disk.failures}))


if __name__ == "__main__":
    main()
