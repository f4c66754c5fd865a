"""The `native` engine: spans recorded and encoded by the extension `otelagent_native`, behind our own batch."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import otelagent_native
from otelagent.environment import SDK_VARIABLES, hidden
from otelagent.errors import ConfigError
from otelagent.record.batch import Batch
from otelagent.record.native_provider import NativeProvider
from otelagent.record.rate_limited_log import RateLimitedLog
from otelagent.record.resource import process_attributes, static_attributes
from otelagent_native import Recorder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.trace import TracerProvider

    from otelagent.config import Config
    from otelagent.record.engine import Deliver, FlushDelivery, LedgerPort
    from otelagent.record.headers import Codec
    from otelagent.record.sdk import SdkEngine

__all__ = ["NativeEngine"]

_log = RateLimitedLog(logging.getLogger(__name__))

_PARENT_BASED = "parentbased_"
_STANDARD_SAMPLERS = frozenset({"always_on", "always_off", "traceidratio"})


class NativeEngine:
    """Records without the stock SDK, which is imported only for what needs it: a third-party sampler or processor, a
    provider that the application has set first.

    :param reason: why this engine was chosen.
    """

    name = "native"
    codec: Codec = otelagent_native

    def __init__(
        self,
        config: Config,
        ledger: LedgerPort,
        deliver: Deliver,
        *,
        reason: str,
        flush_delivery: FlushDelivery | None = None,
    ) -> None:
        self.reason = reason
        self._config = config
        self._ledger = ledger
        self._deliver = deliver
        self._flush_delivery = flush_delivery
        sampler, ratio, parent_based = _sampler(config)
        limits = config.limits
        max_batch_items = min(config.batch.max_export_batch_size, config.batch.max_queue_size)
        self._recorder = Recorder(
            sampler=sampler,
            ratio=ratio,
            parent_based=parent_based,
            limits=[
                limits.attribute_count,
                limits.attribute_value_length,
                limits.event_count,
                limits.link_count,
                limits.event_attribute_count,
                limits.link_attribute_count,
            ],
            max_queue_size=config.batch.max_queue_size,
            max_batch_items=max_batch_items,
            complain=_complain,
        )
        self._batch = Batch(
            self._recorder,
            ledger,
            deliver,
            schedule_delay_s=config.batch.schedule_delay_ms / 1000,
            max_batch_items=max_batch_items,
        )
        self._recorder.set_batch(self._batch)
        ledger.include(self._recorder.counts)
        self._static = static_attributes(config)
        self._renew_resource()
        self._provider = NativeProvider(
            self._recorder,
            self._batch,
            ledger,
            lambda: self._resource,
            flush_timeout_s=config.batch.export_timeout_ms / 1000,
            flush_delivery=flush_delivery,
        )
        self._guest: SdkEngine | None = None

    def _renew_resource(self) -> None:
        self._resource: dict[str, str | int] = {**self._static, **process_attributes(self._static)}
        self._recorder.set_resource(self._resource)

    @property
    def provider(self) -> TracerProvider:
        """The provider; users may `add_span_processor` to it."""
        return self._provider

    @property
    def span_processor(self) -> SpanProcessor:
        """Takes the spans of a provider that the application set: stock spans, so the stock encoder encodes them."""
        if self._guest is None:
            with hidden(*SDK_VARIABLES):
                from otelagent.record.sdk import SdkEngine

            self._guest = SdkEngine(
                self._config, self._ledger, self._deliver, reason=self.reason, flush_delivery=self._flush_delivery
            )
        return self._guest.span_processor

    @property
    def resource(self) -> Mapping[str, object]:
        """The resource attributes as they are now."""
        return self._resource

    def pause(self) -> None:
        """New spans are not recorded until `resume`."""
        self._recorder.pause()

    def resume(self) -> None:
        """Ends a pause."""
        self._recorder.resume()

    def flush(self, deadline_s: float) -> bool:
        """Hands on every span that ended before the call; see `Engine.flush`."""
        done = self._batch.flush(deadline_s)
        return done if self._guest is None else self._guest.flush(deadline_s) and done

    def shutdown(self, deadline_s: float) -> bool:
        """Flushes and closes the batch, then shuts down the processors that others added; see `Engine.shutdown`."""
        self._recorder.close()
        done = self._batch.shutdown(deadline_s)
        self._provider.shutdown_others()
        return done if self._guest is None else self._guest.shutdown(deadline_s) and done

    def after_fork_in_child(self) -> None:
        """Starts over in a fork child; see `Engine.after_fork_in_child`."""
        self._renew_resource()
        self._recorder.reseed()
        self._provider.after_fork_in_child()
        self._batch.after_fork_in_child()
        if self._guest is not None:
            self._guest.after_fork_in_child()


def _sampler(config: Config) -> tuple[object, float, bool]:
    """What the recorder is told: a standard sampler's name or a Sampler, the ratio, whether a parent decides first."""
    name, arg = config.traces.sampler, config.traces.sampler_arg
    source = str(config.sources.get("sampler", "the configuration"))
    root = name.removeprefix(_PARENT_BASED)
    if root not in _STANDARD_SAMPLERS:
        with hidden(*SDK_VARIABLES):
            from otelagent.record.sampling import build_sampler
        return build_sampler(name, arg, source), 1.0, False
    ratio = 1.0 if arg is None else arg
    if root == "traceidratio" and not 0.0 <= ratio <= 1.0:
        raise ConfigError("sampler_arg", arg, source, "must be a number between 0 and 1", "try 1.0")
    return root, ratio, name.startswith(_PARENT_BASED)


def _complain(topic: str, message: str, error: BaseException | None) -> None:
    if error is None:
        _log.warning(topic, "%s", message)
        return
    try:
        raise error
    except BaseException:
        _log.warning(topic, "%s", message, exc_info=True)
