"""FastAPI: whole route templates of included routers, and no second SERVER span from its built-in telemetry."""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable
from typing import Any

from otelagent.patching import Instrumentation, replace
from otelagent.protocols import asgi
from otelagent.protocols.request import accepted, current_request, failed

# Where a scope has the request's telemetry, and where it says that ours kept it out.
_TELEMETRY = "fastapi.telemetry"
_SPARED = "otelagent.fastapi"


class FastAPI(Instrumentation):
    """Refines what `starlette` gives, with which it works together.

    Newer FastAPI can give SERVER and operation spans itself, by the OpenTelemetry API. Its SERVER span would be a
    second one beside the server's, so its tracing is left out for requests that were decided on where they entered,
    unless the application has given it a TracerProvider of its own. Its metrics and logs are not touched. All that is
    private to FastAPI: where a version of it has it otherwise, a request may have spans twice, and is served.
    """

    name = "fastapi"
    supports = ">=0.100,<1"

    @replace("fastapi.applications", "FastAPI.__call__")
    def call(self, original: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        """A test client, or a server that isn't known, enters here, before FastAPI's own telemetry."""

        async def __call__(app: Any, scope: Any, receive: Any, send: Any) -> None:
            if accepted(scope):
                try:
                    _spare_telemetry(app, scope)
                except Exception as error:
                    failed(error)
                await original(app, scope, receive, send)
            else:
                await asgi.serve(lambda a, b, c: original(app, a, b, c), self.tracer, scope, receive, send)

        return __call__

    @replace("fastapi.routing", "APIRoute.handle")
    def route(self, original: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        """The matched route. Where routers are included lazily, the whole template is that of the effective route."""

        def handle(route: Any, scope: Any, receive: Any, send: Any) -> Awaitable[None]:
            if (traced := current_request(scope)) is not None:
                try:
                    effective: Any = (scope.get("fastapi") or {}).get("effective_route_context")
                    matched = effective if getattr(effective, "original_route", None) is route else route
                    traced.route(matched.path_format)
                except Exception as error:
                    failed(error)
            return original(route, scope, receive, send)

        return handle

    @replace("fastapi.telemetry._asgi", "NativeTelemetry.__call__", optional=True)
    def telemetry(self, original: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        """FastAPI's own telemetry, without its spans where ours are."""

        async def __call__(telemetry: Any, **call: Any) -> None:
            try:
                if accepted(call.get("scope") or {}) and telemetry.config["tracer_provider"] is None:
                    telemetry = _without_tracing(telemetry)
            except Exception as error:
                failed(error)
            await original(telemetry, **call)

        return __call__


def _spare_telemetry(app: Any, scope: Any) -> None:
    """Keep FastAPI from preparing its telemetry for a request where nothing of it but the spans would be wanted, in the
    way in which it does that itself for requests that it excludes. An application mounted inside may want more."""
    telemetry = getattr(app, "_native_telemetry", None)
    if telemetry is None:
        return
    if telemetry.config["tracer_provider"] is not None or _without_tracing(telemetry).enabled():
        if scope.get(_SPARED):
            scope.pop(_TELEMETRY, None)
    elif _TELEMETRY not in scope:
        scope[_TELEMETRY], scope[_SPARED] = None, True


def _without_tracing(telemetry: Any) -> Any:
    twin = telemetry.__dict__.get("_otelagent_twin")
    if twin is None:
        twin = copy.copy(telemetry)
        twin.config = {**telemetry.config, "tracing": False}
        telemetry._otelagent_twin = twin
    return twin
