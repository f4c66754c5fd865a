"""The points of one series by who sent them.

A series has one writer, the protocol says; but two processes of a program whose resource doesn't name its instance send
points of what looks like one. Each point of a sum or histogram says since when it counts: where these times overlap
there are several senders, and one that counts since the last point of another, or later, has taken its place.

Source: OpenTelemetry metrics data model, "Single-Writer", "Resets and Gaps", "Overlap".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Point", "Sender", "senders"]

_MOST = 20

Point = tuple[int, int, Any, Any, Any]
"""Since when it counts and its time (nanoseconds, 0 for unknown), value, distribution, exemplars."""


@dataclass
class Sender:
    """One process after another.

    :ivar since_ns: when the last of them began to count; of deltas, its last interval.
    :ivar points: by their time.
    :ivar mixed: whether they are of several that can't be told apart.
    """

    since_ns: int
    points: list[Point] = field(default_factory=list)
    mixed: bool = False


def senders(points: Sequence[Point], *, delta: bool, total: Callable[[Point], float | None]) -> list[Sender]:
    """The senders of a series, by who came first.

    :param points: by their time.
    :param delta: whether each counts since the one before alone.
    :param total: of a cumulative point what never falls while one process counts; None where it may.
    """
    runs: dict[tuple[int, int], list[Point]] = {}
    for number, point in enumerate(points):
        runs.setdefault((point[0], number if delta and point[0] else 0), []).append(point)
    found: list[Sender] = []
    for (since_ns, _), run in sorted(runs.items()):
        free = [one for one in found if one.points[-1][1] <= since_ns]
        if free:
            sender = max(free, key=lambda one: one.points[-1][1])
        elif len(found) == _MOST:
            return [Sender(since_ns, list(points), mixed=True)]
        else:
            found.append(sender := Sender(since_ns))
        sender.since_ns = since_ns
        sender.points += run
    for sender in () if delta else found:
        sender.mixed = _mixed((point[0], total(point)) for point in sender.points)
    return found


def _mixed(points: Iterable[tuple[int, float | None]]) -> bool:
    """Whether totals are of several: they fall, and nothing began anew.

    Where they don't say since when they count, what falls may have begun anew. It hasn't where a single step then
    brings back most of what was gone.
    """
    since_ns, before, highest, fell = -1, 0.0, 0.0, 0.0
    for began_ns, total in points:
        if total is None:
            continue
        if began_ns != since_ns:
            since_ns, fell = began_ns, 0.0
        elif total < before:
            if since_ns:
                return True
            highest, fell = before, before - total
        elif fell and total >= highest and total - before >= fell / 2:
            return True
        before = total
    return False
