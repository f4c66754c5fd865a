"""OTLP/JSON: a protobuf request as the JSON that OTLP defines."""

from __future__ import annotations

import base64
from typing import Any

from otelagent.delivery.signals import Signal
from otelagent.fork_gate import whole_imports

__all__ = ["request_to_json"]

_IDS = frozenset({"traceId", "spanId", "parentSpanId"})


def request_to_json(body: bytes, signal: Signal) -> dict[str, Any]:
    """A request of a signal as an OTLP/JSON object.

    Names are lowerCamelCase, 64-bit integers are strings and bytes are base64 as in protobuf's JSON; against it,
    trace and span ids are hexadecimal and enums are integers.

    Source: OTLP specification, "JSON Protobuf Encoding".

    :raises google.protobuf.message.DecodeError: the body is no such request.
    """
    with whole_imports():
        from google.protobuf.json_format import MessageToDict

    request = MessageToDict(signal.message("Request").FromString(body), use_integers_for_enums=True)
    _ids_to_hex(request)
    return request


def _ids_to_hex(node: Any) -> None:
    # The keys of these objects are field names only: attribute keys are values in OTLP, so that a user's attribute
    # can't be taken for an id.
    if isinstance(node, dict):
        for name, value in node.items():
            if name in _IDS:
                node[name] = base64.b64decode(value).hex()
            else:
                _ids_to_hex(value)
    elif isinstance(node, list):
        for value in node:
            _ids_to_hex(value)
