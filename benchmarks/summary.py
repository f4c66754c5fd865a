"""From samples to numbers: medians with their spread, per question, case, peer and metric."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.samples import Sample

__all__ = ["Figure", "Summary"]


@dataclass(frozen=True)
class Figure:
    """A metric over all rounds: its median, smallest and largest sample."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Figure:
        return cls(statistics.median(values), min(values), max(values))


class Summary:
    """What the samples say.

    :param samples: of one run.
    """

    def __init__(self, samples: Iterable[Sample]) -> None:
        self._values: dict[tuple[str, str, str, str], dict[int, float]] = {}
        self._arrivals: dict[tuple[str, str], list[int]] = {}
        self.notes: dict[tuple[str, str, str], str] = {}
        for one in samples:
            for metric, value in one.values.items():
                self._values.setdefault((one.question, one.case, one.peer, metric), {})[one.round] = value
            if one.note:
                self.notes[one.question, one.case, one.peer] = one.note
            sent, arrived = self._arrivals.setdefault((one.question, one.peer), [0, 0])
            self._arrivals[one.question, one.peer] = [sent + one.sent, arrived + (one.arrived if one.sent else 0)]

    def figure(self, question: str, case: str, peer: str, metric: str, over: str = "") -> Figure | None:
        """The metric, or None if it wasn't measured.

        :param over: the peer whose value is taken off, round by round.
        """
        rounds = self._rounds(question, case, peer, metric, over)
        return Figure.of(list(rounds.values())) if rounds else None

    def ratio(self, question: str, case: str, metric: str, peer: str, other: str, over: str = "") -> Figure | None:
        """How many times the peer's value the other's is, round by round, for a machine changes between rounds.

        A round in which the peer adds nothing that can be told from noise has the ratio infinity: without it, the
        others would say more than was measured. It has none where the other adds nothing either.
        """
        mine = self._rounds(question, case, peer, metric, over)
        theirs = self._rounds(question, case, other, metric, over)
        pairs = [(theirs[number], value) for number, value in mine.items() if number in theirs]
        both = [other / value if value > 0 else math.inf for other, value in pairs if value > 0 or other > 0]
        return Figure.of(both) if both else None

    def _rounds(self, question: str, case: str, peer: str, metric: str, over: str) -> dict[int, float]:
        values = self._values.get((question, case, peer, metric), {})
        if not over:
            return values
        base = self._values.get((question, case, over, metric), {})
        return {number: value - base[number] for number, value in values.items() if number in base}

    def cases(self, question: str) -> list[str]:
        """In the order of their first sample."""
        return list(dict.fromkeys(case for asked, case, _, _ in self._values if asked == question))

    def lost(self) -> Mapping[tuple[str, str], tuple[int, int]]:
        """Lost spans and all that were sent, by question and peer, where there are any."""
        return {key: (sent - arrived, sent) for key, (sent, arrived) in self._arrivals.items() if sent != arrived}
