"""What has changed in the store, for those who watch it."""

from __future__ import annotations

__all__ = ["Touched"]


class Touched:
    """What a transaction has changed.

    :ivar traces: ids of traces, bytes.
    """

    def __init__(self) -> None:
        self.traces: set[bytes] = set()
        self.spans = self.logs = self.points = 0
