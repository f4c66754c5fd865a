"""Patch points: what a hook is, and how a call is described by one."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

from opentelemetry import trace
from opentelemetry.context import Context

from otelagent.patching.operation import (
    LAYER_KEY,
    SPAN_KEY,
    Operation,
    current,
    extract,
    propagate,
    suppressed,
)
from otelagent.patching.switch import SWITCH
from otelagent.semconv.call import CallDescription
from otelagent.struct import struct

__all__ = ["After", "Call", "PatchPoint", "Site", "hook", "replace"]

_log = logging.getLogger("otelagent.instrumentation")

#: After this many exceptions of its own a hook is switched off for the life of the process.
MAX_HOOK_FAILURES = 5

# Not a hook's failure: the application is at a limit, and the hook happened to run there. Nothing may be called for it.
_LIMITS = (RecursionError, MemoryError)

_SAMPLED = trace.TraceFlags.SAMPLED

F = TypeVar("F", bound=Callable[..., Any])


class Call(Operation):
    """A call of a patched function, with the span that its hook's description gives it.

    :ivar instance: the object whose method is called; ``None`` for a function of a module.
    :ivar args: positional arguments, without the instance. Replace it to change what is passed on.
    :ivar kwargs: keyword arguments; may be changed in place.
    """

    # What wants to see the outcome, once the call was described.
    _after: After | None = None

    def __init__(self, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.instance = instance
        self.args = args
        self.kwargs = kwargs

    def arg(self, position: int, name: str, default: Any = None) -> Any:
        """The argument passed at `position` or by `name`."""
        if position < len(self.args):
            return self.args[position]
        return self.kwargs.get(name, default)


#: A hook returns a description, or None for a call that needs no span.
Describe = Callable[[Call], "CallDescription | None"]
#: Sees a call that was described, with span or without, when it is over: its `result` or `error` is set.
After = Callable[[Call], None]


@struct(frozen=True)
class PatchPoint:
    """Where a hook or replacement goes: data, so that it can be listed without importing the target.

    :ivar module: the module that defines the attribute; patched when the application imports it.
    :ivar path: the attribute, dotted through classes.
    :ivar after: the method of the instrumentation that sees each call when it is over (`After`).
    :ivar replaces: the method is given the original and returns its replacement, instead of describing calls.
    :ivar carrier: finds the headers of a call, so that context can be passed on without describing the call.
    :ivar incoming: the call comes from elsewhere (a message, a job): its carrier is read instead of written, and a span
        that happens to be current says nothing about it.
    :ivar optional: absent in some supported versions.
    """

    module: str
    path: str
    after: Callable[[Any, Call], None] | None = None
    replaces: bool = False
    carrier: Callable[[Call], Any] | None = None
    incoming: bool = False
    optional: bool = False


def hook(
    module: str,
    path: str,
    *,
    after: Callable[[Any, Call], None] | None = None,
    carrier: Callable[[Call], Any] | None = None,
    incoming: bool = False,
    optional: bool = False,
) -> Callable[[F], F]:
    """Mark a method of an `Instrumentation` as the description of every call of ``module:path``; for the other
    arguments see `PatchPoint`.

    The target may be a function, a coroutine function, a generator or an async generator: the base does the awaiting
    and iterating. A generator's span lasts from its first step to its end or close.
    """
    return _mark(PatchPoint(module, path, after, carrier=carrier, incoming=incoming, optional=optional))


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
    :param layer: see `Instrumentation.layer`.
    :param name: for messages.
    :param carrier: see `PatchPoint`.
    :param incoming: see `PatchPoint`.
    :param after: see `PatchPoint`, bound like `describe`.
    :param explicit: the application asked for this span itself, so the agent's switch has no say; its sampler has.
    """

    __slots__ = (
        "after", "carrier", "describe", "explicit", "failures", "incoming", "layer", "mark", "name", "on", "tracer",
    )  # fmt: skip

    def __init__(
        self,
        describe: Describe,
        tracer: trace.Tracer,
        layer: str | None,
        name: str,
        carrier: Callable[[Call], Any] | None = None,
        incoming: bool = False,
        after: After | None = None,
        explicit: bool = False,
    ) -> None:
        self.explicit = explicit
        self.describe = describe
        self.after = after
        self.tracer = tracer
        self.layer = layer
        self.mark = None if layer is None else (LAYER_KEY, layer)
        self.name = name
        self.carrier = carrier
        self.incoming = incoming
        self.failures = 0
        self.on = True

    def enter(self, call: Call) -> bool:
        """Whether this call is to run in its `context` and to be left by `leave`. Never raises."""
        try:
            context = current()
            recording = SWITCH.recording or self.explicit
            if context:  # mostly empty where a request or a job begins
                if self.mark is not None and context.get(LAYER_KEY) == self.layer:
                    return False
                if suppressed(context, self.layer) or (not self.incoming and _unsampled(context)):
                    recording = False
            if not recording:
                return self.carrier is not None and self._pass_on(call, self.carrier(call), context)
            described = self.describe(call)
            if described is not None:
                call.begin(self.tracer, described, self.mark, context)
            elif self.after is None:
                return False
            else:
                call.context = context
            call._after = self.after
            return True
        except _LIMITS:
            pass
        except Exception as error:
            self._failed(error)
        # A span that has begun (its context could not be written) is the call's all the same.
        return call.span is not trace.INVALID_SPAN

    def _pass_on(self, call: Call, headers: Any, context: Context) -> bool:
        """Let the context of a call that isn't recorded go where it would have gone."""
        if headers is None:
            return False
        if self.incoming:
            call.context = extract(headers, context)
        else:
            propagate.inject(headers, context)
        return self.incoming

    def leave(self, call: Call, error: BaseException | None = None) -> Any:
        """The call returned or raised `error`: let the hook look, end the span, give back the result. Never raises."""
        # One flat function: this and `enter` are on the way of every call.
        try:
            if error is not None:
                call.error = error
                if call.description is not None:
                    call.raised(error)
            if (after := call._after) is not None:
                after(call)
        except _LIMITS:
            pass
        except Exception as failure:
            self._failed(failure)
        if call._open and (error is not None or not call._later):
            call._open = False
            try:
                call.span.end()
            except _LIMITS:
                pass
            except Exception as failure:
                self._failed(failure)
        return call.result

    def _failed(self, error: Exception) -> None:
        self.failures += 1
        if self.failures == MAX_HOOK_FAILURES:
            self.on = False
        try:
            if self.failures == 1:
                _log.warning("the hook on %s failed, the call goes on without it", self.name, exc_info=error)
            if self.failures == MAX_HOOK_FAILURES:
                _log.warning("the hook on %s is off after %d failures", self.name, self.failures)
        except Exception:
            pass  # A log that fails, be it at one of the limits, must not take the place of what the call raised.


def _unsampled(context: Context) -> bool:
    """Whether the current span is a local unsampled one and the sampler would drop its children anyway."""
    span: Any = context.get(SPAN_KEY)
    if span is None or not SWITCH.follows_parent or span.is_recording():
        return False
    span_context = span.get_span_context()
    return not span_context.trace_flags & _SAMPLED and not span_context.is_remote and bool(span_context.is_valid)
