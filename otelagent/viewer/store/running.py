"""Spans that haven't ended, in the table of spans: each gives way to itself when it has, or is lost with its process.

Who sends one (an end of 0) has to send it again as long as it runs; the rows' duration says which of them are running
and which nobody has spoken of for a while.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Sequence
from typing import Any

from otelagent.viewer.rows import LOST, RUNNING
from otelagent.viewer.store.words import EXCEPTION, KINDS

__all__ = ["RunningSpans"]

_KNOWN = 50_000
"""Of more at a time, the rest is taken for lost at once: it still gives way when it ends."""

_CHANGING = ("operation", "status", "status_message", "duration_ns", "attributes", "events", "links", "dropped")
_FIND = f"SELECT id, {', '.join(_CHANGING)} FROM span WHERE trace = ? AND span_id = ?"
_CHANGE = f"UPDATE span SET {', '.join(f'{name} = ?' for name in _CHANGING)} WHERE id = ?"
_DURATION = _CHANGING.index("duration_ns")


class RunningSpans:
    """The running ones among the spans.

    :param connection: the writer's; everything happens inside its transaction.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        # When each was last heard of: by the monotonic clock, and since the epoch; 0 for one that was in the file.
        self._heard: dict[int, tuple[float, int]] = {}

    def hear(self, spans: Iterable[int]) -> None:
        """Notes that these have been spoken of just now."""
        now = time.monotonic(), time.time_ns()
        for one in spans:
            if one in self._heard or len(self._heard) < _KNOWN:
                self._heard[one] = now

    def renew(self, trace: int, span_id: bytes, now: tuple[Any, ...]) -> bool | None:
        """Brings a running span up to date; one that has ended is left alone.

        :param now: its columns that change while it runs.
        :returns: whether it has changed; None if it isn't there.
        """
        row = self._connection.execute(_FIND, (trace, span_id)).fetchone()
        if row is None:
            return None
        found, *before = row
        if before[_DURATION] >= 0:
            return False
        self.hear((found,))
        if now == tuple(before):
            return False
        self._connection.execute(_CHANGE, (*now, found))
        return True

    def give_way(self, rows: Sequence[tuple[Any, ...]]) -> dict[tuple[int, bytes], int]:
        """Deletes the running spans that have ended, so that what they have become can be put in their place.

        :param rows: of spans, as `Tables` has them: the trace's row second, then the span's id, the duration at 10.
        :returns: their ids, by the trace's row and the span's id.
        """
        gone: dict[tuple[int, bytes], int] = {
            (row[1], row[2]): found
            for row in rows
            if row[10] >= 0
            for (found,) in self._connection.execute(
                "SELECT id FROM span WHERE trace = ? AND span_id = ? AND duration_ns < 0", (row[1], row[2])
            )
        }
        for found in gone.values():
            self._heard.pop(found, None)
            self._connection.execute("DELETE FROM span WHERE id = ?", (found,))
            self._connection.execute("DELETE FROM link WHERE span = ?", (found,))
            self._connection.execute("DELETE FROM word WHERE rowid = ?", (found * KINDS + EXCEPTION,))
        return gone

    def lose(self, after_s: float) -> dict[bytes, int]:
        """Marks those that nobody has spoken of for so long.

        :returns: their traces, with when they were last heard of, nanoseconds since the epoch.
        """
        now_s = time.monotonic()
        before, self._heard = self._heard, {}
        lost: dict[bytes, int] = {}
        for found, start_ns, trace_id, end_ns, arrived_s in self._connection.execute(
            "SELECT span.id, span.start_ns, trace.trace_id, trace.end_ns, trace.arrived_s"
            " FROM span JOIN trace ON trace.id = span.trace"
            " WHERE span.duration_ns < 0 AND span.duration_ns = ? LIMIT ?",
            (RUNNING, 2 * _KNOWN),
        ).fetchall():
            last_s, last_ns = before.get(found, (now_s, 0))
            if now_s - last_s < after_s and len(self._heard) < _KNOWN:
                self._heard[found] = last_s, last_ns
                continue
            # Of one that another run of the viewer was told of, it is known that it was there when its trace came.
            last_ns = max(last_ns or max(end_ns, arrived_s * 10**9), start_ns)
            self._connection.execute(
                "UPDATE span SET duration_ns = ? WHERE id = ?", (LOST - (last_ns - start_ns), found)
            )
            lost[trace_id] = max(last_ns, lost.get(trace_id, 0))
        return lost
