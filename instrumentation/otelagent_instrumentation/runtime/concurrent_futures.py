"""concurrent.futures: a job in a thread pool runs in the context of whoever submitted it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from opentelemetry.context import Context

from otelagent.patching import Instrumentation, replace
from otelagent.patching.operation import attach, current, detach

# Python 3.14's free-threaded build starts every thread in a copy of its starter's context, a pool's too: there a job
# that brings no context must be given the empty one.
_INHERITED = bool(getattr(sys.flags, "thread_inherit_context", False))


class ConcurrentFutures(Instrumentation):
    """Covers `submit` and what uses it: `map`, `loop.run_in_executor`, `asyncio.to_thread`, subclasses of the pool.

    Passes on the OpenTelemetry context alone, no other context variable. Pools of processes and of interpreters are
    left alone: their jobs are pickled.
    """

    name = "concurrent.futures"

    @replace("concurrent.futures.thread", "ThreadPoolExecutor.submit")
    def submit(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Give the job the current context, where there is one."""

        def submit(executor: Any, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
            context = current()
            if (context or _INHERITED) and self.on and not _pickles(executor):
                fn = _Job(fn, context)
            return original(executor, fn, *args, **kwargs)

        return submit


class _Job:
    """A function to be called once in a context, which is kept no longer than that."""

    __slots__ = ("context", "fn")

    def __init__(self, fn: Callable[..., Any], context: Context) -> None:
        self.fn = fn
        self.context: Context | None = context

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        context, self.context = self.context, None
        if context is None:
            return self.fn(*args, **kwargs)
        token = attach(context)
        # The traceback of a job that raises refers to this frame, and the future to the traceback.
        del context
        try:
            return self.fn(*args, **kwargs)
        finally:
            detach(token)


def _pickles(executor: Any) -> bool:
    interpreters: Any = sys.modules.get("concurrent.futures.interpreter")
    return interpreters is not None and isinstance(executor, interpreters.InterpreterPoolExecutor)
