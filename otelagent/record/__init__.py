"""Span to bytes: engines, the batch, sampling, the resource, propagation. What becomes of the bytes is unknown here."""

from __future__ import annotations

from otelagent.record.choice import open_engine, open_logs
from otelagent.record.engine import Deliver, Engine, LedgerPort, LogsEngine
from otelagent.record.propagation import build_propagator

__all__ = ["Deliver", "Engine", "LedgerPort", "LogsEngine", "build_propagator", "open_engine", "open_logs"]
