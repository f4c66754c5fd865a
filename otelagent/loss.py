"""Whether a flush may say that all is well: one rule for every part that flushes."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["LossReport"]


class LossReport:
    """Tells each flush of the items that were lost since a flush before it told of losses.

    A loss is told by every flush that was under way when it was told first, so that of two at the same time neither
    takes the bad news from the other, and by none that begins later::

        told = report.begin()
        ...  # flush
        return done and report.end(told)

    No lock: a signal handler or a `__del__` may flush inside a flush. A race tells of a loss twice, never not at all.

    :param lost: how many items were ever lost; never falls but in a fork child, see `after_fork_in_child`.
    """

    def __init__(self, lost: Callable[[], int]) -> None:
        self._lost = lost
        self._told = 0

    def begin(self) -> int:
        """Starts a flush: returns what `end` wants."""
        return self._told

    def end(self, told: int) -> bool:
        """Ends a flush.

        :returns: false if items were lost that had not been told of when it began.
        """
        lost = self._lost()
        if lost <= told:
            return True
        self._told = max(self._told, lost)
        return False

    def after_fork_in_child(self) -> None:
        """Starts from zero, as the counts in a child do."""
        self._told = 0
