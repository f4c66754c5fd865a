"""The viewer's application, put together."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from otelagent.viewer.server.answers import Refused, refusal
from otelagent.viewer.server.api import PAGE, Api
from otelagent.viewer.server.events import Changes
from otelagent.viewer.server.grpc_receiver import GrpcReceiver, NoGrpc
from otelagent.viewer.server.receiver import Receiver
from otelagent.viewer.server.safety import Gate
from otelagent.viewer.store.store import Store
from otelagent.viewer.store.touched import Touched

__all__ = ["Viewer"]


class Viewer:
    """The parts of one viewer.

    :param port: that is listened on.
    :param grpc_port: where OTLP/gRPC is to be taken, see `GrpcReceiver.start`.
    :ivar app: the ASGI application.
    :ivar token: for the page's address.
    :ivar without_grpc: why OTLP/gRPC is not taken, once the application has started; empty where it is.
    """

    def __init__(self, store: Store, port: int, grpc_port: int | None = None, token: str | None = None) -> None:
        self.store = store
        self.port = port
        self._grpc_port = grpc_port
        self.without_grpc = "not started"
        self.token = token or secrets.token_urlsafe(18)
        self.receiver = Receiver(store)
        self._changes = Changes()
        self._used_s = time.monotonic()
        self._unwatch = store.watch(self._written)
        api = Api(store, self.receiver, self._changes, lambda: self.gate, self.endpoints, lambda: self.without_grpc)
        inner = Starlette(
            routes=[
                Route("/v1/{signal}", self.receiver.receive, methods=["POST"]),
                *api.routes(),
                Route("/", _index),
                Route("/{path:path}", self.receiver.miss, methods=["POST"]),
                Mount("/", StaticFiles(directory=PAGE, check_dir=False)),
            ],
            exception_handlers={HTTPException: _unknown},
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

    @property
    def grpc_port(self) -> int | None:
        """Of OTLP/gRPC; None where it isn't taken."""
        return None if self.without_grpc else self._grpc_port

    @property
    def idle_s(self) -> float:
        """Seconds since it took telemetry last; 0 while a page is open."""
        if self._changes.watched:
            self._used_s = time.monotonic()
        return time.monotonic() - self._used_s

    def _written(self, touched: Touched) -> None:
        self._used_s = time.monotonic()
        self._changes.written(touched)

    def stop(self) -> None:
        """Ends the streams, so that the server can end."""
        self._changes.stop()

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        self._changes.start()
        grpc = GrpcReceiver(self.receiver)
        try:
            await grpc.start(self._grpc_port)
            self._grpc_port, self.without_grpc = grpc.port, ""
        except NoGrpc as error:
            self.without_grpc = str(error)
        yield
        await grpc.stop()
        self.stop()
        self._unwatch()
        self.receiver.close()


async def _unknown(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status, path = HTTPStatus(error.status_code), request.scope["path"]
    if path.startswith("/v1/") and request.method != "POST":
        status, error.headers = HTTPStatus.METHOD_NOT_ALLOWED, {"allow": "POST"}
    told = Refused(status, status.name.lower(), f"{request.method} {path[:100]}: {status.phrase}")
    return refusal(request, told, dict(error.headers or {}))


async def _index(request: Request) -> Response:
    return FileResponse(PAGE / "index.html", headers={"cache-control": "no-store"})
