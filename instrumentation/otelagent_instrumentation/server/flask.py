"""Flask: the route and the unhandled exceptions of the SERVER span, or the span itself where no server gave one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from otelagent.patching import Instrumentation, replace
from otelagent.protocols import wsgi
from otelagent.protocols.request import accepted, current_request


class Flask(Instrumentation):
    """Traces applications that exist already as well as those still to be made: it patches the class."""

    name = "flask"
    supports = ">=2.2,<4"

    @replace("flask.app", "Flask.wsgi_app")
    def wsgi_app(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """A test client, or a server that isn't known, enters here."""

        def wsgi_app(app: Any, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
            if accepted(environ):
                return original(app, environ, start_response)
            return wsgi.serve(lambda e, s: original(app, e, s), self.tracer, environ, start_response)

        return wsgi_app

    @replace("flask.app", "Flask.full_dispatch_request")
    def full_dispatch_request(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """The URL rule is matched by now; before- and after-request functions run inside."""
        served = _served()

        def full_dispatch_request(app: Any, *args: Any, **kwargs: Any) -> Any:
            request = served()
            traced = None if request is None else current_request(request.environ)
            if traced is not None and (rule := request.url_rule) is not None:
                # Below a mount whose template is known that template counts, else the literal script name.
                traced.route(rule.rule if traced.prefix else request.root_path.rstrip("/") + rule.rule)
            return original(app, *args, **kwargs)

        return full_dispatch_request

    @replace("flask.app", "Flask.handle_exception")
    def handle_exception(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """An exception no error handler took becomes a plain 500; the span keeps the exception."""
        served = _served()

        def handle_exception(app: Any, *args: Any) -> Any:
            request = served()
            traced = None if request is None else current_request(request.environ)
            if traced is not None and args and isinstance(args[-1], BaseException):
                traced.raised(args[-1])
            return original(app, *args)

        return handle_exception


def _served() -> Callable[[], Any]:
    """Gives the request that is served, ``None`` outside of one: the object itself, for each use of `flask.request`
    looks it up again."""
    from flask import globals as flask_globals

    proxy: Any = flask_globals.request
    look_up: Callable[[], Any] = proxy._get_current_object

    def served() -> Any:
        try:
            return look_up()
        except RuntimeError:
            return None

    return served
