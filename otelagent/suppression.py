"""Making what the agent itself does invisible to instrumentations, ours and everybody's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["instrumentation_suppressed"]


@contextmanager
def instrumentation_suppressed() -> Iterator[None]:
    """Suppress instrumentation in the current context: what exporting does must not become spans, which would be
    exported in their turn."""
    from opentelemetry import context

    # The API has two keys for this, private but read by every instrumentation; older ones read the third.
    suppressed = context.get_current()
    for key in (
        context._SUPPRESS_INSTRUMENTATION_KEY,
        context._SUPPRESS_HTTP_INSTRUMENTATION_KEY,
        "suppress_instrumentation",
    ):
        suppressed = context.set_value(key, True, suppressed)
    token = context.attach(suppressed)
    try:
        yield
    finally:
        context.detach(token)
