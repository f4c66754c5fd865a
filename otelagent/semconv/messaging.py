"""Messages sent and processed.

The messaging conventions are still in development; this follows their text of 1.44.
Source: https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from otelagent.semconv.call import CallDescription

__all__ = ["Process", "Publish", "Receive"]


def _attributes(
    system: str, operation_name: str, operation_type: str, destination: str | None, message_id: str | None
) -> dict[str, Any]:
    return {
        "messaging.system": system,
        "messaging.operation.name": operation_name,
        "messaging.operation.type": operation_type,
        "messaging.destination.name": destination,
        "messaging.message.id": message_id,
    }


class Publish(CallDescription):
    """A message handed to a broker; its headers carry this span's context to the consumer."""

    kind = "producer"

    def __init__(
        self,
        system: str,
        destination: str | None,
        *,
        operation: str = "send",
        message_id: str | None = None,
        outbound: Any = None,
        setter: Any = None,
    ) -> None:
        super().__init__(
            f"{operation} {destination}" if destination else operation,
            _attributes(system, operation, "send", destination, message_id),
            outbound=outbound,
            setter=setter,
        )


class Process(CallDescription):
    """A message being worked on; its parent is the context in its headers."""

    kind = "consumer"

    def __init__(
        self,
        system: str,
        destination: str | None,
        *,
        operation: str = "process",
        message_id: str | None = None,
        inbound: Any = None,
        getter: Any = None,
    ) -> None:
        super().__init__(
            f"{operation} {destination}" if destination else operation,
            _attributes(system, operation, "process", destination, message_id),
            inbound={} if inbound is None else inbound,
            getter=getter,
        )


class Receive(CallDescription):
    """A batch of messages fetched; linked to the context of each."""

    kind = "client"

    def __init__(
        self,
        system: str,
        destination: str | None,
        *,
        operation: str = "poll",
        messages: tuple[Mapping[str, str], ...] = (),
        start_ns: int | None = None,
    ) -> None:
        attributes = _attributes(system, operation, "receive", destination, None)
        attributes["messaging.batch.message_count"] = len(messages)
        super().__init__(
            f"{operation} {destination}" if destination else operation,
            attributes,
            links=messages,
            start_ns=start_ns,
        )
