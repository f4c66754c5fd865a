"""otelagent: OpenTelemetry tracing for any Python application.

In an application: ``import otelagent; otelagent.init()``. Around one: ``otelagent-run python app.py``.
"""

from __future__ import annotations

from otelagent.agent import flush, get_tracer, init, pause, resume, shutdown, status
from otelagent.errors import ConfigError, OtelAgentError
from otelagent.tracing import instrument, span
from otelagent.version import VERSION as __version__

__all__ = [
    "ConfigError",
    "OtelAgentError",
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
