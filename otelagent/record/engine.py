"""The seam between the OpenTelemetry API and whatever records its spans: one interface, two engines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from opentelemetry._logs import LoggerProvider
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.trace import TracerProvider

    from otelagent.record.headers import Codec

__all__ = ["Counts", "Deliver", "Engine", "FlushDelivery", "LedgerPort", "LogsEngine"]

Counts = Callable[[], tuple[int, int, Mapping[str, int]]]
"""Gives ended, sampled out and dropped by reason, each since the recorder was made (or the process forked)."""

Deliver = Callable[[str, bytes, int], None]
"""Takes (signal, encoded OTLP request, item count). Never blocks, never raises, counts what it refuses.

Something that isn't its own may interrupt it (Ctrl-C, a timeout of gevent's): the same `bytes` object is then handed to
it again, and counts once."""

FlushDelivery = Callable[[float], bool]
"""Takes a `time.monotonic()` deadline, seconds; true when everything handed to `Deliver` before has arrived by then."""


class LedgerPort(Protocol):
    """What recording tells the ledger of its signal. Thread-safe, never raises, never blocks.

    The ledger keeps `ended + adopted = sampled_out + filtered + delivered + rejected + dropped + spooled + queued` at
    every moment, so `ended` also puts the spans in `queued`, `dropped` takes them out of it, and `sampled_out` counts a
    span that was never in it: as ended and as sampled out at once.
    """

    def ended(self, n: int, /) -> None:
        """Counts `n` sampled spans that ended and now wait."""

    def sampled_out(self, n: int, /) -> None:
        """Counts `n` spans that the sampler (or a pause) left out."""

    def dropped(self, n: int, reason: str, /) -> None:
        """Counts `n` waiting spans as given up for `reason`, a short stable token."""

    def include(self, counts: Counts, /) -> None:
        """Adds to every snapshot what a recorder has counted for itself."""

    @property
    def lost(self) -> int:
        """How many spans were ever dropped, here or behind `Deliver`, or rejected by a destination."""


class Engine(Protocol):
    """Records spans made through the OpenTelemetry API and hands them on as encoded OTLP requests."""

    @property
    def name(self) -> str:
        """`sdk` or `native`."""

    @property
    def reason(self) -> str:
        """Why this engine was chosen, in words for `otelagent doctor`."""

    @property
    def codec(self) -> Codec:
        """Reads and writes the text of propagation headers."""

    @property
    def provider(self) -> TracerProvider:
        """What `opentelemetry.trace.set_tracer_provider()` gets."""

    @property
    def span_processor(self) -> SpanProcessor:
        """Feeds this engine's batch from an SDK TracerProvider that the application set first."""

    @property
    def resource(self) -> Mapping[str, object]:
        """The resource attributes of this process as they are now: the detected `service.name` among them."""

    def pause(self) -> None:
        """New spans are not recorded (counted as sampled out) until `resume`. Open spans end as they began."""

    def resume(self) -> None:
        """Ends a pause."""

    def flush(self, deadline_s: float) -> bool:
        """Hands on every span that ended before the call.

        :param deadline_s: `time.monotonic()` value in seconds after which it gives up.
        :returns: whether all of them were handed to `deliver` by then.
        """

    def shutdown(self, deadline_s: float) -> bool:
        """Flushes, then drops every later span as `dropped{"shutdown"}`. Idempotent; argument and result as `flush`."""

    def after_fork_in_child(self) -> None:
        """Starts over in a fork child: the parent's waiting spans are forgotten (the parent sends them), the resource
        gets the child's identity, ids are reseeded, locks and threads are new. The caller renews the ledger itself."""


class LogsEngine(Protocol):
    """Records log records made through the OpenTelemetry Logs API; otherwise as `Engine`."""

    @property
    def provider(self) -> LoggerProvider:
        """What `opentelemetry._logs.set_logger_provider()` gets."""

    def pause(self) -> None:
        """Log records are not recorded (counted as sampled out) until `resume`."""

    def resume(self) -> None:
        """Ends a pause."""

    def flush(self, deadline_s: float) -> bool:
        """Hands on every log record that was emitted before the call; see `Engine.flush`."""

    def shutdown(self, deadline_s: float) -> bool:
        """Flushes, then drops every later log record as `dropped{"shutdown"}`; see `Engine.shutdown`."""

    def after_fork_in_child(self) -> None:
        """Starts over in a fork child, after the engine whose resource it shares; see `Engine.after_fork_in_child`."""
