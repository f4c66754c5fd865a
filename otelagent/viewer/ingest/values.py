"""Attribute values of the protocol as JSON, with what JSON can't say written so that it can be turned back.

Numbers keep their type: ``1`` is an integer, ``1.0`` a double. Bytes are ``{"$bytes": base64}``, a double that JSON
has no number for is ``{"$double": "NaN"}``.
"""

from __future__ import annotations

import base64
import json
import math
from itertools import islice
from typing import Any

__all__ = [
    "MAX_ATTRIBUTES",
    "MAX_INT64",
    "MAX_TEXT",
    "all_of",
    "attributes_of",
    "name_of",
    "text_of",
    "to_json",
    "value_of",
]

MAX_ATTRIBUTES = 1024
"""Of one span, event, link, log record, point, resource or scope; those after it are left out, counted."""

MAX_TEXT = 64 * 1024
"""Characters of one text; the rest is cut off, and the cut is marked."""

MAX_INT64 = 2**63 - 1
"""What SQLite holds of the protocol's unsigned times."""

_MAX_NAME = 1024
_MAX_ITEMS = 4096
_MAX_DEPTH = 16
_CUT = "… (cut)"

to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode


def all_of(pairs: Any, dropped: int) -> dict[str, Any]:
    """Key-value pairs as a mapping that itself says how many are left out, here or by the sender.

    :param dropped: by the sender.
    """
    found, more = attributes_of(pairs)
    return {**found, _CUT: dropped + more} if dropped + more else found


def attributes_of(pairs: Any) -> tuple[dict[str, Any], int]:
    """Key-value pairs as a mapping, and how many were left out because there are too many."""
    if len(pairs) > MAX_ATTRIBUTES:
        return {pair.key: value_of(pair.value) for pair in islice(pairs, MAX_ATTRIBUTES)}, len(pairs) - MAX_ATTRIBUTES
    return {pair.key: value_of(pair.value) for pair in pairs}, 0


def text_of(text: str) -> str:
    """A text, cut where it is too long."""
    return text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + _CUT


def name_of(text: str) -> str:
    """A name, cut where it is too long for one."""
    return text if len(text) <= _MAX_NAME else text[:_MAX_NAME] + _CUT


def value_of(value: Any, depth: int = 0) -> Any:
    """An `AnyValue` as JSON has it."""
    kind = value.WhichOneof("value")
    if kind == "string_value":
        return text_of(value.string_value)
    if kind == "int_value":
        return value.int_value
    if kind == "bool_value":
        return value.bool_value
    if kind == "double_value":
        number = value.double_value
        return number if math.isfinite(number) else {"$double": str(number)}
    if kind is None:
        return None
    if kind == "bytes_value":
        raw = value.bytes_value
        known = {"$bytes": base64.b64encode(raw[:MAX_TEXT]).decode()}
        return known if len(raw) <= MAX_TEXT else {**known, _CUT: len(raw) - MAX_TEXT}
    if depth >= _MAX_DEPTH:
        return _CUT
    if kind == "array_value":
        return _list(value.array_value.values, depth + 1)
    if kind == "kvlist_value":
        pairs = value.kvlist_value.values
        found = {pair.key: value_of(pair.value, depth + 1) for pair in islice(pairs, _MAX_ITEMS)}
        return found if len(pairs) <= _MAX_ITEMS else {**found, _CUT: len(pairs) - _MAX_ITEMS}
    return None


def _list(values: Any, depth: int) -> list[Any]:
    found = [value_of(value, depth) for value in islice(values, _MAX_ITEMS)]
    return found if len(values) <= _MAX_ITEMS else [*found, _CUT]
