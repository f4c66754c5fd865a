"""``otelagent demo`` as a user runs it: what it prints, its exit status, and that nothing but the viewer is left."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support import processes_with

DEMO = [sys.executable, "-m", "otelagent.cli.main", "demo"]
LINE = re.compile(r"\d\d:\d\d:\d\d\.\d{3} .*  (\d+) spans(?:, (\d+) errors?)?  ([0-9a-f]{8})")
PATIENCE_S = 100
INTERRUPTED = 130


class Bench:
    """A user with a home of its own, whose processes are known by it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL", "PYTHONPATH"))}
        self.environ = {
            **inherited,
            "HOME": str(folder),
            "XDG_RUNTIME_DIR": str(folder),
            "TMPDIR": str(self.temporary),
            # Settings of the user's are for the user's programs.
            "OTELAGENT_EXPORTER": "none",
        }

    def run(self, command: list[str] = DEMO, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            env=self.environ | environ,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE_S,
        )

    def processes(self) -> list[str]:
        """Command lines of the processes that run with its temporary directory, but for the viewer's."""
        found = processes_with(f"TMPDIR={self.temporary}")
        return [command for command in found if "otelagent.viewer" not in command]

    def expect_nothing_left(self) -> None:
        assert self.processes() == []
        assert list(self.temporary.glob("otelagent-demo*")) == []


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.run([*DEMO[:-1], "ui", "--stop"])


def ask(address: str, path: str) -> Any:
    """What the viewer answers to one who has the address that was printed."""
    (token,) = parse_qs(urlsplit(address).query)["token"]
    asked = urllib.request.Request(
        f"http://{urlsplit(address).netloc}/api/{path}", headers={"Authorization": f"Bearer {token}"}
    )
    with urllib.request.urlopen(asked, timeout=30) as answer:
        return json.load(answer)


def test_what_it_prints_is_on_the_page(bench: Bench) -> None:
    done = bench.run()
    assert done.returncode == 0, done.stdout
    lines = done.stdout.splitlines()
    assert "the viewer is started" in lines[0]
    shown = {match[3]: (int(match[1]), int(match[2] or 0)) for match in map(LINE.fullmatch, lines) if match}
    assert len(shown) == 7

    address = lines[-1]
    assert urlsplit(address).fragment == "/traces?service=gateway"
    listed = ask(address, "traces?service=gateway")["traces"]
    assert {one["id"][:8]: (one["spans"], one["errors"]) for one in listed} == shown
    assert all(dict(one["services"]).keys() == {"gateway", "inventory"} for one in listed)

    tree = done.stdout.partition("A query in a loop:")[2]
    assert "SELECT products x9 [client]  SELECT name, price, stock" in tree
    broken = tree.partition("An exception, a service away:")[2]
    assert "inventory: GET /products/<sku> [server] 500" in broken
    assert "ValueError: invalid literal for int() with base 10: 'ask us'" in broken
    (failed,) = {match[3] for match in map(LINE.fullmatch, broken.splitlines()) if match and "502" in match[0]}
    (trace_id,) = (one["id"] for one in listed if one["id"].startswith(failed))
    assert any("mystery-box" in one["body"] for one in ask(address, f"logs?trace={trace_id}")["logs"])
    assert "\x1b" not in done.stdout
    bench.expect_nothing_left()

    again = bench.run(FORCE_COLOR="1")
    assert again.returncode == 0, again.stdout
    assert "the viewer runs already" in again.stdout
    assert again.stdout.splitlines()[-1] == address
    assert "\x1b[31m" in again.stdout
    assert len(ask(address, "traces?service=gateway")["traces"]) == 14
    bench.expect_nothing_left()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: str(number.name))
def test_it_cleans_up_when_interrupted(bench: Bench, number: signal.Signals) -> None:
    with subprocess.Popen(
        DEMO,
        env=bench.environ,
        cwd=bench.folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        seen = ""
        while "python gateway.py" not in seen:
            line = process.stdout.readline()
            assert line, seen
            seen += line
        assert any("inventory.py" in command for command in bench.processes())
        process.send_signal(number)
        rest = process.stdout.read()
        assert process.wait(PATIENCE_S) == INTERRUPTED, seen + rest
    assert "Traceback" not in rest
    bench.expect_nothing_left()


def test_who_reads_its_output_may_leave(bench: Bench) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with subprocess.Popen(
        DEMO, env=bench.environ, cwd=bench.folder, stdin=subprocess.DEVNULL, stdout=writer, stderr=subprocess.PIPE
    ) as process:
        os.close(writer)
        assert process.stderr is not None
        assert process.stderr.read() == b""
        assert process.wait(PATIENCE_S) == 1
    bench.expect_nothing_left()


def test_a_service_that_does_not_start_is_told_with_the_end_of_its_log(bench: Bench) -> None:
    (bench.folder / "requests.py").write_text("raise RuntimeError('broken for this test')")
    done = bench.run(PYTHONPATH=str(bench.folder))
    assert done.returncode == 1
    assert "otelagent demo: the gateway has ended at its start" in done.stdout
    assert "RuntimeError: broken for this test" in done.stdout
    bench.expect_nothing_left()


def test_a_viewer_that_cannot_be_started(bench: Bench) -> None:
    (bench.folder / "uvicorn.py").write_text("raise RuntimeError('broken for this test')")
    done = bench.run(PYTHONPATH=str(bench.folder))
    assert done.returncode == 1
    assert done.stdout.startswith("\notelagent demo: the viewer could not be started: ")
    assert "RuntimeError: broken for this test" in done.stdout
    bench.expect_nothing_left()


def test_a_missing_extra_is_named(bench: Bench) -> None:
    without_flask = """
import importlib.util, sys
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "flask" else found(name, *more)
from otelagent.cli.main import main
sys.exit(main(["demo"]))
"""
    done = bench.run([sys.executable, "-c", without_flask])
    assert done.returncode == 2
    assert done.stdout == ("otelagent demo needs what an extra brings: pip install 'otelagent[demo]' (flask missing)\n")
    bench.expect_nothing_left()
