"""The one thread that writes: batches in the order they came, several in a transaction when they come fast."""

from __future__ import annotations

import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

from otelagent.viewer.rows import Batch
from otelagent.viewer.store.retention import Retention
from otelagent.viewer.store.tables import Tables
from otelagent.viewer.store.touched import Touched

__all__ = ["Writer"]

_log = logging.getLogger(__name__)

_TRANSACTION_ITEMS = 4_000
_TRANSACTION_S = 0.2
_RETENTION_EVERY_S = 5.0


class Writer:
    """Takes batches and writes them.

    :param connection: see `open_writer`; used by the writer's thread alone from now on.
    :param max_waiting_bytes: of requests that wait; what doesn't fit is refused, so that the sender hears of it.
    :param lost_after_s: since a running span was spoken of last.
    :param on_written: called by the thread after each commit.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        retention: Retention,
        *,
        max_waiting_bytes: int,
        lost_after_s: float,
        on_written: Callable[[Touched], object],
    ) -> None:
        self._connection = connection
        self._retention = retention
        self._tables = Tables(connection)
        self._max_waiting_bytes = max_waiting_bytes
        self._lost_after_s = lost_after_s
        self._on_written = on_written
        self._lock = threading.Lock()
        self._waiting_bytes = 0
        self._queue: queue.SimpleQueue[tuple[Batch, Future[None]] | None] = queue.SimpleQueue()
        self._closed = False
        self._put = 0
        self.failed = 0
        """Items that the disk did not take."""
        self._thread = threading.Thread(target=self._run, name="otelagent-viewer-writer", daemon=True)
        self._thread.start()

    def put(self, batch: Batch) -> Future[None] | None:
        """Hands a batch to the thread.

        :returns: done when the batch is committed, with the exception if the disk did not take it; None if there is no
            room for it now.
        """
        with self._lock:
            if self._closed or (self._waiting_bytes and self._waiting_bytes + batch.size > self._max_waiting_bytes):
                return None
            self._waiting_bytes += batch.size
            written: Future[None] = Future()
            self._queue.put((batch, written))
        return written

    def stop(self) -> None:
        """Writes what waits and ends the thread; the connection stays open."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        next_retention_s = 0.0
        last = False
        while not last:
            try:
                one = self._queue.get(timeout=max(next_retention_s - time.monotonic(), 0.001))
            except queue.Empty:
                pass
            else:
                last = one is None or self._write(one)
            now = time.monotonic()
            if now >= next_retention_s and not last:
                self._lose()
                # A slice between two transactions, until there is nothing left to give up.
                next_retention_s = now if self._prune() else time.monotonic() + _RETENTION_EVERY_S

    def _write(self, one: tuple[Batch, Future[None]]) -> bool:
        """Writes this batch and those behind it, up to a limit. True when the end was among them."""
        touched = Touched()
        taken = [one]
        until_s = time.monotonic() + _TRANSACTION_S
        items = 0
        last = False
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            while True:
                self._tables.put(taken[-1][0], touched)
                items += taken[-1][0].items
                if items >= _TRANSACTION_ITEMS or time.monotonic() >= until_s:
                    break
                try:
                    following = self._queue.get_nowait()
                except queue.Empty:
                    break
                if following is None:
                    last = True
                    break
                taken.append(following)
            self._tables.flush()
            self._connection.execute("COMMIT")
        except Exception as error:
            self._fail(taken, error)
        else:
            self._put += items
            self._done(taken, None)
            if items:
                self._on_written(touched)
        return last

    def _fail(self, taken: list[tuple[Batch, Future[None]]], error: Exception) -> None:
        _log.error("the store could not write %d requests: %s", len(taken), error)
        self.failed += sum(batch.items for batch, _ in taken)
        self._tables.forget()
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error:
            _log.debug("rollback", exc_info=True)
        self._done(taken, error)

    def _done(self, taken: list[tuple[Batch, Future[None]]], error: Exception | None) -> None:
        with self._lock:
            self._waiting_bytes -= sum(batch.size for batch, _ in taken)
        for _, written in taken:
            if error is None:
                written.set_result(None)
            else:
                written.set_exception(error)

    def _lose(self) -> None:
        touched = Touched()
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self._tables.lose(touched, self._lost_after_s)
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._fail([], error)
        else:
            if touched.traces:
                self._on_written(touched)

    def _prune(self) -> bool:
        try:
            deleted = self._retention.prune(self._connection, self._put)
        except sqlite3.Error as error:
            _log.error("the store could not give up old traces: %s", error)
            return False
        self._put = 0
        if deleted:
            self._tables.prune(self._retention.last + 1)
        return deleted
