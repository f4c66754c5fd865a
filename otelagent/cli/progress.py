"""A bar on the terminal for work that takes a while."""

from __future__ import annotations

import sys
import time
from types import TracebackType

__all__ = ["ProgressBar"]

_WIDTH = 30
_EVERY_S = 0.1


class ProgressBar:
    """Shows on standard error how much is done, if that is a terminal; nothing otherwise.

    :param label: what is done.
    :param total: how much there is to do.
    :param unit: of it.
    """

    def __init__(self, label: str, total: int, unit: str) -> None:
        self._label = label
        self._total = max(total, 1)
        self._unit = unit
        self._done = 0
        self._begun_s = time.monotonic()
        self._shown_s = 0.0
        self._visible = sys.stderr is not None and sys.stderr.isatty()

    def add(self, amount: int) -> None:
        """So much more is done."""
        self.set(self._done + amount)

    def set(self, done: int) -> None:
        """So much is done."""
        self._done = min(done, self._total)
        if self._visible and time.monotonic() - self._shown_s >= _EVERY_S:
            self._show()

    def _show(self) -> None:
        self._shown_s = time.monotonic()
        share = self._done / self._total
        filled = int(share * _WIDTH)
        rate = self._done / max(self._shown_s - self._begun_s, 0.001)
        left = f", {(self._total - self._done) / rate:.0f} s left" if 0 < share < 1 else ""
        bar = f"{self._label} [{'█' * filled}{'·' * (_WIDTH - filled)}] {share:4.0%} "
        sys.stderr.write(f"\r{bar}{self._done:,} of {self._total:,} {self._unit}{left}\x1b[K")
        sys.stderr.flush()

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._visible:
            self._show()
            sys.stderr.write("\n")
            sys.stderr.flush()
