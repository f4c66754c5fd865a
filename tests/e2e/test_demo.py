"""The demo as a user runs it: what it prints, its exit status, and that nothing of it is left."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support import backends_or_skip, processes_with

pytestmark = pytest.mark.backends

DEMO = Path(__file__).resolve().parents[2] / "examples" / "shop" / "demo.py"
ADDRESS = re.compile(r"127\.0\.0\.1:(\d+)")
INTERRUPTED = 130


class Run:
    """One run of the demo, its temporary files in a directory of their own."""

    def __init__(self, folder: Path, *options: str, **environ: str) -> None:
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self._output = folder / "output"
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, str(DEMO), *options],
                cwd=folder,
                env=os.environ | {"TMPDIR": str(self.temporary)} | environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def output(self) -> str:
        return self._output.read_text()

    def wait_until_it_says(self, text: str, timeout_s: float = 60) -> None:
        deadline = time.monotonic() + timeout_s
        while text not in self.output:
            assert self.process.poll() is None, self.output
            assert time.monotonic() < deadline, self.output
            time.sleep(0.05)

    def processes(self) -> list[str]:
        """Command lines of the processes that run with its temporary directory, which all of its own inherit."""
        return processes_with(f"TMPDIR={self.temporary}")

    def expect_nothing_left(self) -> None:
        assert self.processes() == []
        assert list(self.temporary.glob("otelagent-demo*")) == []
        for port in set(ADDRESS.findall(self.output)):
            with closing(socket.socket()) as client:
                client.settimeout(2)
                assert client.connect_ex(("127.0.0.1", int(port))) != 0, f"port {port} still answers\n{self.output}"


@pytest.fixture(autouse=True)
def programs() -> None:
    backends_or_skip()


@pytest.fixture
def started(tmp_path: Path) -> Iterator[list[Run]]:
    runs: list[Run] = []
    yield runs
    for run in runs:
        run.process.kill()
        run.process.wait()


def section(output: str, title: str) -> list[str]:
    """The lines between a headline and the next blank line."""
    lines = iter(output.splitlines())
    assert any(line.startswith(title) for line in lines), output
    found = []
    for line in lines:
        if not line:
            break
        found.append(line)
    return found


def names(lines: list[str]) -> list[str]:
    """`service: span name [kind]` of each span in a tree, and its depth in front."""
    drawn = (re.fullmatch(r"  ([ │├└─]*)(\w+: .+?)  \[(\w+)\].*", line) for line in lines)
    return [f"{len(match[1]) // 3} {match[2]} [{match[3]}]" for match in drawn if match]


def test_shows_the_traces_of_both_services(tmp_path: Path, started: list[Run]) -> None:
    run = Run(tmp_path, "--no-color")
    started.append(run)
    assert run.process.wait(100) == 0, run.output
    output = run.output

    product = section(output, "One product: GET /products/apple → 200")
    assert names(product) == [
        "0 gateway: GET /products/{sku} [server]",
        "1 gateway: GET [client]",
        "2 inventory: GET /products/<sku> [server]",
        "3 inventory: SELECT products [client]",
    ]

    order = names(section(output, "An order"))
    assert order[0] == "0 gateway: POST /orders [server]"
    assert [name for name in order if name.startswith("1 ")] == [
        "1 gateway: GET [client]",
        "1 gateway: POST [client]",
        "1 gateway: GET [client]",
    ]
    assert order.count("2 inventory: GET /products/<sku> [server]") == 2
    assert order.count("2 inventory: POST /products/<sku>/reservations [server]") == 1
    assert {"3 inventory: UPDATE products [client]", "3 inventory: INSERT reservations [client]"} <= set(order)

    unknown = section(output, "An unknown product")
    assert [line for line in unknown if "[server]" in line and "ERROR" in line] == []
    broken = section(output, "A broken product")
    assert any("inventory: GET /products/<sku>" in line and "!ValueError" in line for line in broken), broken
    assert any("gateway: GET /products/{sku}" in line and "ERROR" in line for line in broken), broken

    # The same tree again from Zipkin, in lower case.
    listed = names(section(output, "A list"))
    jaeger, zipkin = listed[: len(listed) // 2], listed[len(listed) // 2 :]
    assert [name.lower() for name in jaeger] == zipkin
    assert len(jaeger) == 4

    assert "7 traces cross both services" in output
    for path in (r"/api/v3/traces/[0-9a-f]{32}", r"/zipkin/traces/[0-9a-f]{32}"):
        assert len(re.findall(r"http://127\.0\.0\.1:\d+" + path, output)) >= 7
    assert "\x1b" not in output
    run.expect_nothing_left()


def test_keeps_everything_running_until_ctrl_c(tmp_path: Path, started: list[Run]) -> None:
    run = Run(tmp_path, "--keep")
    started.append(run)
    run.wait_until_it_says("Ctrl-C ends it")
    commands = " ".join(run.processes())
    assert all(program in commands for program in ("jaeger", "zipkin", "collector", "gunicorn", "uvicorn")), commands
    run.process.send_signal(signal.SIGINT)
    assert run.process.wait(30) == 0, run.output
    run.expect_nothing_left()


@pytest.mark.parametrize("moment", ["starting the collector", "starting the inventory"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: str(number.name))
def test_cleans_up_when_interrupted(tmp_path: Path, started: list[Run], moment: str, number: signal.Signals) -> None:
    run = Run(tmp_path)
    started.append(run)
    run.wait_until_it_says(moment)
    time.sleep(0.3)
    run.process.send_signal(number)
    assert run.process.wait(30) == INTERRUPTED, run.output
    assert "Traceback" not in run.output
    run.expect_nothing_left()


def test_says_how_to_get_the_programs(tmp_path: Path, started: list[Run]) -> None:
    (tmp_path / "empty").mkdir()
    run = Run(tmp_path, BACKENDS_CACHE=str(tmp_path / "empty"))
    started.append(run)
    assert run.process.wait(30) == 2, run.output
    assert "make backends" in run.output
    run.expect_nothing_left()
