"""What ingest hands to the store: the rows of one request.

Rows are plain tuples in the order of these names, because there are a hundred thousand of them a second.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["LOG", "LOST", "POINT", "RUNNING", "SPAN", "Batch", "Metric", "Resource", "Scope", "state", "taken_ns"]

RUNNING, LOST = -1, -2
"""As `duration_ns`: of a span that hasn't ended, and of one whose process has said nothing of it for a while; of that
less the nanoseconds from its start until it was last spoken of."""


def taken_ns(duration_ns: int) -> int:
    """What is known of the time that a span has taken, from its `duration_ns`; 0 for one that runs."""
    return LOST - duration_ns if duration_ns <= LOST else max(duration_ns, 0)


def state(duration_ns: int) -> str:
    """``ended``, ``running`` or ``lost``."""
    if duration_ns >= 0:
        return "ended"
    return "running" if duration_ns == RUNNING else "lost"


SPAN = (
    "trace_id",  # 16 bytes
    "span_id",  # 8 bytes
    "parent_id",  # 8 bytes, None for a root
    "resource",  # position in `Batch.resources`
    "scope",  # position in `Batch.scopes`
    "name",
    "kind",  # of the protocol: 0 unspecified, 1 internal, 2 server, 3 client, 4 producer, 5 consumer
    "status",  # 0 unset, 1 ok, 2 error
    "status_message",  # None for none
    "start_ns",
    "duration_ns",  # at least 0, or `RUNNING`
    "attributes",  # JSON object
    "events",  # JSON list, None for none
    "links",  # JSON list, None for none
    "dropped",  # JSON object: what the SDK or this process left out; None for nothing
    "trace_state",  # None for none
)
LOG = (
    "trace_id",  # None for none
    "span_id",
    "resource",
    "scope",
    "time_ns",
    "severity",  # 0 to 24
    "severity_text",
    "event_name",
    "body",  # text: a string as it is, any other value as JSON
    "attributes",
    "dropped",
)
POINT = (
    "metric",  # position in `Batch.metrics`
    "attributes",  # JSON object
    "time_ns",
    "since_ns",  # when it began to count; 0 for unknown
    "value",  # a number; None where `distribution` has it all
    "distribution",  # JSON object of a histogram, exponential histogram or summary; None for none
    "exemplars",  # JSON list, None for none
)


@dataclass(frozen=True)
class Resource:
    """Who sent it.

    :param attributes: JSON object.
    """

    service: str
    attributes: str


@dataclass(frozen=True)
class Scope:
    """The instrumentation scope."""

    name: str
    version: str
    attributes: str


@dataclass(frozen=True)
class Metric:
    """One instrument of one resource and scope (positions in the batch)."""

    resource: int
    scope: int
    name: str
    kind: str
    unit: str
    description: str
    temporality: int
    monotonic: bool


@dataclass
class Batch:
    """One request.

    :ivar spans: tuples as `SPAN` says.
    :ivar members: of the spans' attributes: keys, and members of JSON objects as text.
    :ivar running: the same of spans that haven't ended, as they are now.
    :ivar logs: as `LOG`.
    :ivar points: as `POINT`.
    :ivar rejected: items that were not taken, by reason.
    :ivar size: bytes of the request, for bounds.
    """

    resources: list[Resource] = field(default_factory=list)
    scopes: list[Scope] = field(default_factory=list)
    metrics: list[Metric] = field(default_factory=list)
    spans: list[tuple[Any, ...]] = field(default_factory=list)
    running: list[tuple[Any, ...]] = field(default_factory=list)
    members: set[str] = field(default_factory=set)
    logs: list[tuple[Any, ...]] = field(default_factory=list)
    points: list[tuple[Any, ...]] = field(default_factory=list)
    rejected: dict[str, int] = field(default_factory=dict)
    size: int = 0

    @property
    def items(self) -> int:
        """Spans, log records and data points together."""
        return len(self.spans) + len(self.running) + len(self.logs) + len(self.points)

    def reject(self, reason: str, items: int = 1) -> None:
        """Counts items that are left out."""
        self.rejected[reason] = self.rejected.get(reason, 0) + items

    def room(self, kind: str, items: int, left: int) -> int:
        """How many of these items are taken when there is room for so many; the others are rejected."""
        if items > left:
            self.reject(f"{kind} beyond what one request may have", items - left)
            return left
        return items
