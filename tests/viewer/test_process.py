"""Viewers in the background: started, found, ended; real processes."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from otelagent.viewer import process, state
from otelagent.viewer.process import Running, ViewerError, find, find_or_start, stop
from tests.support import wait_until
from tests.viewer.requests import Traces

COMMAND = [sys.executable, "-m", "otelagent.cli.main", "ui"]


@pytest.fixture(autouse=True)
def none_left() -> Iterator[None]:
    yield
    stop()


def alive(pid: int) -> bool:
    """Whether it runs; one that has ended and waits to be reaped doesn't."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def files() -> list[str]:
    return [path for path, _ in state.read_all()]


def test_one_is_started_once_and_then_found() -> None:
    first = find_or_start(0)
    second = find_or_start(0)
    assert first.started_here
    assert not second.started_here
    assert (second.pid, second.address) == (first.pid, first.address)
    with urllib.request.urlopen(first.address) as page:
        assert page.status == 200
    (path,) = files()
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o700


def test_it_is_nobodys_child_and_holds_nothing_of_its_caller(tmp_path: Path) -> None:
    held = os.open(tmp_path / "held", os.O_WRONLY | os.O_CREAT)
    os.set_inheritable(held, True)
    try:
        running = find_or_start(0)
    finally:
        os.close(held)
    assert f"\nPPid:\t{os.getpid()}\n" not in Path(f"/proc/{running.pid}/status").read_text()
    descriptors = {os.readlink(f"/proc/{running.pid}/fd/{one}") for one in os.listdir(f"/proc/{running.pid}/fd")}
    assert str(tmp_path / "held") not in descriptors
    assert os.getsid(running.pid) != os.getsid(0)
    assert os.readlink(f"/proc/{running.pid}/fd/0") == "/dev/null"
    for one in (1, 2):
        wait_until(lambda one=one: os.readlink(f"/proc/{running.pid}/fd/{one}").endswith("viewer.log"))  # type: ignore[misc]


def test_its_environment_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTELAGENT_ENGINE", "sdk")
    monkeypatch.setenv("PYTHONPATH", f"{process._BOOTSTRAP}{os.pathsep}{os.getcwd()}")
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    running = find_or_start(0)
    given = dict(
        one.split("=", 1) for one in Path(f"/proc/{running.pid}/environ").read_text().split("\0") if "=" in one
    )
    assert not [name for name in given if name.startswith("OTEL")]
    assert given["PYTHONPATH"] == os.getcwd()
    assert "PYTHONWARNINGS" not in given


def test_two_that_start_one_at_once_end_with_one() -> None:
    program = "from otelagent.viewer.process import find_or_start; print(find_or_start(0).pid)"
    starting = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) for _ in range(4)]
    pids = {one.communicate(timeout=60)[0] for one in starting}
    assert len(pids) == 1
    assert len(find()) == 1


def test_where_the_default_port_is_taken_the_next_is() -> None:
    with contextlib.ExitStack() as stack:
        # Where that fails, somebody else has it.
        with contextlib.suppress(OSError):
            stack.enter_context(socket.create_server(("127.0.0.1", process.DEFAULT_PORT)))
        running = find_or_start()
        assert running.port > process.DEFAULT_PORT
        assert running.http == f"http://127.0.0.1:{running.port}"


def test_a_port_that_was_asked_for_and_is_taken_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told = f"port {port} is taken by another program: name another --port, or none for the next that is free"
        refused = ui("--port", str(port))
        assert (refused.returncode, refused.stdout, refused.stderr) == (2, "", f"otelagent ui: {told}\n")
        with pytest.raises(ViewerError, match=told):
            find_or_start(port)
    mine = find_or_start(port).port
    assert f"--stop --port {mine} ends it" in ui("--port", str(mine)).stderr
    assert "'70000' is no port: 1 to 65535" in ui("--port", "70000").stderr


def test_what_a_killed_one_has_left_is_not_taken_for_one() -> None:
    first = find_or_start(0)
    os.kill(first.pid, signal.SIGKILL)
    wait_until(lambda: not alive(first.pid))
    assert len(files()) == 1
    assert find() == []
    assert files() == []
    assert find_or_start(0).started_here


def test_what_a_killed_one_had_stored_goes_with_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    first = find_or_start(0)
    (left,) = tmp_path.iterdir()
    os.kill(first.pid, signal.SIGKILL)
    wait_until(lambda: not alive(first.pid))
    second = find_or_start(0)
    (there,) = tmp_path.iterdir()
    assert there != left
    # One that lives is left alone.
    another = "from otelagent.viewer.store.store import Store; Store().close()"
    subprocess.run([sys.executable, "-c", another], check=True)
    assert list(tmp_path.iterdir()) == [there]
    assert [one.pid for one in find()] == [second.pid]
    stop()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("status", "stays"), [(200, False), (401, False), (404, False), (429, True)])
def test_another_program_on_its_port_is_not_taken_for_it(status: int, stays: bool) -> None:
    class Other(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b'{"pid": 1}')

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Other) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            # Its number has gone to this process, and its port to this server.
            path = state.write(state.State(os.getpid(), server.server_port, None, "token", process._host(), 0.0))
            assert find() == []
            # One that has too much to do now may be the one.
            assert files() == ([path] if stays else [])
        finally:
            server.shutdown()
            serving.join()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', "\xff" * 9000])
def test_a_file_that_is_none_is_passed_over(text: str) -> None:
    directory = Path(state.usable_directory())
    (directory / "4318.json").write_text(text)
    assert find() == []


def test_a_directory_of_somebody_elses_making_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "otelagent").mkdir()
    (tmp_path / "otelagent" / "viewer").symlink_to(tmp_path / "elsewhere")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with pytest.raises(ViewerError, match="it is no directory"):
        find_or_start(0)


def test_why_it_could_not_start_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "missing"))
    monkeypatch.setattr(process, "_environment", lambda environ: {**environ, "PYTHONPATH": "", "PYTHONHOME": "/none"})
    with pytest.raises(ViewerError, match=r"could not be started: .*viewer\.log"):
        find_or_start(0)


def test_what_else_is_printed_at_its_start_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text("print('{hello}')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert find_or_start(0).started_here


def test_it_ends_by_itself_when_nobody_needs_it() -> None:
    running = find_or_start(0, idle_s=0.5)
    wait_until(lambda: not alive(running.pid))
    assert files() == []


def test_it_stays_while_a_page_is_open() -> None:
    running = find_or_start(0, idle_s=0.5)
    asked = urllib.request.Request(f"{running.http}/api/events", headers={"Authorization": f"Bearer {running.token}"})
    with urllib.request.urlopen(asked) as events:
        events.readline()
        until_s = time.monotonic() + 2.0
        wait_until(lambda: time.monotonic() > until_s)
        assert [one.pid for one in find()] == [running.pid]
    wait_until(lambda: not alive(running.pid))


def ui(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *options], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("option", ["--stop", "--status"])
def test_of_a_port_without_a_viewer_it_is_told_where_there_is_one(option: str) -> None:
    running = find_or_start(0)
    asked = ui(option, "--port", "4")
    assert (asked.returncode, asked.stdout) == (1, f"no viewer of yours runs on port 4; there is {running.http}\n")
    assert json.loads(ui(option, "--port", "4", "--json").stdout) == []
    assert alive(running.pid)


def test_the_command_tells_of_it_and_ends_it() -> None:
    assert ui("--status").returncode == 1
    assert ui("--stop").stdout == "no viewer of yours runs\n"
    running = find_or_start(0)
    told = ui()
    assert told.returncode == 0
    assert running.address in told.stdout
    assert "a viewer runs already" in told.stderr
    (listed,) = json.loads(ui("--status", "--json").stdout)
    assert listed["address"] == running.address
    ended = ui("--stop")
    assert (ended.returncode, ended.stdout) == (0, f"ended {running.http}\n")
    assert not alive(running.pid)
    assert files() == []


def test_one_in_the_foreground_is_found_too() -> None:
    foreground = subprocess.Popen([*COMMAND, "--port", "0"], stdout=subprocess.PIPE, text=True)
    assert foreground.stdout is not None
    address = foreground.stdout.readline().removeprefix("traces on ").strip()
    running = find_or_start(0)
    assert (running.started_here, running.pid, running.address) == (False, foreground.pid, address)
    traces = Traces("here")
    traces.span("work")
    request = urllib.request.Request(
        f"{running.http}/v1/traces", traces.body, {"Content-Type": "application/x-protobuf"}
    )
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 200
    foreground.send_signal(signal.SIGINT)
    foreground.communicate(timeout=30)
    assert files() == []


def test_a_machine_that_shares_the_home_directory_keeps_its_file() -> None:
    path = state.write(state.State(1, 4318, None, "token", "elsewhere", 0.0))
    assert find() == []
    assert files() == [path]
    os.unlink(path)


def test_a_running_one_is_plain_data() -> None:
    one = Running("http://127.0.0.1:1/?token=t", "http://127.0.0.1:1", None, "t", 1, 1)
    assert not one.started_here
