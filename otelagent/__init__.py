"""otelagent: OpenTelemetry tracing for any Python application.

In an application: ``import otelagent; otelagent.init()``. Around one: ``otelagent-run python app.py``.

PYTEST_DONT_REWRITE: under ``otelagent-run`` it is imported before pytest could, which would warn of it.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing's own costs an import that most of this package's importers don't need
if TYPE_CHECKING:
    from otelagent.errors import ConfigError, OtelAgentError
    from otelagent.lifecycle import flush, get_tracer, init, pause, resume, shutdown, status
    from otelagent.record.provider import TracerProvider
    from otelagent.tracing import instrument, span
    from otelagent.version import VERSION as __version__

__all__ = [
    "ConfigError",
    "OtelAgentError",
    "TracerProvider",
    "__version__",
    "flush",
    "get_tracer",
    "init",
    "instrument",
    "pause",
    "resume",
    "shutdown",
    "span",
    "status",
]

# Loaded at first use: every interpreter below otelagent-run imports this package, also those that trace nothing.
_HOMES = {
    **dict.fromkeys(("flush", "get_tracer", "init", "pause", "resume", "shutdown", "status"), "otelagent.lifecycle"),
    **dict.fromkeys(("ConfigError", "OtelAgentError"), "otelagent.errors"),
    "TracerProvider": "otelagent.record.provider",
    **dict.fromkeys(("instrument", "span"), "otelagent.tracing"),
}


def __getattr__(name: str) -> object:
    if name == "__version__":
        from otelagent.version import VERSION

        return VERSION
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
