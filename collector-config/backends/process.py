"""A program in a process group of its own, with its output in a log file: started, waited for, stopped for sure.

Ports are reserved before the program comes and kept until `close()`, so that it may come later than its clients, go
away and come back at the same address. On Linux the kernel kills the program when this process dies.
"""

from __future__ import annotations

import atexit
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TypeVar, Union

from .errors import BackendError

__all__ = ["HOST", "POLL_S", "Port", "Process", "group_members"]

HOST = "127.0.0.1"
POLL_S = 0.02
LOG_TAIL_LINES = 40

# Runs in the child before the program: die with the parent, also if it died before we could ask for that.
_GUARD = """
import ctypes, os, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)
    if os.getppid() != int(sys.argv[1]):
        sys.exit("the parent is gone")
os.execvp(sys.argv[2], sys.argv[2:])
"""

_Self = TypeVar("_Self", bound="Process")
_Outcome = Union["subprocess.Popen[bytes]", BaseException]


class Port:
    """A TCP port on loopback, held until `close()`.

    The socket is bound but doesn't listen: connections are refused, the kernel gives the port to nobody who asks for
    any port, and a server that sets SO_REUSEADDR may still bind and listen to it.

    :param number: the port, 0 for any.
    :param error: what is raised when it is in use.
    """

    def __init__(self, number: int = 0, *, error: type[Exception] = BackendError) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((HOST, number))
        except OSError as raised:
            self._socket.close()
            raise error(f"port {number} on {HOST} is in use ({raised.strerror})") from raised
        self.number: int = self._socket.getsockname()[1]

    @property
    def address(self) -> str:
        return f"{HOST}:{self.number}"

    def close(self) -> None:
        self._socket.close()


class Process:
    """One program. Subclasses say what to run (by `_spawn`), when it is up, and what `close()` gives back.

    Usable as a context manager: `start()` on entry, `close()` on exit.

    :param name: what it is called; its log file is `{name}.log` in `workdir`.
    :param workdir: for the log file and whatever the program writes; made at the first start.
    """

    error: type[Exception] = BackendError
    """What is raised when it doesn't start, or isn't running."""
    start_timeout_s = 60.0
    stop_timeout_s = 10.0
    """What `stop()` allows between the signal and SIGKILL."""
    stop_group = True
    """Whether `stop()` signals the whole process group, or the program alone."""

    def __init__(self, name: str, workdir: str | os.PathLike[str]) -> None:
        self.name = name
        self.workdir = Path(workdir).resolve()
        self.log = self.workdir / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._group = 0
        self._owner = os.getpid()
        _alive.add(self)

    def launch(self) -> None:
        """Start it without waiting for anything."""
        raise NotImplementedError

    def ready(self) -> bool:
        """Whether it is up now."""
        raise NotImplementedError

    def close(self) -> None:
        """Stop it for good."""
        self.stop()
        _alive.discard(self)

    @property
    def pid(self) -> int:
        """The program's process id, which is that of its process group too; raises `error` when it isn't running."""
        if self._process is None:
            raise self.error(f"{self.name} is not running")
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _spawn(self, command: Sequence[str], *, folder: Path, env: Mapping[str, str]) -> None:
        if self.running:
            raise self.error(f"{self.name} is already running (process {self.pid})")
        self.workdir.mkdir(parents=True, exist_ok=True)
        guarded = [sys.executable, "-IS", "-c", _GUARD, str(os.getpid()), *command]
        with self.log.open("ab") as log:
            self._process = _popen(
                lambda: subprocess.Popen(
                    guarded,
                    cwd=folder,
                    env=env,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            )
        self._group = self._process.pid

    def wait_ready(self, timeout_s: float | None = None) -> None:
        """Wait until it is up; otherwise stop it and raise `error` with the end of its log."""
        timeout_s = self.start_timeout_s if timeout_s is None else timeout_s
        deadline = time.monotonic() + timeout_s
        while not self.ready():
            if not self.running:
                status = self.stop()
                raise self.error(f"{self.name} exited with status {status} at start\n{self.log_tail()}")
            if time.monotonic() > deadline:
                self.kill()
                raise self.error(f"{self.name} was not up within {timeout_s:g} s\n{self.log_tail()}")
            time.sleep(POLL_S)

    def send_signal(self, number: int, *, group: bool = False) -> None:
        """Send a signal to the program, or to its whole process group as a terminal's Ctrl-C does."""
        if group:
            os.killpg(self.pid, number)
        else:
            os.kill(self.pid, number)

    def stop(
        self, number: int = signal.SIGTERM, *, group: bool | None = None, timeout_s: float | None = None
    ) -> int | None:
        """End it by a signal and wait; after `timeout_s`, and for what is left of its process group, by SIGKILL.

        :param number: the signal.
        :param group: send it to the whole process group, and let all of it end by itself; None is `stop_group`.
        :param timeout_s: how long it may take; None is `stop_timeout_s`, 0 is SIGKILL at once.
        :returns: its exit status, minus the number of the signal that ended it; None if it wasn't running.
        """
        process, self._process = self._process, None
        if process is None or os.getpid() != self._owner:  # a forked child has no say over its parent's programs
            return None
        group = self.stop_group if group is None else group
        timeout_s = self.stop_timeout_s if timeout_s is None else timeout_s
        deadline = time.monotonic() + timeout_s
        if process.poll() is None and timeout_s > 0:
            with suppress(ProcessLookupError):
                (os.killpg if group else os.kill)(process.pid, number)
                os.killpg(process.pid, signal.SIGCONT)  # one that a test has stopped can't end
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout_s)
            while group and group_members(process.pid) and time.monotonic() < deadline:
                time.sleep(POLL_S)
        # Not reaped yet, or with members left, the number is still this group's.
        if process.returncode is None or group_members(process.pid):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        status = process.wait()
        # Those whose parent has gone are reaped by someone else; wait until they no longer run.
        deadline = time.monotonic() + 2
        while group_members(process.pid) and time.monotonic() < deadline:
            time.sleep(POLL_S)
        return status

    def kill(self) -> None:
        """SIGKILL for all of it, as a crash would have it."""
        self.stop(timeout_s=0)

    def members(self) -> list[int]:
        """The processes of its group that run now: workers and reloaders too, also after `stop()`."""
        return group_members(self._group) if self._group else []

    def log_text(self) -> str:
        """Everything it has printed and logged, over all starts."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def log_tail(self, lines: int = LOG_TAIL_LINES) -> str:
        """The end of its log under a headline."""
        return "\n".join([f"--- end of {self.log} ---", *self.log_text().splitlines()[-lines:]])

    def start(self) -> None:
        """Start it and wait until it is up; raises `error`, with the end of its log, when it doesn't come."""
        self.launch()
        self.wait_ready()

    def __enter__(self: _Self) -> _Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def group_members(group: int) -> list[int]:
    """The processes of a process group that run now. Zombies, which only wait for their parent, don't count."""
    if not Path("/proc/self/stat").exists():
        try:
            os.killpg(group, 0)
        except (ProcessLookupError, PermissionError):
            return []
        return [group]
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with suppress(OSError):
                # pid (name, which may hold anything) state ppid pgrp …
                state, _, pgrp = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[:3]
                if int(pgrp) == group and state not in "ZX":
                    found.append(int(entry))
    return sorted(found)


class _Launcher:
    """One thread that starts every program and lives as long as this process.

    "Die with the parent" means the parent's *thread* to the kernel: a program started by a test's worker thread
    would be killed when that thread ends.
    """

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._jobs: queue.SimpleQueue[tuple[Callable[[], subprocess.Popen[bytes]], queue.SimpleQueue[_Outcome]]] = (
            queue.SimpleQueue()
        )
        threading.Thread(target=self._run, name="backends-launcher", daemon=True).start()

    def start(self, job: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
        answer: queue.SimpleQueue[_Outcome] = queue.SimpleQueue()
        self._jobs.put((job, answer))
        outcome = answer.get()
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def _run(self) -> None:
        while True:
            job, answer = self._jobs.get()
            try:
                answer.put(job())
            except BaseException as error:
                answer.put(error)


_launcher: _Launcher | None = None
_launcher_lock = threading.Lock()


def _popen(job: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
    global _launcher
    with _launcher_lock:
        if _launcher is None or _launcher.pid != os.getpid():  # threads don't survive a fork
            _launcher = _Launcher()
        launcher = _launcher
    return launcher.start(job)


_alive: weakref.WeakSet[Process] = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    for process in list(_alive):
        process.kill()
