"""One try to send a payload, and what it leaves to do."""

from __future__ import annotations

from typing import TypeAlias

from otelagent.delivery.payload import Payload
from otelagent.delivery.result import TOO_LARGE, Rejected, Result, Retryable
from otelagent.delivery.transports import Transport
from otelagent.fork_gate import whole_imports

__all__ = ["Halves", "attempt"]

Halves: TypeAlias = tuple[Payload, Payload]


def attempt(transport: Transport, payload: Payload, timeout_s: float) -> tuple[Result, Halves | None]:
    """Tries once.

    :returns: what it came to, and what is to be sent instead where the payload is too large for the server.
    """
    result: Result
    try:
        result = transport.send(payload, timeout_s)
    except (OSError, ImportError) as error:
        # Of the machine at this moment: a process without a descriptor left can't import what sends.
        result = Retryable("system_error", None, getattr(error, "strerror", None) or str(error))
    except Exception as error:
        # A bug of the transport must not end the thread, and a payload that triggers it must not block the others.
        # The exception's text may quote a header, so that only its type is shown.
        result = Rejected("internal_error", type(error).__name__)
    if not isinstance(result, Rejected) or result.reason not in TOO_LARGE:
        return result, None
    try:
        with whole_imports():
            from otelagent.delivery.items import split
        return result, split(payload)
    except Exception:
        return result, None  # As little as one that can't be taken apart.
