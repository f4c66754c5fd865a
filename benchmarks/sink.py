"""Where the peers' exports go: a process that counts the spans it gets, by OTLP/HTTP and by ddtrace's own protocol.

``python -m benchmarks.sink`` prints its port. ``GET /count`` answers the spans so far, ``PUT /fail`` has it answer 503
to exports until ``PUT /work``. It takes the time of its own
process, not that of who is measured.
"""

from __future__ import annotations

import gzip
import struct
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from benchmarks.environments import ROOT

__all__ = ["count_datadog", "count_otlp", "counted", "fail", "running", "serve"]

# What ddtrace asks an agent for; without these end points it would fall back or not send.
DATADOG_INFO = b'{"version":"7.70.0","endpoints":["/v0.4/traces","/v0.5/traces"],"client_drop_p0s":false}'
DATADOG_RATES = b'{"rate_by_service":{"service:,env:":1.0}}'


def count_otlp(body: bytes) -> int:
    """The spans of an ``ExportTraceServiceRequest``, decoded whole."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    request = ExportTraceServiceRequest.FromString(body)
    return sum(len(scope.spans) for resource in request.resource_spans for scope in resource.scope_spans)


def count_datadog(body: bytes, version: str) -> int:
    """The spans of a msgpack trace payload: a list of traces (``v0.4``), or the table of strings before it (``v0.5``).

    :raises ValueError: the payload isn't whole, or has something behind its end.
    """
    at = 0
    if version == "v0.5":
        parts, at = _array(body, at)
        if parts != 2:
            raise ValueError(f"{parts} parts instead of 2")
        at = _skip(body, at)
    traces, at = _array(body, at)
    spans = 0
    for _ in range(traces):
        count, at = _array(body, at)
        spans += count
        for _ in range(count):
            at = _skip(body, at)
    if at != len(body):
        raise ValueError(f"{len(body) - at} bytes behind the end")
    return spans


# msgpack's types whose bytes have a fixed number (nil, booleans, numbers), and those that begin with a length: its
# format, and how many bytes follow for each unit of it.
_FIXED = {0xC0: 0, 0xC2: 0, 0xC3: 0, 0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}
_FIXED |= {0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8, 0xD4: 2, 0xD5: 3, 0xD6: 5, 0xD7: 9, 0xD8: 17}
_BYTES = {0xC4: ">B", 0xC5: ">H", 0xC6: ">I", 0xD9: ">B", 0xDA: ">H", 0xDB: ">I"}
_ITEMS = {0xDC: (">H", 1), 0xDD: (">I", 1), 0xDE: (">H", 2), 0xDF: (">I", 2)}


def _array(body: bytes, at: int) -> tuple[int, int]:
    if at < len(body) and body[at] & 0xF0 == 0x90:
        return body[at] & 0x0F, at + 1
    if at < len(body) and body[at] in (0xDC, 0xDD):
        return _unpack(_ITEMS[body[at]][0], body, at + 1)
    raise ValueError("no array where one belongs")


def _skip(body: bytes, at: int) -> int:
    left = 1
    while left:
        left -= 1
        if at >= len(body):
            raise ValueError("the payload is cut off")
        kind = body[at]
        at += 1
        if kind <= 0x7F or kind >= 0xE0:  # a small integer
            continue
        if kind <= 0x8F:
            left += 2 * (kind & 0x0F)
        elif kind <= 0x9F:
            left += kind & 0x0F
        elif kind <= 0xBF:
            at += kind & 0x1F
        elif kind in _FIXED:
            at += _FIXED[kind]
        elif kind in _BYTES:
            length, at = _unpack(_BYTES[kind], body, at)
            at += length
        elif kind in _ITEMS:
            form, each = _ITEMS[kind]
            length, at = _unpack(form, body, at)
            left += each * length
        else:
            raise ValueError(f"type {kind:#x}")
    if at > len(body):
        raise ValueError("the payload is cut off")
    return at


def _unpack(form: str, body: bytes, at: int) -> tuple[int, int]:
    try:
        (value,) = struct.unpack_from(form, body, at)
    except struct.error:
        raise ValueError("the payload is cut off") from None
    return value, at + struct.calcsize(form)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    spans = 0
    failing = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.lock = threading.Lock()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or each answer would wait 40 ms for the acknowledgement of its headers
    server: _Server

    def do_POST(self) -> None:
        """An export, or something else that a peer tells its agent, which is thrown away."""
        body = self._body()
        answer = b""
        if self.path in ("/fail", "/work"):
            self.server.failing = self.path == "/fail"
        elif self.server.failing:
            self._answer(503, b"")
            return
        try:
            if self.path.endswith("/v1/traces"):
                self._add(count_otlp(body))
            elif self.path.endswith("/traces"):
                self._add(count_datadog(body, self.path.split("/")[-2]))
                answer = DATADOG_RATES
        except Exception as error:  # Broken bytes, as the decoders tell: the peer hears that it was not taken.
            print(f"{self.path}: {error}", file=sys.stderr)
            self._answer(400, str(error).encode())
            return
        self._answer(200, answer)

    do_PUT = do_POST

    def do_GET(self) -> None:
        """The count, or what ddtrace asks its agent."""
        self._answer(200, DATADOG_INFO if self.path.endswith("/info") else str(self.server.spans).encode())

    def _add(self, spans: int) -> None:
        with self.server.lock:
            self.server.spans += spans

    def _body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            body = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json" if body[:1] == b"{" else "application/x-protobuf")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Silence."""


def serve() -> _Server:
    """A sink on a free port of loopback, in threads of this process; `shutdown()` ends it."""
    server = _Server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@contextmanager
def running(python: str) -> Iterator[str]:
    """A sink in a process of its own; gives its address, ``http://127.0.0.1:port``.

    :param python: an interpreter that has opentelemetry-proto.
    """
    command = [python, "-m", "benchmarks.sink"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.terminate()
        process.communicate()


def counted(address: str) -> int:
    """How many spans have reached the sink."""
    with urllib.request.urlopen(f"{address}/count", timeout=10) as answer:
        return int(answer.read())


def fail(address: str, failing: bool) -> None:
    """Has the sink answer 503 to exports, or take them again."""
    request = urllib.request.Request(f"{address}/{'fail' if failing else 'work'}", b"", method="PUT")
    urllib.request.urlopen(request, timeout=10).close()


if __name__ == "__main__":
    print(serve().server_port, flush=True)
    sys.stdin.read()  # Until whoever started it is gone.
