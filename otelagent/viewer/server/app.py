"""The viewer's application, put together."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator, Mapping

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from otelagent.viewer.server.api import PAGE, Api
from otelagent.viewer.server.events import Changes
from otelagent.viewer.server.receiver import Receiver
from otelagent.viewer.server.safety import Gate
from otelagent.viewer.store.store import Store

__all__ = ["Viewer"]


class Viewer:
    """The parts of one viewer.

    :param port: that is listened on.
    :param grpc_port: where OTLP/gRPC is taken; None for nowhere.
    :ivar app: the ASGI application.
    :ivar token: for the page's address.
    """

    def __init__(self, store: Store, port: int, grpc_port: int | None = None, token: str | None = None) -> None:
        self.store = store
        self.port = port
        self.grpc_port = grpc_port
        self.token = token or secrets.token_urlsafe(18)
        self.receiver = Receiver(store)
        self._changes = Changes()
        self._unwatch = store.watch(self._changes.written)
        api = Api(store, self.receiver, self._changes, lambda: self.gate, self.endpoints)
        inner = Starlette(
            routes=[
                Route("/v1/{signal}", self.receiver.receive, methods=["POST"]),
                *api.routes(),
                Route("/", _index),
                Mount("/", StaticFiles(directory=PAGE, check_dir=False)),
            ],
            lifespan=self._lifespan,
        )
        self.gate = Gate(inner, self.token, lambda: self.port)
        self.app = self.gate

    @property
    def address(self) -> str:
        """Of the page, for the one who may see it."""
        return f"http://127.0.0.1:{self.port}/?token={self.token}"

    def endpoints(self) -> Mapping[str, str | None]:
        """Where telemetry is taken."""
        grpc = f"http://127.0.0.1:{self.grpc_port}" if self.grpc_port is not None else None
        return {"http": f"http://127.0.0.1:{self.port}", "grpc": grpc}

    def stop(self) -> None:
        """Ends the streams, so that the server can end."""
        self._changes.stop()

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        self._changes.start()
        yield
        self.stop()
        self._unwatch()
        self.receiver.close()


async def _index(request: Request) -> Response:
    return FileResponse(PAGE / "index.html", headers={"cache-control": "no-store"})
