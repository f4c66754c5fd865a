"""What an instrumentation says of a call: the one shape that the patching base turns into a span."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

__all__ = ["CallDescription", "Internal", "Kind", "error_type"]

Kind: TypeAlias = Literal["internal", "server", "client", "producer", "consumer"]


class CallDescription:
    """A call, described: one span's name, kind and first attributes, and where its context comes from and goes to.

    Subclasses (`http.ClientRequest`, `db.Query`, …) compute these from a library's own terms.

    :ivar name: the span's name; low cardinality.
    :ivar attributes: attributes known when the call begins. ``None`` values are left out when the span starts.
    :ivar kind: the span kind, which a subclass fixes.
    :ivar inbound: headers that carry the caller's context, or ``None``. A call with inbound headers takes its parent
        from them alone, never from a span that happens to be current.
    :ivar getter: an OpenTelemetry `Getter` that reads `inbound`; ``None`` reads a mapping.
    :ivar outbound: the mapping into which this call's context is written before the call goes on, or ``None``.
    :ivar setter: an OpenTelemetry `Setter` that writes `outbound`; ``None`` means item assignment.
    :ivar links: carriers of other contexts this call is linked to (the messages of a batch).
    :ivar start_ns: when the call began, in nanoseconds since the epoch; ``None`` is now.
    """

    kind: Kind = "internal"
    #: No attribute is ``None``; such a description may be kept and used again, and `attributes` isn't copied.
    complete = False

    # Defaults of the class, so that a subclass sets what it has and nothing else.
    inbound: Any = None
    getter: Any = None
    outbound: Any = None
    setter: Any = None
    links: tuple[Mapping[str, str], ...] = ()
    start_ns: int | None = None

    def __init__(
        self,
        name: str,
        attributes: dict[str, Any] | None = None,
        *,
        inbound: Any = None,
        getter: Any = None,
        outbound: Any = None,
        setter: Any = None,
        links: tuple[Mapping[str, str], ...] = (),
        start_ns: int | None = None,
    ) -> None:
        self.name = name
        self.attributes: dict[str, Any] = {} if attributes is None else attributes
        if inbound is not None:
            self.inbound, self.getter = inbound, getter
        if outbound is not None:
            self.outbound, self.setter = outbound, setter
        if links:
            self.links = links
        if start_ns is not None:
            self.start_ns = start_ns

    def error_attributes(self, error: BaseException) -> dict[str, Any]:
        """Attributes that an exception which ended the call gives, besides `error.type`."""
        return {}

    def error_message(self, error: BaseException) -> str:
        """What may be recorded of an exception's message."""
        return str(error)


class Internal(CallDescription):
    """Work inside the process that is worth a span of its own."""


def error_type(error: BaseException | type[BaseException]) -> str:
    """The `error.type` of an exception: its class's full name, builtins without their module.

    Source: semantic conventions, attribute registry, `error.type`.
    """
    cls = error if isinstance(error, type) else type(error)
    module = cls.__module__
    return cls.__qualname__ if module in ("builtins", "__main__") else f"{module}.{cls.__qualname__}"
