"""Those that take spans and show them, each as a process on ports of its own with its store in a folder: `otelagent ui`
and Jaeger with its embedded disk store, badger."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.environments import ROOT, Unavailable, python_of

__all__ = ["JAEGER", "VIEWER", "Running", "running"]

VIEWER, JAEGER = "otelagent-viewer", "jaeger"
CONFIG = Path(__file__).with_name("jaeger-badger.yaml")
_EXPORTED = re.compile(r"^otelcol_exporter_sent_spans(?:_total|__spans__total)?\{.*\} ([0-9.e+]+)$", re.MULTILINE)


@dataclass(frozen=True)
class Running:
    """One of them.

    :param otlp: its address for OTLP/HTTP, without path.
    :param api: its address for questions, without path.
    :param headers: of questions.
    :param stored: tells how many spans it has in its store.
    """

    pid: int
    otlp: str
    api: str
    headers: dict[str, str]
    stored: Callable[[], int]

    def ask(self, path: str) -> tuple[float, bytes]:
        """The seconds from the request to the answer's last byte, and the answer."""
        request = urllib.request.Request(self.api + path, headers=self.headers)
        began = time.perf_counter()
        with urllib.request.urlopen(request, timeout=120) as answer:
            body: bytes = answer.read()
        return time.perf_counter() - began, body

    @property
    def peak_mib(self) -> float:
        """The most resident memory so far, mapped files included; 0 where the system doesn't say."""
        return self._status("VmHWM")

    @property
    def cpu_s(self) -> float:
        """CPU seconds so far."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _status(self, name: str) -> float:
        try:
            text = Path(f"/proc/{self.pid}/status").read_text()
        except OSError:
            return 0.0
        found = re.search(rf"{name}:\s+(\d+) kB", text)
        return int(found[1]) / 1024 if found else 0.0


@contextmanager
def running(peer: str, folder: Path) -> Iterator[Running]:
    """Starts one, and ends it.

    :param folder: for its store; what is there is opened.
    :raises Unavailable: it isn't built, or doesn't start.
    """
    with (_viewer if peer == VIEWER else _jaeger)(folder) as one:
        yield one


@contextmanager
def _viewer(folder: Path) -> Iterator[Running]:
    python = python_of("otelagent", lambda text: print(text, file=sys.stderr, flush=True))
    store = folder / "traces.db"
    command = [str(python), "-m", "otelagent.cli.main", "ui", "--port", "0", "--store", str(store)]
    # Where nobody finds it who looks for a viewer, or ends those that run.
    environ = {name: value for name, value in os.environ.items() if name != "XDG_RUNTIME_DIR"}
    environ["XDG_STATE_HOME"] = str(folder / "state")
    process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        found = re.search(r"(http://[\d.]+:\d+)/\?token=(\S+)", process.stdout.readline())
        if found is None:
            raise Unavailable("otelagent ui didn't start")
        address, token = found.groups()

        def stored() -> int:
            connection = sqlite3.connect(f"file:{store}?mode=ro", uri=True)
            try:
                return int(connection.execute("SELECT count(*) FROM span").fetchone()[0])
            finally:
                connection.close()

        yield Running(process.pid, address, address, {"Authorization": f"Bearer {token}"}, stored)
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=120)


@contextmanager
def _jaeger(folder: Path) -> Iterator[Running]:
    sys.path.insert(0, str(ROOT / "collector-config"))
    try:
        import backends
    finally:
        sys.path.pop(0)
    for part in ("keys", "values"):
        (folder / part).mkdir(exist_ok=True)
    try:
        with backends.Jaeger(folder, config=CONFIG) as jaeger:
            metrics = f"http://{jaeger.address('metrics')}/metrics"

            def stored() -> int:
                with urllib.request.urlopen(metrics, timeout=30) as answer:
                    return sum(int(float(number)) for number in _EXPORTED.findall(answer.read().decode()))

            yield Running(jaeger.pid, jaeger.otlp_http, jaeger.query_url, {}, stored)
    except backends.MissingBinary as error:
        raise Unavailable("the real Jaeger is not built: make backends") from error
