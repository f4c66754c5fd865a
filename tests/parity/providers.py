"""Providers of either engine."""

from __future__ import annotations

from collections.abc import Callable

from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import otelagent

__all__ = ["Provider", "exported"]

Provider = Callable[..., otelagent.TracerProvider]


def exported(provider: otelagent.TracerProvider) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return exporter
