"""What a process of an examined command tells: facts as lines, and counts in a table that outlives it however it ends.

The counts are in a file that is mapped into memory, so that neither `os._exit` nor SIGKILL loses one. No descriptor is
held: a daemon closes all there are, and may have a file of its own under the same number.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from otelagent.struct import struct as frozen_struct
from otelagent.threads import RLock

__all__ = ["COLUMNS", "Journal", "Process", "Row", "read"]

COLUMNS = ("started", "sampled", "server", "unsampled_parent", "queued", "sent", "accepted", "refused")
"""What is counted of each signal, instrumentation scope and destination."""

_ROWS = 512
_KEY_BYTES = 400
_ROW = struct.Struct(f"<H{_KEY_BYTES}s{len(COLUMNS)}Q")
_COUNT = struct.Struct("<Q")
_COUNTS_AT = _ROW.size - len(COLUMNS) * _COUNT.size


class Journal:
    """One process's own. Where it can't be written, nothing is: the application doesn't hear of it.

    :param directory: where it is written.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._open()

    def _open(self) -> None:
        self._lock = RLock()
        self._rows: dict[tuple[str, str, str], int] = {}
        self._counts: dict[tuple[int, int], int] = {}
        self._path = os.path.join(self._directory, f"{os.getpid()}-{time.time_ns()}")
        self._table: mmap.mmap | None = None
        try:
            self._table = _map(self._path + ".counts")
        except (OSError, ValueError):  # the examination is over and its directory gone, or there is no room for it
            return

    def tell(self, fact: str, **values: Any) -> None:
        """Adds a fact."""
        try:
            line = json.dumps({"fact": fact, "pid": os.getpid(), **values}, default=str) + "\n"
            facts = os.open(self._path + ".jsonl", os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                os.write(facts, line.encode())
            finally:
                os.close(facts)
        except (OSError, ValueError, RuntimeError):
            pass

    def count(self, signal: str, scope: str, column: str, items: int = 1, destination: str = "") -> None:
        """Adds to a count. The last row is for all that have none of their own."""
        with self._lock:
            if self._table is None:
                return
            key = (signal, scope, destination)
            row = self._rows.get(key)
            if row is None:
                row = self._add(self._table, key)
            place = row, COLUMNS.index(column)
            self._counts[place] = value = self._counts.get(place, 0) + items
            _COUNT.pack_into(self._table, row * _ROW.size + _COUNTS_AT + place[1] * _COUNT.size, value)

    def _add(self, table: mmap.mmap, key: tuple[str, str, str]) -> int:
        row = min(len(self._rows), _ROWS - 1)
        text = json.dumps(key if row < _ROWS - 1 else (key[0], "others", "")).encode()
        if len(text) > _KEY_BYTES:
            text = json.dumps((key[0], key[1][:30], key[2][:30])).encode()
        if row < _ROWS - 1:
            self._rows[key] = row
        struct.pack_into(f"<H{_KEY_BYTES}s", table, row * _ROW.size, len(text), text)
        return row

    def after_fork_in_child(self) -> None:
        """Starts one of the child's own; the parent goes on in its own."""
        self._open()


def _map(path: str) -> mmap.mmap:
    table = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        size = _ROWS * _ROW.size
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(table, 0, size)  # a page that the disk has no room for would be a SIGBUS
        else:
            os.ftruncate(table, size)
        return mmap.mmap(table, size)
    finally:
        os.close(table)


@frozen_struct(frozen=True)
class Row:
    """The counts of one signal, scope and destination; the destination is empty for what comes before one."""

    signal: str
    scope: str
    destination: str
    counts: Mapping[str, int]


class Process:
    """A process as its journal has it.

    :ivar rows: its counts.
    """

    def __init__(self, facts: list[dict[str, Any]], rows: list[Row]) -> None:
        self._facts = facts
        self.rows = rows

    @property
    def pid(self) -> int:
        """Its id."""
        return int(self._facts[0]["pid"]) if self._facts else 0

    def facts(self, name: str) -> list[dict[str, Any]]:
        """All of a name, in order."""
        return [fact for fact in self._facts if fact["fact"] == name]

    def last(self, name: str) -> dict[str, Any]:
        """The last one of a name; empty for none."""
        return next(iter(self.facts(name)[::-1]), {})

    @property
    def status(self) -> dict[str, Any]:
        """The agent's, when it was last told."""
        found: dict[str, Any] = self.last("status").get("status", {})
        return found

    @property
    def title(self) -> str:
        """For people."""
        words = [os.path.basename(word) for word in self.last("started").get("argv", [])[:2]]
        return f"process {self.pid} ({' '.join(words)[:60]})" if words else f"process {self.pid}"

    @property
    def sources(self) -> dict[str, str]:
        """Where each of the agent's settings came from, by its name."""
        found: dict[str, str] = self.status.get("sources", {})
        return found

    @property
    def told_at_end(self) -> bool:
        """Whether the status is the one that the process ended with."""
        return bool(self.last("closed") or self.last("os_exit"))

    def answered(self, signal: str = "traces") -> int:
        """How many items of a signal a destination has answered for, of several destinations the one with the most."""
        places: dict[str, int] = {}
        for row in self.rows:
            if row.signal == signal and row.destination:
                counts = row.counts["accepted"] + row.counts["refused"]
                places[row.destination] = places.get(row.destination, 0) + counts
        return max(places.values(), default=0)

    def total(self, column: str, signal: str = "traces") -> int:
        """Of all scopes, before any destination."""
        return sum(row.counts[column] for row in self.rows if row.signal == signal and not row.destination)


def read(directory: str) -> list[Process]:
    """The journals of all processes, in the order in which they began."""
    found = []
    paths = sorted(Path(directory).glob("*.jsonl"), key=lambda path: path.stem.partition("-")[2])
    for path in paths:
        facts = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
        if facts:
            found.append(Process(facts, list(_rows(path.with_suffix(".counts")))))
    return found


def _rows(path: Path) -> Iterator[Row]:
    if not path.exists():
        return
    table = path.read_bytes()
    for length, key, *counts in _ROW.iter_unpack(table[: len(table) // _ROW.size * _ROW.size]):
        if length:
            signal, scope, destination = json.loads(key[:length])
            yield Row(signal, scope, destination, dict(zip(COLUMNS, counts, strict=True)))
