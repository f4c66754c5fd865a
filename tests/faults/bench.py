"""Where one case of a fault happens to one subject: its directory, servers and applications."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from backends import Collector, collector_spans
from tests.delivery.harness import FaultServer
from tests.faults.application import SETUP

__all__ = ["OK", "ROOT", "Application", "Bench", "BlackHole"]

ROOT = Path(__file__).resolve().parents[2]

OK: dict[str, Any] = {"status": 200, "takes": True}
"""The action of a server that works, HTTP or gRPC."""


class BlackHole:
    """An address that answers nothing at all, not even a connection's first packet."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=0)
        self.port: int = self._listener.getsockname()[1]
        self.endpoint = f"http://127.0.0.1:{self.port}/v1/traces"
        # When nobody takes the connections that wait, Linux drops what comes after them.
        self._waiting = [socket.socket() for _ in range(3)]
        for connection in self._waiting:
            connection.setblocking(False)
            connection.connect_ex(("127.0.0.1", self.port))

    def close(self) -> None:
        """From now on the address refuses connections."""
        for connection in (self._listener, *self._waiting):
            connection.close()


class Application:
    """A process under fault, with its children a group of its own.

    :ivar told: the last thing that each process said, by process id.
    :ivar overdue: whether it had to be killed, because it did not end.
    """

    def __init__(self, command: Sequence[str], directory: Path, environ: Mapping[str, str], name: str) -> None:
        self._output, self._errors = directory / f"{name}.out", directory / f"{name}.err"
        with self._output.open("ab") as output, self._errors.open("ab") as errors:
            self.process = subprocess.Popen(
                list(command),
                cwd=ROOT,
                env=dict(environ),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                start_new_session=True,
            )
        self.told: dict[int, dict[str, Any]] = {}
        self.overdue = False

    def wait(self, timeout_s: float = 60.0) -> dict[str, Any]:
        """Waits for its end: what it told last, empty if it told nothing."""
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.overdue = True
        return self.listen()

    def listen(self) -> dict[str, Any]:
        """What its first process has told last."""
        for line in self._output.read_text(errors="replace").splitlines():
            with suppress(ValueError):
                told = json.loads(line)
                if isinstance(told, dict) and "pid" in told:
                    self.told[told["pid"]] = told
        return self.told.get(self.process.pid, {})

    def lines(self) -> list[str]:
        """All that it has said."""
        return self._output.read_text(errors="replace").splitlines()

    @property
    def errors(self) -> str:
        """Its standard error."""
        return self._errors.read_text(errors="replace")

    def close(self) -> None:
        """Ends what is left of it."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Bench:
    """:param subject: ``native``, ``sdk`` or ``stock``.

    :ivar directory: for files; the applications' state is in it too, so that one finds what another has left.
    :ivar twice: the servers may get a span again that they have taken.
    :ivar unanswered: the servers may have taken more than the ledgers know.
    :ivar killed: an application died before it could say its last.
    :ivar destinations: to how many places each span goes; each has its ledger, so that all counts are as many times.
    :ivar complaints: the claims that don't hold.
    """

    def __init__(self, subject: str, directory: Path) -> None:
        self.subject = subject
        self.directory = directory
        self.servers: list[FaultServer] = []
        self.applications: list[Application] = []
        self.told: list[dict[str, Any]] = []
        self.collectors: list[Collector] = []
        self.complaints: list[str] = []
        self.destinations = 1
        self.twice = self.unanswered = self.killed = False

    @property
    def otelagent(self) -> bool:
        """Whether the subject is ours."""
        return self.subject != "stock"

    def server(self, *script: dict[str, Any], protocol: str = "http", port: int = 0) -> FaultServer:
        """Starts a server that acts by this script, one action per request; the last repeats."""
        self.servers.append(FaultServer(protocol, *script, port=port, spans=True))
        return self.servers[-1]

    def collector(self) -> Collector:
        """Starts the real collector, with its own limits; what is in its file is what it took."""
        collector = Collector(self.directory / "collector")
        self.collectors.append(collector)
        collector.start()
        return collector

    def start(
        self,
        program: str,
        *,
        to: FaultServer | Collector | str,
        protocol: str = "http",
        environ: Mapping[str, str] | None = None,
        **settings: Any,
    ) -> Application:
        """Starts an application.

        :param program: what it does with `agent`, as Python source; then it shuts down.
        :param to: where it sends.
        :param environ: changes of the environment.
        :param settings: of otelagent; the stock SDK has none of them but `headers` and `timeout_ms`.
        """
        path = self.directory / f"program-{len(self.applications)}.py"
        path.write_text(program)
        command = [sys.executable, "-m", "tests.faults.application", str(path)]
        return self.command(command, to=to, protocol=protocol, environ=environ, **settings)

    def run(self, program: str, *, timeout_s: float = 60.0, **start: Any) -> dict[str, Any]:
        """Starts an application and waits for its end: what it told last. Takes what `start` does."""
        return self.start(program, **start).wait(timeout_s)

    def command(
        self,
        command: Sequence[str],
        *,
        to: FaultServer | Collector | str,
        protocol: str = "http",
        environ: Mapping[str, str] | None = None,
        **settings: Any,
    ) -> Application:
        """Starts a command as the application, in whose Python processes `application.start()` is the subject."""
        if isinstance(to, FaultServer):
            to = f"http://127.0.0.1:{to.port}" if protocol == "grpc" else to.endpoint
        elif isinstance(to, Collector):
            to = to.otlp_grpc if protocol == "grpc" else f"{to.otlp_http}/v1/traces"
        settings |= {"endpoint": to, "protocol": "grpc" if protocol == "grpc" else "http/protobuf"}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL", "PYTHON"))}
        variables = {
            **inherited,
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "XDG_STATE_HOME": str(self.directory / "state"),
            SETUP: json.dumps({"subject": self.subject, "settings": settings}),
            **(environ or {}),
        }
        application = Application(command, self.directory, variables, f"application-{len(self.applications)}")
        self.applications.append(application)
        return application

    def add(self, ledger: Mapping[str, Any] | None, made: Sequence[str], **told: Any) -> None:
        """Counts a process that the bench didn't start.

        :param ledger: `otelagent.status()["ledger"]["traces"]` at its end; None for the stock SDK.
        :param made: the ids of the spans that ended in it, 16 hex digits.
        """
        self.told.append({"ledger": ledger, "made": list(made), "flushed": None, **told})

    def expect(self, holds: object, otherwise: str) -> None:
        """A claim of the fault.

        :param otherwise: what is so if it doesn't hold, without a subject: ``sends it again``.
        """
        if not holds:
            self.complaints.append(otherwise)

    def taken(self) -> list[tuple[int, str]]:
        """The port and the id of each span that the servers and collectors have taken, as often as they did."""
        of_servers = [
            (server.port, span) for server in self.servers for request in server.requests for span in request["taken"]
        ]
        of_collectors = [
            (0, span.span_id)
            for collector in self.collectors
            if collector.file.exists()
            for span in collector_spans(collector.file)
        ]
        return of_servers + of_collectors

    def close(self) -> None:
        """Ends everything; nothing more is told then."""
        for application in self.applications:
            application.close()
        for server in self.servers:
            if server.running:
                server.stop()
        for collector in self.collectors:
            collector.close()
