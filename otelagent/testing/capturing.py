"""What this process records while a test runs, taken beside whatever else becomes of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from otelagent.testing.measured import MetricPoint
from otelagent.testing.sources import SOURCES
from otelagent.testing.telemetry import Telemetry
from otelagent.testing.types import LogRecord
from otelagent.testing.windows import TAP, Window

__all__ = ["Capture", "capture"]


class Capture(Telemetry):
    """What this process records from the moment this is made until `close`; see `capture`."""

    def __init__(self, *, deterministic: bool = False) -> None:
        super().__init__(deterministic=deterministic)
        with SOURCES.lock:
            SOURCES.attach()
            # What came before is nobody's.
            SOURCES.collect_log_records()
            SOURCES.collect_points()
            self._window = Window()
            SOURCES.takers += (self,)
            TAP.begin(self._window)

    def close(self) -> None:
        """End it. What was recorded till then can still be asked for."""
        if self._window.closed:
            return
        with SOURCES.lock:
            try:
                self._take_in()
                self._take_in_points()
            finally:
                TAP.end(self._window)
                SOURCES.takers = tuple(taker for taker in SOURCES.takers if taker is not self)

    def take_log_records(self, records: list[LogRecord]) -> None:
        """Gets what was collected."""
        self._log_records += [record for record in records if TAP.has(self._window, int(record.span_id or "0", 16))]

    def take_points(self, points: list[MetricPoint]) -> None:
        """Gets what was collected."""
        self._points += points

    def _take_in(self) -> None:
        if self._window.closed:
            return
        with SOURCES.lock:
            SOURCES.collect_log_records()
            self._spans += SOURCES.spans(self._window.take())

    def _take_in_points(self) -> None:
        if not self._window.closed:
            SOURCES.collect_points()

    def _open(self) -> list[str]:
        return [] if self._window.closed else [f"{span.kind.name} {span.name}" for span in TAP.open_in(self._window)]


@contextmanager
def capture(*, deterministic: bool = False) -> Iterator[Capture]:
    """Capture what this process records in a block: spans of the live TracerProvider, the application's own or the
    agent's, log records and metrics.

    Where no provider is set yet, the agent is started, once for the process, and sends nothing. The context manager
    gives a `Capture`, which can still be asked after the block.

    :param deterministic: whether ids are counted and times are steps of a second.
    :raises NotCapturing: the agent is switched off or was stopped, or the provider is one that can't be listened to.
    """
    captured = Capture(deterministic=deterministic)
    try:
        yield captured
    finally:
        captured.close()
