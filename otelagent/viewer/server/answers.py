"""Answers to what is refused: ``{"error": …}``, or on OTLP's paths a google.rpc.Status, as the protocol wants it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from starlette.responses import Response

if TYPE_CHECKING:
    from starlette.requests import Request

__all__ = ["JSON", "PROTOBUF", "Refused", "media_of", "refusal"]

PROTOBUF = "application/x-protobuf"
JSON = "application/json"
_RETRY_AFTER_S = 1
_MAX_MESSAGE = 1000


class Refused(Exception):
    """A request that is not taken.

    :param status: of the answer.
    :param code: a short stable token.
    :param message: what is wrong and what to do.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


def media_of(request: Request) -> str:
    """The type of a request's body, without parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def refusal(request: Request, error: Refused, headers: dict[str, str] | None = None) -> Response:
    """The answer.

    Source: OTLP specification, "Failures": the body is a Status, in the encoding of the request; only its field 2, the
    message, is used. "OTLP/HTTP Throttling": ``Retry-After`` where it may be sent again.
    """
    headers = dict(headers or {})
    if error.status in (429, 503):
        headers["retry-after"] = str(_RETRY_AFTER_S)
    text = str(error)[:_MAX_MESSAGE]
    path = request.scope["path"]
    if path.startswith("/api/") or (media_of(request) != PROTOBUF and not path.startswith("/v1/")):
        return _json({"error": {"code": error.code, "message": text}}, error.status, headers)
    if media_of(request) != PROTOBUF:
        return _json({"message": text}, error.status, headers)
    encoded = text.encode("utf-8", "replace")
    return Response(b"\x12" + _varint(len(encoded)) + encoded, error.status, headers, PROTOBUF)


def _json(value: object, status: int, headers: dict[str, str]) -> Response:
    return Response(json.dumps(value), status, headers, JSON)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)
