"""An OTLP/HTTP receiver in the test's own process, for what other processes send."""

from __future__ import annotations

import json
import threading
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, TypeVar

from otelagent.delivery.signals import SIGNALS
from otelagent.testing.decode import read
from otelagent.testing.telemetry import Telemetry

__all__ = ["OtlpReceiver"]

_Receiver = TypeVar("_Receiver", bound="OtlpReceiver")

MAX_BODY_BYTES = 64 * 2**20
"""Of a request, decompressed; a larger one is answered with 413."""

_PROTOBUF = "application/x-protobuf"
_JSON = "application/json"
_IDLE_S = 30.0


class OtlpReceiver(Telemetry):
    """Takes OTLP/HTTP, protobuf and JSON, on a free port of 127.0.0.1, from the moment it is made until `close`.

    It is a context manager.

    :param deterministic: see `Telemetry`.
    :ivar refused: what was wrong with requests that were not taken, one sentence each.
    """

    def __init__(self, *, deterministic: bool = False) -> None:
        super().__init__(deterministic=deterministic)
        self.refused: list[str] = []
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.receiver = self
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="otlp-receiver", daemon=True
        )
        self._thread.start()

    @property
    def endpoint(self) -> str:
        """Its address, as ``OTEL_EXPORTER_OTLP_ENDPOINT`` wants it."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def environ(self) -> dict[str, str]:
        """Environment variables with which otelagent, or any OpenTelemetry SDK, sends everything here, soon::

        subprocess.run(command, env={**os.environ, **otlp_receiver.environ})
        """
        stock = {f"OTEL_{signal.upper()}_EXPORTER": "otlp" for signal in SIGNALS}
        # One that is set for a signal would win.
        stock.update(
            {f"OTEL_EXPORTER_OTLP_{one.name.upper()}_ENDPOINT": self.endpoint + one.path for one in SIGNALS.values()}
        )
        return {
            **stock,
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.endpoint,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            "OTEL_BLRP_SCHEDULE_DELAY": "100",
            "OTEL_METRIC_EXPORT_INTERVAL": "500",
            "OTELAGENT_EXPORTER": "otlp",
            "OTELAGENT_LOGS_EXPORTER": "otlp",
            "OTELAGENT_ENDPOINT": self.endpoint,
            "OTELAGENT_PROTOCOL": "http/protobuf",
            # What can't be delivered must not be there in the next test.
            "OTELAGENT_SPOOL": "false",
        }

    def take(self, signal: str, body: bytes, *, json: bool) -> None:
        """Takes in a request.

        :raises ValueError: it can't be read.
        """
        items: Any = read(signal, body, json=json)
        {"traces": self._spans, "logs": self._log_records, "metrics": self._points}[signal].extend(items)  # type: ignore[attr-defined]

    def describe(self) -> str:
        """As `Telemetry.describe`, and what was refused."""
        return "\n".join((super().describe(), *(f"refused: {reason}" for reason in self.refused)))

    def close(self) -> None:
        """Stop; what has come can still be asked for."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self: _Receiver) -> _Receiver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    receiver: OtlpReceiver

    def handle_error(self, request: object, client_address: object) -> None:
        """Quiet: clients are killed and leave in the middle of a request."""


class _Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_S
    server: _Server

    def do_POST(self) -> None:
        media = self.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        try:
            # First, so that the connection can be used again.
            body = self._inflated(self._body())
            signal = self.path.removeprefix("/v1/")
            if signal not in SIGNALS:
                raise _Refused(404, f"there is no {self.path}, but /v1/ with {', '.join(SIGNALS)}")
            if media not in (_PROTOBUF, _JSON):
                raise _Refused(415, f"Content-Type must be {_PROTOBUF} or {_JSON}, not {media!r}")
            try:
                self.server.receiver.take(signal, body, json=media == _JSON)
            except ValueError as error:
                raise _Refused(400, str(error)) from None
        except _Refused as error:
            self.server.receiver.refused.append(f"{self.path}: {error}")
            self.close_connection = True
            self._answer(error.status, _JSON, json.dumps({"message": str(error)}).encode())
        else:
            # An empty response message says that everything was taken.
            self._answer(200, media, b"{}" if media == _JSON else b"")

    def _answer(self, status: int, media: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", media)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").strip().lower() == "chunked":
            return b"".join(self._chunks())
        try:
            length = int(self.headers.get("Content-Length", ""))
        except ValueError:
            raise _Refused(411, "the request has no Content-Length") from None
        return self._read(length)

    def _chunks(self) -> Any:
        left = MAX_BODY_BYTES
        while True:
            try:
                length = int(self.rfile.readline(100).partition(b";")[0], 16)
            except ValueError:
                raise _Refused(400, "a chunk has no length") from None
            left -= length
            if left < 0:
                raise _Refused(413, f"the body is longer than {MAX_BODY_BYTES} bytes")
            yield self._read(length)
            # The end of the chunk; after the last one there are no trailers that matter.
            self.rfile.readline(100)
            if length == 0:
                return

    def _read(self, length: int) -> bytes:
        if not 0 <= length <= MAX_BODY_BYTES:
            raise _Refused(413, f"the body is longer than {MAX_BODY_BYTES} bytes")
        body = self.rfile.read(length)
        if len(body) < length:
            raise _Refused(400, "the body ends too early")
        return body

    def _inflated(self, body: bytes) -> bytes:
        encoding = self.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding == "identity":
            return body
        if encoding not in ("gzip", "deflate"):
            raise _Refused(415, f"Content-Encoding {encoding!r} is not taken: use gzip or none")
        # Either of them, told by how it begins.
        inflate = zlib.decompressobj(wbits=47)
        try:
            inflated = inflate.decompress(body, MAX_BODY_BYTES)
        except zlib.error as error:
            raise _Refused(400, f"the body is no {encoding}: {error}") from None
        if inflate.unconsumed_tail:
            raise _Refused(413, f"the body is longer than {MAX_BODY_BYTES} bytes")
        if not inflate.eof:
            raise _Refused(400, f"the {encoding} body ends too early")
        return inflated

    def log_message(self, format: str, *args: object) -> None:
        """Quiet: what is refused is in `OtlpReceiver.refused`."""
