"""Starts the shop's services as their operators would: under `otelagent-run`, with `init()` in code, or plain.

    with inventory(tmp_path, agent=["--endpoint", url]) as stock, gateway(tmp_path, stock.url, agent=[...]) as front:
        status, body = front.get("/products")

Each service runs in a process group of its own, with its output in a log file, on a port reserved for it.
"""

from __future__ import annotations

import atexit
import http.client
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

__all__ = ["GATEWAY", "HOST", "INVENTORY", "SHOP", "Service", "ServiceError", "gateway", "group_members", "inventory"]

SHOP = Path(__file__).resolve().parent
HOST = "127.0.0.1"
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0
REQUEST_TIMEOUT_S = 15.0
POLL_S = 0.02
LOG_TAIL_LINES = 30

_UVICORN = ("--host", HOST, "--port", "{port}")
_GUNICORN = ("--bind", HOST + ":{port}")
_FLASK = ("run", "--host", HOST, "--port", "{port}")

GATEWAY: Mapping[str, tuple[str, ...]] = {
    "uvicorn": ("uvicorn", "gateway:app", *_UVICORN),
    "uvicorn-workers": ("uvicorn", "gateway:app", *_UVICORN, "--workers", "2"),
    "uvicorn-reload": ("uvicorn", "gateway:app", *_UVICORN, "--reload"),
    "python": ("python", "gateway.py"),
    "init-uvicorn": ("uvicorn", "gateway_with_init:app", *_UVICORN),
    "init-python": ("python", "gateway_with_init.py"),
    "init-last-uvicorn": ("uvicorn", "gateway_init_last:app", *_UVICORN),
    "init-last-python": ("python", "gateway_init_last.py"),
}
"""The ways to start the gateway; `{port}` is filled in, PORT and INVENTORY_URL are in the environment."""

INVENTORY: Mapping[str, tuple[str, ...]] = {
    "gunicorn": ("gunicorn", "inventory:app", *_GUNICORN),
    "gunicorn-workers": ("gunicorn", "inventory:app", *_GUNICORN, "--workers", "2"),
    "gunicorn-threads": ("gunicorn", "inventory:app", *_GUNICORN, "--threads", "4"),
    "gunicorn-preload": ("gunicorn", "inventory:app", *_GUNICORN, "--workers", "2", "--preload"),
    "flask": ("flask", "--app", "inventory", *_FLASK),
    "flask-debug": ("flask", "--app", "inventory", "--debug", *_FLASK),
    "python": ("python", "inventory.py"),
    "init-gunicorn": ("gunicorn", "inventory_with_init:app", *_GUNICORN),
    "init-gunicorn-preload": ("gunicorn", "inventory_with_init:app", *_GUNICORN, "--workers", "2", "--preload"),
    "init-flask": ("flask", "--app", "inventory_with_init", *_FLASK),
    "init-python": ("python", "inventory_with_init.py"),
    "init-last-gunicorn": ("gunicorn", "inventory_init_last:app", *_GUNICORN),
    "init-last-python": ("python", "inventory_init_last.py"),
}
"""The ways to start the inventory."""

# Settings of whoever runs a test must not reach the service under test, nor an otelagent-run around all of this.
_NOT_INHERITED = ("OTEL_", "OTELAGENT_", "PYTHON", "FLASK_", "GUNICORN_", "UVICORN_", "SHOP_")

# Runs in the child before the service: the kernel ends it when whoever started it dies, however that comes about.
_GUARD = """
import ctypes, os, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)
    if os.getppid() != int(sys.argv[1]):
        sys.exit("the parent is gone")
os.execvp(sys.argv[2], sys.argv[2:])
"""


class ServiceError(Exception):
    """A service didn't start, or ended by itself; the end of its log is in the text."""


class Service:
    """One service: start, wait until it answers, ask it something, stop for sure. A context manager does all of it.

    Start it from a thread that lives as long as the service is needed: Linux ends it with that thread.

    :param name: what it is called; its log file is `{name}.log` in `workdir`.
    :param command: the command and its arguments, `{port}` standing for the port. Programs of this Python's
        environment come before those on PATH.
    :param workdir: for the log file and whatever the service writes.
    :param folder: where the command runs.
    :param env: added to the environment, from which OTEL_*, OTELAGENT_* and PYTHON* have been taken. PORT is set.
    :param agent: the options of `otelagent-run` in front of the command; None to run the command without it.
    :param health: the path that answers below 500 when it is up; None to wait only until the port is open, which
        sends no request that could be traced. gunicorn opens its port before it has loaded the application.
    :param port: a fixed port, 0 for any. It is reserved until `close()`, across restarts.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        workdir: str | os.PathLike[str],
        folder: str | os.PathLike[str] = SHOP,
        env: Mapping[str, str] | None = None,
        agent: Sequence[str] | None = None,
        health: str | None = "/health",
        port: int = 0,
    ) -> None:
        self.name = name
        self.workdir = Path(workdir).resolve()
        self.folder = Path(folder).resolve()
        self.health = health
        self.log = self.workdir / f"{name}.log"
        # Bound but not listening: nobody else gets the port, while a server that sets SO_REUSEADDR may have it.
        self._reserved = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._reserved.bind((HOST, port))
        except OSError as error:
            self._reserved.close()
            raise ServiceError(f"port {port} on {HOST} is in use ({error.strerror})") from error
        self.port: int = self._reserved.getsockname()[1]
        wrapper = [] if agent is None else ["otelagent-run", *agent]
        self.command = [word.replace("{port}", str(self.port)) for word in (*wrapper, *command)]
        self._env = dict(env or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._group = 0
        _alive.add(self)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def pid(self) -> int:
        """The process id of the command, which is that of its process group too."""
        if self._process is None:
            raise ServiceError(f"{self.name} is not running")
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def command_line(self) -> str:
        """The command as one would type it."""
        return shlex.join(self.command)

    def start(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Start it and wait until it answers.

        :raises ServiceError: it ended, or didn't answer within `timeout_s`.
        """
        self.launch()
        self.wait_ready(timeout_s)

    def launch(self) -> None:
        """Start it without waiting for anything."""
        if self.running:
            raise ServiceError(f"{self.name} is already running (process {self.pid})")
        self.workdir.mkdir(parents=True, exist_ok=True)
        environment = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_INHERITED)}
        environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", os.defpath)])
        environment |= {"PYTHONUNBUFFERED": "1", "PORT": str(self.port)} | self._env
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-IS", "-c", _GUARD, str(os.getpid()), *self.command],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._group = self._process.pid

    def wait_ready(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Wait until it answers; otherwise stop it and raise ServiceError."""
        deadline = time.monotonic() + timeout_s
        while not self.ready():
            if not self.running:
                status = self.stop()
                raise ServiceError(f"{self.name} exited with status {status} at start\n{self.log_tail()}")
            if time.monotonic() > deadline:
                self.kill()
                raise ServiceError(f"{self.name} did not answer within {timeout_s:g} s\n{self.log_tail()}")
            time.sleep(POLL_S)

    def ready(self) -> bool:
        """Whether it answers now."""
        try:
            if self.health is not None:
                return self.request("GET", self.health, timeout_s=2)[0] < 500
            with socket.create_connection((HOST, self.port), timeout=2):
                return True
        except (OSError, http.client.HTTPException):
            return False

    def get(self, path: str, *, headers: Mapping[str, str] | None = None) -> tuple[int, str]:
        """Status and body of a GET."""
        return self.request("GET", path, headers=headers)

    def request(
        self,
        method: str,
        path: str,
        *,
        body: str | bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> tuple[int, str]:
        """Status and body of one request on a connection of its own; bodies are JSON unless `headers` say otherwise.

        :raises OSError: nobody answered.
        """
        connection = http.client.HTTPConnection(HOST, self.port, timeout=timeout_s)
        sent = {"User-Agent": "shop-client/1.0"} | ({} if body is None else {"Content-Type": "application/json"})
        try:
            connection.request(method, path, body, sent | dict(headers or {}))
            with connection.getresponse() as response:
                return response.status, response.read().decode(errors="replace")
        finally:
            connection.close()

    def send_signal(self, number: int, *, group: bool = False) -> None:
        """Send a signal to the command's process, or to its whole process group as a terminal's Ctrl-C does."""
        if group:
            os.killpg(self.pid, number)
        else:
            os.kill(self.pid, number)

    def stop(
        self, number: int = signal.SIGTERM, *, group: bool = False, timeout_s: float = STOP_TIMEOUT_S
    ) -> int | None:
        """End it by a signal and wait; after `timeout_s`, and for what is left of its process group, by SIGKILL.

        A reloader (uvicorn's, Flask's) takes SIGTERM for itself alone: end it like Ctrl-C does, by SIGINT to the group.

        :param number: the signal.
        :param group: send it to the whole process group, and let all of it end by itself.
        :param timeout_s: how long it may take.
        :returns: its exit status, minus the number of the signal that ended it; None if it wasn't running.
        """
        process, self._process = self._process, None
        if process is None:
            return None
        deadline = time.monotonic() + timeout_s
        if process.poll() is None and timeout_s > 0:
            with suppress(ProcessLookupError):
                if group:
                    os.killpg(process.pid, number)
                else:
                    os.kill(process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout_s)
            while group and group_members(process.pid) and time.monotonic() < deadline:
                time.sleep(POLL_S)
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

    def close(self) -> None:
        """Stop it and give the port back."""
        self.stop()
        self._reserved.close()
        _alive.discard(self)

    def log_text(self) -> str:
        """Everything it has printed and logged, over all starts."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def log_tail(self, lines: int = LOG_TAIL_LINES) -> str:
        """The end of its log under a headline."""
        return "\n".join([f"--- end of {self.log} ---", *self.log_text().splitlines()[-lines:]])

    def __enter__(self) -> Service:
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


def inventory(
    workdir: str | os.PathLike[str],
    server: str = "gunicorn",
    *,
    agent: Sequence[str] | None = None,
    env: Mapping[str, str] | None = None,
    health: str | None = "/health",
) -> Service:
    """The inventory, to be started as `server` (a key of INVENTORY) says; its database is in `workdir`."""
    database = str(Path(workdir).resolve() / "shop.db")
    settings = {"SHOP_DB": database} | dict(env or {})
    return Service("inventory", INVENTORY[server], workdir=workdir, env=settings, agent=agent, health=health)


def gateway(
    workdir: str | os.PathLike[str],
    inventory_url: str,
    server: str = "uvicorn",
    *,
    agent: Sequence[str] | None = None,
    env: Mapping[str, str] | None = None,
    health: str | None = "/health",
) -> Service:
    """The gateway in front of the inventory at `inventory_url`, to be started as `server` (a key of GATEWAY) says."""
    settings = {"INVENTORY_URL": inventory_url} | dict(env or {})
    return Service("gateway", GATEWAY[server], workdir=workdir, env=settings, agent=agent, health=health)


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


_alive: weakref.WeakSet[Service] = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    for service in list(_alive):
        service.kill()
