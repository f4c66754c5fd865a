"""The items of an encoded OTLP request: the one place behind the seam that looks inside.

It serves what has to take a request apart: one that is too large, one of which not everything can be kept, one of
which not everything goes to the same destination. The protobuf library does the work, so that fields which it doesn't
know come through. While it reads or writes a request it holds the interpreter's lock, 2 ms a MiB, and its messages
take three times the memory of the bytes; both are gone when the function returns. All the work is some 12 ms a MiB.

Imported when it is needed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate
from typing import Any, TypeVar

from otelagent.delivery.payload import Payload
from otelagent.delivery.signals import SIGNALS
from otelagent.fork_gate import whole_imports

__all__ = ["HIGH", "LOW", "NORMAL", "PRIORITIES", "Takes", "partition", "priority", "shares", "split"]

_Result = TypeVar("_Result")

LOW, NORMAL, HIGH = range(3)
PRIORITIES: Mapping[str, tuple[int, ...]] = {
    "traces": (NORMAL, HIGH),
    "metrics": (NORMAL,),
    "logs": (LOW, NORMAL, HIGH),
}
"""The priorities that items of a signal can have, the lowest first."""

Takes = Callable[[Any, Any], bool]
"""Whether an item is taken. It gets the item, a protobuf ``Span``, ``LogRecord`` or data point, and the attributes of
its resource as the item has its own, repeated ``KeyValue``; it changes neither."""

# SeverityNumber and Status.StatusCode of opentelemetry/proto.
_SEVERITY_INFO, _SEVERITY_ERROR = 9, 17
_STATUS_ERROR = 2

# The bytes of a request that belong to an item, beside its own: a tag and a length.
_AROUND = 2


def priority(item: Any) -> int:
    """How much is lost with an item: `HIGH` for an error, `LOW` for a log record below INFO, `NORMAL` for the rest.

    Source: OpenTelemetry specification, "Field: SeverityNumber"; one that is not set says nothing.

    :param item: a protobuf ``Span``, ``LogRecord`` or data point.
    """
    kind = item.DESCRIPTOR.name
    if kind == "Span":
        return HIGH if item.status.code == _STATUS_ERROR else NORMAL
    if kind == "LogRecord":
        if item.severity_number >= _SEVERITY_ERROR:
            return HIGH
        return LOW if 0 < item.severity_number < _SEVERITY_INFO else NORMAL
    return NORMAL


def partition(payload: Payload, takes: Takes) -> tuple[Payload | None, Payload | None]:
    """Two requests, one with the items that are taken and one with the rest, each in the order they had; None where
    there are none.

    Resources and scopes are in each request that has an item of theirs. If all items are on one side, that is the same
    object, and so is a request that can't be taken apart, which counts as taken.
    """
    taken = _of_each(payload, lambda item, attributes: bool(takes(item, attributes)))
    if all(taken):
        return payload, None
    if not any(taken):
        return None, payload
    return _kept(payload, taken), _kept(payload, [not one for one in taken])


def shares(payload: Payload, mark: Callable[[Any, Any], int], ways: int) -> list[Payload | None]:
    """A request for each of some ways, with the items that go there; None where there are none.

    As in `partition`. Each item is looked at once. An item may go several ways, or none; two ways that get the same
    items get the same object.

    :param mark: the ways that an item goes, bit by bit, the first one's the lowest; gets what `Takes` gets.
    """
    marks = _of_each(payload, mark)
    if not marks:
        return [payload] * ways
    made: dict[tuple[bool, ...], Payload | None] = {(True,) * len(marks): payload, (False,) * len(marks): None}
    found = []
    for way in range(ways):
        taken = tuple(bool(one >> way & 1) for one in marks)
        if taken not in made:
            made[taken] = _kept(payload, list(taken))
        found.append(made[taken])
    return found


def split(payload: Payload) -> tuple[Payload, Payload] | None:
    """Two requests with half of the items each, by their bytes: an item that outweighs all others is soon alone.

    As in `partition`; the first half comes first.

    :returns: None for a single item, and for a request that can't be taken apart.
    """
    ends = list(accumulate(_of_each(payload, lambda item, _: item.ByteSize() + _AROUND)))
    if len(ends) < 2:
        return None
    first = max(bisect_right(ends, ends[-1] / 2), 1)
    in_first = [number < first for number in range(len(ends))]
    return _kept(payload, in_first), _kept(payload, [not one for one in in_first])


def _of_each(payload: Payload, function: Callable[[Any, Any], _Result]) -> list[_Result]:
    """What the function says of each item, in order; nothing if it is no request with as many items as were counted."""
    signal = SIGNALS.get(payload.signal)
    if signal is None:
        return []
    with whole_imports():
        from google.protobuf.message import DecodeError

    try:
        request = signal.message("Request").FromString(payload.body)
    except DecodeError:
        return []
    results = [
        function(item, group.resource.attributes)
        for group in getattr(request, signal.levels[0])
        for item in _below(group, signal.levels[1:])
    ]
    return results if len(results) == payload.items else []


def _below(message: Any, levels: tuple[str, ...]) -> Iterator[Any]:
    field, deeper = levels[0], levels[1:]
    if field in message.DESCRIPTOR.oneofs_by_name:
        choice = message.WhichOneof(field)
        if choice is not None:
            yield from _below(getattr(message, choice), deeper)
    elif deeper:
        for child in getattr(message, field):
            yield from _below(child, deeper)
    else:
        yield from getattr(message, field)


def _kept(payload: Payload, kept: list[bool]) -> Payload:
    """A request with some of the items. It is read for each anew: two at a time would take twice the memory."""
    signal = SIGNALS[payload.signal]
    request = signal.message("Request").FromString(payload.body)
    _keep(request, signal.levels, iter(kept))
    return Payload(payload.signal, request.SerializeToString(), sum(kept))


def _keep(message: Any, levels: tuple[str, ...], kept: Iterator[bool]) -> bool:
    """Removes what isn't kept, and all above it that is empty then. Returns whether anything is left."""
    field, deeper = levels[0], levels[1:]
    if field in message.DESCRIPTOR.oneofs_by_name:
        choice = message.WhichOneof(field)
        return choice is not None and _keep(getattr(message, choice), deeper, kept)
    children = getattr(message, field)
    left = [_keep(child, deeper, kept) if deeper else next(kept) for child in children]
    # A stable sort that puts them last is the way to remove some of a repeated field without copying the others.
    verdicts = iter(left)
    children.sort(key=lambda _: not next(verdicts))
    del children[sum(left) :]
    return any(left)
