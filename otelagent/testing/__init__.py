"""For tests of applications: what they record, asked in the test's own words.

With pytest the fixtures ``otelagent_spans``, ``otelagent_deterministic`` and ``otlp_receiver`` are there by
themselves; elsewhere `capture` and `OtlpReceiver` do the same as context managers.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing's own costs an import
if TYPE_CHECKING:
    from otelagent.testing.capturing import Capture, capture
    from otelagent.testing.receiver import OtlpReceiver
    from otelagent.testing.telemetry import Telemetry
    from otelagent.testing.types import Event, Link, LogRecord, Metric, Point, Scope, Span

__all__ = [
    "Capture",
    "Event",
    "Link",
    "LogRecord",
    "Metric",
    "OtlpReceiver",
    "Point",
    "Scope",
    "Span",
    "Telemetry",
    "capture",
]

# Loaded at first use: the plugin is imported by every run of pytest where otelagent is installed.
_HOMES = {
    **dict.fromkeys(("Capture", "capture"), "otelagent.testing.capturing"),
    "OtlpReceiver": "otelagent.testing.receiver",
    "Telemetry": "otelagent.testing.telemetry",
    **dict.fromkeys(("Event", "Link", "LogRecord", "Metric", "Point", "Scope", "Span"), "otelagent.testing.types"),
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
