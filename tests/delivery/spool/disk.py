"""A spool with its books, for tests."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from otelagent.delivery import Ledger, Payload
from otelagent.delivery.spool.place import SpoolPlace
from otelagent.delivery.spool.spool import Spool, SpoolLimits

SMALL = SpoolLimits(max_bytes=1024 * 1024)


class Disk:
    """A spool, and a ledger that hears what it says.

    :ivar failures: what went wrong with the disk, by reason.
    """

    def __init__(self, directory: Path, limits: SpoolLimits = SMALL, key: str = "key") -> None:
        self.directory = directory
        self.spool = Spool(SpoolPlace(str(directory), key, {"service.name": "shop"}), limits)
        self.spool.attach(self)
        self.ledger = Ledger("traces")
        self.failures: Counter[str] = Counter()
        self.recoveries = 0

    def adopted(self, signal: str, items: int) -> None:
        self.ledger.adopted(items)

    def lost(self, signal: str, items: int, reason: str) -> None:
        self.ledger.unspooled(items)
        self.ledger.dropped(items, reason)

    def failed(self, reason: str, message: str) -> None:
        self.failures[reason] += 1

    def recovered(self) -> None:
        self.recoveries += 1

    def accepted(self, payload: Payload) -> None:
        """The destination has taken it; the spool doesn't know yet."""

    def append(self, body: bytes, items: int = 1, signal: str = "traces") -> bool:
        """Whether the disk took it."""
        self.ledger.ended(items)
        stored = self.spool.append(Payload(signal, body, items)).name == "STORED"
        if stored:
            self.ledger.spooled(items)
        else:
            self.ledger.dropped(items, "not stored")
        self.check()
        return stored

    def take(self) -> Payload | None:
        """Delivers the next one."""
        payload = self.spool.next()
        if payload is not None:
            self.accepted(payload)
            self.spool.settle()
            self.ledger.unspooled(payload.items)
            self.ledger.delivered(payload.items)
        self.check()
        return payload

    def drain(self) -> Iterator[Payload]:
        while (payload := self.take()) is not None:
            yield payload

    def retry(self) -> None:
        """The time after which a disk that failed is tried again is over."""
        self.spool._write_after_s = self.spool._read_after_s = self.spool._adopt_after_s = float("-inf")

    def adopt(self) -> None:
        self.spool._adopt_after_s = float("-inf")
        self.spool.maintain()
        self.check()

    def die(self) -> None:
        """What is left of a process that is killed: its files, unlocked."""
        self.spool.after_fork_in_child()

    def check(self) -> None:
        snapshot = self.ledger.snapshot()
        assert snapshot.balanced, snapshot
        assert snapshot.spooled == self.spool.items(), snapshot

    def files(self) -> list[Path]:
        """Every segment of every process, the oldest first."""
        return sorted(self.directory.glob("*/*/*.traces"), key=lambda file: file.name)


def flip(file: Path, bit: int) -> None:
    """Flips one bit of a file in place."""
    with file.open("r+b") as opened:
        opened.seek(bit // 8)
        byte = opened.read(1)[0] ^ (1 << bit % 8)
        opened.seek(bit // 8)
        opened.write(bytes([byte]))


def body(number: int, size: int = 300) -> bytes:
    """A body that is known again by its number."""
    return number.to_bytes(8, "big") + os.urandom(size)


def number(payload: Payload) -> int:
    return int.from_bytes(payload.body[:8], "big")


def digest(body: bytes) -> str:
    """Of all its bytes."""
    return sha256(body).hexdigest()[:16]
