"""The `native` engine: spans recorded and encoded by the extension `otelagent_native`, behind our own batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import otelagent_native
from otelagent.environment import SDK_VARIABLES, hidden
from otelagent.errors import ConfigError
from otelagent.record.batch import Batch
from otelagent.record.native_provider import NativeProvider, complain
from otelagent.record.pipeline import Delivering
from otelagent.record.resource import AttributeValue, process_attributes, static_attributes
from otelagent_native import Recorder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.trace import TracerProvider

    from otelagent.config import Config
    from otelagent.record.engine import Deliver, FlushDelivery, LedgerPort
    from otelagent.record.headers import Codec
    from otelagent.record.open_spans import OpenSpans
    from otelagent.record.sdk import SdkEngine

__all__ = ["NativeEngine"]

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
        open_spans: OpenSpans | None = None,
    ) -> None:
        self.reason = reason
        self._config = config
        self._ledger = ledger
        self._deliver = deliver
        self._flush_delivery = flush_delivery
        self._open_spans = open_spans
        sampler, ratio, parent_based = _sampler(config)
        limits = config.limits
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
                limits.attribute_value_length,
            ],
            max_queue_size=config.batch.max_queue_size,
            max_queue_bytes=config.batch.queue_max_bytes,
            max_batch_items=min(config.batch.max_export_batch_size, config.batch.max_queue_size),
            complain=complain,
        )
        self._batch = Batch(
            self._recorder,
            ledger,
            deliver,
            schedule_delay_s=config.batch.schedule_delay_ms / 1000,
        )
        self._recorder.set_batch(self._batch)
        ledger.include(self._recorder.counts)
        self._resource = _Resource(static_attributes(config))
        self._recorder.set_resource(self._resource.attributes)
        self._pipeline = Delivering(
            self._batch,
            ledger,
            flush_timeout_s=config.batch.export_timeout_ms / 1000,
            flush_delivery=flush_delivery,
        )
        self._provider = NativeProvider(self._recorder, self._pipeline, self._resource.stock, open_spans)
        self._guest: SdkEngine | None = None

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
                self._config,
                self._ledger,
                self._deliver,
                reason=self.reason,
                flush_delivery=self._flush_delivery,
                open_spans=self._open_spans,
            )
        return self._guest.span_processor

    @property
    def resource(self) -> Mapping[str, object]:
        """The resource attributes as they are now."""
        return self._resource.attributes

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
        self._pipeline.shutdown_others(deadline_s)
        self._recorder.set_listener(None)
        return done if self._guest is None else self._guest.shutdown(deadline_s) and done

    def after_fork_in_child(self) -> None:
        """Starts over in a fork child; see `Engine.after_fork_in_child`."""
        self._resource.renew()
        self._recorder.set_resource(self._resource.attributes)
        self._provider.after_fork_in_child()
        self._batch.after_fork_in_child()
        if self._guest is not None:
            self._guest.after_fork_in_child()


class _Resource:
    """The resource of this process; what a fork changes is renewed.

    :param static: attributes that a fork doesn't change.
    """

    def __init__(self, static: Mapping[str, AttributeValue]) -> None:
        self._static = static
        self.renew()

    def renew(self) -> None:
        """Gives the process-dependent attributes new values."""
        self.attributes = {**self._static, **process_attributes(self._static)}
        self._stock: Resource | None = None

    def stock(self) -> Resource:
        """The same as the stock SDK has it, which is imported when somebody asks."""
        if self._stock is None:
            from opentelemetry.sdk.resources import Resource

            self._stock = Resource(self.attributes)
        return self._stock


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
