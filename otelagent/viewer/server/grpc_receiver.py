"""OTLP/gRPC, where grpcio is installed: the three services, on the way that OTLP/HTTP takes from the body on.

A browser can't speak gRPC without TLS, so there is no page to turn away here. Requests come as bytes to generic
handlers: the messages are `ingest`'s to read, and nothing generated is needed.

Source: OTLP specification, "OTLP/gRPC", "Failures", "OTLP/gRPC Throttling".
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import TYPE_CHECKING, Any

from otelagent.viewer.ingest import SIGNALS, empty_response
from otelagent.viewer.server.answers import Refused
from otelagent.viewer.server.bodies import MAX_BODY_BYTES

if TYPE_CHECKING:
    from otelagent.viewer.server.receiver import Receiver

__all__ = ["DEFAULT_PORT", "GrpcReceiver", "NoGrpc"]

DEFAULT_PORT = 4317
"""Of OTLP/gRPC (OTLP specification, "OTLP/gRPC Default Port")."""

_TRIES = 20
_MAX_CALLS = 1024
"""At once, of all connections; they wait for `_MAX_READING` with nothing read of them."""
MAX_CONNECTIONS = 128
"""At once; the process has descriptors for a thousand files."""
_MAX_READING = 4
READ_S = 10.0
"""For a message to come in: a client that stops in the middle keeps others waiting no longer than that."""
_RETRY_AFTER_S = 1
_STATUS = {
    400: "INVALID_ARGUMENT",
    408: "DEADLINE_EXCEEDED",
    413: "RESOURCE_EXHAUSTED",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
}


class NoGrpc(Exception):
    """OTLP/gRPC is not taken; the text says why."""


class GrpcReceiver:
    """A server of its own on the viewer's event loop.

    :param receiver: what takes requests; counts what is refused here too.
    :ivar port: that is listened on.
    """

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._reading = asyncio.Semaphore(_MAX_READING)
        self._server: Any = None
        self.port = 0

    async def start(self, port: int | None = None) -> None:
        """Listens on loopback.

        :param port: this one, 0 for any; None for the default or the next one that is free.
        :raises NoGrpc: grpcio isn't installed, the port is taken, or none of twenty is free.
        """
        try:
            import grpc
        except ImportError as error:
            raise NoGrpc(f"grpcio can't be loaded ({error}): pip install grpcio") from None
        options = (
            # Two servers on one port would share its connections, and nobody would be told.
            ("grpc.so_reuseport", 0),
            # After decompression too; the core stops inflating there.
            ("grpc.max_receive_message_length", MAX_BODY_BYTES),
            ("grpc.max_metadata_size", 16 * 1024),
            ("grpc.max_allowed_incoming_connections", MAX_CONNECTIONS),
            ("grpc.max_connection_idle_ms", 600_000),
            ("grpc.server_handshake_timeout_ms", 10_000),
        )
        self._server = grpc.aio.server(options=options, maximum_concurrent_rpcs=_MAX_CALLS)
        for signal, (module, prefix, *_) in SIGNALS.items():
            # Streamed on the way in, which is the same on the wire: a message is read when there is room for it.
            handler: Any = grpc.stream_unary_rpc_method_handler(partial(self._export, signal))
            service = f"opentelemetry.proto.collector.{module.rpartition('.')[0]}.{prefix}Service"
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"Export": handler}),))
        for number in range(DEFAULT_PORT, DEFAULT_PORT + _TRIES) if port is None else (port,):
            try:
                self.port = self._server.add_insecure_port(f"127.0.0.1:{number}")
                break
            except RuntimeError:  # which doesn't say why
                continue
        else:
            if port is None:
                raise NoGrpc(f"no port from {DEFAULT_PORT} to {DEFAULT_PORT + _TRIES - 1} is free")
            raise NoGrpc(f"port {port} is taken by another program, or may not be used: name another --grpc-port")
        await self._server.start()

    async def stop(self) -> None:
        """Lets calls that are under way end, for a second."""
        if self._server is not None:
            await self._server.stop(1)

    async def _export(self, signal: str, messages: AsyncIterator[bytes], context: Any) -> bytes:
        try:
            async with self._reading:
                body = await self._read(messages)
            with self._receiver.room() as keep:
                keep(len(body))
                batch = await self._receiver.take(signal, body, json=False)
            self._receiver.arrivals.took(batch)
        except Refused as error:
            self._receiver.count(error.code)
            await self._abort(context, error)
            raise
        answer: bytes = empty_response(signal, batch).SerializeToString()
        return answer

    async def _read(self, messages: AsyncIterator[bytes]) -> bytes:
        try:
            return await asyncio.wait_for(messages.__anext__(), READ_S)
        except asyncio.TimeoutError:
            raise Refused(408, "too_slow", f"the message did not come within {READ_S:.0f} s") from None
        except StopAsyncIteration:
            # There was none, or the core has ended the call with what is wrong: too long, or in an unknown encoding.
            raise Refused(400, "unreadable", f"there is no message, or none of up to {MAX_BODY_BYTES} bytes") from None

    async def _abort(self, context: Any, error: Refused) -> None:
        import grpc

        trailing = ((("grpc-status-details-bin", _retry(str(error)))),) if error.status == 429 else ()
        await context.abort(getattr(grpc.StatusCode, _STATUS[error.status]), str(error), trailing)


def _retry(message: str) -> bytes:
    """A google.rpc.Status with RetryInfo: only with it a client may send again what is RESOURCE_EXHAUSTED."""
    from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]
    from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

    status = Status(code=8, message=message)
    info = RetryInfo()
    info.retry_delay.seconds = _RETRY_AFTER_S
    status.details.add().Pack(info)
    encoded: bytes = status.SerializeToString()
    return encoded
