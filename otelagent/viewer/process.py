"""The viewer as a process: its ports, its life, and what it prints."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["DEFAULT_PORT", "bind", "serve"]

DEFAULT_PORT = 4318
"""Of OTLP/HTTP (OTLP specification, "OTLP/HTTP Default Port")."""

_TRIES = 20


def bind(port: int) -> socket.socket:
    """A socket that listens on loopback: on this port, or on the next one that is free.

    :param port: 0 for any.
    :raises OSError: none of twenty ports is free, or the port may not be used.
    """
    error: OSError | None = None
    for number in range(port, port + _TRIES) if port else (0,):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", number))
            listener.listen(128)
            return listener
        except OSError as busy:
            listener.close()
            error = busy
    assert error is not None
    raise error


def serve(
    port: int = DEFAULT_PORT,
    *,
    grpc_port: int | None = None,
    path: str | None = None,
    max_age_s: float = 7 * 86_400,
    max_bytes: int = 4 * 2**30,
    token: str | None = None,
    on_ready: Callable[[Any], object] = lambda viewer: None,
) -> None:
    """Runs a viewer until SIGINT or SIGTERM.

    :param port: of the page and of OTLP/HTTP; the next one if it is busy, any for 0.
    :param grpc_port: of OTLP/gRPC; the next one if it is busy, any for 0; None for 4317, or any where `port` is any.
    :param path: of the store's file; None for a temporary one.
    :param max_age_s: of a trace, seconds.
    :param max_bytes: of the store.
    :param token: of the page; by default one is made.
    :param on_ready: called with the `Viewer` when it listens.
    :raises OSError: no port is free.
    :raises WrongFile: the file is no store.
    """
    # Nobody traces the viewer, whatever its environment says.
    os.environ["OTELAGENT_ENABLED"] = "false"
    # Reading, decoding and writing take turns in more than one thread: with the default of 5 ms each waits for long.
    sys.setswitchinterval(0.001)
    import uvicorn

    from otelagent.viewer.server.app import Viewer
    from otelagent.viewer.server.grpc_receiver import DEFAULT_PORT as DEFAULT_GRPC_PORT
    from otelagent.viewer.store.store import Store

    listener = bind(port)
    store = Store(path, max_age_s=max_age_s, max_bytes=max_bytes)
    try:
        if grpc_port is None:
            grpc_port = DEFAULT_GRPC_PORT if port else 0
        viewer = Viewer(store, listener.getsockname()[1], grpc_port, token=token)

        class Server(uvicorn.Server):
            async def startup(self, sockets: list[socket.socket] | None = None) -> None:
                await super().startup(sockets=sockets)
                on_ready(viewer)

            async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
                viewer.stop()
                await super().shutdown(sockets=sockets)

        config = uvicorn.Config(
            viewer.app,
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
