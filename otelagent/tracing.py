"""Spans of the application's own: `otelagent.span` and `@otelagent.instrument`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from contextvars import Token
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

from otelagent.semconv.call import CallDescription, Kind

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, SpanKind
    from opentelemetry.util.types import AttributeValue

    from otelagent.patching import Operation

__all__ = ["instrument", "span"]

F = TypeVar("F", bound=Callable[..., Any])

_SCOPE = "otelagent"
_KINDS = ("internal", "server", "client", "producer", "consumer")
_PLAIN = (bool, int, float, str)
_MAX_ARGUMENT_LENGTH = 256


class _Described(CallDescription):
    """A call of the application's own, of any kind."""

    def __init__(self, name: str, kind: Kind, attributes: dict[str, Any]) -> None:
        super().__init__(name, attributes)
        self.kind = kind


class span:
    """A context manager that makes a span and makes it current; ``with`` gives the OpenTelemetry span.

    ::

        with otelagent.span("checkout", {"cart.items": 3}) as current:
            current.set_attribute("order.id", order.id)

    An exception that leaves the block is recorded and makes the span an error. It may be used inside generators and
    coroutines that are closed early or by another task. Each ``with`` of one object makes a span of its own.

    :param name: the span's name; low cardinality.
    :param attributes: values are str, bool, int, float or sequences of one of these.
    :param kind: ``internal``, ``server``, ``client``, ``producer``, ``consumer``, or an OpenTelemetry `SpanKind`.
    :raises ValueError: there is no such kind.
    """

    __slots__ = ("_described", "_entered")

    def __init__(
        self, name: str, attributes: Mapping[str, AttributeValue] | None = None, *, kind: Kind | SpanKind = "internal"
    ) -> None:
        self._described = _Described(name, _kind(kind), dict(attributes or {}))
        self._entered: list[tuple[Operation, Token[Context]]] = []

    def __enter__(self) -> Span:
        from opentelemetry import trace

        from otelagent.patching.operation import Operation, attach

        operation = Operation().begin(trace.get_tracer(_SCOPE), self._described)
        self._entered.append((operation, attach(operation.context)))
        return operation.span

    def __exit__(
        self, exc_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        from otelagent.patching.operation import current, detach

        # Mostly there is one. Of several, by nesting or in other tasks, it is the one whose context this is.
        context = current()
        position = next(
            (at for at in range(len(self._entered) - 1, -1, -1) if self._entered[at][0].context is context), -1
        )
        operation, token = self._entered.pop(position)
        detach(token)
        if error is not None:
            operation.raised(error)
        operation.end()


@overload
def instrument(function: F, /) -> F: ...


@overload
def instrument(
    target: str | None = None,
    /,
    *,
    name: str | None = None,
    attributes: Mapping[str, AttributeValue] | None = None,
    arguments: str | Iterable[str] | Mapping[str, str] = (),
    kind: Kind | SpanKind = "internal",
) -> Callable[[F], F]: ...


def instrument(
    target: Any = None,
    /,
    *,
    name: str | None = None,
    attributes: Mapping[str, AttributeValue] | None = None,
    arguments: str | Iterable[str] | Mapping[str, str] = (),
    kind: Kind | SpanKind = "internal",
) -> Any:
    """Give every call of a function a span: ``@otelagent.instrument`` or ``@otelagent.instrument("name", …)``.

    Works on functions, coroutine functions, generators and async generators (their span lasts from the first step to
    the end or the close), methods, static and class methods. The decorated function stays of the same sort.

    :param target: the span's name, which `name` gives too; the function's qualified name by default.
    :param attributes: set on every span.
    :param arguments: the parameters whose values are recorded, as attributes of the same name; a mapping gives each an
        attribute name of its own. Values that aren't str, bool, int or float are recorded as their ``str()``, at most
        256 characters of it.
    :param kind: as for `span`.
    :raises ValueError: the function has no parameter of a given name, or one that collects several arguments; there is
        no such kind.
    """
    span_kind = _kind(kind)
    names = (arguments,) if isinstance(arguments, str) else arguments
    if target is None or isinstance(target, str):
        return lambda function: _instrument(function, name or target, attributes, names, span_kind)
    return _instrument(target, name, attributes, names, span_kind)


def _kind(kind: Kind | SpanKind) -> Kind:
    """A kind by any of its names."""
    name = (kind if isinstance(kind, str) else kind.name).lower()
    if name not in _KINDS:
        raise ValueError(f"kind={kind!r}: must be one of {', '.join(_KINDS)}")
    return cast("Kind", name)


def _instrument(
    function: Any,
    name: str | None,
    attributes: Mapping[str, AttributeValue] | None,
    arguments: Iterable[str] | Mapping[str, str],
    kind: Kind,
) -> Any:
    from opentelemetry import trace

    from otelagent.patching.hook import Call, Site
    from otelagent.patching.wrap import wrap

    if isinstance(function, (staticmethod, classmethod)):
        return type(function)(_instrument(function.__func__, name, attributes, arguments, kind))
    if not callable(function) or inspect.isclass(function):
        raise TypeError(f"@otelagent.instrument decorates functions, not {function!r}")
    chosen = _chosen(function, arguments)
    qualified = f"{function.__module__}.{function.__qualname__}"
    fixed = {"code.function.name": qualified, **(attributes or {})}
    span_name = name or function.__qualname__

    def describe(call: Call) -> CallDescription:
        recorded: dict[str, Any] = dict(fixed)
        for parameter, position, default, attribute in chosen:
            recorded[attribute] = _plain(call.arg(position, parameter, default))
        return _Described(span_name, kind, recorded)

    site = Site(describe, trace.get_tracer(function.__module__), None, qualified, explicit=True)
    return wrap(function, site, method=False)


def _chosen(
    function: Callable[..., Any], arguments: Iterable[str] | Mapping[str, str]
) -> list[tuple[str, int, Any, str]]:
    names = arguments if isinstance(arguments, Mapping) else {name: name for name in arguments}
    if not names:
        return []
    parameters = inspect.signature(function).parameters
    positions = {name: position for position, name in enumerate(parameters)}
    for name in names:
        if name not in parameters:
            raise ValueError(
                f"@otelagent.instrument on {function.__qualname__}: it has no parameter {name!r}, "
                f"only {', '.join(parameters) or 'none'}"
            )
    chosen = []
    for name, attribute in names.items():
        parameter = parameters[name]
        if parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
            raise ValueError(
                f"@otelagent.instrument on {function.__qualname__}: {parameter} collects several arguments"
            )
        keyword_only = parameter.kind is inspect.Parameter.KEYWORD_ONLY
        default = None if parameter.default is inspect.Parameter.empty else parameter.default
        chosen.append((name, 10**6 if keyword_only else positions[name], default, attribute))
    return chosen


def _plain(value: Any) -> Any:
    if value is None or type(value) in _PLAIN:
        return value
    try:
        return str(value)[:_MAX_ARGUMENT_LENGTH]
    except Exception:
        return f"<{type(value).__qualname__}>"
