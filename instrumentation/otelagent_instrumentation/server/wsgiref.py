"""wsgiref: the standard library's WSGI handlers, on which Django's `runserver` stands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from otelagent.patching import Instrumentation, replace
from otelagent.protocols import wsgi


class Wsgiref(Instrumentation):
    """Wraps the application of each request where the handler runs it."""

    name = "wsgiref"

    @replace("wsgiref.handlers", "BaseHandler.run")
    def run(self, original: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
        """Run the wrapped application."""

        def run(handler: Any, application: Any) -> None:
            original(handler, wsgi.trace_app(application, self.tracer))

        return run
