"""Span to bytes: engines, the batch, sampling, the resource, propagation. What becomes of the bytes is unknown here."""

from __future__ import annotations

from otelagent.record.choice import open_engine
from otelagent.record.engine import Deliver, Engine, LedgerPort
from otelagent.record.propagation import build_propagator

__all__ = ["Deliver", "Engine", "LedgerPort", "build_propagator", "open_engine"]
