"""``otelagent demo``: a small shop of two services, traced into the viewer and shown in the terminal."""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

if TYPE_CHECKING:
    from otelagent.terminal import LocalTrace, Style
    from otelagent.viewer.process import Running

__all__ = ["main"]

_NEEDED = ("fastapi", "flask", "requests", "starlette", "uvicorn")
_HERE = Path(__file__).resolve().parents[1]
# Of a wheel, and of a clone.
_SHOPS = (_HERE / "examples" / "shop", _HERE.parent / "examples" / "shop")

_START_S = 30.0
_STOP_S = 5.0
_ARRIVAL_S = 20.0
_REQUEST_S = 15.0
_LOG_LINES = 15
# Settings of whoever runs the demo are for other programs.
_NOT_INHERITED = ("OTEL", "PYTHON", "FLASK_", "UVICORN_", "SHOP_")
_AGENT = ("--logs-exporter=otlp", "--logs-level=info", "--excluded-urls=/health$", "--no-spool", "--quiet")


class DemoError(Exception):
    """What was to be shown isn't so; the text says what."""


@dataclass(frozen=True)
class Visit:
    """One request to the shop's gateway, and what its trace has to have.

    :ivar root: the name of its first span.
    :ivar spans: how many it has, at least.
    :ivar errors: whether some of them failed.
    :ivar title: what is to be seen in it; empty for one that is a line only, without a tree.
    """

    method: str
    path: str
    status: int
    root: str
    spans: int
    errors: bool = False
    title: str = ""
    body: Mapping[str, object] | None = None


_VISITS = (
    Visit("GET", "/products", 200, "GET /products", 4),
    Visit("GET", "/basket?sku=bread&sku=cheese", 200, "GET /basket", 7),
    Visit("POST", "/orders", 201, "POST /orders", 12, body={"sku": "apple", "quantity": 2}),
    Visit("GET", "/products/unicorn", 404, "GET /products/{sku}", 4, errors=True),
    Visit("GET", "/prices", 200, "GET /prices", 8, title="A query in a loop"),
    Visit(
        "GET", "/products/mystery-box", 502, "GET /products/{sku}", 4, errors=True, title="An exception, a service away"
    ),
    Visit("GET", "/report", 200, "GET /report", 4, title="A report that takes its time"),
)


def main(arguments: Sequence[str]) -> int:
    """The command.

    :returns: 0 if the shop's traces are in the viewer, 1 if not, 2 if something is missing, 130 when interrupted.
    """
    argparse.ArgumentParser(
        prog="otelagent demo",
        description="Runs a small shop of two services, sends it requests, shows its traces here and in the viewer.",
    ).parse_args(arguments)
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        print(
            f"otelagent demo needs what an extra brings: pip install 'otelagent[demo]' ({', '.join(missing)} missing)",
            file=sys.stderr,
        )
        return 2
    _on_signals(signal.default_int_handler)
    folder = Path(tempfile.mkdtemp(prefix="otelagent-demo-"))
    services: list[_Service] = []
    try:
        _run(folder, services)
    except BrokenPipeError:  # Who reads this has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (DemoError, OSError, http.client.HTTPException) as error:
        print(f"\notelagent demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        _on_signals(signal.SIG_IGN)  # what was started ends now, whoever is impatient
        _stop(services)
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def _run(folder: Path, services: list[_Service]) -> None:
    from otelagent.terminal import Output
    from otelagent.viewer.process import ViewerError, find_or_start

    style = Output(sys.stdout.fileno()).style()
    shop = next((place for place in _SHOPS if (place / "gateway.py").is_file()), None)
    if shop is None:
        raise DemoError("its shop is not installed with it")
    try:
        viewer = find_or_start()
    except ViewerError as error:
        raise DemoError(str(error)) from None
    _say(f"· the viewer {'is started' if viewer.started_here else 'runs already'}: {viewer.http}")

    begun_ns = time.time_ns()
    inventory = _Service("inventory", shop, folder, viewer.http, {"SHOP_DB": str(folder / "shop.db")})
    gateway = _Service("gateway", shop, folder, viewer.http, {"INVENTORY_URL": inventory.url})
    services += [inventory, gateway]
    for service in services:
        service.launch()
        _say(f"· {service.command}")
    for service in services:
        service.wait()
    for visit in _VISITS:
        _pay(gateway, visit)
    _say(f"· {len(_VISITS)} requests are answered; the shop closes and hands over what is left")
    _stop(services)

    traces = _arrived(viewer, begun_ns)
    for visit, trace in traces:
        _show(visit, trace, style)
    logs = sum(len(_ask(viewer, "logs", trace=trace.root.trace_id.hex())["logs"]) for _, trace in traces)
    spans = sum(trace.count for _, trace in traces)
    _say(f"\nThese {len(traces)} traces are in the viewer, {spans} spans and {logs} log records, and come from there.")
    _say("It ends by `otelagent ui --stop`; in the background also by itself when nobody has used it for a while.")
    _say(f"{viewer.address}#/traces?service=gateway")


@dataclass
class _Service:
    """One of the shop's programs under ``otelagent-run``, in a session of its own, its output in a file."""

    name: str
    shop: Path
    folder: Path
    endpoint: str
    environ: Mapping[str, str]
    port: int = field(default_factory=lambda: _free_port())
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def command(self) -> str:
        """As one would type it."""
        return f"otelagent-run --service-name={self.name} --endpoint={self.endpoint} … python {self.name}.py"

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    def launch(self) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_INHERITED)}
        for name in ("PYTHONPATH", "PYTHONHOME"):
            if name in os.environ:
                kept[name] = os.environ[name]
        agent = [sys.executable, "-m", "otelagent.cli.run"]
        options = [f"--service-name={self.name}", f"--endpoint={self.endpoint}", *_AGENT]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*agent, *options, sys.executable, str(self.shop / f"{self.name}.py")],
                cwd=self.folder,
                # Neither service is behind a proxy of the user's.
                env={**kept, "NO_PROXY": "*", "no_proxy": "*", "PORT": str(self.port), **self.environ},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait(self) -> None:
        """Waits until it answers."""
        until_s = time.monotonic() + _START_S
        while True:
            assert self.process is not None
            if self.process.poll() is not None:
                raise DemoError(f"the {self.name} has ended at its start\n{self.tail()}")
            with contextlib.suppress(OSError, http.client.HTTPException):
                if _request(self.url, "GET", "/health")[0] == 200:
                    return
            if time.monotonic() > until_s:
                raise DemoError(f"the {self.name} does not answer after {_START_S:.0f} s\n{self.tail()}")
            time.sleep(0.05)

    def tail(self) -> str:
        """The end of its output."""
        lines = self.log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
        return "\n".join([f"--- {self.name} ---", *lines])


def _stop(services: Sequence[_Service]) -> None:
    """Ends services and whatever they have started; they deliver what they have at their end."""
    running = [service.process for service in services if service.process is not None]
    for process in running:
        with contextlib.suppress(ProcessLookupError):
            if process.poll() is None:
                process.terminate()
    until_s = time.monotonic() + _STOP_S
    for process in running:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(until_s - time.monotonic(), 0.1))
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _pay(gateway: _Service, visit: Visit) -> None:
    """A visit to the shop."""
    body = json.dumps(visit.body).encode() if visit.body is not None else None
    status, answer = _request(gateway.url, visit.method, visit.path, body, {"content-type": "application/json"})
    if status != visit.status:
        raise DemoError(
            f"{visit.method} {visit.path} was answered with {status}, not {visit.status}: {answer[:300]!r}\n"
            + gateway.tail()
        )


def _arrived(viewer: Running, begun_ns: int) -> list[tuple[Visit, LocalTrace]]:
    """Each visit's trace as the viewer has it, once it has all of them."""
    until_s = time.monotonic() + _ARRIVAL_S
    while True:
        listed = _ask(viewer, "traces", service="gateway", **{"from": begun_ns}, limit=100)["traces"]
        traces = [_read(viewer, one["id"]) for one in listed if len(one["services"]) > 1]
        found = [(visit, trace) for visit in _VISITS for trace in traces if _fits(trace, visit)]
        if len(found) == len(_VISITS):
            return found
        if time.monotonic() > until_s:
            there = {id(visit) for visit, _ in found}
            missing = ", ".join(f"{visit.method} {visit.path}" for visit in _VISITS if id(visit) not in there)
            raise DemoError(f"the viewer has no whole trace of {missing} after {_ARRIVAL_S:.0f} s")
        time.sleep(0.1)


def _fits(trace: LocalTrace, visit: Visit) -> bool:
    return (
        (trace.root.name, trace.root.http_status) == (visit.root, str(visit.status))
        and {span.service for span in trace.spans} == {"gateway", "inventory"}
        and trace.count >= visit.spans
        and bool(trace.errors) is visit.errors
    )


def _read(viewer: Running, trace_id: str) -> LocalTrace:
    """A trace as the viewer exports it."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    from otelagent.terminal import LocalTrace, read_request
    from otelagent.viewer.ingest.json_request import message_of

    text = json.dumps(_ask(viewer, f"traces/{trace_id}/otlp")).encode()
    spans = read_request(message_of(text, ExportTraceServiceRequest()).SerializeToString())
    root = next((span for span in spans if not span.parent_id), None)
    if root is None:
        raise DemoError(f"the viewer's trace {trace_id} has no root")
    return LocalTrace(root, spans, errors=sum(span.failed for span in spans))


def _show(visit: Visit, trace: LocalTrace, style: Style) -> None:
    from otelagent.terminal import draw_line, draw_tree

    text = draw_line(trace, style)
    if visit.title:
        text = f"\n{visit.title}:\n{text}{draw_tree(trace.spans, style, indent='  ')}"
    _say(text.rstrip("\n"))


def _ask(viewer: Running, path: str, **query: object) -> Any:
    """What the viewer's API answers."""
    status, answer = _request(
        viewer.http, "GET", f"/api/{path}?{urlencode(query)}", None, {"Authorization": f"Bearer {viewer.token}"}
    )
    if status != 200:
        raise DemoError(f"the viewer answered /api/{path} with {status}: {answer[:300]!r}")
    return json.loads(answer)


def _request(
    url: str, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> tuple[int, bytes]:
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=_REQUEST_S)
    try:
        connection.request(method, path, body, dict(headers or {}))
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _on_signals(handler: Any) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, handler)


def _say(text: str) -> None:
    encoding = sys.stdout.encoding or "ascii"
    print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)
