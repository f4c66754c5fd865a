"""OTLP/gRPC."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from otelagent.delivery.otlp import (
    MAX_REQUEST_BYTES,
    MAX_RESPONSE_BYTES,
    clean_text,
    read_error_status,
    read_response,
    user_agent,
)
from otelagent.delivery.payload import Payload
from otelagent.delivery.result import Accepted, Rejected, Result, Retryable

if TYPE_CHECKING:
    from otelagent.config.model import Otlp

__all__ = ["GrpcTransport"]

_EXPORT_TRACES = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"

# OTLP specification, "Retryable gRPC Status Codes". RESOURCE_EXHAUSTED is retryable only if the server says when.
_RETRYABLE = frozenset({"CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"})

_HINTS = {
    "UNAUTHENTICATED": "check the credentials in the headers",
    "PERMISSION_DENIED": "check the credentials in the headers",
    "UNIMPLEMENTED": "the server doesn't take OTLP traces over gRPC: check the endpoint",
}

_NOT_GRPC = "the port looks like HTTP: set protocol=http/protobuf, or use the OTLP/gRPC port, usually 4317"


class GrpcTransport:
    """Calls `TraceService/Export` with bytes that are encoded already, over one channel of its own.

    :param otlp: the exporter's configuration; `endpoint` is ``http://host:port`` (plaintext) or ``https://host:port``.
    """

    def __init__(self, otlp: Otlp) -> None:
        self._otlp = otlp
        self._channel: _Channel | None = None

    def describe(self) -> str:
        return self._otlp.masked_endpoint

    def send(self, payload: Payload, timeout_s: float) -> Result:
        if payload.signal != "traces":
            return Rejected("unsupported_signal", f"the endpoint takes traces, not {payload.signal}")
        if payload.size > MAX_REQUEST_BYTES:
            # Splitting comes here.
            return Rejected("too_large", f"{payload.size} bytes are more than a request may have, {MAX_REQUEST_BYTES}")
        if self._channel is None:
            try:
                self._channel = _Channel(self._otlp)
            except OSError as error:
                # A certificate may be put in place later, as when it is rotated.
                return Retryable("certificate", None, f"can't load the certificates: {error}")
        result = self._channel.export(payload.body, timeout_s)
        if isinstance(result, Retryable) and result.reason in ("grpc_unavailable", "grpc_deadline_exceeded"):
            # A channel that lost its server waits up to two minutes before it connects again, and one whose connection
            # died in silence never notices. With a new one, the retry policy alone decides when the server is found.
            self.close()
        return result

    def close(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def after_fork_in_child(self) -> None:
        if self._channel is not None:
            # Closing a channel, which losing its last reference would do, waits for threads that only the parent has.
            _of_parents.append(self._channel)
            self._channel = None


_of_parents: list[_Channel] = []


class _Channel:
    """A gRPC channel and everything of a call that doesn't change; made in the thread that sends."""

    def __init__(self, otlp: Otlp) -> None:
        import grpc

        url = urlsplit(otlp.endpoint)
        # Keys of metadata are lower case (gRPC over HTTP2, "Custom-Metadata").
        self._metadata = tuple((name.lower(), value.reveal()) for name, value in otlp.headers.items())
        self._secrets = tuple(value for _, value in self._metadata if len(value) > 3)
        self._compression = grpc.Compression.Gzip if otlp.compression == "gzip" else grpc.Compression.NoCompression
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
        if url.scheme == "https":
            credentials = grpc.ssl_channel_credentials(
                root_certificates=_content(otlp.certificate),
                private_key=_content(otlp.client_key),
                certificate_chain=_content(otlp.client_certificate),
            )
            self._channel = grpc.secure_channel(url.netloc.rpartition("@")[2], credentials, options)
        else:
            self._channel = grpc.insecure_channel(url.netloc.rpartition("@")[2], options)
        # Without serializers bytes go in and out as they are.
        self._export = self._channel.unary_unary(_EXPORT_TRACES, None, None)

    def export(self, body: bytes, timeout_s: float) -> Result:
        import grpc

        try:
            response = self._export(body, timeout=timeout_s, metadata=self._metadata, compression=self._compression)
        except grpc.RpcError as error:
            return self._failure(error)
        except ValueError:
            # The exception quotes the metadata, which may be a secret.
            return Rejected("invalid_request", "a header is no valid gRPC metadata")
        result = read_response(bytes(response))
        if isinstance(result, Rejected):
            return result
        return Accepted(result.rejected_items, clean_text(result.message, self._secrets))

    def close(self) -> None:
        self._channel.close()

    def _failure(self, call: Any) -> Result:
        # What gRPC raises is the call itself, though its type doesn't say so.
        code: str = call.code().name
        reason = f"grpc_{code.lower()}"
        status = dict(call.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
        _, after_s = read_error_status(status)
        message = _explain(clean_text(call.details() or "", self._secrets)) or _HINTS.get(code, "")
        if code in _RETRYABLE or (code == "RESOURCE_EXHAUSTED" and after_s is not None):
            return Retryable(reason, after_s, message)
        return Rejected(reason, message)


def _explain(details: str) -> str:
    text = details.lower()
    if "http1" in text or "http/1" in text or "content-type" in text:
        return f"{_NOT_GRPC} ({details})"
    if "wrong_version_number" in text or "record_layer_failure" in text:
        return f"the port doesn't speak TLS: use an http:// endpoint or set insecure ({details})"
    return details


def _content(path: str | None) -> bytes | None:
    if path is None:
        return None
    with open(path, "rb") as file:
        return file.read()
