"""Samplers: built from the configuration, and the one around them that counts, pauses and isolates."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

from opentelemetry.sdk.trace import sampling
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import get_current_span

from otelagent.errors import ConfigError
from otelagent.record.rate_limited_log import RateLimitedLog

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Link, SpanKind, TraceState
    from opentelemetry.util.types import Attributes

    from otelagent.record.engine import LedgerPort

__all__ = ["ENTRY_POINT_GROUP", "CountingSampler", "build_sampler"]

ENTRY_POINT_GROUP = "opentelemetry_traces_sampler"

_log = RateLimitedLog(logging.getLogger(__name__))


def build_sampler(name: str, arg: float | None, source: str = "the configuration") -> Sampler:
    """Builds the sampler of a name.

    The names are those of `OTEL_TRACES_SAMPLER` (SDK environment variables specification). Any other name is looked up
    in the entry-point group `opentelemetry_traces_sampler`, whose factories take the argument as a string, or `""`.

    :param arg: the ratio, 0 to 1, of the two ratio samplers; 1.0 when None.
    :param source: where the name was set, for the error.
    :raises ConfigError: the name is unknown, the ratio out of range, or the factory failed.
    """
    ratio = 1.0 if arg is None else arg
    if name == "always_on":
        return sampling.ALWAYS_ON
    if name == "always_off":
        return sampling.ALWAYS_OFF
    if name == "parentbased_always_on":
        return sampling.DEFAULT_ON
    if name == "parentbased_always_off":
        return sampling.DEFAULT_OFF
    if name in ("traceidratio", "parentbased_traceidratio"):
        if not 0.0 <= ratio <= 1.0:
            raise ConfigError("sampler_arg", arg, source, "must be a number between 0 and 1", "try 1.0")
        return sampling.TraceIdRatioBased(ratio) if name == "traceidratio" else sampling.ParentBasedTraceIdRatio(ratio)
    return _third_party(name, arg, source)


def _third_party(name: str, arg: float | None, source: str) -> Sampler:
    from importlib.metadata import entry_points

    found = next(iter(entry_points(group=ENTRY_POINT_GROUP, name=name)), None)
    if found is None:
        raise ConfigError(
            "sampler", name, source, "no such sampler", f"install one that registers in {ENTRY_POINT_GROUP}"
        )
    try:
        factory = cast("Callable[[str], object]", found.load())
        sampler = factory("" if arg is None else str(arg))
    except (Exception, SystemExit) as error:
        raise ConfigError("sampler", name, source, f"{found.value} failed: {error!r}") from error
    if not isinstance(sampler, Sampler):
        raise ConfigError("sampler", name, source, f"{found.value} returned {type(sampler).__name__}, not a Sampler")
    return sampler


class CountingSampler(Sampler):
    """Asks another sampler, counts what it drops, and drops everything while paused.

    A sampler that raises or answers with something else than a SamplingResult drops the span: counted as sampled out,
    logged once a minute. Its description is the inner sampler's, because it decides nothing by itself.

    :param inner: who decides.
    :param ledger: hears of each span left out. A span that is recorded but not sampled is counted when it ends.
    """

    def __init__(self, inner: Sampler, ledger: LedgerPort) -> None:
        self._inner = inner
        self._ledger = ledger
        self.paused = False

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """The inner sampler's result, or DROP with the parent's tracestate."""
        if not self.paused:
            try:
                result = self._inner.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)
                if result.decision is not Decision.DROP:
                    return result
            except (Exception, SystemExit):
                _log.warning("sampler", "The sampler failed; its span is not recorded", exc_info=True)
                result = None
            if result is not None:
                self._ledger.sampled_out(1)
                return result
        self._ledger.sampled_out(1)
        parent = get_current_span(parent_context).get_span_context()
        return SamplingResult(Decision.DROP, None, parent.trace_state if parent.is_valid else None)

    def get_description(self) -> str:
        """The inner sampler's description."""
        return self._inner.get_description()
