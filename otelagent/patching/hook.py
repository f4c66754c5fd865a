"""Patch points: what a hook is, and the wrappers that run it around a call."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

from opentelemetry import propagate, trace
from opentelemetry.context import Context

from otelagent.patching.operation import Operation, attach, begin, current, detach, nested, suppressed
from otelagent.patching.switch import SWITCH
from otelagent.semconv.call import CallDescription

__all__ = ["Call", "PatchPoint", "Site", "hook", "replace", "wrap"]

_log = logging.getLogger("otelagent.instrumentation")

#: After this many exceptions of its own a hook is switched off for the life of the process.
MAX_HOOK_FAILURES = 5

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
#: (or None) once and is resumed with the finished `Operation`.
Describe = Callable[[Call], "CallDescription | None | Generator[CallDescription | None, Operation, None]"]


@dataclass(frozen=True)
class PatchPoint:
    """Where a hook or replacement goes: data, so that it can be listed without importing the target.

    :ivar module: the module that defines the attribute; patched when the application imports it.
    :ivar path: the attribute, dotted through classes.
    :ivar replaces: the method is given the original and returns its replacement, instead of describing calls.
    :ivar carrier: finds the outbound headers of a call, so that context can be passed on without describing the call.
    :ivar optional: absent in some supported versions.
    """

    module: str
    path: str
    replaces: bool = False
    carrier: Callable[[Call], Any] | None = None
    optional: bool = False


def hook(
    module: str, path: str, *, carrier: Callable[[Call], Any] | None = None, optional: bool = False
) -> Callable[[F], F]:
    """Mark a method of an `Instrumentation` as the description of every call of ``module:path``.

    The target may be a function, a coroutine function, a generator or an async generator: the base does the awaiting and
    iterating. A generator's span lasts from its first step to its end or close.
    """
    return _mark(PatchPoint(module, path, carrier=carrier, optional=optional))


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
    """

    __slots__ = ("carrier", "describe", "failures", "generates", "layer", "name", "on", "tracer")

    def __init__(
        self,
        describe: Describe,
        tracer: trace.Tracer,
        layer: str | None,
        name: str,
        carrier: Callable[[Call], Any] | None = None,
    ) -> None:
        self.describe = describe
        self.generates = inspect.isgeneratorfunction(describe)
        self.tracer = tracer
        self.layer = layer
        self.name = name
        self.carrier = carrier
        self.failures = 0
        self.on = True

    def enter(self, call: Call) -> Operation | None:
        """The operation of this call, or ``None`` when it gives no span. Never raises."""
        try:
            context = current()
            if nested(context, self.layer):
                return None
            if not SWITCH.recording or suppressed(context, self.layer) or _unsampled(context):
                if self.carrier is not None and (headers := self.carrier(call)) is not None:
                    propagate.inject(headers, context)
                return None
            described: Any = self.describe(call)
            if not self.generates:
                return None if described is None else begin(self.tracer, described, self.layer)
            description = next(described)
            if description is None:
                operation = Operation(trace.INVALID_SPAN, context, None)
            else:
                operation = begin(self.tracer, description, self.layer)
            operation.resume = described
            return operation
        except Exception as error:
            self._failed(error)
            return None

    def leave(self, operation: Operation) -> Any:
        """The call returned or raised: let the hook look, end the span, give back the result. Never raises."""
        error = operation.error
        try:
            if error is not None and operation.span is not trace.INVALID_SPAN:
                operation.raised(error)
            if operation.resume is not None:
                try:
                    operation.resume.send(operation)
                except StopIteration:
                    pass
                else:
                    operation.resume.close()
                    raise RuntimeError("a hook yields once")
        except Exception as failure:
            self._failed(failure)
        finally:
            if not operation.kept_open or error is not None:
                operation.end()
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
    if not SWITCH.follows_parent:
        return False
    span = trace.get_current_span(context)
    if span is trace.INVALID_SPAN or span.is_recording():
        return False
    span_context = span.get_span_context()
    return span_context.is_valid and not span_context.is_remote and not span_context.trace_flags.sampled


def wrap(function: Callable[..., Any], site: Site, *, method: bool) -> Callable[..., Any]:
    """`function` with `site` around each call: a function of the same sort (sync, async, generator, async generator).

    A plain closure rather than a `wrapt.FunctionWrapper`: it costs a third of it per call, and `inspect.signature`,
    `iscoroutinefunction` and pickling by name still see what they expect.

    :param method: the first positional argument is the instance.
    """
    if inspect.isasyncgenfunction(function):
        return _wrap_async_generator(function, site, method)
    if inspect.isgeneratorfunction(function):
        return _wrap_generator(function, site, method)
    if inspect.iscoroutinefunction(function):
        return _wrap_async(function, site, method)
    return _wrap_sync(function, site, method)


def _call(method: bool, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
    return Call(args[0], args[1:], kwargs) if method and args else Call(None, args, kwargs)


def _again(method: bool, call: Call) -> tuple[Any, ...]:
    """The positional arguments to call the original with; hooks may have changed them."""
    return (call.instance, *call.args) if method else call.args


def _wrap_sync(function: Callable[..., Any], site: Site, method: bool) -> Callable[..., Any]:
    @functools.wraps(function)
    def traced(*args: Any, **kwargs: Any) -> Any:
        if not site.on:
            return function(*args, **kwargs)
        call = _call(method, args, kwargs)
        operation = site.enter(call)
        if operation is None:
            return function(*_again(method, call), **call.kwargs)
        token = attach(operation.context)
        try:
            operation.result = function(*_again(method, call), **call.kwargs)
        except BaseException as error:
            operation.error = error
            raise
        finally:
            detach(token)
            result = site.leave(operation)
        return result

    return traced


def _wrap_async(function: Callable[..., Any], site: Site, method: bool) -> Callable[..., Any]:
    @functools.wraps(function)
    async def traced(*args: Any, **kwargs: Any) -> Any:
        if not site.on:
            return await function(*args, **kwargs)
        call = _call(method, args, kwargs)
        operation = site.enter(call)
        if operation is None:
            return await function(*_again(method, call), **call.kwargs)
        token = attach(operation.context)
        try:
            operation.result = await function(*_again(method, call), **call.kwargs)
        except BaseException as error:
            operation.error = error
            raise
        finally:
            detach(token)
            result = site.leave(operation)
        return result

    return traced


# Generators run in their operation's context step by step: between two steps the caller's context is current, so nothing
# leaks into the caller, and a generator that is closed early, or by another task, leaves no foreign token behind. What the
# generator's own body did to the context is kept from step to step.


def _wrap_generator(function: Callable[..., Any], site: Site, method: bool) -> Callable[..., Any]:
    @functools.wraps(function)
    def traced(*args: Any, **kwargs: Any) -> Any:
        call = _call(method, args, kwargs)
        operation = site.enter(call) if site.on else None
        if operation is None:
            return (yield from function(*_again(method, call), **call.kwargs))
        context = operation.context
        generator = function(*_again(method, call), **call.kwargs)
        step, value = generator.send, None
        try:
            while True:
                token = attach(context)
                try:
                    item = step(value)
                except StopIteration as stop:
                    operation.result = stop.value
                    break
                finally:
                    context = current()
                    detach(token)
                try:
                    value = yield item
                    step = generator.send
                except GeneratorExit:
                    token = attach(context)
                    try:
                        generator.close()
                    finally:
                        detach(token)
                    raise
                except BaseException as error:
                    value, step = error, generator.throw
        except BaseException as error:
            operation.error = error
            raise
        finally:
            result = site.leave(operation)
        return result

    return traced


def _wrap_async_generator(function: Callable[..., Any], site: Site, method: bool) -> Callable[..., Any]:
    @functools.wraps(function)
    async def traced(*args: Any, **kwargs: Any) -> Any:
        call = _call(method, args, kwargs)
        operation = site.enter(call) if site.on else None
        # An untraced call takes the same road in the caller's own context: async generators have no `yield from`.
        generator = function(*_again(method, call), **call.kwargs)
        context = None if operation is None else operation.context
        step, value = generator.asend, None
        try:
            while True:
                token = None if context is None else attach(context)
                try:
                    item = await step(value)
                except StopAsyncIteration:
                    break
                finally:
                    if token is not None:
                        context = current()
                        detach(token)
                try:
                    value = yield item
                    step = generator.asend
                except GeneratorExit:
                    token = None if context is None else attach(context)
                    try:
                        await generator.aclose()
                    finally:
                        if token is not None:
                            detach(token)
                    raise
                except BaseException as error:
                    value, step = error, generator.athrow
        except BaseException as error:
            if operation is not None:
                operation.error = error
            raise
        finally:
            if operation is not None:
                site.leave(operation)

    return traced
