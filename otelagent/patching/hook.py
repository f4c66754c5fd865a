"""Patch points: what a hook is, and how a call is described by one."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Generator
from typing import Any, TypeVar

from opentelemetry import trace
from opentelemetry.context import Context

from otelagent.patching.operation import (
    LAYER_KEY,
    SPAN_KEY,
    Operation,
    begin,
    current,
    extract,
    propagate,
    suppressed,
)
from otelagent.patching.switch import SWITCH
from otelagent.semconv.call import CallDescription
from otelagent.struct import struct

__all__ = ["Call", "PatchPoint", "Site", "hook", "replace"]

_log = logging.getLogger("otelagent.instrumentation")

#: After this many exceptions of its own a hook is switched off for the life of the process.
MAX_HOOK_FAILURES = 5

_SAMPLED = trace.TraceFlags.SAMPLED

F = TypeVar("F", bound=Callable[..., Any])


class Call:
    """The call a hook describes.

    :ivar instance: the object whose method is called; ``None`` for a function of a module.
    :ivar args: positional arguments, without the instance. Replace it to change what is passed on.
    :ivar kwargs: keyword arguments; may be changed in place.
    """

    __slots__ = ("args", "instance", "kwargs")

    def __init__(self, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.instance = instance
        self.args = args
        self.kwargs = kwargs

    def arg(self, position: int, name: str, default: Any = None) -> Any:
        """The argument passed at `position` or by `name`."""
        if position < len(self.args):
            return self.args[position]
        return self.kwargs.get(name, default)


#: A hook returns a description, or None for a call that needs no span; or it is a generator that yields a description
#: (or None) once and is resumed with the finished `Operation`, or returns at once for a call it has no interest in.
Describe = Callable[[Call], "CallDescription | Generator[CallDescription | None, Operation, None] | None"]


@struct(frozen=True)
class PatchPoint:
    """Where a hook or replacement goes: data, so that it can be listed without importing the target.

    :ivar module: the module that defines the attribute; patched when the application imports it.
    :ivar path: the attribute, dotted through classes.
    :ivar replaces: the method is given the original and returns its replacement, instead of describing calls.
    :ivar carrier: finds the headers of a call, so that context can be passed on without describing the call.
    :ivar incoming: the call comes from elsewhere (a message, a job): its carrier is read instead of written, and a span
        that happens to be current says nothing about it.
    :ivar optional: absent in some supported versions.
    """

    module: str
    path: str
    replaces: bool = False
    carrier: Callable[[Call], Any] | None = None
    incoming: bool = False
    optional: bool = False


def hook(
    module: str,
    path: str,
    *,
    carrier: Callable[[Call], Any] | None = None,
    incoming: bool = False,
    optional: bool = False,
) -> Callable[[F], F]:
    """Mark a method of an `Instrumentation` as the description of every call of ``module:path``.

    The target may be a function, a coroutine function, a generator or an async generator: the base does the awaiting
    and iterating. A generator's span lasts from its first step to its end or close.
    """
    return _mark(PatchPoint(module, path, carrier=carrier, incoming=incoming, optional=optional))


def replace(module: str, path: str, *, optional: bool = False) -> Callable[[F], F]:
    """Mark a method of an `Instrumentation` that is given the original of ``module:path`` and returns its replacement.

    For factories, constructors and servers, where the thing to trace is what a call makes.
    """
    return _mark(PatchPoint(module, path, replaces=True, optional=optional))


def _mark(point: PatchPoint) -> Callable[[F], F]:
    def mark(method: F) -> F:
        method.__dict__.setdefault("_patch_points", []).append(point)
        return method

    return mark


class Site:
    """A hook applied: decides, for each call, whether and how it is traced.

    :param describe: the hook, bound to its instrumentation.
    :param tracer: of the instrumentation's scope.
    :param layer: see `operation.begin`.
    :param name: for messages.
    :param carrier: see `PatchPoint`.
    :param incoming: see `PatchPoint`.
    :param explicit: the application asked for this span itself, so the agent's switch has no say; its sampler has.
    """

    __slots__ = (
        "carrier", "describe", "explicit", "failures", "generates", "incoming", "layer", "name", "on", "tracer",
    )  # fmt: skip

    def __init__(
        self,
        describe: Describe,
        tracer: trace.Tracer,
        layer: str | None,
        name: str,
        carrier: Callable[[Call], Any] | None = None,
        incoming: bool = False,
        explicit: bool = False,
    ) -> None:
        self.explicit = explicit
        self.describe = describe
        self.generates = inspect.isgeneratorfunction(describe)
        self.tracer = tracer
        self.layer = layer
        self.name = name
        self.carrier = carrier
        self.incoming = incoming
        self.failures = 0
        self.on = True

    def enter(self, call: Call) -> Operation | None:
        """The operation of this call, or ``None`` when it gives no span. Never raises."""
        try:
            context = current()
            layer = self.layer
            recording = SWITCH.recording or self.explicit
            if context:  # mostly empty where a request or a job begins
                if layer is not None and context.get(LAYER_KEY) == layer:
                    return None
                if suppressed(context, layer) or (not self.incoming and _unsampled(context)):
                    recording = False
            if not recording:
                return None if self.carrier is None else self._pass_on(self.carrier(call), context)
            described: Any = self.describe(call)
            if not self.generates:
                return None if described is None else begin(self.tracer, described, layer, context)
            try:
                description = next(described)
            except StopIteration:
                return None
            if description is None:
                operation = Operation(trace.INVALID_SPAN, context, None)
            else:
                operation = begin(self.tracer, description, layer, context)
            operation.resume = described
            return operation
        except Exception as error:
            self._failed(error)
            return None

    def _pass_on(self, headers: Any, context: Context) -> Operation | None:
        """Let the context of a call that isn't recorded go where it would have gone."""
        if headers is None:
            return None
        if self.incoming:
            return Operation(trace.INVALID_SPAN, extract(headers, context), None)
        propagate.inject(headers, context)
        return None

    def leave(self, operation: Operation, error: BaseException | None = None) -> Any:
        """The call returned or raised `error`: let the hook look, end the span, give back the result. Never raises."""
        # One flat function: this and `enter` are on the way of every call.
        try:
            if error is not None:
                operation.error = error
                if operation.span is not trace.INVALID_SPAN:
                    operation.raised(error)
            if (resume := operation.resume) is not None:
                operation.resume = None
                resume.send(operation)
                resume.close()
                raise RuntimeError("a hook yields once")
        except StopIteration:
            pass  # the hook has returned
        except Exception as failure:
            self._failed(failure)
        if error is not None or not operation._later:
            try:
                operation.end()
            except Exception as failure:
                self._failed(failure)
        return operation.result

    def _failed(self, error: Exception) -> None:
        self.failures += 1
        if self.failures == 1:
            _log.warning("the hook on %s failed, the call goes on without it", self.name, exc_info=error)
        if self.failures == MAX_HOOK_FAILURES:
            self.on = False
            _log.warning("the hook on %s is off after %d failures", self.name, self.failures)


def _unsampled(context: Context) -> bool:
    """Whether the current span is a local unsampled one and the sampler would drop its children anyway."""
    span: Any = context.get(SPAN_KEY)
    if span is None or not SWITCH.follows_parent or span.is_recording():
        return False
    span_context = span.get_span_context()
    return not span_context.trace_flags & _SAMPLED and not span_context.is_remote and bool(span_context.is_valid)
