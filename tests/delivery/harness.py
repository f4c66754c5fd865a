"""What the delivery tests share: the fault server as an object, configurations, and the books that must balance."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from otelagent.config.model import OAuth2, Otlp, Secret
from otelagent.delivery import Accepted, Destination, Ledger, Limits, Payload, Result, RetryPolicy, Transport
from otelagent.delivery.spool.spool import Spool
from otelagent.delivery.spooling import SpoolAt

_Server = TypeVar("_Server", bound="ServerProcess")

QUICK = RetryPolicy(initial_s=0.01, max_s=0.02)


def otlp(endpoint: str, **changes: Any) -> Otlp:
    """The exporter's configuration with its defaults."""
    settings: dict[str, Any] = {
        "endpoint": endpoint,
        "protocol": "http/protobuf",
        "headers": {},
        "timeout_ms": 10_000,
        "compression": "none",
        "certificate": None,
        "client_certificate": None,
        "client_key": None,
        "insecure": None,
        "headers_file": None,
        "bearer_token_file": None,
    }
    oauth2: dict[str, Any] = {
        "token_url": None,
        "client_id": None,
        "client_secret": None,
        "client_secret_file": None,
        "scopes": (),
        "parameters": {},
        "certificate": None,
    }
    settings["oauth2"] = OAuth2(**{**oauth2, **changes.pop("oauth2", {})})
    return Otlp(**{**settings, **changes})


def secret(text: str) -> Secret:
    return Secret(text)


def payload(items: int = 1, name: str = "work") -> Payload:
    """A real request with that many spans."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    for number in range(items):
        scope.spans.add(name=name, trace_id=bytes(15) + b"\x01", span_id=(number + 1).to_bytes(8, "big"))
    return Payload("traces", request.SerializeToString(), items)


def partial_success(rejected: int, message: str = "") -> bytes:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    response = ExportTraceServiceResponse()
    response.partial_success.rejected_spans = rejected
    response.partial_success.error_message = message
    return response.SerializeToString()


def status_details(seconds: int, nanos: int = 0) -> str:
    """What `grpc-status-details-bin` holds when the server asks for a wait, in hexadecimal."""
    from google.protobuf.any_pb2 import Any as AnyMessage
    from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]
    from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

    info, packed = RetryInfo(), AnyMessage()
    info.retry_delay.seconds, info.retry_delay.nanos = seconds, nanos
    packed.Pack(info)
    return bytes(Status(code=8, message="later", details=[packed]).SerializeToString()).hex()


class ServerProcess:
    """A server in a process of its own: it reads a script a line, and tells its port and then each request.

    Started and stopped with the `with` statement.

    :param program: a file beside this one.
    :ivar requests: what it has told so far, by request.
    :ivar gone_s: after how many seconds without an answer clients have left.
    """

    def __init__(self, program: str, *arguments: str, script: Any) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name(program)), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        self.requests: list[dict[str, Any]] = []
        self.gone_s: list[float] = []
        self._begun = threading.Semaphore(0)
        self._write(script)
        self.port = int(self._stdout.readline())
        # A full pipe would stop the server.
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def running(self) -> bool:
        """Until it is stopped."""
        return not self._stdin.closed

    def stop(self) -> list[dict[str, Any]]:
        """Ends the server; the requests it got."""
        self._stdin.close()
        self._reader.join()
        self._stdout.close()
        self._process.wait(10)
        return self.requests

    def _write(self, script: Any) -> None:
        self._stdin.write(json.dumps(script) + "\n")
        self._stdin.flush()

    def _read(self) -> None:
        for line in self._stdout:
            told = json.loads(line)
            if "begun" in told:
                self._begun.release()
            elif "gone_s" in told:
                self.gone_s.append(told["gone_s"])
            else:
                self.requests.append(told)

    def __enter__(self: _Server) -> _Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.running:
            self.stop()


class FaultServer(ServerProcess):
    """The scripted server of `fault_server.py`.

    :param spans: whether it tells the ids of the spans that it gets and takes.
    :param tls: its certificate, its key and, if clients need a certificate, the authority of theirs.
    """

    def __init__(
        self, protocol: str, *script: dict[str, Any], port: int = 0, spans: bool = False, tls: Sequence[Path] = ()
    ) -> None:
        options = [*(["spans"] if spans else []), *([f"tls={','.join(map(str, tls))}"] if tls else [])]
        self._scheme = "https" if tls else "http"
        super().__init__("fault_server.py", protocol, str(port), *options, script=script)

    @property
    def endpoint(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.port}/v1/traces"

    def begin(self, *script: dict[str, Any]) -> None:
        """From now on the server acts by this script."""
        self._write(script)


class TokenServer(ServerProcess):
    """The token endpoint of `token_server.py`.

    :param rules: see there.
    """

    def __init__(self, **rules: Any) -> None:
        super().__init__("token_server.py", script=rules)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/token"

    def begin(self, **rules: Any) -> None:
        """From now on the server has these rules."""
        self._write(rules)
        assert self._begun.acquire(timeout=20)


class FakeTransport:
    """A transport that answers by script; the last result repeats. A callable in it is called for its result."""

    def __init__(self, *script: Result | Callable[[], Result]) -> None:
        self._script = list(script) or [Accepted()]
        self.sent: list[Payload] = []
        self.sent_at: list[float] = []
        self.timeouts: list[float] = []
        self.closed = 0
        self.forks = 0

    def send(self, payload: Payload, timeout_s: float) -> Result:
        self.sent.append(payload)
        self.sent_at.append(time.monotonic())
        self.timeouts.append(timeout_s)
        result = self._script.pop(0) if len(self._script) > 1 else self._script[0]
        return result() if callable(result) else result

    def close(self) -> None:
        self.closed += 1

    def describe(self) -> str:
        return "the test"

    def after_fork_in_child(self) -> None:
        self.forks += 1


class Books:
    """A destination and its ledger, with the check that every test ends with."""

    def __init__(
        self,
        transport: Transport,
        policy: RetryPolicy = QUICK,
        limits: Limits | None = None,
        spool: Spool | None = None,
        signal: str = "traces",
    ) -> None:
        self.ledger = Ledger(signal)
        at = SpoolAt(spool.place.directory, lambda: spool) if spool is not None else None
        self.destination = Destination(transport, {signal: self.ledger}, policy, limits, spool=at)

    def submit(self, *payloads: Payload) -> None:
        for one in payloads:
            self.ledger.ended(one.items)
            self.destination.submit(one)

    def flush(self, seconds: float = 5.0) -> bool:
        return self.destination.flush(time.monotonic() + seconds)

    def shutdown(self, seconds: float = 5.0) -> bool:
        return self.destination.shutdown(time.monotonic() + seconds)

    def check(self) -> None:
        """The equation holds, and what the ledger calls queued is what the queue holds."""
        snapshot = self.ledger.snapshot()
        assert snapshot.balanced, snapshot
        assert snapshot.queued == self.destination.queued_items, snapshot
