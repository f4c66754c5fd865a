"""Making what the agent itself does invisible to instrumentations, ours and everybody's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.context import Context

__all__ = ["instrumentation_suppressed", "suppress"]


def suppress(context: Context) -> Context:
    """A copy of `context` in which instrumentations are silent."""
    from opentelemetry import context as context_api

    # The API has two keys for this, private but read by every instrumentation; older ones read the third.
    for key in (
        context_api._SUPPRESS_INSTRUMENTATION_KEY,
        context_api._SUPPRESS_HTTP_INSTRUMENTATION_KEY,
        "suppress_instrumentation",
    ):
        context = context_api.set_value(key, True, context)
    return context


@contextmanager
def instrumentation_suppressed() -> Iterator[None]:
    """Suppress instrumentation in the current context: what exporting does must not become spans, which would be
    exported in their turn."""
    from opentelemetry import context

    token = context.attach(suppress(context.get_current()))
    try:
        yield
    finally:
        context.detach(token)
