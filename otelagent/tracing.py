"""Spans of the application's own: `otelagent.span` and `@otelagent.instrument`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from contextvars import Token
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, overload

from otelagent.semconv.call import CallDescription, Kind

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span
    from opentelemetry.util.types import AttributeValue

    from otelagent.patching import Operation

__all__ = ["instrument", "span"]

F = TypeVar("F", bound=Callable[..., Any])

_SCOPE = "otelagent"
_PLAIN = (bool, int, float, str)
_MAX_ARGUMENT_LENGTH = 256


class _Described(CallDescription):
    """A call of the application's own, of any kind."""

    __slots__ = ("kind",)

    def __init__(self, name: str, kind: Kind, attributes: dict[str, Any]) -> None:
        super().__init__(name, attributes)
        self.kind = kind


class span:
    """A context manager that makes a span and makes it current; ``with`` gives the OpenTelemetry span.

    ::

        with otelagent.span("checkout", {"cart.items": 3}) as current:
            current.set_attribute("order.id", order.id)

    An exception that leaves the block is recorded and makes the span an error. It may be used inside generators and
    coroutines that are closed early or by another task.

    :param name: the span's name; low cardinality.
    :param attributes: values are str, bool, int, float or sequences of one of these.
    :param kind: ``internal``, ``server``, ``client``, ``producer`` or ``consumer``.
    """

    __slots__ = ("_described", "_operation", "_token")

    def __init__(
        self, name: str, attributes: Mapping[str, AttributeValue] | None = None, *, kind: Kind = "internal"
    ) -> None:
        self._described = _Described(name, kind, dict(attributes or {}))
        self._operation: Operation | None = None
        self._token: Token[Context] | None = None

    def __enter__(self) -> Span:
        from opentelemetry import trace

        from otelagent.patching.operation import attach, begin

        self._operation = begin(trace.get_tracer(_SCOPE), self._described)
        self._token = attach(self._operation.context)
        return self._operation.span

    def __exit__(
        self, exc_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        from otelagent.patching.operation import detach

        if self._operation is None or self._token is None:
            return
        detach(self._token)
        if error is not None:
            self._operation.raised(error)
        self._operation.end()


@overload
def instrument(function: F, /) -> F: ...


@overload
def instrument(
    name: str | None = None,
    /,
    *,
    attributes: Mapping[str, AttributeValue] | None = None,
    arguments: Iterable[str] | Mapping[str, str] = (),
    kind: Kind = "internal",
) -> Callable[[F], F]: ...


def instrument(
    target: Any = None,
    /,
    *,
    attributes: Mapping[str, AttributeValue] | None = None,
    arguments: Iterable[str] | Mapping[str, str] = (),
    kind: Kind = "internal",
) -> Any:
    """Give every call of a function a span: ``@otelagent.instrument`` or ``@otelagent.instrument("name", …)``.

    Works on functions, coroutine functions, generators and async generators (their span lasts from the first step to
    the end or the close), methods, static and class methods. The decorated function stays of the same sort.

    :param target: the span's name; the function's qualified name by default.
    :param attributes: set on every span.
    :param arguments: the parameters whose values are recorded, as attributes of the same name; a mapping gives each an
        attribute name of its own. Values that aren't str, bool, int or float are recorded as their ``str()``, at most
        256 characters of it.
    :param kind: as for `span`.
    :raises ValueError: the function has no parameter of a given name.
    """
    if target is None or isinstance(target, str):
        return lambda function: _instrument(function, target, attributes, arguments, kind)
    return _instrument(target, None, attributes, arguments, kind)


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

    return wrap(function, Site(describe, trace.get_tracer(function.__module__), None, qualified), method=False)


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
