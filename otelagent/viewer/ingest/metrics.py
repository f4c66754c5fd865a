"""Data points of metrics as rows."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import islice
from typing import Any

from otelagent.viewer.ingest.bounds import MAX_ITEMS
from otelagent.viewer.ingest.values import MAX_INT64, attributes_of, name_of, to_json
from otelagent.viewer.rows import Batch, Metric

__all__ = ["add_metrics"]

_KINDS = ("gauge", "sum", "histogram", "exponential_histogram", "summary")
_NO_RECORDED_VALUE = 1
"""A flag of a point that says that there is none (OTLP, `DataPointFlags`)."""
_MAX_BUCKETS = 1024
_MAX_EXEMPLARS = 16


def add_metrics(batch: Batch, metrics: Iterable[Any], resource: int, scope: int) -> None:
    """Appends the points of some metrics.

    :param metrics: protobuf messages.
    :param resource: position in the batch.
    :param scope: position in the batch.
    """
    for metric in metrics:
        kind = metric.WhichOneof("data")
        if kind not in _KINDS:
            batch.reject("metrics without data")
            continue
        data = getattr(metric, kind)
        room = batch.room("data points", len(data.data_points), MAX_ITEMS - len(batch.points))
        if not room:
            continue
        batch.metrics.append(
            Metric(
                resource,
                scope,
                name_of(metric.name),
                kind,
                name_of(metric.unit),
                name_of(metric.description),
                getattr(data, "aggregation_temporality", 0),
                getattr(data, "is_monotonic", False),
            )
        )
        number = len(batch.metrics) - 1
        for point in islice(data.data_points, room):
            attributes, _ = attributes_of(point.attributes)
            value, distribution = _content(kind, point)
            exemplars = [_exemplar(one) for one in islice(getattr(point, "exemplars", ()), _MAX_EXEMPLARS)]
            batch.points.append(
                (
                    number,
                    to_json(attributes),
                    min(point.time_unix_nano, MAX_INT64),
                    min(point.start_time_unix_nano, MAX_INT64),
                    value,
                    to_json(distribution) if distribution is not None else None,
                    to_json(exemplars) if exemplars else None,
                )
            )


def _content(kind: str, point: Any) -> tuple[float | None, dict[str, Any] | None]:
    if point.flags & _NO_RECORDED_VALUE:
        return None, None
    if kind in ("gauge", "sum"):
        return _number(point), None
    known: dict[str, Any] = {"count": point.count, "sum": _finite(point.sum)}
    if kind == "summary":
        known["quantiles"] = [
            [_finite(one.quantile), _finite(one.value)] for one in islice(point.quantile_values, _MAX_BUCKETS)
        ]
        return None, known
    if point.HasField("min"):
        known["min"] = _finite(point.min)
    if point.HasField("max"):
        known["max"] = _finite(point.max)
    if kind == "histogram":
        known["bounds"] = [_finite(bound) for bound in islice(point.explicit_bounds, _MAX_BUCKETS)]
        known["counts"] = list(islice(point.bucket_counts, _MAX_BUCKETS + 1))
        return None, known
    known["scale"], known["zero_count"] = point.scale, point.zero_count
    for side in ("positive", "negative"):
        buckets = getattr(point, side)
        known[side] = {"offset": buckets.offset, "counts": list(islice(buckets.bucket_counts, _MAX_BUCKETS))}
    return None, known


def _exemplar(exemplar: Any) -> dict[str, Any]:
    return {
        "time": str(exemplar.time_unix_nano),
        "value": _number(exemplar),
        "trace": exemplar.trace_id.hex(),
        "span": exemplar.span_id.hex(),
    }


def _number(point: Any) -> float | None:
    kind = point.WhichOneof("value")
    if kind is None:
        return None
    return _finite(point.as_double) if kind == "as_double" else point.as_int


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
