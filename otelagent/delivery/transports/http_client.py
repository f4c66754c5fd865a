"""The HTTP connection of `HttpTransport`: what it needs is imported by the thread that sends, at its first payload."""

from __future__ import annotations

import base64
import logging
import ssl
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import httpcore

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

if TYPE_CHECKING:
    from otelagent.config.model import Otlp
    from otelagent.delivery.signals import Signal

__all__ = ["HttpClient"]

# OTLP specification, "Retryable Response Codes". Everything else must not be sent again, 408 and 500 included.
_RETRYABLE = frozenset({429, 502, 503, 504})

_HINTS = {
    401: "check the credentials in the headers",
    403: "check the credentials in the headers",
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
    """The connection pool and everything of a request that doesn't change.

    :param signal: what is posted.
    :raises OSError: the certificates can't be loaded.
    :raises ValueError: the endpoint or a header is no valid HTTP.
    """

    def __init__(self, otlp: Otlp, signal: Signal) -> None:
        _keep_own_requests_out_of_logs()
        self._signal = signal
        url = urlsplit(otlp.endpoint)
        headers = {name.lower(): value.reveal() for name, value in otlp.headers.items()}
        if url.username is not None and "authorization" not in headers:
            credentials = f"{unquote(url.username)}:{unquote(url.password or '')}"
            headers["authorization"] = f"Basic {base64.b64encode(credentials.encode()).decode()}"
        self._secrets = secrets_in(headers, otlp.endpoint)
        self._gzip = otlp.compression == "gzip"
        headers |= {"content-type": "application/x-protobuf", "user-agent": user_agent(), "accept-encoding": "identity"}
        if self._gzip:
            headers["content-encoding"] = "gzip"
        self._headers = [(name.encode("ascii"), value.encode("utf-8")) for name, value in headers.items()]
        self._url = httpcore.URL(otlp.endpoint)
        self._network = DeadlineNetwork()
        self._pool = httpcore.ConnectionPool(
            ssl_context=_tls(otlp) if url.scheme == "https" else None,
            max_connections=1,
            keepalive_expiry=_KEEP_IDLE_S,
            network_backend=self._network,
        )

    def post(self, body: bytes, timeout_s: float) -> Result:
        """One try."""
        self._network.begin_try(timeout_s)
        try:
            content = _gzip(body) if self._gzip else body
            with self._pool.stream("POST", self._url, headers=self._headers, content=content) as response:
                return self._result(response)
        except httpcore.TimeoutException:
            return Retryable("timeout", None, f"no answer within {timeout_s:g} s")
        except (httpcore.LocalProtocolError, httpcore.UnsupportedProtocol):
            # The exception quotes the header, which may be a secret.
            return Rejected("invalid_request", "the endpoint or a header is no valid HTTP")
        except (httpcore.NetworkError, httpcore.ProtocolError) as error:
            return Retryable("connection", None, self._explain(error))

    def close(self) -> None:
        """Ends the connection."""
        self._pool.close()

    def abandon(self) -> None:
        """Lets go of the connection in a fork child."""
        # The pool's locks may have been held at the fork; its sockets are only this process's copies.
        for stream in list(self._network.streams):
            stream.close()

    def _result(self, response: httpcore.Response) -> Result:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
        if 200 <= response.status < 300:
            try:
                body = _read(response, headers, MAX_RESPONSE_BYTES)
            except _MalformedBody as error:
                return Rejected("malformed_response", str(error))
            result = _read_success(body, headers.get("content-type", ""), self._signal)
            if isinstance(result, Rejected):
                return result
            return Accepted(result.rejected_items, clean_text(result.message, self._secrets))
        if 300 <= response.status < 400:
            target = urlsplit(headers.get("location", ""))
            place = f"{target.scheme}://{target.hostname}{target.path}" if target.hostname else target.path
            place = clean_text(place, self._secrets)
            return Rejected("redirect", f"HTTP {response.status} to {place}, which isn't followed: check the endpoint")
        try:
            text = _error_text(_read(response, headers, _MAX_ERROR_BYTES), headers.get("content-type", ""))
        except (_MalformedBody, httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError):
            text = ""  # The status alone decides.
        parts = (clean_text(text, self._secrets), _HINTS.get(response.status, "").format(path=self._signal.path))
        message = "; ".join(part for part in parts if part)
        if response.status in _RETRYABLE:
            # The server's own clock, if it tells: a date means nothing on a clock that is wrong.
            server_now_s = parse_http_date(headers.get("date"))
            now_s = time.time() if server_now_s is None else server_now_s
            return Retryable(f"http_{response.status}", parse_retry_after(headers.get("retry-after"), now_s), message)
        too_large = response.status == 400 and _BODY_TOO_LARGE in text
        return Rejected("http_body_too_large" if too_large else f"http_{response.status}", message)

    def _explain(self, error: Exception) -> str:
        text = clean_text(str(error) or type(error).__name__, self._secrets)
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


class _MalformedBody(Exception):
    """A body that can't be or isn't read to its end."""


def _read(response: httpcore.Response, headers: dict[str, str], max_bytes: int) -> bytes:
    # Decompressed here and not by a library, which would inflate a chunk of a gzip bomb to a thousand times its size
    # before anyone could count.
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "", "gzip", "x-gzip"):
        raise _MalformedBody(f"the answer has an unknown encoding, {clean_text(encoding)}")
    inflate = zlib.decompressobj(wbits=31) if "gzip" in encoding else None
    body = b""
    received = 0
    for chunk in response.iter_stream():
        received += len(chunk)
        try:
            body += inflate.decompress(chunk, max_bytes + 1 - len(body)) if inflate else chunk
        except zlib.error as error:
            raise _MalformedBody("the answer is broken gzip") from error
        # What is received counts too: gzip may be longer than what is in it.
        if max(received, len(body)) > max_bytes:
            raise _MalformedBody(f"the answer is longer than {max_bytes} bytes")
        if inflate and inflate.unused_data:
            # Which zlib would keep, however much of it comes.
            raise _MalformedBody("the answer goes on after the end of its gzip")
    return body


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


def _tls(otlp: Otlp) -> ssl.SSLContext:
    # ssl needs this codec for host names, and Python would import it in the first handshake, see `whole_imports`.
    "localhost".encode("idna")
    if otlp.certificate is None:
        import certifi

        context = ssl.create_default_context(cafile=certifi.where())
    else:
        with _named(otlp.certificate):
            context = ssl.create_default_context(cafile=otlp.certificate)
    if otlp.client_certificate is not None:
        with _named(otlp.client_certificate, otlp.client_key):
            context.load_cert_chain(otlp.client_certificate, otlp.client_key)
    return context


@contextmanager
def _named(*paths: str | None) -> Iterator[None]:
    # What ssl raises doesn't say which file it was.
    try:
        yield
    except OSError as error:
        what = str(error) if isinstance(error, ssl.SSLError) else error.strerror
        raise OSError(f"{' or '.join(path for path in paths if path)}: {what}") from error


def _keep_own_requests_out_of_logs() -> None:
    # httpcore logs each step of a request at DEBUG. With the root logger there, each export would add lines to the
    # application's log, and with logs exported, each export would cause the next.
    for name in ("httpcore.connection", "httpcore.http11"):
        logger = logging.getLogger(name)
        if _is_not_ours not in logger.filters:
            logger.addFilter(_is_not_ours)


def _is_not_ours(_: logging.LogRecord) -> bool:
    from opentelemetry import context

    return not context.get_value(context._SUPPRESS_HTTP_INSTRUMENTATION_KEY)
