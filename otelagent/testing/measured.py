"""Points of metrics, put together to what was measured in all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from otelagent.testing.types import Metric, Point, Scope

__all__ = ["MetricPoint", "Metrics", "measured"]


@dataclass(frozen=True)
class MetricPoint:
    """A point as it came.

    :ivar level: it says how much it is by now, and takes the place of the one before it; otherwise it is what came on
        top of that one (delta temporality).
    """

    name: str
    kind: str
    unit: str
    description: str
    scope: Scope
    resource: dict[str, Any]
    level: bool
    point: Point


class Metrics(dict[str, Metric]):
    """Metrics by name."""

    def __missing__(self, name: str) -> Metric:
        raise KeyError(f"no metric {name!r} was measured, but {', '.join(sorted(self)) or 'none at all'}")


def measured(points: Iterable[MetricPoint]) -> Metrics:
    """The metrics of points, in the order in which they came."""
    series: dict[tuple[str, str, str, str], MetricPoint] = {}
    for one in points:
        key = (one.name, one.scope.name, repr(sorted(one.resource.items())), repr(sorted(one.point.attributes.items())))
        before = series.get(key)
        if before is not None and not one.level:
            one = replace(one, point=_sum(before.point, one.point))
        series[key] = one
    by_name: dict[str, list[MetricPoint]] = {}
    for one in series.values():
        by_name.setdefault(one.name, []).append(one)
    return Metrics(
        (
            name,
            Metric(
                name=name,
                kind=found[-1].kind,
                unit=found[-1].unit,
                description=found[-1].description,
                points=tuple(one.point for one in found),
                scope=found[-1].scope,
            ),
        )
        for name, found in sorted(by_name.items())
    )


def _sum(before: Point, after: Point) -> Point:
    if after.count is None or before.count is None:
        return replace(after, value=before.value + after.value)
    same = before.bounds == after.bounds and len(before.counts) == len(after.counts)
    return replace(
        after,
        value=before.value + after.value,
        count=before.count + after.count,
        minimum=min((one for one in (before.minimum, after.minimum) if one is not None), default=None),
        maximum=max((one for one in (before.maximum, after.maximum) if one is not None), default=None),
        counts=tuple(map(sum, zip(before.counts, after.counts, strict=True))) if same else after.counts,
    )
