"""A viewer's own process: its ports, its life, its end."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from otelagent.viewer import state as states
from otelagent.viewer.process import DEFAULT_PORT
from otelagent.viewer.state import State

if TYPE_CHECKING:
    from otelagent.viewer.server.app import Viewer

__all__ = ["bind", "serve"]

_TRIES = 20

_log = logging.getLogger(__name__)


def bind(port: int | None = None) -> socket.socket:
    """A socket that listens on loopback.

    :param port: this one, 0 for any; None for the default or the next one that is free.
    :raises OSError: the port is taken or may not be used, or none of twenty is free.
    """
    error: OSError | None = None
    for number in range(DEFAULT_PORT, DEFAULT_PORT + _TRIES) if port is None else (port,):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", number))
            listener.listen(128)
            return listener
        except OSError as busy:
            listener.close()
            error = busy
    if port is None:
        raise OSError(f"no port from {DEFAULT_PORT} to {DEFAULT_PORT + _TRIES - 1} is free: {error}")
    assert error is not None
    if error.errno != errno.EADDRINUSE:
        raise OSError(f"port {port} can't be listened on: {error.strerror}")
    raise OSError(f"port {port} is taken by another program: name another --port, or none for the next that is free")


def serve(
    port: int | None = None,
    *,
    grpc_port: int | None = None,
    path: str | None = None,
    max_age_s: float = 7 * 86_400,
    max_bytes: int = 4 * 2**30,
    token: str | None = None,
    idle_s: float | None = None,
    lost_after_s: float = 15.0,
    on_ready: Callable[[Viewer, State], object] = lambda viewer, state: None,
) -> None:
    """Runs a viewer until SIGINT or SIGTERM. In the main thread.

    :param port: of the page and of OTLP/HTTP; any for 0; None for 4318 or the next one that is free.
    :param grpc_port: of OTLP/gRPC; any for 0; None for 4317 or the next one that is free, or any where `port` is any.
    :param path: of the store's file; None for a temporary one.
    :param max_age_s: of a trace, seconds.
    :param max_bytes: of the store.
    :param token: of the page; by default one is made.
    :param idle_s: ends after so many seconds with neither telemetry nor an open page; None for never.
    :param lost_after_s: see `Store`.
    :param on_ready: called when it listens and can be found.
    :raises OSError: no port is free, or one that was asked for is taken.
    :raises WrongFile: the file is no store.
    :raises KeyboardInterrupt: after SIGINT.
    :raises SystemExit: after SIGTERM.
    """
    # Nobody traces the viewer, whatever its environment says.
    os.environ["OTELAGENT_ENABLED"] = "false"
    # gRPC's core writes to standard error for itself, such as a line of C++ for each port that is taken; what matters
    # of it is told by us. Read when it is loaded.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # Reading, decoding and writing take turns in more than one thread: with the default of 5 ms each waits for long.
    sys.setswitchinterval(0.001)
    import uvicorn

    from otelagent.viewer.server.app import Viewer
    from otelagent.viewer.server.connections import Connection
    from otelagent.viewer.store.store import Store

    # The server takes the signal while it runs, and sends it to the process again when it has ended: what stands here
    # has the last word, and must leave the store its time.
    signal.signal(signal.SIGTERM, _end)
    listener = bind(port)
    store = Store(path, max_age_s=max_age_s, max_bytes=max_bytes, lost_after_s=lost_after_s)
    listed: list[tuple[str, State]] = []
    try:
        asked_grpc = bool(grpc_port)
        if grpc_port is None and port == 0:
            grpc_port = 0
        viewer = Viewer(store, listener.getsockname()[1], grpc_port, token=token)

        class Server(uvicorn.Server):
            async def startup(self, sockets: list[socket.socket] | None = None) -> None:
                await super().startup(sockets=sockets)
                if asked_grpc and viewer.without_grpc:
                    self.should_exit = True
                    return
                host = os.uname().nodename if hasattr(os, "uname") else ""
                state = State(os.getpid(), viewer.port, viewer.grpc_port, viewer.token, host, time.time())
                try:
                    listed.append((states.write(state), state))
                except (OSError, states.ViewerError) as error:
                    _log.warning("other programs won't find this viewer: %s", error)
                on_ready(viewer, state)
                if idle_s is not None:
                    self.idle = asyncio.create_task(self.end_when_idle(idle_s))

            async def end_when_idle(self, idle_s: float) -> None:
                while (left_s := idle_s - viewer.idle_s) > 0:
                    await asyncio.sleep(left_s)
                self.should_exit = True

            async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
                # First, so that nobody who looks for a viewer is given one that ends.
                for one in listed:
                    states.remove(*one)
                viewer.stop()
                await super().shutdown(sockets=sockets)

        config = uvicorn.Config(
            viewer.app,
            http=Connection,
            ws="none",
            log_level="error",
            access_log=False,
            lifespan="on",
            server_header=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=3,
        )
        asyncio.run(Server(config).serve(sockets=[listener]))
        if asked_grpc and viewer.without_grpc:
            raise OSError(f"OTLP/gRPC can't be taken: {viewer.without_grpc}")
    finally:
        store.close()
        listener.close()


def _end(number: int, frame: object) -> NoReturn:
    raise SystemExit(128 + number)
