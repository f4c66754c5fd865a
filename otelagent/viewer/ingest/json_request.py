"""OTLP/JSON: the JSON that OTLP defines, as the protobuf message.

Source: OTLP specification, "JSON Protobuf Encoding": trace and span ids are hexadecimal, against protobuf's own JSON,
where bytes are base64; enums are integers; unknown fields are ignored.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

__all__ = ["BrokenJson", "message_of"]

_IDS = frozenset({"traceId", "spanId", "parentSpanId", "trace_id", "span_id", "parent_span_id"})


class BrokenJson(ValueError):
    """The text is no such message; the exception's text says where."""


def message_of(text: bytes, message: Any) -> Any:
    """The message, filled from JSON.

    :param message: a new protobuf message.
    :raises BrokenJson: it is not JSON, or not of this shape.
    """
    from google.protobuf.json_format import ParseDict, ParseError

    try:
        data = json.loads(text)
    except RecursionError:
        raise BrokenJson("the JSON is nested too deeply") from None
    except ValueError as error:
        raise BrokenJson(f"it is no JSON: {error}") from None
    if not isinstance(data, dict):
        raise BrokenJson("it is no JSON object")
    try:
        _ids_to_base64(data)
        return ParseDict(data, message, ignore_unknown_fields=True, max_recursion_depth=64)
    except (ParseError, RecursionError, ValueError, TypeError) as error:
        raise BrokenJson(str(error)[:500] or "the JSON is nested too deeply") from None


def _ids_to_base64(node: Any) -> None:
    # The keys of these objects are field names: attribute keys are values in OTLP.
    if isinstance(node, dict):
        for name, value in node.items():
            if name in _IDS:
                if not isinstance(value, str):
                    raise BrokenJson(f"{name} must be a text of hexadecimal digits")
                try:
                    node[name] = base64.b64encode(bytes.fromhex(value)).decode()
                except (ValueError, binascii.Error):
                    raise BrokenJson(f"{name}={value[:40]!r} is not hexadecimal") from None
            elif isinstance(value, dict | list):
                _ids_to_base64(value)
    elif isinstance(node, list):
        for value in node:
            if isinstance(value, dict | list):
                _ids_to_base64(value)
