"""`otelagent.TracerProvider`: for libraries and tests that want a provider without `otelagent.init()`."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING
from weakref import WeakSet

from opentelemetry import trace as api
from opentelemetry.metrics import get_meter_provider

from otelagent.environment import SDK_VARIABLES, hidden
from otelagent.forks import at_fork

with hidden(*SDK_VARIABLES):
    from opentelemetry.sdk import resources
    from opentelemetry.sdk import trace as sdk_trace
    from opentelemetry.sdk.trace import SpanLimits, sampling
    from opentelemetry.sdk.trace.sampling import (
        Decision,
        ParentBased,
        ParentBasedTraceIdRatio,
        StaticSampler,
        TraceIdRatioBased,
    )

from otelagent.config import load
from otelagent.record.choice import choose
from otelagent.record.ids import GuardedIdGenerator, ProcessIdGenerator
from otelagent.record.pipeline import Pipeline
from otelagent.record.sampling import CountingSampler
from otelagent.record.sdk import Calls, Provider

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import (
        ConcurrentMultiSpanProcessor,
        SpanProcessor,
        SynchronousMultiSpanProcessor,
    )
    from opentelemetry.sdk.trace.id_generator import IdGenerator
    from opentelemetry.sdk.trace.sampling import Sampler
    from opentelemetry.util.types import Attributes

    from otelagent.record.engine import Counts
    from otelagent.record.native_provider import NativeProvider
    from otelagent_native import Recorder

__all__ = ["TracerProvider"]


_log = logging.getLogger(__name__)


class TracerProvider(api.TracerProvider):
    """A TracerProvider with the arguments of the stock SDK's, whose spans the native engine records.

    The stock SDK records them where the extension isn't installed, where ``OTELAGENT_ENGINE`` is ``sdk``, and where the
    SDK is to make metrics of its own spans (``OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED``). With either, nothing that
    goes wrong in a span, a sampler, an id generator or a processor is raised into the application.

    It delivers nothing by itself; `add_span_processor` takes the stock SDK's processors. It is apart from the one that
    `otelagent.init()` sets: neither its settings nor its ledger concern this one.

    :param sampler: any sampler of the SDK's interface; by default what ``OTEL_TRACES_SAMPLER`` and
        ``OTEL_TRACES_SAMPLER_ARG`` say. The standard ones are decided without Python.
    :param resource: what every span is of; ``Resource.create()`` by default.
    :param shutdown_on_exit: whether the processors are shut down when the interpreter exits.
    :param active_span_processor: calls the others, which are added to it; in their order by default.
    :param id_generator: gives the ids; by default they are random, from a generator that no ``random.seed()`` touches.
    :param span_limits: by default what the ``OTEL_*_LIMIT`` variables say.
    :param meter_provider: where the SDK's own metrics go, if they are switched on.
    :raises ConfigError: ``OTELAGENT_ENGINE`` is no engine, or is ``native`` and there is none.
    :raises ValueError: a variable of a limit is not a non-negative integer.
    """

    def __init__(
        self,
        sampler: Sampler | None = None,
        resource: Resource | None = None,
        shutdown_on_exit: bool = True,
        active_span_processor: SynchronousMultiSpanProcessor | ConcurrentMultiSpanProcessor | None = None,
        id_generator: IdGenerator | None = None,
        span_limits: SpanLimits | None = None,
        *,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        self.sampler = sampling._get_from_env_or_default() if sampler is None else sampler
        self.id_generator: IdGenerator = ProcessIdGenerator() if id_generator is None else id_generator
        limits = SpanLimits() if span_limits is None else span_limits
        self._disabled = os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
        resource = resources.Resource.create({}) if resource is None else resource
        self._pipeline = Pipeline(active_span_processor, shutdown_on_exit=shutdown_on_exit)
        self._inner: Provider | NativeProvider
        metrics = os.environ.get("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "").strip().lower() == "true"
        engine = {name: os.environ[name] for name in ("OTELAGENT_ENGINE",) if name in os.environ}
        if metrics or choose(load({}, engine))[0] == "sdk":
            self._inner = _StockProvider(
                CountingSampler(self.sampler, _Uncounted()),
                resource,
                Calls(self._pipeline),
                self.id_generator if id_generator is None else GuardedIdGenerator(id_generator),
                limits,
                meter_provider=(meter_provider or get_meter_provider()) if metrics else None,
            )
        else:
            self._inner = _native(self.sampler, resource, self._pipeline, id_generator, limits)

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: Attributes = None,
    ) -> api.Tracer:
        """The tracer of an instrumentation scope; one that does nothing where ``OTEL_SDK_DISABLED`` is true."""
        if self._disabled:
            return api.NoOpTracer()
        return self._inner.get_tracer(instrumenting_module_name, instrumenting_library_version, schema_url, attributes)

    @property
    def resource(self) -> Resource:
        """What every span is of."""
        return self._inner.resource

    def add_span_processor(self, span_processor: SpanProcessor) -> None:
        """Adds a processor of the SDK's interface; it hears of spans that start or end from now on, in its turn."""
        self._inner.add_span_processor(span_processor)

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Flushes every processor.

        :param timeout_millis: milliseconds for all together.
        :returns: whether all of them said that they flushed within the timeout.
        """
        return self._pipeline.force_flush(timeout_millis)

    def shutdown(self) -> None:
        """Shuts every processor down, once; they hear of nothing any more."""
        self._inner.shutdown()


# As the one that `otelagent.init()` sets: whoever asks so goes on to use what is public there.
sdk_trace.TracerProvider.register(TracerProvider)


class _StockProvider(Provider):
    def _handle_fork(self) -> None:
        super()._handle_fork()
        self._update_resource(_process_dependent())


class _ProcessResource:
    """The resource of a native provider; what a fork changes in it is renewed when it is read for the first time."""

    def __init__(self, resource: Resource) -> None:
        self._resource = resource
        self._pid = os.getpid()

    def get(self) -> Resource:
        """As it is now."""
        pid = os.getpid()
        if pid != self._pid:
            self._pid = pid
            self._resource = self._resource.merge(_process_dependent())
        return self._resource


def _process_dependent() -> Resource:
    """What the SDK's detectors say of this very process. Not by the SDK's own call, which starts threads for it: in a
    fork child the locks that it needs for that may be held by threads of the parent."""
    found = resources.Resource.get_empty()
    try:
        for detector in resources._build_resource_detectors():
            if detector.is_process_dependent():
                found = found.merge(detector.detect())
    except (Exception, SystemExit):
        _log.warning("The resource of a fork child stays its parent's", exc_info=True)
    return found


class _Uncounted:
    """A ledger for spans that nobody counts."""

    lost = 0

    def ended(self, n: int, /) -> None: ...
    def sampled_out(self, n: int, /) -> None: ...
    def dropped(self, n: int, reason: str, /) -> None: ...
    def include(self, counts: Counts, /) -> None: ...


def _native(
    sampler: Sampler,
    resource: Resource,
    pipeline: Pipeline,
    id_generator: IdGenerator | None,
    limits: SpanLimits,
) -> NativeProvider:
    from otelagent.record.native_provider import NativeProvider, complain
    from otelagent_native import Recorder

    known, ratio, parent_based = _standard(sampler)
    recorder = Recorder(
        sampler=known,
        ratio=ratio,
        parent_based=parent_based,
        limits=[
            limits.max_span_attributes,
            limits.max_span_attribute_length,
            limits.max_events,
            limits.max_links,
            limits.max_event_attributes,
            limits.max_link_attributes,
            limits.max_attribute_length,
        ],
        # Nothing waits to be delivered: what ends is the processors'.
        max_queue_size=0,
        max_queue_bytes=0,
        max_batch_items=1,
        complain=complain,
        id_generator=id_generator,
    )
    current = _ProcessResource(resource)
    provider = NativeProvider(recorder, pipeline, current.get)
    _recorders.add(recorder)
    _providers.add(provider)
    return provider


def _standard(sampler: Sampler) -> tuple[object, float, bool]:
    """What the recorder is told of a sampler: a standard one's name or itself, the ratio, whether parents decide.

    By exact type: a subclass may decide otherwise.
    """
    if isinstance(sampler, ParentBased) and type(sampler) in _PARENT_BASED:
        delegates = (
            (sampler._remote_parent_sampled, Decision.RECORD_AND_SAMPLE),
            (sampler._local_parent_sampled, Decision.RECORD_AND_SAMPLE),
            (sampler._remote_parent_not_sampled, Decision.DROP),
            (sampler._local_parent_not_sampled, Decision.DROP),
        )
        root, ratio, parent_based = _standard(sampler._root)
        if (
            isinstance(root, str)
            and not parent_based
            and all(type(one) is StaticSampler and one._decision is decision for one, decision in delegates)
        ):
            return root, ratio, True
    elif type(sampler) is StaticSampler and sampler._decision in _STATIC:
        return _STATIC[sampler._decision], 1.0, False
    elif type(sampler) is TraceIdRatioBased and sampler.bound == TraceIdRatioBased.get_bound_for_rate(sampler.rate):
        return "traceidratio", sampler.rate, False
    return sampler, 1.0, False


_PARENT_BASED = (ParentBased, ParentBasedTraceIdRatio)
_STATIC = {Decision.RECORD_AND_SAMPLE: "always_on", Decision.DROP: "always_off"}

# What starts over in a fork child. Tracers outlive their provider, so the recorders are in it themselves.
_recorders: WeakSet[Recorder] = WeakSet()
_providers: WeakSet[NativeProvider] = WeakSet()


def _after_fork_in_child() -> None:
    for recorder in list(_recorders):
        recorder.reseed()
    for provider in list(_providers):
        provider.after_fork_in_child()


at_fork(in_child=_after_fork_in_child)
