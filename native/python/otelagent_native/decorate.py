"""`start_as_current_span` as a decorator."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from otelagent_native._otelagent_native import CurrentSpan

__all__ = ["decorate"]


def decorate(again: Callable[[], CurrentSpan], func: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps a function so that each call has a span of its own; a coroutine function's ends with the coroutine.

    :param again: makes the context manager of one call.
    """
    if inspect.iscoroutinefunction(func):

        @functools.wraps(func)
        async def traced_coroutine(*args: Any, **kwargs: Any) -> Any:
            with again():
                return await func(*args, **kwargs)

        return traced_coroutine

    @functools.wraps(func)
    def traced(*args: Any, **kwargs: Any) -> Any:
        with again():
            return func(*args, **kwargs)

    return traced
