"""werkzeug: its development server, which `flask run` and `app.run()` start."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from otelagent.patching import Instrumentation, replace
from otelagent.protocols import wsgi


class Werkzeug(Instrumentation):
    """Wraps the application the server is made with."""

    name = "werkzeug"
    supports = ">=2.2,<4"

    @replace("werkzeug.serving", "BaseWSGIServer.__init__")
    def make_server(self, original: Callable[..., None]) -> Callable[..., None]:
        """Make the server, then wrap its application."""

        def __init__(server: Any, *args: Any, **kwargs: Any) -> None:
            original(server, *args, **kwargs)
            server.app = wsgi.trace_app(server.app, self.tracer)

        return __init__
