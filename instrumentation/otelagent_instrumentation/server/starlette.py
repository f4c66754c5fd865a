"""Starlette: the route of the SERVER span, or the span itself where no server gave one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from otelagent.patching import Instrumentation, replace
from otelagent.protocols import asgi
from otelagent.protocols.request import accepted, current_request

Handle = Callable[[Any, Any, Any, Any], Awaitable[None]]


class Starlette(Instrumentation):
    """Patches the classes of routes, so applications made before or after `init()` are the same."""

    name = "starlette"
    supports = ">=0.27,<2"

    @replace("starlette.applications", "Starlette.__call__")
    def call(self, original: Handle) -> Handle:
        """A test client, or a server that isn't known, enters here; FastAPI calls this one too."""

        async def __call__(app: Any, scope: Any, receive: Any, send: Any) -> None:
            if accepted(scope):
                await original(app, scope, receive, send)
            else:
                await asgi.serve(lambda a, b, c: original(app, a, b, c), self.tracer, scope, receive, send)

        return __call__

    @replace("starlette.routing", "Mount.handle")
    def mount(self, original: Handle) -> Handle:
        """A mount's path is the prefix of whatever route matches inside."""

        def handle(mount: Any, scope: Any, receive: Any, send: Any) -> Awaitable[None]:
            if (traced := current_request(scope)) is not None:
                traced.prefix += mount.path
            return original(mount, scope, receive, send)

        return handle

    @replace("starlette.routing", "Route.handle")
    @replace("starlette.routing", "WebSocketRoute.handle")
    def route(self, original: Handle) -> Handle:
        """The route that was matched."""

        def handle(route: Any, scope: Any, receive: Any, send: Any) -> Awaitable[None]:
            if (traced := current_request(scope)) is not None:
                traced.route(route.path_format)
            return original(route, scope, receive, send)

        return handle
