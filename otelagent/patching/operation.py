"""A described call while it runs: one span, its context, and how it ends."""

from __future__ import annotations

from contextvars import ContextVar, Token
from typing import Any

from opentelemetry import context as context_api
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation import _SPAN_KEY as SPAN_KEY
from opentelemetry.util.types import AttributeValue

from otelagent.environment import hidden
from otelagent.patching import exception_text
from otelagent.semconv.call import CallDescription, error_type

with hidden("OTEL_PROPAGATORS"):  # an unknown name there makes this import raise; ours are set by the agent
    from opentelemetry import propagate

__all__ = [
    "LAYER_KEY",
    "SPAN_KEY",
    "Operation",
    "attach",
    "current",
    "detach",
    "extract",
    "propagate",
    "suppressed",
    "without_call",
]

_KINDS = {
    "internal": SpanKind.INTERNAL,
    "server": SpanKind.SERVER,
    "client": SpanKind.CLIENT,
    "producer": SpanKind.PRODUCER,
    "consumer": SpanKind.CONSUMER,
}

#: Context key of the semantic layer ("http", "db") whose call is under way: a lower library of the same layer that it
#: uses (urllib3 under requests, a driver under an ORM) is the same call and gives no second span.
LAYER_KEY = context_api.create_key("otelagent-layer")
# The API's own keys, which contrib instrumentations and exporters set too.
_SUPPRESS_KEY = context_api._SUPPRESS_INSTRUMENTATION_KEY
_OLD_SUPPRESS_KEY = "suppress_instrumentation"
_SUPPRESS_HTTP_KEY = context_api._SUPPRESS_HTTP_INSTRUMENTATION_KEY

_runtime = context_api._RUNTIME_CONTEXT
# The API's own runtime context is one context variable; asking that without its methods in between is half the cost.
_variable: ContextVar[Context] | None = getattr(_runtime, "_current_context", None)
attach = _runtime.attach if _variable is None else _variable.set
current = _runtime.get_current if _variable is None else _variable.get
_reset = _runtime.detach if _variable is None else _variable.reset


def detach(token: Token[Context]) -> None:
    """Restore the context before `attach`, quietly where that is no longer possible.

    A generator or coroutine that is closed by another task or by the garbage collector ends in a foreign context,
    where a token is invalid and there is nothing to restore. The API's own `detach` logs a traceback for it.
    """
    try:
        _reset(token)
    except (ValueError, RuntimeError):  # foreign, or used before
        pass


def suppressed(context: Context, layer: str | None) -> bool:
    """Whether spans are unwanted here: export traffic, or whatever the application has wrapped in a suppression."""
    if context.get(_SUPPRESS_KEY) or context.get(_OLD_SUPPRESS_KEY):
        return True
    return layer == "http" and bool(context.get(_SUPPRESS_HTTP_KEY))


class Operation:
    """One span of a described call.

    :ivar span: the API span; a non-recording one when sampled out, an invalid one until `begin`.
    :ivar context: the context in which the call runs.
    :ivar description: what `begin` was given.
    :ivar result: what the call returned. A hook may replace it.
    :ivar error: what the call raised, or ``None``.
    """

    # Defaults of the class rather than of each instance: most operations never set them.
    span: trace.Span = trace.INVALID_SPAN
    context = Context()
    description: CallDescription | None = None
    result: Any = None
    error: BaseException | None = None
    _open = True
    _later = False

    def begin(
        self,
        tracer: trace.Tracer,
        description: CallDescription,
        mark: tuple[str, Any] | None = None,
        context: Context | None = None,
    ) -> Operation:
        """Start the span of a described call and write its context into the outbound headers. The caller attaches
        `context` around the call.

        :param tracer: of the instrumentation's scope. Where it has a `begin_call` (the native engine's), that does the
            whole of it.
        :param description: what is called.
        :param mark: a key and value of the call's context besides its span, such as its semantic layer (`LAYER_KEY`).
        :param context: the caller's context; the current one by default.
        :returns: itself.
        """
        self.description = description
        if context is None:
            context = current()
        attributes = description.attributes
        if not description.complete:
            attributes = {key: value for key, value in attributes.items() if value is not None}
        links = None
        if description.links:
            links = [trace.Link(carried) for carried in map(_carried, description.links) if carried.is_valid]
        begin_call: Any = getattr(tracer, "begin_call", None)
        if begin_call is None or description.inbound is not None:
            self.span, self.context = _start(tracer, begin_call, description, attributes, links, mark, context)
        else:  # the shortest way, and the most frequent one
            self.span, self.context = begin_call(
                description.name, _KINDS[description.kind], attributes, context, mark, links, description.start_ns
            )
        if description.outbound is not None:
            inject(description, self.context)
        return self

    def set(self, key: str, value: AttributeValue | None) -> None:
        """Set one attribute; ``None`` is left out."""
        if value is not None:
            self.span.set_attribute(key, value)

    def rename(self, name: str) -> None:
        """Give the span a better name, once more is known."""
        self.span.update_name(name)

    def fail(self, error_type_: str, message: str | None = None) -> None:
        """Mark the call as failed for a reason that is no exception, such as a status code.

        :param error_type_: the `error.type`; low cardinality.
        :param message: the status description; leave it out where `error_type_` says all (semconv "Recording errors").
        """
        self.span.set_attribute("error.type", error_type_)
        self.span.set_status(Status(StatusCode.ERROR, message))

    def raised(self, error: BaseException) -> None:
        """Record an exception that ended the call, its text without credentials.

        Exceptions that end a call without being its failure (cancellation, interpreter exit, a closed generator) give
        `error.type` and no error status.
        """
        if not isinstance(error, Exception):
            if not isinstance(error, GeneratorExit):
                self.span.set_attribute("error.type", error_type(error))
            return
        description = self.description
        if description is not None:
            for key, value in description.error_attributes(error).items():
                self.set(key, value)
        try:
            # Also where nothing is recorded: a span around this one may be.
            message = exception_text.message(error, description)
            if self.span.is_recording():
                self.span.add_event("exception", exception_text.event_attributes(error, description))
        except Exception:
            message = ""  # its __str__ raises
        self.fail(error_type(error), message)

    def later(self) -> None:
        """Keep the span open after the call returns; whoever called this calls `end` (streams, deferred replies)."""
        self._later = True

    def end(self, end_ns: int | None = None) -> None:
        """End the span; once."""
        if self._open:
            self._open = False
            self.span.end(end_ns)

    @property
    def ended(self) -> bool:
        """Whether `end` was called."""
        return not self._open

    @property
    def kept_open(self) -> bool:
        """Whether `later` was called."""
        return self._later


def _start(
    tracer: trace.Tracer,
    begin_call: Any,
    description: CallDescription,
    attributes: dict[str, Any],
    links: list[trace.Link] | None,
    mark: tuple[str, Any] | None,
    context: Context,
) -> tuple[trace.Span, Context]:
    name, kind, start_ns = description.name, _KINDS[description.kind], description.start_ns
    if (inbound := description.inbound) is not None:
        context = without_call(context)
        formats = None if begin_call is None else getattr(propagate.get_global_textmap(), "formats", None)
        if formats is not None:
            started: tuple[trace.Span, Context] | None = begin_call(
                name, kind, attributes, context, mark, links, start_ns, inbound, description.getter, formats
            )
            if started is not None:
                return started
        context = _extract(inbound, context, description.getter)
    if begin_call is not None:
        return begin_call(name, kind, attributes, context, mark, links, start_ns)  # type: ignore[no-any-return]
    span = tracer.start_span(name, context, kind, attributes, links, start_ns)
    # One copy of the context; the API's `set_value` makes two for each key.
    values = {**context, SPAN_KEY: span}
    if mark is not None:
        values[mark[0]] = mark[1]
    return span, Context(values)


def extract(carrier: Any, context: Context, getter: Any = None) -> Context:
    """The context an incoming call runs in: what its headers say, over everything of `context` that isn't the current
    call's.

    A span around a server (a CLI command's, a job's) would otherwise swallow every request the server ever handles.
    """
    return _extract(carrier, without_call(context), getter)


def without_call(context: Context) -> Context:
    """A context without the span and the layer of the call that is under way in it."""
    if SPAN_KEY in context or LAYER_KEY in context:
        return Context({key: value for key, value in context.items() if key not in (SPAN_KEY, LAYER_KEY)})
    return context


def _extract(carrier: Any, context: Context, getter: Any) -> Context:
    if getter is None:
        return propagate.extract(carrier, context)
    return propagate.extract(carrier, context, getter)


def inject(description: CallDescription, context: Context) -> None:
    """Write the context into the call's outbound headers."""
    if description.setter is None:
        propagate.inject(description.outbound, context)
    else:
        propagate.inject(description.outbound, context, description.setter)


def _carried(carrier: Any) -> trace.SpanContext:
    return trace.get_current_span(propagate.extract(carrier, Context())).get_span_context()
