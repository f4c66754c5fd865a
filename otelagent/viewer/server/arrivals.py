"""What came and what didn't fit, for the checks: counted in passing, bounded."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from otelagent.viewer.rows import Batch

__all__ = ["Arrivals"]

_MAX_NAMES = 50
_MAX_PATH = 80


class Arrivals:
    """Counts, on the event loop.

    :ivar received: items by kind.
    :ivar wrong_paths: requests that nothing takes, by path.
    :ivar ahead_s: by service, how far the newest span's end was ahead of this machine's clock, seconds.
    """

    def __init__(self) -> None:
        self.received = {"spans": 0, "log records": 0, "data points": 0}
        self.wrong_paths: dict[str, int] = {}
        self.ahead_s: dict[str, float] = {}

    def took(self, batch: Batch) -> None:
        """A request was stored. One span of it tells the sender's time: they ended within seconds."""
        self.received["spans"] += len(batch.spans)
        self.received["log records"] += len(batch.logs)
        self.received["data points"] += len(batch.points)
        if batch.spans:
            span = batch.spans[-1]
            service = batch.resources[span[3]].service
            if service in self.ahead_s or len(self.ahead_s) < _MAX_NAMES:
                self.ahead_s[service] = (span[9] + span[10]) / 1e9 - time.time()

    def missed(self, path: str) -> None:
        """A request was for a path that nothing takes."""
        path = path[:_MAX_PATH]
        if path in self.wrong_paths or len(self.wrong_paths) < _MAX_NAMES:
            self.wrong_paths[path] = self.wrong_paths.get(path, 0) + 1
