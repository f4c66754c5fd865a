"""threading: the context of `start` is the context of `run`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from opentelemetry.context import Context

from otelagent.patching import Instrumentation, replace
from otelagent.patching.operation import LAYER_KEY, attach, current, detach

# Threads whose jobs bring a context of their own. Given that of the first job, they would keep its span, and whatever
# else its context holds, for as long as they live; and show it to the jobs that bring none.
_POOLS = frozenset(("concurrent.futures.thread", "concurrent.futures.process", "anyio._backends._asyncio"))
_OWN = "otelagent-"


class Threading(Instrumentation):
    """Covers `Thread`, `Timer` and every subclass, also those that override `run`.

    Passes on the OpenTelemetry context alone, no other context variable. A thread started while a span is current has
    that span as the parent of its own for as long as it lives, as contrib's instrumentation has it. For the thread that
    does a part of the request's work, this is what one wants. A thread that a request happens to start and that
    outlives it (a poller, a lazily started client) adds its spans to that request's trace for ever, and keeps its
    context in memory; the two can't be told apart. Start such threads before the first request, or after
    ``context.attach(Context())``.
    """

    name = "threading"

    @replace("threading", "Thread.start")
    def start(self, original: Callable[[Any], None]) -> Callable[[Any], None]:
        """Remember the context of whoever starts the thread."""

        def start(thread: Any) -> None:
            context = current()
            if not context or not self.on or not _wanted(thread):
                return original(thread)
            thread._otelagent_context = _without_layer(context)
            try:
                original(thread)
            except BaseException:
                # Started before, or no more threads: then it isn't this call's context that it runs in.
                thread.__dict__.pop("_otelagent_context", None)
                raise

        return start

    # `run` would be the public place, but the subclasses that override it don't call it; this calls theirs.
    @replace("threading", "Thread._bootstrap_inner")
    def run(self, original: Callable[[Any], None]) -> Callable[[Any], None]:
        """Run in the remembered context; what `threading.excepthook` logs belongs to it as well."""

        def _bootstrap_inner(thread: Any) -> None:
            context = thread.__dict__.pop("_otelagent_context", None)
            if context is None:
                return original(thread)
            token = attach(context)
            del context
            try:
                original(thread)
            finally:
                detach(token)

        return _bootstrap_inner


def _wanted(thread: Any) -> bool:
    # Not `name`, which raises before `start` itself does where a subclass forgot `Thread.__init__`.
    if str(getattr(thread, "_name", "")).startswith(_OWN) or getattr(thread, "_context", None) is not None:
        return False  # `Thread(context=...)`, Python 3.14: the application has chosen
    target = getattr(thread, "_target", None)
    return type(thread).__module__ not in _POOLS and getattr(target, "__module__", None) not in _POOLS


def _without_layer(context: Context) -> Context:
    """A thread is never part of one library call: what it calls itself gives spans of its own."""
    if LAYER_KEY not in context:
        return context
    return Context({key: value for key, value in context.items() if key != LAYER_KEY})
