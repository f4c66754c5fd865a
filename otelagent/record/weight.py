"""What waiting items of the stock SDK weigh: how they are preferred, and about how much memory each holds.

The stock span isn't encoded yet, so its size is an estimate: what a bare one takes, something for each attribute, event
and link, and the memory of texts and bytes. Text that others hold too (constants of the program) is counted all the
same, because encoding copies it.
"""

from __future__ import annotations

from collections.abc import Mapping
from sys import getsizeof
from typing import TYPE_CHECKING, Any

from opentelemetry.trace import StatusCode

if TYPE_CHECKING:
    from opentelemetry.sdk._logs import ReadWriteLogRecord
    from opentelemetry.sdk.trace import ReadableSpan

__all__ = ["HIGH", "LOW", "NORMAL", "PRIORITIES", "weigh_log_record", "weigh_span"]

HIGH, NORMAL, LOW = PRIORITIES = range(3)

# Bytes, measured on CPython 3.11: what an item takes without values.
_SPAN = 2_600
_LOG_RECORD = 650
_PART = 450  # An event or a link.
_ATTRIBUTE = 130  # With a short value.
_SHORT = 60

# Severity numbers of the logs data model: ERROR, and INFO below which is TRACE and DEBUG.
_SEVERITY_ERROR = 17
_SEVERITY_INFO = 9

_FLAT = frozenset({bool, int, float, type(None)})
_SIMPLE = _FLAT | {str, bytes}


def weigh_span(span: ReadableSpan) -> tuple[int, int]:
    """A span's priority, high for an error, and its size in bytes."""
    size = _SPAN + len(span._name) + _attributes(span._attributes)
    events, links, status = span._events, span._links, span._status
    # Deques of the SDK's lists, whose own methods are as dear as all of this.
    if getattr(events, "_dq", events) or getattr(links, "_dq", links):
        for parts in (events, links):
            size += sum([_PART + _attributes(part.attributes) for part in parts])
    if status._status_code is not StatusCode.ERROR:
        return NORMAL, size
    return HIGH, size + len(status.description or "")


def weigh_log_record(record: ReadWriteLogRecord) -> tuple[int, int]:
    """A log record's priority, high from ERROR on and low below INFO, and its size in bytes."""
    log = record.log_record
    size = _LOG_RECORD + _value(log.body) + _attributes(log.attributes)
    severity = log.severity_number.value if log.severity_number is not None else 0
    if severity >= _SEVERITY_ERROR:
        return HIGH, size
    return (LOW if 0 < severity < _SEVERITY_INFO else NORMAL), size


def _attributes(attributes: Any) -> int:
    # The SDK's mapping takes a lock for each of its own methods.
    values = getattr(attributes, "_dict", attributes) or {}
    size = _ATTRIBUTE * len(values)
    for value in values.values():
        kind = type(value)
        if kind is str:
            if len(value) > _SHORT:
                size += getsizeof(value)
        elif kind not in _FLAT:
            size += _value(value)
    return size


def _value(value: Any) -> int:
    # As the SDK has cleaned it: no cycles.
    size = getsizeof(value)
    if type(value) is tuple:
        if _SIMPLE.issuperset(map(type, value)):
            return size + sum(map(getsizeof, value))
        return size + sum(map(_value, value))
    if isinstance(value, Mapping):
        return size + sum([getsizeof(key) + _value(item) for key, item in value.items()])
    return size
