"""uvicorn: every ASGI (or, through its bridge, WSGI) application it loads gets the SERVER span."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from otelagent.patching import Instrumentation, replace
from otelagent.protocols import asgi


class Uvicorn(Instrumentation):
    """Wraps the loaded application outermost, in whichever process loads it: worker, reloader's child or the only
    one."""

    name = "uvicorn"
    supports = ">=0.20,<1"

    @replace("uvicorn.config", "Config.load")
    def load(self, original: Callable[[Any], None]) -> Callable[[Any], None]:
        """Load, then wrap what was loaded."""

        def load(config: Any) -> None:
            original(config)
            config.loaded_app = asgi.trace_app(config.loaded_app, self.tracer, own_task=True)

        return load
