"""Applications under test: commands as a user types them, what they exported, and what their processes' books say."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import backends
from backends import Backends, Collector, Port, Span, group_members, wait_for
from tests.e2e.web import Client, accepts
from tests.support import ENGINE

__all__ = ["Application", "Bench", "Sink", "Stack", "servers", "shape"]

SCRIPTS = Path(sys.executable).parent
LEDGERS = Path(__file__).parent / "ledgers"
START_TIMEOUT_S = 30.0
END_TIMEOUT_S = 20.0

Protocol = Literal["http/protobuf", "grpc"]


class Sink:
    """Where an application's spans go: a collector, or a file when there is none."""

    def __init__(self, file: Path, environ: Mapping[str, str]) -> None:
        self.file = file
        self.environ = dict(environ)

    @classmethod
    def to_file(cls, path: Path) -> Sink:
        return cls(path, {"OTELAGENT_EXPORTER": "file", "OTELAGENT_FILE": str(path)})

    @classmethod
    def to_collector(cls, collector: Collector, protocol: Protocol = "http/protobuf", compression: str = "") -> Sink:
        endpoint = collector.otlp_grpc if protocol == "grpc" else collector.otlp_http
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol}
        return cls(collector.file, environ | ({"OTEL_EXPORTER_OTLP_COMPRESSION": compression} if compression else {}))


class Stack:
    """The real collector, Jaeger and Zipkin, all running."""

    def __init__(self, programs: Backends) -> None:
        self.collector = programs.collector
        self.jaeger_url = programs.jaeger.query_url
        self.zipkin_url = programs.zipkin.query_url

    def expect_everywhere(self, spans: Sequence[Span]) -> None:
        """Asserts that Jaeger and Zipkin hold exactly these spans in their traces, by trace, span and parent id."""
        for trace_id in {span.trace_id for span in spans}:
            wanted = _ids(span for span in spans if span.trace_id == trace_id)

            def equals(read: Callable[[str, str], list[Span]], url: str, ids: Any = wanted, of: str = trace_id) -> bool:
                found = _ids(read(url, of))
                assert not found - ids, f"spans that nobody sent: {found - ids}"
                return bool(found == ids)

            wait_for(lambda: equals(backends.jaeger_trace, self.jaeger_url), 20, what=f"trace {trace_id} in Jaeger")
            wait_for(lambda: equals(backends.zipkin_trace, self.zipkin_url), 20, what=f"trace {trace_id} in Zipkin")


class Application:
    """One command with its children, in a process group of its own; its output goes to a file."""

    def __init__(self, command: Sequence[str], cwd: Path, environ: Mapping[str, str], log: Path) -> None:
        self.command = list(command)
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                self.command,
                cwd=cwd,
                env=dict(environ),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    @property
    def tail(self) -> str:
        """The end of the output, for messages."""
        return self.output[-3000:]

    def wait_serving(self, port: int) -> None:
        """Until the port takes connections."""
        self.wait(lambda: accepts(port), f"port {port}")

    def wait(self, happens: Callable[[], object], what: str, deadline_s: float = START_TIMEOUT_S) -> None:
        """Until it happens, unless the application ends before."""

        def check() -> bool:
            if happens():
                return True
            assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.tail}"
            return False

        try:
            wait_for(check, deadline_s, what=what)
        except TimeoutError as error:
            raise AssertionError(f"{error}\n{self.tail}") from None

    def end(self, signum: int | None = signal.SIGTERM, *, group: bool = False) -> int:
        """Sends the signal (to the whole group as a terminal does, if told), waits, and returns the exit code.

        Asserts that the command takes its children with it.
        """
        if signum is not None:
            (os.killpg if group else os.kill)(self.process.pid, signum)
        try:
            code = self.process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.command} doesn't end:\n{self.tail}") from None
        wait_for(lambda: not group_members(self.process.pid), 10, what=f"the end of the children of {self.command}")
        return code

    def close(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@dataclass
class Bench:
    """A directory in which applications are written and run, and the spans and books of all of them.

    :ivar mark: a resource attribute by which this bench's spans are known among those of others.
    """

    directory: Path
    sink: Sink
    mark: str = field(default_factory=lambda: secrets.token_hex(8))
    _running: list[Application] = field(default_factory=list)
    _ports: list[Port] = field(default_factory=list)

    def write(self, name: str, text: str) -> Path:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    def port(self) -> int:
        """A free port, kept from others until the end of the test; a server that sets SO_REUSEADDR may take it."""
        port = Port()
        self._ports.append(port)
        return port.number

    def environ(self, *, books: bool = True, service: str = "app", **changes: str) -> dict[str, str]:
        """The environment of an application: a user's, with no setting of whoever runs the tests but the engine."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("OTEL", "PYTHON", "FLASK_", "WERKZEUG_", "DJANGO_")) and "proxy" not in name.lower()
        }
        environ = kept | {
            "PATH": f"{SCRIPTS}{os.pathsep}{kept.get('PATH', '')}",
            "HOME": str(self.directory),  # where gunicorn puts a socket
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUNBUFFERED": "1",
            "OTEL_SERVICE_NAME": service,
            "OTEL_RESOURCE_ATTRIBUTES": f"e2e.bench={self.mark}",
            **ENGINE,
            **self.sink.environ,
        }
        if books:
            self._ledgers.mkdir(exist_ok=True)
            environ |= {"PYTHONPATH": str(LEDGERS), "E2E_LEDGERS": str(self._ledgers)}
        return environ | changes

    def start(
        self,
        *command: str | Path,
        run: bool = True,
        options: Sequence[str] = (),
        books: bool = True,
        service: str = "app",
        port: int | None = None,
        **environ: str,
    ) -> Application:
        """Starts a command, by `otelagent-run` with these options unless `run` is false.

        :param books: whether the ledgers of its processes are written; without, nothing of otelagent is in it.
        :param port: wait until it is open.
        """
        launcher = [str(SCRIPTS / "otelagent-run"), *options] if run else []
        log = self.directory / f"output-{len(self._running)}.log"
        variables = self.environ(books=books, service=service, **environ)
        application = Application([*launcher, *map(str, command)], self.directory, variables, log)
        self._running.append(application)
        if port is not None:
            application.wait_serving(port)
        return application

    def run(self, *command: str | Path, **keywords: Any) -> tuple[int, str]:
        """Runs a command to its end: its exit code, and all it wrote."""
        application = self.start(*command, **keywords)
        code = application.end(None)
        return code, application.output

    @property
    def _ledgers(self) -> Path:
        return self.directory / "ledgers"

    @property
    def books(self) -> dict[int, dict[str, Any]]:
        """The last status of every process that has ended, by process id."""
        return {int(path.stem): json.loads(path.read_text()) for path in self._ledgers.glob("[0-9]*.json")}

    def spans(self) -> list[Span]:
        """What has arrived from this bench's applications."""
        return [
            span for span in backends.collector_spans(self.sink.file) if span.resource.get("e2e.bench") == self.mark
        ]

    def settle(self, *, all_delivered: bool = True, killed: bool = False) -> list[Span]:
        """Asserts that the books of every process that has ended balance and agree with what has arrived.

        :param all_delivered: also that nothing was rejected, dropped or left.
        :param killed: the collector was, perhaps between writing a request and answering it: then it gets it twice.
        :returns: the spans that have arrived, each once.
        """
        spans, books = self.spans(), self.books
        if killed:
            spans = list({span.span_id: span for span in spans}.values())
        assert books, "no process has written its books"
        for pid, status in books.items():
            ledger = status["ledger"]["traces"]
            assert ledger["balanced"] is True, (pid, ledger)
            if all_delivered:
                assert (ledger["delivered"], ledger["queued"]) == (ledger["ended"], 0), (pid, ledger)
        delivered = {pid: status["ledger"]["traces"]["delivered"] for pid, status in books.items()}
        arrived = Counter(span.resource["process.pid"] for span in spans)
        wanted = Counter({pid: count for pid, count in delivered.items() if count})
        assert arrived == wanted, f"arrived and delivered by process: {arrived}, {wanted}"
        assert max(Counter(span.span_id for span in spans).values(), default=1) == 1, "a span arrived twice"
        instances = {(span.resource["process.pid"], span.resource["service.instance.id"]) for span in spans}
        assert len(instances) == len(arrived) == len({instance for _, instance in instances}), instances
        return spans

    def close(self) -> None:
        for application in self._running:
            application.close()
        for port in self._ports:
            port.close()


def servers(spans: Iterable[Span], client: Client, *, broken: bool = False) -> dict[str, Span]:
    """Asserts that each request that was answered has exactly one SERVER span, by trace, parent id and status.

    :param broken: connections broke on purpose, so a request without an answer may have a span as well.
    :returns: the SERVER spans by trace id.
    """
    found = [span for span in spans if span.kind == "server" and span.trace_id in client.sent]
    wanted = Counter(answer.trace_id for answer in client.answered)
    counted = Counter(span.trace_id for span in found)
    if broken:
        counted = Counter({trace_id: count for trace_id, count in counted.items() if trace_id in wanted})
    assert counted == wanted
    by_trace = {span.trace_id: span for span in found}
    for answer in client.answered:
        span = by_trace[answer.trace_id]
        assert span.parent_id == answer.parent_id
        assert span.attributes.get("http.response.status_code") == answer.status
    return by_trace


def shape(spans: Iterable[Span]) -> set[tuple[str, str]]:
    """Each span's name with its parent's name, "" for none and "?" for one that isn't among them."""
    spans = list(spans)
    names = {span.span_id: span.name for span in spans}
    return {(names.get(span.parent_id, "?") if span.parent_id else "", span.name) for span in spans}


def _ids(spans: Iterable[Span]) -> Counter[tuple[str, str, str]]:
    return Counter((span.trace_id, span.span_id, span.parent_id) for span in spans)
