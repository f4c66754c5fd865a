"""OTLP/gRPC."""

from __future__ import annotations

import math
import re
import time
import weakref
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from otelagent.delivery.failures import FailureLog
from otelagent.delivery.otlp import (
    MAX_RESPONSE_BYTES,
    clean_text,
    read_error_status,
    read_response,
    secrets_in,
    user_agent,
)
from otelagent.delivery.payload import MAX_REQUEST_BYTES, Payload
from otelagent.delivery.result import Accepted, Rejected, Result, Retryable
from otelagent.delivery.signals import SIGNALS, Signal
from otelagent.fork_gate import whole_imports
from otelagent.forks import at_fork
from otelagent.threads import TIMEOUT_MAX, Lock, RLock, Thread, sleep

if TYPE_CHECKING:
    from otelagent.config.model import Otlp
    from otelagent.delivery.auth import Credentials, Headers
    from otelagent.delivery.auth.tls import TlsFiles
    from otelagent.delivery.auth.watched import Watched

__all__ = ["GrpcTransport"]

# OTLP specification, "Retryable gRPC Status Codes". RESOURCE_EXHAUSTED is retryable only if the server says when.
_RETRYABLE = frozenset({"CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"})

# What servers say of a message that is larger than they take. In this order: grpc-go and gRPC's core (C++, Python),
# grpc-java and grpc-dotnet, tonic; the last under a status of its own.
_TOO_LARGE = re.compile(
    r"message( after decompression)? (larger than max|exceeds (the )?maximum|length too large)", re.I
)
# What our own core says of an answer. It says the second of a request too, where the server's core is the same.
_ANSWER_TOO_LARGE, _DECOMPRESSED_TOO_LARGE = "CLIENT: Received", "Decompressed message larger"
_TOO_LARGE_CODES = frozenset({"RESOURCE_EXHAUSTED", "OUT_OF_RANGE"})

# gRPC over HTTP2, "Custom-Metadata".
_METADATA_NAME = re.compile(r"[0-9a-z_.-]+(?<!-bin)")
_METADATA_VALUE = re.compile(r"[\x20-\x7e]*")

_HINTS = {
    "UNAUTHENTICATED": "check the credentials",
    "PERMISSION_DENIED": "check the credentials",
    "UNIMPLEMENTED": "the server doesn't take OTLP {signal} over gRPC: check the endpoint",
}

_NOT_GRPC = "the port looks like HTTP: set protocol=http/protobuf, or use the OTLP/gRPC port, usually 4317"


class GrpcTransport:
    """Calls a signal's `Export` with bytes that are encoded already, over one channel of its own.

    A process that forks while a thread is inside gRPC leaves its child a gRPC that aborts the whole child at its first
    use. So each fork cancels the call that is under way, and the parent makes it again after the fork; a server that
    had taken it already gets it twice.

    :param otlp: the exporter's configuration; `endpoint` is ``http://host:port`` (plaintext) or ``https://host:port``.
    :param signal: what is sent.
    """

    def __init__(self, otlp: Otlp, signal: str = "traces") -> None:
        self._otlp = otlp
        self._signal = SIGNALS[signal]
        self._credentials: Credentials | None = None
        self._tls: Watched[TlsFiles] | None = None
        self._channel: _Channel | None = None
        # Held while a call is begun, and through a fork. Reentrant for a fork in a signal handler.
        self._gate = RLock()
        self._call: _Call | None = None
        self._abandoned = False
        self._closed_at_s = -math.inf
        _transports.add(self)

    def describe(self) -> str:
        return self._otlp.masked_endpoint

    def send(self, payload: Payload, timeout_s: float) -> Result:
        if payload.signal != self._signal.name:
            return Rejected("unsupported_signal", f"the endpoint takes {self._signal.name}, not {payload.signal}")
        if payload.size > MAX_REQUEST_BYTES:
            return Rejected("too_large", f"{payload.size} bytes are more than a request may have, {MAX_REQUEST_BYTES}")
        if self._abandoned:
            return Rejected("grpc_after_fork", "the process was forked inside gRPC: set protocol=http/protobuf")
        with whole_imports():
            from otelagent.delivery.auth import open_credentials, send_with
            from otelagent.delivery.auth.tls import watch_tls

            if self._credentials is None:
                log = FailureLog(self._otlp.masked_endpoint)
                self._tls = watch_tls(self._otlp, log) if self._otlp.endpoint.startswith("https:") else None
                self._credentials = open_credentials(self._otlp, log)
        return send_with(self._credentials, lambda headers, left_s: self._try(payload.body, headers, left_s), timeout_s)

    def _try(self, body: bytes, headers: Headers, timeout_s: float) -> Result:
        for name, value in headers.items():
            # gRPC would fail each call and print the reason to standard error.
            if not _METADATA_NAME.fullmatch(name) or not _METADATA_VALUE.fullmatch(value):
                return Rejected("invalid_request", f"the header {name!r} is no valid gRPC metadata")
        result = self._export(body, headers, timeout_s)
        if isinstance(result, Retryable) and result.reason in ("grpc_unavailable", "grpc_deadline_exceeded"):
            # A channel that lost its server waits up to two minutes before it connects again, and one whose connection
            # died in silence never notices. With a new one, the retry policy alone decides when the server is found.
            self.close()
        return result

    def close(self) -> None:
        with self._gate:
            if self._channel is not None:
                self._channel.close()
                self._channel = None
                self._closed_at_s = time.monotonic()

    def after_fork_in_child(self) -> None:
        if self._credentials is not None:
            self._credentials.after_fork_in_child()
        if self._channel is not None:
            # Closing a channel, which losing its last reference would do, waits for threads that only the parent has.
            _of_parents.append(self._channel)
            self._channel = None
        self._call = None
        self._gate = RLock()

    def _export(self, body: bytes, headers: Headers, timeout_s: float) -> Result:
        deadline_s = time.monotonic() + timeout_s
        tls = self._tls.get() if self._tls is not None else None
        while True:
            with self._gate:
                if self._channel is not None and self._channel.tls is not tls:
                    self.close()
                if self._channel is None:
                    with whole_imports():
                        self._channel = _Channel(self._otlp, self._signal, tls)
                channel = self._channel
                if not _threads_start():
                    # Only a call with a thread of its own can be cancelled. At the interpreter's end there is none.
                    return channel.make(body, headers, timeout_s)
                call = self._call = channel.begin(body, headers, max(deadline_s - time.monotonic(), 0.001))
            result = channel.result(call)
            self._call = None
            if result is not None:
                return result

    def _before_fork(self) -> bool:
        if not self._gate.acquire(timeout=_FORK_WAIT_S):
            return False
        # gRPC takes a closed channel apart on its own threads, and a child forked meanwhile can inherit a lock of
        # theirs.
        sleep(max(0.0, self._closed_at_s + _CLOSING_S - time.monotonic()))
        call = self._call
        return call is None or call.cancel(_FORK_WAIT_S)

    def _after_fork(self, quiet: bool, in_child: bool) -> None:
        if in_child:
            self._gate = RLock()
            self._abandoned = self._abandoned or not quiet
        else:
            try:
                self._gate.release()
            except RuntimeError:
                pass  # It was never acquired.


_transports: weakref.WeakSet[GrpcTransport] = weakref.WeakSet()
_of_parents: list[_Channel] = []
_quieted: list[tuple[GrpcTransport, bool]] = []

# What a fork waits at most for a call to be begun and to be cancelled. Each takes milliseconds, importing gRPC some
# hundred.
_FORK_WAIT_S = 1.0

# How long ago a channel must have been closed for a fork. Without this wait, one in a hundred children that were forked
# right after it hung, in a thread that held the interpreter's lock; with it, none of a thousand.
_CLOSING_S = 0.05


def _before_fork() -> None:
    _quieted[:] = [(transport, transport._before_fork()) for transport in list(_transports)]


def _after_fork(in_child: bool) -> None:
    for transport, quiet in _quieted:
        transport._after_fork(quiet, in_child)
    _quieted.clear()


at_fork(
    before=_before_fork,
    in_parent=lambda: _after_fork(in_child=False),
    in_child=lambda: _after_fork(in_child=True),
)


class _Channel:
    """A gRPC channel and everything of a call that doesn't change; made in the thread that sends.

    :param tls: what it is made with; None for plaintext.
    """

    def __init__(self, otlp: Otlp, signal: Signal, tls: TlsFiles | None) -> None:
        import grpc

        self.tls = tls
        self._signal = signal
        self._endpoint = otlp.endpoint
        self._sent: Headers = {}
        url = urlsplit(otlp.endpoint)
        self._compressed = otlp.compression == "gzip"
        self._compression = grpc.Compression.Gzip if self._compressed else grpc.Compression.NoCompression
        options = [
            ("grpc.primary_user_agent", user_agent()),
            ("grpc.max_send_message_length", MAX_REQUEST_BYTES),
            ("grpc.max_receive_message_length", MAX_RESPONSE_BYTES),
            # Channels to one address share their connection, and with it its backoff, also with the application's own.
            ("grpc.use_local_subchannel_pool", 1),
            # Proxies of the environment are not followed: credentials go to the configured place only.
            ("grpc.enable_http_proxy", 0),
            # Retries are the destination's, which counts them.
            ("grpc.enable_retries", 0),
        ]
        if tls is not None:
            credentials = grpc.ssl_channel_credentials(
                root_certificates=tls.certificate,
                private_key=tls.client_key,
                certificate_chain=tls.client_certificate,
            )
            self._channel = grpc.secure_channel(url.netloc.rpartition("@")[2], credentials, options)
        else:
            self._channel = grpc.insecure_channel(url.netloc.rpartition("@")[2], options)
        # Without serializers bytes go in and out as they are.
        self._export: Any = self._channel.unary_unary(signal.method, None, None)

    def begin(self, body: bytes, headers: Headers, timeout_s: float) -> _Call:
        self._sent = headers
        metadata = tuple(headers.items())
        return _Call(self._export.future(body, timeout=timeout_s, metadata=metadata, compression=self._compression))

    def result(self, call: _Call) -> Result | None:
        """What came of a call; None when a fork has cancelled it."""
        import grpc

        try:
            response = call.future.result()
        except grpc.FutureCancelledError:
            return None
        except grpc.RpcError:
            return self._failure(call.future)
        return self._answer(response)

    def make(self, body: bytes, headers: Headers, timeout_s: float) -> Result:
        """A call on this thread from its begin to its end; no fork can cancel it."""
        import grpc

        self._sent = headers
        metadata = tuple(headers.items())
        try:
            response = self._export(body, timeout=timeout_s, metadata=metadata, compression=self._compression)
        except grpc.RpcError as error:
            return self._failure(error)
        return self._answer(response)

    def _answer(self, response: Any) -> Result:
        result = read_response(bytes(response), self._signal)
        if isinstance(result, Rejected):
            return result
        return Accepted(result.rejected_items, self._clean(result.message))

    def close(self) -> None:
        self._channel.close()

    def _clean(self, text: str) -> str:
        return clean_text(text, secrets_in(self._sent, self._endpoint)) if text else ""

    def _failure(self, call: Any) -> Result:
        code: str = call.code().name
        reason = f"grpc_{code.lower()}"
        status = dict(call.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
        _, after_s = read_error_status(status)
        details = call.details() or ""
        parts = (
            _explain(self._clean(details)),
            _HINTS.get(code, "").format(signal=self._signal.name),
        )
        message = "; ".join(part for part in parts if part)
        if code in _TOO_LARGE_CODES and self._means_request(details):
            return Rejected("grpc_message_too_large", message)
        if code in _RETRYABLE or (code == "RESOURCE_EXHAUSTED" and after_s is not None):
            return Retryable(reason, after_s, message)
        return Rejected(reason, message)

    def _means_request(self, details: str) -> bool:
        """Whether an error is that the request is too large, and not the answer."""
        if _ANSWER_TOO_LARGE in details or (details.startswith(_DECOMPRESSED_TOO_LARGE) and not self._compressed):
            return False
        return _TOO_LARGE.search(details) is not None


def _threads_start() -> bool:
    thread = Thread(int, "otelagent-probe")
    try:
        thread.start()
    except RuntimeError:
        return False
    thread.join(TIMEOUT_MAX)
    return True


class _Call:
    """A call under way."""

    def __init__(self, future: Any) -> None:
        self.future = future
        self._under_way = Lock()
        self._under_way.acquire()
        future.add_done_callback(lambda _: self._under_way.release())

    def cancel(self, timeout_s: float) -> bool:
        """Ends the call; whether its thread has left gRPC in time."""
        self.future.cancel()
        left = bool(self._under_way.acquire(timeout=timeout_s))
        if left:
            self._under_way.release()
        return left


def _explain(details: str) -> str:
    text = details.lower()
    if "http1" in text or "http/1" in text or "content-type" in text:
        return f"{_NOT_GRPC} ({details})"
    if "wrong_version_number" in text or "record_layer_failure" in text:
        return f"the port doesn't speak TLS: use an http:// endpoint or set insecure ({details})"
    return details
