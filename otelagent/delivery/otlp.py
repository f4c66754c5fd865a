"""What OTLP/HTTP and OTLP/gRPC have in common: limits, the response, and how the agent introduces itself."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from urllib.parse import parse_qsl, unquote, urlsplit

from otelagent.delivery.result import Accepted, Rejected
from otelagent.delivery.signals import Signal
from otelagent.fork_gate import whole_imports
from otelagent.version import VERSION

__all__ = [
    "MAX_RESPONSE_BYTES",
    "clean_text",
    "read_error_status",
    "read_json_response",
    "read_response",
    "secrets_in",
    "user_agent",
]

MAX_RESPONSE_BYTES = 4 * 1024 * 1024
"""Larger responses are not read, in bytes after decompression."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
# What separates the parts of a header such as `Digest username="me", response="..."` or of a cookie.
_WORDS = re.compile(r"[\s,;\"]+")
# Shorter texts stand in any sentence.
_MIN_SECRET_LENGTH = 4


def read_response(body: bytes, signal: Signal) -> Accepted | Rejected:
    """The result in a successful answer to a request of a signal.

    A populated partial success counts what was rejected; an empty one and an empty body mean full success. What isn't
    a response of that signal doesn't come from an OTLP receiver (a login page, a proxy), so that nothing is
    known of the payload: it counts as rejected, ``malformed_response``, and isn't sent again.

    Source: OTLP specification, "Partial Success".

    :param body: the protobuf bytes.
    """
    if not body:
        return Accepted()
    with whole_imports():
        from google.protobuf.message import DecodeError

    try:
        partial = signal.message("Response").FromString(body).partial_success
    except DecodeError:
        return Rejected("malformed_response", "the answer is no OTLP response")
    return Accepted(max(getattr(partial, signal.rejected), 0), partial.error_message)


def read_json_response(body: bytes, signal: Signal) -> Accepted | Rejected:
    """Like `read_response` for servers that answer a protobuf request in OTLP JSON."""
    try:
        answer = json.loads(body)
        partial = answer.get("partialSuccess") or {}
        if not isinstance(partial, dict) or answer.keys() - {"partialSuccess"}:
            raise ValueError(answer)
        return Accepted(max(int(partial.get(signal.rejected_in_json, 0)), 0), str(partial.get("errorMessage", "")))
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return Rejected("malformed_response", "the answer is no OTLP response")


def read_error_status(body: bytes) -> tuple[str, float | None]:
    """The message and the requested wait in seconds (None: none) of the ``google.rpc.Status`` that explains an error.

    Source: OTLP specification, "Failures" of OTLP/HTTP and "OTLP/gRPC Throttling" (``RetryInfo``). What isn't a Status
    has no message and asks for nothing.
    """
    with whole_imports():
        from google.protobuf.message import DecodeError
        from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]
        from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

    try:
        status = Status.FromString(body)
        for detail in status.details:
            info = RetryInfo()
            if detail.Unpack(info):
                delay = info.retry_delay
                return str(status.message), max(0.0, delay.seconds + delay.nanos / 1e9)
        return str(status.message), None
    except DecodeError:
        return "", None


def secrets_in(headers: Mapping[str, str], endpoint: str) -> tuple[str, ...]:
    """What a server's text must not show, the longest first: servers quote credentials whole and in pieces.

    :param headers: all that are sent and may hold credentials.
    :param endpoint: the URL; its userinfo and its query may hold credentials.
    """
    found: set[str] = set()
    for value in headers.values():
        scheme, _, credentials = value.strip().partition(" ")
        found |= {value.strip(), credentials.strip()}
        for word in _WORDS.split(credentials):
            found |= {word, word.rstrip("=")}
        found |= {word.partition("=")[2] for word in _WORDS.split(value)}
        if scheme.lower() == "basic":
            try:
                decoded = base64.b64decode(credentials, validate=True).decode()
            except ValueError:
                continue
            found |= {decoded, *decoded.split(":", 1)}
    url = urlsplit(endpoint)
    userinfo = url.netloc.rpartition("@")[0]
    for text in (userinfo, *userinfo.split(":", 1), *(value for _, value in parse_qsl(url.query)), url.query):
        found |= {text, unquote(text)}
    basic = base64.b64encode(unquote(userinfo).encode()).decode()
    found |= {basic, basic.rstrip("=")}
    return tuple(sorted((text for text in found if len(text) >= _MIN_SECRET_LENGTH), key=len, reverse=True))


def clean_text(text: str, secrets: tuple[str, ...] = (), max_chars: int = 200) -> str:
    """A server's text for the log: on one line, short, and without the secrets that it may quote back.

    :param secrets: as `secrets_in` gives them; the longest come first, so that none is left in part.
    """
    for secret in secrets:
        text = text.replace(secret, "***")
    text = _CONTROL.sub(" ", text).strip()
    return text if len(text) <= max_chars else text[: max_chars - 1] + "…"


def user_agent() -> str:
    """The User-Agent of OTLP exporters (OTLP exporter specification, "User Agent")."""
    return f"OTel-OTLP-Exporter-Python-otelagent/{VERSION}"
