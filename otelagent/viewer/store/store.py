"""The store: one file, one writer, a few readers."""

from __future__ import annotations

import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, TypeVar

from otelagent.viewer.rows import Batch
from otelagent.viewer.store.owner import Owner
from otelagent.viewer.store.retention import Retention, used_bytes
from otelagent.viewer.store.schema import WrongFile, first_and_last, open_reader, open_writer
from otelagent.viewer.store.temporary import TemporaryPlace
from otelagent.viewer.store.touched import Touched
from otelagent.viewer.store.writer import Writer

__all__ = ["Store"]

_READERS = 4
_READ_S = 10.0
"""For one read, so that a few questions that take forever don't leave the page without an answer to any."""

Result = TypeVar("Result")


class Store:
    """Spans, log records and metrics in a SQLite file.

    :param path: of the file, made if it is missing; None for a temporary one, which goes with the store.
    :param max_age_s: of a trace, seconds.
    :param max_bytes: of the file's content.
    :param max_waiting_bytes: of requests that wait to be written.
    :param lost_after_s: seconds after which a running span is lost unless its process speaks of it again.
    :raises WrongFile: the file is something else, or another viewer writes to it.
    :raises OSError: it can't be made.
    """

    def __init__(
        self,
        path: str | None = None,
        *,
        max_age_s: float = 7 * 86_400,
        max_bytes: int = 4 * 2**30,
        max_waiting_bytes: int = 32 * 2**20,
        lost_after_s: float = 15.0,
    ) -> None:
        self._temporary = TemporaryPlace() if path is None else None
        self.path = self._temporary.path if self._temporary is not None else str(path)
        self._retention = Retention(max_age_s, max_bytes)
        self._listeners: list[Callable[[Touched], object]] = []
        self._lock = threading.Lock()
        self.refused = 0
        """Items for which there was no room."""
        try:
            self._owner = self._temporary.owner if self._temporary is not None else Owner(self.path)
        except BlockingIOError:
            raise WrongFile(f"{self.path} is in use by another viewer") from None
        self._readers: queue.SimpleQueue[sqlite3.Connection] = queue.SimpleQueue()
        try:
            self._connection = open_writer(self.path)
            for _ in range(_READERS):
                self._readers.put(open_reader(self.path))
            self._writer = Writer(
                self._connection,
                self._retention,
                max_waiting_bytes=max_waiting_bytes,
                lost_after_s=lost_after_s,
                on_written=self._tell,
            )
        except sqlite3.Error as error:
            self._owner.release()
            raise WrongFile(f"{self.path} can't be read ({error}): name another file") from None
        except BaseException:
            self._owner.release()
            raise

    def put(self, batch: Batch) -> Future[None] | None:
        """Hands a batch to the writer; see `Writer.put`."""
        written = self._writer.put(batch)
        if written is None:
            with self._lock:
                self.refused += batch.items
        return written

    def read(self, query: Callable[..., Result], *arguments: Any, **options: Any) -> Result:
        """What a function of `listing`, `detail` or `overview` answers; waits for a free connection.

        It sees the store of one moment: what is given up meanwhile is still there for it.

        :raises sqlite3.OperationalError: ``interrupted``, when it reads for longer than any of them should.
        """
        with self._reader() as connection:
            until_s = time.monotonic() + _READ_S
            connection.set_progress_handler(lambda: time.monotonic() > until_s, 100_000)
            connection.execute("BEGIN")
            try:
                return query(connection, *arguments, **options)
            finally:
                connection.set_progress_handler(None, 0)
                connection.execute("ROLLBACK")

    def watch(self, listener: Callable[[Touched], object]) -> Callable[[], None]:
        """Has a function called, on the writer's thread, after each commit. Returns what ends that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def status(self) -> dict[str, Any]:
        """What it holds, as plain JSON values."""
        return {
            "path": None if self._temporary is not None else self.path,
            **self.read(_counts),
            "refused": self.refused,
            "failed": self._writer.failed,
            "given_up_traces": self._retention.given_up,
            "max_bytes": self._retention.max_bytes,
            "max_age_s": self._retention.max_age_s,
        }

    def close(self) -> None:
        """Writes what waits and closes the file; a temporary one is removed."""
        self._writer.stop()
        for _ in range(_READERS):
            self._readers.get().close()
        # Last, because only who writes can put the journal back into the file and remove it.
        self._connection.close()
        self._owner.release()
        if self._temporary is not None:
            self._temporary.remove()

    @contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection]:
        connection = self._readers.get()
        try:
            yield connection
        finally:
            self._readers.put(connection)

    def _tell(self, touched: Touched) -> None:
        for listener in tuple(self._listeners):
            listener(touched)


def _counts(connection: sqlite3.Connection) -> dict[str, Any]:
    # Rows are deleted from the oldest, so that the span of ids is nearly their number, without counting millions.
    oldest = connection.execute("SELECT min(earliest_ns) FROM zone").fetchone()[0]
    return {
        "traces": _number(connection, "trace"),
        "spans": _number(connection, "span"),
        "logs": _number(connection, "log"),
        "bytes": used_bytes(connection),
        "oldest": str(oldest) if oldest is not None else None,
    }


def _number(connection: sqlite3.Connection, table: str) -> int:
    low, high = first_and_last(connection, table)
    return high - low + 1
