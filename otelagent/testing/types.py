"""What tests look at: read-only values of plain Python, the same whatever recorded them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["Event", "Link", "LogRecord", "Metric", "Point", "Scope", "Span"]


@dataclass(frozen=True)
class Scope:
    """The instrumentation scope: which library or module recorded it."""

    name: str
    version: str = ""
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Event:
    """An event of a span. An exception is the event ``exception`` with ``exception.type`` and ``exception.message``."""

    name: str
    attributes: dict[str, Any]
    time_ns: int


@dataclass(frozen=True)
class Link:
    """A link of a span to another one."""

    trace_id: str
    span_id: str
    attributes: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Span:
    """A span that has ended.

    :ivar kind: ``INTERNAL``, ``SERVER``, ``CLIENT``, ``PRODUCER`` or ``CONSUMER``.
    :ivar status: ``UNSET``, ``OK`` or ``ERROR``.
    :ivar attributes: text, numbers, booleans, bytes, and lists of them.
    :ivar trace_id: 32 hexadecimal digits.
    :ivar span_id: 16 hexadecimal digits.
    :ivar parent_id: as `span_id`; empty for a root. The parent may have been recorded elsewhere, or not at all.
    :ivar start_ns: nanoseconds since the Unix epoch.
    :ivar end_ns: the same.
    :ivar resource: the attributes of the process or service that recorded it.
    :ivar parent: the span above, if it is here too.
    :ivar children: the spans below that are here, in the order of `Telemetry.tree`.
    """

    name: str
    kind: str = "INTERNAL"
    status: str = "UNSET"
    status_message: str = ""
    attributes: dict[str, Any] = field(default_factory=dict)
    events: tuple[Event, ...] = ()
    links: tuple[Link, ...] = ()
    trace_id: str
    span_id: str
    parent_id: str = ""
    start_ns: int
    end_ns: int
    scope: Scope = Scope("")
    resource: dict[str, Any] = field(default_factory=dict, repr=False)
    parent: Span | None = field(default=None, repr=False, compare=False)
    children: tuple[Span, ...] = field(default=(), repr=False, compare=False)

    @property
    def duration_s(self) -> float:
        """How long it took, in seconds."""
        return (self.end_ns - self.start_ns) / 1e9

    @property
    def service(self) -> str:
        """The `service.name` of its resource."""
        return str(self.resource.get("service.name", ""))

    @property
    def error(self) -> str:
        """What went wrong where the status is ``ERROR``: the `error.type`, else the exception's type, else the
        status's message; empty where nothing did."""
        if self.status != "ERROR":
            return ""
        raised = [event.attributes.get("exception.type") for event in self.events if event.name == "exception"]
        return str(
            self.attributes.get("error.type") or (raised[-1] if raised else "") or self.status_message or "ERROR"
        )


@dataclass(frozen=True, kw_only=True)
class LogRecord:
    """A log record.

    :ivar body: the message; data where the application logged data.
    :ivar severity: its text, such as ``WARN``.
    :ivar severity_number: 1 (TRACE) to 24 (FATAL4), 0 for none.
    :ivar trace_id: of the span in which it was logged, empty for none; like `span_id`.
    :ivar time_ns: nanoseconds since the Unix epoch.
    """

    body: Any
    severity: str = ""
    severity_number: int = 0
    attributes: dict[str, Any] = field(default_factory=dict)
    event_name: str = ""
    trace_id: str = ""
    span_id: str = ""
    time_ns: int
    scope: Scope = Scope("")
    resource: dict[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, kw_only=True)
class Point:
    """One series of a metric.

    :ivar value: of a sum or a gauge; of a histogram or a summary its sum.
    :ivar count: of a histogram or a summary how many measurements; None otherwise.
    :ivar bounds: of an explicit histogram, the upper bounds of all `counts` but the last.
    """

    attributes: dict[str, Any]
    value: float
    count: int | None = None
    minimum: float | None = None
    maximum: float | None = None
    bounds: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Metric:
    """What an instrument measured.

    :ivar kind: ``gauge``, ``sum``, ``histogram``, ``exponential_histogram`` or ``summary``.
    """

    name: str
    kind: str
    unit: str = ""
    description: str = ""
    points: tuple[Point, ...]
    scope: Scope = Scope("")

    @property
    def value(self) -> float:
        """The value of its only series.

        :raises AssertionError: it has several.
        """
        assert len(self.points) == 1, (
            f"{self.name} has {len(self.points)} series: {[p.attributes for p in self.points]}"
        )
        return self.points[0].value
