"""Viewers as processes, seen from outside: finding this user's, starting one in the background, ending it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

from otelagent.viewer import state as states
from otelagent.viewer.state import State, ViewerError

__all__ = ["DEFAULT_PORT", "IDLE_S", "Running", "ViewerError", "find", "find_or_start", "need_extra", "stop"]

DEFAULT_PORT = 4318
"""Of OTLP/HTTP (OTLP specification, "OTLP/HTTP Default Port")."""

IDLE_S = 30 * 60.0
"""After this time with neither telemetry nor an open page, a viewer in the background ends."""

_ANSWER_S = 5.0
_START_S = 30.0
_END_S = 10.0
_MAX_REPORT_BYTES = 8192
# What an interpreter needs to be the same one; anything else of PYTHON… could change how the viewer runs.
_KEPT = ("PYTHONHOME", "PYTHONPATH", "PYTHONUSERBASE", "PYTHONNOUSERSITE", "PYTHONDONTWRITEBYTECODE")
_BOOTSTRAP = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "bootstrap", "pythonpath")


@dataclass(frozen=True)
class Running:
    """A viewer that answers.

    :ivar address: of the page, with the token.
    :ivar http: where OTLP/HTTP is taken, as an endpoint for all signals.
    :ivar grpc: where OTLP/gRPC is taken; None where it isn't.
    :ivar token: for ``Authorization: Bearer …``.
    :ivar started_here: whether this call has started it.
    """

    address: str
    http: str
    grpc: str | None
    token: str
    pid: int
    port: int
    started_here: bool = False


def find(port: int | None = None) -> list[Running]:
    """This user's viewers that answer, the lowest port first; what viewers that are no more have left is removed.

    :param port: only the one that listens there.
    """
    found = []
    for path, state in states.read_all():
        if (port is None or state.port == port) and state.host == _host():
            answers = _answers(state)
            if answers:
                found.append(_running(state))
            elif answers is False:
                states.remove(path, state)
    return found


def find_or_start(port: int | None = None, *, idle_s: float = IDLE_S, timeout_s: float = _START_S) -> Running:
    """A viewer of this user: one that runs, or else a new one in the background, which outlives the caller.

    :param port: of a new one, 0 for any; None for 4318 or the next one that is free.
    :param idle_s: a new one ends after so many seconds with neither telemetry nor an open page.
    :param timeout_s: how long to wait for a new one.
    :raises ViewerError: there is none and none can be started.
    """
    if found := find():
        return found[0]
    need_extra()
    directory = states.usable_directory()
    try:
        with states.lock(directory, timeout_s):
            if found := find():
                return found[0]
            return _start(directory, port, idle_s, timeout_s)
    except OSError as error:
        raise ViewerError(f"the viewer could not be started: {error}") from None


def stop(port: int | None = None) -> list[Running]:
    """Ends this user's viewers, with what they have stored in temporary files.

    :param port: only the one that listens there.
    :returns: those that have ended.
    :raises ViewerError: one doesn't end.
    """
    found = find(port)
    for one in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(one.pid, signal.SIGTERM)
    until_s = time.monotonic() + _END_S
    for one in found:
        while _alive(one.pid):
            if time.monotonic() >= until_s:
                raise ViewerError(f"the viewer on port {one.port} (process {one.pid}) did not end in {_END_S:.0f} s")
            time.sleep(0.05)
    return found


def _running(state: State, *, started_here: bool = False) -> Running:
    grpc = f"http://127.0.0.1:{state.grpc}" if state.grpc is not None else None
    return Running(state.address, state.http, grpc, state.token, state.pid, state.port, started_here)


def _host() -> str:
    return os.uname().nodename if hasattr(os, "uname") else ""


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's: the number has been used again
        return False
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"  # ended, and its parent hasn't asked
    except (OSError, IndexError):
        return True


def _answers(state: State) -> bool | None:
    """Whether it is there and the one it says; None if it can't say now."""
    if not _alive(state.pid):
        return False
    connection = http.client.HTTPConnection("127.0.0.1", state.port, timeout=_ANSWER_S)
    try:
        connection.request("GET", "/api/status", headers={"Authorization": f"Bearer {state.token}"})
        response = connection.getresponse()
        if response.status in (429, 503):
            return None
        # Another program's answer may be of any kind and length.
        answer = json.loads(response.read(1 << 20)) if response.status == 200 else None
        return isinstance(answer, dict) and answer.get("pid") == state.pid
    except ConnectionRefusedError:
        return False
    except OSError:  # it takes too long, or takes no more connections
        return None
    except (http.client.HTTPException, ValueError):
        return False
    finally:
        connection.close()


def need_extra() -> None:
    """Looks whether a viewer can run here at all.

    :raises ViewerError: what it stands on is not installed.
    """
    from importlib.util import find_spec

    for name in ("starlette", "uvicorn", "google.protobuf"):
        try:
            missing = find_spec(name) is None
        except ModuleNotFoundError:
            missing = True
        if missing:
            extra = "the viewer needs an extra: pip install 'otelagent[ui]'"
            raise ViewerError(f"{extra} ({name} is missing)")


def _start(directory: str, port: int | None, idle_s: float, timeout_s: float) -> Running:
    log = states.log_path(directory)
    # Of the last one that was started: it grows by what goes wrong alone.
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0), 0o600)
    try:
        child = subprocess.Popen(
            [sys.executable, "-m", "otelagent.viewer", json.dumps({"port": port, "idle_s": idle_s})],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=descriptor,
            cwd=directory,  # `-m` looks for modules there first, and it is nobody else's
            env=_environment(os.environ.copy()),
            start_new_session=True,
        )
    finally:
        os.close(descriptor)
    assert child.stdout is not None
    with child.stdout:
        report = _read_report(child.stdout.fileno(), time.monotonic() + timeout_s)
    # It has forked the viewer and ended, so that the viewer is nobody's child; unless it could not.
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(_ANSWER_S)
    if report is None:
        raise ViewerError(f"the viewer could not be started{_last_words(log)}")
    if "error" in report:
        raise ViewerError(f"the viewer could not be started: {report['error']}")
    return _running(State(**report), started_here=True)


def _read_report(descriptor: int, until_s: float) -> dict[str, Any] | None:
    text = b""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    while len(text) < _MAX_REPORT_BYTES:
        if not poll.poll(max(until_s - time.monotonic(), 0) * 1000):
            return {"error": "it has not answered in time"}
        part = os.read(descriptor, _MAX_REPORT_BYTES)
        text += part
        # What else has been printed, by a `sitecustomize` perhaps, comes before it.
        if text.endswith(b"\n") and (last := text.splitlines()[-1]).startswith(b"{"):
            report = json.loads(last)
            assert isinstance(report, dict)
            return report
        if not part:
            return None
    return None


def _last_words(log: str) -> str:
    try:
        with open(log, errors="replace") as file:
            lines = [line.strip() for line in file.read()[-4096:].splitlines() if line.strip()]
    except OSError:
        lines = []
    return f": {lines[-1]} (more in {log})" if lines else ""


def _environment(environ: dict[str, str]) -> dict[str, str]:
    for name in list(environ):
        if name.startswith("OTEL") or (name.startswith("PYTHON") and name not in _KEPT):
            del environ[name]
    if paths := environ.pop("PYTHONPATH", ""):
        kept = [os.path.abspath(path) for path in paths.split(os.pathsep) if path and path != _BOOTSTRAP]
        if kept:
            environ["PYTHONPATH"] = os.pathsep.join(kept)
    return environ
