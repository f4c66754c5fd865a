"""The HTTP connection of `HttpTransport`: what it needs is imported by the thread that sends, at its first payload."""

from __future__ import annotations

import time
import zlib
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpcore

from otelagent.delivery.auth import Headers, open_credentials, send_with
from otelagent.delivery.auth.tls import watch_tls
from otelagent.delivery.failures import FailureLog
from otelagent.delivery.otlp import (
    MAX_RESPONSE_BYTES,
    clean_text,
    read_error_status,
    read_json_response,
    read_response,
    secrets_in,
    user_agent,
)
from otelagent.delivery.result import Accepted, Rejected, Result, Retryable
from otelagent.delivery.retry import parse_http_date, parse_retry_after
from otelagent.delivery.transports.deadline import DeadlineNetwork
from otelagent.delivery.transports.http_body import MalformedBody, lower_headers, read_body

if TYPE_CHECKING:
    import ssl

    from otelagent.config.model import Otlp
    from otelagent.delivery.signals import Signal

__all__ = ["HttpClient"]

# OTLP specification, "Retryable Response Codes". Everything else must not be sent again, 408 and 500 included.
_RETRYABLE = frozenset({429, 502, 503, 504})

_HINTS = {
    401: "check the credentials",
    403: "check the credentials",
    404: "check the endpoint's path, which is usually {path}",
    405: "check the endpoint's path, which is usually {path}",
    413: "the server takes only smaller requests",
    415: "the server doesn't take OTLP protobuf: check the endpoint and the compression",
}

# What servers say that answer a request which is too large with 400; here the OpenTelemetry Collector, as of 0.158.
_BODY_TOO_LARGE = "request body too large"

_KEEP_IDLE_S = 30.0
# An error's body is only read for its message.
_MAX_ERROR_BYTES = 64 * 1024


class HttpClient:
    """The connection, the credentials, and everything of a request that doesn't change.

    A certificate that has changed ends the connection: the next one is made with the new one.

    :param signal: what is posted.
    :raises ValueError: the endpoint is no valid HTTP.
    """

    def __init__(self, otlp: Otlp, signal: Signal) -> None:
        self._signal = signal
        self._endpoint = otlp.endpoint
        self._gzip = otlp.compression == "gzip"
        self._headers = {
            "content-type": "application/x-protobuf",
            "user-agent": user_agent(),
            "accept-encoding": "identity",
        }
        if self._gzip:
            self._headers["content-encoding"] = "gzip"
        self._url = httpcore.URL(otlp.endpoint)
        log = FailureLog(otlp.masked_endpoint)
        self._credentials = open_credentials(otlp, log)
        self._sent: Headers = {}
        self._tls = watch_tls(otlp, log) if self._url.scheme == b"https" else None
        self._context: ssl.SSLContext | None = None
        self._network = DeadlineNetwork()
        self._pool: httpcore.ConnectionPool | None = None

    def send(self, body: bytes, timeout_s: float) -> Result:
        """One try, and one more if the server refuses credentials that can be renewed."""
        content = _gzip(body) if self._gzip else body
        return send_with(self._credentials, lambda headers, left_s: self._post(content, headers, left_s), timeout_s)

    def _post(self, content: bytes, headers: Headers, timeout_s: float) -> Result:
        self._sent = headers
        self._network.begin_try(timeout_s)
        try:
            every = {**headers, **self._headers}
            encoded = [(name.encode("ascii"), value.encode("utf-8")) for name, value in every.items()]
        except ValueError:
            return Rejected("invalid_request", "the endpoint or a header is no valid HTTP")
        try:
            with self._connections().stream("POST", self._url, headers=encoded, content=content) as response:
                return self._result(response)
        except httpcore.TimeoutException:
            return Retryable("timeout", None, f"no answer within {timeout_s:.3g} s")
        except (httpcore.LocalProtocolError, httpcore.UnsupportedProtocol):
            # The exception quotes the header, which may be a secret.
            return Rejected("invalid_request", "the endpoint or a header is no valid HTTP")
        except (httpcore.NetworkError, httpcore.ProtocolError) as error:
            return Retryable("connection", None, self._explain(error))

    def close(self) -> None:
        """Ends the connection; the next `send` makes another."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def abandon(self) -> None:
        """Lets go of the connection in a fork child."""
        # The pool's locks may have been held at the fork; its sockets are only this process's copies.
        self._network.abandon()
        self._pool = None
        self._credentials.after_fork_in_child()

    def _connections(self) -> httpcore.ConnectionPool:
        context = self._tls.get().context if self._tls is not None else None
        if context is not self._context:
            # No request is under way: one thread sends.
            self.close()
            self._context = context
        if self._pool is None:
            self._pool = httpcore.ConnectionPool(
                ssl_context=context,
                max_connections=1,
                keepalive_expiry=_KEEP_IDLE_S,
                network_backend=self._network,
            )
        return self._pool

    def _clean(self, text: str) -> str:
        return clean_text(text, secrets_in(self._sent, self._endpoint)) if text else ""

    def _result(self, response: httpcore.Response) -> Result:
        headers = lower_headers(response)
        if 200 <= response.status < 300:
            try:
                body = read_body(response, headers, MAX_RESPONSE_BYTES)
            except MalformedBody as error:
                return Rejected("malformed_response", str(error))
            result = _read_success(body, headers.get("content-type", ""), self._signal)
            if isinstance(result, Rejected):
                return result
            return Accepted(result.rejected_items, self._clean(result.message))
        if 300 <= response.status < 400:
            place = self._clean(_place_of(headers.get("location", "")))
            return Rejected("redirect", f"HTTP {response.status} to {place}, which isn't followed: check the endpoint")
        try:
            text = _error_text(read_body(response, headers, _MAX_ERROR_BYTES), headers.get("content-type", ""))
        except (MalformedBody, httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError):
            text = ""  # The status alone decides.
        parts = (self._clean(text), _HINTS.get(response.status, "").format(path=self._signal.path))
        message = "; ".join(part for part in parts if part)
        if response.status in _RETRYABLE:
            # The server's own clock, if it tells: a date means nothing on a clock that is wrong.
            server_now_s = parse_http_date(headers.get("date"))
            now_s = time.time() if server_now_s is None else server_now_s
            return Retryable(f"http_{response.status}", parse_retry_after(headers.get("retry-after"), now_s), message)
        too_large = response.status == 400 and _BODY_TOO_LARGE in text
        return Rejected("http_body_too_large" if too_large else f"http_{response.status}", message)

    def _explain(self, error: Exception) -> str:
        text = self._clean(str(error) or type(error).__name__)
        first = self._network.first_bytes
        # An HTTP/2 server opens with a SETTINGS frame: 3 bytes of length, type 4, flags, stream 0 (RFC 9113 section
        # 3.4).
        speaks_http2 = len(first) >= 9 and first[3] == 4 and first[5:9] == b"\0\0\0\0"
        if speaks_http2 or (not first and self._url.port == 4317 and "disconnected" in text):
            return "the port looks like gRPC: set protocol=grpc, or use the OTLP/HTTP port, usually 4318"
        if first[:2] == b"\x15\x03":  # A TLS alert.
            return "the port expects TLS: use an https:// endpoint"
        if any(sign in text for sign in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "record layer failure")):
            return "the port doesn't speak TLS: use an http:// endpoint"
        return text


def _place_of(location: str) -> str:
    """Where a redirect leads, without what may be a credential in it."""
    try:
        target = urlsplit(location)
        known = target.hostname is not None
    except ValueError:
        return "no address"
    return f"{target.scheme}://{target.netloc.rpartition('@')[2]}{target.path}" if known else target.path


def _read_success(body: bytes, content_type: str, signal: Signal) -> Accepted | Rejected:
    media = content_type.partition(";")[0].strip().lower()
    if not body or media in ("", "application/x-protobuf", "application/protobuf", "application/octet-stream"):
        return read_response(body, signal)
    if media == "application/json":
        return read_json_response(body, signal)
    # Some text happens to parse as protobuf.
    return Rejected("malformed_response", f"the answer is {clean_text(media)} and no OTLP response: check the endpoint")


def _error_text(body: bytes, content_type: str) -> str:
    media = content_type.partition(";")[0].strip().lower()
    if media == "application/x-protobuf":
        return read_error_status(body)[0]
    return body.decode("utf-8", "replace") if media == "text/plain" else ""


def _gzip(body: bytes) -> bytes:
    deflate = zlib.compressobj(wbits=31)
    return deflate.compress(body) + deflate.flush()
