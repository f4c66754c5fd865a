"""A viewer's own process: its ports, its life, its end."""

from __future__ import annotations

import asyncio
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


def bind(port: int) -> socket.socket:
    """A socket that listens on loopback: on this port, or on the next one that is free.

    :param port: 0 for any.
    :raises OSError: none of twenty ports is free, or the port may not be used.
    """
    error: OSError | None = None
    for number in range(port, min(port + _TRIES, 65_536)) if port else (0,):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", number))
            listener.listen(128)
            return listener
        except OSError as busy:
            listener.close()
            error = busy
    raise OSError(f"no port from {port} to {port + _TRIES - 1} is free: {error}")


def serve(
    port: int = DEFAULT_PORT,
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

    :param port: of the page and of OTLP/HTTP; the next one if it is busy, any for 0.
    :param grpc_port: of OTLP/gRPC; the next one if it is busy, any for 0; None for 4317, or any where `port` is any.
    :param path: of the store's file; None for a temporary one.
    :param max_age_s: of a trace, seconds.
    :param max_bytes: of the store.
    :param token: of the page; by default one is made.
    :param idle_s: ends after so many seconds with neither telemetry nor an open page; None for never.
    :param lost_after_s: see `Store`.
    :param on_ready: called when it listens and can be found.
    :raises OSError: no port is free.
    :raises WrongFile: the file is no store.
    :raises KeyboardInterrupt: after SIGINT.
    :raises SystemExit: after SIGTERM.
    """
    # Nobody traces the viewer, whatever its environment says.
    os.environ["OTELAGENT_ENABLED"] = "false"
    # Reading, decoding and writing take turns in more than one thread: with the default of 5 ms each waits for long.
    sys.setswitchinterval(0.001)
    import uvicorn

    from otelagent.viewer.server.app import Viewer
    from otelagent.viewer.server.connections import Connection
    from otelagent.viewer.server.grpc_receiver import DEFAULT_PORT as DEFAULT_GRPC_PORT
    from otelagent.viewer.store.store import Store

    # The server takes the signal while it runs, and sends it to the process again when it has ended: what stands here
    # has the last word, and must leave the store its time.
    signal.signal(signal.SIGTERM, _end)
    listener = bind(port)
    store = Store(path, max_age_s=max_age_s, max_bytes=max_bytes, lost_after_s=lost_after_s)
    listed: list[tuple[str, State]] = []
    try:
        if grpc_port is None:
            grpc_port = DEFAULT_GRPC_PORT if port else 0
        viewer = Viewer(store, listener.getsockname()[1], grpc_port, token=token)

        class Server(uvicorn.Server):
            async def startup(self, sockets: list[socket.socket] | None = None) -> None:
                await super().startup(sockets=sockets)
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
    finally:
        store.close()
        listener.close()


def _end(number: int, frame: object) -> NoReturn:
    raise SystemExit(128 + number)
