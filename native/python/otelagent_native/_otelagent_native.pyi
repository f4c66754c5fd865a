"""The extension's classes. They follow the OpenTelemetry API; what they do besides is said here."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Protocol, final, type_check_only

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceState
from opentelemetry.util.types import AnyValue, Attributes, AttributeValue

__all__ = [
    "CurrentSpan",
    "Formats",
    "Logger",
    "LoggerBase",
    "Recorder",
    "Span",
    "SpanBase",
    "Tracer",
    "TracerBase",
    "__version__",
    "format_b3",
    "format_traceparent",
    "parse_b3",
    "parse_b3_multi",
    "parse_traceparent",
    "parse_tracestate",
]

__version__: str

@type_check_only
class ScopeView(Protocol):
    """What the spans of a tracer are read by; gives the classes that the stock SDK has for it."""

    @property
    def instrumentation_scope(self) -> Any:
        """Name, version, schema URL and attributes."""
    @property
    def instrumentation_info(self) -> Any:
        """What the SDK had before it had scopes."""
    @property
    def resource(self) -> Any:
        """The resource of the process."""
    def deprecated_info(self) -> Any:
        """`instrumentation_info`, of a span."""
    def events(self, items: Iterable[tuple[str, Mapping[str, Any], int, int]]) -> tuple[Any, ...]:
        """Of each event its name, attributes, time in nanoseconds and number of dropped attributes."""
    def links(self, items: Iterable[tuple[SpanContext, Mapping[str, Any], int]]) -> tuple[Link, ...]:
        """Of each link its context, attributes and number of dropped attributes."""
    def readable(self, span: Span) -> Any:
        """A span as it is now, for exporters."""

class SpanBase:
    """Registered with `opentelemetry.trace.Span`, so that `isinstance` holds."""

class TracerBase:
    """Registered with `opentelemetry.trace.Tracer`, so that `isinstance` holds."""

@final
class Span(SpanBase):
    """A span of the OpenTelemetry API. No method raises for a telemetry reason.

    Values are made fit for the wire or refused, which the span counts: see `native/crates/python/src/convert.rs`.
    What is read of a span whose recording was left out is empty.
    """

    def set_attribute(self, key: str, value: AttributeValue) -> None:
        """Sets an attribute; a key that is there already keeps its place and takes the new value."""
    def set_attributes(self, attributes: Mapping[str, AttributeValue]) -> None:
        """Sets each attribute of a mapping, in its order."""
    def add_event(self, name: str, attributes: Attributes = None, timestamp: int | None = None) -> None:
        """Appends an event; one over the limit is dropped and counted.

        :param timestamp: nanoseconds since the Unix epoch; None is now.
        """
    def add_link(self, context: SpanContext, attributes: Attributes = None) -> None:
        """Appends a link; one over the limit is dropped and counted.

        :param context: an invalid one is ignored, unless it has a tracestate or there are attributes.
        """
    def update_name(self, name: str) -> None:
        """Gives the span another name. Samplers have seen the first one."""
    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """Sets the status: OK is final, UNSET changes nothing, only an error keeps its description.

        :param description: ignored when `status` is a `Status`, which has one itself.
        """
    def record_exception(
        self,
        exception: BaseException,
        attributes: Attributes = None,
        timestamp: int | None = None,
        escaped: bool | None = None,
    ) -> None:
        """Appends the event `exception` with the exception's type, message and stack trace.

        :param attributes: added to these, and stronger.
        :param timestamp: nanoseconds since the Unix epoch; None is now.
        :param escaped: what `exception.escaped` says; None is false.
        """
    def end(self, end_time: int | None = None) -> None:
        """Ends the span and queues it. Whatever is done to it afterwards is ignored, and complained of.

        :param end_time: nanoseconds since the Unix epoch; None or 0 is now.
        """
    def is_recording(self) -> bool:
        """Whether it is recorded and hasn't ended."""
    def get_span_context(self) -> SpanContext:
        """Ids, flags and tracestate: what children and other processes are told of it."""
    def __enter__(self) -> Span: ...
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None: ...
    @property
    def name(self) -> str:
        """The name it has now."""
    @property
    def context(self) -> SpanContext:
        """As `get_span_context()`."""
    @property
    def kind(self) -> SpanKind:
        """INTERNAL unless its start said otherwise."""
    @property
    def parent(self) -> SpanContext | None:
        """None for a root."""
    @property
    def start_time(self) -> int | None:
        """Nanoseconds since the Unix epoch."""
    @property
    def end_time(self) -> int | None:
        """Nanoseconds since the Unix epoch; None before the end."""
    @property
    def status(self) -> Status:
        """UNSET unless it was set."""
    @property
    def attributes(self) -> Mapping[str, Any]:
        """A copy; sequences are tuples."""
    @property
    def events(self) -> tuple[Any, ...]:
        """In the order in which they were added, as `ScopeView.events` makes them."""
    @property
    def links(self) -> tuple[Link, ...]:
        """In the order in which they were added, as `ScopeView.links` makes them."""
    @property
    def dropped_attributes(self) -> int:
        """Attributes over the limit, and those that no wire can carry."""
    @property
    def dropped_events(self) -> int:
        """Events over the limit."""
    @property
    def dropped_links(self) -> int:
        """Links over the limit."""
    @property
    def instrumentation_scope(self) -> Any:
        """The scope's, see `ScopeView`."""
    @property
    def instrumentation_info(self) -> Any:
        """The scope's, see `ScopeView.deprecated_info`."""
    @property
    def resource(self) -> Any:
        """The scope's, see `ScopeView`."""
    def to_json(self, indent: int | None = 4) -> str:
        """As `ReadableSpan` of the SDK writes it."""
    def _readable_span(self) -> Any:
        """What the scope makes of the span, see `ScopeView.readable`."""

@final
class CurrentSpan:
    """Makes a span the current one for a block; as a decorator, a span for each call of a function."""

    def __enter__(self) -> Span: ...
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> Literal[False]: ...
    def __call__(self, func: Callable[..., Any]) -> Callable[..., Any]: ...
    def again(self) -> CurrentSpan:
        """Another one with the same arguments."""

@final
class Tracer(TracerBase):
    """A tracer of the OpenTelemetry API."""

    def start_span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
    ) -> Span:
        """Starts a span; it isn't made the current one.

        :param context: where the parent is; None is the current context.
        :param kind: None is INTERNAL.
        :param start_time: nanoseconds since the Unix epoch; None is now.
        :param record_exception: whether the exception that leaves a `with span:` is recorded.
        :param set_status_on_exception: whether that exception makes the status an error.
        """
    def start_as_current_span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
        end_on_exit: bool = True,
    ) -> CurrentSpan:
        """A context manager, or decorator, that starts a span and makes it the current one.

        The arguments of `start_span`, and:

        :param end_on_exit: whether the span ends with the block.
        """
    def begin_call(
        self,
        name: str,
        kind: SpanKind,
        attributes: Mapping[str, AttributeValue],
        context: Context,
        mark: tuple[str, Any] | None,
        links: Sequence[Link] | None,
        start_time: int | None,
        inbound: Any = None,
        getter: Any = None,
        formats: Formats | None = None,
    ) -> tuple[Span, Context] | None:
        """A described call whole: its span, and a new context with it and the mark, over what `context` has.

        :param context: holds the parent, unless there are inbound headers: then it holds none.
        :param mark: one more key and value of the new context.
        :param inbound: the caller's headers, from which the parent comes, or nowhere.
        :param getter: an API `Getter` that reads them and whose attribute `layout` says how they lie: `asgi` for a list
            of pairs of bytes, `wsgi` for an environ. None: a dict of strings by lower-case names.
        :param formats: how the headers are read.
        :returns: None where the headers take their propagators: another layout, baggage among them.
        """
    def begin_request(
        self,
        layout: str,
        carrier: Any,
        method: str,
        path: str,
        context: Context,
        mark: tuple[str, Any] | None,
        formats: Formats,
    ) -> tuple[Span, Context] | None:
        """An incoming HTTP request whole: the span that `otelagent.semconv.http.ServerRequest` describes, named by the
        method, with its parent from the request's headers; and a context as `begin_call` makes it.

        :param layout: of the carrier: `asgi` for a scope, `wsgi` for an environ.
        :param path: the whole path, not quoted.
        :param context: holds no parent.
        :returns: None where it takes the description in Python: what isn't plain, such as an unknown method, a host in
            brackets, a credential in the query, characters beyond ASCII; and with a sampler that isn't a standard one.
        """
    @property
    def instrumentation_scope(self) -> Any:
        """The scope's, see `ScopeView`."""
    @property
    def instrumentation_info(self) -> Any:
        """The scope's, see `ScopeView`."""
    @property
    def resource(self) -> Any:
        """The scope's, see `ScopeView`."""

class LoggerBase:
    """For registering with `opentelemetry._logs.Logger`, so that `isinstance` holds."""

@final
class Logger(LoggerBase):
    """A logger of the OpenTelemetry Logs API. No method raises for a telemetry reason.

    Values are made fit for the wire or refused: an attribute, which the record counts, or the body, which is empty
    then. Of the recorder's limits those of a span's attributes hold; a body has none.

    :param recorder: of log records alone: its requests are `ExportLogsServiceRequest`.
    """

    def __new__(
        cls, recorder: Recorder, name: str, version: str, schema_url: str, attributes: Attributes
    ) -> Logger: ...
    def emit(
        self,
        record: LogRecord | None = None,
        *,
        timestamp: int | None = None,
        observed_timestamp: int | None = None,
        context: Context | None = None,
        severity_number: SeverityNumber | None = None,
        severity_text: str | None = None,
        body: AnyValue | None = None,
        attributes: Attributes = None,
        event_name: str | None = None,
        exception: BaseException | None = None,
    ) -> None:
        """Takes a log record, given whole or in parts; a whole one is read at once and not kept.

        :param timestamp: nanoseconds since the Unix epoch; None for unknown.
        :param observed_timestamp: the same; None for now.
        :param context: says the span; None and an empty one stand for the current one.
        :param exception: becomes attributes, of which the caller's win.
        """
    def enabled(
        self,
        *,
        context: Context | None = None,
        severity_number: SeverityNumber | None = None,
        event_name: str | None = None,
    ) -> bool:
        """Whether a record would be taken: false while paused."""

@final
class Formats:
    """Formats of propagation, read and written without propagators; see `otelagent.record.headers.Formats`.

    :param names: `tracecontext`, `baggage`, `b3`, `b3multi`; the last that names a parent has the say.
    :param make_trace_state: makes a tracestate of members that are valid.
    :raises ValueError: another name.
    """

    def __new__(cls, names: Sequence[str], make_trace_state: Callable[[dict[str, str]], TraceState]) -> Formats: ...
    def inject(self, carrier: Any, context: Context | None, setter: Any = None) -> bool:
        """Writes the headers of the span in a context, the current one by default.

        :param setter: an API `Setter`; None for item assignment. What it raises comes through.
        :returns: False, and nothing is written, for a span that isn't ours, and where there is baggage.
        """

@final
class Recorder:
    """Records the spans, or else the log records, of one provider and gives them as OTLP requests.

    It is a `Source` of `otelagent.record.batch`.

    :param sampler: `always_on`, `always_off`, `traceidratio`, or an object with the SDK's `should_sample`.
    :param ratio: of `traceidratio`, 0 to 1.
    :param parent_based: whether a span with a parent is sampled as its parent was; not for a sampler object.
    :param limits: most attributes of a span, longest value (characters, bytes), most events and links of a span, most
        attributes of an event and of a link, longest value of these; None is no limit.
    :param max_queue_size: most spans that wait. When full, the oldest of the lowest priority gives way to one of a
        higher: spans that are errors go before others, log records from ERROR on before the rest, those below INFO come
        last. What gives way or finds nothing that would is dropped as `queue_full`.
    :param max_queue_bytes: most bytes of encoded spans that wait; as `max_queue_size`. One that alone has more is
        dropped as `too_large`.
    :param max_batch_items: most spans of a request.
    :param complain: hears of what went wrong: a topic, a message, the exception if there was one. May be called often.
    :param id_generator: an object with the SDK's `generate_trace_id`, `generate_span_id` and `is_trace_id_random`.
    :raises ValueError: the sampler's name is unknown.
    """

    def __new__(
        cls,
        *,
        sampler: object,
        ratio: float,
        parent_based: bool,
        limits: Sequence[int | None],
        max_queue_size: int,
        max_queue_bytes: int,
        max_batch_items: int,
        complain: Callable[[str, str, BaseException | None], None],
        id_generator: object | None = None,
    ) -> Recorder: ...
    def tracer(self, name: str, version: str, schema_url: str, attributes: Attributes, scope: ScopeView) -> Tracer:
        """A tracer of a new instrumentation scope.

        :param scope: what its spans are read by.
        """
    def set_resource(self, attributes: Mapping[str, AttributeValue]) -> None:
        """Takes the resource of every request drained from now on."""
    def set_batch(self, batch: object) -> None:
        """Takes the object whose `added(enough)` is called when the first span waits and when there is enough."""
    def set_listener(self, listener: object | None) -> None:
        """Takes the object that hears of each recorded span: `on_start(span, context)`, and at its end
        `on_ending(span)`, `on_end(span)`."""
    def pause(self) -> None:
        """Leaves new spans out, counted as sampled out."""
    def resume(self) -> None:
        """Ends a pause."""
    def close(self) -> None:
        """Drops every span that ends from now on as `shutdown`."""
    def reseed(self) -> None:
        """Starts a new sequence of ids, for a fork child."""
    def counts(self) -> tuple[int, int, dict[str, int]]:
        """Spans ended, sampled out, and dropped by reason, since the recorder was made or `forget`."""
    def dropped(self) -> dict[str, int]:
        """Spans dropped by reason, as in `counts`."""
    def enough(self) -> bool:
        """Whether as much waits as is worth a request: `max_batch_items`, or 4 MiB, or half of `max_queue_bytes`."""
    def mark(self) -> int:
        """The moment, for `waits` and `drain`."""
    def waits(self, until: int) -> bool:
        """Whether anything still waits that came before a moment.

        :param until: a `mark()`.
        """
    def drain(self, until: int | None = None) -> tuple[bytes, int] | None:
        """Takes the oldest spans of the highest priority, then of the next, up to `max_batch_items` and 4 MiB of them,
        as one `ExportTraceServiceRequest`, and says how many.

        :param until: a `mark()`: leaves out what came later. None for nothing.
        """
    def discard(self, reason: str) -> None:
        """Drops every waiting span under `reason`."""
    def forget(self) -> None:
        """Lets go of every waiting span and starts the counts over."""

# Propagation headers: the functions of `otelagent.record.headers`, in Rust. Ids are trace id, span id, flags.

def parse_traceparent(value: str) -> tuple[int, int, int] | None:
    """The ids of a traceparent header of W3C Trace Context level 2; None for an invalid one."""

def format_traceparent(trace_id: int, span_id: int, flags: int) -> str:
    """A traceparent header.

    :raises OverflowError: an id has more than 128, or 64, bits, or the flags more than 8.
    """

def parse_tracestate(values: Sequence[str]) -> dict[str, str]:
    """The members of the tracestate headers; empty when any is malformed or they are too many or too long."""

def parse_b3(value: str) -> tuple[int, int, int] | None:
    """The ids of the header `b3`; None for an invalid one, or one without ids."""

def parse_b3_multi(trace_id: str, span_id: str, sampled: str, flags: str) -> tuple[int, int, int] | None:
    """The ids of the headers `x-b3-…`, each empty where it is absent; None for invalid ones."""

def format_b3(trace_id: int, span_id: int, flags: int) -> str:
    """The header `b3`; raises as `format_traceparent` does."""
