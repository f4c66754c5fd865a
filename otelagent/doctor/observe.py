"""Runs a command with the probe in its Python processes, and reads what they told."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from otelagent.bootstrap.start import without_bootstrap
from otelagent.doctor.journal import Process, read
from otelagent.struct import struct

__all__ = ["DIRECTORY", "Observation", "observe"]

DIRECTORY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "pythonpath")
"""The directory whose ``sitecustomize`` brings the probe."""

_VARIABLE = "OTELAGENT_INTERNAL_DOCTOR"
# What a process gets to end by itself, beyond its agent's own time for that.
_PATIENCE_S = 15.0


@struct(frozen=True)
class Observation:
    """A command that has run.

    :ivar code: its exit code; minus the signal's number where one killed it.
    :ivar stopped: how the doctor ended it: nothing, or ``SIGTERM``, ``Ctrl-C``, ``SIGKILL``.
    :ivar processes: the Python processes that it was made of.
    :ivar as_is: whether it ran without otelagent-run.
    :ivar seconds: how long it ran.
    :ivar failed: the titles of the checks of its settings and destinations that have failed, by their ids.
    """

    command: tuple[str, ...]
    code: int
    stopped: str
    processes: tuple[Process, ...]
    as_is: bool
    seconds: float
    failed: Mapping[str, str] = MappingProxyType({})

    @property
    def agents(self) -> tuple[Process, ...]:
        """Those in which an agent ran."""
        return tuple(process for process in self.processes if process.status.get("engine"))


def observe(
    command: Sequence[str], environ: Mapping[str, str], *, for_s: float | None = None, as_is: bool = False
) -> Observation:
    """Runs it to its end; standard streams are the doctor's own.

    :param environ: in which it is traced, see `otelagent.cli.run.traced_environment`.
    :param for_s: after so many seconds it is told to end (SIGTERM); None for never. It is told too when the doctor is,
        and by Ctrl-C, which a terminal sends to both; a second Ctrl-C kills it.
    :param as_is: without otelagent-run, for applications that call `otelagent.init` themselves.
    :raises OSError: it can't be started.
    """
    with tempfile.TemporaryDirectory(prefix="otelagent-doctor-") as directory:
        path = without_bootstrap(environ["PYTHONPATH"]) if as_is else environ["PYTHONPATH"]
        changed = {**environ, "PYTHONPATH": DIRECTORY + os.pathsep + path if path else DIRECTORY, _VARIABLE: directory}
        began_s = time.monotonic()
        process = subprocess.Popen(list(command), env=changed)
        stopped = _wait(process, for_s)
        if stopped:
            _end_rest(directory)
        return Observation(
            tuple(command),
            process.returncode,
            stopped,
            tuple(read(directory)),
            as_is,
            time.monotonic() - began_s,
        )


def _end_rest(directory: str) -> None:
    """Ends what outlives a command that was told to end, as a reloader's child does when only its parent is told."""
    deadline_s = time.monotonic() + _PATIENCE_S
    for signum in (signal.SIGTERM, signal.SIGKILL):
        left = _running(directory)
        for pid in left:
            try:
                os.kill(pid, signum)
            except ProcessLookupError:
                pass
        while _running(directory) and time.monotonic() < deadline_s:
            time.sleep(0.05)


def _running(directory: str) -> list[int]:
    """Processes with this examination's probe (Linux)."""
    mark = f"{_VARIABLE}={directory}".encode()
    found = []
    for pid in {one.pid for one in read(directory)}:
        try:
            with open(f"/proc/{pid}/environ", "rb") as environ:
                if mark in environ.read().split(b"\0"):
                    found.append(pid)
        except OSError:
            continue
    return found


def _wait(process: subprocess.Popen[bytes], for_s: float | None) -> str:
    def told(signum: int, frame: object) -> None:
        raise subprocess.TimeoutExpired(process.args, 0)

    before = signal.signal(signal.SIGTERM, told)
    stopped = ""
    try:
        try:
            process.wait(for_s)
            return stopped
        except subprocess.TimeoutExpired:
            stopped = "SIGTERM"
            process.terminate()
        except KeyboardInterrupt:
            stopped = "Ctrl-C"
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        try:
            process.wait(_PATIENCE_S)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            stopped = "SIGKILL"
            process.kill()
            process.wait()
    finally:
        signal.signal(signal.SIGTERM, before)
    return stopped
