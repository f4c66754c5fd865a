"""gunicorn: the WSGI workers (sync, threads, gevent, eventlet, tornado) and its own ASGI worker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from otelagent.patching import Instrumentation, replace
from otelagent.protocols import asgi, wsgi


class Gunicorn(Instrumentation):
    """Wraps the application in each worker after it is loaded, so before and after a fork alike (`--preload`)."""

    name = "gunicorn"
    supports = ">=20.1,<28"

    @replace("gunicorn.workers.base", "Worker.load_wsgi")
    def load_wsgi(self, original: Callable[[Any], None]) -> Callable[[Any], None]:
        """Load, then wrap. The uvicorn worker is left alone: it hands the application to uvicorn, which is traced."""

        def load_wsgi(worker: Any) -> None:
            original(worker)
            if getattr(worker, "wsgi", None) is not None and not _serves_asgi(type(worker)):
                worker.wsgi = wsgi.trace_app(worker.wsgi, self.tracer)

        return load_wsgi

    @replace("gunicorn.workers.gasgi", "ASGIWorker.load_wsgi", optional=True)
    def load_asgi(self, original: Callable[[Any], None]) -> Callable[[Any], None]:
        """gunicorn's own ASGI worker keeps its application elsewhere."""

        def load_wsgi(worker: Any) -> None:
            original(worker)
            worker.asgi = asgi.trace_app(worker.asgi, self.tracer)

        return load_wsgi


def _serves_asgi(worker: type[Any]) -> bool:
    return any(base.__module__.partition(".")[0] in ("uvicorn", "uvicorn_worker") for base in worker.__mro__)
