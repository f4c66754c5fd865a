"""The seam between the OpenTelemetry API and whatever records its spans: one interface, two engines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from otelagent.environment import SDK_VARIABLES, hidden
from otelagent.errors import ConfigError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.trace import TracerProvider

    from otelagent.config import Config

__all__ = ["Counts", "Deliver", "Engine", "FlushDelivery", "LedgerPort", "open_engine"]

Counts = Callable[[], tuple[int, int, Mapping[str, int]]]
"""Gives ended, sampled out and dropped by reason, each since the recorder was made (or the process forked)."""

Deliver = Callable[[str, bytes, int], None]
"""Takes (signal, encoded OTLP request, item count). Never blocks, never raises, counts what it refuses."""

FlushDelivery = Callable[[float], bool]
"""Takes a `time.monotonic()` deadline, seconds; true when everything handed to `Deliver` before has arrived by then."""


class LedgerPort(Protocol):
    """What recording tells the ledger of its signal. Thread-safe, never raises, never blocks.

    The ledger keeps `ended = sampled_out + delivered + rejected + dropped + spooled + queued` at every moment, so
    `ended` also puts the spans in `queued`, `dropped` takes them out of it, and `sampled_out` counts a span that was
    never in it: as ended and as sampled out at once.
    """

    def ended(self, n: int, /) -> None:
        """Counts `n` sampled spans that ended and now wait."""

    def sampled_out(self, n: int, /) -> None:
        """Counts `n` spans that the sampler (or a pause) left out."""

    def dropped(self, n: int, reason: str, /) -> None:
        """Counts `n` waiting spans as given up for `reason`, a short stable token."""

    def include(self, counts: Counts, /) -> None:
        """Adds to every snapshot what a recorder has counted for itself."""


class Engine(Protocol):
    """Records spans made through the OpenTelemetry API and hands them on as encoded OTLP requests."""

    @property
    def name(self) -> str:
        """`sdk` or `native`."""

    @property
    def reason(self) -> str:
        """Why this engine was chosen, in words for `otelagent doctor`."""

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


def open_engine(
    config: Config, ledger: LedgerPort, deliver: Deliver, *, flush_delivery: FlushDelivery | None = None
) -> Engine:
    """Opens the engine that the configuration asks for. This is what imports an engine; nothing before it does.

    :param ledger: the ledger of the traces signal.
    :param deliver: gets each encoded request.
    :param flush_delivery: continues `TracerProvider.force_flush()` behind `deliver`, so that a user who calls the
        OpenTelemetry API alone gets a truthful answer; `Engine.flush` doesn't use it.
    :raises ConfigError: the `native` engine is asked for and missing; a sampler is unknown or can't be built.
    """
    reason = f"engine is set to {config.engine}"
    if config.engine != "sdk":
        absence = _native_absence()
        if absence is None:
            from otelagent.record.native import NativeEngine

            if config.engine == "auto":
                reason = "engine is auto and otelagent-native is installed"
            return NativeEngine(config, ledger, deliver, reason=reason, flush_delivery=flush_delivery)
        if config.engine == "native":
            raise ConfigError(
                "engine",
                "native",
                str(config.sources.get("engine", "the configuration")),
                absence,
                "use 'auto', which takes the sdk engine where native is missing, or 'sdk'",
            )
        reason = f"engine is auto and {absence}"

    with hidden(*SDK_VARIABLES):
        from otelagent.record.sdk import SdkEngine

    return SdkEngine(config, ledger, deliver, reason=reason, flush_delivery=flush_delivery)


def _native_absence() -> str | None:
    """Why the native engine can't be had, or None."""
    try:
        import otelagent_native  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name == "otelagent_native":
            return "the distribution otelagent-native is not installed"
        return f"otelagent-native can't be imported: {error}"
    except Exception as error:  # a wheel of another interpreter, a subinterpreter, another version of the API
        return f"otelagent-native can't be imported: {error}"
    return None
