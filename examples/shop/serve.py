"""Starts the shop's services as their operators would: under `otelagent-run`, with `init()` in code, or plain.

    with inventory(tmp_path, agent=["--endpoint", url]) as stock, gateway(tmp_path, stock.url, agent=[...]) as front:
        status, body = front.get("/products")

Each service runs in a process group of its own, with its output in a log file, on a port reserved for it.
"""

from __future__ import annotations

import http.client
import os
import shlex
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from backends.process import HOST, Port, Process

__all__ = ["GATEWAY", "HOST", "INVENTORY", "SHOP", "Service", "ServiceError", "gateway", "inventory"]

SHOP = Path(__file__).resolve().parent
REQUEST_TIMEOUT_S = 15.0

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


class ServiceError(Exception):
    """A service didn't start, or ended by itself; the end of its log is in the text."""


class Service(Process):
    """One service: start, wait until it answers, ask it something, stop for sure. A context manager does all of it.

    A reloader (uvicorn's, Flask's) takes SIGTERM for itself alone: end it like Ctrl-C does, by SIGINT to the group.

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

    error = ServiceError
    start_timeout_s = 30.0
    stop_group = False

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
        super().__init__(name, workdir)
        self.folder = Path(folder).resolve()
        self.health = health
        self._reserved = Port(port, error=ServiceError)
        self.port = self._reserved.number
        wrapper = [] if agent is None else ["otelagent-run", *agent]
        self.command = [word.replace("{port}", str(self.port)) for word in (*wrapper, *command)]
        self._env = dict(env or {})

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def command_line(self) -> str:
        """The command as one would type it."""
        return shlex.join(self.command)

    def launch(self) -> None:
        """Start it without waiting for anything."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_INHERITED)}
        environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", os.defpath)])
        environment |= {"PYTHONUNBUFFERED": "1", "PORT": str(self.port)} | self._env
        self._spawn(self.command, folder=self.folder, env=environment)

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

    def close(self) -> None:
        """Stop it and give the port back."""
        super().close()
        self._reserved.close()


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
